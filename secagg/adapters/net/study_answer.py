"""What a member of a study brings instead of a file: arrays that follow from the question and its own records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

from secagg.adapters.net.receipts import CertifiedTotal
from secagg.pairwise.config import RoundConfig
from secagg.statistics.layout import StudyLayout

Sums: TypeAlias = Mapping[str, npt.NDArray[Any]]
Answering: TypeAlias = Callable[[StudyLayout], Sums]
"""What a member answers: asked when the server has welcomed it, before anything is sent but its login.  It may raise
PeerError, which ends the member."""


@final
class StudyAnswer:
    """A member's arrays for one question.

    Attributes:
        arrays: as ``StudyLayout.encode`` takes them.
        values_digest: 32 bytes over names, shapes and values.
    """

    weight = None

    def __init__(self, arrays: Sums) -> None:
        self.arrays = arrays
        hashed = hashlib.sha256(b"secagg study answer 1\n")
        for name in sorted(arrays):
            label = name.encode()
            hashed.update(f"{len(label)} ".encode() + label + f" {arrays[name].shape}\n".encode())
            hashed.update(np.ascontiguousarray(arrays[name], "<i8").tobytes())
        self.values_digest = hashed.digest()

    def digest(self, layout: bytes) -> bytes:
        """32 bytes over the values and the bytes of a round's layout."""
        return hashlib.sha256(b"secagg study input 1\n" + self.values_digest + layout).digest()

    def __repr__(self) -> str:
        return "StudyAnswer()"


@final
@dataclass(frozen=True, slots=True)
class StudyTotal:
    """What a member of a study's round gets.

    Attributes:
        layout: the round's.
        config: the round's.
        sums: by array, as ``StudyLayout.decode`` has them.
        included: the seats that are in the sums.
        seat: the member's own, which is among them.
        certified: as in a ``Total``.
    """

    layout: StudyLayout
    config: RoundConfig
    sums: Sums = field(repr=False)
    included: tuple[int, ...]
    seat: int
    certified: CertifiedTotal | None = None
