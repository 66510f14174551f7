"""A malicious server against honest clients, from a script of lies to what was learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secagg.errors import ErrorCode, PeerError
from secagg.identity import Directory, Identity, UsedTokens
from secagg.machines import ClientMachine
from secagg.pairwise.client.attachment import Attachment
from secagg.pairwise.client.machine import Client
from secagg.pairwise.config import Policy, RoundConfig
from secagg.simulation.cohort import SeededRandomness, make_cohort
from secagg.testing.adversary.client import ClientLie
from secagg.testing.adversary.ledger import Input, Ledger, Opening
from secagg.testing.adversary.lies.lie import Lie
from secagg.testing.adversary.server import MaliciousServer
from secagg.testing.adversary.world import Host, World

_COHORT_SEED = 0


def known_cohort(clients: int) -> tuple[list[Identity], Directory, bytes]:
    """The identities, directory and cohort digest that attacks on so many clients use: the same every time."""
    return make_cohort(clients, SeededRandomness(_COHORT_SEED, f"cohort of {clients}"))


def true_inputs(config: RoundConfig, seed: int, submissions: int = 2) -> dict[Input, list[int]]:
    """Every client's vectors, drawn below input_max: what the adversary is after."""
    generator = np.random.default_rng([seed, config.clients])
    return {
        (index, number): generator.integers(0, config.input_max, config.length, np.uint64, endpoint=True).tolist()
        for index in range(config.clients)
        for number in range(submissions)
    }


@dataclass(frozen=True)
class Spoils:
    """What an attack brought.

    Attributes:
        openings: what the adversary computed: a basis of all it can.
        both_kinds: honest clients whose seed and masking key it knows.
        refusals: what clients refused, in order.
        crashes: what came out of clients and is no PeerError.
        least_honest: the fewest honest clients that a sum may be of, by the config that the hosts agreed on.
        confirmed: the survivor sets that clients answered for; with groups, each one's part in its own group.
        in_one_sum: the sets of clients whose vectors may be added up: the whole cohort, or each group.
        colluders: who was on the adversary's side from the beginning.
        inputs: the true vectors.
    """

    openings: tuple[Opening, ...]
    both_kinds: frozenset[int]
    refusals: tuple[tuple[int, PeerError], ...]
    crashes: tuple[tuple[int, Exception], ...]
    least_honest: int
    confirmed: frozenset[frozenset[int]]
    in_one_sum: frozenset[frozenset[int]]
    colluders: frozenset[int]
    inputs: Mapping[Input, list[int]] = field(repr=False)
    ledger: Ledger = field(repr=False)

    @property
    def codes(self) -> set[ErrorCode]:
        """Every code that a client refused something with."""
        return {refused.code for _, refused in self.refusals}

    @property
    def smallest(self) -> int | None:
        """How many clients the smallest opening is about; None when nothing opened."""
        return min((len(opening.clients) for opening in self.openings), default=None)

    @property
    def broken(self) -> list[str]:
        """Which promises were broken; empty when the protocol held.

        Privacy: nothing opens about honest inputs but one sum, with groups one of each, which holds every honest member
        of the survivors, and no fewer of them than the config says; and of no honest client are both secrets known.
        """
        faults = [f"both secrets of client {index}" for index in sorted(self.both_kinds)]
        for together in self.in_one_sum:
            inside = sum(opening.clients <= together for opening in self.openings)
            if inside > 1:
                faults.append(f"{inside} independent openings")
        for opening in self.openings:
            members = sorted(opening.clients)
            if len(members) < self.least_honest:
                faults.append(f"clients {members} opened, fewer than {self.least_honest}")
            if not any(opening.clients <= together for together in self.in_one_sum):
                faults.append(f"clients {members} opened together, which are of several groups")
            if {factor for _, factor in opening.factors} != {1}:
                faults.append(f"a combination of clients {members} that is no sum")
            if all(survivors - self.colluders != opening.clients for survivors in self.confirmed):
                faults.append(f"clients {members} opened, which are not the honest survivors")
        return faults

    def check_openings(self, config: RoundConfig) -> None:
        """Raises AssertionError when an opening is not what the true inputs give: then the account itself is wrong."""
        for opening in self.openings:
            if not opening.is_true(self.inputs, config.modulus):
                raise AssertionError(f"the ledger claims {opening}, which the true inputs contradict")


