"""The methods of a study: each is a table's row in ``docs/statistics.md``."""

from __future__ import annotations

from typing import TypeAlias

from secagg.statistics.methods.describe import Describe

AnyMethod: TypeAlias = Describe

__all__ = ["AnyMethod", "Describe"]
