"""Rounds of the hybrid suite: whoever is lost, whenever, the sum is that of Python integers; and what is kept of it."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from secagg import Client, ErrorCode, Misbehaved, PeerError, Policy, RoundConfig, Server, Suite
from secagg.pairwise import messages, records
from secagg.pairwise.phases import Phase, phases
from secagg.pairwise.server.records import Masking, Sharing
from secagg.simulation import Faults, expected_sum, simulate, simulate_prepared
from secagg.simulation.traffic import traffic
from secagg.testing.strategies import Scenario, cohort, configs, scenarios
from tests.support import staging, wire
from tests.support.drawn_rounds import result_as_expected
from tests.support.staging import Stage

PHASES = ("NONE", "ADVERTISE", "SHARE", "MASK", "CONFIRM")
HYBRID: dict[str, Any] = {"suite": Suite.HYBRID, "version": 2}
MODELS = {"semi_honest": staging.semi_honest, "active": staging.active}


def summed(config: RoundConfig, fates: dict[int, str], **options: Any) -> tuple[tuple[int, ...], bool]:
    """Who is in the sum, and whether it is that of their vectors; nobody when there is none."""
    identities, directory, _ = cohort(config.clients) if config.is_active else ([], None, b"")
    inputs = np.random.default_rng(1).integers(0, config.input_max, (config.clients, config.length), np.uint64)
    run = simulate_prepared if "full" in options else simulate
    outcome = run(inputs, config, faults=Faults(fates), identities=identities, directory=directory, seed=1, **options)
    assert outcome.client_errors == {}
    assert outcome.graph is not None
    expected = expected_sum(config, Faults(fates), outcome.graph)
    if outcome.result is None:
        return (), expected is None
    included = outcome.result.included
    columns = inputs[list(included)].astype(object).sum(axis=0) % config.modulus.value
    return included, outcome.result.sum.tolist() == columns.tolist() and frozenset(included) == expected


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("one", PHASES)
def test_either_end_of_a_pair_is_lost_in_every_phase(model: str, one: str) -> None:
    """The sealer of a pair, its holder, or both, each in any phase: 0 is the sealer for 1, and 2 is for 0."""
    config = MODELS[model](6, 3, delta=1 / 3, **HYBRID)
    for ends, other in itertools.product([(0, 1), (0, 2)], PHASES):
        if not config.is_active and "CONFIRM" in (one, other):
            continue
        fates = dict(zip(ends, (one, other), strict=True))
        included, right = summed(config, fates)
        assert right, fates
        stays = [fate for fate in (one, other) if fate in ("MASK", "CONFIRM")]
        assert len(included) == 4 + len(stays), fates


@pytest.mark.parametrize("model", MODELS)
def test_lost_on_a_ring_and_in_groups(model: str) -> None:
    ring = staging.sparse(9, MODELS_BY_NAME[model], **HYBRID)
    grouped = MODELS[model](12, 3, neighbours="auto", groups=2, sigma=1, grinding_bits=0, delta=1 / 6, **HYBRID)
    for config, phase in itertools.product((ring, grouped), ("ADVERTISE", "SHARE", "MASK")):
        for client in range(0, config.clients, 2):
            _, right = summed(config, {client: phase})
            assert right, (config, phase, client)


MODELS_BY_NAME = {str(model): model for model in staging.MODELS}


@settings(max_examples=25)
@given(scenarios(configs(versions=[2], suites=[Suite.HYBRID], lengths=[1, 3], max_clients=10), max_troubles=3))
def test_drawn_rounds(scenario: Scenario) -> None:
    result_as_expected(scenario, scenario.run())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fates", [{}, {1: "SHARE"}, {0: "SHARE", 6: "ADVERTISE"}, {7: "MASK"}], ids=str)
def test_prepared_clients_take_part_in_full_ones_rounds(model: str, fates: dict[int, str]) -> None:
    config = MODELS[model](8, 3, **HYBRID)
    for full in (1, 3, 8):
        included, right = summed(config, fates, full=full)
        assert right
        assert included


# -- What is stored ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("key", [None, bytes(32)], ids=["clear", "sealed"])
def test_clients_are_suspended_and_resumed_before_every_message(model: str, key: bytes | None) -> None:
    stage = Stage(MODELS[model](5, 3, **HYBRID))

    def put_aside() -> None:
        for index, client in list(stage.clients.items()):
            if not client.done:
                stage.clients[index] = Client.resume(
                    client.suspend(key), lambda token: True, key=key, **stage.trust_of(index)
                )

    for phase in phases_of(stage):
        if phase == "MASK":
            stage.deliver(stage.answers([0, 1, 2, 3]))  # client 4 is lost: its root is opened
        else:
            stage.collect()
        put_aside()
        stage.server.close_phase()
    result = stage.server.compute()
    assert result.included == (0, 1, 2, 3)
    assert result.sum.tolist() == stage.plain_sum(result.included)


def test_a_client_suspended_before_there_was_a_hybrid_suite_is_resumed() -> None:
    """Form 2 of a suspended client that has dealt had four elements less, and two that complaints need."""
    stage = Stage(staging.semi_honest(5, 3)).play("SHARE")
    stage.collect()
    suspended = stage.clients[1].suspend()
    token, (form, round_, record, seen) = suspended[1:33], msgspec.msgpack.decode(suspended[65:])
    assert (form, record[-6:]) == (3, [b"", b"", [], [], b"", b""])
    former = msgspec.msgpack.encode([2, round_, record[:-6], seen])
    state = b"\0" + token + hashlib.sha256(token + former).digest() + former
    stage.clients[1] = Client.resume(state, lambda token: True)
    stage.server.close_phase()
    result = stage.finish()
    assert result.sum.tolist() == stage.plain_sum(range(5))


def phases_of(stage: Stage) -> list[str]:
    return [phase.value for phase in phases(stage.config.threat_model)]


def test_a_share_that_is_sent_again_is_the_stored_bytes_and_a_new_one_a_conflict() -> None:
    """Encapsulation is randomised: a client that deals anew, from a copy of its state, says something else."""
    stage = Stage(staging.semi_honest(5, 3, **HYBRID)).play("SHARE")
    copy = stage.clients[1].suspend()
    roster = staging.message_for(stage.server, 1)
    first, second = (Client.resume(copy, lambda token: True).receive(roster).outgoing[0] for _ in range(2))
    assert first != second
    assert len(first) == len(second)
    events = stage.deliver({1: first}) + stage.deliver({1: first}) + stage.deliver({1: second})
    assert [type(event).__name__ for event in events] == ["Accepted", "Duplicate", "Misbehaved"]
    assert isinstance(events[2], Misbehaved)
    assert events[2].code is ErrorCode.CONFLICT


@pytest.mark.parametrize("phase", ["SHARE", "MASK", "UNMASK", "COMPUTE"])
def test_a_restored_server_has_the_pair_secrets(phase: str) -> None:
    """Client 0, the sealer for 1 and 3, and client 4, the sealer for 0 and 2, are lost in MASK."""
    stage = Stage(staging.semi_honest(6, 3, delta=1 / 3, **HYBRID)).play(
        phase if phase in ("SHARE", "MASK") else "MASK"
    )
    if phase in ("UNMASK", "COMPUTE"):
        stage.collect(silent=(0, 4))
        stage.server.close_phase()
    if phase == "COMPUTE":
        stage.collect()
        stage.server.close_phase()
    stage.server = Server.restore(stage.server.snapshot())
    if phase == "SHARE":
        stage.collect()
        stage.server.close_phase()
    if phase in ("SHARE", "MASK"):
        stage.collect(silent=(0, 4))
        stage.server.close_phase()
    if phase != "COMPUTE":
        stage.collect()
        stage.server.close_phase()
    result = stage.server.compute()
    assert result.included == (1, 2, 3, 5)
    assert result.sum.tolist() == stage.plain_sum(result.included)


def test_a_server_keeps_one_record_a_pair_and_only_in_this_suite() -> None:
    sizes = {}
    for suite in (Suite.AES_256, Suite.HYBRID):
        stage = Stage(staging.semi_honest(6, 3, suite=suite, version=2)).play("SHARE")
        stage.collect()
        held = stage.server._held
        assert isinstance(held, Sharing)
        sizes[suite] = held.pair_secrets.shape
        stage.server.close_phase()
        assert isinstance(stage.server._held, Masking)
    assert sizes == {Suite.AES_256: (0, 1168), Suite.HYBRID: (6 * 5 // 2, 1168)}


# -- Bytes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["sealed", "commitments", "pair_secrets"])
@pytest.mark.parametrize("by", [-1, 1])
def test_lengths_of_what_a_server_sends(field: str, by: int) -> None:
    stage = Stage(staging.semi_honest(5, 3, **HYBRID)).play("MASK")
    values = wire.read(staging.message_for(stage.server, 2))
    place = {"sealed": 4, "commitments": 5, "pair_secrets": 6}[field]
    values[place] = values[place] + b"\0" if by > 0 else values[place][:-1]
    with pytest.raises(PeerError) as caught:
        stage.clients[2].receive(wire.write(values))
    assert (caught.value.code, caught.value.culprit) == (ErrorCode.MALFORMED, ())


def test_a_key_of_another_suites_length_is_malformed() -> None:
    stage = Stage(staging.semi_honest(5, 3, **HYBRID))
    values = wire.read(stage.join(0).start())
    assert [len(value) for value in values[3:5]] == [1216, 1216]
    values[3] = values[3][:32]
    (event,) = stage.deliver({0: wire.write(values)})
    assert isinstance(event, Misbehaved)
    assert event.code is ErrorCode.MALFORMED


@pytest.mark.parametrize("half", [slice(0, 32), slice(32, 1216)], ids=["X25519", "ML-KEM"])
@pytest.mark.parametrize("whose", ["another's", "its own"])
def test_a_half_of_a_key_in_two_places_is_refused(half: slice, whose: str) -> None:
    stage = Stage(staging.semi_honest(5, 3, **HYBRID))
    answers = stage.answers()
    values = wire.read(answers[1])
    taken = wire.read(answers[0])[4] if whose == "another's" else values[4]
    key = bytearray(values[3])
    key[half] = taken[half]
    values[3] = bytes(key)
    first, second = stage.deliver({0: answers[0], 1: wire.write(values)})
    assert type(first).__name__ == "Accepted"
    assert isinstance(second, Misbehaved)
    assert second.code is ErrorCode.KEY_REPEATED
    (third,) = stage.deliver({1: answers[1]})
    assert type(third).__name__ == "Accepted"


def test_messages_are_as_long_as_the_plan_says_and_within_their_limits() -> None:
    config = staging.active(9, 3, **HYBRID)
    stage = Stage(config)
    told = traffic(config)
    for phase in phases_of(stage):
        up = [len(answer) for answer in stage.collect().values()]
        assert max(up) <= config.max_message_bytes(phase)
        if phase == "SHARE":  # four pair secrets each on the complete graph of nine
            assert set(up) == {told[Phase.SHARE][0]}
        stage.server.close_phase()
    more = [sum(up for up, _ in traffic(made).values()) for made in (config, config.replace(suite=Suite.AES_256))]
    assert more[0] - more[1] == pytest.approx(8 * (1088 + 584) + 2 * 1184, abs=32)


def test_a_client_with_32_neighbours_uploads_at_most_60_kb_more() -> None:
    """The most that a client of such a round can be asked for: 17 pair secrets, on a ring where 16 is the rule."""
    plain, hybrid = (
        RoundConfig.for_cohort(1000, 3, neighbours=32, sigma=1, grinding_bits=0, gamma=0.1, delta=0.1, eta=1, **options)
        for options in ({"suite": Suite.AES_256, "version": 2}, HYBRID)
    )
    most = {config: sum(messages.max_bytes(config, kind) for kind in UPLOADS) for config in (plain, hybrid)}
    assert most[hybrid] - most[plain] <= 60_000
    assert most[hybrid] - most[plain] == records.SEALED_SECRET_BYTES * 17 + 32 * 1088 + 2 * 1184


UPLOADS = (messages.Advertise, messages.Share, messages.MaskedInput, messages.Confirm, messages.Unmask)


# -- The config --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hybrid", "HYBRID", Suite.HYBRID, 3])
def test_the_suite_is_asked_for_by_name_or_number(name: Any) -> None:
    config = RoundConfig.for_cohort(5, 3, suite=name, version=2)
    assert config.suite is Suite.HYBRID
    assert RoundConfig.from_bytes(config.to_bytes()) == config


def test_version_1_has_no_place_for_it() -> None:
    with pytest.raises(ValueError, match=r"suite HYBRID in version 1 of the wire.*ask for version = 2"):
        RoundConfig.for_cohort(5, 3, suite="hybrid")
    with pytest.raises(ValueError, match=r"suite = .x25519.*HYBRID"):
        RoundConfig.for_cohort(5, 3, suite="x25519", version=2)


def test_a_client_that_wants_it_asks_for_it() -> None:
    wanted = Policy(suites=frozenset({Suite.HYBRID}))
    invitation = Server(staging.semi_honest(5, 3, suite=Suite.AES_256, version=2)).invitation()
    with pytest.raises(PeerError, match="suite = AES_256; this client's policy asks for HYBRID"):
        Client.join(invitation, 0, policy=wanted)
    assert Client.join(Server(staging.semi_honest(5, 3, **HYBRID)).invitation(), 0, policy=wanted).start()


def test_the_channel_root_is_wiped_when_the_shares_are_there() -> None:
    stage = Stage(staging.semi_honest(5, 3, **HYBRID)).play("SHARE")
    stage.collect()
    shared = stage.clients[1]._record
    root = shared.channel_root  # type: ignore[union-attr]
    assert len(root.reveal()) == 32
    stage.server.close_phase()
    stage.collect()
    with pytest.raises(RuntimeError, match="wiped"):
        root.reveal()
