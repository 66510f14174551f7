"""What every method of a study is: a rule for what to sum next, given what was released so far.

A method keeps nothing between rounds.  The analyst and every site derive the next question from the same public
history, so that a site sees for itself that the server asks what the study says.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.statistics.asks import Ask, Released, Terms
from secagg.statistics.cells import Cells
from secagg.statistics.chunk import Chunk
from secagg.statistics.columns import bounds_of
from secagg.statistics.results import MethodResult


class Method(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="method"):
    """One entry of a study's ``methods``.

    Attributes:
        where: an expression; the method has only the records for which it is true.
        label: what reports call the method; empty: its name in the study.
    """

    where: str = ""
    label: str = ""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns without which a record is left out; the others a method treats one by one."""
        return self.columns

    def noisy_rounds(self, terms: Terms) -> tuple[Ask, ...]:
        """What each of its rounds may ask when all its sums have noise; nothing when its results would make no sense.

        The parameters may be others than those that will be asked for.
        """
        return ()

    @abstractmethod
    def check(self, terms: Terms) -> None:
        """Raises ParameterError when the study's columns, or the method's own parameters, do not suit it."""

    @abstractmethod
    def next_ask(self, terms: Terms, released: Sequence[Released]) -> Ask | None:
        """What to sum next; None when the method has all that it needs.

        Depends on the arguments alone, and gives the same on every machine, but for the last digits of parameters.
        """

    @abstractmethod
    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        """What the sums of an ask are, by name: letters, digits and underscores."""

    @abstractmethod
    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        """A site's own: some records' part of each of the ``cells``.

        ``chunk`` holds records that are complete in ``needs``, and may hold none.  Never raises for what is in it.
        """

    @abstractmethod
    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        """What is reported, once ``next_ask`` has nothing more to ask."""

    @abstractmethod
    def in_words(self, terms: Terms) -> str:
        """What it releases, in one or two sentences that a person approves."""


class ByColumn(Method, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A method that treats columns one by one, each with its own missing values.

    Attributes:
        of: the columns.
    """

    of: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.of

    @property
    def needs(self) -> tuple[str, ...]:
        return ()


def check_columns(of: Sequence[str], terms: Terms) -> None:
    """Raises ParameterError for no columns, for one that is named twice, and for a category."""
    if not of:
        raise ParameterError("of names no columns: give at least one")
    for name in of:
        if of.count(name) > 1:
            raise ParameterError(f"of names {name!r} twice: leave one of them out")
        bounds_of(terms.columns[name])
