"""What every host does with the vectors of a round, with noise or without, and with noise in levels or without.

Levels are the one thing about a round's noise that is on the wire: a client's host attaches keys to the vector, and the
server's host takes the noise off that they open, before anybody else sees the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt

from secagg.encoding.encoder import Encoder
from secagg.encoding.sums import AttachedResult, Mean
from secagg.privacy.encoder import PrivateEncoder
from secagg.privacy.private_mean import PrivateMean

AnyEncoder: TypeAlias = Encoder | PrivateEncoder
Keys: TypeAlias = Sequence[tuple[int, bytes]]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Submitted:
    """What a client hands over: ``client.submit(submitted.vector, submitted.keys)``.

    Attributes:
        vector: the encoded update.
        keys: of noise in levels, for the attachment; None without levels.  Whoever knows them can take noise off.
    """

    vector: npt.NDArray[np.unsignedinteger[Any]] = field(repr=False)
    keys: Keys | None = field(repr=False)


@final
@dataclass(frozen=True, slots=True, eq=False)
class OpenedSum:
    """A round's sum as a host hands it on.

    Attributes:
        vector: of the result's own dtype; without the noise in levels that the losses did not ask for.
        answered: of how many clients that noise was taken off.
    """

    vector: npt.NDArray[np.unsignedinteger[Any]] = field(repr=False)
    answered: int


def submitted(encoder: AnyEncoder, update: object, weight: int = 1) -> Submitted:
    """One client's update, encoded.  Arguments and errors are those of ``encode``."""
    if isinstance(encoder, PrivateEncoder) and encoder.levels:
        return Submitted(*encoder.encode_in_levels(update, weight))
    return Submitted(encoder.encode(update, weight), None)


def opened(encoder: AnyEncoder, result: AttachedResult) -> OpenedSum:
    """The sum of a round that is over, on the server.

    The work of levels grows with the clients that answered, times the levels that are removed, times the length.
    """
    if isinstance(encoder, PrivateEncoder) and encoder.levels:
        return OpenedSum(encoder.without_surplus(result), len(result.attachments))
    return OpenedSum(result.sum, 0)


def decoded(
    encoder: AnyEncoder,
    total: OpenedSum,
    count: int,
    dtype: Literal["float64", "template"] = "float64",
    *,
    min_contributors: int = 1,
) -> Mean | PrivateMean:
    """The mean of ``count`` clients.  Arguments and errors are those of ``decode_sum``."""
    if isinstance(encoder, PrivateEncoder):
        return encoder.decode_without_surplus(
            total.vector, count, total.answered, dtype, min_contributors=min_contributors
        )
    return encoder.decode_sum(total.vector, count, dtype, min_contributors=min_contributors)
