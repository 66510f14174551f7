"""The server of a round over plain HTTP: members fetch messages and the mean, and post answers."""

import asyncio
import hashlib
import json
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from secagg import Coordinator, Encoder, RoundConfig, SecAggError, Server


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


def make_app(coordinator: Coordinator, tokens: Sequence[str]) -> FastAPI:
    """The service, for the SHA-256 of each member's token.  ``app.state.mean`` is handed out once it is set."""
    app = FastAPI()
    app.state.mean, app.state.unaware = None, set(range(len(tokens)))

    async def member(login: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> int:
        digest = hashlib.sha256(login.credentials.encode()).hexdigest()
        if digest not in tokens:
            raise HTTPException(401)
        return tokens.index(digest)

    @app.get("/message")
    async def message(index: Annotated[int, Depends(member)], after: str = "") -> Response:
        coordinator.advance(time.monotonic())
        phase = coordinator.server.phase.value
        data = None if phase == after else coordinator.message_for(index)
        if data is None and app.state.mean is not None:
            phase, data = "MEAN", app.state.mean
            app.state.unaware.discard(index)
        status = 200 if data else 410 if phase == "MEAN" else 204
        return Response(data, status, {"Round-Phase": phase}, "application/octet-stream")

    @app.post("/message")
    async def answer(request: Request, index: Annotated[int, Depends(member)]) -> dict[str, str]:
        if int(request.headers.get("Content-Length", 1 << 62)) > max(1024, coordinator.max_message_bytes):
            raise HTTPException(413)
        return {"event": type(coordinator.receive(index, await request.body())).__name__}

    return app


async def serve(coordinator: Coordinator, app: FastAPI, encoder: Encoder, port: int, seconds: float) -> int:
    """Serve until all members know how the round ended, or SECONDS longer; the exit code, 0 when there is a mean."""
    coordinator.open(time.monotonic())
    service = uvicorn.Server(uvicorn.Config(app, port=port))  # on this machine alone: a proxy has the certificate
    serving = asyncio.create_task(service.serve([service.config.bind_socket()]))
    while not (coordinator.over or serving.done()):
        await asyncio.sleep(max(0.01, min(0.5, coordinator.deadline - time.monotonic())))
        coordinator.advance(time.monotonic())
    try:
        told = encoder.decode(await asyncio.to_thread(coordinator.server.compute))
        app.state.mean = np.asarray(told.mean).tobytes()
    except SecAggError as why:
        told, app.state.mean = coordinator.server.failure or why, b""
    print(told)  # noqa: T201
    end = time.monotonic() + seconds
    while app.state.unaware and not serving.done() and time.monotonic() < end:
        await asyncio.sleep(0.1)
    service.should_exit = True
    await serving
    return 0 if app.state.mean else 1


def main(folder: Path, length: int, seconds: float = 60.0, port: int = 8443) -> None:
    """Sum LENGTH values of each member in FOLDER's tokens.json, and wait SECONDS for members in each phase."""
    tokens = json.loads((folder / "tokens.json").read_text())
    encoder = Encoder(np.zeros(length), clip=1.0, max_weight=100)
    shape = {"input_max": encoder.input_max, "context": encoder.layout_digest()}
    config, journal = RoundConfig.for_cohort(len(tokens), encoder.length, **shape), Journal(folder / "round.sqlite")
    coordinator = Coordinator(journal.server(config), seconds, store=journal.store, record=journal.record)
    raise SystemExit(asyncio.run(serve(coordinator, make_app(coordinator, tokens), encoder, port, seconds)))


if __name__ == "__main__":
    typer.run(main)
