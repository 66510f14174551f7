"""What is summed in a round of a study: whole numbers and answers of yes or no, in one ring.

It stands where ``secagg.encoding.Layout`` stands.  Everything is counted modulo 2^64:

- a whole number is itself, negative ones as in two's complement;
- in a study with noise, each site adds its own to each whole number (``secagg.statistics.noise``);
- a yes is an element drawn uniformly from the ring, a no is 0.  The sum is uniform when any site says yes, whoever and
  however many they are, and 0 otherwise; it is taken for a no although there is a yes with probability 2^-64.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, final

import msgspec
import numpy as np
import numpy.typing as npt

from secagg.arithmetic.modulus import Modulus
from secagg.encoding.named_arrays import NamedArrays, check_names_ascend
from secagg.errors import InputError, ParameterError
from secagg.pairwise.config import RoundConfig
from secagg.wording import counted

if TYPE_CHECKING:
    from secagg.privacy.noisy_sum import NoisySum

_LABEL: Final = b"secagg study layout 1\n"
RING: Final = Modulus.ring(64)
INPUT_MAX: Final = RING.value - 1
_MOST: Final = 2**62
_TAIL: Final = 64
"""Standard deviations.  By Bernstein's inequality for Skellam noise, noise is beyond them with probability 2^-256."""


