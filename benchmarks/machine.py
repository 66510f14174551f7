"""What the figures were measured on, and how they are written down."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("secagg", "numpy", "numba", "cryptography", "pynacl", "msgspec")


def machine(*more_libraries: str) -> dict[str, Any]:
    """Processor, load, versions.  The load is that of the last minute and of the last quarter of an hour."""
    one, _, fifteen = os.getloadavg()
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": [round(one, 1), round(fifteen, 1)],
        "python": platform.python_version(),
        **{library: _version(library) for library in (*LIBRARIES, *more_libraries)},
    }


def without_features(*beginnings: str) -> dict[str, str]:
    """The environment of a process whose Numba compiles for this processor without the features that begin so."""
    from llvmlite import binding

    features = binding.get_host_cpu_features().items()
    kept = (f"{'+' if has and not name.startswith(beginnings) else '-'}{name}" for name, has in features)
    return {"NUMBA_CPU_FEATURES": ",".join(kept)}


def describe(found: Mapping[str, Any]) -> str:
    """``machine()`` in one line."""
    libraries = [f"{name} {found[name]}" for name in found if name not in ("processor", "cores", "load")]
    load = " and ".join(f"{value:g}" for value in found["load"])
    return f"{found['processor']}, {found['cores']} cores, load {load}; {', '.join(libraries)}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def save(path: Path, found: Mapping[str, Any]) -> None:
    """Write JSON; directories are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def duration(value: float) -> str:
    """Seconds for a person."""
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms")):
        if 0 < value < limit:
            return f"{value * factor:.3g} {unit}"
    return f"{value:,.2f} s" if value < 100 else f"{value:,.0f} s"


def size(value: float) -> str:
    """Bytes for a person."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}" if value < 999.5 * factor else f"{value / factor:,.0f} {unit}"
    return f"{value:.0f} B"


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "of this checkout"
