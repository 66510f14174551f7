"""The server's journal, a client's store, and model files."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sqlite3
import stat
import struct
import sys
import types
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from secagg import Identity, InputError, ParameterError, PeerError, Server
from secagg.adapters.net import journal as journal_module
from secagg.adapters.net import model_files
from secagg.adapters.net.certificates import client_context, make_demo_certificate, server_context
from secagg.adapters.net.frames import Progress, RefusedError
from secagg.adapters.net.journal import Journal, JournalError
from secagg.adapters.net.membership import MemberOptions
from secagg.adapters.net.own_input import OwnInput
from secagg.adapters.net.patience import Patience
from secagg.adapters.net.standing import RefusalRecord
from secagg.adapters.net.steps import Steps
from secagg.adapters.net.store import ClientStore, JoinedRound, may_hold
from secagg.cli.join_options import JoinOptions
from secagg.cli.join_run import JoinOutcome
from secagg.cli.own_checks import OwnLoss
from secagg.encoding.layout import Layout
from secagg.encoding.settings import Coarse
from tests.support.hosting import LAYOUT, arrays_of, hosting, spec_of
from tests.support.moved_clock import run

# The journal.


def test_a_journal_has_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"

    async def write() -> None:
        journal = Journal(path)
        await journal.open_round("r", b"config", b"layout")
        await journal.store_stage("r", "ADVERTISE", 12.5, b"first")
        await journal.append("r", [(0, b"old")])
        await journal.store_stage("r", "SHARE", 13.5, b"second")
        await journal.offer_seat("r", 1, b"key")
        await asyncio.gather(*(journal.append("r", [(index, bytes([index]))]) for index in range(200)))
        await journal.move_deadline("r", 99.0)
        assert journal.commits < 100, "those that wait together are one transaction"
        journal.close()

    asyncio.run(write())
    journal = Journal(path)
    found = journal.load("r")
    assert found is not None
    assert (found.config, found.layout, found.phase, found.deadline) == (b"config", b"layout", "SHARE", 99.0)
    assert (found.snapshot, found.seats, found.ending) == (b"second", {1: b"key"}, None)
    assert list(itertools.chain(*journal.messages("r"))) == [(index, bytes([index])) for index in range(200)]
    assert journal.load("other") is None
    asyncio.run(journal.end_round("r", b"ending"))
    ended = journal.load("r")
    assert ended is not None
    assert (ended.ending, ended.snapshot) == (b"ending", b"")
    assert list(journal.messages("r")) == []
    journal.close()


def test_a_journal_is_private_and_has_one_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_BUSY_SECONDS", 0.05)
    journal = Journal(tmp_path / "journal.sqlite")
    assert stat.S_IMODE((tmp_path / "journal.sqlite").stat().st_mode) == 0o600
    with pytest.raises(ParameterError, match="another process uses this journal"):
        Journal(tmp_path / "journal.sqlite")
    journal.close()
    (tmp_path / "text").write_text("no database " * 100)
    with pytest.raises(ParameterError, match="not a journal"):
        Journal(tmp_path / "text")


def test_what_cannot_be_written_is_said_to_whoever_waits(tmp_path: Path) -> None:
    async def write() -> None:
        journal = Journal(tmp_path / "journal.sqlite")
        await journal.open_round("r", b"", b"")
        with pytest.raises(JournalError, match="cannot be written"):
            await journal.open_round("r", b"", b"")
        await journal.offer_seat("r", 0, b"key")
        journal.close()

    asyncio.run(write())


def test_a_journal_outlives_an_event_loop_that_closes_while_it_is_told(tmp_path: Path) -> None:
    """As between two rounds of ``--chained``: the journal's thread goes on for those that come next."""

    class Closing(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *arguments: Any, **options: Any) -> Any:
            self.close()  # behind any look at whether it is closed
            return super().call_soon_threadsafe(*arguments, **options)

    journal = Journal(tmp_path / "journal.sqlite")
    loop = Closing()
    journal._work.put((lambda database: None, loop.create_future()))

    async def write() -> None:
        async with asyncio.timeout(10):
            await journal.open_round("r", b"config", b"")

    try:
        asyncio.run(write())
    finally:
        journal.close()
        loop.close()


