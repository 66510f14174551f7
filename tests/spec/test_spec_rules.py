"""Requirements that no vector can hold: what must not happen, what is drawn, what is stored."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable

import pytest
from reference import primitives, wire
from reference.wire import unpack
from vectors.recipes.messages import example
from vectors.recipes.rounds import Recorder, small, small_active

from secagg import (
    Client,
    ErrorCode,
    InputNeeded,
    PeerError,
    Policy,
    RoundConfig,
    Server,
    ServerState,
    ThreatModel,
    UsedTokens,
)
from secagg.events import Accepted
from secagg.pairwise.transcript import VERSIONS
from secagg.primitives.secret import Secret
from secagg.simulation import SeededRandomness, make_cohort

IDENTITIES, DIRECTORY, COHORT = make_cohort(5, SeededRandomness(0, "cohort"))
CONFIG = RoundConfig.for_cohort(
    5, 3, threat_model="active", gamma=0, delta=0.2, input_max=1000, cohort=COHORT, neighbours="complete"
)


def join(invitation: bytes, index: int, randomness: Callable[[int], bytes] | None = None) -> Client:
    return Client.join(
        invitation,
        index,
        identity=IDENTITIES[index],
        directory=DIRECTORY,
        consume=UsedTokens(),
        randomness=randomness or SeededRandomness(0, f"client {index}"),
    )


def new_server() -> Server:
    return Server(CONFIG, directory=DIRECTORY, randomness=SeededRandomness(0, "server"))


def advertised(members: range = range(5)) -> tuple[Server, dict[int, Client]]:
    """A server that got the keys of some members, and these."""
    server = new_server()
    clients = {index: join(server.invitation(), index) for index in members}
    for index, client in clients.items():
        server.receive(index, client.start())
    return server, clients


def answers(clients: dict[int, Client], outgoing: dict[int, bytes]) -> dict[int, bytes]:
    """What clients send when they get what a server sends."""
    sent = {}
    for index, data in outgoing.items():
        step = clients[index].receive(data)
        if isinstance(step.event, InputNeeded):
            step = clients[index].submit([1, 2, 3])
        sent[index] = step.outgoing[0]
    return sent


def longer(message: bytes) -> bytes:
    """The same message with headers that are longer than they must be, as far as limits of sizes allow it."""
    if len(message) > 800:
        return b"\xdc\0" + bytes([message[0] & 0xF]) + message[1:]
    made = b"\xdd" + len(unpack(message)).to_bytes(4, "big")
    for value in unpack(message):
        if isinstance(value, int):
            made += b"\xcf" + value.to_bytes(8, "big")
        elif isinstance(value, str):
            made += b"\xdb" + len(value).to_bytes(4, "big") + value.encode()
        else:
            made += b"\xc6" + len(value).to_bytes(4, "big") + value
    return made


def test_what_is_hashed_and_signed_is_rebuilt() -> None:
    """R-WIRE-11, R-CONFIG-1: an encoding in longer form changes no digest, key or signature."""
    server, clients = advertised()
    number, version, round_id, config, nonce = unpack(server.invitation())
    other = longer(wire.pack([number, version, round_id, longer(config), nonce]))
    assert join(other, 2).start() == join(server.invitation(), 2).start()
    twin = join(other, 2)
    twin.start()
    for _ in range(4):
        outgoing = dict(server.close_phase())
        step = twin.receive(longer(outgoing[2]))
        if isinstance(step.event, InputNeeded):
            step = twin.submit([1, 2, 3])
        sent = answers(clients, outgoing)
        assert sent[2] == step.outgoing[0]
        for index, data in sent.items():
            assert isinstance(server.receive(index, longer(data)).event, Accepted)
    server.close_phase()
    assert server.compute().sum.tolist() == [5, 10, 15]


def test_a_client_draws_three_times_and_never_again() -> None:
    """R-ADVERTISE-1, R-SHARE-1."""
    server, clients = advertised(range(4))
    drawn: list[int] = []

    def draw(length: int) -> bytes:
        drawn.append(length)
        return bytes([len(drawn)]) * length

    client = clients[4] = join(server.invitation(), 4, draw)
    assert drawn == []
    server.receive(4, client.start())
    assert drawn == [32, 32, 32]
    while server.phase is not ServerState.COMPUTE:
        outgoing = dict(server.close_phase())
        for index, data in answers(clients, outgoing).items():
            server.receive(index, data)
    assert drawn == [32, 32, 32]


def test_two_clients_of_one_process_draw_different_keys() -> None:
    """R-ADVERTISE-1."""
    server = new_server()
    made = [
        Client.join(server.invitation(), 2, identity=IDENTITIES[2], directory=DIRECTORY, consume=UsedTokens()).start()
        for _ in range(2)
    ]
    first, second = (unpack(advertisement)[3:5] for advertisement in made)
    assert not set(first) & set(second)


def test_who_left_before_the_close_is_not_in_the_roster() -> None:
    """R-ADVERTISE-5, R-GRAPH-3: an empty leaf, and still a place in the graph."""
    server, clients = advertised()
    server.receive(3, clients[3].abort())
    outgoing = dict(server.close_phase())
    assert sorted(outgoing) == [0, 1, 2, 4]
    present, absent = (wire.read_ids(unpack(outgoing[0])[place]) for place in (5, 7))
    assert (present, absent) == ([1, 2, 4], [3])
    assert server.graph is not None
    assert server.graph.neighbours_of(0).tolist() == [1, 2, 3, 4]
    assert sorted(answers({i: clients[i] for i in outgoing}, outgoing)) == [0, 1, 2, 4]


def test_too_few_advertisements_end_the_round() -> None:
    """R-ADVERTISE-9, R-ABORT-2: and everybody who may be listening is told."""
    server, clients = advertised(range(CONFIG.min_survivors - 1))
    outgoing = dict(server.close_phase())
    assert server.phase is ServerState.ABORTED
    assert sorted(outgoing) == [0, 1, 2, 3, 4]
    for index, client in clients.items():
        client.receive(outgoing[index])
        assert client.done


def test_a_stored_state_is_resumed_once() -> None:
    """R-STATE-4."""
    server, clients = advertised()
    state, used = clients[1].suspend(), UsedTokens()
    resumed = Client.resume(state, used, identity=IDENTITIES[1], directory=DIRECTORY)
    with pytest.raises(PeerError) as refused:
        Client.resume(state, used, identity=IDENTITIES[1], directory=DIRECTORY)
    assert refused.value.code is ErrorCode.STATE_REUSED
    assert resumed.receive(dict(server.close_phase())[1]).outgoing


def test_a_restored_server_sends_the_same_bytes() -> None:
    """R-STATE-5."""
    server, clients = advertised()
    for _ in range(4):
        outgoing = dict(server.close_phase())
        restored = Server.restore(server.snapshot(), directory=DIRECTORY)
        assert dict(restored.outgoing()) == outgoing
        for index, data in answers(clients, outgoing).items():
            taken = server.receive(index, data)
            assert isinstance(taken.event, Accepted)
            assert restored.receive(index, data) == taken
        assert restored.snapshot() == server.snapshot()


@pytest.mark.parametrize("make", [lambda: small(), lambda: small_active()])
def test_no_key_makes_two_streams_or_seals_two_plaintexts(
    make: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-STREAM-3, R-SHARE-4: over a whole round, every derived key has one info, every sealing key one plaintext."""
    infos: dict[bytes, set[bytes]] = {}
    sealed: Counter[bytes] = Counter()
    derive, seal = primitives.derive, primitives.seal

    def recorded_derive(secret: bytes, session: bytes, info: bytes, length: int) -> bytes:
        key = derive(secret, session, info, length)
        infos.setdefault(key, set()).add(info)
        return key

    def recorded_seal(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
        sealed[key] += 1
        return seal(key, plaintext, associated)

    for module in ("client", "server"):
        monkeypatch.setattr(f"reference.{module}.derive", recorded_derive)
    monkeypatch.setattr(primitives, "seal", recorded_seal)
    recorder = Recorder("streams", make(), {})  # type: ignore[arg-type]
    recorder.run({1: "SHARE"})
    assert recorder.server.phase == "DONE"
    assert all(len(found) == 1 for found in infos.values())
    assert set(sealed.values()) == {1}
    masks = [info for found in infos.values() for info in found if b"mask" in info]
    assert len(masks) == len(set(masks))


def test_the_example_is_a_round_that_ends_well() -> None:
    assert example().server.phase == "DONE"
    assert VERSIONS == wire.VERSIONS


def test_a_client_with_an_identity_asks_for_active() -> None:
    """R-CONFIG-11."""
    semi_honest = Server(RoundConfig.for_cohort(5, 3, gamma=0, delta=0.2)).invitation()
    with pytest.raises(PeerError) as refused:
        Client.join(semi_honest, 2, identity=IDENTITIES[2])
    assert refused.value.code is ErrorCode.CONFIG_BELOW_POLICY
    assert unpack(refused.value.reply)[3] == 1
    either = Policy(threat_model=ThreatModel.SEMI_HONEST)
    assert Client.join(semi_honest, 2, identity=IDENTITIES[2], policy=either).start()


def test_secrets_are_wiped_when_a_client_ends() -> None:
    """R-STATE-3, R-UNMASK-3."""
    server, clients = advertised()
    held: list[Secret] = []
    while server.phase is not ServerState.COMPUTE:
        outgoing = dict(server.close_phase())
        held += [thing for client in clients.values() for thing in secrets_of(client)]
        for index, data in answers(clients, outgoing).items():
            server.receive(index, data)
    assert held
    for secret in held:
        with pytest.raises(RuntimeError, match="wiped"):
            secret.reveal()
    _, others = advertised()
    held = secrets_of(others[0])
    others[0].abort()
    assert len(held) == 3
    for secret in held:
        with pytest.raises(RuntimeError, match="wiped"):
            secret.reveal()


def secrets_of(client: Client) -> list[Secret]:
    """The secrets that a client holds in its phase."""
    return [thing for thing in gc.get_referents(client._record) if isinstance(thing, Secret)]
