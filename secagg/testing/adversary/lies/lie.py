"""One lie of a malicious server, as plain data: frozen, comparable, and easy to draw and to shrink.

A lie overrides the steps of ``Lie`` in which it differs from the truth.  ``to`` says to whom it is told; empty, to
everybody.  Lies compose: each one changes what those before it made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from secagg.pairwise.config import RoundConfig
from secagg.testing.adversary.world import Box, Ids, LyingServer, Member, RosterDraft, World


@dataclass(frozen=True, slots=True)
class Lie:
    """Each method is one step of the server, and tells the truth; a lie overrides some of them."""

    # Before the roster.

    def invites_again(self, index: int) -> bool:
        """Whether a client's host joins a second time, having lost the first client's state."""
        return False

    def invitation(
        self, server: LyingServer, index: int, config: RoundConfig, nonce: bytes
    ) -> tuple[RoundConfig, bytes]:
        """The config and the nonce for one client."""
        return config, nonce

    def wire_invitation(self, index: int, data: bytes) -> bytes:
        """The invitation's bytes."""
        return data

    # The roster.

    def group(self, member: Member, group: object) -> object:
        """Clients of one group get one roster."""
        return group

    def draft(self, server: LyingServer, world: World) -> None:
        """Change who stands in a roster, before its digest is made."""

    def drawn(self, server: LyingServer, world: World) -> None:
        """Change what follows from a roster, once its graph is known."""

    def roster(self, server: LyingServer, world: World, member: Member, draft: RosterDraft) -> None:
        """Change the roster for one client."""

    # Later phases.

    def reaches(self, phase: str, index: int) -> bool:
        """Whether a client gets the message that closes a phase; who does not is lost for good."""
        return True

    def resumes_twice(self, index: int) -> bool:
        """Whether a client's host resumes one suspended state twice."""
        return False

    def submits_again(self, index: int) -> bool:
        """Whether a client's host submits a second vector."""
        return False

    def shares(
        self, server: LyingServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        """Which sealed shares a client gets, from which dealers."""
        return dealt

    def survivors(self, server: LyingServer, world: World, member: Member, survivors: frozenset[int]) -> frozenset[int]:
        """The survivors shown to a client."""
        return survivors

    def confirmations(
        self, server: LyingServer, world: World, member: Member, signatures: dict[int, bytes]
    ) -> dict[int, bytes]:
        """The confirmations shown to a client, by signer."""
        return signatures

    def wire(self, world: World, member: Member, phase: str, data: bytes) -> bytes:
        """The bytes of the message that closes a phase."""
        return data

    def more(self, world: World, member: Member, phase: str, data: bytes) -> Iterable[bytes]:
        """Further messages that follow it."""
        return ()

    def after(self, server: LyingServer) -> None:
        """What the adversary does when all is over."""


def meant(to: Ids, index: int) -> bool:
    """Whether a lie is told to a client."""
    return not to or index in to


def turned(data: bytes, at: int = 0) -> bytes:
    """The bytes with one bit turned, of the byte at this place; none stay none."""
    changed = bytearray(data)
    if changed:
        changed[at] ^= 1
    return bytes(changed)
