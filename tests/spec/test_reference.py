"""The library and the executable reference, which share no code: equal bytes from equal randomness, and equal sums."""

from __future__ import annotations

import ast
import contextlib
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import client, rules, wire
from reference.wire import Refused
from vectors.recipes.complaints import Accuses

from secagg import Modulus, ParameterError, PeerError, RoundConfig
from secagg.pairwise import messages
from secagg.pairwise.parameters import Demand
from secagg.pairwise.phases import ThreatModel
from secagg.simulation.faults import Faults, Nuisance, phases_of
from secagg.testing.strategies import Scenario, cohort, configs, scenarios
from tests.support.reference_parties import (
    SPECS,
    AnyClient,
    AnyServer,
    Computed,
    LibraryClient,
    LibraryServer,
    ReferenceClient,
    ReferenceServer,
    TwoClients,
    TwoServers,
)

REFERENCE = sorted((SPECS / "reference").glob("*.py"))
ROUNDS = scenarios(configs(max_clients=6, versions=wire.VERSIONS))


def test_the_reference_is_small_and_stands_on_its_own() -> None:
    sizes = {path.stem: len(path.read_text(encoding="utf-8").splitlines()) for path in REFERENCE}
    assert sizes.pop("private") < 400
    assert sizes.pop("chain") < 400
    assert sizes.pop("envelopes") < 250
    assert sum(sizes.values()) < 1900
    for path in REFERENCE:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        named = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
        named |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
        foreign = {name.partition(".")[0] for name in named} - sys.stdlib_module_names - {"cryptography"}
        assert foreign <= ({"vectors"} if path.name == "generate.py" else set()), path.name


def run(scenario: Scenario, server: AnyServer, clients: Sequence[AnyClient]) -> Computed | None:
    """A round with the scenario's losses, repetitions and damaged copies; None when it is aborted."""
    faults, outgoing = scenario.faults, dict.fromkeys(range(scenario.config.clients), server.invitation())
    for phase in phases_of(scenario.config):
        late = []
        for index, message in outgoing.items():
            kind, answer = clients[index].take(message)
            if kind == "refused":
                server.receive(index, answer[2])  # type: ignore[index]
            if kind != "message" or not isinstance(answer, bytes):
                continue
            troubles = {trouble.kind: trouble.at for trouble in faults.of(index, phase)}
            if Nuisance.FLIPPED_HEADER in troubles:
                server.receive(index, _flipped(answer, troubles[Nuisance.FLIPPED_HEADER]))
            if Nuisance.TRUNCATED in troubles:
                server.receive(index, answer[: -1 - troubles[Nuisance.TRUNCATED] % len(answer)])
            if not faults.delivers(index, phase):
                late.append((index, answer))
                continue
            assert server.receive(index, answer) == "accepted"
            if Nuisance.DUPLICATE in troubles:
                assert server.receive(index, answer) == ("already-masked" if phase == "MASK" else "duplicate")
        outgoing = server.close()
        for index, answer in late:
            server.receive(index, answer)
        if server.phase() == "ABORTED":
            told = {clients[index].take(message) for index, message in outgoing.items()}
            assert told <= {("nothing", "ABORTED"), ("nothing", "DONE")}
            return None
    assert server.phase() == "COMPUTE"
    return server.compute()


def _flipped(data: bytes, at: int) -> bytes:
    damaged = bytearray(data)
    damaged[at % min(38, len(data))] ^= 1 << at % 8
    return bytes(damaged)


def check(scenario: Scenario, server: AnyServer, make: Callable[[int], AnyClient]) -> None:
    outcome = run(scenario, server, [make(index) for index in range(scenario.config.clients)])
    if outcome is not None:
        assert outcome.total == scenario.plain_sum(outcome.included)
        assert outcome.groups
        for total, included in outcome.groups.values():
            assert total == scenario.plain_sum(included)
            assert len(included) >= scenario.config.smallest_sum
        expected = {client: scenario.attached(client, outcome.included) for client in outcome.attachments}
        assert outcome.attachments == expected
        assert bool(expected) == bool(scenario.config.attachment_bytes)


@given(scenarios(configs(max_clients=9, versions=wire.VERSIONS)))
@settings(max_examples=2 * settings().max_examples)
def test_side_by_side_they_send_the_same_bytes(scenario: Scenario) -> None:
    check(scenario, TwoServers(scenario), lambda index: TwoClients(scenario, index))


