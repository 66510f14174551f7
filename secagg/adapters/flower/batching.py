"""Rounds of whole batches: which nodes the wrapped strategy may choose from, and whether their sum may be opened."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

from flwr.app import Message
from flwr.serverapp import Grid

from secagg.adapters.flower.records import log
from secagg.differencing import DifferenceLedger, batches_of, sample
from secagg.durable import IN_MEMORY
from secagg.errors import DisclosureError, ParameterError
from secagg.wording import counted

_PAUSE_S: Final = 1.0
"""Between two looks for nodes, as in Flower's own strategies."""


@final
@dataclass(frozen=True)
class Batches:
    """How nodes are chosen, so that no sums of several rounds can be combined to tell of a few of them.

    Nodes are cut into batches that stay together, and each round invites whole ones; ``secagg.differencing`` says why
    that is enough.  A round in which a node of an earlier sum is lost has no sum, unless enough others of the same
    history are left out with it: batches that are larger than ``min_difference`` leave room for such losses.

    Attributes:
        size: the fewest nodes in a batch.
        per_round: how many batches a round invites; fewer where ``size`` times as many nodes are connected, and not so
            many batches are whole.
        min_difference: T, the fewest nodes that are always in and out of the sums together; None: ``size``.
        ledger: a file that remembers the sums, for a server that is started again; without one, the sums of this
            strategy are kept apart from each other only.

    Raises ParameterError for numbers that keep nothing apart.
    """

    size: int
    per_round: int
    min_difference: int | None = None
    ledger: str | os.PathLike[str] = field(default=IN_MEMORY)

    def __post_init__(self) -> None:
        for name, value, least in (("size", self.size, 2), ("per_round", self.per_round, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ParameterError(f"batches: {name} = {value!r}: it must be a whole number from {least} on")
        if not 2 <= self.least <= self.size:
            raise ParameterError(
                f"batches: min_difference = {self.min_difference}: it must be from 2 to size = {self.size}, since "
                "whole batches are in and out together"
            )

    @property
    def least(self) -> int:
        """T."""
        return self.size if self.min_difference is None else self.min_difference


@final
class BatchedNodes:
    """The batches of a strategy, over all its rounds."""

    def __init__(self, batches: Batches) -> None:
        """Raises ParameterError, OSError and DifferenceLedgerError for a ledger that cannot be used."""
        self._batches = batches
        self._ledger = DifferenceLedger(batches.ledger, "flower nodes")
        self._has_warned = False

    def choose(self, nodes: Iterable[int]) -> list[int]:
        """The nodes of this round; empty while too few nodes are connected, or no batch of them is whole."""
        connected = [str(node) for node in nodes]
        batches = batches_of(self._ledger.classes(), connected, self._batches.size)
        if not batches or len(connected) < self._batches.size * self._batches.per_round:
            if not self._has_warned:
                self._has_warned = True
                log.warning(
                    "secagg: %s, %d of them in whole batches, and a round invites %d batches of %d or more: waiting "
                    "for more nodes; those of a batch that was in a sum come together or not at all",
                    counted(len(connected), "connected node"),
                    sum(map(len, batches)),
                    self._batches.per_round,
                    self._batches.size,
                )
            return []
        self._has_warned = False
        return [int(node) for node in sample(batches, min(len(batches), self._batches.per_round))]

    def why_not(self, survivors: Iterable[int]) -> str:
        """Record that the sum over these nodes may be opened; why it must not be, where it must not."""
        try:
            self._ledger.record([map(str, survivors)], self._batches.least)
        except DisclosureError as refused:
            return f"the sum must not be opened: {refused}"
        return ""


@final
class BatchedGrid(Grid):
    """A grid whose nodes are those of the batches of one round; everything else is the other grid's."""

    def __init__(self, grid: Grid, batched: BatchedNodes) -> None:
        """``batched`` chooses when the strategy first asks for the nodes."""
        self._grid, self._batched = grid, batched
        self.chosen: list[int] = []

    def get_node_ids(self) -> list[int]:
        """The nodes that were chosen.  Waits for nodes until some can be, as Flower's own strategies do."""
        while not self.chosen:
            self.chosen = self._batched.choose(self._grid.get_node_ids())
            if not self.chosen:
                time.sleep(_PAUSE_S)
        return list(self.chosen)

    def check(self, messages: Sequence[Message]) -> None:
        """Raises ParameterError unless the strategy has invited all of the nodes, and no others."""
        invited = sorted(message.metadata.dst_node_id for message in messages)
        if messages and invited != sorted(self.chosen):
            raise ParameterError(
                f"the strategy invites {counted(len(messages), 'node')} of the {len(self.chosen)} that are whole "
                "batches, and with a part of a batch sums of several rounds could be taken apart: give it "
                f"fraction_train=1.0, and min_train_nodes and min_available_nodes of at most {len(self.chosen)}"
            )

    def set_run(self, run: Any) -> None:
        """The other grid's."""
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        """The other grid's."""
        return self._grid.run

    def create_message(self, *arguments: Any, **named: Any) -> Message:
        """The other grid's."""
        return self._grid.create_message(*arguments, **named)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """The other grid's."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The other grid's."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """The other grid's."""
        return self._grid.send_and_receive(messages, timeout=timeout)
