"""What people are told of a round that has no sum, or none with them in it: what happened, and what they can do."""

from __future__ import annotations

from collections.abc import Collection

from secagg.adapters.net.frames import Refusal, RefusedError
from secagg.adapters.net.round_spec import RoundSpec
from secagg.adapters.net.standing import Standing, listed
from secagg.errors import AbortCode
from secagg.outcome import Failure
from secagg.pairwise.phases import ServerState
from secagg.statistics.layout import StudyLayout
from secagg.wording import counted

_NEXT_ROUND = "ask whoever runs the server for the name of the next round"


def why_no_sum(failure: Failure | None, spec: RoundSpec, standing: Standing) -> str:
    """The protocol's own reason, which counts; then names, and what to change in the next round.

    Args:
        failure: the server's; None where it has none.
        spec: the round.
        standing: what was refused of whom.
    """
    if failure is None:
        return "the round was aborted"
    turned_away = standing.turned_away()
    silent = [seat for seat in failure.missing if seat not in turned_away]
    culprits = [spec.name_of(seat) for seat in failure.culprit]
    parts = [
        failure.reason or AbortCode.UNSPECIFIED.name,
        f"the shares of {listed(culprits)} were bad" if culprits else "",
        _who_was_silent(silent, failure.phase, spec),
        listed([f"{spec.name_of(seat)}: {record}" for seat, record in turned_away.items()]),
        _what_to_change(failure.phase, spec) if silent else "",
    ]
    return "; ".join(part for part in parts if part)


def _who_was_silent(silent: Collection[int], phase: str, spec: RoundSpec) -> str:
    if not silent:
        return ""
    names = listed([spec.name_of(seat) for seat in silent])
    return f"no {phase} message came from {names} before the deadline of {spec.deadlines[phase]:g} s"


def _what_to_change(phase: str, spec: RoundSpec) -> str:
    """For whoever runs the server: clients need more time, or a sum must do with fewer of them."""
    config = spec.config
    if isinstance(spec.layout, StudyLayout):
        return (
            f"secagg stats serve --deadline {phase}=SECONDS gives organisations more time (a sum takes "
            f"{config.min_survivors} of {config.clients})"
        )
    return (
        f"in the next round, secagg serve --deadline {phase}=SECONDS gives clients more time, and a lower "
        f"--min-survivors (now {config.min_survivors} of {config.clients}) or more invited clients let a sum do "
        "without some"
    )


def ended_without_sum(name: str, failure: str) -> RefusedError:
    """For a client of a round that failed."""
    return RefusedError(Refusal.ROUND_ABORTED, f"round {name!r} ended without a sum: {failure}")


def too_late_to_vote(name: str, phase: str) -> RefusedError:
    """For a member of a ballot that has not joined, and asks for the candidate."""
    where = "is over" if phase == ServerState.DONE else f"has begun, and is in {phase}"
    return RefusedError(
        Refusal.ROUND_BEGUN,
        f"ballot {name!r} {where}: members get the candidate, and join, in ADVERTISE alone; {_NEXT_ROUND}",
    )


def left_out(name: str, why: str, *, is_over: bool) -> RefusedError:
    """For a client that has a seat, and was lost on the way."""
    what = "is over, and this client is not in its sum" if is_over else "went on without this client"
    return RefusedError(Refusal.LEFT_OUT, f"round {name!r} {what}: {why}; nobody can join a round again: {_NEXT_ROUND}")


def no_seat_any_more(name: str, phase: str, included: int) -> RefusedError:
    """For a client that comes to an open round too late; ``included``: in its sum, when it has one."""
    where = f"is over, with a sum of {counted(included, 'client')}" if included else f"has begun, and is in {phase}"
    return RefusedError(
        Refusal.ROUND_BEGUN,
        f"round {name!r} {where}; seats are given out in ADVERTISE alone, and this client has none: {_NEXT_ROUND}",
    )


def all_seats_taken(spec: RoundSpec) -> RefusedError:
    """For a client that comes to an open round that is full."""
    return RefusedError(
        Refusal.ROUND_FULL,
        f"all {spec.config.clients} seats of round {spec.name!r} are taken: try again, since a client that leaves "
        f"before it has joined gives its seat back, or {_NEXT_ROUND}",
    )


def unknown_identity(name: str, key: bytes) -> RefusedError:
    """For a client that is no member of the cohort."""
    return RefusedError(
        Refusal.UNKNOWN_IDENTITY,
        f"the directory of round {name!r} does not hold this identity key: {key.hex()}; give the --identity whose key "
        "is listed there, or have this one listed",
    )


def series_over(name: str) -> RefusedError:
    """For a client that asks for a round behind the last one of a series."""
    return RefusedError(Refusal.SERIES_OVER, f"the server opens no round {name!r}: the series that it is of is over")


def no_such_round(name: str, others: Collection[str]) -> RefusedError:
    """For a client that asks for a round of another name; ``others``: those that the server has told."""
    advice = "its name is the last part of the URL, and whoever runs the server knows it"
    if others:
        advice = f"the rounds that anybody may join there are {listed(sorted(others))}: give one as the URL's last part"
    return RefusedError(Refusal.ROUND_UNKNOWN, f"the server hosts no round {name!r}; {advice}")
