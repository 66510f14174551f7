"""How a round's result becomes the ending that the journal keeps."""

from __future__ import annotations

from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.ending import Ending, OpenedGroup
from secagg.adapters.net.round_spec import RoundSpec
from secagg.arithmetic import pack
from secagg.outcome import Result
from secagg.privacy.hosting import OpenedSum, opened
from secagg.statistics.layout import StudyLayout


def conclusion(spec: RoundSpec, result: Result, certificate: bytes) -> Ending:
    """The ending of a round that has a sum.

    Args:
        spec: the round.
        result: the protocol's.
        certificate: of the round, for its clients; no bytes where they get none.
    """
    total = _open_sum(spec, result)
    return Ending(
        "",
        included=result.included,
        packed=pack(total.vector, result.modulus),
        dropped=dict(result.dropped),
        transcript=result.transcript_digest.hex(),
        answered=total.answered,
        groups=_opened_groups(spec, result),
        certificate=certificate,
    )


def _open_sum(spec: RoundSpec, result: Result) -> OpenedSum:
    if isinstance(spec.layout, StudyLayout | BallotLayout):
        return OpenedSum(result.sum, 0)
    return opened(spec.layout.encoder().for_round(spec.config), result)


def _opened_groups(spec: RoundSpec, result: Result) -> tuple[OpenedGroup, ...]:
    """The sums of the groups; none in a round without groups, whose one sum is there already."""
    if spec.config.groups == 1:
        return ()
    return tuple(OpenedGroup(group.number, group.included, pack(group.sum, result.modulus)) for group in result.groups)
