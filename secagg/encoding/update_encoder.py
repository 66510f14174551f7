"""What a host needs of an encoder: ``Encoder`` has it, and so has ``secagg.privacy.PrivateEncoder``."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from secagg.arithmetic.modulus import Modulus
from secagg.encoding.sums import RoundShape, RoundTerms, SumResult
from secagg.encoding.template import Template


class DecodedMean(Protocol):
    """What every decoded sum has."""

    @property
    def mean(self) -> Any:
        """The weighted mean of the updates, nested, named and shaped as the template."""
        ...

    @property
    def weight(self) -> float:
        """The sum of the clients' weights, or an estimate of it."""
        ...

    @property
    def count(self) -> int:
        """How many clients are in the sum."""
        ...


class UpdateEncoder(Protocol):
    """Updates to vectors and sums to means; ``Encoder`` documents each call."""

    @property
    def template(self) -> Template:
        """The layout of an update."""
        ...

    @property
    def max_weight(self) -> int | None:
        """The largest weight, or None."""
        ...

    @property
    def length(self) -> int:
        """Elements of a vector."""
        ...

    @property
    def input_max(self) -> int:
        """The largest value that any element can take; the smallest is 0."""
        ...

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The dtype of an encoded vector."""
        ...

    @property
    def clipped(self) -> dict[str, int]:
        """How many values the last ``encode`` clipped, by the array's name."""
        ...

    @property
    def weight_clamped(self) -> bool:
        """Whether the last ``encode`` took ``max_weight`` in place of a larger weight."""
        ...

    def modulus_for(self, clients: int) -> Modulus:
        """The ring for so many clients.  A config made with it, and no ``input_max`` of its own, suits the encoder."""
        ...

    def check_config(self, config: RoundShape) -> None:
        """Raises ParameterError unless every vector of this encoder is an input of a round with this config."""
        ...

    def for_round(self, config: RoundTerms) -> UpdateEncoder:
        """The encoder to encode and decode with in one round, after ``check_config``."""
        ...

    def layout_digest(self) -> bytes:
        """32 bytes that are equal for two encoders exactly if their vectors can be summed."""
        ...

    def encode(self, update: object, weight: int = 1) -> npt.NDArray[np.unsignedinteger]:
        """One client's update as a vector.  Raises InputError for an update or a weight that does not fit."""
        ...

    def input_digest(self, update: object, *, key: bytes = b"") -> bytes:
        """32 bytes that are equal for two updates exactly if their values are."""
        ...

    def decode(self, result: SumResult, dtype: Literal["float64", "template"] = "float64") -> DecodedMean:
        """The weighted mean of a round's result.  Raises InputError for a sum that cannot be one of this layout."""
        ...

    def decode_sum(
        self,
        vector: npt.NDArray[Any],
        count: int,
        dtype: Literal["float64", "template"] = "float64",
        *,
        min_contributors: int = 1,
    ) -> DecodedMean:
        """The weighted mean from the sum of ``count`` vectors."""
        ...
