"""A simulated round with noise: what was promised beside what was reached, and the error beside the plain mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import Console

from secagg.cli.array_files import write_arrays
from secagg.cli.inputs import RoundInputs, Updates
from secagg.cli.layout_options import LayoutOptions
from secagg.cli.output import fact_table, finite
from secagg.cli.private_round import PrivateRound
from secagg.cli.promise_options import DEFAULT_CLIP
from secagg.cli.report import SimulatedRound, add_machine, add_outcome, round_facts, show_costs, show_notes
from secagg.encoding import Template
from secagg.errors import ParameterError
from secagg.pairwise.config import RoundConfig
from secagg.privacy import PrivateEncoder, PrivateMean
from secagg.privacy.hosting import Keys, submitted
from secagg.wording import counted, was

_MUCH_SHORTENED: Final = 0.5
"""Of the clients: when more of them lose a part of their update to the clip, the report warns."""


class PrivateInputs(RoundInputs[PrivateEncoder]):
    """The inputs of a private round."""

    def __init__(self, updates: Updates, seed: int, agreed: PrivateRound) -> None:
        """``seed`` makes each client's noise, the same each time that it is encoded: for simulations alone."""
        mechanism, levels = agreed.calibration.mechanism, agreed.ask.levels
        super().__init__(
            updates,
            seed,
            lambda randomness: PrivateEncoder(
                updates.template, mechanism, levels=levels, randomness=randomness
            ).for_round(agreed.config),
        )
        self._keys: dict[int, Keys] = {}

    def keys(self, client: int) -> Keys:
        """What the client attaches to its vector, where the noise has levels."""
        return self._keys[client]

    def _vector_of(self, client: int, update: object) -> npt.NDArray[np.unsignedinteger[Any]]:
        given = submitted(self.encoder, update)
        if given.keys is not None:
            self._keys[client] = given.keys
        return given.vector


@dataclass(frozen=True, kw_only=True)
class SimulatedPrivateRound(SimulatedRound):
    """A private round that was run; ``agreed`` is what was promised in it."""

    agreed: PrivateRound


def private_clip(layout: LayoutOptions, *, files: bool) -> float:
    """The norm that ``--clip`` says; 1 for random updates where it says none.

    Raises ParameterError for options that a private round has no use for.
    """
    reason = "a private round has one clip, the L2 norm of a whole update, and one number of bits"
    for option, patterns in reversed(layout.of_single_arrays):
        if patterns:
            raise ParameterError(f"{option} '{next(iter(patterns))}=...': {reason}; leave the option out")
    if layout.clip is None and files:
        raise ParameterError(
            f"--clip is missing: {reason}; give --clip VALUE, a norm that about half of the files have"
        )
    return DEFAULT_CLIP if layout.clip is None else layout.clip


def synthetic_of_norm(clients: int, dim: int, layout: LayoutOptions, seed: int) -> Updates:
    """Updates in random directions whose L2 norm is the clip.  A function of seed and client."""
    template = Template.from_shapes((dim,))
    norm = DEFAULT_CLIP if layout.clip is None else layout.clip

    def of(client: int) -> npt.NDArray[np.float32]:
        values = np.random.default_rng([seed, client]).standard_normal(dim)
        values *= norm * (1 - 2**-20) / np.linalg.norm(values)  # within the clip after rounding to float32
        return values.astype(np.float32)

    return Updates(clients, template, LayoutOptions(clip=norm), of)


def private_report(run: SimulatedPrivateRound) -> dict[str, Any]:
    """The object that ``secagg simulate --private --json`` prints; writes the sum first, where there is one."""
    decoded, plain = _decoded(run)
    errors = None if decoded is None or plain is None else run.inputs.flat(decoded.mean) - plain
    if decoded is not None and run.output is not None:
        template = run.inputs.encoder.template
        write_arrays(
            run.output,
            {
                leaf.name: np.asarray(values * float(decoded.weight)).reshape(leaf.shape)
                for leaf, values in zip(template.leaves, template.flatten(decoded.mean), strict=True)
            },
        )
    max_error = None if errors is None else float(np.abs(errors).max())
    shortened = _shortened(run)
    found = round_facts(run, exact=errors is not None, max_error=max_error)
    return {
        **found,
        "privacy": None if decoded is None else _kept(run, decoded),
        "error": None if decoded is None or errors is None else _error(run, decoded, errors),
        "shortened": shortened,
        "warnings": list(_warnings(run, decoded, shortened)),
    }


def show_private(found: Mapping[str, Any], config: RoundConfig, console: Console) -> None:
    """Print the report for a person."""
    rows = fact_table("The round")
    add_outcome(rows, found, config, "the included vectors, with their noise, were summed exactly")
    rows.add_row("shortened", f"{counted(found['shortened'], 'update')} {was(found['shortened'])} longer than the clip")
    add_machine(rows, found)
    console.print(rows)
    if found["privacy"] is not None:
        _show_privacy(found["privacy"], found["error"], console)
    show_costs(found, config, console)
    if found["output"] is not None:
        console.print(f"The sum is in {found['output']}, with its noise.", soft_wrap=True, markup=False)
    show_notes(found, console)


