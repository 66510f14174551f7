"""What ``serve`` and ``join`` both say of a ballot."""

from __future__ import annotations

from typing import Final

from secagg.robust.ballots import Tally, Verdict
from secagg.wording import counted

VOTES: Final = "votes"
"""What a ledger calls the values of a ballot: sums of votes and sums of files are looked at apart."""


def verdict_line(verdict: Verdict, tally: Tally) -> str:
    """The verdict and the count, for a person."""
    left_out = len(tally.impossible)
    spoilt = (
        f"; the votes of {counted(left_out, 'group')} do not count, as no honest votes make them" if left_out else ""
    )
    return (
        f"{verdict}: {tally.objections} of {counted(tally.voters, 'voter')} object, of "
        f"{counted(tally.clients, 'client')}{spoilt}"
    )
