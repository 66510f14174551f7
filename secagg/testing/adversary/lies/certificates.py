"""What a server signs that is not true of a round: lies to clients that keep a chain of their cohort's rounds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import msgspec

from secagg.errors import AbortCode
from secagg.identity import Identity
from secagg.pairwise import certificate as certificates
from secagg.pairwise.certificate import Certificate, Ended
from secagg.pairwise.messages import encode_bitmap
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import SIGNATURE_BYTES
from secagg.testing.adversary.world import Ids


class CertificateLie(Protocol):
    """A lie about one round."""

    def told(self, true: Certificate, server: Identity) -> bytes:
        """The certificate that is shown in the place of the true one; ``server`` is the identity that signs both."""


@dataclass(frozen=True, slots=True)
class FakeAbort:
    """A round with a sum is said to have been aborted in UNMASK.

    ``stated_by`` are members that are said to have stated that they did not answer; nobody made the signatures.
    """

    stated_by: Ids = ()

    def told(self, true: Certificate, server: Identity) -> bytes:
        ended = Ended(Phase.UNMASK.value, int(AbortCode.TOO_FEW_CLIENTS), b"", b"")
        silent = encode_bitmap(self.stated_by, true.round_config.clients) if self.stated_by else b""
        statements = bytes(SIGNATURE_BYTES * len(self.stated_by))
        return _resigned(true, server, ended=ended, sums=(), transcript=b"", silent=silent, statements=statements)


@dataclass(frozen=True, slots=True)
class OtherTotal:
    """The sum of a round without groups has another digest: the server hands out another total than it opened."""

    digest: bytes

    def told(self, true: Certificate, server: Identity) -> bytes:
        return _resigned(true, server, sums=(msgspec.structs.replace(true.sums[0], digest=self.digest),))


@dataclass(frozen=True, slots=True)
class LeaveOutSums:
    """Sums of some groups were opened, and are not told of."""

    groups: Ids

    def told(self, true: Certificate, server: Identity) -> bytes:
        return _resigned(true, server, sums=tuple(opened for opened in true.sums if opened.number not in self.groups))


@dataclass(frozen=True, slots=True)
class OtherSurvivors:
    """Some members are said to have been lost in MASK, and not to be in the sum of a round without groups."""

    lost: Ids

    def told(self, true: Certificate, server: Identity) -> bytes:
        clients = true.round_config.clients
        left = self._without(true.members(true.survivors))
        signers = true.members(true.signers)
        size = SIGNATURE_BYTES
        return _resigned(
            true,
            server,
            survivors=encode_bitmap(left, clients),
            sums=(msgspec.structs.replace(true.sums[0], members=encode_bitmap(left, clients)),),
            lost=(certificates.Lost(Phase.MASK.value, encode_bitmap(self.lost, clients)),),
            signers=encode_bitmap(self._without(signers), clients),
            signatures=b"".join(
                true.signatures[size * place : size * (place + 1)]
                for place, signer in enumerate(signers)
                if signer not in self.lost
            ),
        )

    def _without(self, members: Collection[int]) -> list[int]:
        return [member for member in members if member not in self.lost]


@dataclass(frozen=True, slots=True)
class OtherKey:
    """The true certificate, signed with a key that the clients do not know: they could hold it against nobody."""

    def told(self, true: Certificate, server: Identity) -> bytes:
        return certificates.signed(true, Identity.generate()).to_bytes()


def _resigned(true: Certificate, server: Identity, **changes: object) -> bytes:
    return certificates.signed(msgspec.structs.replace(true, **changes), server).to_bytes()
