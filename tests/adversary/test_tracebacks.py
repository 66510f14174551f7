"""No frame that a refusal keeps holds a secret: neither when a server lies, nor when a host or an executor errs."""

from __future__ import annotations

import traceback
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
import pytest

from secagg import (
    Client,
    ClientState,
    Identity,
    InputError,
    ParameterError,
    PeerError,
    SecAggError,
    StateError,
    ThreatModel,
    UsedTokens,
    arithmetic,
    load_identity,
)
from secagg.pairwise import messages
from secagg.pairwise.client import dealing
from secagg.pairwise.keys import KeySchedule
from secagg.pairwise.server import opening
from secagg.primitives import masking, secret_sharing
from secagg.testing.adversary import Attack, BadCommitment
from tests.support.attack_stage import active
from tests.support.staging import MODELS, Stage
from tests.support.traceback_secrets import Secrets, leaks, library_frames
from tests.support.trips import CASES, Trip, attack_of, name_of


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Secrets:
    return Secrets(monkeypatch)


@pytest.mark.parametrize(("trip", "model"), CASES, ids=name_of)
def test_no_frame_of_a_refusal_holds_a_secret(trip: Trip, model: ThreatModel, secrets: Secrets) -> None:
    """Every lie that a server can be caught at; what a host keeps of its own is its own."""
    spoils = attack_of(trip, model).run()
    assert spoils.refusals
    assert len(secrets.known) > 20 or trip.phase == "ADVERTISE"
    for _, refused in spoils.refusals:
        assert list(library_frames(refused))
        assert leaks(refused, secrets) == []


