"""An install that nothing can be written to."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]


def read_only_install(place: Path) -> dict[str, str]:
    """Copy the package to ``place`` with no room for a cache; returns the environment without one elsewhere."""
    shutil.copytree(ROOT / "secagg", place / "secagg", ignore=shutil.ignore_patterns("__pycache__"))
    # Permission bits do not bind root: a directory that would have to be made where a file is cannot be, by anybody.
    obstacle = place / "file"
    obstacle.touch()
    for package in (place / "secagg", *(place / "secagg").rglob("*")):
        if package.is_dir():
            (package / "__pycache__").touch()
    return {
        "NUMBA_CACHE_DIR": str(obstacle / "cache"),
        "XDG_CACHE_HOME": str(obstacle / "xdg"),
        "HOME": str(obstacle / "home"),
    }
