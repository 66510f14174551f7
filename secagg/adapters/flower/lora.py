"""LoRA adapters of a node's own rank, in a model of the agreed rank.

The server's model has adapters of one rank, the largest.  A node with a smaller one gets them cut to its rank, and what
it has trained is padded to the agreed rank again: beyond its own rank it leaves the server's values as they came, so
that its change there is 0.  Nobody sees a node's rank: its vector is as long as everybody's.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict

from secagg.adapters.flower.array_values import is_bfloat16, numbers, stored_values
from secagg.adapters.flower.records import log
from secagg.encoding.limits import integer
from secagg.encoding.settings import matching
from secagg.errors import InputError, ParameterError

_LARGEST_RANK: Final = 2**20
_MOST: Final = 1024
"""The largest agreed rank that a node accepts, unless it says otherwise."""
PEFT_AXES: Final[Mapping[str, int]] = {
    "*lora_A*": 0,
    "*lora_B*": 1,
    "*lora_embedding_A*": 0,
    "*lora_embedding_B*": 1,
}
"""Which axis of an adapter is its rank, by the names that PEFT gives."""


@final
@dataclass(frozen=True, slots=True)
class LoraRank:
    """The rank of a node's own adapters.

    Attributes:
        rank: this node's.
        max_rank: the largest agreed rank that the node accepts, since it uploads a vector of that rank.
        axes: by pattern over the arrays' names, the axis that is the rank; the first pattern that matches counts.

    Raises ParameterError for numbers that are none.
    """

    rank: int
    max_rank: int = _MOST
    axes: Mapping[str, int] = field(default_factory=lambda: dict(PEFT_AXES))

    def __post_init__(self) -> None:
        integer("the LoRA rank", self.rank, 1, _LARGEST_RANK)
        integer("the largest LoRA rank", self.max_rank, self.rank, _LARGEST_RANK)
        for pattern, axis in self.axes.items():
            integer(f"the axis of {pattern!r}", axis, 0, 31)

    def check(self, arrays: Sequence[tuple[str, tuple[int, ...]]]) -> None:
        """Raises ParameterError for a model that has no such adapters, or ones that do not hold this node's rank.

        ``arrays``: name and shape of each, of several records by the names in their own.
        """
        ranked = self._axis_of({name for name, _ in arrays})
        if not ranked:
            raise ParameterError(
                f"this node has LoRA adapters of rank {self.rank}, and no array of the model is called "
                f"{' or '.join(map(repr, self.axes))}"
            )
        for name, shape in arrays:
            axis = ranked.get(name)
            if axis is None:
                continue
            agreed = shape[axis] if axis < len(shape) else 0
            if not self.rank <= agreed <= self.max_rank:
                raise ParameterError(
                    f"{name} has shape {shape}, whose axis {axis} is the agreed rank {agreed}: this node takes ranks "
                    f"from its own, {self.rank}, to {self.max_rank}"
                )
        log.info(
            "secagg: %d arrays of adapters are cut to this node's rank %d, and padded to the agreed rank again: beyond "
            "its own rank the node changes nothing, and what it gives of a row is hidden among the nodes that have it",
            len(ranked),
            self.rank,
        )

    def cut(self, record: ArrayRecord) -> ArrayRecord:
        """The adapters of a model at this node's rank.  Raises InputError for one that does not read as an array."""
        ranked = self._axis_of(record)
        return ArrayRecord(
            {name: self._cut(name, array, ranked[name]) if name in ranked else array for name, array in record.items()}
        )

    def cut_message(self, message: Message) -> Message:
        """A message with its models at this node's rank.  Raises InputError as ``cut`` does."""
        below = copy.copy(message)
        cut = {name: self.cut(record) for name, record in message.content.array_records.items()}
        below.content = RecordDict({**message.content, **cut})
        return below

    def padded(self, answer: RecordDict, sent: RecordDict) -> RecordDict:
        """What the app answered, at the rank of what the node was sent.

        Raises InputError for an adapter that is not of this node's rank.
        """
        bases = dict(sent.array_records)
        padded: dict[str, Any] = {}
        for name, record in answer.array_records.items():
            base = next(iter(bases.values())) if len(bases) == 1 else bases.get(name, ArrayRecord())
            ranked = self._axis_of(base)
            padded[name] = ArrayRecord(
                {
                    key: self._padded(key, array, base[key], ranked[key]) if key in ranked else array
                    for key, array in record.items()
                }
            )
        return RecordDict({**answer, **padded})

    def _axis_of(self, names: Collection[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for pattern, axis in self.axes.items():
            for name in matching(pattern, names):
                found.setdefault(name, axis)
        return found

    def _cut(self, name: str, array: Array, axis: int) -> Array:
        values = stored_values(name, array)
        if values.ndim <= axis or values.shape[axis] < self.rank:
            raise InputError(f"{name} has shape {values.shape}, and this node's rank is {self.rank} on axis {axis}")
        cut = Array(np.ascontiguousarray(values[(slice(None),) * axis + (slice(self.rank),)]))
        return Array(array.dtype, cut.shape, cut.stype, cut.data)

    def _padded(self, name: str, array: Array, base: Array, axis: int) -> Array:
        whole, own = numbers(name, base), numbers(name, array, bfloat16=is_bfloat16(base))
        part = (slice(None),) * axis + (slice(self.rank),)
        if own.dtype.kind not in "biuf":
            raise InputError(f"{name} is of type {own.dtype} in the app's reply: only real numbers can be summed")
        if own.shape != whole[part].shape:
            raise InputError(
                f"{name} has shape {own.shape} in the app's reply; at this node's rank {self.rank} it is "
                f"{whole[part].shape}"
            )
        padded = whole.astype(np.result_type(whole, own))
        padded[part] = own
        return Array(padded)


def with_rank(lora: LoraRank | None, rank: int | None, max_rank: int | None) -> LoraRank | None:
    """The rank of a node whose own config may say another one.  Raises ParameterError."""
    if rank is None and max_rank is None:
        return lora
    if lora is None and rank is None:
        return None
    own = rank if rank is not None else lora.rank if lora is not None else 1
    most = max_rank if max_rank is not None else lora.max_rank if lora is not None else _MOST
    return LoraRank(own, most, PEFT_AXES if lora is None else lora.axes)
