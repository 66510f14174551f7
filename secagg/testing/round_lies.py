"""Lies about who shared, who survived and who confirmed: different ones to different clients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from secagg import messages
from secagg.messages import Survivors
from secagg.testing.lies import Lie, meant, turned
from secagg.transcript import VERSION

if TYPE_CHECKING:
    from secagg.testing.malicious_server import Box, Ids, MaliciousServer, Member, World


# -- Shares ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HideDealers(Lie):
    """Some clients never get what some dealers dealt: different lists of who shared."""

    dealers: Ids
    to: Ids = ()

    def shares(
        self, server: MaliciousServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        """The others remain."""
        return [entry for entry in dealt if entry[0] not in self.dealers] if meant(self.to, member.index) else dealt


@dataclass(frozen=True, slots=True)
class RepeatDealers(Lie):
    """Only some dealers are shown, and each of them several times, as many as the threshold asks for."""

    dealers: Ids
    to: Ids = ()

    def shares(
        self, server: MaliciousServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        """The same boxes again."""
        shown = [entry for entry in dealt if entry[0] in self.dealers]
        return sorted(shown * world.config.threshold) if meant(self.to, member.index) else dealt


@dataclass(frozen=True, slots=True)
class RenameDealer(Lie):
    """What one dealer dealt is shown as another's: of a stranger's, or of a second neighbour's."""

    dealer: int
    name: int
    to: Ids = ()

    def shares(
        self, server: MaliciousServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        """In the order of the names."""
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
        self, server: MaliciousServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        """With its commitments."""
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
        self, server: MaliciousServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        """The first bit."""
        if not meant(self.to, member.index):
            return dealt
        return [(dealer, self._broken(box) if dealer == self.dealer else box) for dealer, box in dealt]

    def _broken(self, box: Box) -> Box:
        return (turned(box[0]), box[1]) if self.sealed else (box[0], turned(box[1]))


# -- Survivors ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShowSurvivors(Lie):
    """Some clients are shown these survivors."""

    ids: Ids
    to: Ids = ()

    def survivors(
        self, server: MaliciousServer, world: World, member: Member, survivors: frozenset[int]
    ) -> frozenset[int]:
        """Whatever was sent."""
        return frozenset(self.ids) if meant(self.to, member.index) else survivors


@dataclass(frozen=True, slots=True)
class DropFromSurvivors(Lie):
    """Some clients are shown survivors without these, whether or not their vectors came."""

    ids: Ids
    to: Ids = ()
    rejoined: bool = False
    """Only those that joined a second time."""

    def survivors(
        self, server: MaliciousServer, world: World, member: Member, survivors: frozenset[int]
    ) -> frozenset[int]:
        """Without them."""
        if not meant(self.to, member.index) or (self.rejoined and not member.instance):
            return survivors
        return survivors - set(self.ids)


@dataclass(frozen=True, slots=True)
class ShowAgain(Lie):
    """Further survivor sets, after the message that closes a phase: MASK, or CONFIRM for a server that was set back."""

    sets: tuple[Ids, ...]
    to: Ids = ()
    phase: str = "MASK"

    def more(self, world: World, member: Member, phase: str, data: bytes) -> Iterable[bytes]:
        """One after the other."""
        if phase != self.phase or not meant(self.to, member.index):
            return ()
        return [messages.encode(Survivors(VERSION, world.session, world.bitmap(ids))) for ids in self.sets]


@dataclass(frozen=True, slots=True)
class Isolate(Lie):
    """One client is opened alone, if it can be: its masks are made with clients that are then dropped.

    The server lets the victim hear of the colluders and of ``dropped`` alone, drops those, and has everybody else
    confirm survivors with the victim among them.  So the dropped ones' keys come out, and the victim's seed.
    """

    victim: int
    dropped: Ids

    def shares(
        self, server: MaliciousServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        """What the victim gets."""
        known = {*self.dropped, *world.puppets}
        return dealt if member.index != self.victim else [entry for entry in dealt if entry[0] in known]

    def survivors(
        self, server: MaliciousServer, world: World, member: Member, survivors: frozenset[int]
    ) -> frozenset[int]:
        """What everybody gets."""
        return survivors - set(self.dropped)


# -- Confirmations -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WithholdSignatures(Lie):
    """Some signers' confirmations are not passed on."""

    signers: Ids
    to: Ids = ()

    def confirmations(
        self, server: MaliciousServer, world: World, member: Member, signatures: dict[int, bytes]
    ) -> dict[int, bytes]:
        """The others are."""
        if not meant(self.to, member.index):
            return signatures
        return {signer: signature for signer, signature in signatures.items() if signer not in self.signers}


@dataclass(frozen=True, slots=True)
class ForgeSignatures(Lie):
    """Confirmations that nobody made: one for each of these signers that did not sign the set shown."""

    signers: Ids
    to: Ids = ()

    def confirmations(
        self, server: MaliciousServer, world: World, member: Member, signatures: dict[int, bytes]
    ) -> dict[int, bytes]:
        """The signature of another set where there is one, or noise."""
        if not meant(self.to, member.index):
            return signatures
        others = {signer: made for by_signer in world.signatures.values() for signer, made in by_signer.items()}
        forged_ones = {signer: others.get(signer, bytes(64)) for signer in self.signers}
        return {**forged_ones, **signatures}


# -- Afterwards -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seize(Lie):
    """When all is over the adversary gets hold of some clients' memory."""

    ids: Ids

    def after(self, server: MaliciousServer) -> None:
        """Whatever shares are still in it are as good as revealed, both kinds."""
        for member in server.members:
            openings = getattr(member.client._phase, "openings", None)
            if member.index in self.ids and openings is not None:
                plain = openings.reveal()
                size = 2 * messages.OPENING_BYTES
                for kind in (0, 1):
                    member.view.openings.append(
                        b"".join(_half(plain[start : start + size], kind) for start in range(0, len(plain), size))
                    )


def _half(both: bytes, kind: int) -> bytes:
    """One share and its salt, of a pair."""
    share = both[kind * messages.SHARE_BYTES : (kind + 1) * messages.SHARE_BYTES]
    salt = 2 * messages.SHARE_BYTES + kind * messages.SALT_BYTES
    return share + both[salt : salt + messages.SALT_BYTES]
