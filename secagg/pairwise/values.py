"""The kinds of value that configs and policies are made of, and what is refused of them before anything is computed.

Every check returns the value in the type that the rest of the library works with, and raises ParameterError, which
names the value met and what is allowed.
"""

from __future__ import annotations

import operator
from typing import Final

import numpy as np

from secagg.errors import ParameterError
from secagg.pairwise.phases import ThreatModel
from secagg.primitives.suites import Suite
from secagg.wording import counted

FEWEST_CLIENTS: Final = 3
"""Of two, each could take its own vector away from the sum."""
MAX_CLIENTS: Final = 2**20
MAX_LENGTH: Final = 2**36
MAX_CONTEXT_BYTES: Final = 1024
"""These are R-CONFIG-4's; every size of a message is bounded through them."""
MAX_ATTACHMENT_BYTES: Final = 1024
"""An attachment is a key or so: whatever is larger belongs into the vector."""
MAX_BITS: Final = 256
"""The most that sigma, grinding_bits and eta may be."""


def as_threat_model(value: ThreatModel | str) -> ThreatModel:
    """A threat model, given as such or by name."""
    try:
        return ThreatModel(value)
    except ValueError:
        raise ParameterError(f"threat model {value!r}: must be one of {', '.join(ThreatModel)}") from None


def as_suite(value: Suite | int | str) -> Suite:
    """A suite, given as such, by number, or by its name in any case: ``"hybrid"``, ``"aes-128"``."""
    try:
        return Suite[value.upper().replace("-", "_")] if isinstance(value, str) else Suite(whole("suite", value))
    except (KeyError, ValueError):
        allowed = ", ".join(f"Suite.{member.name} ({member.value})" for member in Suite)
        raise ParameterError(f"suite = {value!r}: must be one of {allowed}") from None


def whole(name: str, value: object, low: int | None = None, high: int | None = None) -> int:
    """An int, NumPy's included, from ``low`` to ``high``, where they are given; no bool."""
    allowed = ""
    if low is not None:
        allowed = f" of at least {low}" if high is None else f" from {low} to {high}"
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or (low is not None and number < low) or (high is not None and number > high):
        raise ParameterError(f"{name} = {value!r}: must be a whole number{allowed}")
    return number


def raw_bytes(name: str, value: object, most: int | None = None) -> bytes:
    """Bytes, at most so many: a text has none until somebody encodes it."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise ParameterError(
            f"{name} = {value!r:.80}: must be bytes, not {type(value).__name__}; encode it, or give a hash of it"
        )
    if most is not None and len(value) > most:
        raise ParameterError(
            f"{name} of {counted(len(value), 'byte')}: at most {most:,} are allowed; give a hash instead"
        )
    return bytes(value)
