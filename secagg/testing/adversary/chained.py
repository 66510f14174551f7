"""A cohort whose members each keep a chain, and a server that opens rounds behind it, or lies about it.

    cohort = ChainedCohort()
    first = cohort.open()
    cohort.play(first, cohort.join(first, range(6)))
    lie = FakeAbort().told(cohort.true_certificate(first), cohort.server)
    cohort.join(cohort.open(behind=[lie]), [0])       # PeerError: chain-unsettled

The lies that a server tells in certificates are in ``secagg.testing.adversary.lies.certificates``; the others, which
leave certificates out or bring them in another order, are what ``open`` is given.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, final

import numpy as np

from secagg.errors import PeerError
from secagg.events import InputNeeded
from secagg.identity import Identity, UsedTokens
from secagg.pairwise.certificate import NO_CERTIFICATE, Certificate
from secagg.pairwise.client.chaining import Chain
from secagg.pairwise.client.machine import Client
from secagg.pairwise.config import Policy, RoundConfig
from secagg.pairwise.phases import Phase
from secagg.pairwise.server import Server
from secagg.simulation import make_cohort

LENGTH: Final = 3
"""Elements of every vector; those of member i are 10 to the power of i, so that a sum shows who is in it."""


@final
class ChainedCohort:
    """Members 0 to n - 1, a chain for each, and the certificates of the rounds so far.

    Attributes:
        identities: the members', by cohort index.
        directory: vouches for the cohort, whose digest is ``digest``.
        server: the identity that signs certificates.
        chains: by member, what its host keeps.
        certificates: the chain so far, as the server tells it.
        copies: by member, a second copy of its client as it was before it answered in UNMASK (``play`` with ``held``).
    """

    def __init__(self, clients: int = 6, *, neighbours: Any = "complete") -> None:
        """``clients``: at most 9, for the sake of ``LENGTH``; ``neighbours``: as in ``RoundConfig.for_cohort``."""
        self.identities, self.directory, self.digest = make_cohort(clients)
        self.clients, self.neighbours = clients, neighbours
        self.server = Identity.generate()
        self.chains = {member: Chain(self.server.public_key) for member in range(clients)}
        self.certificates: list[bytes] = []
        self.copies: dict[int, Client] = {}

    def config(self, **changes: Any) -> RoundConfig:
        """A round of vectors of ``LENGTH`` elements; ``changes`` are arguments of ``RoundConfig.for_cohort``."""
        given = {
            "threat_model": "active",
            "gamma": 0.0,
            "delta": 0.2,
            "neighbours": self.neighbours,
            "cohort": self.digest,
            "modulus": 2**32,
            "version": 2,
            **changes,
        }
        return RoundConfig.for_cohort(self.clients, LENGTH, **given)

    @property
    def head(self) -> bytes:
        """The digest of the last certificate."""
        return Certificate.from_bytes(self.certificates[-1]).digest if self.certificates else NO_CERTIFICATE

    def open(
        self,
        *,
        chain: bytes | None = None,
        brought: Sequence[bytes] | None = None,
        behind: Sequence[bytes] = (),
        **changes: Any,
    ) -> Server:
        """A round behind the certificates so far.

        Args:
            chain: what the config names as the last certificate; the last one's digest when not given.
            brought: what the invitation brings; all certificates when not given.
            behind: certificates of the server's making that are told after those so far.
            changes: of the config.
        """
        told = [*self.certificates, *behind]
        head = Certificate.from_bytes(told[-1]).digest if told else NO_CERTIFICATE
        config = self.config(chain=head if chain is None else chain, **changes)
        return Server(config, directory=self.directory, certificates=told if brought is None else brought)

    def join(
        self, server: Server, members: Collection[int], *, chained: bool = True, policy: Policy | None = None
    ) -> dict[int, Client]:
        """These members join, each with its chain unless ``chained`` is false.

        Raises PeerError, when one of them refuses the invitation.
        """
        return {
            member: Client.join(
                server.invitation(),
                member,
                policy=policy or Policy(gamma=0.0),
                identity=self.identities[member],
                directory=self.directory,
                consume=UsedTokens(),
                chain=self.chains[member] if chained else None,
            )
            for member in members
        }

    def play(
        self,
        server: Server,
        clients: dict[int, Client],
        *,
        answering: Collection[int] | None = None,
        held: dict[int, bytes] | None = None,
    ) -> dict[int, PeerError]:
        """The round, to its sum; with ``answering``, up to UNMASK, which these alone answer.

        ``held`` gets the messages that would have made the others answer.  Returns what the clients refused.
        """
        errors: dict[int, PeerError] = {}
        for member, client in clients.items():
            server.receive(member, client.start())
        while server.phase.value in {phase.value for phase in Phase}:
            last = server.phase.value == Phase.UNMASK.value
            if last and answering is not None:
                return errors
            for member, message in server.close_phase():
                if member not in clients:
                    continue
                opening = server.phase.value == Phase.UNMASK.value
                if opening and answering is not None and member not in answering:
                    if held is not None:
                        held[member] = message
                        clients[member], self.copies[member] = self._twice(member, clients[member])
                    continue
                try:
                    self._answer(server, member, clients[member], message)
                except PeerError as refused:
                    errors[member] = refused
                    server.receive(member, refused.reply)
        if server.ready_to_compute:
            server.compute()
        return errors

    def _twice(self, member: int, client: Client) -> tuple[Client, Client]:
        """The client, two times: its host was rolled back, and forgot which states it had resumed."""
        state, trust = client.suspend(), {"identity": self.identities[member], "directory": self.directory}
        one, other = (
            Client.resume(state, lambda token: True, chain=self.chains[member], **trust)  # type: ignore[arg-type]
            for _ in range(2)
        )
        return one, other

    def _answer(self, server: Server, member: int, client: Client, message: bytes) -> None:
        step = client.receive(message)
        if isinstance(step.event, InputNeeded):
            step = client.submit(np.full(LENGTH, 10 ** (member % 10), dtype=np.uint32))
        for answer in step.outgoing:
            server.receive(member, answer)

    def certify(self, server: Server, **given: Any) -> bytes:
        """The round's certificate, which becomes the last one; ``given`` are arguments of ``Server.certificate``."""
        previous = self.certificates[-1] if self.certificates else b""
        self.certificates.append(server.certificate(self.server, previous=previous, **given))
        return self.certificates[-1]

    def true_certificate(self, server: Server) -> Certificate:
        """The certificate of a round that is over, behind those so far; it does not become one of them."""
        previous = self.certificates[-1] if self.certificates else b""
        return Certificate.from_bytes(server.certificate(self.server, previous=previous))

    def aborted_without_a_sum(self, server: Server) -> bytes:
        """The certificate of a server that aborts, made in a copy of it: the server itself goes on."""
        copied = Server.restore(server.snapshot(), directory=self.directory)
        copied.abort()
        return copied.certificate(self.server, previous=self.certificates[-1] if self.certificates else b"")