def test_large_values_are_stored_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite takes 10^9 bytes at most: a masked vector, a snapshot and the sum come back whole, in order."""
    monkeypatch.setattr(journal_module, "_PART_BYTES", 1000)
    path = tmp_path / "journal.sqlite"
    rng = np.random.default_rng(1)
    vectors = [rng.bytes(size) for size in (0, 1, 999, 1000, 1001, 2000, 54_321)]
    snapshot, packed = rng.bytes(3001), rng.bytes(2000)

    async def write() -> None:
        journal = Journal(path)
        await journal.open_round("r", b"config", b"layout")
        await journal.store_stage("r", "ADVERTISE", 1.0, rng.bytes(9000))
        await journal.store_stage("r", "MASK", 1.0, snapshot)
        twice = ([(n, data), (n, bytearray(data))] for n, data in enumerate(vectors))
        await asyncio.gather(*(journal.append("r", messages) for messages in twice))
        journal.close()

    asyncio.run(write())
    journal = Journal(path)
    found = journal.load("r")
    assert found is not None
    assert found.snapshot == snapshot
    stored = list(itertools.chain(*journal.messages("r")))
    assert sorted(stored) == sorted((n, data) for n, data in enumerate(vectors) for _ in range(2))
    longest = journal._database.execute("SELECT max(length(data)) FROM messages").fetchone()[0]
    assert longest == 1000
    asyncio.run(journal.end_round("r", b"ending", packed))
    ended = journal.load("r")
    assert ended is not None
    assert (ended.ending, ended.packed, ended.snapshot) == (b"ending", packed, b"")
    journal.close()


def test_a_vector_above_sqlite_s_limit_goes_through_a_whole_round(
    tmp_path: Path, tls_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is lowered here, to what a vector of 20 kB is above."""
    monkeypatch.setattr(journal_module, "_PART_BYTES", 1000)
    layout = Layout.of({"v": (8000,)}, clip=1.0)

    def limited(path: Path) -> Journal:
        journal = Journal(path)
        journal._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1500)
        return journal

    async def test() -> None:
        async with hosting([spec_of(3, layout=layout)], tmp_path, tls_folder, open_journal=limited) as host:
            arrays = {"v": np.full(8000, 0.5)}
            totals = await asyncio.gather(*(host.member(n, arrays=arrays).run() for n in range(3)))
            assert np.abs(totals[0].mean.mean["v"] - 0.5).max() < 1e-3

    run(test)


@pytest.mark.parametrize("bug", [OverflowError("BLOB longer than INT_MAX bytes"), MemoryError(), KeyError("bug")])
def test_whatever_happens_on_the_journal_s_thread_ends_the_service_with_a_reason(
    tmp_path: Path, tls_folder: Path, bug: Exception
) -> None:
    """Nobody hangs: not who waits, not who comes later, not the service."""

    class Buggy(Journal):  # type: ignore[misc]
        async def append(self, name: str, accepted: Any) -> None:
            def operation(db: sqlite3.Connection) -> None:
                raise bug

            await self._do(operation)

    async def host_it() -> None:
        async with hosting([spec_of(3)], tmp_path, tls_folder, open_journal=Buggy) as host:
            members = [asyncio.create_task(host.member(n, give_up_seconds=0.5).run()) for n in range(3)]
            await host.service.finished(0)
            await asyncio.gather(*members)

    async def test() -> None:
        with pytest.raises(JournalError, match=f"cannot be written.*{type(bug).__name__}"):
            await host_it()

    run(test)


