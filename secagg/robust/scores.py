"""Scores of clients over many rounds with newly drawn groups."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

import msgspec

from secagg.errors import InputError, ParameterError
from secagg.robust.anomalies import RoundReport
from secagg.wording import counted

_MOST: Final = 10.0
"""The most that one round adds to a client's score: one group far away must not outweigh many rounds."""
_VERSION: Final = 1


@final
class _Account(msgspec.Struct, array_like=True):
    """What is kept of a client: rounds, the sum of its groups' distances, and the sum of their squares."""

    rounds: int = 0
    total: float = 0.0
    squares: float = 0.0


class _State(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    rounds: int
    clients: dict[str, _Account]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ClientScore:
    """What the groups of a client looked like.

    Attributes:
        client: by the name that the rounds were given.
        rounds: in how many rounds it was in a sum.
        score: the mean, over those rounds, of its group's distance to the robust centre in units of the round's median
            distance, where no round counts for more than 10.
        error: the standard error of that mean; infinite after one round.
        excess: by how many standard errors of its own the score is above the mean score of all clients; 0 where the
            error is 0 or infinite.
    """

    client: str
    rounds: int
    score: float
    error: float
    excess: float


@final
class Scores:
    """The scores of a cohort's clients, from the reports of its rounds.

    A client's score is the mean of what its groups were: an honest client that was often in a group with an attacker
    scores high as well, and the more rounds with newly drawn groups there are, the less that happens by chance.  It
    stands for a client's influence on its groups and not for its intent: a client whose data differ from all others'
    stands out too.
    """

    __slots__ = ("_accounts", "_rounds")

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._rounds = 0

    @property
    def rounds(self) -> int:
        """How many rounds were added."""
        return self._rounds

    def add(self, report: RoundReport, names: Iterable[str] | None = None) -> None:
        """Take in a round.

        Args:
            report: of the round.
            names: of the clients, by the index that the report has; by default the index itself, in decimals.  Rounds
                in which a client has another index need names that stay the same.

        Raises InputError for a client without a name, or in two groups, and changes nothing then.
        """
        listed = None if names is None else list(names)
        found: dict[str, float] = {}
        for group in report.groups:
            for member in group.members:
                if listed is not None and not 0 <= member < len(listed):
                    raise InputError(f"the report has client {member}, and there are {counted(len(listed), 'name')}")
                name = str(member) if listed is None else listed[member]
                if name in found:
                    raise InputError(f"client {name} is in two groups of the report")
                found[name] = min(group.distance, _MOST)
        for name, distance in found.items():
            account = self._accounts.setdefault(name, _Account())
            account.rounds += 1
            account.total += distance
            account.squares += distance * distance
        self._rounds += 1

    def ranking(self) -> list[ClientScore]:
        """All clients, the highest score first; equal ones by name."""
        if not self._accounts:
            return []
        means = {name: account.total / account.rounds for name, account in self._accounts.items()}
        average = math.fsum(means.values()) / len(means)  # in any order the same
        found = []
        for name, account in self._accounts.items():
            error = _standard_error(account)
            excess = (means[name] - average) / error if 0 < error < math.inf else 0.0
            found.append(ClientScore(client=name, rounds=account.rounds, score=means[name], error=error, excess=excess))
        return sorted(found, key=lambda one: (-one.score, one.client))

    def to_bytes(self) -> bytes:
        """The state as JSON, to be kept between rounds; equal states give equal bytes."""
        state = _State(version=_VERSION, rounds=self._rounds, clients=self._accounts)
        return msgspec.json.encode(state, order="deterministic")

    @classmethod
    def from_bytes(cls, data: bytes) -> Scores:
        """What ``to_bytes`` wrote.  Raises ParameterError for anything else."""
        try:
            state = msgspec.json.decode(data, type=_State)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise ParameterError(f"this is no state of scores: {problem}") from None
        if state.version != _VERSION:
            raise ParameterError(f"the scores have version {state.version}, and this library reads {_VERSION}")
        if not all(_sound(account, state.rounds) for account in state.clients.values()):
            raise ParameterError("this is no state of scores: its numbers do not go together")
        scores = cls()
        scores._accounts, scores._rounds = dict(state.clients), state.rounds
        return scores


def _sound(account: _Account, rounds: int) -> bool:
    within = 0 <= account.total <= account.rounds * _MOST and 0 <= account.squares <= account.rounds * _MOST**2
    return 1 <= account.rounds <= rounds and within


def _standard_error(account: _Account) -> float:
    if account.rounds < 2:
        return math.inf
    mean = account.total / account.rounds
    variance = max(account.squares / account.rounds - mean * mean, 0.0) * account.rounds / (account.rounds - 1)
    return math.sqrt(variance / account.rounds)
