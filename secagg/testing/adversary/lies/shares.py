"""Lies about who dealt shares, and about what they dealt: different ones to different clients."""

from __future__ import annotations

from dataclasses import dataclass

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
        if other is None or not meant(self.to, member.index):
            return dealt
        return [(dealer, other if dealer == self.dealer else box) for dealer, box in dealt]


@dataclass(frozen=True, slots=True)
class BreakShares(Lie):
    """One bit of what one dealer dealt is turned on its way: of the sealed shares, or of their commitments."""

    dealer: int
    sealed: bool = True
    to: Ids = ()

    def shares(
        self, server: LyingServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        if not meant(self.to, member.index):
            return dealt
        return [(dealer, self._broken(box) if dealer == self.dealer else box) for dealer, box in dealt]

    def _broken(self, box: Box) -> Box:
        return box._replace(sealed=turned(box.sealed)) if self.sealed else box._replace(committed=turned(box.committed))
