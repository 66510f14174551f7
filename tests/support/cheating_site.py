"""One site of a study that sends what no site makes: whichever encodes its answer first in a round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from secagg.statistics import Question, StudyLayout


def cheat(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """In the rounds up to ``last``, one site adds to its vector what is beyond all sites together."""
    honest, cheater = StudyLayout.encode, dict[bytes, Any]()

    def encode(layout: StudyLayout, arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.uint64]:
        vector = honest(layout, arrays)
        is_asked = Question.from_bytes(layout.question).number <= last
        if is_asked and cheater.setdefault(layout.question, arrays) is arrays:
            vector += np.uint64(2**62)
        return vector

    monkeypatch.setattr(StudyLayout, "encode", encode)
