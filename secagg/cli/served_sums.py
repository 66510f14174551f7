"""What becomes of a served round's sum: it is decoded, written to its file, and told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from secagg.adapters.net.ballot_count import tally_of
from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.ending import Ending
from secagg.adapters.net.hosted import HostedRound
from secagg.adapters.net.round_spec import RoundSpec
from secagg.arithmetic import unpack
from secagg.cli.array_files import write_arrays
from secagg.cli.ballot_words import verdict_line
from secagg.cli.output import results
from secagg.cli.private_sums import noisy_arrays, noisy_json, noisy_warnings, report_for, show_noisy
from secagg.cli.sum_report import array_sums, show_sums, sum_json, sum_warnings
from secagg.errors import InputError
from secagg.pairwise.config import RoundConfig
from secagg.privacy.hosting import OpenedSum, decoded
from secagg.privacy.layout import PlainSum, PrivateSum, with_its_layout
from secagg.robust.ballots import Verdict
from secagg.wording import counted, was


@dataclass(frozen=True, slots=True)
class ServedSum:
    """What became of a round.

    Attributes:
        unusable: why its sum is of no use; empty where there is none, or where it is good.
        headline: what to say in place of how many clients are in the sum.
        is_good: False for a ballot that did not accept its candidate.
        told: what to say of a good sum behind the number of clients in it.
        summary: of a good sum, for ``--json``.
        lines, warnings: of a good sum, whole sentences.
        show: prints the table of a good sum, under a title.
    """

    unusable: str = ""
    headline: str = ""
    is_good: bool = True
    told: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)
    lines: Sequence[str] = ()
    warnings: Sequence[str] = ()
    show: Callable[[str], None] = lambda title: None


def file_of(output: Path, name: str) -> Path:
    """Where ``--output`` says that the sum of a round of this name goes."""
    return Path(str(output).replace("{round}", name))


async def write_sum(hosted: HostedRound, output: Path | None) -> ServedSum:
    """Decode the sum when it is there, and write it."""
    while hosted.ending is None:
        await hosted.changed()
    if hosted.ending.failure:
        return ServedSum()
    path = None if output is None else file_of(output, hosted.name)
    return await asyncio.to_thread(_decode_and_write, hosted.spec, hosted.ending, path)


def _decode_and_write(spec: RoundSpec, ending: Ending, path: Path | None) -> ServedSum:
    config = spec.config
    if isinstance(spec.layout, BallotLayout):
        tally = tally_of(spec.layout, config, ending)
        verdict = spec.layout.ballot().verdict(tally)
        return ServedSum(headline=verdict_line(verdict, tally), is_good=verdict is Verdict.ACCEPTED)
    vector = unpack(ending.packed, config.modulus, config.length)
    least = config.smallest_sum
    layout = spec.file_layout
    encoder = layout.encoder().for_round(config)
    try:
        total = OpenedSum(vector, ending.answered)
        mean = decoded(encoder, total, len(ending.included), min_contributors=least)
    except InputError as wrong:  # a member that cheated, or weights of 0
        return ServedSum(unusable=str(wrong).replace("(min_survivors)", "(--min-survivors)"))
    found = with_its_layout(layout, mean)
    written = found.by_array()
    if path is not None:
        write_arrays(path, written)
    ended = _plain_sum(found, written) if isinstance(found, PlainSum) else _private_sum(found, config, written)
    return ended if config.groups == 1 else _with_groups(ended, spec, ending, path)


def _with_groups(ended: ServedSum, spec: RoundSpec, ending: Ending, path: Path | None) -> ServedSum:
    """The same with the groups: each one's sum goes into a file of its own, beside that of the sum over them all."""
    config, listed_groups = spec.config, []
    encoder = spec.file_layout.encoder().for_round(config)
    warnings = list(ended.warnings)
    for group in ending.groups:
        file = None if path is None else path.with_name(f"{path.stem}.group-{group.number}{path.suffix}")
        vector = unpack(group.packed, config.modulus, config.length)
        facts = {"number": group.number, "clients": [spec.name_of(seat) for seat in group.included]}
        try:
            mean = decoded(encoder, OpenedSum(vector, 0), len(group.included), min_contributors=config.min_group)
        except InputError as wrong:  # a member of this group that cheated, or weights of 0
            warnings.append(f"the sum of group {group.number} is of no use: {wrong}")
            file = None
        else:
            if file is not None:
                write_arrays(file, with_its_layout(spec.file_layout, mean).by_array())
        listed_groups.append({**facts, "file": None if file is None else str(file)})
    left_out = config.groups - len(ending.groups)
    told = f"{ended.told}, in {counted(len(ending.groups), 'group')}"
    if left_out:
        told += f"; {counted(left_out, 'group')} {was(left_out)} left out"
    return replace(ended, told=told, warnings=warnings, summary={**ended.summary, "groups": listed_groups})


def _plain_sum(found: PlainSum, written: Mapping[str, npt.NDArray[Any]]) -> ServedSum:
    mean, arrays = found.mean, array_sums(written, found.mean, found.layout)
    return ServedSum(
        told=f", total weight {mean.weight}",
        summary={**sum_json(arrays, mean), "clipped": mean.clipped},
        warnings=sum_warnings(arrays, mean),
        show=lambda title: show_sums(title, arrays, results()),
    )


def _private_sum(found: PrivateSum, config: RoundConfig, written: Mapping[str, npt.NDArray[Any]]) -> ServedSum:
    mean = found.mean
    arrays, report = noisy_arrays(written, mean), report_for(found.layout.terms, config, mean)
    return ServedSum(
        told=f", total weight {mean.weight:g}",
        summary=noisy_json(arrays, mean, report),
        lines=[] if report is None else report.explain().splitlines(),
        warnings=noisy_warnings(mean, report),
        show=lambda title: show_noisy(title, arrays, results()),
    )
