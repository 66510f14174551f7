"""Lies about who dealt shares, and about what they dealt: different ones to different clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from secagg.pairwise import hybrid
from secagg.pairwise.keys import KeySchedule
from secagg.pairwise.records import SealedSecret
from secagg.primitives import aead
from secagg.testing.adversary.lies.lie import Lie, meant, turned
from secagg.testing.adversary.world import Box, Ids, LyingServer, Member, World


@dataclass(frozen=True, slots=True)
class HideDealers(Lie):
    """Some clients never get what some dealers dealt: different lists of who shared."""

    dealers: Ids
    to: Ids = ()

    def shares(
        self, server: LyingServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        return [entry for entry in dealt if entry[0] not in self.dealers] if meant(self.to, member.index) else dealt


@dataclass(frozen=True, slots=True)
class RepeatDealers(Lie):
    """Only some dealers are shown, and each of them several times, as many as the threshold asks for."""

    dealers: Ids
    to: Ids = ()

    def shares(
        self, server: LyingServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        shown = [entry for entry in dealt if entry[0] in self.dealers]
        return sorted(shown * world.config.threshold) if meant(self.to, member.index) else dealt


@dataclass(frozen=True, slots=True)
class RenameDealer(Lie):
    """What one dealer dealt is shown as another's: of a stranger's, or of a second neighbour's."""

    dealer: int
    name: int
    to: Ids = ()

    def shares(
        self, server: LyingServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        """The shares come in the order of the names."""
        if not meant(self.to, member.index):
            return dealt
        boxes = {dealer: box for dealer, box in dealt if dealer != self.name}
        return sorted((self.name if dealer == self.dealer else dealer, box) for dealer, box in boxes.items())


def _changed(
    lie: SwapSealed | BreakShares | BreakSecret,
    member: Member,
    dealt: list[tuple[int, Box]],
    change: Callable[[Box], Box],
) -> list[tuple[int, Box]]:
    """What was dealt, and to those that are lied to, the lie's dealer's changed."""
    if not meant(lie.to, member.index):
        return dealt
    return [(dealer, change(box) if dealer == lie.dealer else box) for dealer, box in dealt]


@dataclass(frozen=True, slots=True)
class SwapSealed(Lie):
    """A client gets what a dealer sealed for another."""

    dealer: int
    holder: int
    to: Ids = ()

    def shares(
        self, server: LyingServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        other = world.boxes.get(self.dealer, {}).get(self.holder)
        return dealt if other is None else _changed(self, member, dealt, lambda _: other)


@dataclass(frozen=True, slots=True)
class BreakShares(Lie):
    """One bit of what one dealer dealt is turned on its way: of the sealed shares, or of their commitments."""

    dealer: int
    sealed: bool = True
    to: Ids = ()

    def shares(
        self, server: LyingServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        return _changed(self, member, dealt, self._broken)

    def _broken(self, box: Box) -> Box:
        return box._replace(sealed=turned(box.sealed)) if self.sealed else box._replace(committed=turned(box.committed))


@dataclass(frozen=True, slots=True)
class BreakSecret(Lie):
    """One bit of a pair secret is turned on its way, in a hybrid suite: "ciphertext", "sealed" or "commitment"."""

    dealer: int
    part: str = "sealed"
    to: Ids = ()

    def shares(
        self, server: LyingServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        return _changed(self, member, dealt, self._broken)

    def _broken(self, box: Box) -> Box:
        if not box.secret:
            return box
        record = SealedSecret.from_bytes(box.secret)
        return box._replace(secret=record._replace(**{self.part: turned(getattr(record, self.part))}).to_bytes())


@dataclass(frozen=True, slots=True)
class ForgeSecret(Lie):
    """The server puts pair secrets of its own in the place of the sealers', in a hybrid suite.

    It encapsulates to the holder's key as anybody can, and commits to what it sealed; what it lacks is the agreement of
    the two masking keys, in whose place it takes zeros.
    """

    to: Ids = ()

    def shares(
        self, server: LyingServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        if not meant(self.to, member.index):
            return dealt
        return [
            (dealer, box._replace(secret=self._forged(server, world, dealer, member.index)) if box.secret else box)
            for dealer, box in dealt
        ]

    def _forged(self, server: LyingServer, world: World, sealer: int, holder: int) -> bytes:
        config, labels = world.config, world.config.labels
        keys = KeySchedule(config.suite, world.session, labels)
        secret, ends = server.randomness(32), (world.keys(sealer).masking, world.keys(holder).masking)
        shared, ciphertext = hybrid.encapsulate(config, ends[1])
        key = keys.pair_secret_seal(shared + bytes(32), sealer, holder, *ends, ciphertext)
        context = labels.sealed_pair_secret_context(world.session, sealer, holder)
        commitment = labels.pair_secret_commitment(world.session, sealer, holder, secret)
        server.ledger.chosen[commitment] = secret
        return SealedSecret(ciphertext, aead.seal(config.suite, key, secret, context), commitment).to_bytes()
