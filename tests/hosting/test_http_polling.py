"""examples/http_polling: over loopback sockets, in a time that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import httpx
import numpy as np
import polling_client
import polling_server
import pytest

from secagg import (
    Accepted,
    Contribution,
    Coordinator,
    DurableTokens,
    Failure,
    Policy,
    Result,
    RoundConfig,
    SecAggError,
    Server,
)
from secagg.testing.contracts import HostContract, Link, TransportContract, Trial
from tests.support.example_hosts import SECONDS, Time, has_vanished, hashes, phase_seen, served, token


def logged_in(url: str, index: int) -> httpx.Client:
    # Without TLS on loopback there are no certificates to load, which would take most of the time.
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token(index)}"}, verify=False)


class TestHttpHost(HostContract):
    """Whole rounds: the server behind a socket, each member's every step from what it has stored."""

    def play(self, trial: Trial, folder: Path) -> Result | Failure:
        clock, rounds = Time(), len(list(folder.glob("round*")))
        journal = polling_server.Journal(folder / f"round{rounds}")
        self.left: dict[int, BaseException] = {}
        with patch.object(polling_server, "time", clock), ExitStack() as running:
            coordinator, url = self.serve(journal, trial, running)
            while not coordinator.over:
                phase = coordinator.server.phase
                if not self.look_around(trial, url, folder, rounds):
                    clock.now += SECONDS
                    with logged_in(url, 0) as anybody:
                        anybody.get("/message", params={"after": "UNMASK"})
                elif trial.restarts and coordinator.server.phase is not phase:
                    running.close()
                    coordinator, url = self.serve(journal, trial, running)
        server = coordinator.server
        return server.failure or server.compute()

    def serve(self, journal: polling_server.Journal, trial: Trial, running: ExitStack) -> tuple[Coordinator, str]:
        coordinator = Coordinator(journal.server(trial.config), SECONDS, store=journal.store, record=journal.record)
        coordinator.open(polling_server.time.monotonic())
        app = polling_server.make_app(coordinator, hashes(len(trial.updates)))
        return coordinator, running.enter_context(served(app))

    def look_around(self, trial: Trial, url: str, folder: Path, rounds: int) -> bool:
        """Let every member look once; whether one of them took a message."""
        return sum(self.step(trial, index, url, folder, rounds) for index in range(len(trial.updates))) > 0

    def step(self, trial: Trial, index: int, url: str, folder: Path, rounds: int) -> bool:
        """Let a member look once; whether it took a message."""
        own = folder / f"member{index}-{rounds}"
        if has_vanished(trial, index, own) or index in self.left:
            return False
        used = DurableTokens(folder / f"used{index}")
        contribution = Contribution(
            trial.encoder, trial.updates[index], weight=trial.weights[index], released=used.released
        )
        policy = Policy(gamma=0.2, min_survivors=3, context=trial.encoder.layout_digest())
        member = polling_client.Member(index, contribution, policy, own, used, bytes(32))
        before = phase_seen(own)
        try:
            with logged_in(url, index) as http:
                member.step(http)
        except (SecAggError, httpx.HTTPStatusError, SystemExit) as why:
            self.left[index] = why
        finally:
            used.close()
        return phase_seen(own) != before


@dataclass
class Mailroom:
    """In the place of a coordinator: remembers what it is handed, and has one message for everybody in ``mail``."""

    mail: dict[int, bytes] = field(default_factory=dict)
    handed: list[tuple[int, bytes]] = field(default_factory=list)
    server: Any = field(default_factory=lambda: SimpleNamespace(phase=SimpleNamespace(value="SHARE")))
    over: bool = False
    deadline: float = 1e18
    max_message_bytes: int = 1 << 20
    app: Any = None
    """The service in front of it."""

    def advance(self, now: float) -> None:
        pass

    def receive(self, sender: int, data: bytes) -> Accepted:
        self.handed.append((sender, bytes(data)))
        return Accepted(sender, "SHARE")

    def message_for(self, index: int) -> bytes | None:
        return self.mail.get(index)


@dataclass
class HttpLink:
    url: str
    room: Mailroom

    def up(self, client: int, data: bytes) -> tuple[int, bytes] | None:
        with logged_in(self.url, client) as http:
            http.post("/message", content=data).raise_for_status()
        return self.room.handed[-1]

    def down(self, client: int, data: bytes) -> bytes | None:
        self.room.mail = {client: data}
        with logged_in(self.url, client) as http:
            return http.get("/message").raise_for_status().content

    def forged(self, client: int, victim: int, data: bytes) -> tuple[int, bytes] | None:
        """It names the other in everything that a request has."""
        self.room.handed.clear()
        with logged_in(self.url, client) as http:
            http.post("/message", content=data, params={"index": victim}, headers={"index": str(victim)})
        return self.room.handed[-1] if self.room.handed else None

    def overheard(self, client: int, victim: int, data: bytes) -> bytes | None:
        self.room.mail = {victim: data}
        with logged_in(self.url, client) as http:
            return http.get("/message", params={"index": victim}).content or None


