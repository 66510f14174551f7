"""How a ballot of the service ended: the count of its votes, from what the journal keeps of the round."""

from __future__ import annotations

from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.ending import Ending
from secagg.adapters.net.frames import Counted
from secagg.arithmetic import unpack
from secagg.pairwise.config import RoundConfig
from secagg.robust.ballots import Tally


def tally_of(layout: BallotLayout, config: RoundConfig, ending: Ending) -> Tally:
    """The count of a ballot that has ended with a sum.

    With groups it is over the sum of each: one that no honest votes make does not count.
    """
    packed = (
        [(ending.packed, len(ending.included))]
        if config.groups == 1
        else [(group.packed, len(group.included)) for group in ending.groups]
    )
    return layout.ballot().tally((unpack(sum_, config.modulus, config.length), count) for sum_, count in packed)


def counted_frame(tally: Tally) -> Counted:
    """What its members are told."""
    return Counted(tally.objections, tally.voters, tally.clients)
