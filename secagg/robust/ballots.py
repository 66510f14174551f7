"""Ballots: clients test a candidate model on their own data, and drop it together when it is worse than earlier ones.

After Andreina, Marson, Moellering and Karame, "BaFFLe: Backdoor Detection via Feedback-based Federated Learning" (ICDCS
2021): clients compare the candidate's errors by class with those of models that were accepted before, and the server
drops it when too many object.  Here a vote is a vector of two whole numbers in one more secure sum, so that the server
learns how many voted and how many objected, and not who.  In place of the paper's local outlier factor a client uses
one threshold on the rise of an error, which needs no more than a few samples of a class, and can be checked by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol, final

import numpy as np
import numpy.typing as npt

from secagg.encoding import Encoder, Exact
from secagg.errors import InputError, ParameterError

_BITS: Final = 8
_FEWEST_MORE_ERRORS: Final = 2
"""So many more samples of a class must be wrong: a single one is chance."""


class Vote(StrEnum):
    """What a client says of a candidate; whoever has too few samples abstains."""

    ACCEPT = "accept"
    OBJECT = "object"
    ABSTAIN = "abstain"


class Verdict(StrEnum):
    """What becomes of a candidate; UNDECIDED when fewer voted than the ballot asks for."""

    ACCEPTED = "accepted"
    DROPPED = "dropped"
    UNDECIDED = "undecided"


@final
@dataclass(frozen=True, slots=True, eq=False)
class ClassErrors:
    """How one model does on one client's data; it stays with the client.

    Attributes:
        wrong: shape (classes,), int64: of the samples of each class, how many the model puts into another.
        samples: shape (classes,), int64: how many there are.
    """

    wrong: npt.NDArray[np.int64]
    samples: npt.NDArray[np.int64]

    @classmethod
    def of(cls, labels: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> ClassErrors:
        """Count a client's errors.

        Args:
            labels: the true classes, 0 to classes - 1; shape (samples,).
            predicted: what the model says; shape (samples,).
            classes: how many there are.

        Raises InputError for arrays of other shapes or values.
        """
        true, found = np.asarray(labels), np.asarray(predicted)
        if true.ndim != 1 or found.shape != true.shape:
            raise InputError(f"labels have shape {true.shape} and predictions {found.shape}: both must be (samples,)")
        for name, values in (("labels", true), ("predictions", found)):
            if values.size and (values.dtype.kind not in "iu" or not 0 <= values.min() <= values.max() < classes):
                raise InputError(f"the {name} must be whole numbers from 0 to {classes - 1}")
        true = true.astype(np.int64)
        return cls(
            np.bincount(true[found != true], minlength=classes).astype(np.int64),
            np.bincount(true, minlength=classes).astype(np.int64),
        )

    def __repr__(self) -> str:
        return "<ClassErrors>"  # they are a client's data


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What the server learns of a ballot.

    Attributes:
        objections: how many object.
        voters: how many do not abstain.
        clients: how many clients are in the sums that count.
        impossible: the positions of sums that no honest votes make; they do not count.
    """

    objections: int
    voters: int
    clients: int
    impossible: tuple[int, ...] = ()


