"""Lies about who confirmed the survivors: signatures that are withheld, or that nobody made."""

from __future__ import annotations

from dataclasses import dataclass

from secagg.testing.adversary.lies.lie import Lie, meant
from secagg.testing.adversary.world import Ids, LyingServer, Member, World


@dataclass(frozen=True, slots=True)
class WithholdSignatures(Lie):
    """Some signers' confirmations are not passed on."""

    signers: Ids
    to: Ids = ()

    def confirmations(
        self, server: LyingServer, world: World, member: Member, signatures: dict[int, bytes]
    ) -> dict[int, bytes]:
        if not meant(self.to, member.index):
            return signatures
        return {signer: signature for signer, signature in signatures.items() if signer not in self.signers}


@dataclass(frozen=True, slots=True)
class MixGroups(Lie):
    """With groups: confirmations of every group, also where only those of its own say anything to a client."""

    to: Ids = ()

    def confirmations(
        self, server: LyingServer, world: World, member: Member, signatures: dict[int, bytes]
    ) -> dict[int, bytes]:
        if not meant(self.to, member.index):
            return signatures
        return {**world.signatures.get(member.survivors, {}), **signatures}


@dataclass(frozen=True, slots=True)
class ForgeSignatures(Lie):
    """Confirmations that nobody made: one for each of these signers that did not sign the set shown."""

    signers: Ids
    to: Ids = ()

    def confirmations(
        self, server: LyingServer, world: World, member: Member, signatures: dict[int, bytes]
    ) -> dict[int, bytes]:
        """Take the signature of another set where there is one, and noise otherwise."""
        if not meant(self.to, member.index):
            return signatures
        others = {signer: made for by_signer in world.signatures.values() for signer, made in by_signer.items()}
        forged_ones = {signer: others.get(signer, bytes(64)) for signer in self.signers}
        return {**forged_ones, **signatures}
