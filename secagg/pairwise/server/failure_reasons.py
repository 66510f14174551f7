"""Why a round ends without a sum, for a person: how many did what was asked, what became of the others, what is needed.

Every client that was asked for a message of the phase is counted once: it did what was asked, or it was refused, or it
left, or the partial sum that its input went to did not arrive, or it did not answer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import Phase
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.records import Advertised
from secagg.wording import counted, was

_DID: Final[Mapping[Phase, str]] = {
    Phase.ADVERTISE: "advertised {its} keys",
    Phase.SHARE: "dealt {its} shares",
    Phase.COMPLAIN: "checked {its} shares",
    Phase.ANSWER: "answered complaints",
    Phase.MASK: "sent {its} masked vector{s}",
    Phase.CONFIRM: "confirmed the survivors",
    Phase.UNMASK: "returned {its} shares",
}


class RoundOverError(Exception):
    """The round cannot go on after the phase that is being closed."""

    def __init__(self, reason: str, advertised: Advertised | None = None) -> None:
        """``advertised`` is the record of ADVERTISE, when it is that phase that is being closed."""
        super().__init__(reason)
        self.reason, self.advertised = reason, advertised


def require_enough(
    attendance: Attendance,
    phase: Phase,
    able: Collection[int],
    config: RoundConfig,
    advertised: Advertised | None = None,
) -> None:
    """Raise RoundOverError when fewer members can go on than a sum needs.

    Those that answered and are not able to go on lack neighbours that did.  ``advertised`` is as for the error.
    """
    if len(able) >= config.min_survivors:
        return
    reason = answers(attendance, phase)
    if lacking := set(attendance.staying(_answered(attendance, phase))) - set(able):
        reason += (
            f"; {len(lacking)} of them {was(len(lacking))} left out, with fewer than "
            f"{counted(config.threshold, 'neighbour')} that did the same; {len(able)} could go on"
            if config.groups == 1
            else f"; {len(lacking)} of them {was(len(lacking))} left out with their groups; {len(able)} could go on"
        )
    raise RoundOverError(f"{reason}; {config.min_survivors} are needed", advertised)


def require_threshold_around(attendance: Attendance, phase: Phase, stuck: Collection[int], config: RoundConfig) -> None:
    """Raise RoundOverError when some secrets are stuck: they could not be reconstructed however UNMASK went."""
    if not stuck:
        return
    whose, neighbours = f"the secret of client {min(stuck)}", "its neighbours"
    if len(stuck) > 1:
        whose, neighbours = (
            f"the secrets of {counted(len(stuck), 'client')}, client {min(stuck)} among them,",
            "their neighbours",
        )
    raise RoundOverError(
        f"{answers(attendance, phase)}; {whose} could not be reconstructed, because fewer than {config.threshold} of "
        f"{neighbours} are among these"
    )


def require_quorum(attendance: Attendance, phase: Phase, signers: Collection[int], config: RoundConfig) -> None:
    """Raise RoundOverError when fewer than a quorum signed; with groups, when no group's quorum did."""
    if config.groups > 1 and not signers:
        raise RoundOverError(f"{answers(attendance, phase)}; in no group are these {config.quorum}")
    if len(signers) < config.quorum:
        raise RoundOverError(f"{answers(attendance, phase)}; {config.quorum} are needed")


def shares_missing(
    attendance: Attendance, phase: Phase, owner: int, good: int, bad: int, config: RoundConfig
) -> RoundOverError:
    """The error to raise when too few shares of one client's secret came back."""
    bad_ones = f", and {bad} that {'does' if bad == 1 else 'do'} not match" if bad else ""
    return RoundOverError(
        f"{counted(good, 'good share')} of client {owner}'s secret came back{bad_ones}; "
        f"{config.threshold} are needed; {answers(attendance, phase)}"
    )


def answers(attendance: Attendance, phase: Phase) -> str:
    """How many of those asked did what the phase asks for, and in brackets what became of the others."""
    heard = {*attendance.awaited, *attendance.answered(phase), *attendance.departed}
    asked = heard.intersection(attendance.recipients)  # all of them, but for ANSWER
    departed = asked & set(attendance.departed)
    answered = _answered(attendance, phase) - departed
    refused = {entry.sender for entry in attendance.blame if entry.phase == phase} & asked - answered - departed
    unmerged = asked & set(attendance.in_hand) - departed
    silent = asked - answered - refused - departed - unmerged
    refused -= unmerged
    did = _DID[phase].format(its="its" if len(answered) == 1 else "their", s="" if len(answered) == 1 else "s")
    others = [
        f"{len(refused)} {was(len(refused))} refused" if refused else "",
        f"{len(departed)} left" if departed else "",
        f"{len(unmerged)} {was(len(unmerged))} in partial sums that did not arrive" if unmerged else "",
        f"{len(silent)} did not answer" if silent else "",
    ]
    told = ", ".join(other for other in others if other)
    return f"{counted(len(answered), 'client')} {did}" + (f" ({told})" if told else "")


def _answered(attendance: Attendance, phase: Phase) -> set[int]:
    return set(attendance.recipients) & set(attendance.answered(phase))
