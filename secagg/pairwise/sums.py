"""Masked inputs that are added up as they arrive: by a server itself, or by whoever takes some of them for it.

Sums of different clients' inputs add up to the sum of all of them, exactly and in any order: modulo the round's
modulus, and modulo each prime of an envelope.  So it does not matter who added which.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self, TypeAlias, final

import msgspec
import numpy as np
import numpy.typing as npt

from secagg import arithmetic
from secagg.envelopes import scheme
from secagg.pairwise import carrier
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.rules import server as rules

Lanes: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]


def group_row(total: Lanes, group: int) -> Lanes:
    """A view of a group's row of (G, m) lanes; the lanes themselves where they are (m,)."""
    row: Lanes = total if total.ndim == 1 else total[group]
    return row


def no_envelopes() -> Lanes:
    """The sum of envelopes in a round that has none."""
    return np.zeros(0, dtype=np.uint32)


@final
class MaskedSums(msgspec.Struct, array_like=True, forbid_unknown_fields=True, eq=False):
    """The sum of some clients' masked inputs, and who they are.  It takes the memory of one vector for each group."""

    total: Lanes
    """(m,): the sum of the masked inputs, in lanes; with groups (G, m), the sum of each.  With envelopes, of the masked
    keys: N in the place of m."""
    members: list[int] = msgspec.field(default_factory=list)
    """Whose masked inputs these are, in the order in which they came."""
    envelopes: Lanes = msgspec.field(default_factory=no_envelopes)
    """With envelopes, their sum, as ``envelopes.scheme.empty_sum`` has it; with groups a row for each."""

    @classmethod
    def empty(cls, config: RoundConfig) -> Self:
        """The sum of no vectors, or one of each group."""
        rows = () if config.groups == 1 else (config.groups,)
        total = np.zeros((*rows, config.masked_length), dtype=config.masked_modulus.dtype)
        if config.envelope is None:
            return cls(total)
        return cls(total, envelopes=carrier.empty_sums(config.envelope, rows))

    @staticmethod
    def size(config: RoundConfig) -> int:
        """The bytes of the sums of a round, of all groups."""
        row = config.masked_length * config.masked_modulus.dtype.itemsize
        if config.envelope is not None:
            row += scheme.sum_bytes(config.envelope)
        return config.groups * row

    def __repr__(self) -> str:
        return f"<MaskedSums of {len(self.members)}>"

    def add(self, config: RoundConfig, sender: int, group: int, vector: memoryview) -> None:
        """Add a client's masked input.  Raises PeerError (R-MASK-6, R-ENV-7), and the sums are then as they were."""
        total = group_row(self.total, group)
        if config.envelope is not None:
            rules.masked_input_sized(vector.nbytes, config.masked_input_bytes)
            keys = vector[: config.envelope.key_bytes]
            rules.envelope_added(group_row(self.envelopes, group), vector[keys.nbytes :], config.envelope)
            vector = keys  # of the right length, and every key is one
        rules.vector_added(total, vector, config.masked_modulus)
        self.members.append(sender)

    def merge(self, config: RoundConfig, other: MaskedSums, groups: Iterable[int]) -> None:
        """Add other clients' sums of the same round: the rows of these groups, which its members are of."""
        for group in groups:
            if config.envelope is not None:
                scheme.add_sum(config.envelope, group_row(self.envelopes, group), group_row(other.envelopes, group))
            arithmetic.add(group_row(self.total, group), group_row(other.total, group), config.masked_modulus)
        self.members.extend(other.members)

    def check(self, config: RoundConfig, groups: Iterable[int]) -> None:
        """Raise ValueError when an element or a residue of these groups' rows is none; lanes of a ring are any."""
        modulus = config.masked_modulus
        for group in groups:
            largest = 0 if modulus.is_ring else int(group_row(self.total, group).max(initial=0))
            if largest >= modulus.value:
                raise ValueError(f"an element of a sum is {largest}: it must be below {modulus}")
            if config.envelope is not None:
                scheme.check_sum(config.envelope, group_row(self.envelopes, group))

    def clear(self, group: int) -> None:
        """Forget the sum of a group that is left out."""
        group_row(self.total, group).fill(0)
        group_row(self.envelopes, group).fill(0)
