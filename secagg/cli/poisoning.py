"""Malicious clients in the demo's training: who they are, and what they send."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from secagg.cli import federated
from secagg.cli.federated import Floats
from secagg.errors import ParameterError
from secagg.robust import AttackName
from secagg.robust.attacks import a_little, boosted, labels_flipped, sign_flipped
from secagg.wording import counted

STRENGTHS: Final = {AttackName.SIGN: 10.0, AttackName.BOOST: 10.0, AttackName.LABELS: 20.0, AttackName.LITTLE: 8.0}
"""What an attacker's update is multiplied by; for "little", standard deviations.

At these, a tenth of the clients spoils plain averaging on the demo's digits.
"""
_WHO: Final = 9
"""Sets the draw of the attackers apart from all else that is drawn."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Poisoning:
    """An attack, and the clients that carry it out in every round.

    Attributes:
        attack: what they do.
        attackers: who they are; empty for a training that nobody attacks.
        strength: see ``STRENGTHS``.
    """

    attack: AttackName
    attackers: frozenset[int]
    strength: float

    @classmethod
    def drawn(
        cls, attack: AttackName, share: float, clients: int, seed: int, strength: float | None = None
    ) -> Poisoning:
        """The attack by a share of the clients, rounded down; ``strength``: by default that of ``STRENGTHS``.

        Raises ParameterError for a share that is nobody.
        """
        count = math.floor(share * clients + 1e-9)
        if not count:
            raise ParameterError(f"--attackers {share:g}: of {counted(clients, 'client')} that is nobody; raise it")
        chosen = np.random.default_rng([seed, _WHO]).choice(clients, count, replace=False)
        return cls(attack=attack, attackers=frozenset(chosen.tolist()), strength=strength or STRENGTHS[attack])

    def sent(self, problem: federated.Problem, model: federated.Model, number: int, seed: int) -> Floats:
        """What every client sends in a round, before it is clipped; shape (clients, parameters)."""
        rows = np.array([self._trained(problem, model, number, client, seed) for client in range(len(problem.clients))])
        bad = sorted(self.attackers)
        if not bad:
            return rows
        match self.attack:
            case AttackName.SIGN:
                rows[bad] = sign_flipped(rows[bad], self.strength)
            case AttackName.BOOST:
                rows[bad] = boosted(rows[bad], self.strength)
            case AttackName.LABELS:
                rows[bad] *= self.strength
            case AttackName.LITTLE:
                rows[bad] = a_little(rows, len(bad), self.strength)
        return rows

    def _trained(
        self, problem: federated.Problem, model: federated.Model, number: int, client: int, seed: int
    ) -> Floats:
        samples = problem.clients[client]
        if client in self.attackers and self.attack is AttackName.LABELS:
            samples = federated.Samples(samples.features, labels_flipped(samples.labels, len(model["bias"])))
        draw = np.random.default_rng([seed, number, client])
        return federated.flat(federated.change(model, federated.trained(model, samples, problem, draw)))
