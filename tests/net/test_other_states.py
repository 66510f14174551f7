"""The same values in two rounds of one member, each with a state file of its own: at most one round gets them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg import ClientAborted, Identity, ParameterError, Server
from secagg.adapters.net import model_files
from secagg.adapters.net.membership import MaybeSummedError, MemberOptions
from secagg.adapters.net.own_input import OwnInput
from secagg.adapters.net.steps import Steps
from secagg.adapters.net.store import ClientStore
from secagg.cli import join_run
from secagg.cli.join_options import JoinOptions
from tests.support.hosting import LAYOUT, arrays_of, spec_of

MONDAY, TUESDAY = "ws://localhost:8443/monday", "ws://localhost:8443/tuesday"


class Round:
    """A round in memory; its client 0 is the member with two states."""

    def __init__(self, name: str, folder: Path, **options: Any) -> None:
        self.server = Server(spec_of(3).config)
        self.options = {"url": f"wss://localhost/{name}", **options}
        states = folder / "states" / f"{name}.state", folder / f"{name}1.state", folder / f"{name}2.state"
        self.stores = [ClientStore(state) for state in states]
        self.failure: Exception | None = None

    def close_phase(self, **options: Any) -> None:
        """Everybody answers, as far as it still takes part, and the phase is closed."""
        phase = self.server.phase.value
        for index, data in self.server.outgoing():
            given = MemberOptions(**self.options, **(options if index == 0 else {}))
            steps = Steps(given, self.stores[index], OwnInput(arrays_of(index)), Identity(bytes(32)))
            steps.prepare(LAYOUT, b"", 3)
            steps.take(index, phase, data)
            for _, kind, answer in self.stores[index].unsent(0):
                event = self.server.receive(index, answer).event
                assert isinstance(event, ClientAborted) == (kind == "ABORT")
            self.failure = self.failure or steps.failure
        if not self.server.done:
            self.server.close_phase()

    @property
    def has_answered(self) -> bool:
        """Whether the member's shares are on their way: its vector may be in a sum."""
        return any(phase == "UNMASK" for _, phase, _ in self.stores[0].unsent(0))


@pytest.mark.parametrize("ahead", [0, 1, 2, 3])
def test_of_two_rounds_joined_at_the_same_moment_one_goes_on(tmp_path: Path, ahead: int) -> None:
    """Neither saw the other when it joined; one of them is some phases ahead."""
    folder = tmp_path / "states"
    rounds = [Round(name, tmp_path) for name in ("monday", "tuesday")]
    for running in rounds:
        running.close_phase()
    for _ in range(ahead):
        rounds[0].close_phase(other_states=(folder,))
    for _ in range(3):
        for running in rounds:
            if not (running.server.done or running.server.ready_to_compute):
                running.close_phase(other_states=(folder,))
    assert [running.has_answered for running in rounds].count(True) == 1
    for running in rounds:
        assert isinstance(running.failure, MaybeSummedError) == (not running.has_answered)


def test_an_input_that_was_released_meanwhile_is_released_no_more(tmp_path: Path) -> None:
    """The other round, whose member said --again, reaches its end between this one's vector and its last answer."""
    folder = tmp_path / "states"
    rounds = [Round(name, tmp_path) for name in ("monday", "tuesday")]
    for running in rounds:
        for _ in range(3):
            running.close_phase()
    rounds[0].close_phase(other_states=(folder,), again=True)
    rounds[1].close_phase(other_states=(folder,))
    assert rounds[0].has_answered
    assert not rounds[1].has_answered
    assert "monday.state has it in another round since this client joined" in str(rounds[1].failure)


def test_two_members_of_one_round_may_have_the_same_values(tmp_path: Path) -> None:
    """In one folder: there is one sum, with both.  A second round with these values is another one."""
    for name in ("monday", "tuesday"):
        server = Server(spec_of(3).config)
        stores = [ClientStore(tmp_path / f"{name}{index}.state") for index in range(3)]
        options = MemberOptions(url=f"wss://localhost/{name}", other_states=(tmp_path,))
        while not server.ready_to_compute:
            phase = server.phase.value
            for index, data in server.outgoing():
                steps = Steps(options, stores[index], OwnInput(arrays_of(0)), Identity(bytes(32)))
                steps.prepare(LAYOUT, b"", 3)
                if name == "tuesday":
                    with pytest.raises(MaybeSummedError, match=r"monday0\.state"):
                        steps.take(index, phase, data)
                    return
                steps.take(index, phase, data)
                for _, kind, answer in stores[index].unsent(0):
                    assert kind != "ABORT"
                    server.receive(index, answer)
            server.close_phase()
        assert server.compute().included == (0, 1, 2)


