"""What the owner of a client has written in its own config: no server writes any of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeAlias, final

from secagg.encoding import LayoutPolicy
from secagg.errors import ParameterError
from secagg.pairwise.carrier import ANY_CARRIER, Carrier
from secagg.pairwise.config import Policy
from secagg.pairwise.values import as_suite

FilePath: TypeAlias = str | os.PathLike[str]

_ACTIVE_GAMMA: Final = 0.2
"""In ``active`` a client must bound the colluders itself; this is ``RoundConfig``'s default too."""
PATHS: Final = ("identity", "directory", "tokens", "budget", "sums")
_FRACTIONS: Final = frozenset({"min_max_weight", "max_max_weight"})
"""The fields of a LayoutPolicy that are whole numbers by default, and may be fractions."""
_OTHERS: Final = (
    *("gamma", "min_survivors", "max_groups", "max_complaints", "suite", "carrier"),
    *("again", "evaluate", "min_difference"),
)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class OwnConfig:
    """The owner's config, whatever a host keeps it in.

    Attributes:
        values: by key.
        where: what people call it, such as "node config".
        prefix: of every key that is ours.
        joint: between the words of a key, such as "-".
    """

    values: Mapping[str, object]
    where: str
    prefix: str = ""
    joint: str = "_"

    def key(self, name: str) -> str:
        """The key of a setting: ``min_clip`` is ``secagg-min-clip`` in Flower."""
        return self.prefix + name.replace("_", self.joint)

    def get(self, name: str) -> object:
        """The value of a setting; None where it is not set."""
        return self.values.get(self.key(name))

    def wrong(self, name: str, wanted: str) -> ParameterError:
        """The error of a setting that is something else than what is wanted."""
        return ParameterError(f"{self.where} {self.key(name)} is {self.get(name)!r}: {wanted}")

    def path(self, name: str) -> str | None:
        """The path of a file.  Raises ParameterError."""
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "give the path of a file")
        return value

    def flag(self, name: str) -> bool | None:
        """Raises ParameterError for what is no bool."""
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "give true or false")
        return value

    def names(self, name: str) -> frozenset[str] | None:
        """Names or patterns; None where it is not set.  Raises ParameterError for what is no text."""
        value = self.get(name)
        return None if value is None else self._words(name, value)

    def min_difference(self) -> int | None:
        """The fewest members that two sums may differ by.  Raises ParameterError."""
        value = self.get("min_difference")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 2):
            raise self.wrong("min_difference", "a whole number from 2 on")
        return value

    def policy(self, policy: Policy | None, *, active: bool) -> Policy:
        """The policy with what is set here.  Raises ParameterError."""
        if policy is None:
            # An honest dealer opens the shares of liars alone, however many complaints the config allows.
            policy = Policy(gamma=_ACTIVE_GAMMA if active else 0.0, max_complaints=None)
        gamma, suite = self.get("gamma"), self.get("suite")
        if gamma is not None:
            if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not 0 <= gamma < 1:
                raise self.wrong("gamma", "a number from 0 to 1")
            policy = replace(policy, gamma=float(gamma))
        if (survivors := self.whole("min_survivors")) is not None:
            policy = replace(policy, min_survivors=survivors)
        if (groups := self.whole("max_groups")) is not None:
            policy = replace(policy, max_groups=groups)
        if (complaints := self.whole("max_complaints")) is not None:
            policy = replace(policy, max_complaints=complaints)
        if suite is not None:
            if not isinstance(suite, str):
                raise self.wrong("suite", "the name of a suite, such as 'hybrid'")
            policy = replace(policy, suites=frozenset({as_suite(suite)}))
        if (carrier := self.get("carrier")) is not None:
            if carrier not in (*Carrier, ANY_CARRIER):
                raise self.wrong("carrier", f"must be one of {', '.join((*Carrier, ANY_CARRIER))}")
            policy = replace(policy, carrier="any" if carrier == ANY_CARRIER else Carrier(str(carrier)))
        return policy

    def layout_policy(self, policy: LayoutPolicy) -> LayoutPolicy:
        """The policy with what is set here, field by field.  Raises ParameterError."""
        given: dict[str, Any] = {}
        for each in fields(policy):
            if (value := self.get(each.name)) is not None:
                present = getattr(policy, each.name)
                given[each.name] = self._like(float(present) if each.name in _FRACTIONS else present, each.name, value)
        return replace(policy, **given) if given else policy

    def check_known(self, more: Iterable[str] = ()) -> None:
        """Raises ParameterError for keys that nobody reads: a bound that is misspelt would bound nothing.

        For a file that is all ours; ``more`` are the settings that only its host has.
        """
        names = [*PATHS, *_OTHERS, *(each.name for each in fields(LayoutPolicy)), *more]
        known = {self.key(name) for name in names}
        if strangers := sorted(set(self.values) - known):
            raise ParameterError(f"{self.where} has {strangers[0]!r}; it may have {', '.join(sorted(known))}")

    def whole(self, name: str) -> int | None:
        """Raises ParameterError for what is no whole number."""
        value = self.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self.wrong(name, "a whole number")
        return value

    def _words(self, name: str, value: object) -> frozenset[str]:
        if not isinstance(value, str):
            raise self.wrong(name, "give names or patterns with commas between them")
        return frozenset(word.strip() for word in value.split(",") if word.strip())

    def _like(self, present: object, name: str, value: object) -> object:
        """A value as the field that now holds ``present`` takes it."""
        if isinstance(present, bool):
            if isinstance(value, bool):
                return value
            wanted = "true or false"
        elif isinstance(present, frozenset):
            return self._words(name, value)
        elif isinstance(present, float) or present is None:  # None stands for a bound of floats that is not set
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
            wanted = "a number"
        else:
            if isinstance(value, int) and not isinstance(value, bool):
                return value
            wanted = "a whole number"
        raise self.wrong(name, f"give {wanted}")
