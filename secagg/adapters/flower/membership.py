"""How a node takes part in any round: it joins, is kept between two messages, and goes on, or leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flwr.app import RecordDict

from secagg.adapters.flower import records
from secagg.adapters.flower.memory import Memory, Suspended
from secagg.adapters.flower.node import Node
from secagg.adapters.flower.records import log
from secagg.errors import ParameterError, PeerError
from secagg.machines import ClientMachine
from secagg.pairwise.client.machine import Client
from secagg.pairwise.config import RoundConfig


class RefusedMessageError(Exception):
    """The server's message is answered with a Flower error; the reason holds nothing of the client's."""


class LeavesError(Exception):
    """This client leaves the round; the reason may tell of its data, and stays in its own log."""


def joined(
    node: Node,
    memory: Memory,
    invitation: bytes,
    index: int | None,
    *,
    announcement: bytes,
    approve: Callable[[RoundConfig], bool],
    attachment_bytes: int = 0,
    pay: Callable[[], None] = lambda: None,
) -> RecordDict:
    """The answer to an invitation; the client is in the memory then.

    ``index`` is the one that the server gives, ``attachment_bytes`` what the host attaches at most, and ``pay`` is
    called before anything is made that can leave.  Raises RefusedMessageError, and what ``pay`` raises.
    """
    extra: dict[str, bytes | int] = {}
    if node.identity is not None:
        index = node.own_index()
        extra[records.INDEX] = index
    if index is None:
        raise RefusedMessageError(
            "an invitation without an index: the server is in active, and this client has no identity"
        )
    try:
        client = Client.join(
            invitation,
            index,
            approve=approve,
            policy=replace(node.policy, max_attachment_bytes=attachment_bytes),
            identity=node.identity,
            directory=node.directory,
            consume=node.joins,
        )
    except PeerError as refused:
        return left(refused)
    except ParameterError as refused:  # an active round and no identity, an index beyond the cohort
        raise RefusedMessageError(str(refused)) from None
    with client:
        pay()
        advertisement = client.start()
        memory.keep(Suspended(client.suspend(), announcement))
    return records.content({records.PROTOCOL: advertisement, **extra})


def gone_on(node: Node, state: bytes, answer: Callable[[ClientMachine], RecordDict]) -> RecordDict:
    """The answer of the client of a stored state to a message, which ``answer`` makes.  Raises RefusedMessageError."""
    try:
        client = node.resume(state)
    except PeerError as reused:
        raise RefusedMessageError(f"{reused.code}: this client answered from that state before") from None
    with client:
        try:
            return answer(client)
        except PeerError as refused:
            return left(refused)
        except LeavesError as reason:
            # One answer for every reason: the server learns that this client leaves, and nothing else.
            log.error("secagg: this client leaves the round: %s", reason)
            return records.content({records.PROTOCOL: client.abort()})


def left(refused: PeerError) -> RecordDict:
    """The answer of a client that leaves because of what it was sent; its own log says why."""
    log.error("secagg: this client leaves the round (%s): %s", refused.code, refused)
    return records.content({records.PROTOCOL: refused.reply})
