"""The server of a round over plain HTTP: members fetch their messages, and post their answers."""

import asyncio
import hashlib
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from secagg import Coordinator, Encoder, RoundConfig, Server


class Journal:
    """A snapshot, and every message since.  Each change is one transaction, which outlives a power cut."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.executescript("PRAGMA synchronous=EXTRA; CREATE TABLE IF NOT EXISTS kept (sender, data)")

    def store(self, snapshot: bytes) -> None:
        with self._database:
            self._database.execute("DELETE FROM kept")
            self._database.execute("INSERT INTO kept VALUES (NULL, ?)", (snapshot,))

    def record(self, sender: int, data: bytes) -> None:
        with self._database:
            self._database.execute("INSERT INTO kept VALUES (?, ?)", (sender, data))

    def server(self, config: RoundConfig) -> Server:
        kept = self._database.execute("SELECT sender, data FROM kept ORDER BY rowid").fetchall()
        server = Server.restore(kept[0][1]) if kept else Server(config)
        for sender, data in kept[1:]:
            server.receive(sender, data)
        return server


def make_app(coordinator: Coordinator, tokens: Sequence[str], on_end: Callable[[], object]) -> FastAPI:
    """The service, for the SHA-256 of each member's token.  Its coroutines call the coordinator one at a time."""

    async def keep_time() -> None:
        while not coordinator.over:
            await asyncio.sleep(max(0.01, min(0.5, coordinator.deadline - time.monotonic())))
            coordinator.advance(time.monotonic())
        await asyncio.to_thread(on_end)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        coordinator.open(time.monotonic())
        timekeeper = asyncio.create_task(keep_time())
        yield
        timekeeper.cancel()

    async def member(login: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> int:
        digest = hashlib.sha256(login.credentials.encode()).hexdigest()
        if digest not in tokens:
            raise HTTPException(401)
        return tokens.index(digest)

    app = FastAPI(lifespan=lifespan)

    @app.get("/message")
    async def message(index: Annotated[int, Depends(member)], after: str = "") -> Response:
        coordinator.advance(time.monotonic())
        phase = coordinator.server.phase.value
        data = None if phase == after else coordinator.message_for(index)
        if data is None:
            return Response(status_code=410 if coordinator.over else 204)
        return Response(data, media_type="application/octet-stream", headers={"Round-Phase": phase})

    @app.post("/message")
    async def answer(request: Request, index: Annotated[int, Depends(member)]) -> dict[str, str]:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > max(1024, coordinator.max_message_bytes):
                raise HTTPException(413)
        # A message that cannot be stored raises, here and ever after: status 500, until the server is started again.
        return {"event": type(coordinator.receive(index, body)).__name__}

    return app


def main(folder: Path, length: int, seconds: float = 60.0, port: int = 8443) -> None:
    """Sum LENGTH values of each member in FOLDER's tokens.json, and wait SECONDS for members in each phase."""
    tokens = json.loads((folder / "tokens.json").read_text())
    encoder = Encoder(np.zeros(length), clip=1.0, max_weight=100)
    shape = {"length": encoder.length, "input_max": encoder.input_max, "context": encoder.layout_digest()}
    journal = Journal(folder / "round.sqlite")
    server = journal.server(RoundConfig.for_cohort(len(tokens), **shape))
    coordinator = Coordinator(server, seconds, store=journal.store, record=journal.record)
    app = make_app(coordinator, tokens, lambda: print(server.failure or encoder.decode(server.compute())))  # noqa: T201
    uvicorn.run(app, port=port)  # on this machine alone: members elsewhere come through a proxy that has a certificate


if __name__ == "__main__":
    typer.run(main)