def test_the_walk_finds_what_is_there(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that are not cleared hold receive keys, and both kinds of share."""
    monkeypatch.setattr("secagg.primitives.calls._clear", lambda error, handled: None)
    spoils = Attack(active(7, 1, 2), colluders=(6,), client_lies=(BadCommitment((0,)),)).run()
    found = {place for _, refused in spoils.refusals for place in leaks(refused, secrets)}
    assert {"take_shares: receive_keys", "unseal_pairs: pairs"} <= found


# What a host does wrong.


def caught(call: Any, *arguments: Any, kind: type[BaseException] = SecAggError, **named: Any) -> BaseException:
    with pytest.raises(kind) as error:
        call(*arguments, **named)
    return error.value


def stage_with_input(threat_model: ThreatModel) -> tuple[Stage, Client]:
    """A client that waits for its vector."""
    stage = Stage(MODELS[threat_model](5)).play("MASK")
    stage.clients[0].receive(stage.server.outgoing().to(0) or b"")
    return stage, stage.clients[0]


@pytest.mark.parametrize("key", [None, bytes(range(32))])
def test_states_that_do_not_open(key: bytes | None, secrets: Secrets) -> None:
    """The state that is handed in is as secret as what is in it."""
    _, waiting = stage_with_input(ThreatModel.SEMI_HONEST)
    short = caught(waiting.suspend, secrets.add(bytes(range(64, 95))))
    assert waiting.state is ClientState.INPUT
    state, used = waiting.suspend(key), UsedTokens()
    secrets.add(key or state)
    damaged = state[:-3] + bytes((state[-3] ^ 1,)) + state[-2:]
    other_key = secrets.add(bytes(range(100, 132)))
    resumed = Client.resume(state, used, key=key)
    errors = [
        short,
        caught(Client.resume, state, used, key=key),
        caught(Client.resume, damaged, used, key=key),
        caught(Client.resume, state, used, key=other_key),
        caught(Client.resume, state[:50], used, key=key),
    ]
    round_ = resumed._member.round
    secrets.except_for(round_.config, round_.nonce, round_.round_id, resumed._record.session, *resumed._seen.values())
    for error in errors:
        assert list(library_frames(error))
        assert leaks(error, secrets) == []


def test_an_input_that_is_refused_is_its_host_s(secrets: Secrets) -> None:
    _, waiting = stage_with_input(ThreatModel.SEMI_HONEST)
    error = caught(waiting.submit, np.full(7, 2**15 + 3), kind=InputError)
    held = [frame.f_code.co_name for frame in library_frames(error) if frame.f_locals]
    assert held == ["submit"]
    assert waiting.state is ClientState.INPUT


BREAKS = {
    "start": (messages, "encode"),
    "a roster": (dealing, "commit"),
    "shares": (KeySchedule, "pairwise_mask"),
    "a vector's masks": (masking, "apply_masks"),
    "a vector's bytes": (arithmetic, "pack_in_place"),
    "survivors": (dealing, "reveal"),
}


class BrokenError(Exception):
    """Something that nobody foresaw."""


@pytest.mark.parametrize("place", BREAKS)
def test_a_bug_shows_no_secret(place: str, secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks down in the middle, and with it the client."""
    stage = Stage(MODELS[ThreatModel.SEMI_HONEST](5))
    stage.join(0)
    module, name = BREAKS[place]
    phase = {"start": "ADVERTISE", "a roster": "SHARE", "survivors": "UNMASK"}.get(place, "MASK")
    stage.play(phase)
    if phase == "ADVERTISE":
        stage.join(0)

    def break_down(*arguments: Any, **named: Any) -> Any:
        raise BrokenError

    monkeypatch.setattr(module, name, break_down)
    with pytest.raises(BrokenError) as error:
        stage.answer(0)
    assert stage.clients[0].state is ClientState.ABORTED
    assert {frame.f_code.co_name for frame in library_frames(error.value)} & {"start", "receive", "submit"}
    assert leaks(error.value, secrets) == []


def test_what_a_caller_was_handling_keeps_its_variables() -> None:
    """Its frames are the host's, although the new exception leads to them."""

    def host() -> None:
        of_the_host = "kept"
        raise LookupError(of_the_host)

    _, waiting = stage_with_input(ThreatModel.SEMI_HONEST)

    def tidying_host() -> None:
        try:
            host()
        except LookupError:
            waiting.start()

    with pytest.raises(StateError) as error:
        tidying_host()
    handled = error.value.__context__
    assert isinstance(handled, LookupError)
    frames = [frame for frame, _ in traceback.walk_tb(handled.__traceback__)]
    assert frames[-1].f_locals["of_the_host"] == "kept"


# The server, which opens secrets in order to compute.


class Losing(Executor):
    """A pool whose workers open the secrets, and are gone when masks are to be expanded."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if fn is opening.open_secrets:
            future.set_result(fn(*args, **kwargs))
        else:
            future.set_exception(BrokenError("worker lost"))
        return future


def test_a_server_whose_executor_breaks_shows_no_key(secrets: Secrets) -> None:
    stage = Stage(MODELS[ThreatModel.SEMI_HONEST](5)).play()
    secrets.known.clear()  # the clients' own; what the server opens comes now
    error = caught(stage.server.compute, Losing(), kind=BrokenError)
    assert secrets.known
    assert leaks(error, secrets) == []
    assert stage.server.compute().sum.tolist() == stage.plain_sum(range(5))


def test_a_server_that_names_a_dealer_shows_no_key(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Client 4 deals shares of another seed than the one that it committed to."""
    stage = Stage(MODELS[ThreatModel.SEMI_HONEST](7)).play("SHARE")
    with monkeypatch.context() as patch:
        share = secret_sharing.share
        patch.setattr(secret_sharing, "share", lambda given, *rest: share([given[0], bytes(range(32))], *rest))
        stage.deliver({4: stage.answer(4)})
    stage.play()
    secrets.known.clear()  # the clients' own; what the server opens comes now
    error = caught(stage.server.compute, kind=PeerError)
    assert secrets.known
    assert leaks(error, secrets) == []


# What never leaves identity files.


def test_an_identity_file_that_is_damaged(tmp_path: Any, secrets: Secrets) -> None:
    made = Identity(secrets.add(bytes(range(50, 82))))
    file = tmp_path / "member.json"
    file.write_text(f'{{"key": "{made.public_key.hex()[:-1]}0", "private_key": "{made.seed().hex()}"}}')
    error = caught(load_identity, file, kind=ParameterError)
    for frame in library_frames(error):
        assert made.seed().hex() not in str(frame.f_locals)
    assert leaks(error, secrets) == []