def _show_privacy(kept: Mapping[str, Any], error: Mapping[str, Any], console: Console) -> None:
    rows = fact_table("Privacy")
    over = f"at delta {kept['delta']:g} over {counted(kept['rounds'], 'round')}"
    rows.add_row(
        "promised",
        f"epsilon {kept['promised_epsilon']:.4g} {over}, by noise of {kept['promised_sigma']:.4g} in the sum from "
        f"{counted(kept['promised_honest'], 'honest client')}",
    )
    reached = "infinite" if kept["reached_epsilon"] is None else f"{kept['reached_epsilon']:.4g}"
    rows.add_row(
        "reached",
        f"epsilon {reached} if all rounds are like this one, by noise of {kept['reached_sigma']:.4g} from "
        f"{counted(kept['contributors'], 'client')}, of whom {kept['colluders']:,} may collude",
    )
    if kept["rounds"] > 1 and kept["round_epsilon"] is not None:
        rows.add_row("this round", f"epsilon {kept['round_epsilon']:.4g} by itself")
    rows.add_row(
        "error of the mean",
        f"{error['rms']:.3g} on each value (root mean square), against the mean of the values as they were given; the "
        f"noise should make it {error['expected_rms']:.3g}",
    )
    rows.add_row(
        "a trusted server", f"would add noise of {error['central_rms']:.3g} for the promise that was asked for"
    )
    rows.add_row("plain mean", f"{error['plain_rms']:.3g} on each value (root mean square)")
    rows.add_row("wrap-around", f"{kept['wrapped_share']:.2g} of the values, as the sum itself shows")
    console.print(rows)


def _decoded(run: SimulatedPrivateRound) -> tuple[PrivateMean | None, npt.NDArray[np.float64] | None]:
    """The decoded sum and the plain mean, if the sum is the plain one of the vectors; None and None otherwise."""
    result, encoder = run.outcome.result, run.inputs.encoder
    if result is None:
        return None, None
    encoded, plain = run.inputs.totals_of(result.included)
    if not np.array_equal(result.sum, encoded & np.uint64(encoder.input_max)):
        return None, None
    decoded = encoder.decode_in_levels(result) if encoder.levels else encoder.decode(result)
    return decoded, plain / len(result.included)


def _kept(run: SimulatedPrivateRound, decoded: PrivateMean) -> dict[str, Any]:
    """What was promised and what was reached."""
    kept = run.agreed.report(decoded.count, decoded.wrapped_share)
    mechanism = run.agreed.calibration.mechanism
    return {
        "asked_epsilon": run.agreed.ask.epsilon,
        "promised_epsilon": kept.promised_epsilon,
        "reached_epsilon": finite(kept.reached_epsilon),
        "round_epsilon": finite(kept.round_epsilon),
        "is_kept": kept.is_kept,
        "delta": kept.delta,
        "rounds": kept.rounds,
        "noise": mechanism.noise.value,
        "levels": run.agreed.ask.levels,
        "clip": mechanism.clip,
        "bits": mechanism.bits,
        "contributors": kept.contributors,
        "colluders": kept.colluders,
        "promised_honest": kept.promised_honest,
        "promised_sigma": kept.promised_sigma,
        "reached_sigma": kept.reached_sigma,
        "wrapped_share": decoded.wrapped_share,
    }


def _error(run: SimulatedPrivateRound, decoded: PrivateMean, errors: npt.NDArray[np.float64]) -> dict[str, float]:
    """Root mean squares on a value of the mean: of the error, and of what it is compared with."""
    calibration, count = run.agreed.calibration, decoded.count
    step = 1 / float(calibration.mechanism.scale)
    _, plain = run.inputs.totals_of(run.outcome.included)
    return {
        "rms": _rms(errors),
        "expected_rms": math.hypot(decoded.noise, step * math.sqrt(count / 4) / count),
        "central_rms": calibration.central_multiplier * calibration.mechanism.clip / count,
        "plain_rms": _rms(plain / count),
    }


def _shortened(run: SimulatedPrivateRound) -> int:
    """How many clients had a longer update than the clip: of those in the sum, or of all without one."""
    included = run.outcome.included or range(run.config.clients)
    return sum(bool(run.inputs.clipped_of([client])) for client in included)


def _warnings(run: SimulatedPrivateRound, decoded: PrivateMean | None, shortened: int) -> list[str]:
    clip = run.agreed.calibration.mechanism.clip
    found = list(run.inputs.updates.warnings)
    if shortened > _MUCH_SHORTENED * run.config.clients:
        found.append(
            f"{counted(shortened, 'update')} {was(shortened)} shortened to --clip {clip:g}, so that the mean is not "
            "that of the values as they were given; a larger --clip keeps more of them, and adds as much more noise"
        )
    if decoded is not None and decoded.wrapped:
        found.append(
            f"a share of {decoded.wrapped_share:.2g} of the values has probably wrapped around the modulus, so that "
            "the mean is of no use; give more --bits"
        )
    return found


def _rms(values: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))
