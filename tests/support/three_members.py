"""A service of the command line, and three members with a file each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.hosting import arrays_of
from tests.support.processes import Command, free_port
from tests.support.rounds_of_processes import Start

MEMBERS = range(3)


class ThreeMembers:
    """An open round that ``secagg serve`` hosts when this is made, with further options of the test's."""

    def __init__(self, start: Start, folder: Path, *options: object) -> None:
        self._start, self._folder, self._port = start, folder, free_port()
        for member in MEMBERS:
            np.savez(folder / f"u{member}.npz", w=arrays_of(member)["w"])
        self.server: Command = start(
            "server",
            *("serve", "--clients", len(MEMBERS), "--dim-from", "u0.npz", "--clip", 2, "--bits", 20, "--open"),
            *("--gamma", 0, "--demo-cert", "tls", "--port", self._port, "--output", "sum.npz", "--json"),
            *(*options, "--log-format", "json"),
        )
        self.server.await_log("listening")

    def join(self, name: str, member: int, output: str, *options: object) -> Command:
        """A member's command, with further options."""
        return self._start(
            name,
            *("join", f"wss://localhost:{self._port}/default", "--input", f"u{member}.npz", "--output", output),
            *(*options, "--ca", "tls/server.pem", "--gamma", 0),
        )

    def all_get_the_sum(self, *options: object) -> None:
        """All three join with these options; every command succeeds, and every file has the plain sum."""
        clients = [self.join(f"client {member}", member, f"t{member}.npz", *options) for member in MEMBERS]
        assert [client.wait() for client in clients] == [0] * len(MEMBERS)
        assert self.server.wait() == 0
        plain = sum(arrays_of(member)["w"].astype(np.float64) for member in MEMBERS)
        for file in ("sum.npz", *(f"t{member}.npz" for member in MEMBERS)):
            assert np.abs(np.load(self._folder / file)["w"] - plain).max() < 1e-3