def test_after_a_bug_nothing_more_is_written(tmp_path: Path) -> None:
    async def write() -> None:
        journal = Journal(tmp_path / "journal.sqlite")

        def operation(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO rounds VALUES ('half', x'', x'')")
            raise KeyError("bug")

        with pytest.raises(JournalError, match="KeyError"):
            await journal._do(operation)
        for _ in range(2):
            with pytest.raises(JournalError, match="KeyError"):
                await journal.open_round("r", b"", b"")
        assert journal.load("half") is None
        journal.close()

    asyncio.run(write())


def test_refusals_are_remembered_once(tmp_path: Path) -> None:
    entries = [RefusalRecord(2, "SHARE", "malformed"), RefusalRecord(1, "ADVERTISE", "CONFIG_REFUSED", by_client=True)]
    journal = Journal(tmp_path / "journal.sqlite")
    asyncio.run(journal.open_round("r", b"", b""))
    for _ in range(2):
        asyncio.run(journal.record("r", entries))
    found = journal.load("r")
    assert found is not None
    assert found.refusals == tuple(entries)
    journal.close()


def test_a_journal_that_is_there_is_made_private_and_is_no_link(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.touch(mode=0o666)
    path.chmod(0o666)
    Journal(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ParameterError, match="symbolic link"):
        Journal(tmp_path / "link")
    assert (tmp_path / "elsewhere").read_text() == "mine"


@pytest.mark.parametrize(
    ("length", "clients", "says"),
    [(2**31, 3, "elements can take up to"), (10, 30_000, "the shares of 30,000 clients")],
)
def test_what_no_snapshot_can_hold_is_refused_at_the_start(length: int, clients: int, says: str) -> None:
    layout = Layout.of({"v": (length,)}, clip=1.0)
    with pytest.raises(ParameterError, match=says):
        spec_of(clients, layout=layout, delta=0.0, neighbours="auto" if clients < 10 else 2000, min_survivors=None)


# A client's store.


def steps_with(
    store: ClientStore, number: int = 0, *, layout: Layout = LAYOUT, clients: int = 3, **options: Any
) -> Steps:
    """A client's steps, after its login."""
    given = MemberOptions(url="wss://localhost/x", **options)
    made = Steps(given, store, OwnInput(arrays_of(number)), Identity(bytes(32)))
    made.prepare(layout, b"", clients)
    return made


class PowerCutError(Exception):
    """The process is gone."""


class CutStore(ClientStore):  # type: ignore[misc]
    """Its step ends before the commit, in a phase."""

    phase = ""

    def push(self, phase: str, data: Any) -> None:
        super().push(phase, data)
        if phase == self.phase:
            raise PowerCutError


def answers(store: ClientStore) -> dict[str, bytes]:
    return {phase: data for _, phase, data in store.unsent(0)}


@pytest.mark.parametrize("phase", ["ADVERTISE", "SHARE", "MASK", "UNMASK"])
def test_a_step_that_is_cut_off_has_not_happened(tmp_path: Path, phase: str) -> None:
    """Nothing of it is to be sent, no token is used, and the client takes the same step again."""
    server = Server(spec_of(3).config)
    stores = [CutStore(tmp_path / f"{number}.state") for number in range(3)]
    stores[0].phase = phase
    while not server.ready_to_compute:
        for index, data in server.outgoing():
            steps, current = steps_with(stores[index], index), server.phase.value
            if index == 0 and current == phase:
                before = answers(stores[0])
                with pytest.raises(PowerCutError):
                    steps.take(index, current, data)
                assert answers(stores[0]) == before
                assert not may_hold_in_a_sum(stores[0])
                stores[0].close()
                stores[0] = ClientStore(tmp_path / "0.state")  # type: ignore[assignment]
                steps = steps_with(stores[0])
            steps.take(index, current, data)
            once = answers(stores[index])[current]
            steps.take(index, current, data)  # the same message again
            assert answers(stores[index])[current] == once
            server.receive(index, once)
        server.close_phase()
    assert server.compute().included == (0, 1, 2)
    assert all(may_hold_in_a_sum(store, number) for number, store in enumerate(stores))


def may_hold_in_a_sum(store: ClientStore, number: int = 0) -> bool:
    with store.step():
        return bool(store.is_released(store.keyed(OwnInput(arrays_of(number)).values_digest)))


def test_unmask_is_answered_once(tmp_path: Path) -> None:
    """Another set of survivors, after the answer is stored, gets nothing out of the client, restarted or not."""
    config = spec_of(4, min_survivors=3, delta=0.25).config
    server = Server(config)
    stores = [ClientStore(tmp_path / f"{number}.state") for number in range(4)]
    while server.phase.value != "UNMASK":
        for index, data in server.outgoing():
            steps_with(stores[index], index, clients=4).take(index, server.phase.value, data)
            if server.phase.value == "MASK" and index == 3:
                before_mask = server.snapshot()
            server.receive(index, answers(stores[index])[server.phase.value])
        server.close_phase()
    fewer = Server.restore(before_mask)  # a server that shows a set without client 3
    fewer.close_phase()
    first, second = server.outgoing().to(0), fewer.outgoing().to(0)
    assert first is not None
    assert second is not None
    assert first != second
    steps_with(stores[0], clients=4).take(0, "UNMASK", first)
    stored = answers(stores[0])["UNMASK"]
    stores[0].close()
    again = ClientStore(tmp_path / "0.state")
    steps_with(again, clients=4).take(0, "UNMASK", second)
    assert answers(again)["UNMASK"] == stored
    with again.step():
        part = again.load()
    assert part is not None
    assert part.state is None


def test_a_store_forgets_its_secrets(tmp_path: Path) -> None:
    path = tmp_path / "client.state"
    store = ClientStore(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = b"a secret of this client, thirty-two" * 20
    with store.step():
        store.save(JoinedRound(0, b"invitation", b"config", b"layout", b"", b"v", b"i", False, secret, None))
        store.push("MASK", secret)
    assert secret in path.read_bytes()
    store.finish("finished")
    store.close()
    assert secret[:35] not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_a_store_shrinks_when_its_round_is_over(tmp_path: Path) -> None:
    path = tmp_path / "client.state"
    store = ClientStore(path)
    with store.step():
        store.push("MASK", bytes(5_000_000))
    assert path.stat().st_size > 5_000_000
    store.finish("finished")
    assert path.stat().st_size < 100_000
    store.close()


def test_a_store_of_the_first_version(tmp_path: Path) -> None:
    """Its tokens stay used; a round in the middle of which it stands cannot go on."""
    for over in ("finished", None):
        path = tmp_path / f"{over}.state"
        with closing(sqlite3.connect(path)) as database:
            database.executescript(FIRST_VERSION)
            database.execute("INSERT INTO used VALUES (?)", (b"token",))
            database.execute("INSERT INTO taking_part VALUES (1, 0, x'00', x'00', NULL, ?)", (over,))
            database.commit()
        if over is None:
            with pytest.raises(ParameterError, match="an older version of secagg is in the middle of a round"):
                ClientStore(path)
            continue
        store = ClientStore(path)
        with store.step():
            assert not store.consume(b"token")
            assert store.load() is None
        store.close()


FIRST_VERSION = """
CREATE TABLE used (token BLOB PRIMARY KEY);
CREATE TABLE identity (seed BLOB NOT NULL);
CREATE TABLE taking_part (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seat INTEGER NOT NULL, invitation BLOB NOT NULL, config BLOB NOT NULL, state BLOB, over TEXT
);
CREATE TABLE outgoing (number INTEGER PRIMARY KEY AUTOINCREMENT, phase TEXT NOT NULL, data BLOB NOT NULL);
PRAGMA user_version = 1;
"""


def test_a_state_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "client.state").symlink_to(tmp_path / "precious")
    with pytest.raises(ParameterError, match="a symbolic link"):
        ClientStore(tmp_path / "client.state")
    assert (tmp_path / "precious").read_text() == "precious"


def test_what_a_store_keeps_of_an_input_cannot_be_tried_out(tmp_path: Path) -> None:
    """Two stores keep other digests of one input; without its own file's key, one says nothing."""
    values = OwnInput(arrays_of(0)).values_digest
    stores = [ClientStore(tmp_path / f"{number}.state") for number in range(2)]
    kept = []
    for store in stores:
        with store.step():
            kept.append(store.keyed(values))
            store.release(kept[-1])
    assert kept[0] != kept[1]
    assert values not in kept
    assert may_hold(tmp_path / "0.state", values)
    assert not may_hold(tmp_path / "0.state", OwnInput(arrays_of(1)).values_digest)
    assert not may_hold(tmp_path / "none.state", values)


def test_the_digest_of_an_input_is_of_its_values() -> None:
    """Not of dtypes, memory order, or the sign of a zero: all are the same data to whoever has two sums."""
    values = {"w": np.array([[0.5, -0.0], [2.0, 3.0]]), "b": np.array([1.0])}
    same = {"b": np.array([1]), "w": np.array([[0.5, 0.0], [2.0, 3.0]], np.float32, order="F")}
    digest = OwnInput(values).values_digest
    assert OwnInput(same, 7).values_digest == digest
    assert OwnInput({"w": values["w"].reshape(4), "b": values["b"]}).values_digest != digest
    assert OwnInput({"w": values["b"], "b": values["w"]}).values_digest != digest
    assert OwnInput(values, 7).digest(b"layout") != OwnInput(values, 8).digest(b"layout")
    assert OwnInput(values, 7).digest(b"layout") != OwnInput(values, 7).digest(b"other")


def test_the_phase_of_an_answer_is_the_clients_own_word(tmp_path: Path) -> None:
    """A server that calls the roster's phase MASK must not have its acknowledgement count for a vector."""
    server = Server(spec_of(3).config)
    stores = [ClientStore(tmp_path / f"{number}.state") for number in range(3)]
    for index, data in server.outgoing():
        steps_with(stores[index], index).take(index, "ADVERTISE", data)
        server.receive(index, answers(stores[index])["ADVERTISE"])
    server.close_phase()
    roster = server.outgoing().to(0)
    assert roster is not None
    steps = steps_with(stores[0])
    steps.take(0, "MASK", roster)
    assert stores[0].waiting() == ["ADVERTISE", "SHARE"]
    for number, _, _ in stores[0].unsent(0):
        steps.acknowledge(number, "accepted")
    with stores[0].step():
        part = stores[0].load()
    assert part is not None
    assert not part.masked


def test_patience_counts_from_the_last_progress() -> None:
    now = 0.0
    patience = Patience(5.0, lambda: now)

    def show(phase: str, arrived: int, left: float, *, expected: int = 3, clients: int = 3) -> None:
        patience.show(Progress(phase, arrived, expected, left), clients)

    show("ADVERTISE", 1, 100.0)
    assert patience.seconds_left() == 105.0  # the server may wait for others as long as it said
    now = 50.0
    show("ADVERTISE", 1, 1e9)  # and not longer
    show("ADVERTISE", 0, 1e9)
    show("LUNCH", 3, 1e9)
    assert patience.seconds_left() == 55.0
    now = 104.0
    show("ADVERTISE", 2, 1e9)
    assert patience.seconds_left() == 5.0
    show("ADVERTISE", 1000, 0.0)  # no more than there are clients
    now = 108.0
    show("ADVERTISE", 2000, 0.0, expected=5000)
    assert patience.seconds_left() == 1.0
    show("SHARE", 0, float("inf"))
    assert patience.seconds_left() == 5.0
    show("MASK", 0, 1e12)
    assert patience.seconds_left() == 24 * 3600 + 5.0  # a day at most
    now += 24 * 3600 + 5.0
    assert patience.seconds_left() == 0.0
    patience.moved()
    assert patience.seconds_left() == 5.0


@pytest.mark.parametrize(("expected", "clients"), [(5, 2**20), (2**32, 5), (2**32, 2**20)])
def test_arrivals_without_end_hold_nobody(expected: int, clients: int) -> None:
    """A server that lets one more client arrive whenever patience is nearly over."""
    now, last = 0.0, 0
    patience = Patience(5.0, lambda: now)
    while patience.seconds_left():
        patience.show(Progress("ADVERTISE", last := last + 1, expected, 0.0), clients)
        now += 4.0
    assert now <= (5 * 5.0 + 4.0 if min(expected, clients) == 5 else 24 * 3600 + 10.0)


def test_a_store_keeps_used_tokens_over_rounds(tmp_path: Path) -> None:
    """The same invitation is not joined twice, also when the round is over for this client."""
    invitation = Server(spec_of(3).config).invitation()
    store = ClientStore(tmp_path / "client.state")
    steps_with(store).take(0, "ADVERTISE", invitation)
    store.finish("left")
    with pytest.raises(PeerError) as refused:
        steps_with(store).take(0, "ADVERTISE", invitation)
    assert refused.value.code == "already-joined"
    assert store.unsent(0) == [], "nothing that would end what another process of this client does"
    another = Server(spec_of(3).config).invitation()
    fresh = steps_with(store)
    fresh.take(0, "ADVERTISE", another)
    with pytest.raises(RefusedError, match="in the middle of another"):
        fresh.take(0, "ADVERTISE", Server(spec_of(3).config).invitation())


def test_a_step_is_on_the_disk_with_its_directory(tmp_path: Path) -> None:
    """Else a power cut could bring the journal back, and with it a state that has answered."""
    path = tmp_path / "client.state"
    path.touch(mode=0o666)
    store = ClientStore(path)
    assert store._database.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA
    assert store._database.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store.close()


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    with pytest.raises(ParameterError, match="not a client's state"):
        ClientStore(tmp_path / "text")
    with sqlite3.connect(tmp_path / "newer") as database:
        database.execute("PRAGMA user_version = 7")
    with pytest.raises(ParameterError, match="version 7"):
        ClientStore(tmp_path / "newer")


def test_a_demo_key_is_private_however_it_was_left(tmp_path: Path) -> None:
    make_demo_certificate(tmp_path)
    (tmp_path / "server.key").chmod(0o644)
    _, key = make_demo_certificate(tmp_path)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    (tmp_path / "precious").write_text("precious")
    for name in ("server.pem", "server.key"):
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(tmp_path / "precious")
    (tmp_path / "precious").rename(tmp_path / "gone")  # the links lead nowhere: a pair is made
    make_demo_certificate(tmp_path)
    assert not (tmp_path / "precious").exists()


def test_files_of_a_certificate_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"none\.pem"):
        client_context(tmp_path / "none.pem")
    certificate, _ = make_demo_certificate(tmp_path)
    with pytest.raises(OSError, match=r"none\.key"):
        server_context(certificate, tmp_path / "none.key")


# Model files.

ARRAYS = {"z.w": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.float64(3.5).reshape(()), "n": np.arange(4)}


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """What a server reads of a file."""
    return {name: header.shape for name, header in model_files.read_headers(path).items()}


@pytest.mark.parametrize("name", ["model.npz", "model.safetensors"])
def test_a_model_file_comes_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    model_files.write_arrays(path, ARRAYS)
    read = model_files.read_arrays(path)
    assert list(read) == sorted(ARRAYS)
    for key, array in ARRAYS.items():
        assert read[key].dtype == array.dtype
        assert np.array_equal(read[key], array)
    assert shapes_in(path) == {key: ARRAYS[key].shape for key in sorted(ARRAYS)}
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["model.npz", "model.safetensors"])
def test_names_that_writers_have_other_uses_for(tmp_path: Path, name: str) -> None:
    """``numpy.savez`` takes ``file`` and ``allow_pickle`` for its own arguments; ``.npy`` is cut off a name once."""
    arrays = {key: np.full(2, place) for place, key in enumerate(("file", "allow_pickle", "a", "a.npy", "args/0", "é"))}
    model_files.write_arrays(tmp_path / name, arrays)
    read = model_files.read_arrays(tmp_path / name)
    assert {key: array.tolist() for key, array in read.items()} == {key: a.tolist() for key, a in arrays.items()}