@final
class StudyLayout(NamedArrays, frozen=True, array_like=True, forbid_unknown_fields=True, tag="study"):
    """Public, and the same for every site of a round; its digest is the config's context.

    Attributes:
        arrays: names and shapes, in the order in which the vector has them; names ascend.
        largest: by array, the largest absolute value of a site's whole numbers.  An array that is not listed here is
            of yes and no.
        question: the round's question; see ``secagg.statistics.question``.
        noise: by array, the variance of the Skellam noise that each site adds to each of its whole numbers.
        fewest: sites in the sum, for which the noise is sized.
        cost: what the round costs at most, as ``NoisySum.to_text`` has it; empty without noise.

    Raises ParameterError when names are there twice or unknown, or do not ascend.
    """

    largest: tuple[tuple[str, int], ...]
    question: bytes
    noise: tuple[tuple[str, int], ...] = ()
    fewest: int = 0
    cost: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_ascending()
        check_names_ascend("largest", [name for name, _ in self.largest])
        known = {name for name, _ in self.arrays}
        for name, most in self.largest:
            if name not in known:
                raise ParameterError(f"largest: the layout has no array {name!r}")
            if not 1 <= most <= _MOST:
                raise ParameterError(f"largest: {name} has {most}; must be from 1 to 2^62")
        check_names_ascend("noise", [name for name, _ in self.noise])
        for name, variance in self.noise:
            if name not in dict(self.largest):
                raise ParameterError(f"noise: the layout has no whole numbers {name!r}")
            if not 1 <= variance <= _MOST:
                raise ParameterError(f"noise: {name} has a variance of {variance}; must be from 1 to 2^62")
        if bool(self.noise) != bool(self.cost):
            raise ParameterError("a layout has noise and what it costs, or neither")

    @property
    def length(self) -> int:
        """Elements of a vector."""
        return sum(int(np.prod(shape, dtype=np.int64)) for _, shape in self.arrays)

    @property
    def noisy_sum(self) -> NoisySum | None:
        """What the round costs a privacy budget at most; None without noise.  Raises ParameterError."""
        if not self.cost:
            return None
        from secagg.privacy.noisy_sum import NoisySum

        return NoisySum.from_text(self.cost)

    def deviations(self, sites: int) -> dict[str, float]:
        """By array with noise, its standard deviation in the sum of so many sites."""
        return {name: math.sqrt(variance * sites) for name, variance in self.noise}

    def digest(self) -> bytes:
        """32 bytes that all members of a round agree on as its context."""
        return sha256(_LABEL + msgspec.msgpack.encode(self)).digest()

    def check_sites(self, sites: int) -> None:
        """Raises ParameterError when the sum of so many sites could leave the ring."""
        for name, most in self.largest:
            if self._reach(name, most, sites) >= 2**63:
                raise ParameterError(f"{sites} sites with whole numbers up to {most} leave a ring of 64 bits")

    def _reach(self, name: str, most: int, sites: int) -> int:
        """What no sum of so many sites' own numbers is beyond, with their noise."""
        variance = dict(self.noise).get(name, 0)
        return most * sites + (_TAIL * (math.isqrt(sites * variance) + 1) if variance else 0)

    def check_round(self, config: RoundConfig) -> None:
        """Raises ParameterError unless a round with this config has one sum, of every answer to the question."""
        if config.groups != 1:
            raise ParameterError(
                f"the config has {counted(config.groups, 'group')}, each with a sum of its own, and a study's sums are "
                "over all of its sites: leave groups out"
            )
        met = (config.modulus, config.input_max, config.length)
        if met != (RING, INPUT_MAX, self.length):
            raise ParameterError(
                f"the config has the modulus {met[0].value}, inputs up to {met[1]} and {counted(met[2], 'element')}; a "
                f"round of this study's has 2^64, {INPUT_MAX} and {self.length}"
            )
        if config.min_survivors < self.fewest:
            raise ParameterError(
                f"the config lets a sum of {config.min_survivors} sites be opened, and the noise is sized for "
                f"{self.fewest} or more"
            )
        self.check_sites(config.clients)

    def config_for(self, sites: int, fewest: int, **options: Any) -> RoundConfig:
        """The config of a round over so many sites: with ``fewest`` or more in the sum, and as the protocol has it.

        ``options`` are those of ``RoundConfig.for_cohort``.  Raises ParameterError where no such round can be.
        """
        self.check_sites(sites)
        fewest = max(fewest, self.fewest)
        make = partial(
            RoundConfig.for_cohort,
            sites,
            self.length,
            modulus=RING,
            input_max=INPUT_MAX,
            context=self.digest(),
            **options,
        )
        config = make()
        if config.min_survivors < fewest:
            config = make(min_survivors=fewest)
        self.check_round(config)
        return config

    def encode(self, arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.uint64]:
        """A site's vector, shape (length,): int64 arrays of whole numbers, bool arrays of yes and no.

        Noise is drawn afresh in each call: what one call returned is sent once, and that of another never beside it.

        Raises InputError for arrays of other names or shapes, and for whole numbers beyond ``largest``.
        """
        self.check_arrays(arrays)
        noise = dict(self.noise)
        vector = np.empty(self.length, np.uint64)
        for name, most, part in self._parts(vector):
            given = arrays[name]
            if most is None:
                drawn = np.frombuffer(os.urandom(8 * part.size), np.uint64).reshape(part.shape)
                part[...] = np.where(given.astype(np.bool_), drawn, np.uint64(0))
                continue
            whole = given.astype(np.int64)
            if whole.size and max(int(whole.max()), -int(whole.min())) > most:
                raise InputError(f"{name} holds a whole number beyond {most}, which the question excludes")
            part[...] = whole.view(np.uint64)
            if name in noise:
                part += _drawn(noise[name], part.size).reshape(part.shape)
        return vector

    def decode(self, vector: npt.NDArray[Any], sites: int) -> dict[str, npt.NDArray[Any]]:
        """The sums by array, int64, and bool for yes and no.

        Raises InputError for a vector of another length, and for sums that no so many sites can have.
        """
        if vector.shape != (self.length,):
            raise InputError(f"the sum has the shape {vector.shape}, and the round's is ({self.length},)")
        found: dict[str, npt.NDArray[Any]] = {}
        for name, most, part in self._parts(np.ascontiguousarray(vector, np.uint64)):
            if most is None:
                found[name] = part != 0
                continue
            whole = part.view(np.int64)
            met = max((abs(int(whole.max())), abs(int(whole.min())))) if whole.size else 0
            if met > (reach := self._reach(name, most, sites)):
                raise InputError(
                    f"{name} is {met} in the sum, and {sites} sites can reach {reach}: a site sent what no site makes"
                )
            found[name] = whole
        return found

    def _parts(self, vector: npt.NDArray[np.uint64]) -> Iterator[tuple[str, int | None, npt.NDArray[np.uint64]]]:
        """Each array's name, its largest whole number or None for yes and no, and its part of the vector, shaped."""
        largest = dict(self.largest)
        at = 0
        for name, shape in self.arrays:
            size = int(np.prod(shape, dtype=np.int64))
            yield name, largest.get(name), vector[at : at + size].reshape(shape)
            at += size


def _drawn(variance: int, size: int) -> npt.NDArray[np.uint64]:
    """Skellam noise from a fresh key, modulo 2^64, shape (size,)."""
    from secagg.privacy.keys import KEY_BYTES
    from secagg.privacy.noise import Noise
    from secagg.privacy.parameters import NoiseKind

    return Noise(NoiseKind.SKELLAM, variance, os.urandom(KEY_BYTES)).draw(size).view(np.uint64)
