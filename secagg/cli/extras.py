"""What to install when a command's libraries are missing.  Imports none of them."""

from __future__ import annotations

from typing import Final, Literal

from secagg._install import how_to_install

_MODULES_OF: Final = {
    "cli": frozenset({"typer", "click", "rich"}),
    "demo": frozenset({"sklearn", "matplotlib", "scipy", "joblib"}),
    "net": frozenset({"websockets", "safetensors", "prometheus_client"}),
    "privacy": frozenset({"dp_accounting", "absl", "attr", "mpmath", "scipy"}),
    "stats": frozenset({"pandas", "pyarrow", "scipy", "matplotlib", "simpleeval"}),
}


def advice(missing: ModuleNotFoundError, extra: Literal["cli", "demo", "net", "privacy", "stats"]) -> str:
    """One line: which module is missing, and how to install it.  Raises ``missing`` when it is not the extra's."""
    module = (missing.name or "").partition(".")[0]
    if module not in _MODULES_OF[extra]:
        raise missing
    return f"{module} is not installed, and this needs it: {how_to_install(extra)}"
