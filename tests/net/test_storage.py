"""The server's journal, a client's store, and model files."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hosting import LAYOUT, arrays_of, hosting, spec_of
from safetensors.numpy import load_file, save_file

from secagg import InputError, ParameterError, PeerError, Server
from secagg.adapters.net import journal as journal_module
from secagg.adapters.net import model_files
from secagg.adapters.net.frames import RefusedError
from secagg.adapters.net.journal import Journal, JournalError
from secagg.adapters.net.layout import Layout
from secagg.adapters.net.member import Member, MemberOptions
from secagg.adapters.net.standing import Entry
from secagg.adapters.net.store import ClientStore, TakingPart

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


def test_a_journal_is_private_and_has_one_writer(tmp_path: Path) -> None:
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
        async with asyncio.timeout(60):
            async with hosting([spec_of(3, layout=layout)], tmp_path, tls_folder, open_journal=limited) as host:
                arrays = {"v": np.full(8000, 0.5)}
                totals = await asyncio.gather(*(host.member(n, arrays=arrays).run() for n in range(3)))
                assert np.abs(totals[0].mean.mean["v"] - 0.5).max() < 1e-3

    asyncio.run(test())


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
        async with asyncio.timeout(30):
            with pytest.raises(JournalError, match=f"cannot be written.*{type(bug).__name__}"):
                await host_it()

    asyncio.run(test())


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
    entries = [Entry(2, "SHARE", "malformed"), Entry(1, "ADVERTISE", "CONFIG_REFUSED", by_client=True)]
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
    [(2**31, 3, r"2147483648 elements|elements take up to"), (10, 30_000, "the shares of 30000 clients")],
)
def test_what_no_snapshot_can_hold_is_refused_at_the_start(length: int, clients: int, says: str) -> None:
    layout = Layout.of({"v": (length,)}, clip=1.0)
    with pytest.raises(ParameterError, match=says):
        spec_of(clients, layout=layout, delta=0.0, neighbours="auto" if clients < 10 else 2000, min_survivors=None)


# A client's store.


def member_with(store: ClientStore, number: int = 0) -> Member:
    made = Member(MemberOptions(url="wss://localhost/x"), store, arrays_of(number), on_total=lambda total: None)
    made._encoder = LAYOUT.encoder_for(arrays_of(number))
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
            member, current = member_with(stores[index], index), server.phase.value
            if index == 0 and current == phase:
                before = answers(stores[0])
                with pytest.raises(PowerCutError):
                    member._step(index, current, data)
                assert answers(stores[0]) == before
                stores[0].close()
                stores[0] = ClientStore(tmp_path / "0.state")  # type: ignore[assignment]
                member = member_with(stores[0])
            member._step(index, current, data)
            once = answers(stores[index])[current]
            member._step(index, current, data)  # the same message again
            assert answers(stores[index])[current] == once
            server.receive(index, once)
        server.close_phase()
    assert server.compute().included == (0, 1, 2)


def test_unmask_is_answered_once(tmp_path: Path) -> None:
    """Another set of survivors, after the answer is stored, gets nothing out of the client, restarted or not."""
    config = spec_of(4, min_survivors=3, delta=0.25).config
    server = Server(config)
    stores = [ClientStore(tmp_path / f"{number}.state") for number in range(4)]
    while server.phase.value != "UNMASK":
        for index, data in server.outgoing():
            member_with(stores[index], index)._step(index, server.phase.value, data)
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
    member_with(stores[0])._step(0, "UNMASK", first)
    stored = answers(stores[0])["UNMASK"]
    stores[0].close()
    again = ClientStore(tmp_path / "0.state")
    member_with(again)._step(0, "UNMASK", second)
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
        store.save(TakingPart(0, b"invitation", b"config", secret, None))
        store.push("MASK", secret)
    assert secret in path.read_bytes()
    store.finish("finished")
    store.close()
    assert secret[:35] not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_a_store_keeps_used_tokens_over_rounds(tmp_path: Path) -> None:
    """The same invitation is not joined twice, also when the round is over for this client."""
    invitation = Server(spec_of(3).config).invitation()
    store = ClientStore(tmp_path / "client.state")
    member_with(store)._step(0, "ADVERTISE", invitation)
    store.finish("left")
    with pytest.raises(PeerError) as refused:
        member_with(store)._step(0, "ADVERTISE", invitation)
    assert refused.value.code == "already-joined"
    assert store.unsent(0) == [], "nothing that would end what another process of this client does"
    another = Server(spec_of(3).config).invitation()
    fresh = member_with(store)
    fresh._step(0, "ADVERTISE", another)
    with pytest.raises(RefusedError, match="in the middle of another"):
        fresh._step(0, "ADVERTISE", Server(spec_of(3).config).invitation())


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


# Model files.

ARRAYS = {"z.w": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.float64(3.5).reshape(()), "n": np.arange(4)}


@pytest.mark.parametrize("name", ["model.npz", "model.safetensors"])
def test_a_model_file_comes_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    model_files.write_arrays(path, ARRAYS)
    read = model_files.read_arrays(path)
    assert list(read) == sorted(ARRAYS)
    for key, array in ARRAYS.items():
        assert read[key].dtype == array.dtype
        assert np.array_equal(read[key], array)
    assert model_files.read_shapes(path) == {key: ARRAYS[key].shape for key in sorted(ARRAYS)}
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_files_of_other_writers_are_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "m.npz", **ARRAYS)
    save_file({key: np.asarray(array) for key, array in ARRAYS.items()}, tmp_path / "m.safetensors")
    for name in ("m.npz", "m.safetensors"):
        assert model_files.read_shapes(tmp_path / name) == {key: ARRAYS[key].shape for key in sorted(ARRAYS)}
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
    assert model_files.read_shapes(tmp_path / "m.safetensors") == {"v": (100_000,)}
    assert model_files.read_shapes(tmp_path / "whole.npz") == {"v": (100_000,)}


@pytest.mark.parametrize("read", [model_files.read_arrays, model_files.read_shapes])
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
    for read in (model_files.read_arrays, model_files.read_shapes):
        with pytest.raises(InputError, match="Python objects"):
            read(tmp_path / "m.npz")


def test_a_client_s_state_is_not_printed() -> None:
    """It is suspended in clear: whoever prints what the store holds must not print the keys."""
    secret = bytes(range(65, 91))
    printed = repr(TakingPart(0, b"invitation", b"config", secret, None))
    assert "invitation" in printed
    assert secret.decode() not in printed
