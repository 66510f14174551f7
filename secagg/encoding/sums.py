"""What ``Encoder`` needs of a round, and what it makes of the round's sum."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import dataclass
from functools import lru_cache
from math import nextafter
from typing import Any, Protocol, final

import numpy as np
import numpy.typing as npt

from secagg.arithmetic.modulus import Modulus
from secagg.encoding.arrays import is_extension, type_name
from secagg.encoding.libraries import restored
from secagg.encoding.rounding import BLOCK
from secagg.encoding.tail import Counts
from secagg.encoding.template import Leaf, Template
from secagg.errors import InputError, ParameterError
from secagg.wording import counted


class SumResult(Protocol):
    """What ``Encoder.decode`` needs of a round's result."""

    @property
    def sum(self) -> npt.NDArray[Any]:
        """The sum of the encoded vectors: 1-D, unsigned."""
        ...

    @property
    def included(self) -> Sized:
        """The clients in the sum; only their number is used."""
        ...

    @property
    def min_survivors(self) -> int:
        """The fewest clients that may be in a sum; so many must contribute to a mean."""
        ...


class AttachedResult(SumResult, Protocol):
    """A round's result with what the clients' hosts attached to their answers."""

    @property
    def attachments(self) -> Mapping[int, bytes]:
        """By client."""
        ...


class RoundShape(Protocol):
    """What ``Encoder.check_config`` looks at in a round's config: public values alone."""

    @property
    def clients(self) -> int:
        """How many are invited."""
        ...

    @property
    def length(self) -> int:
        """The elements of a vector."""
        ...

    @property
    def input_max(self) -> int:
        """The largest value of an element of a client's vector."""
        ...

    @property
    def modulus(self) -> Modulus:
        """The modulus of the sum."""
        ...


class CohortShape(Protocol):
    """What says how few honest clients can be in a sum of a round."""

    @property
    def colluders(self) -> int:
        """How many clients may pool what they know with the server."""
        ...

    @property
    def min_survivors(self) -> int:
        """The fewest clients that may be in a sum."""
        ...

    @property
    def quorum(self) -> int:
        """The confirmations that a client asks for; 0 without them."""
        ...


class RoundTerms(RoundShape, CohortShape, Protocol):
    """What ``for_round`` looks at in a round's config: its shape, its cohort, and what is special to it."""

    @property
    def context(self) -> bytes:
        """The public bytes that the host ties the round to."""
        ...

    @property
    def groups(self) -> int:
        """Into how many groups the cohort is drawn, each with a sum of its own; 1 for one sum."""
        ...

    @property
    def attachment_bytes(self) -> int:
        """What each client attaches to its answer in UNMASK."""
        ...


@final
@dataclass(frozen=True, slots=True, eq=False)
class Mean:
    """A decoded sum.

    Attributes:
        mean: the weighted mean of the clipped updates, nested, named and shaped as the template.
        weight: the exact sum of the clients' weights; their number if the encoder has no weights.
        count: how many clients are in the sum.
        contributors: how many of them have a weight above 0; all of them if the encoder has no weights.
        clipped: how many values were clipped, over all clients; a weight that was reduced to
            ``max_weight`` adds one.
        totals: by the name of each exact array (``Exact``), the sum of value * weight over the clients, in units of
            10^-decimals: whole numbers of int64, or Python ints where they do not fit.
        unweighted: the names of the arrays that the weights do not multiply: their mean, and their total, are over all
            clients in the sum alike.
    """

    mean: Any
    weight: int
    count: int
    contributors: int
    clipped: int
    totals: Mapping[str, npt.NDArray[Any]]
    unweighted: frozenset[str] = frozenset()


def sums_by_name(mean: Mean, template: Template, decimals: Mapping[str, int]) -> dict[str, npt.NDArray[Any]]:
    """The weighted sums of a decoded result by array, each of the array's shape.

    Exact arrays without decimals come in int64, or uint64 where only that holds them; all others in float64, which
    has the nearest value.  A sum of whole numbers that neither type holds is in float64 as well.

    Args:
        mean: as decoded with dtype "float64".
        template: the encoder's.
        decimals: of each exact array, by name.
    """
    sums = {}
    for leaf, values in zip(template.leaves, template.flatten(mean.mean), strict=True):
        totals = mean.totals.get(leaf.name)
        if totals is None:
            weight = mean.count if leaf.name in mean.unweighted else mean.weight
            sums[leaf.name] = np.asarray(values * float(weight)).reshape(leaf.shape)
        elif decimals[leaf.name] == 0:
            sums[leaf.name] = _whole(totals)
        else:
            sums[leaf.name] = np.asarray(np.true_divide(totals, 10 ** decimals[leaf.name]), np.float64)
    return sums


