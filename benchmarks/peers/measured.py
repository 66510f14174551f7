"""What both sides of the comparison share: the cell, the updates, the clocks, and the figures."""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

CLIP = 8.0
BITS = 22  # of a quantised value: the peer's default, and what both sides use
MAX_WEIGHT = 1000


@dataclass(frozen=True, slots=True)
class Cell:
    """A round: n clients with m floats each, k neighbours, and some that are lost after dealing their shares."""

    clients: int
    dim: int
    neighbours: int
    threshold: int
    dropout: float = 0.0

    @property
    def lost(self) -> tuple[int, ...]:
        """Who is lost, spread over the ids."""
        count = int(self.dropout * self.clients + 1e-9)
        return tuple(place * self.clients // count for place in range(count))

    def __str__(self) -> str:
        near = "complete" if self.neighbours == self.clients - 1 else f"{self.neighbours} neighbours"
        lost = f", {self.dropout:.0%} lost" if self.dropout else ""
        return f"n = {self.clients}, m = {self.dim:,}, {near}{lost}"

    def update_of(self, client: int) -> npt.NDArray[np.float32]:
        """A client's update: the same each time, within the clip."""
        return vector_of(self.dim, client)

    def weight_of(self, client: int) -> int:
        """A client's number of samples, at most MAX_WEIGHT."""
        return MAX_WEIGHT - client % 10

    def expected_mean(self, included: Collection[int]) -> npt.NDArray[np.float64]:
        """The weighted mean that both sides must come to."""
        total = np.zeros(self.dim)
        for client in included:
            total += self.weight_of(client) * self.update_of(client).astype(np.float64)
        return total / sum(map(self.weight_of, included))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one round took.

    Attributes:
        round_cpu_s: of the process, from the first message to the decoded mean, without making the updates.
        client_cpu_s: the median client's, of those that stayed to the end, floats in.
        server_cpu_s: the server's, decoded mean out.
        upload_bytes: what that client sent, in all phases.
        peak_bytes: the most memory of the process; imported_bytes of it were there before the round.
        max_error: the largest difference from the weighted mean of the floats.
    """

    round_cpu_s: float
    client_cpu_s: float
    server_cpu_s: float
    upload_bytes: float
    peak_bytes: int
    imported_bytes: int
    max_error: float


def vector_of(dim: int, client: int) -> npt.NDArray[np.float32]:
    """A client's vector: the same each time, from -1 to 1."""
    return np.random.default_rng([dim, client]).uniform(-1, 1, dim).astype(np.float32)


def mean_of(dim: int, clients: int) -> npt.NDArray[np.float64]:
    """The plain mean of the clients' vectors."""
    total = np.zeros(dim)
    for client in range(clients):
        total += vector_of(dim, client)
    return total / clients


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """What the mean of long vectors took, nobody lost and all weighing alike.

    Attributes:
        client_s: CPU of the median client, floats in, and the mean out where the server cannot read it.
        server_s: CPU of the server, for all clients.
        sent_bytes, received_bytes: a client's; what it receives has the mean in it, as the server gives it out.
        max_error: the largest difference from the mean of the floats.
    """

    client_s: float
    server_s: float
    sent_bytes: float
    received_bytes: float
    max_error: float


def run_sum(module: str, *arguments: Any) -> Sum:
    """A mean through one side, in whichever process this is called; ``arguments`` are those of its function."""
    found: Sum = import_module(module).run_sum(*arguments)
    return found


def run_side(module: str, cell: Cell) -> Figures:
    """A round through one of the two sides, in whichever process this is called."""
    figures: Figures = import_module(module).run(cell)
    return figures


@dataclass
class Meter:
    """CPU seconds of each client, and what is to be left out.

    The process' time, since a library may use threads of its own; nothing else runs in the process meanwhile.
    """

    client_s: dict[int, float] = field(default_factory=dict)
    left_out_s: float = 0.0
    sent: dict[int, int] = field(default_factory=dict)

    @contextmanager
    def client(self, index: int) -> Iterator[None]:
        """Counts for a client; what is left out meanwhile does not."""
        started, left_out = time.process_time(), self.left_out_s
        try:
            yield
        finally:
            spent = time.process_time() - started - (self.left_out_s - left_out)
            self.client_s[index] = self.client_s.get(index, 0.0) + spent

    @contextmanager
    def leave_out(self) -> Iterator[None]:
        """Counts for nobody, as training does not: making an update."""
        started = time.process_time()
        try:
            yield
        finally:
            self.left_out_s += time.process_time() - started

    def median_of(self, what: dict[int, float] | dict[int, int], clients: Collection[int]) -> float:
        """The median over some clients."""
        return median(what[client] for client in clients)


class Memory:
    """The process' memory around a round."""

    def __init__(self) -> None:
        gc.collect()
        self.imported = _status("VmRSS")
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        """The most since it was made."""
        return _status("VmHWM")


def _status(name: str) -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