@contextmanager
def mailroom(members: int) -> Iterator[tuple[str, Mailroom]]:
    room = Mailroom()
    room.app = polling_server.make_app(room, hashes(members))  # type: ignore[arg-type]
    with served(room.app) as url:
        yield url, room


class TestHttpTransport(TransportContract):
    @contextmanager
    def connect(self, clients: int, folder: Path) -> Iterator[Link]:  # type: ignore[override]
        with mailroom(clients) as (url, room):
            yield HttpLink(url, room)


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer of another"}, {"Authorization": "Basic QTpC"}])
def test_whoever_is_not_logged_in_gets_and_gives_nothing(header: dict[str, str]) -> None:
    with mailroom(2) as (url, room), httpx.Client(base_url=url, headers=header, verify=False) as http:
        room.mail = {0: b"secret", 1: b"secret"}
        assert http.get("/message").status_code == http.post("/message", content=b"x").status_code == 401
        assert room.handed == []


def test_a_message_that_is_longer_than_any_is_not_read_to_its_end() -> None:
    with mailroom(1) as (url, room), logged_in(url, 0) as http:
        assert http.post("/message", content=bytes((1 << 20) + 1)).status_code == 413
        assert room.handed == []


@pytest.mark.parametrize("url", ["http://example.org:8443", "http://127.0.0.1.example.org", "ws://127.0.0.1:1"])
def test_a_member_sends_nothing_to_another_machine_without_tls(url: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="give an https URL"):
        polling_client.main(url, 0, tmp_path / "values.npy", tmp_path / "member")


def test_a_message_without_a_length_is_not_read() -> None:
    with mailroom(1) as (url, room), logged_in(url, 0) as http:
        assert http.post("/message", content=iter([b"a", b"b"])).status_code == 413
        assert room.handed == []


def run_member(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MEMBER_TOKEN", token(0))
    monkeypatch.setenv("MEMBER_KEY", bytes(32).hex())
    np.save("values.npy", np.zeros(3))
    (folder / "round").mkdir()
    polling_client.main(url, 0, folder / "values.npy", folder / "round")


def test_a_member_ends_when_it_has_the_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mailroom(2) as (url, room):
        room.app.state.mean = np.array([1.0, 2.0, 3.0]).tobytes()
        run_member(url, tmp_path, monkeypatch)
        assert np.load(tmp_path / "round" / "mean.npy").tolist() == [1, 2, 3]
        assert room.app.state.unaware == {1}


@pytest.mark.parametrize(
    ("mean", "mail", "says"),
    [(b"", {}, "the server has no mean for this member"), (None, {0: b"rubbish"}, "leaving the round: ")],
)
def test_a_member_that_gets_no_mean_ends_with_its_reason(
    mean: bytes | None, mail: dict[int, bytes], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mailroom(1) as (url, room):
        room.app.state.mean, room.mail = mean, mail
        with pytest.raises(SystemExit, match=says):  # a text makes the exit code 1
            run_member(url, tmp_path, monkeypatch)


def test_a_server_that_cannot_store_hands_nothing_out_and_goes_on_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, clock = RoundConfig.for_cohort(3, 3), Time()
    monkeypatch.setattr(polling_server, "time", clock)
    journal = polling_server.Journal(tmp_path / "round")

    def service(server: Server, store: Any) -> Any:
        coordinator = Coordinator(server, SECONDS, store=store, record=journal.record)
        coordinator.open(clock.now)
        return served(polling_server.make_app(coordinator, hashes(3)))

    with service(Server(config), journal.store) as url, logged_in(url, 0) as http:
        invitation = http.get("/message").content
    with service(journal.server(config), full_after_the_first(journal.store)) as url:
        clock.now += SECONDS
        for _ in range(2):
            with logged_in(url, 0) as http:  # the service closes a connection on which it failed
                assert http.get("/message").status_code == 500
    with service(journal.server(config), journal.store) as url, logged_in(url, 0) as http:
        assert http.get("/message").content == invitation


def full_after_the_first(store: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Stores once, and then the disk is full."""
    calls: list[None] = []

    def once(snapshot: bytes) -> None:
        calls.append(None)
        if len(calls) > 1:
            raise OSError("no space left")
        store(snapshot)

    return once


def test_the_example_is_short() -> None:
    folder = Path(polling_server.__file__).parent
    assert sum(len(path.read_text().splitlines()) for path in folder.glob("*.py")) < 200
