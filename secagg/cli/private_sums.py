"""Private rounds in words, tables and JSON, for whoever runs ``serve`` or ``join``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.text import Text

from secagg._install import how_to_install
from secagg.cli.output import finite, table
from secagg.pairwise.config import RoundConfig
from secagg.privacy.layout import PrivateLayout
from secagg.privacy.private_mean import PrivateMean
from secagg.privacy.terms import PrivacyTerms
from secagg.wording import counted

if TYPE_CHECKING:
    from secagg.privacy.report import PrivacyReport

_LISTED: Final = 12
"""Arrays in a table: what fits on a screen."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyArray:
    """One array of a private sum or mean.

    Attributes:
        name: of the array.
        largest: the largest absolute value in it.
        noise: standard deviation of the noise in each of its values, in the values' unit.
    """

    name: str
    largest: float
    noise: float

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"largest": self.largest, "noise": self.noise, "exact": False}


def has_accountant() -> bool:
    """Whether this machine can work out an epsilon."""
    return find_spec("dp_accounting") is not None


def promise_lines(terms: PrivacyTerms) -> list[str]:
    """Whole sentences on what a private round promises."""
    noise = (
        f"The noise in the sum is {terms.noise_multiplier:.3g} times the clip of {terms.update_clip:g} (L2 norm of a "
        f"whole update), {terms.noise} noise of {counted(terms.honest, 'honest client')} or more."
    )
    if terms.levels:
        noise += (
            f" It is in {counted(terms.levels, 'level')}: what the losses do not ask for is taken off again, which in "
            "semi_honest trusts the server to say truly who survived."
        )
    rounds = "this round" if terms.rounds == 1 else f"the {counted(terms.rounds, 'round')} that a client may be in"
    if not has_accountant():
        return [f"Private. {noise} To see the epsilon that this costs, {how_to_install('privacy')}."]
    epsilon = terms.promise().epsilon_to_server
    return [f"Private: epsilon {epsilon:.4g} at delta {terms.delta:g} over {rounds}, for each client's file. {noise}"]


def promise_json(terms: PrivacyTerms) -> dict[str, Any]:
    """The same for ``--json``; epsilon is null where nothing can work it out, and where it is infinite."""
    epsilon = terms.promise().epsilon_to_server if has_accountant() else math.inf
    return {
        "epsilon": finite(epsilon),
        "delta": terms.delta,
        "rounds": terms.rounds,
        "honest": terms.honest,
        "noise_multiplier": terms.noise_multiplier,
        "levels": terms.levels,
    }


def report_for(terms: PrivacyTerms, config: RoundConfig, mean: PrivateMean) -> PrivacyReport | None:
    """What the round promised and reached; None where nothing can work out an epsilon."""
    if not has_accountant():
        return None
    return terms.report(config, mean.count, mean.wrapped_share)


def report_json(report: PrivacyReport | None) -> dict[str, Any] | None:
    """For ``--json``, which has no infinities: null for an epsilon that is one."""
    if report is None:
        return None
    values = {**asdict(report), "is_kept": report.is_kept}
    return {name: finite(value) if isinstance(value, float) else value for name, value in values.items()}


def noisy_arrays(
    written: Mapping[str, npt.NDArray[Any]], mean: PrivateMean, *, as_mean: bool = False
) -> list[NoisyArray]:
    """Each array that has elements, of what the output holds."""
    noise = mean.noise if as_mean else mean.noise * mean.weight
    return [
        NoisyArray(name=name, largest=float(np.abs(np.asarray(values, np.float64)).max()), noise=noise)
        for name, values in written.items()
        if values.size
    ]


def show_noisy(title: str, arrays: Sequence[NoisyArray], console: Console) -> None:
    """A table; of many arrays, those with the largest values."""
    rows = table(title, "array", "largest value", "noise (standard deviation)")
    for array in sorted(arrays, key=lambda one: one.largest, reverse=True)[:_LISTED]:
        rows.add_row(Text(array.name), f"{array.largest:.6g}", f"{array.noise:.3g}")
    console.print(rows)
    if len(arrays) > _LISTED:
        console.print(f"Not shown: {counted(len(arrays) - _LISTED, 'more array')}. --json prints all of them.")


def noisy_warnings(mean: PrivateMean, report: PrivacyReport | None) -> list[str]:
    """Whole sentences, without the stop at the end, on what went wrong."""
    found = []
    if report is not None and not report.is_kept:
        found.append(
            f"the promise was not kept: the noise is {report.reached_sigma:.3g}, and {report.promised_sigma:.3g} was "
            "promised"
        )
    if mean.wrapped:
        found.append(
            f"a share of {mean.wrapped_share:.2g} of the sum has probably wrapped around the modulus, so that it is "
            "of no use: ask for more bits"
        )
    return found


def noisy_json(arrays: Sequence[NoisyArray], mean: PrivateMean, report: PrivacyReport | None) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "weight": mean.weight,
        "noise": mean.noise,
        "wrapped_share": mean.wrapped_share,
        "arrays": {array.name: array.as_json() for array in arrays},
        "privacy": report_json(report),
    }


def layout_notes(layout: PrivateLayout, kinds: Mapping[str, str]) -> list[str]:
    """What was decided for arrays of whole numbers, which no option names; ``kinds`` are their types by name."""
    return [
        f"{name}: whole numbers ({kind}), which are part of the update's one norm and get the same noise as all other "
        "values; what should not be shortened along with the rest belongs into another file"
        for name, kind in kinds.items()
        if name in dict(layout.arrays)
    ]
