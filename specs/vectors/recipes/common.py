"""Labelled randomness, and the frame that every file has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Test = dict[str, Any]
File = dict[str, Any]

PRIME_16 = 32771
"""A prime of 16 bits that rejects 32765 of 65536 candidates: all but the first 32771."""

_P = 2**255 - 19
LOW_ORDER = [
    u.to_bytes(32, "little")
    for u in (
        *(0, 1, _P - 1, _P, _P + 1),
        0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
        0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
    )
]
"""Encodings of the points of order 1, 2, 4 and 8 on the curve or its twist."""


def labelled(label: str, length: int) -> bytes:
    """Bytes that anybody can make again: SHAKE-256 of a label."""
    return hashlib.shake_256(b"secagg vectors v1 " + label.encode()).digest(length)


def source(label: str) -> Callable[[int], bytes]:
    """Draws: the first is labelled "<label> 0", the next "<label> 1" and so on."""
    drawn = 0

    def draw(length: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return labelled(f"{label} {drawn - 1}", length)

    return draw


def numbers(values: Sequence[int]) -> list[str]:
    """Numbers that may pass 2^53: decimal strings."""
    return [str(value) for value in values]


def file(kind: str, about: str, flags: dict[str, str], tests: list[Test], *, version: int = 1, **rest: Any) -> File:
    """A file; ``flags`` says what each flag catches."""
    used = {flag for test in tests for flag in test["flags"]}
    if used != set(flags):
        raise ValueError(f"{kind}: flags {sorted(used ^ set(flags))} are not both used and described")
    return {
        "protocol": "secagg",
        "version": version,
        "kind": kind,
        "about": about,
        "flags": {name: {"catches": flags[name]} for name in sorted(flags)},
        **rest,
        "tests": [{"id": f"{kind}-{place}", **test} for place, test in enumerate(tests, 1)],
    }


def entry(requirements: str, comment: str, flags: str = "", *, error: str = "", **rest: Any) -> Test:
    """A test that holds, or, with an error code, one that must be refused."""
    verdict: Test = {"ok": False, "error": error} if error else {"ok": True}
    return {
        "requirements": [f"R-{name}" for name in requirements.split()],
        "comment": comment,
        "flags": flags.split(),
        **verdict,
        **rest,
    }


def dump(content: File) -> str:
    """JSON with one test, message or operation a line, so that changes show."""
    return _dumped(content, 0) + "\n"


_OPEN_TO_DEPTH = 3


def _dumped(value: Any, depth: int) -> str:
    compact = json.dumps(value)
    nested = isinstance(value, dict | list) and any(isinstance(item, dict | list) for item in _items(value))
    if len(compact) <= 118 - depth or not isinstance(value, dict | list) or not (nested or depth < _OPEN_TO_DEPTH):
        return compact
    indent, outdent = " " * (depth + 1), " " * depth
    if isinstance(value, dict):
        lines = [f"{indent}{json.dumps(key)}: {_dumped(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{outdent}}}"
    return "[\n" + ",\n".join(indent + _dumped(item, depth + 1) for item in value) + f"\n{outdent}]"


def _items(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
