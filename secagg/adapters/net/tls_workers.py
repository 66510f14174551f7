"""The worker processes that end TLS: they are started, watched, and started again (decision 36)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import msgspec
from websockets.asyncio.server import Server as Listener

from secagg.adapters.net.doors import Listening
from secagg.adapters.net.tls_relay import Orders
from secagg.errors import ParameterError

_log = logging.getLogger("secagg.net.service")
_PROGRAM: Final = "import sys; from secagg.adapters.net.tls_relay import main; main(sys.argv[1])"
"""Not ``-m``: the package imports the module, and Python would warn of running it a second time."""
_PAUSE_SECONDS: Final = 1.0
"""Before a worker is started again: one that cannot serve does not take the processor from those that do."""
_END_SECONDS: Final = 15.0
"""Longer than a worker waits for last words on their way to clients."""
_START_SECONDS: Final = 60.0
"""For a worker's first words: a loaded machine takes some seconds to import the library."""


@final
@dataclass(frozen=True, kw_only=True)
class WorkerFiles:
    """What worker processes need to end TLS in the place of the service.

    Attributes:
        processes: how many.
        certificate, key: PEM files, which every worker reads.
        fingerprint: SHA-256 of the certificate.
    """

    processes: int
    certificate: Path
    key: Path
    fingerprint: bytes

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ParameterError(f"{self.processes} workers: give 1 or more")
        if not hasattr(asyncio, "open_unix_connection"):
            raise ParameterError(
                f"{self.processes} workers: this system ({sys.platform}) has no Unix sockets, over which workers pass "
                "connections on; serve without workers"
            )


@final
class TlsWorkers:
    """The workers of one service."""

    def __init__(self, files: WorkerFiles, on_drop: Callable[[int], None]) -> None:
        """``on_drop`` is called with how many connections a worker had no room for."""
        self.files, self._on_drop = files, on_drop
        self.ready = 0
        """How many serve now."""
        self.restarts = 0
        self._first_ready = asyncio.Event()

    def status(self) -> dict[str, int]:
        """What the status page and the metrics show."""
        return {"processes": self.files.processes, "ready": self.ready, "restarts": self.restarts}

    @asynccontextmanager
    async def running(
        self, listeners: Sequence[socket.socket], path: str, most: int, handshake_seconds: float
    ) -> AsyncIterator[None]:
        """Run them for the length of the block, which begins when the first one serves.

        Raises ParameterError when none serves within a minute.
        """
        orders = Orders(
            certificate=os.fspath(self.files.certificate.absolute()),
            key=os.fspath(self.files.key.absolute()),
            fingerprint=self.files.fingerprint.hex(),
            listeners=tuple(listener.fileno() for listener in listeners),
            path=path,
            most=most,
            handshake_seconds=handshake_seconds,
        )
        watched = [asyncio.create_task(self._keep_running(orders)) for _ in range(self.files.processes)]
        try:
            try:
                async with asyncio.timeout(_START_SECONDS):
                    await self._first_ready.wait()
            except TimeoutError:
                raise ParameterError(
                    f"no worker began to serve within {_START_SECONDS:.0f} seconds; serve without workers, and see the "
                    "log for what they said"
                ) from None
            yield
        finally:
            for task in watched:
                task.cancel()
            await asyncio.gather(*watched, return_exceptions=True)

    async def _keep_running(self, orders: Orders) -> None:
        while True:
            try:
                code = await self._run_once(orders)
            except OSError as failure:  # this machine has no process or no file to spare, and may have one later
                why = failure.strerror or str(failure)
                _log.warning("worker-not-started", extra={"fields": {"why": why, "restarts": self.restarts}})
            else:
                self.restarts += 1
                _log.warning("worker-ended", extra={"fields": {"exit_code": code, "restarts": self.restarts}})
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _run_once(self, orders: Orders) -> int:
        """Start one, and hear what it says until it ends; returns its exit code."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-c",
            _PROGRAM,
            msgspec.json.encode(orders).decode(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=orders.listeners,
            start_new_session=True,  # Ctrl+C in a terminal is for the main process, which ends its workers
        )
        serves = False
        try:
            while process.stdout is not None and (line := await process.stdout.readline()):
                word, _, number = line.decode("ascii", "replace").strip().partition(" ")
                if word == "ready":
                    serves = True
                    self.ready += 1
                    self._first_ready.set()
                elif word == "dropped" and number.isdecimal():
                    self._on_drop(int(number))
            return await process.wait()
        finally:
            self.ready -= serves
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close its standard input, at which it ends; and kill it if it does not."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_END_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def listening_through(
    workers: TlsWorkers,
    bound: Sequence[socket.socket],
    most: int,
    handshake_seconds: float,
    serve_at: Callable[[socket.socket], AbstractAsyncContextManager[Listener]],
) -> AsyncIterator[Listening]:
    """Have the workers serve at bound sockets for the length of the block.  Raises ParameterError when none serves.

    Args:
        workers: who ends TLS.
        bound: where.
        most: connections that may be open at once.
        handshake_seconds: for a TLS handshake.
        serve_at: what handles the connections that workers pass on, at a Unix socket.
    """
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="secagg-"))  # nobody else may enter it
        inner = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        inner.bind(path := os.path.join(folder, "relay"))
        await stack.enter_async_context(workers.running(bound, path, most, handshake_seconds))
        # Ended before the workers are: what the service says last still goes through them.
        await stack.enter_async_context(serve_at(inner))
        yield Listening(tuple(bound))
