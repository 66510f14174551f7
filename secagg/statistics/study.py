"""A study: one document that everybody agrees on, and whose digest ties every round to it."""

from __future__ import annotations

import math
import os
import re
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec

from secagg.errors import ParameterError
from secagg.statistics.asks import Terms
from secagg.statistics.columns import Column
from secagg.statistics.counts import COUNTS, ColumnCounts
from secagg.statistics.expressions import check_expressions
from secagg.statistics.method import Method
from secagg.statistics.methods import AnyMethod
from secagg.statistics.noise import check_cells
from secagg.statistics.release import NoiseTerms, Release
from secagg.wording import counted

_LABEL: Final = b"secagg study 1\n"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_LARGEST_FILE: Final = 2**20
_MOST_RECORDS: Final = 2**32
_MOST_VALUES: Final = 2**22
"""Of a method's first round: 32 MB of a site's vector."""


class Study(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """What is asked of whom, and what is released.

    Made with ``Study.load`` or ``Study.from_toml``; ``digest`` is over what the document says, not over how it is
    written.

    Attributes:
        name: of the study; a line of text.
        purpose: why it is done, for the people who approve it.
        columns: by name.
        methods: by name.
        filters: expressions; a record is in the study when all of them are true.
        release: what the results show.
        noise: differential privacy; None: none.
        max_records: the most records that a site may have.
        max_rounds: the most rounds.  With noise they may be fewer: see ``noisy_rounds``.
    """

    name: str
    purpose: str = ""
    columns: dict[str, Column]
    methods: dict[str, AnyMethod]
    filters: tuple[str, ...] = ()
    release: Release = Release()
    noise: NoiseTerms | None = None
    max_records: int = 10_000_000
    max_rounds: int = 30

    def __post_init__(self) -> None:
        for kind, names in (("columns", self.columns), ("methods", self.methods)):
            if not names:
                raise ParameterError(f"the study has no {kind}: give at least one")
            for name in names:
                if not _NAME.fullmatch(name):
                    raise ParameterError(
                        f"{kind}: the name {name!r} must be letters, digits and underscores, and begin with no digit; "
                        "a column's own name in the file goes into its source"
                    )
        if not 1 <= self.max_records <= _MOST_RECORDS:
            raise ParameterError(f"max_records is {self.max_records}: must be from 1 to {_MOST_RECORDS}")
        if self.max_rounds < 1:
            raise ParameterError(f"max_rounds is {self.max_rounds}: must be 1 or more")
        if COUNTS in self.methods:
            raise ParameterError(f"methods: every study has {COUNTS!r}, which counts missing values: take another name")
        check_expressions(self.columns, self._conditions())
        for name, method in self.methods.items():
            for column in method.columns:
                if column not in self.columns:
                    raise ParameterError(f"methods.{name}: the study has no column {column!r}")
            try:
                method.check(self.terms)
                self._check_size(method)
            except ParameterError as wrong:
                raise ParameterError(f"methods.{name}: {wrong}") from None
        if self.noise is not None:
            self._check_noise(self.noise)

    def _check_size(self, method: Method) -> None:
        """Raises ParameterError for a method whose first round sums more than a site can hold with ease."""
        if (ask := method.next_ask(self.terms, ())) is None:
            return
        values = sum(math.prod(cells.shape) for cells in method.cells(self.terms, ask).values())
        if values > _MOST_VALUES:
            raise ParameterError(
                f"a round of it sums {counted(values, 'value')}, and at most {_MOST_VALUES:,} are allowed: take fewer "
                "bins, fewer columns, or columns with fewer values"
            )

    def _check_noise(self, noise: NoiseTerms) -> None:
        """Raises ParameterError for methods whose sums can have none, and for too few organisations to make it."""
        if self.honest < 1:
            raise ParameterError(
                f"noise: colluders is {noise.colluders}, and a sum may be over {self.release.min_organisations} "
                "organisations: raise min_organisations, or lower colluders"
            )
        for name, method in self.asked.items():
            asks = method.noisy_rounds(self.terms)
            if not asks:
                kind = method.__struct_config__.tag
                raise ParameterError(
                    f"methods.{name}: {kind!r} has no results that make sense with noise in its sums: leave it out, or "
                    "leave [noise] out, and decide on the study without it"
                )
            for ask in asks:
                check_cells(f"methods.{name}", method.cells(self.terms, ask), self.max_records)

    @property
    def honest(self) -> int:
        """The fewest organisations in a sum whose noise nobody else knows."""
        return self.release.min_organisations - (0 if self.noise is None else self.noise.colluders)

    @cached_property
    def noisy_rounds(self) -> int:
        """The most rounds of a study with noise, those that fail among them; 0 without noise.

        They are what the slowest method needs, and the spare ones: the fewer rounds there are, the less noise each has.
        """
        if self.noise is None:
            return 0
        needed = max(len(method.noisy_rounds(self.terms)) for method in self.asked.values())
        return min(self.max_rounds, needed + self.noise.spare_rounds)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Study:
        """The study in a TOML file.  Raises ParameterError, which names the file, and OSError."""
        file = Path(path)
        if file.stat().st_size > _LARGEST_FILE:
            raise ParameterError(f"{file}: more than {_LARGEST_FILE} bytes, which is no study")
        try:
            return cls.from_toml(file.read_text(encoding="utf-8"))
        except (ParameterError, UnicodeDecodeError) as wrong:
            raise ParameterError(f"{file}: {wrong}") from None

    @classmethod
    def from_toml(cls, text: str) -> Study:
        """The study in a TOML document.  Raises ParameterError, which names the entry that is wrong."""
        try:
            document = msgspec.toml.decode(text)
        except msgspec.DecodeError as wrong:
            raise ParameterError(f"this is no TOML document: {wrong}") from None
        for kind, of in (("columns", Column), ("methods", AnyMethod)):
            entries = document.get(kind)
            for name, entry in entries.items() if isinstance(entries, dict) else ():
                _converted(f"{kind}.{name}: ", entry, of)
        study: Study = _converted("", document, cls)
        return study

    @cached_property
    def terms(self) -> Terms:
        """What its methods know of it."""
        return Terms(self.columns, self.max_records, self.release, self.noise is not None)

    @cached_property
    def used(self) -> tuple[str, ...]:
        """The columns that its methods read, ascending."""
        return tuple(sorted({column for method in self.methods.values() for column in method.columns}))

    @cached_property
    def asked(self) -> dict[str, Method]:
        """Its methods, and the counts by column that every study has: all that is summed."""
        return {**self.methods, COUNTS: ColumnCounts(of=self.used)}

    @cached_property
    def digest(self) -> bytes:
        """32 bytes over all that the study says."""
        return sha256(_LABEL + msgspec.json.encode(self.to_data(), order="deterministic")).digest()

    def _conditions(self) -> dict[str, str]:
        """Filters and each method's ``where``, by what a message calls them."""
        filters = {f"filters, entry {position}": text for position, text in enumerate(self.filters, 1)}
        return filters | {
            f"methods.{name}.where": method.where for name, method in self.methods.items() if method.where
        }

    def to_data(self) -> Any:
        """Mappings, lists, strings and numbers, as TOML has them."""
        return msgspec.to_builtins(self)


def _converted(entry: str, data: Any, of: Any) -> Any:
    """What an entry of a document says.  Raises ParameterError, which begins with ``entry``: msgspec names no keys."""
    try:
        return msgspec.convert(data, type=of)
    except msgspec.ValidationError as wrong:
        why = wrong.__cause__ if isinstance(wrong.__cause__, ParameterError) else wrong
        raise ParameterError(f"{entry}{why}") from None
