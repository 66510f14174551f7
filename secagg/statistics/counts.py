"""How many values were missing, and how many did not fit, by column: summed in the first round of every session.

It is a method that every study has without naming it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.statistics.asks import Ask, Released, Terms
from secagg.statistics.cells import Cells, Whole
from secagg.statistics.chunk import Chunk
from secagg.statistics.method import ByColumn
from secagg.statistics.results import MethodResult, Table

COUNTS: Final = "columns"
"""What questions and layouts call it; no method of a study has this name."""
_PARTS: Final = ("missing", "outside")


class ColumnCounts(ByColumn, frozen=True, forbid_unknown_fields=True, kw_only=True, tag=COUNTS):
    """Counts of missing values, and of values that a rule of the study changed."""

    def noisy_rounds(self, terms: Terms) -> tuple[Ask, ...]:
        return (Ask("counts"),)

    def check(self, terms: Terms) -> None:
        """Any columns suit it."""

    def next_ask(self, terms: Terms, released: Sequence[Released]) -> Ask | None:
        return None if released else Ask("counts")

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        return {part: Whole((len(self.of),)) for part in _PARTS}

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        tally = chunk.tally
        counts = {"missing": tally.missing, "outside": tally.outside}
        return {part: np.array([counts[part].get(name, 0) for name in self.of], np.int64) for part in _PARTS}

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        least, records = terms.release.min_cell, released[0].records
        values: dict[str, dict[str, int | None]] = {}
        for position, name in enumerate(self.of):
            counts = {part: int(released[0].sums[part][position]) for part in _PARTS}
            values[name] = {
                part: None if 0 < count < least or 0 < records - count < least else count
                for part, count in counts.items()
            }
        rows = tuple((name, *(one[part] for part in _PARTS)) for name, one in values.items())
        return MethodResult(values=values, tables=(Table("Columns", ("column", *_PARTS), rows),))

    def in_words(self, terms: Terms) -> str:
        return (
            f"By column, how many values are missing, and how many are outside of the study's range or list: "
            f"{', '.join(self.of)}."
        )
