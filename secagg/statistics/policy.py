"""A site's own rules, which no study can lower: what it may be asked, and how few records it may answer for."""

from __future__ import annotations

import math
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
_FEWEST: Final = {
    "min_organisations": 2,
    "min_records": 1,
    "min_cell": 1,
    "min_difference": 1,
    "max_rounds": 1,
    "min_colluders": 1,
}


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
        max_epsilon: the largest epsilon that a study may have; 0 asks for no noise, and any other number for some in
            every study.
        max_delta: the largest delta of a study with noise.
        min_colluders: the fewest colluders that a study's noise must bear.
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
    max_epsilon: float = 0.0
    max_delta: float = 1e-5
    min_colluders: int = 1
    approved: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in _FEWEST.items():
            if getattr(self, name) < least:
                raise ParameterError(f"{name} is {getattr(self, name)}: must be {least} or more")
        if not 0 <= self.max_epsilon < math.inf:
            raise ParameterError(f"max_epsilon is {self.max_epsilon!r}: must be a finite number of 0 or more")
        if not 0 < self.max_delta < 1:
            raise ParameterError(f"max_delta is {self.max_delta!r}: must be above 0 and below 1, such as 1e-6")
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
        _refuse([*self._refused_names(study), *self._refused_numbers(study), *self._refused_noise(study)])

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

    def _refused_noise(self, study: Study) -> list[str]:
        if not self.max_epsilon:
            return []
        noise = study.noise
        if noise is None:
            return [
                f"max_epsilon: the study has no noise, and the policy asks for an epsilon of {self.max_epsilon:g} or "
                "less: have [noise] in the study, or set max_epsilon to 0"
            ]
        refused = [
            f"{name}: the study has {given:g}, and the policy allows {most:g}: have the study's lowered, or raise the "
            "policy's"
            for name, given, most in (
                ("max_epsilon", noise.epsilon, self.max_epsilon),
                ("max_delta", noise.delta, self.max_delta),
            )
            if given > most
        ]
        if noise.colluders < self.min_colluders:
            refused.append(
                f"min_colluders: the study's noise bears {noise.colluders}, and the policy asks for "
                f"{self.min_colluders} or more: have the study's colluders raised, or lower the policy's"
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
