"""What a round of a study asks, and all that was released before it: public, and in the digest that ties the round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from secagg.errors import ErrorCode, PeerError
from secagg.statistics.asks import Ask
from secagg.wording import counted

_MOST_BYTES: Final = 2**24


class PastRound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A round whose sums were released.

    Attributes:
        asks: by method.
        sums: by array of the round's layout: its elements in C order, 0 and 1 for no and yes.
        sites: whose they are, by name or key, ascending.
    """

    asks: dict[str, Ask]
    sums: dict[str, list[int]]
    sites: tuple[str, ...]


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a round asks.

    Attributes:
        study: the study's digest in hexadecimal digits.
        session: drawn by the analyst, the same in all rounds of a session.
        number: of the round, from 1 up; a round that failed has a number, too.
        asks: by method.
        history: what was released before it in the session.
    """

    study: str
    session: str
    number: int
    asks: dict[str, Ask]
    history: tuple[PastRound, ...] = ()

    def to_bytes(self) -> bytes:
        """As the layout has it: JSON."""
        return msgspec.json.encode(self, order="deterministic")

    @classmethod
    def from_bytes(cls, data: bytes) -> Question:
        """Raises PeerError(MALFORMED) for what is no question."""
        if len(data) > _MOST_BYTES:
            raise PeerError(
                ErrorCode.TOO_LARGE, f"a question of {counted(len(data), 'byte')}; at most {_MOST_BYTES} are allowed"
            )
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
            raise PeerError(ErrorCode.MALFORMED, f"the round's question cannot be read: {wrong}") from None


def flat(sums: Mapping[str, npt.NDArray[Any]]) -> dict[str, list[int]]:
    """Sums as a question has them."""
    return {name: [int(value) for value in array.reshape(-1)] for name, array in sums.items()}


def shaped(values: list[int], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """One array of a question's sums.  Raises ValueError for another number of elements."""
    return np.array(values, object).reshape(shape)
