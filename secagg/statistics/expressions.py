"""The small language of filters and derived columns."""

from __future__ import annotations


def where_column(expression: str) -> str:
    """What a chunk calls the column that says for which records a method's ``where`` is true."""
    return f"where {expression}"
