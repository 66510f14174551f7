"""What a method asks in a round, and what was released so far: all public."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import msgspec
import numpy as np
import numpy.typing as npt

from secagg.statistics.columns import Column
from secagg.statistics.release import Release


def public(values: Iterable[float]) -> list[float]:
    """Numbers to twelve digits: what follows from sums is then the very same on every machine."""
    return [float(f"{value:.12g}") for value in values]


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a method sums next.

    Attributes:
        stage: the method's own name for it, such as ``"squares"``.
        parameters: public numbers that it depends on, such as the coefficients at which a gradient is taken.
    """

    stage: str
    parameters: dict[str, list[float]] = {}

    def parameter(self, name: str) -> npt.NDArray[np.float64]:
        """One of the parameters, shape (its length,)."""
        return np.array(self.parameters[name], np.float64)


@final
@dataclass(frozen=True)
class Terms:
    """What a method knows of the study.

    Attributes:
        columns: by name.
        max_records: the most records that a site may have.
        release: the rules for what is shown.
        noisy: whether the sums have noise, so that counts may be negative.
    """

    columns: Mapping[str, Column]
    max_records: int
    release: Release = Release()  # noqa: RUF009  (frozen)
    noisy: bool = False


@final
@dataclass(frozen=True)
class Released:
    """What a method got in one round.

    Attributes:
        ask: what it asked.
        sums: by the names of the method's ``cells``: Python integers (dtype object), float64, or bool.
        records: complete records in the sums; ``incomplete``: records that lacked a value that the method needs.
        sites: whose sums they are.
    """

    ask: Ask
    sums: Mapping[str, npt.NDArray[Any]]
    records: int
    incomplete: int
    sites: tuple[str, ...]
