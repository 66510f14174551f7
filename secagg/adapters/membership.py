"""How a client takes part in any round of a host: it joins, is kept between two messages, and goes on, or leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from logging import Logger
from typing import final

from secagg.adapters.node import ClientMemory, Node, Suspended
from secagg.errors import ParameterError, PeerError
from secagg.machines import ClientMachine
from secagg.pairwise.client.machine import Client
from secagg.pairwise.config import RoundConfig


class RefusedMessageError(Exception):
    """The server's message is answered with an error of the host's; the reason holds nothing of the client's."""


class LeavesError(Exception):
    """This client leaves the round; the reason may tell of its data, and stays in its own log."""


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """What a client answers.

    Attributes:
        message: bytes of the protocol; empty when it has nothing to say.
        index: with ADVERTISE, the cohort index that the client knows itself; None where the server gives it.
    """

    message: bytes
    index: int | None = None


def joined(
    node: Node,
    memory: ClientMemory,
    invitation: bytes,
    index: int | None,
    *,
    announcement: bytes,
    approve: Callable[[RoundConfig], bool],
    log: Logger,
    attachment_bytes: int = 0,
    pay: Callable[[], None] = lambda: None,
) -> Answer:
    """The answer to an invitation; the client is in the memory then.

    ``index`` is the one that the server gives, ``attachment_bytes`` what the host attaches at most, and ``pay`` is
    called before anything is made that can leave.  Raises RefusedMessageError, and what ``pay`` raises.
    """
    own = None if node.identity is None else node.own_index()
    index = index if own is None else own
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
        return left(refused, log)
    except ParameterError as refused:  # an active round and no identity, an index beyond the cohort
        raise RefusedMessageError(str(refused)) from None
    with client:
        pay()
        advertisement = client.start()
        memory.keep(Suspended(client.suspend(), announcement))
    return Answer(advertisement, own)


def gone_on(node: Node, state: bytes, answer: Callable[[ClientMachine], Answer], log: Logger) -> Answer:
    """The answer of the client of a stored state to a message, which ``answer`` makes.  Raises RefusedMessageError."""
    try:
        client = node.resume(state)
    except PeerError as reused:
        raise RefusedMessageError(f"{reused.code}: this client answered from that state before") from None
    with client:
        try:
            return answer(client)
        except PeerError as refused:
            return left(refused, log)
        except LeavesError as reason:
            # One answer for every reason: the server learns that this client leaves, and nothing else.
            log.error("secagg: this client leaves the round: %s", reason)
            return Answer(client.abort())


def left(refused: PeerError, log: Logger) -> Answer:
    """The answer of a client that leaves because of what it was sent; its own log says why."""
    log.error("secagg: this client leaves the round (%s): %s", refused.code, refused)
    return Answer(refused.reply)
