"""Whole rounds of real processes: files, directories, commands, and the check of every end."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from secagg import Identity, save_directory
from secagg.adapters.net.ending import Ending
from tests.support.processes import Command, free_port

CLIP, LENGTH = 4.0, 100
Start = Callable[..., Command]


class Stage:
    """Several rounds in one server; every member takes part in each of them."""

    def __init__(
        self,
        start: Start,
        folder: Path,
        tls: Path,
        *,
        members: int,
        rounds: tuple[str, ...],
        threat: str,
        delta: float,
        deadline: float,
        workers: int = 0,
        give_up_after: int = 12,
    ) -> None:
        self.start, self.folder, self.tls = start, folder, tls
        self.members, self.rounds, self.threat, self.delta, self.deadline = members, rounds, threat, delta, deadline
        self.workers, self.give_up_after = workers, give_up_after
        self.port, self._started = free_port(), 0
        self.servers: list[Command] = []
        self.clients: dict[tuple[str, int], Command] = {}
        self.gone: set[tuple[str, int]] = set()
        identities = [Identity.generate() for _ in range(members)]
        save_directory(folder / "cohort.json", [(f"m{i}", one.public_key) for i, one in enumerate(identities)])
        for index, one in enumerate(identities):
            content = {"name": f"m{index}", "key": one.public_key.hex(), "private_key": one.seed().hex()}
            (folder / f"m{index}.json").write_text(json.dumps(content))
            for name in rounds:
                np.savez(folder / f"{name}{index}.npz", v=self.vector(name, index))

    def vector(self, name: str, member: int) -> np.ndarray[Any, Any]:
        """A member's input in a round."""
        rng = np.random.default_rng([self.rounds.index(name), member])
        return rng.uniform(-CLIP, CLIP, LENGTH).astype(np.float32)

    def serve(self) -> Command:
        """Start the server, or start it again."""
        named = [part for name in self.rounds for part in ("--round", name)]
        server = self.start(
            f"server{len(self.servers)}",
            *("serve", "--dim-from", f"{self.rounds[0]}0.npz", "--clip", CLIP, "--directory", "cohort.json", *named),
            *("--threat-model", self.threat, "--gamma", 0.2, "--delta", self.delta, "--deadline", self.deadline),
            *("--cert", self.tls / "server.pem", "--key", self.tls / "server.key", "--port", self.port),
            *("--journal", "journal.sqlite", "--output", "{round}-sum.npz", "--linger", 1.5),
            *("--log-format", "json", "--json", "--workers", self.workers),
            folder=self.folder,
        )
        self.servers.append(server)
        return server

    def join(self, name: str, member: int) -> Command:
        """Start a client, or start it again."""
        active = ("--directory", "cohort.json") if self.threat == "active" else ()
        self._started += 1
        # An identity file a round: a client waits for a state beside its own that another process is writing, and tests
        # let processes stand still in the middle of that.
        identity = self.folder / name / f"m{member}.json"
        if not identity.exists():
            identity.parent.mkdir(exist_ok=True)
            shutil.copy(self.folder / f"m{member}.json", identity)
        client = self.start(
            f"{name}{member}-{self._started}",
            *("join", f"wss://localhost:{self.port}/{name}", "--input", f"{name}{member}.npz"),
            *("--output", f"{name}{member}-sum.npz", "--identity", identity, *active, "--json"),
            *("--ca", self.tls / "server.pem", "--give-up-after", self.give_up_after, "--log-format", "json"),
            folder=self.folder,
        )
        self.clients[name, member] = client
        return client

    def phases_in_the_journal(self) -> dict[str, str]:
        """By round, the phase that the journal of a killed server is in; rounds that are over are left out."""
        return dict(self._read_journal("SELECT round, phase FROM stages"))

    def _read_journal(self, query: str) -> list[tuple[Any, ...]]:
        """Of a copy: what the server left is for the server to find."""
        with tempfile.TemporaryDirectory() as copy:
            for file in self.folder.glob("journal.sqlite*"):
                shutil.copy(file, copy)
            with closing(sqlite3.connect(Path(copy) / "journal.sqlite")) as database:
                return database.execute(query).fetchall()

    def check_the_end(self, *, complete: bool = False) -> dict[str, tuple[int, ...]]:
        """Everybody ends; every sum is the plain sum; returns who is in them, () for a round without a sum.

        ``complete``: nobody may be left out.
        """
        server = self.servers[-1]
        codes = {key: client.wait() for key, client in self.clients.items() if key not in self.gone}
        code = server.wait()
        assert code in (0, 1), server.errors()
        everything = "\n".join(path.read_text() for path in self.folder.glob("*.log"))
        for fault in ("Traceback", "conflict", "misbehaved", "state-reused", "already-joined"):
            assert fault not in everything, everything
        included = {}
        for found in server.result()["rounds"]:
            name = found["name"]
            got = {member: codes[name, member] for member in range(self.members) if (name, member) in codes}
            if found["failure"]:
                assert not complete, found["failure"]
                assert set(got.values()) <= {1, 3}, (found, got)
                assert not (self.folder / f"{name}-sum.npz").exists()
                included[name] = ()
            else:
                included[name] = self._check_sum(name, got)
                assert not complete or included[name] == tuple(range(self.members))
                assert not complete or set(got.values()) == {0}
        return included

    def _check_sum(self, name: str, codes: dict[int, int]) -> tuple[int, ...]:
        endings = dict(self._read_journal("SELECT round, ending FROM endings"))
        members = msgspec.msgpack.decode(endings[name], type=Ending).included
        plain = np.sum([self.vector(name, member) for member in members], axis=0, dtype=np.float64)
        bound = len(members) * CLIP / (2**15 - 1) * 1.01
        files = [self.folder / f"{name}-sum.npz"]
        for member, code in codes.items():
            # 3: it came back when the server had waited long enough for it, and was gone.
            assert code in (0, 1, 3), (name, member, code, self.clients[name, member].errors())
            assert code != 1 or member not in members, self.clients[name, member].errors()
            if code == 0:
                files.append(self.folder / f"{name}{member}-sum.npz")
                assert tuple(self.clients[name, member].result()["included"]) == members
        for file in files:
            assert np.abs(np.load(file)["v"] - plain).max() <= bound, file
        return members
