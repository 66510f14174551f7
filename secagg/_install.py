"""How to install an extra: the one place that says it, for every message of the library.

secagg is not published on a package index.  A command that names it there would find nothing, or a stranger's package,
so everything tells of an install from a checkout until that has changed.  A test keeps the documentation to the same.
"""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """A command, and where to run it, that installs the library with ``extra``."""
    return f"run pip install '.[{extra}]' in a checkout of secagg"
