"""``--clip``, ``--array-bits`` and ``--exact``: how arrays are encoded, all of them or by name.

    --clip 10                    the largest absolute value kept, of every array that has no clip of its own
    --clip 'bias*=0.5'           the same of the arrays whose name matches; the first pattern that matches counts
    --array-bits 'name=24'       bits of one encoded value, in place of --bits
    --exact 'visits=0..100000'   whole numbers from 0 to 100000, summed without rounding
    --exact 'cost=-1e6..1e6:2'   numbers of 2 decimals, summed without rounding

A name may hold "=": the value stands behind the last one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final, TypeAlias, TypeVar, final

import typer

from secagg.encoding import Encoder, Exact, Template
from secagg.encoding.limits import FEWEST_BITS, LARGEST_CLIP, MOST_BITS, SMALLEST_CLIP, integer, real
from secagg.encoding.settings import matching
from secagg.errors import ParameterError

ClipTexts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--clip",
        metavar="[ARRAY=]VALUE",
        help="The largest absolute value that is kept; larger ones are clipped. ARRAY is a name or a pattern such as "
        "'bias*', and the value then holds for these arrays alone. The option may be repeated.",
        show_default=False,
    ),
]
ArrayBitsTexts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--array-bits",
        metavar="ARRAY=BITS",
        help="Bits of one encoded value of these arrays, in place of --bits. The option may be repeated.",
        show_default=False,
    ),
]
ExactTexts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--exact",
        metavar="ARRAY=LOW..HIGH[:DECIMALS]",
        help="Sum these arrays without rounding: numbers from LOW to HIGH that are whole, or that have at most "
        "DECIMALS digits after the point. Values outside of the range are clipped. The option may be repeated.",
        show_default=False,
    ),
]

_LISTED: Final = 8  # names of arrays in one message
_MOST_DIGITS: Final = 30  # of a bound on the command line; far more than Exact takes
_RANGE: Final = re.compile(r"(?P<low>[^.:]+(?:\.[0-9]+)?)\.\.(?P<high>[^:]+)(?::(?P<decimals>.+))?")
_V = TypeVar("_V")


@final
@dataclass(frozen=True, slots=True)
class LayoutOptions:
    """What the options say.

    Attributes:
        clip: of every array without a clip of its own; None where the options do not say.
        clips, array_bits, exact: by the name of an array or a pattern, as ``Encoder`` takes them.
    """

    clip: float | None = None
    clips: Mapping[str, float] = field(default_factory=dict)
    array_bits: Mapping[str, int] = field(default_factory=dict)
    exact: Mapping[str, Exact] = field(default_factory=dict)

    @property
    def of_single_arrays(self) -> tuple[tuple[str, Mapping[str, object]], ...]:
        """The options that say something of single arrays, each with what it says by name or pattern."""
        return ("--clip", self.clips), ("--array-bits", self.array_bits), ("--exact", self.exact)

    def check_names(self, names: Sequence[str]) -> None:
        """Raises ParameterError for a pattern that matches none of these arrays."""
        known = frozenset(names)
        for option, patterns in self.of_single_arrays:
            for pattern in patterns:
                if not matching(pattern, known):
                    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
                    raise ParameterError(
                        f"{option} '{pattern}=...': no array has this name; the arrays are "
                        f"{', '.join(names[:_LISTED])}{more}"
                    )

    def exact_of(self, names: Iterable[str]) -> dict[str, Exact]:
        """The exact range of each of these arrays that has one."""
        return _resolved(self.exact, names)

    def clips_of(self, names: Iterable[str]) -> dict[str, float]:
        """The clip of each of these arrays that the options say one for."""
        names = list(names)
        everybodys = {} if self.clip is None else dict.fromkeys(names, self.clip)
        return everybodys | _resolved(self.clips, names)

    def without_clip(self, names: Iterable[str]) -> list[str]:
        """The arrays that neither have a clip of their own nor are exact: ``clip`` is for these."""
        names = list(names)
        own = _resolved({**self.clips, **self.exact}, names)
        return [name for name in names if name not in own]

    def encoder(
        self,
        template: Template,
        bits: int,
        max_weight: int | None = None,
        *,
        clip: float | None = None,
        randomness: Callable[[int], bytes] | None = None,
    ) -> Encoder:
        """The encoder that these options make; ``clip`` is what stands in where ``--clip`` gives no value for all.

        Raises ParameterError, in the command line's words.
        """
        names = [leaf.name for leaf in template.leaves]
        self.check_names(names)
        largest = self.clip if self.clip is not None else clip
        if largest is None:
            if bare := self.without_clip(names):
                raise ParameterError(
                    f"--clip is missing: {', '.join(bare[:_LISTED])} would have none; give --clip VALUE, or "
                    f"--clip '{bare[0]}=VALUE'"
                )
            largest = 1.0  # no array uses it
        integer("--bits", bits, FEWEST_BITS, MOST_BITS)
        return Encoder(
            template,
            clip=largest,
            bits=bits,
            max_weight=max_weight,
            clips=self.clips,
            array_bits=self.array_bits,
            exact=self.exact,
            randomness=os.urandom if randomness is None else randomness,
        )


def parse_layout(
    clip: Iterable[str] | None = None, array_bits: Iterable[str] | None = None, exact: Iterable[str] | None = None
) -> LayoutOptions:
    """The options' texts, each as it was given.  Raises ParameterError, which quotes the option."""
    overall, clips = parse_bounds("--clip", clip or ())
    return LayoutOptions(
        clip=overall,
        clips=clips,
        array_bits=_by_name("--array-bits", array_bits or (), _bits),
        exact=_by_name("--exact", exact or (), _exact),
    )


