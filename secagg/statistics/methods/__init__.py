"""The methods of a study: each is a table's row in ``docs/statistics.md``."""

from __future__ import annotations

from typing import TypeAlias

from secagg.statistics.methods.compare import Compare
from secagg.statistics.methods.covariance import Covariance, Pca
from secagg.statistics.methods.cox import Cox
from secagg.statistics.methods.crosstab import Crosstab
from secagg.statistics.methods.describe import Describe
from secagg.statistics.methods.gaussian_mixture import GaussianMixture
from secagg.statistics.methods.glm import Glm
from secagg.statistics.methods.histogram import Histogram
from secagg.statistics.methods.kaplan_meier import KaplanMeier
from secagg.statistics.methods.kmeans import Kmeans
from secagg.statistics.methods.linear import Linear, Ridge
from secagg.statistics.methods.presence import All, AnyOf, Distinct, Range
from secagg.statistics.methods.quantiles import Quantiles
from secagg.statistics.methods.roc import Roc
from secagg.statistics.methods.standardise import Standardise

AnyMethod: TypeAlias = (
    All  # one method a line
    | AnyOf
    | Compare
    | Covariance
    | Cox
    | Crosstab
    | Describe
    | Distinct
    | GaussianMixture
    | Glm
    | Histogram
    | KaplanMeier
    | Kmeans
    | Linear
    | Pca
    | Quantiles
    | Range
    | Ridge
    | Roc
    | Standardise
)

__all__ = [
    "All",
    "AnyMethod",
    "AnyOf",
    "Compare",
    "Covariance",
    "Cox",
    "Crosstab",
    "Describe",
    "Distinct",
    "GaussianMixture",
    "Glm",
    "Histogram",
    "KaplanMeier",
    "Kmeans",
    "Linear",
    "Pca",
    "Quantiles",
    "Range",
    "Ridge",
    "Roc",
    "Standardise",
]
