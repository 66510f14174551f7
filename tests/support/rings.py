"""Rings drawn word for word, and what holds them together."""

from __future__ import annotations


def connected(members: set[int], neighbours: list[set[int]]) -> bool:
    """Whether each of these members is reached from any other, by neighbours among them."""
    reached: set[int] = set()
    border = {min(members)} if members else set()
    while border:
        reached |= border
        border = {near for member in border for near in neighbours[member] & members} - reached
    return reached == members
