"""Updates to ring vectors and sums of ring vectors to weighted means."""

from __future__ import annotations

import hmac
import json
import operator
import os
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from hashlib import sha256
from math import inf, nextafter
from typing import Any, Final, Literal, final

import numpy as np
import numpy.typing as npt

from secagg.arithmetic.modulus import Modulus
from secagg.encoding.arrays import RealArray, type_name
from secagg.encoding.blocks import Piece, blocks_of, gathered, not_finite
from secagg.encoding.limits import LARGEST_CLIP, LARGEST_WEIGHT, SMALLEST_CLIP
from secagg.encoding.rounding import BLOCK, Rounder, fixed_point_factor
from secagg.encoding.sums import Mean, RoundShape, SumResult, as_template, centred, check_contributors
from secagg.encoding.tail import Counts, Tail, impossible
from secagg.encoding.template import Template
from secagg.errors import InputError, ParameterError

UnsignedVector = npt.NDArray[np.unsignedinteger]

_ULP: Final = Fraction(1, 2**53)  # of float64, relative, for one operation that rounds to nearest


@final
class Encoder:
    """Turns updates into vectors of unsigned integers that can be summed, and their sum into the weighted mean.

    A value v of a client with weight w is clipped to [-clip, clip], multiplied by w / max_weight, and rounded
    stochastically (unbiased) to one of the 2^bits - 1 whole multiples of clip / (2^(bits-1) - 1), counted from 0 up.
    The mean of the roundings is the value itself up to 2^-33 + 2^(bits-51) steps.  At the end of the vector stand the
    weight, whether it is above 0, and how many values were clipped, as digits to the base 2^bits - 1: their sums are
    exact, and nobody's own are seen.

    Every finite update fits: what is too large is clipped, and a weight that is too large is clamped.  A client whose
    update were refused for its size, or left out, would tell the server that by its absence.

    Everybody in a round must use the same layout: put ``layout_digest()`` into the round's public context.  Rounding
    takes 32 fresh bytes from ``randomness`` per ``encode``; hand in another source than the system's for tests only.

    An encoder holds no update.  All calls may be made from several threads at once, on one encoder; ``clipped`` and
    ``weight_clamped`` then tell of whichever ``encode`` ended last, so threads that read them want an encoder each
    (they can share a Template).
    """

    __slots__ = (
        "_bits", "_clip", "_clipped", "_dtype", "_levels", "_max_weight", "_randomness", "_tail", "_template",
        "_weight_clamped",
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
                A larger weight is clamped to it; the error grows with max_weight / mean weight (``error_bound``).
            randomness: returns as many random bytes as asked for.

        Raises:
            ParameterError: for a parameter out of range or a template without any element.
            InputError: for a template that holds what cannot be encoded.
        """
        self._template = Template.of(template)
        if self._template.size == 0:
            raise ParameterError("the template holds no elements: pass an update with at least one number")
        self._clip = _real("clip", clip, SMALLEST_CLIP, LARGEST_CLIP)
        self._bits = _integer("bits", bits, 2, 32)
        self._levels = (1 << (self._bits - 1)) - 1
        self._max_weight = None if max_weight is None else _integer("max_weight", max_weight, 1, LARGEST_WEIGHT)
        self._tail = Tail(self._template.size, self._bits, self._max_weight)
        self._dtype: np.dtype[np.unsignedinteger] = np.min_scalar_type(self.input_max)
        self._randomness = randomness
        self._clipped: dict[str, int] = {}
        self._weight_clamped = False

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
        """Elements of the vector: the template's, and those of the weight and the counts behind them."""
        return self._template.size + self._tail.length

    @property
    def input_max(self) -> int:
        """The largest value that any element of an encoded vector can take; the smallest is 0."""
        return 2 * self._levels

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The dtype of an encoded vector: the narrowest unsigned one that holds ``input_max``."""
        return self._dtype

    @property
    def clipped(self) -> dict[str, int]:
        """How many values the last ``encode`` clipped, by the array's name; empty if none."""
        return dict(self._clipped)

    @property
    def weight_clamped(self) -> bool:
        """Whether the last ``encode`` took ``max_weight`` in place of a larger weight."""
        return self._weight_clamped

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

    def check_config(self, config: RoundShape) -> None:
        """Raises ParameterError unless every vector of this encoder is an input of a round with this config.

        It looks at public values alone, so that a client's host calls it before ``Client.start``: a round whose
        ``input_max`` were below the encoder's would ask each client, by its leaving, whether a value is above it.
        """
        if config.length != self.length:
            raise ParameterError(
                f"the round's vectors have {config.length} elements, this encoder's {self.length}: the server must "
                "make its config from an encoder of the same layout (length=encoder.length)"
            )
        if config.input_max < self.input_max:
            raise ParameterError(
                f"the round's input_max is {config.input_max}, and this encoder's elements reach {self.input_max}: "
                "the server must make its config with input_max=encoder.input_max"
            )
        self.check_capacity(config.clients, config.modulus)

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
        return sha256(b"secagg encoding layout 2\n" + text.encode("ascii")).digest()

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
            weight: an int from 0; the number of training examples, say.  A weight above ``max_weight`` is clamped to
                it.  Without max_weight only 1 is allowed.  A client of weight 0 adds nothing to the mean; whoever has
                no data does better not to join, since a mean of too few contributors is refused.

        Returns:
            A new array.  What was clipped is in ``clipped`` afterwards, and ``weight_clamped`` says whether the weight
            was clamped.

        Raises:
            InputError: names the array that is missing, unknown, of another shape, not real, or holds a NaN or an
                infinity; or the weight.
        """
        weight, clamped = self._checked_weight(weight)
        arrays = self._template.flatten(update)
        size = self._template.size
        out = np.empty(self.length, self._dtype)
        factor = fixed_point_factor(self._levels, self._clip, weight, self._max_weight or 1)
        rounder = Rounder(self._levels, self._clip, factor, self._randomness, size)
        work = np.empty(min(BLOCK, size), np.float64)
        clipped: dict[str, int] = {}
        done = 0
        for pieces in blocks_of(arrays):
            block = gathered(pieces, work)
            clip = partial(self._clip_block, block, pieces, arrays, clipped)
            rounder.round(block, out[done : done + len(block)], clip)
            done += len(block)
        self._tail.write(out[size:], weight, sum(clipped.values()) + clamped)
        self._clipped, self._weight_clamped = clipped, clamped
        return out

    def input_digest(self, update: object, weight: int = 1, *, key: bytes = b"") -> bytes:
        """32 bytes that are equal for two inputs exactly if layout, values and weight are: see ``ReleasedInputs``.

        HMAC-SHA256 over the layout's digest, the weight and the values in float64.  It is a digest of data: without a
        random ``key``, whoever reads it can try out what the data may be.

        Raises InputError as ``encode`` does, but for values that are not finite.
        """
        weight, _ = self._checked_weight(weight)
        arrays = self._template.flatten(update)
        total = hmac.new(key, b"secagg input 1\n" + self.layout_digest() + weight.to_bytes(8, "little"), "sha256")
        work = np.empty(min(BLOCK, self._template.size), np.float64)
        for pieces in blocks_of(arrays):
            total.update(gathered(pieces, work).data)
        return total.digest()

    def decode(self, result: SumResult, dtype: Literal["float64", "template"] = "float64") -> Mean:
        """The weighted mean of a round's result; at least ``result.min_survivors`` clients must contribute to it.

        Arguments and errors are those of ``decode_sum``.
        """
        return self.decode_sum(result.sum, len(result.included), dtype, min_contributors=result.min_survivors)

    def decode_sum(
        self,
        vector: npt.NDArray[Any],
        count: int,
        dtype: Literal["float64", "template"] = "float64",
        *,
        min_contributors: int = 1,
    ) -> Mean:
        """The weighted mean from the sum of ``count`` encoded vectors.

        Args:
            vector: 1-D, ``length`` elements, unsigned of any width; the plain sum, which did not wrap.
            count: how many vectors are in it.
            dtype: "float64" for float64 arrays throughout (0-d ones for Python numbers); "template" for the template's
                own: floats cast to nearest, integers and bools rounded half to even, all kept within their type's
                range (extension types, such as bfloat16, are cast by their own rules), and Python numbers where it had
                such.
            min_contributors: the fewest clients with a weight above 0; the config's ``min_survivors``.

        Raises:
            InputError: if fewer clients contribute, or no ``count`` vectors of this layout can have that sum.
        """
        if dtype not in ("float64", "template"):
            raise ParameterError(f"dtype {dtype!r}: allowed are 'float64' and 'template'")
        count = self._checked_sum(vector, count)
        counts = self._tail.read(vector[self._template.size :], count)
        check_contributors(counts, count, min_contributors)
        if self._max_weight is not None:  # else the largest element, which is checked, says it all
            self._check_reach(vector[: self._template.size], counts, count, self._max_weight)
        factor = float(self._unit(counts.weight))
        base = np.uint64(count * self._levels)
        values: list[object] = []
        for leaf in self._template.leaves:
            mean = centred(vector[leaf.start : leaf.start + leaf.size], base, factor).reshape(leaf.shape)
            values.append(mean if dtype == "float64" else as_template(mean, leaf))
        return Mean(self._template.restore(values), counts.weight, count, counts.contributors, counts.clipped)

    def __repr__(self) -> str:
        return f"Encoder({self._template!r}, clip={self._clip!r}, bits={self._bits}, max_weight={self._max_weight})"

    def _bits_needed(self, clients: int) -> int:
        return (_integer("clients", clients, 1, 2**64) * self.input_max).bit_length()

    def _unit(self, total_weight: int) -> Fraction:
        """What one step of the sum is worth in the mean: max_weight / (scale * total_weight)."""
        return Fraction(self._max_weight or 1, self._levels * total_weight) * Fraction(self._clip)

    def _checked_weight(self, weight: int) -> tuple[int, bool]:
        """The weight that counts, and whether it is less than the one given."""
        try:
            value = -1 if isinstance(weight, (bool, np.bool)) else operator.index(weight)
        except TypeError:
            value = -1
        if self._max_weight is None:
            if value != 1:
                raise InputError(
                    f"weight {weight!r}: this encoder has no weights; build it with max_weight to have them"
                )
            return 1, False
        if value < 0:
            raise InputError(f"weight {weight!r}: must be an int from 0 up; round or scale the weights")
        return min(value, self._max_weight), value > self._max_weight

    def _clip_block(
        self, block: npt.NDArray[np.float64], pieces: list[Piece], arrays: list[RealArray], clipped: dict[str, int]
    ) -> None:
        """Refuse what is not finite, count what is too large, and clip it."""
        for piece in pieces:
            values = block[piece.start : piece.stop]
            if not np.isfinite(values).all():
                raise not_finite(self._template.leaves[piece.index], arrays[piece.index])
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
            raise impossible(f"an element of {leaf.name}", int(vector[at]), count * 2 * self._levels, count)
        return count

    def _check_reach(self, elements: npt.NDArray[Any], counts: Counts, count: int, max_weight: int) -> None:
        """Values of this total weight are no larger: else a client gave less weight than it put into its values.

        A client's value is at most levels times its share of max_weight, and rounding adds less than one; the zeros of
        a client of weight 0 are not rounded.
        """
        middle = count * self._levels
        reach = -(-self._levels * counts.weight // max_weight) + counts.contributors
        for extreme in (int(elements.min()), int(elements.max())) if elements.size else ():
            if abs(extreme - middle) > reach:
                raise InputError(
                    f"a sum of values is {extreme - middle} steps from zero, and {counts.contributors} clients of "
                    f"total weight {counts.weight} can reach {reach}: a client sent what no encoder makes, or the "
                    "count or the layout is another than the clients'"
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
