"""How figures grow with n, m and k: exponents of a power law, by least squares on the logarithms.

y = c n^a m^b k^c fits a figure that is a sum of several terms (some with m, some without) only in part; R^2 says how
well.  A variable that takes one value in the cells, or that others determine, gets no exponent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Growth:
    """Exponents by variable, and how much of the variance of the logarithms they explain."""

    exponents: dict[str, float]
    r_squared: float
    cells: int

    def __str__(self) -> str:
        powers = " ".join(f"{name}^{exponent:.2f}" for name, exponent in self.exponents.items())
        return f"{powers} (R^2 = {self.r_squared:.3f}, {self.cells} cells)"


def fit(variables: Mapping[str, Sequence[float]], figure: Sequence[float]) -> Growth | None:
    """Fit ``figure`` to a product of powers of the variables; None when there are too few cells to tell.

    Variables are taken in their order; one that adds nothing new to those before it is left out.
    """
    positive = np.asarray(figure, dtype=float) > 0
    target = np.log(np.asarray(figure, dtype=float)[positive])
    columns, names = [np.ones(len(target))], []
    for name, values in variables.items():
        column = np.log(np.asarray(values, dtype=float)[positive])
        candidate = np.stack([*columns, column], axis=1)
        if len(target) and _well_conditioned(candidate):
            columns.append(column)
            names.append(name)
    if not names or len(target) <= len(columns):
        return None
    design = np.stack(columns, axis=1)
    solution, *_ = np.linalg.lstsq(design, target, rcond=None)
    residual, spread = target - design @ solution, target - target.mean()
    explained = 1 - float(residual @ residual) / float(spread @ spread) if spread.any() else 1.0
    return Growth(dict(zip(names, solution[1:].tolist(), strict=True)), explained, len(target))


def _well_conditioned(design: np.ndarray) -> bool:
    centred = design[:, 1:] - design[:, 1:].mean(axis=0)
    scale = np.linalg.norm(centred, axis=0)
    if not (scale > 1e-9).all():
        return False
    singular = np.linalg.svd(centred / scale, compute_uv=False)
    return bool(singular[-1] > 0.05)
