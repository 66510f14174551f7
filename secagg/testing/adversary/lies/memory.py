"""What the adversary steals when the round is over."""

from __future__ import annotations

from dataclasses import dataclass

from secagg import messages
from secagg.testing.adversary.client import KINDS, PAIR_BYTES, opening_of
from secagg.testing.adversary.lies.lie import Lie
from secagg.testing.adversary.world import Ids, LyingServer


@dataclass(frozen=True, slots=True)
class Seize(Lie):
    """When all is over the adversary gets hold of some clients' memory."""

    ids: Ids

    def after(self, server: LyingServer) -> None:
        """Whatever shares are still in it are as good as revealed, both kinds."""
        for member in server.members:
            pairs = messages.records_of(member.shares_in_memory(), PAIR_BYTES) if member.index in self.ids else []
            if pairs:
                member.view.openings += [b"".join(opening_of(pair, kind) for pair in pairs) for kind in KINDS]