@pytest.mark.parametrize(
    ("name", "arrays", "says"),
    [
        ("m.safetensors", {"__metadata__": np.zeros(2)}, "cannot hold an array named '__metadata__'"),
        ("m.safetensors", {"v": np.zeros(2, np.longdouble)}, "which .safetensors has not"),
        ("m.npz", {"a\0b": np.zeros(2)}, "cannot hold an array named"),
        ("m.npz", {"\ud800": np.zeros(2)}, "no Unicode text"),
    ],
)
def test_what_a_format_cannot_hold_is_said_before_anything_is_written(
    tmp_path: Path, name: str, arrays: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        model_files.write_arrays(tmp_path / name, arrays)
    assert list(tmp_path.iterdir()) == []


def test_other_byte_orders_and_strides_are_written_as_they_are(tmp_path: Path) -> None:
    arrays = {
        "big": np.arange(6, dtype=">f8"),
        "turned": np.arange(6.0).reshape(2, 3).T,
        "flags": np.array([True, False]),
    }
    for name in ("m.npz", "m.safetensors"):
        model_files.write_arrays(tmp_path / name, arrays)
        for key, array in model_files.read_arrays(tmp_path / name).items():
            assert array.tolist() == arrays[key].tolist()
    assert load_file(tmp_path / "m.safetensors")["flags"].dtype == np.bool_


def test_a_total_is_never_written_through_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "sum.npz").symlink_to(precious)
    model_files.write_arrays(tmp_path / "sum.npz", ARRAYS)
    assert precious.read_text() == "precious"
    assert not (tmp_path / "sum.npz").is_symlink()


