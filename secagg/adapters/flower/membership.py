"""How a node takes part in any round, in Flower's records: see ``secagg.adapters.membership``."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import RecordDict

from secagg.adapters import membership
from secagg.adapters.flower import records
from secagg.adapters.flower.memory import Memory
from secagg.adapters.flower.records import log
from secagg.adapters.membership import Answer
from secagg.adapters.node import Node
from secagg.machines import ClientMachine
from secagg.pairwise.config import RoundConfig


def joined(
    node: Node,
    memory: Memory,
    invitation: bytes,
    index: int | None,
    *,
    announcement: bytes,
    approve: Callable[[RoundConfig], bool],
) -> RecordDict:
    """The answer to an invitation.  Raises RefusedMessageError."""
    return record_of(
        membership.joined(node, memory, invitation, index, announcement=announcement, approve=approve, log=log)
    )


def gone_on(node: Node, state: bytes, answer: Callable[[ClientMachine], Answer]) -> RecordDict:
    """The answer of the client of a stored state to a message, which ``answer`` makes.  Raises RefusedMessageError."""
    return record_of(membership.gone_on(node, state, answer, log))


def record_of(answer: Answer) -> RecordDict:
    """An answer as Flower sends it."""
    index = {} if answer.index is None else {records.INDEX: answer.index}
    return records.content({records.PROTOCOL: answer.message, **index})
