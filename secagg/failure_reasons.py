"""Why a round ends without a sum, for a person: how many did what was asked, what became of the others, what is needed.

Every client that was asked for a message of the phase is counted once: it did what was asked, or it was refused, or it
left, or it did not answer.
"""

from __future__ import annotations

from collections.abc import Collection

from secagg.server_state import Data

_DID = {
    "ADVERTISE": "advertised {its} keys",
    "SHARE": "dealt {its} shares",
    "MASK": "sent {its} masked vector{s}",
    "CONFIRM": "confirmed the survivors",
    "UNMASK": "returned {its} shares",
}


def answers(data: Data, asked: Collection[int]) -> str:
    """How many of those asked did what the phase asks for, and in brackets what became of the others."""
    phase = data.state.value
    left = set(asked) & set(data.left)
    answered = (set(asked) & set(data.digests.get(phase, {}))) - left
    refused = {entry.sender for entry in data.blame if entry.phase == phase} & set(asked) - answered - left
    silent = set(asked) - answered - refused - left
    did = _DID[phase].format(its="its" if len(answered) == 1 else "their", s="" if len(answered) == 1 else "s")
    others = [
        f"{len(refused)} {_was(refused)} refused" if refused else "",
        f"{len(left)} left" if left else "",
        f"{len(silent)} did not answer" if silent else "",
    ]
    told = ", ".join(other for other in others if other)
    return f"{clients(len(answered))} {did}" + (f" ({told})" if told else "")


def too_few(data: Data, asked: Collection[int], able: Collection[int], threshold: int, needed: int) -> str:
    """Fewer are able to go on than a sum needs; those that answered and are not able lack neighbours that did."""
    reason = answers(data, asked)
    answered = set(asked) & set(data.digests.get(data.state.value, {})) - set(data.left)
    if lacking := answered - set(able):
        reason += (
            f"; {len(lacking)} of them {_was(lacking)} left out, with fewer than {threshold} neighbours that did the "
            f"same; {len(able)} could go on"
        )
    return f"{reason}; {needed} are needed"


def stuck(data: Data, asked: Collection[int], owners: Collection[int], threshold: int) -> str:
    """MASK: some secrets could not be reconstructed however UNMASK went."""
    whose, near = f"the secret of client {min(owners)}", "its neighbours"
    if len(owners) > 1:
        whose, near = f"the secrets of {len(owners)} clients, client {min(owners)} among them,", "their neighbours"
    return (
        f"{answers(data, asked)}; {whose} could not be reconstructed, because fewer than {threshold} of {near} are "
        "among these"
    )


def shares_missing(data: Data, asked: Collection[int], owner: int, good: int, bad: int, threshold: int) -> str:
    """UNMASK: too few shares of one client's secret came back."""
    bad_ones = f", and {bad} that {'does' if bad == 1 else 'do'} not match" if bad else ""
    return (
        f"{good} good share{'' if good == 1 else 's'} of client {owner}'s secret came back{bad_ones}; {threshold} are "
        f"needed; {answers(data, asked)}"
    )


def clients(count: int) -> str:
    """So many clients, in words."""
    return f"{count} client{'' if count == 1 else 's'}"


def _was(members: Collection[int]) -> str:
    return "was" if len(members) == 1 else "were"