ENVELOPED = configs(max_clients=5, versions=[2], moduli=[Modulus.ring(20), Modulus(32771), Modulus.ring(60)]).map(
    lambda config: config.replace(carrier="lattice")
)


@given(scenarios(ENVELOPED))
@settings(max_examples=settings().max_examples // 20)
def test_side_by_side_they_send_the_same_envelopes(scenario: Scenario) -> None:
    """Few examples: of four thousand coefficients at least, by Python integers."""
    check(scenario, TwoServers(scenario), lambda index: TwoClients(scenario, index))


@given(ROUNDS, st.integers(0, 2**6 - 1))
def test_mixed_cohorts_with_the_librarys_server(scenario: Scenario, references: int) -> None:
    check(scenario, LibraryServer(scenario), lambda index: _either(scenario, index, references))


@given(ROUNDS, st.integers(0, 2**6 - 1))
def test_mixed_cohorts_with_the_references_server(scenario: Scenario, references: int) -> None:
    check(scenario, ReferenceServer(scenario), lambda index: _either(scenario, index, references))


@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
@pytest.mark.parametrize("holder", [0, 1])
def test_a_dealer_of_suite_3_answers_whoever_complains_falsely(holder: int, threat_model: str) -> None:
    """No vector has this dealer in `active`: it signs over its ciphertexts, which nobody can make again.

    The dealer, client 2, is the sealer for client 0 (R-HYBRID-6), and client 1 is the sealer for it.
    """
    identities = cohort(5)[2] if threat_model == "active" else b""
    config = RoundConfig.for_cohort(
        *(5, 1),
        threat_model=threat_model,
        gamma=0.2,
        delta=0.2,
        neighbours="complete",
        input_max=9,
        version=2,
        suite="hybrid",
        complaints="auto",
        cohort=identities,
    )
    scenario = Scenario(config, ((1,), (2,), (3,), (4,), (5,)), Faults())
    server, clients = TwoServers(scenario), [_either(scenario, index, 1 << holder) for index in range(5)]
    outgoing, phases = dict.fromkeys(range(5), server.invitation()), []
    while server.phase() != "COMPUTE":
        phases.append((server.phase(), [*outgoing]))
        with patch.object(client, "Client", Accuses):  # of the reference's clients, which are this holder alone
            answers = {index: clients[index].take(message) for index, message in outgoing.items()}
        assert {server.receive(index, data) for index, (_, data) in answers.items()} == {"accepted"}  # type: ignore[arg-type]
        outgoing = server.close()
    assert ("ANSWER", [2]) in phases
    assert server.compute().total == [15]


def _either(scenario: Scenario, index: int, references: int) -> AnyClient:
    return ReferenceClient(scenario, index) if references >> index & 1 else LibraryClient(scenario, index)


@given(configs(versions=wire.VERSIONS))
def test_configs_have_the_same_bytes_and_limits(config: RoundConfig) -> None:
    theirs = rules.read_config(config.to_bytes())
    assert theirs.to_bytes() == config.to_bytes()
    assert theirs.digest == config.digest
    for name in (*wire.TO_CLIENT, *wire.TO_SERVER):
        assert theirs.max_bytes(name) == messages.max_bytes(config, getattr(messages, name))


@given(configs(versions=wire.VERSIONS), st.data())
@settings(max_examples=3 * settings().max_examples)
def test_changed_configs_are_sound_for_both_or_for_neither(config: RoundConfig, data: st.DataObject) -> None:
    values = wire.unpack(config.to_bytes(), depth=2)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from((0, *range(2, 17), *range(19, len(values)))))
        if place < 19:
            values[place] = max(0, values[place] + data.draw(st.sampled_from((-2, -1, 1, 2))))
        else:
            values[place] = data.draw(st.lists(st.sampled_from((0, 1, 2, 3, 1024, 1025, b"", b"1")), max_size=6))
    encoded = wire.pack(values)
    ours: object = None
    with contextlib.suppress(ParameterError):
        ours = RoundConfig.from_bytes(encoded).to_bytes()
    theirs: object = None
    with contextlib.suppress(Refused):
        theirs = rules.read_config(encoded).to_bytes()
    assert ours == theirs


