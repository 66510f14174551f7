"""Updates to ring vectors and sums of ring vectors to weighted means."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt

from secagg.arithmetic.modulus import Modulus
from secagg.encoding.blocks import values_digest
from secagg.encoding.exact import Exact, ExactPart
from secagg.encoding.limits import (
    FEWEST_BITS,
    LARGEST_CLIP,
    LARGEST_WEIGHT,
    MOST_BITS,
    SMALLEST_CLIP,
    integer,
    real,
)
from secagg.encoding.rounded import RoundedPart
from secagg.encoding.settings import Coarse, matched, settings_of
from secagg.encoding.sums import (
    Mean,
    RoundShape,
    SumResult,
    as_template,
    check_contributors,
    check_length,
    check_vector,
)
from secagg.encoding.tail import Tail
from secagg.encoding.template import Template
from secagg.encoding.weights import checked_weight
from secagg.errors import InputError, ParameterError
from secagg.wording import counted

UnsignedVector = npt.NDArray[np.unsignedinteger]


@final
class Encoder:
    """Turns updates into vectors of unsigned integers that can be summed, and their sum into the weighted mean.

    A value v of a client with weight w is clipped to [-clip, clip], multiplied by w / max_weight, and rounded
    stochastically (unbiased) to one of the 2^bits - 1 whole multiples of clip / (2^(bits-1) - 1), counted from 0 up.
    The mean of the roundings is the value itself up to 2^-33 + 2^(bits-51) steps.  Single arrays can have a clip or a
    number of bits of their own, or be summed exactly (``Exact``): such an array takes several elements a value, where
    one is too narrow, and stands behind the others.  At the end of the vector stand the weight, whether it is above 0,
    and how many values were clipped, as digits to the base 2^bits - 1: their sums are exact, and nobody's own are seen.

    Every finite update fits (R-JOIN-4): what is too large is clipped, and a weight that is too large is clamped.  A
    client whose update were refused for its size, or left out, would tell the server that by its absence.

    Everybody in a round must use the same layout: put ``layout_digest()`` into the round's public context.  Rounding
    takes 32 fresh bytes from ``randomness`` per ``encode`` for each number of bits that arrays have; hand in another
    source than the system's for tests only.

    An encoder holds no update.  All calls may be made from several threads at once, on one encoder; ``clipped`` and
    ``weight_clamped`` then tell of whichever ``encode`` ended last, so threads that read them want an encoder each
    (they can share a Template).
    """

    __slots__ = (
        "_bits", "_clip", "_clipped", "_dtype", "_exact", "_max_weight", "_randomness", "_rounded", "_settings",
        "_tail", "_template", "_unweighted", "_weight_clamped",
    )  # fmt: skip

    def __init__(
        self,
        template: object,
        clip: float,
        bits: int = 16,
        max_weight: int | None = None,
        *,
        clips: Mapping[str, float] | None = None,
        array_bits: Mapping[str, int] | None = None,
        exact: Mapping[str, Exact] | None = None,
        unweighted: Collection[str] = (),
        randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Fix the layout.

        Args:
            template: a Template, or an update to take one from.  Its values are not kept.
            clip: largest absolute value kept, in the update's own unit; 1e-100 to 1e100.
            bits: bits of one encoded value, 2 to 32.
            max_weight: largest weight of a client, 1 to 2^53; None for a plain mean, without the weight's elements.
                A larger weight is clamped to it; the error grows with max_weight / mean weight (``error_bound``).
            clips, array_bits, exact: other settings for single arrays, by name or by pattern (``{"*.running_var":
                50.0}``); the first pattern that matches counts.  An exact array has neither clip nor bits.  An array
                with more bits than ``bits`` takes more elements of the vector, one with fewer is no shorter for it.
            unweighted: the arrays, by name or by pattern, that a client's weight does not multiply: their mean is over
                all clients in the sum alike, those of weight 0 among them.  Times their number, it is a plain sum.
            randomness: returns as many random bytes as asked for.

        Raises:
            ParameterError: for a parameter out of range or a template without any element.
            InputError: for a template that holds what cannot be encoded.
        """
        self._template = Template.of(template)
        if self._template.size == 0:
            raise ParameterError("the template holds no elements: pass an update with at least one number")
        self._clip = real("clip", clip, SMALLEST_CLIP, LARGEST_CLIP)
        self._bits = integer("bits", bits, FEWEST_BITS, MOST_BITS)
        self._max_weight = None if max_weight is None else integer("max_weight", max_weight, 1, LARGEST_WEIGHT)
        self._settings = settings_of(self._template, self._clip, self._bits, clips, array_bits, exact)
        names = {leaf.name: None for leaf in self._template.leaves}
        self._unweighted = matched("unweighted", names, unweighted) if self._max_weight is not None else frozenset()
        self._rounded, self._exact = self._parts()
        self._tail = Tail(self._template.size, self.input_max + 1, self._max_weight)
        self._dtype: np.dtype[np.unsignedinteger] = np.min_scalar_type(self.input_max)
        self._randomness = randomness
        self._clipped: dict[str, int] = {}
        self._weight_clamped = False

    def _parts(self) -> tuple[list[tuple[tuple[int, ...], RoundedPart]], list[tuple[int, ExactPart]]]:
        """The vector's parts in order, each with the positions of its arrays in the template."""
        leaves, base = self._template.leaves, self.input_max + 1
        # The weighted arrays of the encoder's own bits come first.
        alike: dict[tuple[int, int | None], dict[int, float]] = {(self._bits, self._max_weight): {}}
        exact: list[tuple[int, ExactPart]] = []
        for index, (leaf, setting) in enumerate(zip(leaves, self._settings, strict=True)):
            max_weight = None if leaf.name in self._unweighted else self._max_weight
            if isinstance(setting, Exact):
                exact.append((index, ExactPart(leaf, setting, base, max_weight)))
            elif leaf.size:
                alike.setdefault((setting.bits, max_weight), {})[index] = setting.clip
        rounded = [
            (
                tuple(clips),
                RoundedPart([leaves[index] for index in clips], clips.values(), bits, base, max_weight),
            )
            for (bits, max_weight), clips in alike.items()
            if clips
        ]
        return rounded, exact

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
        rounded = sum(part.length for _, part in self._rounded)
        return rounded + sum(part.length for _, part in self._exact) + self._tail.length

    @property
    def input_max(self) -> int:
        """The largest value that any element of an encoded vector can take; the smallest is 0."""
        return (1 << self._bits) - 2

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
                f"{counted(clients, 'client')} with elements up to {self.input_max} need a ring of {bits} bits, and 64 "
                f"is the most: use fewer bits than {self._bits} per value, or fewer clients"
            )
        return Modulus.ring(bits)

    def check_capacity(self, clients: int, modulus: Modulus) -> None:
        """Raises ParameterError unless the sum of this many clients' vectors stays below the modulus."""
        bits = self._bits_needed(clients)
        if modulus.value <= clients * self.input_max:
            raise ParameterError(
                f"modulus {modulus} cannot hold the sum: {counted(clients, 'client')} with elements up to "
                f"{self.input_max} reach {clients * self.input_max}, which needs a ring of {bits} bits; widen the "
                f"modulus, or use fewer bits than {self._bits} per value or fewer clients"
            )

    def check_config(self, config: RoundShape) -> None:
        """Raises ParameterError unless every vector of this encoder is an input of a round with this config.

        R-JOIN-3: it looks at public values alone, so that a client's host calls it before ``Client.start``: a round
        whose ``input_max`` were below the encoder's would ask each client, by its leaving, whether a value is above it.
        """
        check_length(config, self.length)
        if config.input_max < self.input_max:
            raise ParameterError(
                f"the round's input_max is {config.input_max}, and this encoder's elements reach {self.input_max}: "
                "the server must make its config with input_max=encoder.input_max"
            )
        self.check_capacity(config.clients, config.modulus)

    def for_round(self, config: RoundShape) -> Encoder:
        """This encoder, after ``check_config``: what an encoder that differs from round to round has to offer."""
        self.check_config(config)
        return self

    def check_precision(self) -> None:
        """Raises ParameterError for a layout in which a client of weight 1 adds more rounding than its values.

        A value is rounded to whole steps of clip / (2^(bits-1) - 1) after it was multiplied by weight / max_weight:
        with max_weight above the number of steps in a clip, a client of weight 1 has no whole step to give.
        """
        for members, part in self._rounded:
            if (part.max_weight or 1) > part.levels:
                name, bits = self._template.leaves[members[0]].name, (part.max_weight or 1).bit_length() + 1
                remedy = (
                    f"give it {bits} bits or more"
                    if bits <= MOST_BITS
                    else f"sum it exactly (Exact), or use {MOST_BITS} bits"
                )
                raise ParameterError(
                    f"max_weight is {self._max_weight}, and a value of {name} has {part.levels} steps up to its clip: "
                    f"what a client of weight 1 gives would be lost in the rounding; {remedy}, or lower max_weight"
                )

    def coarse(self, update: object, weight: int = 1) -> dict[str, Coarse]:
        """By name, the arrays of one client's update that are small beside what the rounding may add to them.

        Those whose largest absolute value is less than a hundred times the rounding that a client of this weight may
        add, and arrays that the clip cuts to less than a hundredth.  For a warning to that client's own operator: it
        tells of the data.

        Raises InputError as ``encode`` does, but for values that are not finite.
        """
        weight, _ = checked_weight(weight, self._max_weight)
        found = {}
        for leaf, array, setting in zip(
            self._template.leaves, self._template.flatten(update), self._settings, strict=True
        ):
            if isinstance(setting, Exact) or not array.size:
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                largest = max(abs(float(array.max())), abs(float(array.min())))
            weighs = leaf.name not in self._unweighted
            rounding = setting.step * ((self._max_weight or 1) / max(weight, 1) if weighs else 1)
            if 0 < largest < 100 * rounding or largest > 100 * setting.clip:
                found[leaf.name] = Coarse(largest, setting.clip, rounding)
        return found

    def layout_digest(self) -> bytes:
        """32 bytes that are equal for two encoders exactly if their vectors can be summed.

        SHA-256 of a canonical description: bits, max_weight, and path, shape and setting of every array in order.
        Dtypes and the kind of container do not enter: a float32 PyTorch client and a float64 NumPy server share a
        layout.
        """
        leaves = zip(self._template.leaves, self._settings, strict=True)
        description = {
            "arrays": [
                [leaf.keys, leaf.shape, setting.described(), *(["unweighted"] if leaf.name in self._unweighted else [])]
                for leaf, setting in leaves
            ],
            "bits": self._bits,
            "max_weight": self._max_weight,
        }
        text = json.dumps(description, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
        return sha256(b"secagg encoding layout 2\n" + text.encode("ascii")).digest()

    def error_bound(self, count: int, total_weight: int | None = None, name: str | None = None) -> float:
        """The most by which a decoded value can differ from the true weighted mean of the clipped values.

        Of array ``name``, or the largest of all arrays.  B = count * max_weight / (scale * total_weight), scale =
        (2^(bits-1) - 1) / clip, plus what float64 rounding can add, less than (B + clip) * 2^-50 + B * 2^(bits-51) for
        arrays without a clip of their own.  Without weights total_weight is count, and B one step, 1 / scale.  It is a
        worst case: the roundings are independent with mean zero, so that the standard error is at most
        B / (2 sqrt(count)).  An exact array's mean is off by the rounding of a float64 alone.

        Raises ParameterError for a count or weight out of range, or a name that is no array's.
        """
        bounds = self.error_bounds(count, total_weight)
        if name is None:
            return max(bounds.values())
        if name not in bounds:
            raise ParameterError(f"name is {name!r}: must be one of {', '.join(bounds)}")
        return bounds[name]

    def error_bounds(self, count: int, total_weight: int | None = None) -> dict[str, float]:
        """``error_bound`` of every array that has elements, by name."""
        count = integer("count", count, 1, 2**64)
        if self._max_weight is None:
            total_weight = integer("total_weight", count if total_weight is None else total_weight, count, count)
        elif total_weight is None:
            raise ParameterError("total_weight is missing: this encoder has weights, so pass their sum")
        else:
            total_weight = integer("total_weight", total_weight, 1, count * self._max_weight)
        leaves = self._template.leaves
        bounds = {
            leaves[index].name: part.error_bound(position, count, count if part.max_weight is None else total_weight)
            for members, part in self._rounded
            for position, index in enumerate(members)
        }
        return bounds | {leaves[index].name: part.error_bound() for index, part in self._exact}

    def encode(self, update: object, weight: int = 1) -> UnsignedVector:
        """One client's update as a vector of ``length`` elements of ``dtype``: 1-D, C-contiguous, each 0 .. input_max.

        Args:
            update: nested and shaped as the template, of any real dtypes; see Template.
            weight: a whole number from 0 up, such as the number of training examples.  A weight above
                ``max_weight`` is reduced to it.  Without max_weight only 1 is allowed.  A client of weight 0 adds
                nothing to the mean; whoever has no data does better not to join, since a mean of too few
                contributors is refused.

        Returns:
            A new array.  What was clipped is in ``clipped`` afterwards, and ``weight_clamped`` says whether the weight
            was clamped.

        Raises:
            InputError: names the array that is missing, unknown, of another shape, not real, or holds a NaN or an
                infinity; or the weight.
        """
        weight, clamped = checked_weight(weight, self._max_weight)
        arrays = self._template.flatten(update)
        out = np.empty(self.length, self._dtype)
        clipped: dict[str, int] = {}
        start = 0
        for members, rounded in self._rounded:
            values = [arrays[index] for index in members]
            own = 1 if rounded.max_weight is None else weight
            rounded.encode(values, own, out[start : start + rounded.length], clipped, self._randomness)
            start += rounded.length
        for index, exact in self._exact:
            own = 1 if exact.max_weight is None else weight
            exact.encode(arrays[index], own, out[start : start + exact.length], clipped)
            start += exact.length
        self._tail.write(out[start:], weight, sum(clipped.values()) + clamped)
        self._clipped, self._weight_clamped = clipped, clamped
        return out

    def input_digest(self, update: object, *, key: bytes = b"") -> bytes:
        """32 bytes that are equal for two updates exactly if their values are: see ``ReleasedInputs``.

        HMAC-SHA256 over the values in float64, in the template's order.  Neither the layout nor the weight enters: a
        server that names a clip one ulp larger asks for the same input again.  It is a digest of data: without a random
        ``key``, whoever reads it can try out what the data may be.

        Raises InputError as ``encode`` does, but for values that are not finite.
        """
        return values_digest(self._template.flatten(update), key)

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
                range, and Python numbers, PyTorch tensors (of their own dtype, on the CPU) and JAX arrays where it had
                such: ``model.load_state_dict(encoder.decode(result, "template").mean)``.
            min_contributors: the fewest clients with a weight above 0; the config's ``min_survivors``.

        Raises:
            InputError: if fewer clients contribute, or no ``count`` vectors of this layout can have that sum.
        """
        if dtype not in ("float64", "template"):
            raise ParameterError(f"dtype {dtype!r}: allowed are 'float64' and 'template'")
        count = self._checked_sum(vector, count)
        counts = self._tail.read(vector[len(vector) - self._tail.length :], count)
        check_contributors(counts, count, min_contributors)
        leaves, totals, start = self._template.leaves, {}, 0
        means = [np.zeros(leaf.shape if leaf.size == 0 else 0) for leaf in leaves]
        for members, rounded in self._rounded:
            part = vector[start : start + rounded.length]
            own_counts = counts if rounded.max_weight is not None else counts.without_weights(count)
            for index, mean in zip(members, rounded.decode(part, own_counts, count), strict=True):
                means[index] = mean
            start += rounded.length
        for index, exact in self._exact:
            part = vector[start : start + exact.length]
            weight = count if exact.max_weight is None else counts.weight
            means[index], totals[leaves[index].name] = exact.decode(part, weight, count)
            start += exact.length
        values: list[object] = [*means]
        if dtype == "template":
            values = [as_template(mean, leaf) for mean, leaf in zip(means, leaves, strict=True)]
        return Mean(
            mean=self._template.restore(values),
            weight=counts.weight,
            count=count,
            contributors=counts.contributors,
            clipped=counts.clipped,
            totals=totals,
            unweighted=self._unweighted,
        )

    def __repr__(self) -> str:
        return f"Encoder({self._template!r}, clip={self._clip!r}, bits={self._bits}, max_weight={self._max_weight})"

    def _bits_needed(self, clients: int) -> int:
        return (integer("clients", clients, 1, 2**64) * self.input_max).bit_length()

    def _checked_sum(self, vector: npt.NDArray[Any], count: int) -> int:
        check_vector(vector, self.length)
        try:
            return integer("count", count, 1, (2**64 - 1) // self.input_max)
        except ParameterError as refused:
            raise InputError(f"{refused}: it is the number of clients in the sum") from None
