"""The methods of a study: each is a table's row in ``docs/statistics.md``."""

from __future__ import annotations

from typing import TypeAlias

from secagg.statistics.methods.compare import Compare
from secagg.statistics.methods.crosstab import Crosstab
from secagg.statistics.methods.describe import Describe
from secagg.statistics.methods.standardise import Standardise

AnyMethod: TypeAlias = (
    Compare  # one method a line
    | Crosstab
    | Describe
    | Standardise
)

__all__ = [
    "AnyMethod",
    "Compare",
    "Crosstab",
    "Describe",
    "Standardise",
]
