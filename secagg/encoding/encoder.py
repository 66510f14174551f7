"""Updates to ring vectors and sums of ring vectors to weighted means."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from hashlib import sha256
from math import inf, nextafter
from typing import Any, Final, Literal, Protocol, final

import numpy as np
import numpy.typing as npt

from secagg.arithmetic.modulus import Modulus
from secagg.encoding.arrays import RealArray, type_name
from secagg.encoding.rounding import BLOCK, Rounder, fixed_point_factor
from secagg.encoding.template import Leaf, Template
from secagg.errors import InputError, ParameterError

UnsignedVector = npt.NDArray[np.unsignedinteger]

_SMALLEST_CLIP: Final = 1e-100
_LARGEST_CLIP: Final = 1e100
_LARGEST_WEIGHT: Final = 2**53
_ULP: Final = Fraction(1, 2**53)  # of float64, relative, for one operation that rounds to nearest


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


@final
@dataclass(frozen=True, slots=True, eq=False)
class Mean:
    """A decoded sum.

    Attributes:
        mean: the weighted mean of the clipped updates, nested, named and shaped as the template.
        weight: the exact sum of the clients' weights; their number if the encoder has no weights.
        count: how many clients are in it.
    """

    mean: Any
    weight: int
    count: int


@final
class Encoder:
    """Turns updates into vectors of unsigned integers that can be summed, and their sum into the weighted mean.

    A value v of a client with weight w is clipped to [-clip, clip], multiplied by w / max_weight, and rounded
    stochastically (unbiased) to one of the 2^bits - 1 whole multiples of clip / (2^(bits-1) - 1), counted from 0 up.
    The mean of the roundings is the value itself up to 2^-33 + 2^(bits-51) steps.  The weight is digits to the base
    2^bits at the end of the vector, so that the total weight is exact and nobody's own weight is seen.

    Everybody in a round must use the same layout: put ``layout_digest()`` into the round's public context.  Rounding
    takes 32 fresh bytes from ``randomness`` per ``encode``; hand in another source than the system's for tests only.

    An encoder holds no update.  All calls may be made from several threads at once, on one encoder; ``clipped`` then
    tells of whichever ``encode`` ended last, so threads that read it want an encoder each (they can share a Template).
    """

    __slots__ = (
        "_bits", "_clip", "_clipped", "_digits", "_dtype", "_levels", "_max_weight", "_randomness", "_template",
    )  # fmt: skip

    def __init__(
        self,
        template: object,
        clip: float,
        bits: int = 16,
        max_weight: int | None = None,
        *,
        randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Fix the layout.

        Args:
            template: a Template, or an update to take one from.  Its values are not kept.
            clip: largest absolute value kept, in the update's own unit; 1e-100 to 1e100.
            bits: bits of one encoded value, 2 to 32.
            max_weight: largest weight of a client, 1 to 2^53; None for a plain mean, without the weight's elements.
                The error grows with max_weight / mean weight: see ``error_bound``.
            randomness: returns as many random bytes as asked for.

        Raises:
            ParameterError: for a parameter out of range or a template without any element.
            InputError: for a template that holds what cannot be encoded.
        """
        self._template = Template.of(template)
        if self._template.size == 0:
            raise ParameterError("the template holds no elements: pass an update with at least one number")
        self._clip = _real("clip", clip, _SMALLEST_CLIP, _LARGEST_CLIP)
        self._bits = _integer("bits", bits, 2, 32)
        self._levels = (1 << (self._bits - 1)) - 1
        self._max_weight = None if max_weight is None else _integer("max_weight", max_weight, 1, _LARGEST_WEIGHT)
        self._digits = 0 if self._max_weight is None else -(-self._max_weight.bit_length() // self._bits)
        self._dtype: np.dtype[np.unsignedinteger] = np.min_scalar_type(self.input_max)
        self._randomness = randomness
        self._clipped: dict[str, int] = {}

    @property
    def template(self) -> Template:
        """The layout of an update."""
        return self._template

    @property
    def clip(self) -> float:
        """The largest absolute value that is kept."""
        return self._clip

    @property
    def bits(self) -> int:
        """Bits of one encoded value."""
        return self._bits

    @property
    def max_weight(self) -> int | None:
        """The largest weight, or None."""
        return self._max_weight

    @property
    def length(self) -> int:
        """Elements of the vector: the template's, and the digits of the weight."""
        return self._template.size + self._digits

    @property
    def input_max(self) -> int:
        """The largest value that any element of an encoded vector can take; the smallest is 0."""
        return max(2 * self._levels, self._digit_max if self._digits else 0)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The dtype of an encoded vector: the narrowest unsigned one that holds ``input_max``."""
        return self._dtype

    @property
    def clipped(self) -> dict[str, int]:
        """How many values the last ``encode`` clipped, by the array's name; empty if none."""
        return dict(self._clipped)

    @property
    def _digit_max(self) -> int:
        return min(self._max_weight or 0, (1 << self._bits) - 1)

    def modulus_for(self, clients: int) -> Modulus:
        """The smallest ring 2^b that holds the sum of this many clients' vectors, 2^b > clients * input_max.

        Raises ParameterError if that takes more than 64 bits.
        """
        bits = self._bits_needed(clients)
        if bits > 64:
            raise ParameterError(
                f"{clients} clients with elements up to {self.input_max} need a ring of {bits} bits, and 64 is the "
                f"most: use fewer bits than {self._bits} per value, or fewer clients"
            )
        return Modulus.ring(bits)

    def check_capacity(self, clients: int, modulus: Modulus) -> None:
        """Raises ParameterError unless the sum of this many clients' vectors stays below the modulus."""
        bits = self._bits_needed(clients)
        if modulus.value <= clients * self.input_max:
            raise ParameterError(
                f"modulus {modulus} cannot hold the sum: {clients} clients with elements up to {self.input_max} reach "
                f"{clients * self.input_max}, which needs a ring of {bits} bits; widen the modulus, or use fewer bits "
                f"than {self._bits} per value or fewer clients"
            )

    def layout_digest(self) -> bytes:
        """32 bytes that are equal for two encoders exactly if their vectors can be summed.

        SHA-256 of a canonical description: clip, bits, max_weight, and path and shape of every array in order.  Dtypes
        and the kind of container do not enter: a float32 PyTorch client and a float64 NumPy server share a layout.
        """
        description = {
            "arrays": [[leaf.keys, leaf.shape] for leaf in self._template.leaves],
            "bits": self._bits,
            "clip": self._clip.hex(),
            "max_weight": self._max_weight,
        }
        text = json.dumps(description, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
        return sha256(b"secagg encoding layout 1\n" + text.encode("ascii")).digest()

    def error_bound(self, count: int, total_weight: int | None = None) -> float:
        """The most by which any decoded value can differ from the true weighted mean of the clipped values.

        B = count * max_weight / (scale * total_weight), scale = (2^(bits-1) - 1) / clip, plus what float64 rounding can
        add, less than (B + clip) * 2^-50 + B * 2^(bits-51).  Without weights total_weight is count, and B one step,
        1 / scale.  It is a worst case: the roundings are independent with mean zero, so that the standard error is at
        most B / (2 sqrt(count)).

        Raises ParameterError for a count or weight out of range.
        """
        count = _integer("count", count, 1, 2**64)
        if self._max_weight is None:
            total_weight = _integer("total_weight", count if total_weight is None else total_weight, count, count)
        elif total_weight is None:
            raise ParameterError("total_weight is missing: this encoder has weights, so pass their sum")
        else:
            total_weight = _integer("total_weight", total_weight, 1, count * self._max_weight)
        # Eight roundings on the way to the fixed point, in units of a step: levels * 8 ulp; four on the way back.
        per_client = 1 + 8 * _ULP * self._levels
        bound = count * per_client * self._unit(total_weight)
        return nextafter(float(bound + 4 * _ULP * (Fraction(self._clip) + bound)), inf)

    def encode(self, update: object, weight: int = 1) -> UnsignedVector:
        """One client's update as a vector of ``length`` elements of ``dtype``: 1-D, C-contiguous, each 0 .. input_max.

        Args:
            update: nested and shaped as the template, of any real dtypes; see Template.
            weight: 0 to max_weight; the number of training examples, say.  Without max_weight only 1 is allowed.

        Returns:
            A new array.  How many of the update's values were clipped is in ``clipped`` afterwards.

        Raises:
            InputError: names the array that is missing, unknown, of another shape, not real, or holds a NaN or an
                infinity; or the weight.
        """
        weight = self._checked_weight(weight)
        arrays = self._template.flatten(update)
        size = self._template.size
        out = np.empty(self.length, self._dtype)
        factor = fixed_point_factor(self._levels, self._clip, weight, self._max_weight or 1)
        rounder = Rounder(self._levels, self._clip, factor, self._randomness, size)
        work = np.empty(min(BLOCK, size), np.float64)
        clipped: dict[str, int] = {}
        done = 0
        for pieces in _blocks(arrays):
            block = _gathered(pieces, work)
            clip = partial(self._clip_block, block, pieces, arrays, clipped)
            rounder.round(block, out[done : done + len(block)], clip)
            done += len(block)
        for digit in range(self._digits):
            out[size + digit] = (weight >> (digit * self._bits)) & ((1 << self._bits) - 1)
        self._clipped = clipped
        return out

    def decode(self, result: SumResult, dtype: Literal["float64", "template"] = "float64") -> Mean:
        """The weighted mean of a round's result: ``decode_sum(result.sum, len(result.included), dtype)``."""
        return self.decode_sum(result.sum, len(result.included), dtype)

    def decode_sum(
        self, vector: npt.NDArray[Any], count: int, dtype: Literal["float64", "template"] = "float64"
    ) -> Mean:
        """The weighted mean from the sum of ``count`` encoded vectors.

        Args:
            vector: 1-D, ``length`` elements, unsigned of any width; the plain sum, which did not wrap.
            count: how many vectors are in it.
            dtype: "float64" for float64 arrays throughout (0-d ones for Python numbers); "template" for the template's
                own: floats cast to nearest, integers and bools rounded half to even, all kept within their type's
                range (extension types, such as bfloat16, are cast by their own rules), and Python numbers where it had
                such.

        Raises:
            InputError: if the total weight is zero, or no ``count`` vectors of this layout can have that sum.
        """
        if dtype not in ("float64", "template"):
            raise ParameterError(f"dtype {dtype!r}: allowed are 'float64' and 'template'")
        count = self._checked_sum(vector, count)
        weight = self._total_weight(vector, count)
        if self._max_weight is not None:  # else the largest element, which is checked, says it all
            self._check_reach(vector[: self._template.size], weight, count, self._max_weight)
        factor = float(self._unit(weight))
        base = np.uint64(count * self._levels)
        values: list[object] = []
        for leaf in self._template.leaves:
            mean = _centred(vector[leaf.start : leaf.start + leaf.size], base, factor).reshape(leaf.shape)
            values.append(mean if dtype == "float64" else _as_template(mean, leaf))
        return Mean(self._template.restore(values), weight, count)

    def __repr__(self) -> str:
        return f"Encoder({self._template!r}, clip={self._clip!r}, bits={self._bits}, max_weight={self._max_weight})"

    def _bits_needed(self, clients: int) -> int:
        return (_integer("clients", clients, 1, 2**64) * self.input_max).bit_length()

    def _unit(self, total_weight: int) -> Fraction:
        """What one step of the sum is worth in the mean: max_weight / (scale * total_weight)."""
        return Fraction(self._max_weight or 1, self._levels * total_weight) * Fraction(self._clip)

    def _checked_weight(self, weight: int) -> int:
        try:
            value = -1 if isinstance(weight, (bool, np.bool)) else operator.index(weight)
        except TypeError:
            value = -1
        if self._max_weight is None and value != 1:
            raise InputError(f"weight {weight!r}: this encoder has no weights; build it with max_weight to have them")
        if self._max_weight is not None and not 0 <= value <= self._max_weight:
            raise InputError(
                f"weight {weight!r}: must be an int from 0 to {self._max_weight}, the encoder's max_weight; "
                "scale the weights, or agree on a larger max_weight"
            )
        return value

    def _clip_block(
        self, block: npt.NDArray[np.float64], pieces: list[_Piece], arrays: list[RealArray], clipped: dict[str, int]
    ) -> None:
        """Refuse what is not finite, count what is too large, and clip it."""
        for piece in pieces:
            values = block[piece.start : piece.stop]
            if not np.isfinite(values).all():
                raise _not_finite(self._template.leaves[piece.index], arrays[piece.index])
            beyond = int(np.count_nonzero(np.abs(values) > self._clip))
            if beyond:
                name = self._template.leaves[piece.index].name
                clipped[name] = clipped.get(name, 0) + beyond
        np.clip(block, -self._clip, self._clip, out=block)

    def _checked_sum(self, vector: npt.NDArray[Any], count: int) -> int:
        if not isinstance(vector, np.ndarray) or vector.ndim != 1 or vector.dtype.kind != "u":
            met = f"{vector.ndim}-d {vector.dtype}" if isinstance(vector, np.ndarray) else type_name(vector)
            raise InputError(f"the sum is {met}: pass the 1-d unsigned NumPy array of the round's result")
        if len(vector) != self.length:
            raise InputError(
                f"the sum has {len(vector)} elements, this layout {self.length}: template and max_weight must be those "
                "that the clients encoded with"
            )
        try:
            count = _integer("count", count, 1, (2**64 - 1) // self.input_max)
        except ParameterError as refused:
            raise InputError(f"{refused}: it is the number of clients in the sum") from None
        size = self._template.size
        if int(vector[:size].max()) > count * 2 * self._levels:
            at = int(vector[:size].argmax())
            leaf = next(leaf for leaf in self._template.leaves if at < leaf.start + leaf.size)
            raise self._impossible(f"an element of {leaf.name}", int(vector[at]), count * 2 * self._levels, count)
        return count

    def _total_weight(self, vector: npt.NDArray[Any], count: int) -> int:
        if self._max_weight is None:
            return count
        digits = [int(digit) for digit in vector[self._template.size :]]
        if max(digits) > count * self._digit_max:
            raise self._impossible("a digit of the weight", max(digits), count * self._digit_max, count)
        weight = sum(digit << (index * self._bits) for index, digit in enumerate(digits))
        if weight > count * self._max_weight:
            raise self._impossible("the total weight", weight, count * self._max_weight, count)
        if weight == 0:
            raise InputError(f"all {count} clients in the sum have weight 0, so that there is no mean: skip this round")
        return weight

    def _check_reach(self, elements: npt.NDArray[Any], weight: int, count: int, max_weight: int) -> None:
        """Values of this total weight are no larger: else a client gave less weight than it put into its values.

        A client's value is at most levels times its share of max_weight, and rounding adds less than one.
        """
        middle = count * self._levels
        reach = -(-self._levels * weight // max_weight) + count
        for extreme in (int(elements.min()), int(elements.max())) if elements.size else ():
            if abs(extreme - middle) > reach:
                raise InputError(
                    f"a sum of values is {extreme - middle} steps from zero, and {count} clients of total weight "
                    f"{weight} can reach {reach}: a client sent what no encoder makes, or the count or the layout is "
                    "another than the clients'"
                )

    def _impossible(self, what: str, met: int, allowed: int, count: int) -> InputError:
        return InputError(
            f"{what} is {met} in the sum, and {count} clients can reach {allowed}: the count or the layout is another "
            "than the clients', the modulus is too small for them (check_capacity), or a client sent what no encoder "
            "makes"
        )


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of one array's elements, and where in the block it goes."""

    index: int
    values: RealArray
    start: int
    stop: int


def _blocks(arrays: list[RealArray]) -> Iterator[list[_Piece]]:
    """Cut the flat vector into blocks of BLOCK elements, each a list of runs; the last block may be shorter."""
    pieces: list[_Piece] = []
    filled = 0
    for index, array in enumerate(arrays):
        taken = 0
        while taken < array.size:
            size = min(array.size - taken, BLOCK - filled)
            pieces.append(_Piece(index, array[taken : taken + size], filled, filled + size))
            taken += size
            filled += size
            if filled == BLOCK:
                yield pieces
                pieces, filled = [], 0
    if pieces:
        yield pieces


def _gathered(pieces: list[_Piece], work: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """One block as float64.  All is looked at in this copy: the update may be another thread's live memory."""
    with np.errstate(over="ignore", invalid="ignore"):  # long double beyond float64: refused later as infinite
        for piece in pieces:
            work[piece.start : piece.stop] = piece.values
    return work[: pieces[-1].stop]


def _centred(part: npt.NDArray[Any], base: np.uint64, factor: float) -> npt.NDArray[np.float64]:
    """(part - base) * factor in float64.

    The difference is exact: it lies within +- base < 2^63 and so survives the wrap to 64 bits.
    """
    out = np.empty(len(part), np.float64)
    for start in range(0, len(part), BLOCK):
        difference = part[start : start + BLOCK].astype(np.uint64)
        np.subtract(difference, base, out=difference)
        np.multiply(difference.view(np.int64), factor, out=out[start : start + BLOCK])
    return out


def _as_template(mean: npt.NDArray[np.float64], leaf: Leaf) -> object:
    kind = leaf.dtype.kind
    if kind == "V":
        cast = np.asarray(mean.astype(leaf.dtype))
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
    return cast if leaf.scalar is None else leaf.scalar(cast)


def _not_finite(leaf: Leaf, array: RealArray) -> InputError:
    with np.errstate(over="ignore", invalid="ignore"):
        values = array.astype(np.float64)
    bad = ~np.isfinite(values)
    nans, total = int(np.count_nonzero(np.isnan(values))), int(np.count_nonzero(bad))
    index = [int(axis) for axis in np.unravel_index(int(bad.argmax()), leaf.shape)]
    place = f", the first at index {index}" if index else ""
    return InputError(
        f"{leaf.name} holds {nans} NaN and {total - nans} infinite values among {leaf.size}{place}: only finite values "
        "can be summed; look for the training step that diverged, or leave this round out"
    )


def _integer(name: str, value: object, low: int, high: int) -> int:
    try:
        number = None if isinstance(value, (bool, np.bool)) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or not low <= number <= high:
        allowed = f"{low}" if low == high else f"an int from {low} to {high}"
        raise ParameterError(f"{name} is {value!r}: must be {allowed}")
    return number


def _real(name: str, value: object, low: float, high: float) -> float:
    number = float(value) if isinstance(value, np.floating) else value  # a float32 would compare in float32
    real = isinstance(number, (int, float, np.integer)) and not isinstance(number, bool)
    if not real or not low <= number <= high:  # type: ignore[operator]
        raise ParameterError(f"{name} is {value!r}: must be a number from {low} to {high}")
    return float(number)  # type: ignore[arg-type]