@dataclass(frozen=True)
class Attack:
    """A malicious server against honest clients.

    Attributes:
        config: what the honest hosts agreed on.
        lies: what the server does, in order.
        colluders: who works for it.
        client_lies: how its colluders deal.
        seed: of everybody's randomness.
        approve: whether the hosts approved this very config by its digest.
        policy: what the hosts ask for; just what the config has of sigma when not given.
        directory: the hosts'; that of ``known_cohort`` when not given.
        identities: the colluders'; those of ``known_cohort`` when not given.
        sends: the config that the server sends; the agreed one when not given.
    """

    config: RoundConfig
    lies: tuple[Lie, ...] = ()
    colluders: tuple[int, ...] = ()
    client_lies: tuple[ClientLie, ...] = ()
    seed: int = 0
    approve: bool = True
    policy: Policy | None = None
    directory: Directory | None = None
    identities: Mapping[int, Identity] = field(default_factory=dict)
    sends: RoundConfig | None = None

    def run(self) -> Spoils:
        """Carry it out.  Every opening is held against the true inputs."""
        server = self.server()
        server.run()
        inputs = true_inputs(self.config, self.seed)
        spoils = Spoils(
            openings=server.ledger.openings(),
            both_kinds=server.ledger.both_kinds(),
            refusals=tuple(server.refusals),
            crashes=tuple(server.crashes),
            least_honest=self.config.smallest_sum - self.config.colluders_in_group,
            confirmed=frozenset(server.confirmed),
            in_one_sum=frozenset(world.in_one_sum(index) for world in server.worlds for index in world.neighbours),
            colluders=frozenset(self.colluders),
            inputs=inputs,
            ledger=server.ledger,
        )
        spoils.check_openings(self.config)
        return spoils

    def scout(self) -> World:
        """The roster and graph that this attack will meet: with the same seed, they come out the same."""
        server = self.server()
        server.begin()
        return server.worlds[0]

    def server(self) -> MaliciousServer:
        """The server and the honest hosts, before anything has happened."""
        identities, directory, _ = known_cohort(self.config.clients)
        inputs = true_inputs(self.config, self.seed)
        hosts = [
            self._host(index, identities[index], self.directory or directory, [inputs[index, 0], inputs[index, 1]])
            for index in range(self.config.clients)
            if index not in self.colluders
        ]
        return MaliciousServer(
            self.sends or self.config,
            hosts,
            {
                index: self.identities.get(index, identities[index]) if self.config.threat_model.signs else None
                for index in self.colluders
            },
            self.lies,
            randomness=SeededRandomness(self.seed, "adversary"),
            client_lies=self.client_lies,
        )

    def _host(self, index: int, identity: Identity, directory: Directory, vectors: list[list[int]]) -> Host:
        consume, randomness = UsedTokens(), SeededRandomness(self.seed, f"client {index}")
        trust: dict[str, Any] = {"identity": identity, "directory": directory} if self.config.threat_model.signs else {}
        policy = self.policy or Policy(
            threat_model=self.config.threat_model,
            min_sigma=self.config.sigma,
            min_grinding_bits=self.config.grinding_bits,
            max_attachment_bytes=self.config.attachment_bytes,
            max_groups=self.config.groups,
            carrier=self.config.carrier,
        )

        def join(invitation: bytes) -> ClientMachine:
            approve = self.config.digest if self.approve else None
            return Client.join(
                invitation, index, approve=approve, policy=policy, consume=consume, randomness=randomness, **trust
            )

        def resume(state: bytes) -> ClientMachine:
            return Client.resume(state, consume, randomness=randomness, **trust)

        return Host(index, join, resume, vectors, attachment_of(self.config, index))


def attachment_of(config: RoundConfig, index: int) -> Attachment | None:
    """What a client's host attaches, if the config asks for it: for each number of losses a value that tells both."""
    size = config.attachment_bytes
    values = [(lost, f"{index}, {lost} lost".encode().ljust(size, b".")[:size]) for lost in range(config.clients)]
    return values if size else None
