"""How exact a sum is, array by array, for whoever gets it: ``serve`` and ``join``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.text import Text

from secagg.cli.output import names_of, table
from secagg.encoding import Exact, Mean
from secagg.encoding.arrays import is_extension
from secagg.encoding.layout import Layout
from secagg.wording import counted, was

_LISTED: Final = 12
"""Arrays in a table: what fits on a screen."""
_TOLERABLE: Final = 0.01
"""Of an array's largest value: an error above it is told."""
_MANTISSA_OF_EXTENSIONS: Final = {"bfloat16": 2.0**-8}
_COARSEST_MANTISSA: Final = 2.0**-3  # of the 8-bit floats
_EXACT_FLOAT: Final = 2**53
_EXACT_INTEGER: Final = 2**64 - 1
"""The largest whole numbers that a float64 and an unsigned integer of 64 bits hold."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySum:
    """One array of a sum or a mean.

    Attributes:
        name: of the array.
        largest: the largest absolute value in it.
        error_bound: the most by which a value can be off, in the values' unit; 0 for an exact sum.
        of_encoding: what the encoding has of it; the rest comes from the type of the output.
        kept: what was kept of the clients' values, in words.
        exact: whether it was summed without rounding.
        note: what else there is to say of it, as a sentence without its stop; most often nothing.
    """

    name: str
    largest: float
    error_bound: float
    of_encoding: float
    kept: str
    exact: bool
    note: str = ""

    @property
    def is_coarse(self) -> bool:
        """Whether the encoding's error is more than a hundredth of the largest value, which may have become 0 by it."""
        return not self.exact and self.largest * _TOLERABLE < self.of_encoding

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints of it."""
        return {"largest": self.largest, "error_bound": self.error_bound, "exact": self.exact}


def array_sums(
    written: Mapping[str, npt.NDArray[Any]], mean: Mean, layout: Layout, *, as_mean: bool = False
) -> list[ArraySum]:
    """Each array that has elements.

    Args:
        written: what the output holds.
        mean: what was decoded.
        layout: the round's.
        as_mean: whether ``written`` is the mean, and not the sum.
    """
    weight = mean.weight
    encoder = layout.encoder()
    bounds = layout.by_name(encoder.error_bounds(mean.count, weight))
    exact, clips = layout.exact_by_name(), layout.clip_by_name()
    found = []
    for name, _ in layout.arrays:
        if name not in bounds:
            continue
        values = written[name]
        largest, one = _largest(values), exact.get(name)
        bound, by_type, note = bounds[name] if as_mean else bounds[name] * weight, 0.0, ""
        if as_mean:
            by_type, note = _lost_in(values.dtype, largest), _whole_mean(values.dtype)
        elif one is not None:
            bound = 0.0
            if largest > (_EXACT_FLOAT / one.units if values.dtype.kind == "f" else _EXACT_INTEGER):
                by_type = largest * 2.0**-53
                note = "the sum has more digits than the file can hold, which has the nearest value"
        found.append(
            ArraySum(
                name=name,
                largest=largest,
                error_bound=bound + by_type,
                of_encoding=bound,
                kept=f"up to {clips[name]:g}" if one is None else _range(one),
                exact=one is not None,
                note=note,
            )
        )
    return found


def _largest(values: npt.NDArray[Any]) -> float:
    return max(abs(float(values.max())), abs(float(values.min()))) if values.size else 0.0


def _range(exact: Exact) -> str:
    return f"{exact.low}..{exact.high}" + (f", {exact.decimals} decimals" if exact.decimals else "")


def _whole_mean(dtype: np.dtype[Any]) -> str:
    return f"the mean is rounded to the type of your file, {dtype}" if dtype.kind in "biu" else ""


def _lost_in(dtype: np.dtype[Any], largest: float) -> float:
    """What rounding to the dtype of the output adds."""
    if is_extension(dtype):
        return largest * _MANTISSA_OF_EXTENSIONS.get(dtype.name, _COARSEST_MANTISSA)
    if dtype.kind == "f":
        return largest * float(np.finfo(dtype).eps)
    return 0.5


def sum_warnings(arrays: Sequence[ArraySum], mean: Mean) -> list[str]:
    """Whole sentences on what the sum lost."""
    found = []
    if mean.clipped:
        found.append(
            f"over all clients together, {counted(mean.clipped, 'value')} {was(mean.clipped)} clipped, so that the "
            "total is not that of the files (a weight above --max-weight counts here like a value)"
        )
    found += [
        f"{array.name}: its largest value is {array.largest:.3g}, and it can be off by up to {array.error_bound:.3g}, "
        "more than a hundredth of it: the server's --clip is too large for it, or its --bits are too few, or its "
        "--max-weight is far above the weights"
        for array in arrays
        if array.is_coarse
    ]
    notes: dict[str, list[str]] = {}
    for array in arrays:
        if array.note:
            notes.setdefault(array.note, []).append(array.name)
    found += [f"{names_of(names)}: {note}" for note, names in notes.items()]
    if mean.contributors < mean.count:
        found.append(f"only {mean.contributors} of the {counted(mean.count, 'client')} have a weight above 0")
    return found


def sum_json(arrays: Sequence[ArraySum], mean: Mean) -> dict[str, Any]:
    """What ``--json`` prints of it."""
    return {
        "weight": mean.weight,
        "contributors": mean.contributors,
        "error_bound": max((array.error_bound for array in arrays), default=0.0),
        "arrays": {array.name: array.as_json() for array in arrays},
    }


def show_sums(title: str, arrays: Sequence[ArraySum], console: Console) -> None:
    """A table; of many arrays, those whose error is the largest beside their values."""
    shown = sorted(arrays, key=lambda one: one.error_bound / one.largest if one.largest else 0.0, reverse=True)
    rows = table(title, "array", "largest value", "error at most", "values kept")
    for array in shown[:_LISTED]:
        error = "none" if array.error_bound == 0 else f"{array.error_bound:.3g}"
        rows.add_row(Text(array.name), f"{array.largest:.6g}", error, array.kept)
    console.print(rows)
    if len(shown) > _LISTED:
        console.print(f"Not shown: {counted(len(shown) - _LISTED, 'more array')}. --json prints all of them.")
