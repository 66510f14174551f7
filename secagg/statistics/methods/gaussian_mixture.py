"""Mixtures of normal distributions: expectation and maximisation, a round for each step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, final

import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.statistics.asks import Ask, Released, Terms
from secagg.statistics.cells import Cells, Real
from secagg.statistics.chunk import Chunk, Flags, Floats
from secagg.statistics.clustering import Clustering
from secagg.statistics.columns import Date, Flag, axis_of
from secagg.statistics.design import symmetric, upper
from secagg.statistics.results import Curve, Curves, MethodResult, Table
from secagg.statistics.tables import hidden_in
from secagg.wording import counted

_FADED: Final = 1e-3
"""Records: a cluster that has fewer in all keeps its mean and its shape, for which its sums have too few digits."""
_LEAST_RIDGE: Final = 1e-8
_POINTS: Final = 201
"""Of a curve."""


@final
@dataclass(frozen=True, eq=False)
class _Mixture:
    """k normal distributions of p columns, which are scaled to -1..1.

    Attributes:
        weights: shape (k,); their sum is 1.
        means: shape (k, p).
        covariances: shape (k, p, p).
    """

    weights: Floats
    means: Floats
    covariances: Floats

    @classmethod
    def asked(cls, ask: Ask, clusters: int, size: int) -> Self:
        triangles = ask.parameter("covariances").reshape(clusters, -1)
        if triangles.shape[1] == size:
            covariances = np.array([np.diag(variances) for variances in triangles])
        else:
            covariances = np.array([symmetric(triangle, size) for triangle in triangles])
        return cls(ask.parameter("weights"), ask.parameter("means").reshape(clusters, size), covariances)

    def ask(self, is_full: bool) -> Ask:
        of_one = upper if is_full else np.diagonal
        parts = {
            "weights": self.weights,
            "means": self.means.reshape(-1),
            "covariances": np.concatenate([of_one(covariance) for covariance in self.covariances]),
        }
        # All digits go along: a dozen are too few where clusters part, and each step is far from the last.
        return Ask("responsibilities", {name: part.tolist() for name, part in parts.items()})

    def log_densities(self, z: Floats) -> Floats:
        """The logarithm of each weight times its density, shape (records, k)."""
        found = np.empty((len(z), len(self.weights)), order="F")
        for at, (weight, mean, covariance) in enumerate(zip(self.weights, self.means, self.covariances, strict=True)):
            root = np.linalg.cholesky(covariance)
            distances = ((z - mean) @ np.linalg.inv(root).T) ** 2
            constant = mean.size * math.log(2 * math.pi) / 2 + np.log(root.diagonal()).sum()
            found[:, at] = (math.log(weight) if weight > 0 else -math.inf) - constant - distances.sum(axis=1) / 2
        return found


class GaussianMixture(Clustering, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="gaussian_mixture"):
    """Clusters as normal distributions: the weight, the mean and the covariance of each.

    What is summed in each round, at public weights, means and covariances: by cluster, the probabilities that records
    belong to it (its responsibilities), and their products with the distances from the cluster's mean and with the
    squares, or products, of these distances; and the log likelihood.  From these follow the next weights, means and
    covariances: A. P. Dempster, N. M. Laird and D. B. Rubin, "Maximum likelihood from incomplete data via the EM
    algorithm", 1977.  As ``sklearn.mixture.GaussianMixture``, whose ``means_init`` and ``precisions_init`` are given,
    of columns divided by half their ranges: ``ridge`` is its ``reg_covar``, and ``tolerance`` its ``tol``.  Where sites
    vanish, the others go on from the clusters so far.

    EM finds the nearest of several maxima: start it from the centres that ``kmeans`` found, or from several places.
    The log likelihood, and the criteria of Akaike and Schwarz with it, are those before the last step, as
    scikit-learn's ``lower_bound_`` is.

    A cluster whose responsibilities come to fewer than ``min_cell`` records is withheld, and another with it, so that
    the total does not give its size away; and then the log likelihood is withheld as well.

    Attributes:
        of: numbers or dates (in days); a record that lacks one of them is left out.
        clusters: how many, 2 or more.
        covariance: ``diagonal``, in which columns are independent within a cluster, or ``full``.
        start: a first mean for each cluster, with a number for each column; empty: means at equal distances on the
            diagonal from the smallest to the largest values of the columns' ranges.
        deviations: the first standard deviation of each column, in every cluster; empty: half of the column's range
            over the number of clusters.  The first weights are equal.
        ridge: what is added to each variance in each step, in squares of half the column's range; 1e-8 to 1.
        tolerance: the search ends when the log likelihood of a record grows by less on average.
        max_rounds: the most rounds.
    """

    covariance: Literal["diagonal", "full"] = "diagonal"
    deviations: tuple[float, ...] = ()
    ridge: float = 1e-6
    tolerance: float = 1e-3

    def check(self, terms: Terms) -> None:
        super().check(terms)
        for name in self.of:
            if isinstance(terms.columns[name], Flag):
                raise ParameterError(f"{name!r} is a flag, which has no normal distribution: use a number or a date")
        if not _LEAST_RIDGE <= self.ridge <= 1:
            raise ParameterError(f"ridge is {self.ridge!r}: must be from {_LEAST_RIDGE:g} to 1")
        if not 0 < self.tolerance < math.inf:
            raise ParameterError(f"tolerance is {self.tolerance!r}: must be a finite number above 0, such as 1e-3")
        if self.deviations and len(self.deviations) != len(self.of):
            raise ParameterError(f"deviations must have {counted(len(self.of), 'number')}, one for each column")
        for name, deviation, half in zip(self.of, self.deviations, self._ranges(terms).half.tolist(), strict=False):
            if not half * math.sqrt(self.ridge) <= deviation <= 2 * half:
                raise ParameterError(
                    f"deviations has {deviation!r} for {name}: must be from {half * math.sqrt(self.ridge):g}, to which "
                    f"ridge leads, to {2 * half:g}, the width of its range"
                )

    def next_ask(self, terms: Terms, released: Sequence[Released]) -> Ask | None:
        if not released:
            return self._start(terms).ask(self._is_full)
        if len(released) >= self.max_rounds or self._settled(released):
            return None
        stepped = self._stepped(released[-1])
        return stepped.ask(self._is_full) if self._is_sound(stepped) else None

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        k, p = self.clusters, len(self.of)
        products = p * (p + 1) // 2 if self._is_full else p
        # Weights come to 1, so that one of them is 1/k or more; means are within -1..1, and so are records; and the
        # eigenvalues of a covariance are from half a ridge to 4 p + 1.
        least = self.ridge / 2
        lowest = math.log(k) + p * math.log(2 * math.pi * (4 * p + 1)) / 2 + 4 * p / (2 * least)
        highest = -p * math.log(2 * math.pi * least) / 2
        return {
            "responsibilities": Real((k,), 1.0),
            "distances": Real((k, p), 2.0),
            "products": Real((k, products), 4.0),
            "log_likelihood": Real((), float(math.ceil(max(lowest, highest)))),
        }

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        mixture = self._asked(ask)
        ranges = self._ranges(terms)
        z = ranges.scaled(ranges.values(chunk))
        logs = mixture.log_densities(z)
        largest = logs.max(axis=1, keepdims=True)
        likelihoods = largest[:, 0] + np.log(np.exp(logs - largest).sum(axis=1))
        shares = np.exp(logs - likelihoods[:, None])
        distances, products = [], []
        for share, mean in zip(shares.T, mixture.means, strict=True):
            away = z - mean
            distances.append(share @ away)
            products.append(upper((away * share[:, None]).T @ away) if self._is_full else share @ away**2)
        return {
            "responsibilities": shares.sum(axis=0),
            "distances": np.array(distances),
            "products": np.array(products),
            "log_likelihood": np.array(likelihoods.sum()),
        }

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        last = released[-1]
        mixture, hidden = self._stepped(last), _hidden(terms, last)
        if not self._is_sound(mixture):
            return MethodResult(withheld="the sums belong to no records: an organisation sent what none has")
        clusters = self._clusters(terms, mixture, last.sums["responsibilities"].clip(0.0), hidden)
        values: dict[str, Any] = {"clusters": clusters, **self._criteria(terms, last, bool(hidden.any()))}
        values |= {"rounds": len(released), "converged": self._settled(released)}
        title = self.label or f"Normal distributions of {', '.join(self.of)}"
        notes = []
        if hidden.any():
            named = ", ".join(str(number + 1) for number in np.flatnonzero(hidden))
            notes.append(f"Clusters withheld, because few records are in one of them: {named}.")
        if not values["converged"]:
            notes.append(f"The log likelihood still grew in round {len(released)}; raise max_rounds, or start nearer.")
        return MethodResult(values, self._tables(title, values), self._figures(terms, title, clusters), tuple(notes))

    def in_words(self, terms: Terms) -> str:
        products = "covariances" if self._is_full else "variances"
        return (
            f"{self.clusters} normal distributions of {', '.join(self.of)}: the weight, the means and the {products} "
            f"of each, and the log likelihood, in {counted(self.max_rounds, 'round')} or fewer."
        )

    @property
    def _is_full(self) -> bool:
        return self.covariance == "full"

    def _asked(self, ask: Ask) -> _Mixture:
        return _Mixture.asked(ask, self.clusters, len(self.of))

    def _start(self, terms: Terms) -> _Mixture:
        ranges, k = self._ranges(terms), self.clusters
        equal = np.full(len(self.of), max(1 / k, math.sqrt(self.ridge)))
        deviations = np.array(self.deviations) / ranges.half if self.deviations else equal
        return _Mixture(
            np.full(k, 1 / k), ranges.scaled(self._first(terms)), np.tile(np.diag(deviations**2), (k, 1, 1))
        )

    def _stepped(self, released: Released) -> _Mixture:
        """The clusters that the sums of a round lead to."""
        before, sums, p = self._asked(released.ask), released.sums, len(self.of)
        counts = np.maximum(sums["responsibilities"], 0.0)
        total = counts.sum()
        weights = counts / total if total > 0 else before.weights
        means, covariances = before.means.copy(), before.covariances.copy()
        for at in np.flatnonzero(counts > _FADED).tolist():
            moved, triangle = sums["distances"][at] / counts[at], sums["products"][at] / counts[at]
            if self._is_full:
                covariances[at] = symmetric(triangle, p) - np.outer(moved, moved) + self.ridge * np.eye(p)
            else:
                covariances[at] = np.diag((triangle - moved**2).clip(0.0, 4.0) + self.ridge)
            means[at] = (before.means[at] + moved).clip(-1.0, 1.0)
        return _Mixture(weights, means, covariances)

    def _settled(self, released: Sequence[Released]) -> bool:
        """Whether the last step moved the log likelihood by little, over the same records as the step before."""
        last, records = released[-1], released[-1].records
        if records < 1:
            return True
        if len(released) < 2 or released[-2].sites != last.sites or released[-2].records != records:
            return False
        grown = float(last.sums["log_likelihood"] - released[-2].sums["log_likelihood"]) / records
        return abs(grown) < self.tolerance

    def _is_sound(self, mixture: _Mixture) -> bool:
        """Whether records can have these covariances: their eigenvalues are a ridge or more, up to rounding."""
        eigenvalues = np.linalg.eigvalsh(mixture.covariances)
        return bool((eigenvalues >= self.ridge / 2).all() and (eigenvalues <= 4 * len(self.of) + 1).all())

    def _clusters(self, terms: Terms, mixture: _Mixture, counts: Floats, hidden: Flags) -> list[dict[str, Any]]:
        """What is reported of each cluster, in the columns' units; None where it is withheld, or has no records."""
        ranges = self._ranges(terms)
        means = ranges.middle + ranges.half * mixture.means
        covariances = mixture.covariances * np.outer(ranges.half, ranges.half)
        found: list[dict[str, Any]] = []
        for at in range(self.clusters):
            is_shown = counts[at] > 0 and not hidden[at]
            deviations = np.sqrt(covariances[at].diagonal())
            one: dict[str, Any] = {
                "weight": None if hidden[at] else float(mixture.weights[at]),
                "count": None if hidden[at] else float(counts[at]),
            }
            for part, numbers in (("mean", means[at]), ("sd", deviations)):
                shown = numbers.tolist() if is_shown else [None] * len(self.of)
                one[part] = dict(zip(self.of, shown, strict=True))
            if self._is_full:
                one["covariance"] = covariances[at].tolist() if is_shown else None
            found.append(one)
        return found

    def _criteria(self, terms: Terms, last: Released, withheld: bool) -> dict[str, float | None]:
        """The log likelihood of the columns in their own units, and what is compared between numbers of clusters."""
        if withheld:
            return dict.fromkeys(("log_likelihood", "aic", "bic"))
        k, p = self.clusters, len(self.of)
        found = float(last.sums["log_likelihood"]) - last.records * float(np.log(self._ranges(terms).half).sum())
        free = k - 1 + k * p + k * (p * (p + 1) // 2 if self._is_full else p)
        return {
            "log_likelihood": found,
            "aic": 2 * free - 2 * found,
            "bic": free * math.log(last.records) - 2 * found,
        }

    def _tables(self, title: str, values: Mapping[str, Any]) -> tuple[Table, ...]:
        rows = [
            (number, one["weight"], *(one[part][name] for name in self.of for part in ("mean", "sd")))
            for number, one in enumerate(values["clusters"], start=1)
        ]
        heads = [f"{name} {part}" for name in self.of for part in ("mean", "sd")]
        names = ("log_likelihood", "aic", "bic")
        fit = Table("Fit", ("what", "value"), tuple((name.replace("_", " "), values[name]) for name in names))
        found = [Table(title, ("cluster", "weight", *heads), tuple(rows)), fit]
        if self._is_full:
            matrices = [
                (number, name, *(one["covariance"][at] if one["covariance"] else [None] * len(self.of)))
                for number, one in enumerate(values["clusters"], start=1)
                for at, name in enumerate(self.of)
            ]
            found.insert(1, Table("Covariances", ("cluster", "column", *self.of), tuple(matrices)))
        return tuple(found)

    def _figures(self, terms: Terms, title: str, clusters: Sequence[Mapping[str, Any]]) -> tuple[Curves, ...]:
        """Of each number, the weighted densities of the clusters, and their sum where none is withheld."""
        found = []
        ranges = self._ranges(terms)
        for name, low, high in zip(self.of, ranges.low.tolist(), ranges.high.tolist(), strict=True):
            column = terms.columns[name]
            if isinstance(column, Date):
                continue
            x = np.linspace(low, high, _POINTS)
            densities = {
                f"cluster {number}": one["weight"] * _normal(x, one["mean"][name], one["sd"][name])
                for number, one in enumerate(clusters, start=1)
                if one["mean"][name] is not None
            }
            if densities and all(one["weight"] is not None for one in clusters):
                densities["all"] = sum(densities.values())
            curves = tuple(Curve(which, tuple(x.tolist()), tuple(y.tolist())) for which, y in densities.items())
            if curves:
                found.append(Curves(title, axis_of(name, column), "density", curves))
        return tuple(found)


def _hidden(terms: Terms, released: Released) -> Flags:
    """The clusters that are withheld, shape (k,): a part of a record counts as one."""
    counts = np.maximum(released.sums["responsibilities"], 0.0)
    return hidden_in(terms, np.where(counts > 0, np.maximum(np.floor(counts), 1), 0).astype(np.int64))


def _normal(x: Floats, mean: float, sd: float) -> Floats:
    return np.asarray(np.exp(-(((x - mean) / sd) ** 2) / 2) / (sd * math.sqrt(2 * math.pi)))
