"""Lies about who survived: different survivors for different clients, or several sets for one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from secagg.pairwise import messages
from secagg.pairwise.messages import Survivors
from secagg.pairwise.phases import Phase
from secagg.testing.adversary.lies.lie import Lie, meant
from secagg.testing.adversary.world import Box, Ids, LyingServer, Member, World


@dataclass(frozen=True, slots=True)
class ShowSurvivors(Lie):
    """Some clients are shown these survivors."""

    ids: Ids
    to: Ids = ()

    def survivors(self, server: LyingServer, world: World, member: Member, survivors: frozenset[int]) -> frozenset[int]:
        return frozenset(self.ids) if meant(self.to, member.index) else survivors


@dataclass(frozen=True, slots=True)
class DropFromSurvivors(Lie):
    """Some clients are shown survivors without these, whether or not their vectors came."""

    ids: Ids
    to: Ids = ()
    rejoined: bool = False
    """Only those that joined a second time."""

    def survivors(self, server: LyingServer, world: World, member: Member, survivors: frozenset[int]) -> frozenset[int]:
        if not meant(self.to, member.index) or (self.rejoined and not member.instance):
            return survivors
        return survivors - set(self.ids)


@dataclass(frozen=True, slots=True)
class ShowAgain(Lie):
    """Further survivor sets, after the message that closes a phase: MASK, or CONFIRM for a server that was set back."""

    sets: tuple[Ids, ...]
    to: Ids = ()
    phase: str = Phase.MASK

    def more(self, world: World, member: Member, phase: str, data: bytes) -> Iterable[bytes]:
        if phase != self.phase or not meant(self.to, member.index):
            return ()
        return [messages.encode(Survivors(world.config.version, world.session, world.bitmap(ids))) for ids in self.sets]


@dataclass(frozen=True, slots=True)
class Isolate(Lie):
    """One client is opened alone, if it can be: its masks are made with clients that are then dropped.

    The server lets the victim hear of the colluders and of ``dropped`` alone, drops those, and has everybody else
    confirm survivors with the victim among them.  So the dropped ones' keys come out, and the victim's seed.
    """

    victim: int
    dropped: Ids

    def shares(
        self, server: LyingServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        """Choose what the victim gets."""
        known = {*self.dropped, *world.puppets}
        return dealt if member.index != self.victim else [entry for entry in dealt if entry[0] in known]

    def survivors(self, server: LyingServer, world: World, member: Member, survivors: frozenset[int]) -> frozenset[int]:
        """Choose what everybody gets."""
        return survivors - set(self.dropped)
