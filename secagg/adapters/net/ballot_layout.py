"""What a round of the service sums when it is a ballot: votes on one candidate model, by rules that all members see.

It stands where the layout of a file stands, and its digest is the round's context: members that agree on the config
agree on the candidate and on the rules, so that a server cannot have two candidates voted on in one round.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Final, Literal, TypeAlias, final

import msgspec
from msgspec import Meta

from secagg.encoding import Encoder
from secagg.errors import ParameterError
from secagg.pairwise.config import RoundConfig
from secagg.robust.ballots import Ballot, Tally
from secagg.wording import counted

MOST_CANDIDATE_BYTES: Final = 2**30
"""A service holds a candidate in memory, and each of its members does while it tests it."""
CandidateSuffix: TypeAlias = Literal["", ".npz", ".safetensors"]
_LABEL: Final = b"secagg ballot layout 1\n"
_INPUT_LABEL: Final = b"secagg ballot input 1\n"


@final
class BallotLayout(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="ballot"):
    """Public, and the same for every member of a ballot.

    Attributes:
        candidate: SHA-256 of the candidate's bytes.
        size: bytes of the candidate, 1 to 2^30.
        suffix: the kind of file that the bytes are, for whoever stores them; empty where the members know it.
        tolerance, fewest_samples, earlier, objecting_share, fewest_voters: of the Ballot.

    Raises ParameterError when it is made with numbers that are no ballot's.
    """

    candidate: Annotated[bytes, Meta(min_length=32, max_length=32)]
    size: Annotated[int, Meta(ge=1, le=MOST_CANDIDATE_BYTES)]
    suffix: CandidateSuffix
    tolerance: float
    fewest_samples: int
    earlier: int
    objecting_share: float
    fewest_voters: int

    def __post_init__(self) -> None:
        self.ballot()

    @classmethod
    def of(cls, candidate: bytes, ballot: Ballot, suffix: CandidateSuffix = "") -> BallotLayout:
        """The layout of a ballot on a candidate.  Raises ParameterError for a candidate that no member takes."""
        if not 1 <= len(candidate) <= MOST_CANDIDATE_BYTES:
            raise ParameterError(
                f"the candidate has {counted(len(candidate), 'byte')}: it must have 1 to {MOST_CANDIDATE_BYTES:,}"
            )
        return cls(
            candidate=sha256(candidate).digest(),
            size=len(candidate),
            suffix=suffix,
            tolerance=float(ballot.tolerance),
            fewest_samples=ballot.fewest_samples,
            earlier=ballot.earlier,
            objecting_share=float(ballot.objecting_share),
            fewest_voters=ballot.fewest_voters,
        )

    def ballot(self) -> Ballot:
        """The rules.  Raises ParameterError for a number out of its range."""
        return Ballot.of(self)

    def encoder(self) -> Encoder:
        """What makes a vote's vector."""
        return self.ballot().encoder()

    def digest(self) -> bytes:
        """32 bytes that all members of a round agree on as its context."""
        return sha256(_LABEL + msgspec.msgpack.encode(self)).digest()

    def check_round(self, config: RoundConfig) -> None:
        """Raises ParameterError unless every vote is an input of a round with this config."""
        self.encoder().check_config(config)

    def is_candidate(self, data: bytes) -> bool:
        """Whether these are the candidate's bytes."""
        return len(data) == self.size and sha256(data).digest() == self.candidate

    @property
    def values_digest(self) -> bytes:
        """32 bytes that name what a member votes on: its votes on one candidate are in one sum alone."""
        return sha256(_INPUT_LABEL + self.candidate).digest()

    def as_json(self, tally: Tally | None) -> dict[str, object]:
        """The candidate and what became of it, for a status page or ``--json``; ``tally`` is None before the end."""
        found: dict[str, object] = {"candidate": self.candidate.hex(), "candidate_bytes": self.size}
        if tally is not None:
            found |= {
                "verdict": self.ballot().verdict(tally).value,
                "objections": tally.objections,
                "voters": tally.voters,
                "counted_clients": tally.clients,
                "impossible_sums": len(tally.impossible),
            }
        return found