def bfloat16_file(path: Path, code: str = "BF16") -> None:
    """Three numbers in bfloat16: 1, -2.5, and 0.25; or as many bytes of another type."""
    data = np.array([1.0, -2.5, 0.25], np.float32).view(np.uint32)
    raw = (data >> 16).astype("<u2").tobytes() if code == "BF16" else bytes([0x38, 0xC0, 0x00])
    header = json.dumps({"v": {"dtype": code, "shape": [3], "data_offsets": [0, len(raw)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw)


def test_bfloat16_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bfloat16_file(tmp_path / "m.safetensors")
    assert shapes_in(tmp_path / "m.safetensors") == {"v": (3,)}
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(InputError, match="'v' has dtype BF16, which NumPy has not by itself: pip install ml_dtypes"):
        model_files.read_arrays(tmp_path / "m.safetensors")


def test_types_of_an_extension_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's part is played by types of the same widths: what is read are the right bytes of the right type."""
    stand_in = types.SimpleNamespace(bfloat16=np.dtype("<u2"), float8_e4m3fn=np.dtype("u1"))
    monkeypatch.setitem(sys.modules, "ml_dtypes", stand_in)  # type: ignore[arg-type]
    bfloat16_file(tmp_path / "m.safetensors")
    read = model_files.read_arrays(tmp_path / "m.safetensors")["v"]
    assert read.tolist() == [0x3F80, 0xC020, 0x3E80]
    bfloat16_file(tmp_path / "m.safetensors", "F8_E4M3")
    assert model_files.read_arrays(tmp_path / "m.safetensors")["v"].tolist() == [0x38, 0xC0, 0x00]
    bfloat16_file(tmp_path / "m.safetensors", "F8_E8M0")
    with pytest.raises(InputError, match="dtype F8_E8M0, which cannot be summed"):
        model_files.read_arrays(tmp_path / "m.safetensors")


def test_files_of_other_writers_are_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "m.npz", **ARRAYS)
    save_file({key: np.asarray(array) for key, array in ARRAYS.items()}, tmp_path / "m.safetensors")
    for name in ("m.npz", "m.safetensors"):
        assert shapes_in(tmp_path / name) == {key: ARRAYS[key].shape for key in sorted(ARRAYS)}
        assert np.array_equal(model_files.read_arrays(tmp_path / name)["z.w"], ARRAYS["z.w"])
    model_files.write_arrays(tmp_path / "w.safetensors", ARRAYS)
    assert np.array_equal(load_file(tmp_path / "w.safetensors")["n"], ARRAYS["n"])


def test_the_values_of_a_layout_file_are_not_read(tmp_path: Path) -> None:
    """A file with the header alone is enough."""
    np.savez(tmp_path / "whole.npz", v=np.zeros(100_000))
    save_file({"v": np.zeros(100_000)}, tmp_path / "m.safetensors")
    with (tmp_path / "m.safetensors").open("r+b") as file:
        file.seek(-400_000, 2)
        file.write(b"\xff" * 400_000)  # NaNs, if they were looked at
    assert shapes_in(tmp_path / "m.safetensors") == {"v": (100_000,)}
    assert shapes_in(tmp_path / "whole.npz") == {"v": (100_000,)}


@pytest.mark.parametrize("read", [model_files.read_arrays, model_files.read_headers])
@pytest.mark.parametrize("name", ["m.npz", "m.safetensors"])
def test_bad_model_files_are_named(tmp_path: Path, name: str, read: Any) -> None:
    path = tmp_path / name
    with pytest.raises(InputError, match=r"no such file"):
        read(path)
    path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00 neither of them ")
    with pytest.raises(InputError, match=name):
        read(path)
    with pytest.raises(ParameterError, match=r"end in \.npz or \.safetensors"):
        read(tmp_path / "m.pt")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", v=np.array([{"a": 1}], dtype=object))
    for read in (model_files.read_arrays, model_files.read_headers):
        with pytest.raises(InputError, match="Python objects"):
            read(tmp_path / "m.npz")


def test_a_client_s_state_is_not_printed() -> None:
    """It is suspended in clear: whoever prints what the store holds must not print the keys."""
    secret = bytes(range(65, 91))
    printed = repr(JoinedRound(0, b"invitation", b"config", b"layout", b"", b"v", b"i", False, secret, None))
    assert "invitation" in printed
    assert secret.decode() not in printed


def test_what_tells_of_a_client_s_data_is_not_printed() -> None:
    """Its weight, and what a layout makes of its values: a debugger or a log that prints objects shows neither."""
    count, weight = 31337, 424242
    coarse = Coarse(largest=count / 7, clip=1.0, rounding=1.0 / weight)
    shown = [
        MemberOptions(url="wss://localhost/default", weight=weight),
        JoinOptions(inputs=Path("u.npz"), weight=weight),
        OwnInput({"w": np.full(3, count)}, weight),
        coarse,
        OwnLoss({"w": count}, True, {"w": coarse}, {"w": count / 7}),
        JoinOutcome({"clipped": {"w": count}}, 0),
    ]
    for thing in shown:
        assert not re.search(f"{count}|{weight}|{count / 7:.3f}|{1.0 / weight}|True", repr(thing)), type(thing)
