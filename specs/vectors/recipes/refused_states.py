"""Clients that are stored and resumed: a state is resumed once.  How it is stored is local, and not looked at."""

from __future__ import annotations

import copy

from reference.client import Client

from .cases import ClientCases
from .common import labelled


class Stored:
    """One client's host: the states that it stored, by name, and the ledger of the tokens that were used."""

    def __init__(self, tests: ClientCases, setup: str, stage: str) -> None:
        self.tests = tests
        self.case, self.client, self.awaited = tests.at(setup, stage)
        self.states: dict[str, tuple[bytes, Client]] = {}
        self.used: set[bytes] = set()

    def suspend(self, saved: str) -> None:
        """Store the client, which ends."""
        token = labelled(f"token of {saved}", 32)
        self.states[saved] = token, copy.deepcopy(self.client)
        self.client.state = "ABORTED"
        self.case.note("client.suspend", saved=saved, token=token.hex(), state=self.client.state)

    def resume(self, saved: str) -> None:
        """Go on with a stored client, unless its token was used."""
        token, stored = self.states[saved]
        refused = {"error": "state-reused"} if token in self.used else {}
        if not refused:
            self.used.add(token)
            self.client = copy.deepcopy(stored)
        self.case.note("client.resume", saved=saved, token=token.hex(), **refused, state=self.client.state)

    def start(self) -> None:
        """The client advertises."""
        advertised = self.client.start()
        self.case.note("client.start", out=self.case.name(advertised, "advertise"), state=self.client.state)

    def get(self) -> None:
        """The client gets the message that it awaited when it was stored."""
        self.tests.get(self.case, self.client, self.awaited, "message")

    def add(self, flags: str, comment: str, error: str = "") -> None:
        """The test."""
        self.tests.add(self.case, "STATE-4", comment, flags, error)


def refused_states(tests: ClientCases) -> None:
    """Adds the tests."""
    for setup in ("semi_honest", "active"):
        host = Stored(tests, setup, "Survivors")
        host.suspend("state-1")
        host.resume("state-1")
        host.get()
        host.add("RESUMED", "suspended and resumed: the answer is the same")

        host = Stored(tests, setup, "Survivors")
        host.suspend("state-1")
        host.resume("state-1")
        host.get()
        host.resume("state-1")
        host.add("ROLLED_BACK", "resumed again after it answered", "state-reused")

    host = Stored(tests, "semi_honest", "Shares")
    host.suspend("state-1")
    host.resume("state-1")
    host.resume("state-1")
    host.get()
    host.add("ROLLED_BACK RESUMED", "resumed twice: the first one goes on", "state-reused")

    host = Stored(tests, "semi_honest", "client.start")
    host.suspend("state-1")
    host.resume("state-1")
    host.start()
    host.resume("state-1")
    host.add("ROLLED_BACK", "resumed again where it would draw other keys", "state-reused")

    host = Stored(tests, "semi_honest", "Survivors")
    for saved in ("state-1", "state-2"):
        host.suspend(saved)
        host.resume(saved)
    host.resume("state-1")
    host.resume("state-2")
    host.add("LEDGER", "an older state, after a newer one was resumed", "state-reused")

    host = Stored(tests, "semi_honest", "Survivors")
    host.suspend("state-1")
    host.get()
    host.resume("state-1")
    host.get()
    host.add("SPENT RESUMED", "a client that was suspended answers nothing itself: its state does, resumed")
