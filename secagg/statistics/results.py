"""What a study reports: tables, figures and plain values, all public."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, final

Value: TypeAlias = str | int | float | bool | None
"""A cell of a table.  None: withheld (a small cell), or not defined."""


_SMALL: Final = 1e-4
_LARGE: Final = 1e4
_WHOLE: Final = 2.0**53


def text_of(value: Value) -> str:
    """A cell as people read it: five digits of a real number, all of a whole one."""
    match value:
        case None:
            return "\N{EN DASH}"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            if not math.isfinite(value):
                return "\N{EN DASH}"
            if value and abs(value) < _SMALL:
                return f"{value:.2e}"
            if value.is_integer() and abs(value) < _WHOLE:
                return f"{int(value):,}"
            return f"{value:,.1f}" if abs(value) >= _LARGE else f"{value:.5g}"
    return str(value)


@final
@dataclass(frozen=True)
class Table:
    """Rows under named columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]


@final
@dataclass(frozen=True)
class Bars:
    """A histogram: ``edges`` has one more than ``heights``; a height of None is withheld.  ``marks`` are quantiles.

    With ``dates``, edges and marks are days since 1970-01-01.
    """

    title: str
    label: str
    edges: tuple[float, ...]
    heights: tuple[int | None, ...]
    marks: Mapping[str, float] = field(default_factory=dict)
    dates: bool = False


@final
@dataclass(frozen=True)
class Curve:
    """One curve: ``y`` at ``x``; ``low`` and ``high`` bound it where they are given; ``at_risk`` is printed below."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    at_risk: tuple[int | None, ...] = ()


@final
@dataclass(frozen=True)
class Curves:
    """Curves on the same axes: ``steps`` for those that change at once, ``diagonal`` draws the line y = x as well."""

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    steps: bool = False
    diagonal: bool = False


@final
@dataclass(frozen=True)
class Forest:
    """Estimates with their intervals, one under another.

    ``reference`` is the value of no effect; with 1, estimates are ratios.  ``confidence`` is that of the intervals.
    """

    title: str
    label: str
    names: tuple[str, ...]
    estimates: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    reference: float = 0.0
    confidence: float = 0.95


Figure: TypeAlias = Bars | Curves | Forest


@final
@dataclass(frozen=True)
class MethodResult:
    """What one method found.

    Attributes:
        values: by name, for JSON and for programs: numbers, strings, None, lists and mappings of them.
        tables, figures: for people.
        notes: whole sentences: what was withheld, what did not converge.
        withheld: why nothing is reported at all; empty where something is.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    withheld: str = ""


@final
@dataclass(frozen=True)
class Reported:
    """A method's result, with what it rests on.

    Attributes:
        result: what the method found.
        records, incomplete: in the last round of the method.
        rounds: how many it took.
        sites: whose records are in the last round.
        label: what the study calls the method; empty: its name.
        words: what the method releases, as the organisations approved it.
        noise: by sum of the last round, the standard deviation of its noise; empty for a study without noise.
    """

    result: MethodResult
    records: int | None
    incomplete: int | None
    rounds: int
    sites: tuple[str, ...]
    label: str = ""
    words: str = ""
    noise: Mapping[str, float] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class SummedRound:
    """A round whose sums were released.

    Attributes:
        asked: by method, what it summed: its own name for it.
        sites: whose records are in the sums.
    """

    asked: Mapping[str, str]
    sites: tuple[str, ...]


@final
@dataclass(frozen=True)
class Privacy:
    """What a study with noise has cost of the privacy of each record; see ``secagg.statistics.noise``.

    Attributes:
        promised: the study's epsilon.
        delta: the study's, of both.
        colluders: how many organisations may tell what noise they added.
        reached: the epsilon of the rounds that were asked, by who was in each sum; it is at most what was promised.
    """

    promised: float
    delta: float
    colluders: int
    reached: float


@final
@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Attributes:
        name, purpose: of the study.
        digest: of the study, in hexadecimal digits.
        methods: by name, in the order of the study.
        rounds: those that were released, in their order.
        failed_rounds: how many further rounds did not complete, and released nothing.
        columns: by column, how many values were missing, and how many the study's range or list excludes, over all
            organisations of the first round.
        privacy: of a study with noise.
    """

    name: str
    digest: str
    methods: Mapping[str, Reported]
    purpose: str = ""
    rounds: tuple[SummedRound, ...] = ()
    failed_rounds: int = 0
    columns: Reported | None = None
    privacy: Privacy | None = None

    @property
    def sections(self) -> dict[str, Reported]:
        """What reports show, by name: the methods, and the counts of values as ``columns``, as no method is called."""
        return {**self.methods, **({} if self.columns is None else {"columns": self.columns})}