@given(configs(min_clients=6, max_clients=14, versions=[2]), st.data())
@settings(max_examples=3 * settings().max_examples)
def test_grouped_configs_are_sound_for_both_or_for_neither(config: RoundConfig, data: st.DataObject) -> None:
    """As above, but all numbers that groups tie together move, and only by a little."""
    made = rules.read_config(config.to_bytes())
    moved = ("colluders", "dropouts", "neighbours", "threshold", "quorum", "min_survivors", "sigma", "groups")
    for name in data.draw(st.lists(st.sampled_from((*moved, "min_group")), max_size=3)):
        made = replace(made, **{name: max(0, getattr(made, name) + data.draw(st.sampled_from((-1, 1))))})
    ours = True
    try:
        RoundConfig.from_bytes(made.to_bytes())
    except ParameterError:
        ours = False
    assert ours == rules.is_sound(made)


@given(
    st.integers(3, 400),
    st.floats(0, 0.45),
    st.floats(0, 0.45),
    st.booleans(),
    st.sampled_from((1, 2, 3, 40, 104)),
    st.sampled_from((1, 2, 30)),
    st.data(),
)
@settings(max_examples=5 * settings().max_examples)
def test_bounds_in_floating_point_decide_as_exact_integers_do(
    clients: int, gamma: float, delta: float, active: bool, sigma: int, eta: int, data: st.DataObject
) -> None:
    colluders, dropouts = int(gamma * clients), int(delta * clients)
    degrees = [*range(2, clients - 1, 2), clients - 1]
    degree = data.draw(st.sampled_from(degrees))
    model = ThreatModel.ACTIVE if active else ThreatModel.SEMI_HONEST
    counts = {"clients": clients, "colluders": colluders, "dropouts": dropouts}
    ours = Demand(**counts, threat_model=model, sigma=sigma, grinding_bits=0, eta=eta)
    numbers = (clients, 1, 16, 0, 1, colluders, dropouts, degree, 2, 0, 0, sigma, 0, eta)
    theirs = rules.Config("active" if active else "semi_honest", 1, *numbers, b"", b"")
    assert ours.thresholds(degree) == rules.thresholds(theirs)
    if degree < clients - 1:
        assert ours.connects(degree) == rules.connects(theirs)


def _damaged(data: bytes, draw: random.Random) -> bytes:
    """A few bytes changed, put in or taken out, most of them where MessagePack's headers are."""
    damaged = bytearray(data)
    markers = (0xC0, 0xC2, 0xC4, 0xC5, 0xC6, 0xCC, 0xCD, 0xD0, 0xD9, 0xDA, 0xDC, 0xDD, 0xFF, 1, draw.randrange(256))
    for _ in range(draw.randint(0, 3)):
        place = min(
            draw.choice((draw.randrange(6), 36 + draw.randrange(6), draw.randrange(len(data) + 1))), len(damaged)
        )
        cut = draw.randint(0, 1)
        damaged[place : place + cut] = bytes(draw.sample(markers, draw.randint(0, 1)))
    return bytes(damaged[: draw.choice((len(damaged), len(damaged), draw.randrange(len(data))))])


@given(st.integers(0, 2**32), st.sampled_from(sorted(wire.MESSAGES)), st.sampled_from(wire.VERSIONS))
@settings(max_examples=10 * settings().max_examples)
def test_damaged_messages_decode_for_both_or_for_neither(seed: int, name: str, version: int) -> None:
    draw = random.Random(seed)
    shape = ["session:32", *wire.fields_of(name, version)]
    values = [_value(field.partition(":")[2], draw) for field in shape]
    honest = wire.pack([wire.MESSAGES[name][0], version, *values])
    for decoder, names in (
        (messages.to_client, ("Abort", *wire.TO_CLIENT)),
        (messages.to_server, ("Abort", *wire.TO_SERVER)),
        (messages.invitation, ("Invitation",)),
    ):
        data = _damaged(honest, draw)
        theirs: object
        ours: object
        try:
            theirs = wire.decode(data, names, 1000, (version,))
        except Refused as refused:
            theirs = refused.code
        try:
            message = decoder.decode(data, 1000, version)
            fields = [getattr(message, field) for field in message.__struct_fields__[2:]]  # type: ignore[attr-defined]
            plain = [field if isinstance(field, int) else bytes(field) for field in fields]
            ours = (type(message).__name__.removesuffix("WithAttachment"), message.session, plain)  # type: ignore[attr-defined]
        except PeerError as refused:
            ours = refused.code.value
        assert ours == theirs


def _value(kind: str, draw: random.Random) -> int | bytes:
    if kind == "int":
        return draw.choice((0, 6, 127, 128, 2**16, 2**64 - 1))
    return draw.randbytes(int(kind) if kind else draw.choice((0, 1, 4, 40)))
