"""The examples of hosts, driven step by step in a time that the test moves."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from secagg.testing.contracts import Trial

SECONDS = 60.0
"""How long a phase waits for members, in the time that the test moves."""


class Time:
    """Stands in for the module ``time`` in an example."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def token(index: int) -> str:
    """A member's login."""
    return f"token of {index}"


def hashes(members: int) -> list[str]:
    """What the server knows of the members' logins."""
    return [hashlib.sha256(token(index).encode()).hexdigest() for index in range(members)]


def phase_seen(folder: Path) -> str:
    """The last phase in which a member answered, from the state that it stored."""
    path = folder / "state"
    return str(msgspec.msgpack.decode(path.read_bytes())[0]) if path.exists() else "NONE"


def has_vanished(trial: Trial, index: int, folder: Path) -> bool:
    """Whether a member has sent the last message that its fate lets it send."""
    return trial.fates.get(index, "UNMASK") == phase_seen(folder)


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an app on a loopback port; its URL."""
    # Without a logging config of its own: setting one closes all handlers that there are.  That of absl, which
    # dp-accounting brings, closes its stream with it: the captured standard error of a test that imported it.
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    started = threading.Event()
    startup = server.startup

    async def start(sockets: Any = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = start  # type: ignore[method-assign]
    thread.start()
    if not started.wait(30):
        raise AssertionError("the server did not start")
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
