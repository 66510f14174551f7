"""One round of the protocol over a Flower grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, final

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from secagg.adapters.flower import records
from secagg.adapters.flower.records import log
from secagg.adapters.hosted_round import HostedRound, Pending
from secagg.machines import ServerMachine
from secagg.pairwise.phases import ServerState

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
        self._round = HostedRound[int](server, log, "node", members, why_not)
        self._grid, self._timeout_of = grid, timeout_of
        self._messages = {message.metadata.dst_node_id: message for message in chosen}

    @property
    def node_of(self) -> dict[int, int]:
        """The nodes by cohort index."""
        return self._round.name_of

    @property
    def heard(self) -> bool:
        """Whether any node has answered with a message of the protocol."""
        return self._round.heard

    def exchange_keys(self, announcement: bytes) -> Pending[int]:
        """The phases before MASK.  Returns what goes out with the model, or nothing when the round has failed."""
        pending = self._close(self._advertise(announcement))
        while pending and self.server.phase is not ServerState.MASK:
            pending = self._close(self._exchange(pending))
        return pending

    def training_messages(self, pending: Pending[int]) -> list[Message]:
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
        for node, index in self._round.indices(list(self._messages)).items():
            fields: dict[str, bytes | int | str] = {
                records.INVITATION: invitation,
                records.ANNOUNCEMENT: announcement,
                records.PHASE: phase,
            }
            if index is not None:
                fields[records.INDEX] = index
            contents[node] = records.content(fields)
        return self._send(contents, self._timeout_of(phase))

    def _exchange(self, pending: Pending[int]) -> Iterable[Message]:
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

    def _close(self, replies: Iterable[Message]) -> Pending[int]:
        """Take a phase's answers, and close it."""
        for reply in replies:
            self._take(reply)
        return self._round.close(self._say_goodbye)

    def _take(self, reply: Message) -> None:
        """Hand one answer to the server.  Nothing that a node sends raises."""
        node, phase = reply.metadata.src_node_id, self.server.phase.value
        if reply.has_error():
            self._round.lost(node, _last_line(reply.error.reason))
            return
        record = reply.content.config_records.get(records.RECORD)
        data = records.bytes_of(record, records.PROTOCOL)
        if data is None or node not in self._messages:
            log.warning("secagg: %s: node %d sent no message of this protocol: is secagg_mod in its mods?", phase, node)
            return
        self._round.take(node, data, records.index_of(record))

    def _say_goodbye(self, last: Mapping[int, bytes]) -> None:
        self._send({node: records.content({records.PROTOCOL: data}) for node, data in last.items()}, _GOODBYE_S)


def _last_line(reason: str | None) -> str:
    """Of a node's reason, which may be a whole traceback, or anything that a node thinks of."""
    lines = [line for line in (reason or "").splitlines() if line.strip()] or ["no reason given"]
    return repr(lines[-1][:_LONGEST_REASON])
