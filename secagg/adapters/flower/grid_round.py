"""One round of the protocol over a Flower grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias, final

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from secagg.adapters.flower import records
from secagg.adapters.flower.records import log
from secagg.errors import PeerError
from secagg.events import Accepted, ClientAborted, Misbehaved
from secagg.machines import ServerMachine
from secagg.outcome import Outgoing
from secagg.pairwise import messages
from secagg.pairwise.messages import Advertise
from secagg.pairwise.phases import Phase, ServerState
from secagg.primitives import signing, suites

Pending: TypeAlias = dict[int, bytes]
"""What each node is sent next."""

_GOODBYE_S: Final = 10.0
"""For telling nodes that the round is over; no answer of theirs is needed."""
_LONGEST_REASON: Final = 200
"""Characters of a node's own words in the server's log."""


@final
class GridRound:
    """Drives a Server: sends what it has to say to the nodes, and hands it what they answer.

    The nodes are those of the wrapped strategy's messages.  In ``semi_honest`` their cohort indices are their order; in
    ``active`` each says which member of the directory it is, and its signature proves it.
    """

    def __init__(
        self,
        server: ServerMachine,
        grid: Grid,
        chosen: Sequence[Message],
        timeout_of: Callable[[str], float | None],
        members: Sequence[bytes] = (),
        why_not: Callable[[list[int]], str] = lambda survivors: "",
    ) -> None:
        """A round that has not begun.

        Args:
            server: a new one.
            grid: Flower's.
            chosen: the wrapped strategy's messages, one a node.
            timeout_of: the seconds to wait for a phase's answers; MASK is Flower's own exchange.
            members: ``active``: the directory's identity keys, by cohort index.
            why_not: why the sum over these nodes must not be opened, asked before anybody hears of the survivors; empty
                when it may be.
        """
        self.server = server
        self._members, self._why_not = members, why_not
        self._nonce = messages.invitation.decode(server.invitation(), messages.MAX_INVITATION_BYTES, None).nonce
        self.node_of: dict[int, int] = {}
        """By cohort index."""
        self._grid, self._timeout_of = grid, timeout_of
        self._messages = {message.metadata.dst_node_id: message for message in chosen}
        self._index_of: dict[int, int] = {}
        self.heard = False
        """Whether any node has answered with a message of the protocol."""
        self._answered: set[int] = set()
        """The nodes that answered in this phase, so that somebody is there to be told of the round's end."""

    def exchange_keys(self, announcement: bytes) -> Pending:
        """The phases before MASK.  Returns what goes out with the model, or nothing when the round has failed."""
        pending = self._close(self._advertise(announcement))
        while pending and self.server.phase is not ServerState.MASK:
            pending = self._close(self._exchange(pending))
        return pending

    def training_messages(self, pending: Pending) -> list[Message]:
        """The wrapped strategy's messages to the nodes that are left, each with its part of the protocol."""
        return [
            self._message(
                node,
                RecordDict(
                    {
                        **self._messages[node].content,  # a content of its own: strategies share one among all nodes
                        **records.content({records.PROTOCOL: data, records.PHASE: self.server.phase.value}),
                    }
                ),
            )
            for node, data in pending.items()
        ]

    def unmask(self, replies: Iterable[Message]) -> None:
        """MASK's answers, and the phases after it: the server is then ready to compute, or has failed."""
        pending = self._close(replies)
        while pending:
            pending = self._close(self._exchange(pending))

    def _advertise(self, announcement: bytes) -> Iterable[Message]:
        invitation, phase = self.server.invitation(), self.server.phase.value
        contents: dict[int, RecordDict] = {}
        for index, node in enumerate(sorted(self._messages)):
            fields: dict[str, bytes | int | str] = {
                records.INVITATION: invitation,
                records.ANNOUNCEMENT: announcement,
                records.PHASE: phase,
            }
            if not self.server.config.threat_model.signs:
                fields[records.INDEX] = index
                self._bind(index, node)
            contents[node] = records.content(fields)
        return self._send(contents, self._timeout_of(phase))

    def _exchange(self, pending: Pending) -> Iterable[Message]:
        phase = self.server.phase.value
        contents = {
            node: records.content({records.PROTOCOL: data, records.PHASE: phase}) for node, data in pending.items()
        }
        return self._send(contents, self._timeout_of(phase))

    def _send(self, contents: Mapping[int, RecordDict], timeout: float | None) -> Iterable[Message]:
        return self._grid.send_and_receive(
            [self._message(node, content) for node, content in contents.items()], timeout=timeout
        )

    def _message(self, node: int, content: RecordDict) -> Message:
        """As the wrapped strategy addressed it, so that it reaches the same function of the app."""
        addressed = self._messages[node].metadata
        return Message(
            content,
            dst_node_id=node,
            message_type=addressed.message_type,
            ttl=addressed.ttl,
            group_id=addressed.group_id,
        )

    def _close(self, replies: Iterable[Message]) -> Pending:
        """Take a phase's answers, and close it."""
        for reply in replies:
            self._take(reply)
        phase = self.server.phase.value
        outgoing = self.server.close_phase()
        if phase == Phase.MASK and self.server.failure is None and (why := self._why_not(self._survivors())):
            outgoing = self.server.abort(why)
        if self.server.failure is not None:
            self._say_goodbye(outgoing)
            return {}
        if lost := self.server.dropped.get(phase):
            log.info("secagg: %s: lost %d of %d clients", phase, len(lost), self.server.config.clients)
        self._answered.clear()
        # Whoever was lost is told nothing: waiting for its answer would take the whole timeout.
        return {self.node_of[index]: outgoing.to(index) or b"" for index in self.server.missing}

    def _survivors(self) -> list[int]:
        """The nodes whose vectors are in the sum, once MASK is closed."""
        lost = {index for members in self.server.dropped.values() for index in members}
        return [self.node_of[index] for index in range(self.server.config.clients) if index not in lost]

    def _take(self, reply: Message) -> None:
        """Hand one answer to the server.  Nothing that a node sends raises."""
        node, phase = reply.metadata.src_node_id, self.server.phase.value
        if reply.has_error():
            log.info("secagg: %s: node %d is lost: %s", phase, node, _last_line(reply.error.reason))
            return
        record = reply.content.config_records.get(records.RECORD)
        data = records.bytes_of(record, records.PROTOCOL)
        if data is None or node not in self._messages:
            log.warning("secagg: %s: node %d sent no message of this protocol: is secagg_mod in its mods?", phase, node)
            return
        self.heard = True
        index = self._index_of.get(node)
        if index is None:
            index = records.index_of(record)
            if index is None or not self._is_member(index, data):
                log.warning("secagg: %s: node %d did not join, or is not who it says: see its own log", phase, node)
                return
        event = self.server.receive(index, data).event
        match event:
            case Accepted():
                self._answered.add(node)
                self._bind(index, node)
            case Misbehaved():
                log.warning("secagg: %s: node %d is refused (%s): %s", phase, node, event.code, event.detail)
            case ClientAborted():
                log.warning("secagg: %s: node %d left (%s): its own log says why", phase, node, event.code.name)
            case _:
                log.info("secagg: %s: node %d: %s", phase, node, type(event).__name__)

    def _is_member(self, index: int, data: bytes) -> bool:
        """Whether a node that says it is member ``index`` has that member's signature.

        The server believes whoever hands it messages, so that a claim must be proved before it can count for or against
        the member.  An ABORT proves nothing, and is nobody's.
        """
        config = self.server.config
        if self.server.phase is not ServerState.ADVERTISE or not 0 <= index < len(self._members):
            return False
        try:
            limit = config.max_message_bytes(Phase.ADVERTISE)
            message = messages.to_server.decode(data, limit, config.version, config.suite.agreement)
            if not isinstance(message, Advertise):
                return False
            signed = config.labels.signed_advertisement(
                config.digest, self._nonce, index, message.channel_key, message.masking_key
            )
            signing.verify(self._members[index], signed, message.signature)
        except (PeerError, suites.CryptoError):
            return False
        return True

    def _bind(self, index: int, node: int) -> None:
        self._index_of.setdefault(node, index)
        self.node_of.setdefault(index, node)

    def _say_goodbye(self, outgoing: Outgoing) -> None:
        """Tell those that just answered, so that they wipe their states."""
        contents = {
            self.node_of[index]: records.content({records.PROTOCOL: data})
            for index, data in outgoing
            if self.node_of.get(index) in self._answered
        }
        if contents:
            self._send(contents, _GOODBYE_S)


def _last_line(reason: str | None) -> str:
    """Of a node's reason, which may be a whole traceback, or anything that a node thinks of."""
    lines = [line for line in (reason or "").splitlines() if line.strip()] or ["no reason given"]
    return repr(lines[-1][:_LONGEST_REASON])
