"""The clients of the demo as voters: each tests a model on its own data, and votes in a secure sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from secagg.cli import federated
from secagg.cli.poisoning import Poisoning
from secagg.robust import Ballot, ClassErrors, Tally, Verdict, Vote
from secagg.simulation import Outcome


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How a ballot ended.

    Attributes:
        verdict: what becomes of the model.
        tally: the count.
        is_right: whether it is that of the votes of the clients that are in the sums.
    """

    verdict: Verdict
    tally: Tally
    is_right: bool

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints of it."""
        return {
            "verdict": self.verdict.value,
            "objections": self.tally.objections,
            "voters": self.tally.voters,
            "counted_clients": self.tally.clients,
        }


def plain_tally(votes: Sequence[Vote]) -> Tally:
    """The count of votes that everybody sees."""
    voters = len(votes) - votes.count(Vote.ABSTAIN)
    return Tally(objections=votes.count(Vote.OBJECT), voters=voters, clients=len(votes))


@final
class Electorate:
    """Those who vote on models: each compares a candidate with the last accepted ones, on its own data.

    While there are few of these, a client adds the model that it trained from the first one on its own.  Attackers
    accept every model.
    """

    def __init__(self, problem: federated.Problem, poisoning: Poisoning, seed: int) -> None:
        start = problem.start()
        self.ballot = Ballot()
        self._problem, self._poisoning = problem, poisoning
        own = [
            federated.trained(start, samples, problem, np.random.default_rng([seed, client]))
            for client, samples in enumerate(problem.clients)
        ]
        self._earlier = [
            [self._errors(client, own[client])] * (self.ballot.earlier - 1) + [self._errors(client, start)]
            for client in range(len(own))
        ]

    def votes(self, candidate: federated.Model) -> list[Vote]:
        """The votes of all clients, in their order."""
        return [
            Vote.ACCEPT
            if client in self._poisoning.attackers
            else self.ballot.vote(self._errors(client, candidate), self._earlier[client])
            for client in range(len(self._problem.clients))
        ]

    def count(self, outcome: Outcome, votes: Sequence[Vote]) -> Count | None:
        """What a ballot came to; None when it was aborted."""
        if outcome.result is None:
            return None
        groups = outcome.result.groups
        tally = self.ballot.tally((group.sum, len(group.included)) for group in groups)
        plain = plain_tally([votes[client] for group in groups for client in group.included])
        return Count(verdict=self.ballot.verdict(tally), tally=tally, is_right=tally == plain)

    def accept(self, model: federated.Model) -> None:
        """From now on later models are compared with this one, too."""
        for client, earlier in enumerate(self._earlier):
            earlier.append(self._errors(client, model))

    def _errors(self, client: int, model: federated.Model) -> ClassErrors:
        samples = self._problem.clients[client]
        return ClassErrors.of(samples.labels, federated.labels_of(model, samples), len(model["bias"]))
