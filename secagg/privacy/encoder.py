"""Updates to noisy ring vectors, and sums of those to means."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from copy import copy
from fractions import Fraction
from hashlib import sha256
from math import nextafter
from typing import Any, Final, Literal, final

import numpy as np
import numpy.typing as npt

from secagg.arithmetic.modulus import Modulus
from secagg.encoding.blocks import values_digest
from secagg.encoding.limits import LARGEST_WEIGHT, integer, real
from secagg.encoding.sums import (
    AttachedResult,
    RoundShape,
    RoundTerms,
    SumResult,
    check_length,
    check_vector,
)
from secagg.encoding.template import Template
from secagg.encoding.weights import checked_weight
from secagg.errors import InputError, ParameterError, StateError
from secagg.primitives.calls import ClearedOnError
from secagg.privacy.flat_updates import divided, gather
from secagg.privacy.keys import EncodingKeys
from secagg.privacy.parameters import Mechanism
from secagg.privacy.perturbation import SHRINK, Scaling, clips_of, perturb
from secagg.privacy.private_mean import PrivateMean
from secagg.privacy.removal import ATTACHMENT_BYTES, MOST_LEVELS, NoiseLevels
from secagg.privacy.rotation import scale_and_sign, signs_of, transform
from secagg.privacy.wrapping import centred_values, spread_of, wrapping_share
from secagg.wording import counted

UnsignedVector = npt.NDArray[np.unsignedinteger]

_LABEL: Final = b"secagg private layout 1\n"
_MOST_CLIENTS: Final = 2**32


@final
class PrivateEncoder:
    """Turns updates into vectors modulo 2^b with noise of their own, and sums of those into means with all the noise.

    It stands where ``Encoder`` stands: the same template, the same calls.  An update is shortened to the mechanism's
    clip in L2 norm, rotated at random, counted in steps, rounded stochastically, and gets its share of the noise; see
    ``secagg.privacy.noise`` and specs/distributed-dp.md.  What somebody who sees the sum can learn about one client
    follows from the mechanism and from the number of honest clients in the sum, whatever the updates are; nothing
    else that depends on data is in the vector: no count of clipped values, no count of contributors.

    The rotation differs from round to round: ``for_round`` gives the encoder of one round, from the config's context.

    With ``max_weight`` the mean is weighted.  The update, clipped to sqrt(clip^2 - weight_clip^2), and one more
    coordinate that is ``weight_clip`` are both multiplied by weight / max_weight, so that the norm of all is still at
    most ``clip``, and the weight has noise as everything else has.

    Time.  Which rounding is taken (see ``Mechanism.rounding_failure``) depends on the update.  Eight are always worked
    out, and in hardly any round another eight; a host that would not show the server even that encodes before it joins
    (``Client.start``), when the server cannot tell that time from other delays.

    An encoder holds no update.  All calls may be made from several threads at once; ``clip_factor`` and
    ``weight_clamped`` then tell of whichever ``encode`` ended last.
    """

    __slots__ = (
        "_clip_factor",
        "_context",
        "_dtype",
        "_levels",
        "_max_weight",
        "_mechanism",
        "_noise_levels",
        "_randomness",
        "_scaling",
        "_template",
        "_update_clip",
        "_weight_clamped",
        "_weight_clip",
    )  # fmt: skip

    def __init__(
        self,
        template: object,
        mechanism: Mechanism,
        *,
        max_weight: int | None = None,
        weight_clip: float | None = None,
        levels: int = 0,
        randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Fix the layout.

        Args:
            template: a Template, or an update to take one from.  Its values are not kept.
            mechanism: what is done to an update; its length must be ``coordinates(template, max_weight)``.
            max_weight: largest weight of a client, 1 to 2^53; a larger one is clamped to it.  None for a plain mean.
            weight_clip: what the weight's coordinate is at full weight, in the unit of the update, below the
                mechanism's clip: a quarter of it when not given, which costs the update 3% of its clip.  A larger one
                makes the sum of the weights more precise and everything else less.
            levels: how finely the noise is fitted to the clients that are lost, 0 to 64: see
                ``secagg.privacy.removal``.  0 leaves in every sum the noise that the most losses ask for.  With levels
                the round needs version 2 of the wire and ``attachment_bytes`` of 32, and a client encodes with
                ``encode_in_levels``.
            randomness: returns as many random bytes as asked for; 32 for each ``encode``.  Whoever knows them can take
                the noise off: hand in another source than the system's for tests only.

        Raises:
            ParameterError: for a parameter out of range, a template without any element, or a mechanism for another
                number of coordinates.
            InputError: for a template that holds what cannot be encoded.
        """
        self._template = Template.of(template)
        self._mechanism = mechanism
        self._max_weight = None if max_weight is None else integer("max_weight", max_weight, 1, LARGEST_WEIGHT)
        wanted = self.coordinates(self._template, self._max_weight)
        if mechanism.length != wanted:
            raise ParameterError(
                f"the mechanism is for {counted(mechanism.length, 'coordinate')}, and this layout has {wanted:,}: make "
                "it with length=PrivateEncoder.coordinates(template, max_weight)"
            )
        self._update_clip, self._weight_clip = clips_of(mechanism.clip, self._max_weight, weight_clip)
        self._scaling = Scaling(mechanism, self._update_clip, self._weight_clip)
        self._dtype: np.dtype[np.unsignedinteger] = np.min_scalar_type(self.input_max)
        self._randomness = randomness
        self._levels = integer("levels", levels, 0, MOST_LEVELS)
        self._context: bytes | None = None
        self._noise_levels: tuple[NoiseLevels, int] | None = None
        self._clip_factor = 1.0
        self._weight_clamped = False

    @staticmethod
    def coordinates(template: object, max_weight: int | None = None) -> int:
        """The ``length`` of a mechanism for this template: its elements, and one more for a weight.

        Raises ParameterError for a template without any element.
        """
        size = Template.of(template).size
        if size == 0:
            raise ParameterError("the template holds no elements: pass an update with at least one number")
        return size + (max_weight is not None)

    @property
    def template(self) -> Template:
        """The layout of an update."""
        return self._template

    @property
    def mechanism(self) -> Mechanism:
        """What is done to an update."""
        return self._mechanism

    @property
    def clip(self) -> float:
        """The largest L2 norm of an update that is kept: the mechanism's, less what the weight takes of it."""
        return self._update_clip

    @property
    def bits(self) -> int:
        """Bits of an element."""
        return self._mechanism.bits

    @property
    def max_weight(self) -> int | None:
        """The largest weight, or None."""
        return self._max_weight

    @property
    def weight_clip(self) -> float:
        """What the weight's coordinate is at full weight, in the unit of the update; 0.0 without weights."""
        return self._weight_clip

    @property
    def levels(self) -> int:
        """How finely the noise is fitted to the clients that are lost; 0 for not at all."""
        return self._levels

    @property
    def attachment_bytes(self) -> int:
        """What a round's config must have as ``attachment_bytes``."""
        return ATTACHMENT_BYTES if self._levels else 0

    @property
    def wire_version(self) -> int:
        """The least that a round's config must have as ``version``: attachments travel in version 2."""
        return 2 if self._levels else 1

    @property
    def length(self) -> int:
        """Elements of the vector: the mechanism's dimension."""
        return self._mechanism.dimension

    @property
    def input_max(self) -> int:
        """The largest value of an element, 2^b - 1: all values modulo 2^b are taken."""
        return (1 << self._mechanism.bits) - 1

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The dtype of an encoded vector: the narrowest unsigned one that holds ``input_max``."""
        return self._dtype

    @property
    def clip_factor(self) -> float:
        """What the last ``encode`` multiplied its update by to clip it: 1.0 when it was short enough."""
        return self._clip_factor

    @property
    def clipped(self) -> dict[str, int]:
        """How many values the last ``encode`` changed by clipping, by the array's name: all of them, or none."""
        if self._clip_factor == 1.0:
            return {}
        return {leaf.name: leaf.size for leaf in self._template.leaves if leaf.size}

    @property
    def weight_clamped(self) -> bool:
        """Whether the last ``encode`` took ``max_weight`` in place of a larger weight."""
        return self._weight_clamped

    def modulus_for(self, clients: int) -> Modulus:
        """The ring 2^b, whatever the number of clients: the mechanism was chosen for it."""
        integer("clients", clients, 1, _MOST_CLIENTS)
        return Modulus.ring(self._mechanism.bits)

    def check_capacity(self, clients: int, modulus: Modulus) -> None:
        """Raises ParameterError unless the modulus is exactly 2^b.

        A larger one would show how often the vectors wrapped around, which the mechanism does not hide.
        """
        if modulus != self.modulus_for(clients):
            raise ParameterError(
                f"modulus {modulus}: a private round counts modulo 2^{self._mechanism.bits} and nothing else, since a "
                "larger modulus would show what the noise does not hide; use modulus=encoder.modulus_for(clients)"
            )

    def check_config(self, config: RoundShape) -> None:
        """Raises ParameterError unless every vector of this encoder is an input of a round with this config."""
        check_length(config, self.length)
        self.check_capacity(config.clients, config.modulus)
        if config.input_max != self.input_max:
            raise ParameterError(
                f"the round's input_max is {config.input_max}, and this encoder's elements reach {self.input_max}: "
                "the server must make its config with modulus=encoder.modulus_for(clients) and no input_max"
            )

    def for_round(self, config: RoundTerms) -> PrivateEncoder:
        """The encoder of one round: ``encode`` and ``decode`` are its alone.

        Every member of the round must take it from the same config, for the rotation's signs follow from the config's
        context.  Raises ParameterError as ``check_config`` does.
        """
        self.check_config(config)
        if config.attachment_bytes != self.attachment_bytes:
            raise ParameterError(
                f"the round has attachment_bytes = {config.attachment_bytes}, and this encoder needs "
                f"{self.attachment_bytes}: the server must make its config with "
                "attachment_bytes=encoder.attachment_bytes, and version=2 where that is not 0"
            )
        bound = copy(self)
        bound._context = bytes(config.context)
        if self._levels:
            bound._noise_levels = NoiseLevels.of(self._mechanism, config, self._levels), config.clients
        return bound

    @property
    def noise_levels(self) -> NoiseLevels | None:
        """The levels of the round that this encoder is for; None without."""
        return None if self._noise_levels is None else self._noise_levels[0]

    def layout_digest(self) -> bytes:
        """32 bytes that are equal for two encoders exactly if their vectors can be summed and have the same noise.

        SHA-256 of a canonical description: the mechanism, max_weight, weight_clip, and path and shape of every array in
        order.  The round's context, which holds the digest, is no part of it.
        """
        mechanism = self._mechanism
        scale = Fraction(mechanism.scale)
        description = {
            "arrays": [[leaf.keys, leaf.shape] for leaf in self._template.leaves],
            "bits": mechanism.bits,
            "clip": mechanism.clip.hex(),
            **({"levels": self._levels} if self._levels else {}),
            "max_weight": self._max_weight,
            "noise": mechanism.noise.value,
            "rounding_failure": mechanism.rounding_failure.hex(),
            "scale": [scale.numerator, scale.denominator],
            "variance": mechanism.variance,
            "weight_clip": self._weight_clip.hex(),
        }
        text = json.dumps(description, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
        return sha256(_LABEL + text.encode("ascii")).digest()

    def standard_error(self, count: int, total_weight: float | None = None) -> float:
        """Standard deviation of the noise in each value of the mean of ``count`` clients, in the update's own unit.

        ``total_weight`` is needed where there are weights: the sum of theirs.  Rounding adds less than
        sqrt(count) / 2 steps to a coordinate of the sum, beside sqrt(count variance) steps of noise.
        """
        count = integer("count", count, 1, _MOST_CLIENTS)
        share = float(count)
        if self._max_weight is not None:
            if total_weight is None:
                raise ParameterError("total_weight is missing: this encoder has weights, so pass their sum")
            most = float(count * self._max_weight)
            share = real("total_weight", total_weight, nextafter(0.0, 1.0), most) / self._max_weight
        return self._noise_of_sum(count) / share

    def encode(self, update: object, weight: int = 1) -> UnsignedVector:
        """One client's update as a vector of ``length`` elements of ``dtype``, with its share of the noise.

        Every call draws noise afresh: submit the vector of one call, once, and no second one of the same update in the
        same round.

        Args:
            update: nested and shaped as the template, of any real dtypes; see Template.
            weight: a whole number from 0 up, such as the number of training examples.  A weight above
                ``max_weight`` is reduced to it.  Without max_weight only 1 is allowed.  A client of weight 0 adds noise
                alone.

        Raises:
            InputError: names the array that is missing, unknown, of another shape, not real, or holds a NaN or an
                infinity; or the weight.
            StateError: for an encoder that is of no round yet; see ``for_round``; or for one with levels.
        """
        if self._levels:
            raise StateError("the encoder's noise has levels: encode with encode_in_levels, and submit what it returns")
        return self._encoded(update, weight)[0]

    def encode_in_levels(self, update: object, weight: int = 1) -> tuple[UnsignedVector, list[tuple[int, bytes]]]:
        """As ``encode``, and what goes with the vector: ``client.submit(*encoder.encode_in_levels(update))``.

        The second is the attachment: keys that take the noise off which the losses do not ask for.  Nobody else may see
        it.

        Raises:
            InputError: as ``encode``.
            StateError: for an encoder that is of no round yet, or that has no levels.
        """
        if self._noise_levels is None:
            self._round_context()
            raise StateError("the encoder's noise has no levels: encode with encode, or make it with levels=...")
        levels, clients = self._noise_levels
        vector, keys = self._encoded(update, weight)
        return vector, levels.attachment(keys.removable.reveal(), clients)

    def _encoded(self, update: object, weight: int) -> tuple[UnsignedVector, EncodingKeys]:
        signs = signs_of(self._round_context(), self.length)
        weight, clamped = checked_weight(weight, self._max_weight)
        values = np.zeros(self.length, np.float64)
        largest = gather(self._template, self._template.flatten(update), values)
        share = 1.0 if self._max_weight is None else weight / self._max_weight
        factor = self._scaling.rotate(values, self._template.size, largest, share, signs)
        with ClearedOnError():
            vector, keys = perturb(values, self._mechanism, self._randomness, self._dtype, self.noise_levels)
        self._clip_factor, self._weight_clamped = factor, clamped
        return vector, keys

    def input_digest(self, update: object, *, key: bytes = b"") -> bytes:
        """32 bytes that are equal for two updates exactly if their values are: as ``Encoder.input_digest``."""
        return values_digest(self._template.flatten(update), key)

    def decode(self, result: SumResult, dtype: Literal["float64", "template"] = "float64") -> PrivateMean:
        """The estimated mean of a round's result.  Arguments and errors are those of ``decode_sum``."""
        return self.decode_sum(result.sum, len(result.included), dtype, min_contributors=result.min_survivors)

    def decode_in_levels(
        self, result: AttachedResult, dtype: Literal["float64", "template"] = "float64"
    ) -> PrivateMean:
        """As ``decode``, for an encoder with levels: without the noise that the losses did not ask for.

        The work grows with the clients that answered, times the levels that are removed, times the length.

        Raises:
            InputError: as ``decode_sum``, and for an attachment that is no key.
            StateError: for an encoder that is of no round yet, or that has no levels.
        """
        total, count, answered = self.without_surplus(result), len(result.included), len(result.attachments)
        return self.decode_without_surplus(total, count, answered, dtype, min_contributors=result.min_survivors)

    def without_surplus(self, result: AttachedResult) -> UnsignedVector:
        """The sum without the noise that the losses did not ask for, for ``decode_without_surplus``.

        It is of the result's own dtype, and canonical modulo 2^b.  Work and errors are those of ``decode_in_levels``.
        """
        if self._noise_levels is None:
            self._round_context()
            raise StateError("the encoder's noise has no levels: decode with decode")
        levels, clients = self._noise_levels
        check_vector(result.sum, self.length)
        lost = clients - len(result.included)
        total = levels.without_surplus(result.sum, self._mechanism, lost, list(result.attachments.values()))
        return total.astype(result.sum.dtype)

    def decode_sum(
        self,
        vector: npt.NDArray[Any],
        count: int,
        dtype: Literal["float64", "template"] = "float64",
        *,
        min_contributors: int = 1,
    ) -> PrivateMean:
        """The estimated weighted mean from the sum modulo 2^b of ``count`` encoded vectors.

        Args:
            vector: 1-D, ``length`` elements, unsigned of any width.
            count: how many vectors are in it.
            dtype: "float64", or "template" for the template's own types; as ``Encoder.decode_sum``.
            min_contributors: the fewest vectors that may be in the sum.

        Raises:
            InputError: for a sum of another length or type, or of fewer clients than asked for.
            StateError: for an encoder that is of no round yet; see ``for_round``.
        """
        return self.decode_without_surplus(vector, count, 0, dtype, min_contributors=min_contributors)

    def decode_without_surplus(
        self,
        vector: npt.NDArray[Any],
        count: int,
        answered: int,
        dtype: Literal["float64", "template"] = "float64",
        *,
        min_contributors: int = 1,
    ) -> PrivateMean:
        """As ``decode_sum``, of a sum from which ``without_surplus`` has taken the noise that was not needed.

        Args:
            vector, count, dtype, min_contributors: as in ``decode_sum``.
            answered: of how many of the vectors it was taken off; 0 without levels.

        Raises as ``decode_sum``, and ParameterError for more answers than vectors.
        """
        if dtype not in ("float64", "template"):
            raise ParameterError(f"dtype {dtype!r}: allowed are 'float64' and 'template'")
        signs = signs_of(self._round_context(), self.length)
        check_vector(vector, self.length)
        count = integer("count", count, 1, _MOST_CLIENTS)
        if count < min_contributors:
            raise InputError(f"{counted(count, 'client')} in the sum, and at least {min_contributors} are needed")
        values, width = centred_values(vector, self._mechanism.bits), 2.0**self._mechanism.bits
        spread = spread_of(values, width)
        transform(values)
        scale_and_sign(values, signs, 1 / (float(self._mechanism.scale) * math.sqrt(self.length)))
        noise = math.sqrt(self._variance_of_sum(count, answered)) / float(self._mechanism.scale)
        total, weight_noise = float(count), 0.0
        if self._max_weight is not None:
            unit = self._weight_clip * SHRINK / self._max_weight
            weight_noise = noise / unit
            total = max(float(values[self._template.size]) / unit, weight_noise)
        share = total / (self._max_weight or 1)
        return PrivateMean(
            mean=divided(self._template, values, share, dtype),
            weight=total,
            count=count,
            noise=noise / share,
            weight_noise=weight_noise,
            spread=spread,
            wrapped_share=wrapping_share(spread, width),
        )

    def __repr__(self) -> str:
        return f"PrivateEncoder({self._template!r}, {self._mechanism!r}, max_weight={self._max_weight})"

    def _round_context(self) -> bytes:
        if self._context is None:
            raise StateError("the encoder is of no round yet: encode and decode with encoder.for_round(config)")
        return self._context

    def _variance_of_sum(self, count: int, answered: int) -> int:
        """Of the noise in a coordinate of the sum, in steps squared.  Raises ParameterError for too many answers."""
        integer("answered", answered, 0, 0 if self._noise_levels is None else count)
        if self._noise_levels is None:
            return count * self._mechanism.variance
        levels, clients = self._noise_levels
        return levels.variance_of_sum(clients - count, count, answered)

    def _noise_of_sum(self, count: int) -> float:
        """Standard deviation of the noise in a coordinate of the sum, in the update's own unit."""
        return math.sqrt(count * self._mechanism.variance) / float(self._mechanism.scale)
