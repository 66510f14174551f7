"""Secrets are in nothing that is printed, logged, raised or pickled: looked for by value, in whatever form.

What the secrets are is taken from where they are made: what the source of randomness gave, and what ``Secret`` held.
"""

from __future__ import annotations

import base64
import logging
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from secagg import (
    Client,
    Identity,
    InputError,
    ParameterError,
    PeerError,
    SecAggError,
    StateError,
    Suite,
    ThreatModel,
    UsedTokens,
)
from secagg.pairwise import messages, records
from secagg.pairwise.client import dealing
from secagg.pairwise.keys import KeySchedule, RootSchedule
from secagg.pairwise.server.records import Unmasked
from secagg.pairwise.server.snapshot import load
from secagg.primitives.secret import Secret
from secagg.simulation import SeededRandomness
from tests.support import wire
from tests.support.staging import MODELS, Stage, semi_honest

CLIENTS, LOST = 6, 4
SHARE, SALT, KEY = 40, 32, 16
PAIR = (SHARE, SHARE, SALT, SALT)  # a key share, a seed share, the salt of each
IDENTITY_BYTES = 64  # seed and public key

FORMS: dict[str, Callable[[bytes], str]] = {
    "hex": bytes.hex,
    "capital hex": lambda piece: piece.hex().upper(),
    "base64": lambda piece: base64.b64encode(piece).decode().rstrip("=")[:-2],
    "little-endian": lambda piece: str(int.from_bytes(piece, "little")),
    "big-endian": lambda piece: str(int.from_bytes(piece, "big")),
    "list": lambda piece: ", ".join(map(str, piece)),
    "repr": lambda piece: repr(piece)[2:-1],
    "words": lambda piece: ", ".join(map(str, np.frombuffer(piece[: len(piece) // 8 * 8], "<u8").tolist())),
}


def cut(data: bytes, *sizes: int) -> list[bytes]:
    """Pieces of these sizes, over and over."""
    pieces, start = [], 0
    while start < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[start : start + size])
        start += size
    return pieces


DERIVED: dict[type, tuple[str, ...]] = {
    RootSchedule: ("x25519_key", "ml_kem_seed", "pair_secrets_key"),
    KeySchedule: ("pair_secret", "pair_secret_seal", "channel", "pairwise_mask", "self_mask"),
}
"""What is derived and is secret: in the hybrid suite some of it is in no ``Secret``, for it lives in one call."""
HYBRID: dict[str, Any] = {"suite": Suite.HYBRID, "version": 2}
EVERY_SUITE = pytest.mark.parametrize("options", [{}, HYBRID], ids=["suite 1", "suite 3"])


class Vault:
    """Every secret of a round, in pieces as they would be found: halves of keys and seeds, keys, shares, salts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pieces: set[bytes] = set()
        self.pairs: set[bytes] = set()
        make = Secret.__init__

        def recorded(secret: Secret, data: bytes) -> None:
            make(secret, data)
            self.add(bytes(data))

        monkeypatch.setattr(Secret, "__init__", recorded)
        for schedule, names in DERIVED.items():
            for name in names:
                monkeypatch.setattr(schedule, name, self._remembering(getattr(schedule, name)))

    def _remembering(self, derive: Callable[..., bytes]) -> Callable[..., bytes]:
        def derived(*given: Any) -> bytes:
            made = derive(*given)
            self.add(made)
            return made

        return derived

    def add(self, data: bytes) -> None:
        if len(data) % sum(PAIR) == 0:
            self.pairs.update(cut(data, sum(PAIR)))
            self.pieces.update(cut(data, *PAIR))
        else:
            self.pieces.update(cut(data[:32] if len(data) == IDENTITY_BYTES else data, KEY))

    def source(self, seed: int, label: str) -> Callable[[int], bytes]:
        """A source of randomness that remembers what it gave."""
        source = SeededRandomness(seed, label)

        def draw(length: int) -> bytes:
            drawn = source(length)
            self.add(drawn)
            return drawn

        return draw

    def found_in(self, *things: object) -> set[str]:
        """In which forms a secret was found in texts or in bytes."""
        text = "\n".join(thing for thing in things if isinstance(thing, str))
        blob = b"\n".join(thing for thing in things if isinstance(thing, bytes))
        found = {name for name, form in FORMS.items() if any(form(piece) in text for piece in self.pieces)}
        return found | {"raw" for piece in self.pieces if piece in blob}


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Vault:
    return Vault(monkeypatch)


def guarded_stage(vault: Vault, threat_model: ThreatModel, **options: Any) -> Stage:
    """A round of which the vault knows every secret, the identities' included."""
    stage = Stage(MODELS[threat_model](CLIENTS, 3, **options))
    stage.identities = [Identity(identity.seed()) for identity in stage.identities]
    for index in range(CLIENTS):
        stage.join(index, randomness=vault.source(stage.seed, f"client {index}"))
    return stage


def shown(thing: object) -> list[object]:
    """Everything that a person, a log or a cache could come to see of it."""
    texts: list[object] = [repr(thing), str(thing), f"{thing}", ascii(thing)]
    try:
        return texts + [pickle.dumps(thing, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    except (TypeError, AttributeError, pickle.PicklingError):
        return texts


def insides(thing: Any) -> list[object]:
    """What it refers to: a debugger's, or a careless log line's, next step."""
    places = ("__slots__", "__dict__", "__struct_fields__")
    names = [name for place in places for name in getattr(thing, place, ()) if not name.startswith("__")]
    return [getattr(thing, name) for name in names]


@EVERY_SUITE
@pytest.mark.parametrize("threat_model", ThreatModel)
def test_a_whole_round(
    threat_model: ThreatModel, options: dict[str, Any], vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stage = guarded_stage(vault, threat_model, **options)
    seen: list[object] = []

    def look(*things: object) -> None:
        server = stage.server
        for thing in (*things, server, server.failure, server.blame, server.dropped, *stage.clients.values()):
            seen.extend(shown(thing))
        for client in stage.clients.values():
            seen.extend(text for inside in insides(client) for text in shown(inside))

    while not stage.server.ready_to_compute:
        answers = stage.answers(sorted(set(stage.server.missing) - ({LOST} if stage.server.phase == "MASK" else set())))
        look()
        look(*stage.deliver(answers))
        stage.server.close_phase()
    look(stage.server.compute(), stage.config, *stage.identities)
    logged = [record.getMessage() for record in caplog.records]
    assert len(vault.pieces) > 200
    assert vault.found_in(*seen, *logged) == set()


@pytest.mark.parametrize("name", FORMS)
def test_the_search_finds_what_is_there(name: str, vault: Vault) -> None:
    piece = vault.source(1, "planted")(32)[:KEY]
    assert name in vault.found_in(f"some text, {FORMS[name](piece)}, and more")
    assert vault.found_in(b"before" + piece + b"after") == {"raw"}
    assert "raw" in vault.found_in(*shown([piece]))
    assert vault.found_in("nothing", b"nothing") == set()


def refused(call: Callable[..., object], *arguments: object) -> list[SecAggError]:
    """The error that a call must raise."""
    with pytest.raises(SecAggError) as caught:
        call(*arguments)
    return [caught.value]


def errors_of_a_round(vault: Vault, threat_model: ThreatModel) -> Iterator[SecAggError]:
    """What is raised on the way: calls out of place, and messages that are damaged everywhere."""
    stage = guarded_stage(vault, threat_model)
    stage.play("UNMASK")
    for index, client in stage.clients.items():
        yield from refused(client.start)
        yield from refused(client.submit, [1, 2, 3])
        yield from refused(client.receive, stage.sent["SHARE"][index])
        yield from refused(client.suspend)
    for place in range(30):
        stage = guarded_stage(vault, threat_model)
        stage.play(("SHARE", "MASK", "UNMASK")[place % 3])
        for index, client in stage.clients.items():
            message = bytearray(stage.server.outgoing().to(index) or b"")
            message[(37 + 97 * place + 13 * index) % len(message)] ^= 1 << place % 8
            try:
                client.receive(bytes(message))
            except SecAggError as error:
                yield error


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_exceptions(threat_model: ThreatModel, vault: Vault) -> None:
    """Their text, arguments, attributes, causes and pickles."""
    errors = list(errors_of_a_round(vault, threat_model))
    assert {type(error) for error in errors} >= {PeerError, StateError}
    assert len({error.code for error in errors if isinstance(error, PeerError)}) >= 4
    causes = [error.__cause__ for error in errors if error.__cause__ is not None]
    seen = [text for error in (*errors, *causes) for part in (error, error.args, vars(error)) for text in shown(part)]
    assert vault.found_in(*seen) == set()
    assert all(error.__context__ is None or error.__suppress_context__ for error in errors), "a cause would be shown"


def test_suspended_states_that_do_not_open(vault: Vault) -> None:
    """A state in clear holds secrets, and what is said about a damaged one must not repeat them."""
    stage = guarded_stage(vault, ThreatModel.SEMI_HONEST)
    stage.play("MASK")
    state = stage.clients[1].suspend()
    assert vault.found_in(state) == {"raw"}
    errors: list[SecAggError] = []
    for place in range(0, len(state), 5):
        try:
            Client.resume(state[:place] + bytes([state[place] ^ 0x55]) + state[place + 1 :], UsedTokens())
        except (ParameterError, PeerError) as error:
            errors.append(error)
    assert len(errors) > 10
    assert all(error.__cause__ is None for error in errors)
    assert vault.found_in(*(text for error in errors for text in shown(error))) == set()
    sealed = stage.clients[2].suspend(bytes(range(32)))
    assert vault.found_in(sealed[1 + 32 :]) == set(), "behind its mark and its token"


@pytest.mark.parametrize(
    "vector", [[7, 8, 987654321], [1, -123456789, 3], [1.5, 4242.25, 77.125], [[31337, 31338, 31339]]]
)
def test_nothing_is_said_about_an_input(vector: list[Any]) -> None:
    """The elements of a vector are somebody's data."""
    stage = Stage(semi_honest(4, 3, modulus=None, input_max=2**20)).play("MASK")
    client = stage.clients[0]
    client.receive(stage.server.outgoing().to(0) or b"")
    with pytest.raises(InputError) as caught:
        client.submit(vector)
    assert not [number for number in np.ravel(vector).tolist() if number > 100 and str(number) in str(caught.value)]
    assert "-123456789" not in str(caught.value)
    assert caught.value.__context__ is None


@EVERY_SUITE
@pytest.mark.parametrize("threat_model", ThreatModel)
def test_the_wire(threat_model: ThreatModel, options: dict[str, Any], vault: Vault) -> None:
    """Nothing before UNMASK; there, of each dealer one share and its salt, and of nobody both kinds."""
    stage = guarded_stage(vault, threat_model, **options)
    down: list[bytes] = []
    while not stage.server.ready_to_compute:
        down += [message for _, message in stage.server.outgoing()]
        stage.collect(silent=[LOST] if stage.server.phase == "MASK" else [])
        stage.server.close_phase()
    before = [message for phase, sent in stage.sent.items() if phase != "UNMASK" for message in sent.values()]
    assert vault.found_in(*down, *before) == set()
    of_kind: list[dict[bytes, bytes]] = [{}, {}]
    for pair in vault.pairs:
        key_share, seed_share, key_salt, seed_salt = cut(pair, *PAIR)
        of_kind[0][key_share + key_salt] = of_kind[1][seed_share + seed_salt] = pair
    for index, message in stage.sent["UNMASK"].items():
        records = cut(wire.read(message)[3], SHARE + SALT)
        dealers = [dealer for dealer in range(CLIENTS) if dealer != index]
        assert len(records) == len(dealers)
        for dealer, record in zip(dealers, records, strict=True):
            assert record in of_kind[dealer != LOST]
    told = [record for message in stage.sent["UNMASK"].values() for record in cut(wire.read(message)[3], SHARE + SALT)]
    assert len({of_kind[record in of_kind[1]][record] for record in told}) == len(told), "two shares of one pair"


@EVERY_SUITE
def test_a_server_keeps_no_reconstructed_key(options: dict[str, Any]) -> None:
    """It opens a lost client's masking key, and everybody's seed, and forgets them."""
    stage = Stage(semi_honest(CLIENTS, **options)).play(silent={"MASK": [LOST]})
    source = SeededRandomness(stage.seed, f"client {LOST}")
    channel_private, masking_private, share_secret = (source(32) for _ in range(3))
    stage.server.compute()
    snapshot = stage.server.snapshot()
    assert not [secret for secret in (channel_private, masking_private, share_secret) if secret in snapshot]


def test_a_secret_hides() -> None:
    secret = Secret(b"0123456789abcdef" * 2)
    assert repr(secret) == str(secret) == "Secret(32 bytes)"
    assert len(secret) == 32
    assert secret.reveal() == b"0123456789abcdef" * 2
    secret.wipe()
    assert repr(secret) == "Secret(wiped)"
    with pytest.raises(RuntimeError, match="wiped"):
        secret.reveal()
    secret.wipe()


def test_an_identity_hides() -> None:
    identity = Identity(bytes(range(32)))
    assert repr(identity) == f"Identity(public_key={identity.public_key.hex()})"
    with pytest.raises(TypeError):
        pickle.dumps(identity)


def test_what_is_dealt_and_what_a_server_holds_hide() -> None:
    """Records that a log line, or a failed assertion, could show whole."""
    dealt = dealing.Dealt(
        bytes(32), b"sealed", bytes(2 * records.COMMITMENTS_BYTES), b"seed", b"receive keys", b"pairs"
    )
    assert repr(dealt) == "Dealt(to 2 neighbours)"
    stage = Stage(semi_honest(5)).play()
    unmasked = load(stage.server.snapshot(), None).held
    assert isinstance(unmasked, Unmasked)
    for held in (unmasked, unmasked.masked, unmasked.advertised):
        assert repr(held) == f"<{type(held).__name__}>"


def test_messages_show_how_long_their_fields_are_and_nothing_in_them() -> None:
    """Unmask has a client's shares, and Answer what a dealer opened: whoever logs a message logs its kind."""
    hidden = b"shares of a secret"
    answer = messages.Answer(2, bytes(32), hidden, hidden * 2)
    assert repr(answer) == "<Answer: pairs of 18 bytes, signatures of 36 bytes>"
    assert repr(messages.Unmask(1, bytes(32), hidden)) == "<Unmask: openings of 18 bytes>"
    assert repr(messages.MaskedInput(1, bytes(32), memoryview(hidden))) == "<MaskedInput: vector of 18 bytes>"
    assert repr(messages.Abort(1, bytes(32), 3)) == "<Abort: code 3>"


def test_a_refusal_survives_pickling_whole() -> None:
    """As when a client runs in another process: its host still has the ABORT message to send."""
    stage = Stage(semi_honest(5)).play("MASK")
    shares = bytearray(stage.server.outgoing().to(0) or b"")
    shares[-200] ^= 1
    with pytest.raises(PeerError) as caught:
        stage.clients[0].receive(shares)
    refused = caught.value
    assert refused.reply
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(refused, protocol))
        assert type(again) is PeerError
        assert str(again) == str(refused)
        for name in ("code", "phase", "culprit", "reply"):
            assert getattr(again, name) == getattr(refused, name)
    assert (refused.code, refused.phase, len(refused.culprit)) == ("shares-commitment", "SHARE", 1)
