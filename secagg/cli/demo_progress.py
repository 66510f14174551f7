"""What ``secagg demo`` says while it works, on standard error: from its first second on, with a terminal or without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, TypeVar

from rich.console import Console
from rich.progress import track

from secagg.arithmetic.kernels import jit

_T = TypeVar("_T")
_LINES: Final = 4
"""How often the steps of a training are counted where there is no terminal."""


def say(what: str) -> None:
    """Print one line, at once."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(what)


def shown(steps: Sequence[_T], what: str) -> Iterator[_T]:
    """The steps, counted while they are taken: by a bar on a terminal, and by a few lines elsewhere.

    Args:
        steps: what to iterate over.
        what: these are the steps of.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(steps, what, console=console, transient=True)
        return
    told = 0
    for number, step in enumerate(steps, 1):
        yield step
        if number * _LINES // len(steps) > told:
            told = number * _LINES // len(steps)
            say(f"{what}: {number} of {len(steps)}")


def compiling_said() -> AbstractContextManager[None]:
    """A block in which the first kernel that is compiled, and not found in Numba's cache, is a reason for a line."""
    return jit.first_compilation(
        lambda: say("compiling kernels for this machine, once: up to a minute, and later runs find them ready")
    )
