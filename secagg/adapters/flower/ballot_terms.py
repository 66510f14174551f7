"""What a server announces for a ballot on a candidate model: the round's context is the digest of these bytes."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
from flwr.app import ArrayRecord

from secagg.adapters.flower.announcement import digest_of_model
from secagg.errors import ParameterError
from secagg.robust.ballots import Ballot

_LABEL: Final = b"secagg flower ballot 1\n"
"""No announcement of a training round begins like this: those begin with the head of a map in MessagePack."""
_INPUT_LABEL: Final = b"secagg flower ballot input 1\n"


class BallotTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is announced, before any node joins.

    Attributes:
        candidate: the digest of the model that is voted on; 32 bytes.
        told: the digest of what comes beside it, see ``digest_of_told``; 32 bytes.
        run_config: whether ``told`` holds the run's config too.
        tolerance, fewest_samples, earlier, objecting_share, fewest_voters: of the Ballot.
    """

    candidate: bytes
    told: bytes
    run_config: bool
    tolerance: float
    fewest_samples: int
    earlier: int
    objecting_share: float
    fewest_voters: int

    @classmethod
    def of(cls, ballot: Ballot, candidate: ArrayRecord, told: bytes, *, run_config: bool) -> BallotTerms:
        """The terms of a ballot on a candidate."""
        return cls(
            candidate=digest_of_model(candidate),
            told=told,
            run_config=run_config,
            tolerance=float(ballot.tolerance),
            fewest_samples=ballot.fewest_samples,
            earlier=ballot.earlier,
            objecting_share=float(ballot.objecting_share),
            fewest_voters=ballot.fewest_voters,
        )

    def to_bytes(self) -> bytes:
        """As they are announced."""
        return _LABEL + msgspec.msgpack.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> BallotTerms:
        """Raises ParameterError for bytes that are none, and for a ballot that has a number out of its range."""
        try:
            terms = msgspec.msgpack.decode(data.removeprefix(_LABEL), type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            raise ParameterError(f"the server's announcement of a ballot does not decode: {wrong}") from None
        terms.ballot()
        return terms

    def ballot(self) -> Ballot:
        """The rules.  Raises ParameterError for a number out of its range."""
        return Ballot.of(self)

    @property
    def input_digest(self) -> bytes:
        """32 bytes that name what a client would vote on: a client's votes on one candidate are in one sum alone."""
        return hashlib.sha256(_INPUT_LABEL + self.candidate).digest()


def announces_ballot(announcement: bytes) -> bool:
    """Whether these bytes announce a ballot, and not a round of training."""
    return announcement.startswith(_LABEL)
