"""A site's own rules, which no study can lower: what it may be asked, and how few records it may answer for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from secagg.errors import DisclosureError, ParameterError
from secagg.statistics.methods import AnyMethod
from secagg.statistics.study import Study
from secagg.wording import counted

if TYPE_CHECKING:
    from secagg.statistics.site import SiteCheck

_LARGEST_FILE: Final = 2**20
_DIGEST: Final = re.compile("[0-9a-f]{64}")
_METHODS: Final = tuple(sorted(str(method.__struct_config__.tag) for method in get_args(AnyMethod)))
_FEWEST: Final = {"min_organisations": 2, "min_records": 1, "min_cell": 1, "min_difference": 1, "max_rounds": 1}


class SitePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a site allows; made with ``load_policy``.  What is not listed is refused.

    Attributes:
        columns: of the site's own data, by the names that they have there, or patterns such as ``"lab_*"``.
        methods: by the names that a study has for them, or patterns: ``"*"`` allows all.
        min_organisations: the fewest organisations that a study may sum.
        min_records: the fewest records of this site's own in the study, and in each method that has any.
        min_cell: the lowest ``min_cell`` that a study may have.
        min_difference: the lowest ``min_difference``; see ``secagg.statistics.ledger``.
        max_rounds: the most rounds that a study may have.
        approved: digests of studies, in hexadecimal digits.  Empty: any study that keeps to the rest; otherwise these
            alone, which must keep to the rest as well.
    """

    columns: tuple[str, ...]
    methods: tuple[str, ...]
    min_organisations: int = 3
    min_records: int = 5
    min_cell: int = 5
    min_difference: int = 2
    max_rounds: int = 30
    approved: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in _FEWEST.items():
            if getattr(self, name) < least:
                raise ParameterError(f"{name} is {getattr(self, name)}: must be {least} or more")
        for pattern in self.methods:
            if not any(fnmatchcase(method, pattern) for method in _METHODS):
                raise ParameterError(f"methods: there is no {pattern!r}; there are {', '.join(_METHODS)}")
        for digest in self.approved:
            if not _DIGEST.fullmatch(digest):
                raise ParameterError(
                    f"approved: {digest!r} is no digest: give the 64 hexadecimal digits that `secagg stats check` shows"
                )

    def check(self, study: Study) -> None:
        """Before anything is read.  Raises DisclosureError, which names each entry that refuses the study."""
        _refuse([*self._refused_names(study), *self._refused_numbers(study)])

    def check_records(self, found: SiteCheck) -> None:
        """Before the site connects.  Raises DisclosureError; it tells how many records the site has."""
        least = self.min_records
        few = [f"the study has {counted(found.records, 'record')} of this site"] if found.records < least else []
        few += [
            f"methods.{name} has {counted(complete, 'record')} of this site"
            for name, (complete, _) in found.by_method.items()
            if 0 < complete < least
        ]
        _refuse(
            f"min_records: {one}, and the policy asks for {least}: do not take part, or lower min_records"
            for one in few
        )

    def _refused_names(self, study: Study) -> list[str]:
        refused = []
        if self.approved and study.digest.hex() not in self.approved:
            refused.append(
                f"approved: the study's digest is {study.digest.hex()}, and the policy approves "
                f"{counted(len(self.approved), 'other')}: add it to approved once you agree with the study"
            )
        read = sorted({column.source or name for name, column in study.columns.items() if not column.expression})
        refused += [
            f"columns: the study reads {name!r}, and the policy allows {', '.join(self.columns) or 'none'}: "
            "add it to columns"
            for name in read
            if not any(fnmatchcase(name, pattern) for pattern in self.columns)
        ]
        asked = sorted({str(method.__struct_config__.tag) for method in study.methods.values()})
        refused += [
            f"methods: the study asks for {name!r}, and the policy allows {', '.join(self.methods) or 'none'}: "
            "add it to methods"
            for name in asked
            if not any(fnmatchcase(name, pattern) for pattern in self.methods)
        ]
        return refused

    def _refused_numbers(self, study: Study) -> list[str]:
        release = study.release
        refused = [
            f"{name}: the study has {given}, and the policy asks for {least} or more: raise the study's, or lower "
            "the policy's"
            for name, given, least in (
                ("min_organisations", release.min_organisations, self.min_organisations),
                ("min_cell", release.min_cell, self.min_cell),
                ("min_difference", release.min_difference, self.min_difference),
            )
            if given < least
        ]
        if study.max_rounds > self.max_rounds:
            refused.append(
                f"max_rounds: the study has {study.max_rounds}, and the policy allows {self.max_rounds}: have "
                "the study's lowered, or raise the policy's"
            )
        return refused


def load_policy(path: str | os.PathLike[str]) -> SitePolicy:
    """The policy in a TOML file.  Raises ParameterError, which names the file and what is wrong, and OSError."""
    file = Path(path)
    if file.stat().st_size > _LARGEST_FILE:
        raise ParameterError(f"{file}: more than {_LARGEST_FILE} bytes, which is no policy")
    try:
        return msgspec.toml.decode(file.read_bytes(), type=SitePolicy)
    except msgspec.ValidationError as wrong:
        why = wrong.__cause__ if isinstance(wrong.__cause__, ParameterError) else wrong
        raise ParameterError(f"{file}: {why}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise ParameterError(f"{file}: this is no TOML document: {wrong}") from None


def _refuse(why: Iterable[str]) -> None:
    if words := "; ".join(why):
        raise DisclosureError(words)
