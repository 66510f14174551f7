"""How numbers are written in the sentences that people read."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """A number with its noun, which is given in the singular and takes an s: ``1 client``, ``1,000 clients``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def was(count: int) -> str:
    """The past of "to be" for so many."""
    return "was" if count == 1 else "were"