class BallotRules(Protocol):
    """What has the rules of a ballot among its own fields: what a server announces.  They are those of ``Ballot``."""

    @property
    def tolerance(self) -> float: ...
    @property
    def fewest_samples(self) -> int: ...
    @property
    def earlier(self) -> int: ...
    @property
    def objecting_share(self) -> float: ...
    @property
    def fewest_voters(self) -> int: ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """The rules of a ballot, which all clients and the server share.

    Attributes:
        tolerance: an error of a class may rise by so much above its median over the earlier models; above 0, below 1.
        fewest_samples: a class of which a client has fewer samples is left out; at least 2.
        earlier: how many earlier models count, the last ones; at least 1.
        objecting_share: the candidate is dropped when more than this share of the voters object; 0 to below 1.  It
            should be above the share of clients that may be malicious, who could veto every model otherwise.
        fewest_voters: with fewer voters the ballot decides nothing; at least 1.
    """

    tolerance: float = 0.3
    fewest_samples: int = 3
    earlier: int = 5
    objecting_share: float = 0.3
    fewest_voters: int = 1

    def __post_init__(self) -> None:
        """Raises ParameterError for a number out of its range."""
        if not 0 < self.tolerance < 1:
            raise ParameterError(f"tolerance is {self.tolerance!r}: it must be above 0 and below 1")
        if not 0 <= self.objecting_share < 1:
            raise ParameterError(f"objecting_share is {self.objecting_share!r}: it must be 0 to below 1")
        for name, value, least in (
            ("fewest_samples", self.fewest_samples, _FEWEST_MORE_ERRORS),
            ("earlier", self.earlier, 1),
            ("fewest_voters", self.fewest_voters, 1),
        ):
            if type(value) is not int or value < least:
                raise ParameterError(f"{name} is {value!r}: it must be a whole number from {least} up")

    @classmethod
    def of(cls, rules: BallotRules) -> Ballot:
        """The ballot with these rules, as an announcement has them.  Raises ParameterError for one out of its range."""
        return cls(
            tolerance=rules.tolerance,
            fewest_samples=rules.fewest_samples,
            earlier=rules.earlier,
            objecting_share=rules.objecting_share,
            fewest_voters=rules.fewest_voters,
        )

    def vote(self, candidate: ClassErrors, earlier: Sequence[ClassErrors]) -> Vote:
        """A client's vote.

        It objects when the error of any class that it has enough samples of is above the median of that class's errors
        under the last ``earlier`` models by more than ``tolerance``, and by at least two samples.  While fewer models
        than that were accepted, a client can add one that it trained itself: a first model that a poisoned round has
        spoilt is no worse than an untrained one.

        Args:
            candidate: the candidate's errors on the client's data.
            earlier: those of accepted models on the same data, the oldest first.

        Returns:
            ABSTAIN where no class has enough samples, or there is no earlier model.

        Raises InputError where the errors are not of the same data.
        """
        for one in earlier:
            if not np.array_equal(one.samples, candidate.samples):
                raise InputError("the errors of an earlier model are those on other data: compute them on the same")
        there = candidate.samples >= self.fewest_samples
        if not there.any() or not earlier:
            return Vote.ABSTAIN
        usual = np.median([one.wrong[there] for one in earlier[-self.earlier :]], axis=0)
        more = candidate.wrong[there] - usual
        worse = (more > self.tolerance * candidate.samples[there]) & (more >= _FEWEST_MORE_ERRORS)
        return Vote.OBJECT if worse.any() else Vote.ACCEPT

    def encoder(self) -> Encoder:
        """What makes a vote's vector, and whose length, input_max and modulus the round's config has.

        The vector holds two whole numbers, summed exactly: 1 for an objection, and 1 for a vote.
        """
        return Encoder({"objections": 0, "voters": 0}, clip=1.0, bits=_BITS, exact={"*": Exact(0, 1)})

    def encode(self, vote: Vote) -> npt.NDArray[np.unsignedinteger[Any]]:
        """A vote as a vector of ``encoder().length`` elements.

        A client that abstains sends one like everybody else: its absence would tell that it did.
        """
        return self.encoder().encode({"objections": int(vote is Vote.OBJECT), "voters": int(vote is not Vote.ABSTAIN)})

    def tally(self, sums: Iterable[tuple[npt.NDArray[Any], int]]) -> Tally:
        """Count the votes of a round.

        Args:
            sums: of each group, the sum of its members' vectors and how many there are; a single pair for a round
                without groups.  A client that lies can put any number into its sum.  A sum that no honest votes make
                does not count, so that in a round with groups it can at most cast the votes of its own group.
        """
        encoder = self.encoder()
        objections = voters = clients = 0
        impossible = []
        for position, (vector, count) in enumerate(sums):
            try:
                totals = encoder.decode_sum(vector, count).totals
            except InputError:
                impossible.append(position)
                continue
            objected, voted = int(totals["objections"]), int(totals["voters"])
            if objected > voted:
                impossible.append(position)
                continue
            objections, voters, clients = objections + objected, voters + voted, clients + count
        return Tally(objections=objections, voters=voters, clients=clients, impossible=tuple(impossible))

    def verdict(self, tally: Tally) -> Verdict:
        """What becomes of the candidate."""
        if tally.voters < self.fewest_voters:
            return Verdict.UNDECIDED
        return Verdict.DROPPED if tally.objections > self.objecting_share * tally.voters else Verdict.ACCEPTED
