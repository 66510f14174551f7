"""examples/shared_folder: in a temporary folder, in a time that the test moves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import folder_client
import folder_server
import numpy as np
import pytest
import sealed_files
from sealed_files import Box

from secagg import Contribution, DurableTokens, Failure, Policy, Result, SecAggError
from secagg.testing.contracts import HostContract, Link, TransportContract, Trial
from tests.support.example_hosts import SECONDS, has_vanished, phase_seen


def box(folder: Path, index: int) -> Box:
    return Box(folder, index, bytes([index]) * 32)


class TestFolderHost(HostContract):
    """Whole rounds: each look of the server and of a member starts from its files, as in a process of its own."""

    def play(self, trial: Trial, folder: Path) -> Result | Failure:
        number, now = len(list(folder.glob("shared*"))), 0.0
        shared, servers = folder / f"shared{number}", folder / f"private{number}"
        boxes = [box(shared, index) for index in range(len(trial.updates))]
        self.left: dict[int, Exception] = {}
        while True:
            server = folder_server.look_once(servers, boxes, trial.config, SECONDS, now)
            if server.ready_to_compute or server.done:
                return server.failure or server.compute()
            folders = [folder / f"member{own.index}-{number}" for own in boxes]
            if sum(self.look(trial, own, private) for own, private in zip(boxes, folders, strict=True)) == 0:
                now += SECONDS

    def look(self, trial: Trial, own: Box, private: Path) -> bool:
        """Let a member look once; whether it took a message."""
        if has_vanished(trial, own.index, private) or own.index in self.left:
            return False
        used = DurableTokens(private.parent / f"used{own.index}")
        contribution = Contribution(
            trial.encoder, trial.updates[own.index], weight=trial.weights[own.index], released=used.released
        )
        policy = Policy(gamma=0.2, min_survivors=3, context=trial.encoder.layout_digest())
        before = phase_seen(private)
        try:
            folder_client.Member(own, contribution, policy, private, used, bytes(32)).look_once()
        except SecAggError as why:
            self.left[own.index] = why
        finally:
            used.close()
        return phase_seen(private) != before


@dataclass
class FolderLink:
    folder: Path
    sent: int = 0

    def name(self) -> str:
        self.sent += 1
        return f"message {self.sent}"

    def up(self, client: int, data: bytes) -> tuple[int, bytes] | None:
        name = self.name()
        box(self.folder, client).put("up", name, data)
        return self._collected(name)

    def down(self, client: int, data: bytes) -> bytes | None:
        name = self.name()
        box(self.folder, client).put("down", name, data)
        return box(self.folder, client).get("down", name)

    def forged(self, client: int, victim: int, data: bytes) -> tuple[int, bytes] | None:
        """It seals with its own key, in the other's place; and it copies its own sealed file there."""
        name = self.name()
        Box(self.folder, victim, box(self.folder, client).key).put("up", name, data)
        if (arrived := self._collected(name)) is not None:
            return arrived
        box(self.folder, client).put("up", f"{name} copied", data)
        copy = self.folder / "up" / str(victim) / name
        copy.write_bytes((self.folder / "up" / str(client) / f"{name} copied").read_bytes())
        return self._collected(name)

    def overheard(self, client: int, victim: int, data: bytes) -> bytes | None:
        name = self.name()
        box(self.folder, victim).put("down", name, data)
        assert data not in (self.folder / "down" / str(victim) / name).read_bytes()
        return Box(self.folder, victim, box(self.folder, client).key).get("down", name)

    def _collected(self, name: str) -> tuple[int, bytes] | None:
        found = ((index, box(self.folder, index).get("up", name)) for index in range(3))
        return next(((index, data) for index, data in found if data is not None), None)


class TestFolderTransport(TransportContract):
    @contextmanager
    def connect(self, clients: int, folder: Path) -> Iterator[Link]:  # type: ignore[override]
        yield FolderLink(folder)


def test_a_file_is_not_taken_for_one_of_another_direction_or_phase(tmp_path: Path) -> None:
    own = box(tmp_path, 0)
    own.put("up", "SHARE", b"message")
    sealed = (tmp_path / "up" / "0" / "SHARE").read_bytes()
    for place in ("up/0/MASK", "down/0/SHARE"):
        sealed_files.replace(tmp_path / place, sealed)
        assert own.get(*place.split("/0/")) is None
    assert own.get("up", "SHARE") == b"message"


def test_a_file_that_is_too_long_or_no_sealed_message_is_left_alone(tmp_path: Path) -> None:
    own = box(tmp_path, 0)
    own.put("up", "SHARE", bytes(101))
    assert own.get("up", "SHARE", 100) is None
    assert own.get("up", "SHARE", 101) == bytes(101)
    sealed_files.replace(tmp_path / "up/0/MASK", b"rubbish")
    assert own.get("up", "MASK") is None


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "dangling link"])
def test_what_is_no_file_keeps_nobody_waiting(tmp_path: Path, kind: str) -> None:
    """Whoever can write in the folder makes members drop out at most: no run hangs, or ends in an error."""
    own = box(tmp_path, 0)
    own.put("up", "SHARE", b"message")
    place = tmp_path / "up" / "0" / "MASK"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("SHARE" if kind == "link" else "nowhere")
    assert own.get("up", "MASK") is None


def test_no_file_is_written_through_somebodys_link(tmp_path: Path) -> None:
    own, victim = box(tmp_path / "shared", 0), tmp_path / "keys.json"
    victim.write_text("the server's")
    own.put("down", "ADVERTISE", b"message")
    for name in ("SHARE.new", "MASK"):
        (tmp_path / "shared/down/0" / name).symlink_to(victim)
    own.put("down", "SHARE", b"message")
    own.put("down", "MASK", b"message")
    assert victim.read_text() == "the server's"
    assert own.get("down", "SHARE") == b"message"


def test_a_message_is_published_once(tmp_path: Path) -> None:
    own = box(tmp_path, 0)
    own.put("up", "SHARE", b"first")
    own.put("up", "SHARE", b"second")
    assert own.get("up", "SHARE") == b"first"


def test_the_programs_run_a_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the README, one look after the other; the mean is that of the files."""
    values = [np.linspace(-1, 1, 4) * index for index in range(3)]
    keys = [bytes([index]).hex() * 32 for index in range(3)]
    shared, private = tmp_path / "round-1", tmp_path / "private"
    private.mkdir()
    (private / "keys.json").write_text(json.dumps(keys))
    while "Mean" not in (printed := capsys.readouterr().out):
        assert "leaving" not in printed
        folder_server.main(shared, private, 4, 60.0)
        for index in range(3):
            own = tmp_path / str(index)
            own.mkdir(exist_ok=True)
            monkeypatch.chdir(own)
            monkeypatch.setenv("BOX_KEY", keys[index])
            monkeypatch.setenv("MEMBER_KEY", bytes(32).hex())
            np.save("values.npy", np.clip(values[index], -1, 1))
            folder_client.main(shared, own / "my-round", index, own / "values.npy")
    assert "count=3" in printed
    folder_client.main(shared, own / "my-round", 2, own / "values.npy")
    assert capsys.readouterr().out == "done\n"


def test_the_example_is_short() -> None:
    folder = Path(sealed_files.__file__).parent
    assert sum(len(path.read_text().splitlines()) for path in folder.glob("*.py")) < 200