def parse_bounds(option: str, texts: Iterable[str]) -> tuple[float | None, dict[str, float]]:
    """``[ARRAY=]VALUE`` each: the value of all arrays, None where no text says one, and those by name or pattern.

    Raises ParameterError, which quotes the option.
    """
    overall: float | None = None
    by_name: list[str] = []
    for text in texts:
        if "=" in text:
            by_name.append(text)
        elif overall is not None:
            raise ParameterError(
                f"{option} {text}: {option} is there twice for all arrays; write {option} 'ARRAY={text}' for one array"
            )
        else:
            overall = _bound(option, text, text)
    return overall, _by_name(option, by_name, lambda value, text: _bound(option, value, text))


def _by_name(option: str, texts: Iterable[str], value_of: Callable[[str, str], _V]) -> dict[str, _V]:
    found: dict[str, _V] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not equals or not name:
            raise _refused(
                option, text, "write it as ARRAY=VALUE, with the name of an array or a pattern such as 'bias*'"
            )
        if name in found:
            raise _refused(option, text, f"{name} is there twice; give it one value")
        found[name] = value_of(value.strip(), text)
    return found


def _bound(option: str, value: str, text: str) -> float:
    what = "the clip" if option == "--clip" else "the bound"
    try:
        return real(what, float(value), SMALLEST_CLIP, LARGEST_CLIP)
    except ParameterError as refused:
        raise _refused(option, text, str(refused)) from None
    except ValueError:
        raise _refused(option, text, f"{value!r} is not a number") from None


def _bits(value: str, text: str) -> int:
    try:
        return integer("the number of bits", int(value), FEWEST_BITS, MOST_BITS)
    except ParameterError as refused:
        raise _refused("--array-bits", text, str(refused)) from None
    except ValueError:
        raise _refused("--array-bits", text, f"{value!r} is not a whole number") from None


def _exact(value: str, text: str) -> Exact:
    parts = _RANGE.fullmatch(value)
    if parts is None:
        raise _refused("--exact", text, "write the range as LOW..HIGH or LOW..HIGH:DECIMALS, such as 0..100000:2")
    low, high = (_whole(parts[name], text) for name in ("low", "high"))
    decimals = _whole(parts["decimals"] or "0", text)
    try:
        return Exact(low, high, decimals)
    except ParameterError as refused:
        raise _refused("--exact", text, str(refused)) from None


def _whole(number: str, text: str) -> int:
    try:
        exactly = Decimal(number.strip())
    except InvalidOperation:
        exactly = Decimal("NaN")
    # A huge exponent would take memory before Exact could refuse it.
    if not exactly.is_finite() or exactly.adjusted() >= _MOST_DIGITS or exactly != exactly.to_integral_value():
        raise _refused("--exact", text, f"{number.strip()!r} is not a whole number of at most {_MOST_DIGITS} digits")
    return int(exactly)


def _refused(option: str, text: str, reason: str) -> ParameterError:
    return ParameterError(f"{option} '{text}': {reason}")


def _resolved(patterns: Mapping[str, _V], names: Iterable[str]) -> dict[str, _V]:
    """The value of each name that a pattern matches; the first one counts, as in ``Encoder``."""
    known = dict.fromkeys(names)
    found: dict[str, _V] = {}
    for pattern, value in patterns.items():
        for name in matching(pattern, known):
            found.setdefault(name, value)
    return found