def _whole(totals: npt.NDArray[Any]) -> npt.NDArray[Any]:
    for dtype in (np.int64, np.uint64):
        limits = np.iinfo(dtype)
        if totals.size == 0 or (totals.min() >= limits.min and totals.max() <= limits.max):
            return totals.astype(dtype)
    return totals.astype(np.float64)


def check_vector(vector: object, length: int) -> None:
    """Raises InputError unless it is a 1-d unsigned array of this length, as a round's sum is."""
    if not isinstance(vector, np.ndarray) or vector.ndim != 1 or vector.dtype.kind != "u":
        met = f"{vector.ndim}-d {vector.dtype}" if isinstance(vector, np.ndarray) else type_name(vector)
        raise InputError(f"the sum is {met}: pass the 1-d unsigned NumPy array of the round's result")
    if len(vector) != length:
        raise InputError(
            f"the sum has {counted(len(vector), 'element')}, this layout {length:,}: give the "
            "template and max_weight that the clients encoded with"
        )


def check_length(config: RoundShape, length: int) -> None:
    """Raises ParameterError unless the round's vectors have the ``length`` of an encoder's."""
    if config.length != length:
        raise ParameterError(
            f"the round's vectors have {counted(config.length, 'element')}, this encoder's {length:,}: the server must "
            "make its config from an encoder of the same layout (length=encoder.length)"
        )


def check_contributors(counts: Counts, count: int, least: int) -> None:
    if counts.contributors < least:
        raise InputError(
            f"{counts.contributors} of the {counted(count, 'client')} in the sum have a weight above 0, and at least "
            f"{least} must contribute (min_survivors): a mean of fewer says too much about each of them.  A client "
            "without data should not join; look at what the clients take as their weight"
        )


def centred(part: npt.NDArray[Any], base: np.uint64, factor: float) -> npt.NDArray[np.float64]:
    """(part - base) * factor in float64.

    The difference is exact: it lies within +- base < 2^63 and so survives the wrap to 64 bits.
    """
    out = np.empty(len(part), np.float64)
    for start in range(0, len(part), BLOCK):
        difference = part[start : start + BLOCK].astype(np.uint64)
        np.subtract(difference, base, out=difference)
        np.multiply(difference.view(np.int64), factor, out=out[start : start + BLOCK])
    return out


def as_template(mean: npt.NDArray[np.float64], leaf: Leaf) -> object:
    """The mean in the dtype and of the library that the template had there."""
    kind = leaf.dtype.kind
    if is_extension(leaf.dtype):
        limit = _largest_finite(leaf.dtype)
        cast = np.asarray(np.clip(mean, -limit, limit).astype(leaf.dtype))
    elif kind == "f":
        limit = float(min(np.finfo(leaf.dtype).max, np.finfo(np.float64).max))
        cast = np.asarray(np.clip(mean, -limit, limit), leaf.dtype)
    elif kind == "b":
        cast = np.asarray(np.rint(mean) >= 1)
    else:
        low, high = (float(bound) for bound in (np.iinfo(leaf.dtype).min, np.iinfo(leaf.dtype).max))
        if leaf.dtype.itemsize == 8:  # the largest float64 that the type holds: 2^63 and 2^64 are one too many
            high = nextafter(high, 0.0)
        cast = np.asarray(np.clip(np.rint(mean), low, high), leaf.dtype)
    if leaf.origin is not None:
        return restored(cast, leaf.origin)
    return cast if leaf.scalar is None else leaf.scalar(cast)


@lru_cache(maxsize=32)
def _largest_finite(dtype: np.dtype[Any]) -> float:
    """The largest value of a float extension type, which NumPy's ``finfo`` knows nothing of: some have no infinity."""
    patterns = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}")
    with np.errstate(invalid="ignore"):
        values = patterns.view(dtype).astype(np.float64)
    return float(values[np.isfinite(values)].max())
