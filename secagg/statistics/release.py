"""The rules of a study for what is released: small cells, few records, few sites, and noise."""

from __future__ import annotations

import msgspec

from secagg.errors import ParameterError

_FEWEST: int = 2


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a study's results show.

    The one who runs the server, and every site, sees the sums before these rules are applied: they protect from the
    readers of the results.  Noise protects from everybody.

    Attributes:
        min_cell: counts below it, other than 0, are withheld; 1 withholds nothing.
        complementary: whether further cells are withheld so that margins do not give the small ones away.
        min_organisations: the fewest sites in a sum.
        min_difference: the fewest sites in which two sets of sites that were summed may differ: with one site in one
            sum and not in another, their difference is that site's own.  1 allows any.
    """

    min_cell: int = 5
    complementary: bool = True
    min_organisations: int = 3
    min_difference: int = 2

    def __post_init__(self) -> None:
        for name, least in (("min_cell", 1), ("min_organisations", _FEWEST), ("min_difference", 1)):
            if getattr(self, name) < least:
                raise ParameterError(f"{name} is {getattr(self, name)}: must be {least} or more")


class NoiseTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Differential privacy of one record, over all rounds of the study.

    Two sets of data are neighbours when one record of one organisation is in one of them and not in the other.

    Attributes:
        epsilon, delta: what the whole study costs.
        colluders: organisations that may tell one another, or the server, what noise they added; that of the others is
            enough.  At least 1: every organisation sees the sums, and knows its own.
        spare_rounds: how many rounds may fail and be asked again; each takes a part of the budget.
    """

    epsilon: float
    delta: float
    colluders: int = 1
    spare_rounds: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < float("inf"):
            raise ParameterError(f"epsilon is {self.epsilon!r}: must be a finite number above 0")
        if not 0 < self.delta < 1:
            raise ParameterError(f"delta is {self.delta!r}: must be above 0 and below 1, such as 1e-6")
        for name, least in (("colluders", 1), ("spare_rounds", 0)):
            if getattr(self, name) < least:
                raise ParameterError(f"{name} is {getattr(self, name)}: must be {least} or more")