# Which states a command asks.


def refuses(options: JoinOptions) -> bool:
    """Whether ``join`` leaves a round because the file may be in a sum already."""
    assert options.url is not None
    state = join_run.state_of(options)
    given = join_run.member_options(options, options.url, options.layout_policy(), state)
    own = OwnInput(model_files.read_arrays(options.inputs))
    steps = Steps(given, ClientStore(state), own, given.identity or Identity(bytes(32)))
    steps.prepare(LAYOUT, b"", 3)
    try:
        steps.take(0, "ADVERTISE", Server(spec_of(3).config).invitation())
    except MaybeSummedError:
        return True
    return False


def release(options: JoinOptions) -> None:
    """The file may be in a sum, by the state of this command."""
    store = ClientStore(join_run.state_of(options))
    with store.step():
        store.release(store.keyed(OwnInput(model_files.read_arrays(options.inputs)).values_digest))
    store.close()


def copied(folder: Path) -> Path:
    return Path(shutil.copy(folder / "u.npz", folder / "same.npz"))


def linked(folder: Path) -> Path:
    (folder / "links").mkdir()
    (folder / "links" / "link.npz").symlink_to(folder / "u.npz")
    return folder / "links" / "link.npz"


def moved(folder: Path) -> Path:
    (folder / "other").mkdir()
    return Path(shutil.copy(folder / "u.npz", folder / "other" / "u.npz"))


SAME: dict[str, Callable[[Path], dict[str, Any]]] = {
    "named state": lambda folder: {"state": folder / "monday.state"},
    "another name": lambda folder: {"inputs": copied(folder)},
    "a link": lambda folder: {"inputs": linked(folder)},
    "beside the identity": lambda folder: {"inputs": moved(folder), "identity": identity_in(folder)},
    "in the folder of --state": lambda folder: {"inputs": moved(folder), "state": folder / "monday.state"},
}


def identity_in(folder: Path) -> Path:
    file = folder / "ada.json"
    identity = Identity(bytes(range(32)))
    text = f'{{"name": "ada", "key": "{identity.public_key.hex()}", "private_key": "{identity.seed().hex()}"}}'
    file.write_text(text)
    return file


@pytest.mark.parametrize("turned", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("case", SAME)
def test_a_file_is_known_again(tmp_path: Path, case: str, turned: bool) -> None:
    """One round of monday and one of tuesday: with the default state, and with what the case says."""
    plain: dict[str, Any] = {"insecure_plaintext": True, "min_survivors": 3, "inputs": tmp_path / "u.npz"}
    np.savez(tmp_path / "u.npz", **arrays_of(0))  # type: ignore[arg-type]
    special = plain | SAME[case](tmp_path)
    first, second = (special, plain) if turned else (plain, special)
    release(JoinOptions(url=MONDAY, **first))
    assert refuses(JoinOptions(url=TUESDAY, **second))
    np.savez(second["inputs"], **arrays_of(7))  # type: ignore[arg-type]
    assert not refuses(JoinOptions(url=TUESDAY, **second))


def test_a_state_that_no_other_round_would_find(tmp_path: Path) -> None:
    options = JoinOptions(url=MONDAY, inputs=tmp_path / "u.npz", state=tmp_path / "monday.db")
    with pytest.raises(ParameterError, match=r"must end with \.state.* give monday\.db\.state, say"):
        join_run.state_of(options)
    ClientStore(tmp_path / "monday.db").close()  # one that is there goes on
    assert join_run.state_of(options) == tmp_path / "monday.db"


def test_another_state_is_told_to_lie_beside_the_first(tmp_path: Path) -> None:
    store = ClientStore(tmp_path / "monday.state")
    store.bind("wss://one.example:443/monday", bytes(32))
    for url, key in (("wss://one.example:443/tuesday", bytes(32)), ("wss://one.example:443/monday", bytes(31) + b"1")):
        with pytest.raises(ParameterError, match="another --state in the same folder, where this one is still found"):
            store.bind(url, key)
