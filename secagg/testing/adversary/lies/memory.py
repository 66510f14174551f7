"""What the adversary steals when the round is over."""

from __future__ import annotations

from dataclasses import dataclass

from secagg.pairwise import records
from secagg.pairwise.records import KINDS, PAIR_BYTES
from secagg.testing.adversary.lies.lie import Lie
from secagg.testing.adversary.world import Ids, LyingServer


@dataclass(frozen=True, slots=True)
class Seize(Lie):
    """When all is over the adversary gets hold of some clients' memory."""

    ids: Ids

    def after(self, server: LyingServer) -> None:
        """Whatever shares are still in it are as good as revealed, both kinds."""
        for member in server.members:
            pairs = member.shares_in_memory() if member.index in self.ids else b""
            if pairs:
                dealers = len(pairs) // PAIR_BYTES
                member.view.openings += [records.openings_of(pairs, [kind] * dealers) for kind in KINDS]
