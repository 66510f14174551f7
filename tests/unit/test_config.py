"""What a config allows, what its bytes are, and what a policy asks of it."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import ErrorCode, Modulus, ParameterError, PeerError, Policy, RoundConfig, Suite, ThreatModel
from secagg.simulation.faults import phases_of
from secagg.testing.strategies import configs
from tests.support import wire
from tests.support.staging import MODELS, Stage, active, semi_honest

FIELDS = [
    "version",
    "threat_model",
    "suite",
    "clients",
    "length",
    "ring_bits",
    "prime",
    "input_max",
    "colluders",
    "dropouts",
    "neighbours",
    "threshold",
    "quorum",
    "min_survivors",
    "sigma",
    "grinding_bits",
    "eta",
    "context",
    "cohort",
]


def with_field(config: RoundConfig, name: str, value: Any) -> bytes:
    values = wire.read(config.to_bytes())
    values[FIELDS.index(name)] = value
    return wire.write(values)


# Bytes.


@given(configs())
def test_there_and_back(config: RoundConfig) -> None:
    data = config.to_bytes()
    again = RoundConfig.from_bytes(data)
    assert again == config
    assert again.to_bytes() == data
    assert again.digest == config.digest
    assert hash(again) == hash(config)


@given(configs())
def test_the_bytes_are_the_fields_in_their_order_and_the_shortest(config: RoundConfig) -> None:
    ring = config.modulus.is_ring
    values = {
        "version": 1,
        "threat_model": str(config.threat_model),
        "suite": {Suite.AES_128: 1, Suite.AES_256: 2, Suite.HYBRID: 3}[config.suite],
        "ring_bits": config.modulus.value.bit_length() - 1 if ring else 0,
        "prime": 0 if ring else config.modulus.value,
    }
    fields = [values.get(name, getattr(config, name, None)) for name in FIELDS]
    assert config.to_bytes() == wire.write(fields)
    label = b"secagg/v1 config"
    parts = b"".join(len(part).to_bytes(4, "little") + part for part in (label, config.to_bytes()))
    assert config.digest == hashlib.sha256(parts).digest()


def test_every_field_is_in_the_digest() -> None:
    options = {"length": 10, "suite": Suite.AES_256, "input_max": 3, "min_survivors": 8}
    config = semi_honest(12, **options)
    changes = {
        "suite": Suite.AES_128,
        "length": 11,
        "modulus": Modulus.ring(20),
        "input_max": 4,
        "colluders": 1,
        "dropouts": 1,
        "threshold": config.threshold + 1,
        "min_survivors": config.min_survivors + 1,
        "sigma": 41,
        "eta": 31,
        "context": b"\x00",
    }
    digests = [config.replace(**{name: value}).digest for name, value in changes.items()]
    other = active(12, **options)
    digests += [config.digest, other.digest, other.replace(cohort=bytes(32)).digest]
    digests += [other.replace(grinding_bits=65).digest, other.replace(quorum=8).digest]
    draft = config.replace(version=2)
    digests += [draft.digest, draft.replace(attachment_bytes=1).digest, draft.replace(attachment_bytes=2).digest]
    grouped = RoundConfig.for_cohort(12, 10, gamma=0, delta=0, groups=2, version=2)
    three = grouped.replace(groups=3, neighbours=3)
    digests += [grouped.digest, grouped.replace(min_group=4, min_survivors=4).digest, three.digest]
    complaining = draft.replace(complaints=3)
    digests += [complaining.digest, complaining.replace(complaints=4).digest]
    chained = other.replace(version=2)
    digests += [chained.digest, chained.replace(chain=bytes(32)).digest, chained.replace(chain=b"\x01" * 32).digest]
    digests.append(draft.replace(carrier="lattice").digest)
    assert len(set(digests)) == len(digests)
    tested = set(changes) | {"threat_model", "cohort", "grinding_bits", "quorum", "clients", "neighbours"}
    tested |= {"version", "attachment_bytes", "groups", "min_group", "chain", "carrier", "complaints"}
    assert tested == {field.name for field in dataclasses.fields(RoundConfig)}


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("version", 3, "version 3; this library speaks the versions 1 and 2"),
        ("version", 0, "version 0; this library speaks the versions 1 and 2"),
        ("version", 2, "does not decode"),
        ("suite", 3, "suite HYBRID in version 1"),
        ("suite", 4, "suite 4"),
        ("suite", 0, "suite 0"),
        ("threat_model", "Active", "threat model"),
        ("threat_model", "", "threat model"),
        ("clients", 2, "clients"),
        ("clients", 2**20 + 1, "clients"),
        ("clients", -1, "clients"),
        ("length", 0, "length"),
        ("length", 2**36 + 1, "length"),
        ("ring_bits", 65, "65"),
        ("ring_bits", 0, "0"),
        ("prime", 7, "not both"),
        ("input_max", 0, "input_max"),
        ("input_max", 2**16, "input_max"),
        ("input_max", 2**15, "bits"),
        ("colluders", -1, "colluders"),
        ("colluders", 5, "colluders"),
        ("colluders", 3, "colluders"),
        ("dropouts", 5, "dropouts"),
        ("neighbours", 3, "neighbours"),
        ("neighbours", 5, "neighbours"),
        ("threshold", 1, "threshold"),
        ("threshold", 5, "threshold"),
        ("quorum", 3, "semi_honest"),
        ("grinding_bits", 1, "semi_honest"),
        ("cohort", bytes(32), "semi_honest"),
        ("min_survivors", 2, "min_survivors"),
        ("min_survivors", 5, "min_survivors"),
        ("sigma", 0, "sigma"),
        ("eta", 0, "eta"),
        ("context", bytes(1025), "context"),
    ],
)
def test_an_unsound_config_does_not_exist(name: str, value: Any, told: str) -> None:
    """One field of a sound config of five clients is changed; the error says which."""
    config = semi_honest(5)
    assert RoundConfig.from_bytes(config.to_bytes()) == config
    with pytest.raises(ParameterError, match=told):
        RoundConfig.from_bytes(with_field(config, name, value))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("quorum", 2, "quorum"),
        ("quorum", 5, "quorum"),
        ("cohort", b"", "cohort"),
        ("cohort", bytes(31), "cohort"),
        ("threshold", 2, "threshold"),
        ("colluders", 2, "quorum"),
        ("dropouts", 2, "dropouts"),
    ],
)
def test_an_unsound_config_against_an_active_server(name: str, value: Any, told: str) -> None:
    config = active(5)
    assert (config.quorum, config.threshold, config.dropouts) == (3, 3, 1)
    with pytest.raises(ParameterError, match=told):
        RoundConfig.from_bytes(with_field(config, name, value))


def test_two_quorums_must_share_an_honest_client() -> None:
    """Half of them, and the colluders twice, are not enough: Q > (n + A) / 2."""
    config = active(6)
    assert (config.quorum, config.colluders) == (4, 0)
    with pytest.raises(ParameterError, match="quorum 3"):
        RoundConfig.from_bytes(with_field(config, "quorum", 3))


@pytest.mark.parametrize("value", [None, True, 1.5, "x", b"x", [], 2**64 - 1, -5])
@pytest.mark.parametrize("name", FIELDS)
def test_fields_of_another_type(name: str, value: Any) -> None:
    if name in ("context",) and value == b"x":
        return
    with pytest.raises(ParameterError):
        RoundConfig.from_bytes(with_field(active(5), name, value))


@pytest.mark.parametrize("data", [b"", b"\x90", b"\xc1", b"\x93\x01", bytes(50), b"\xdd\xff\xff\xff\xff"])
def test_what_is_no_config(data: bytes) -> None:
    with pytest.raises(ParameterError):
        RoundConfig.from_bytes(data)


def test_a_field_more_or_less() -> None:
    values = wire.read(semi_honest(5).to_bytes())
    for changed in (values[:-1], [*values, 0], values[::-1]):
        with pytest.raises(ParameterError):
            RoundConfig.from_bytes(wire.write(changed))


def test_a_ring_given_as_a_prime() -> None:
    values = wire.read(with_field(semi_honest(5, input_max=100), "ring_bits", 0))
    values[FIELDS.index("prime")] = 2**16
    with pytest.raises(ParameterError, match="ring_bits"):
        RoundConfig.from_bytes(wire.write(values))
    values[FIELDS.index("prime")] = 65537
    assert RoundConfig.from_bytes(wire.write(values)).modulus == Modulus(65537)


# Choosing.


@given(st.integers(3, 400), st.integers(1, 2**64 - 1))
def test_the_ring_is_the_smallest_without_overflow(clients: int, input_max: int) -> None:
    bits = (clients * input_max).bit_length()
    if bits > 64:
        with pytest.raises(ParameterError, match=f"needs {bits} bits"):
            RoundConfig.for_cohort(clients, 1, input_max=input_max, neighbours="complete")
        return
    config = RoundConfig.for_cohort(clients, 1, input_max=input_max, neighbours="complete")
    assert config.modulus == Modulus.ring(bits)
    assert clients * input_max < config.modulus.value
    assert bits == 1 or clients * input_max >= 2 ** (bits - 1)


@pytest.mark.parametrize(("bits", "clients"), [(8, 5), (8, 8), (16, 4), (16, 5), (33, 7)])
def test_the_last_input_that_fits(bits: int, clients: int) -> None:
    """n times the largest input stays below the modulus; one more, and the error names the bits that it takes."""
    largest = (2**bits - 1) // clients
    assert semi_honest(clients, modulus=2**bits, input_max=largest).input_max == largest
    with pytest.raises(ParameterError, match=f"at least {bits + 1} bits"):
        semi_honest(clients, modulus=2**bits, input_max=largest + 1)
    assert semi_honest(clients, modulus=2**bits).input_max == 2**bits - 1, "every element: a sum modulo the ring"


def test_the_defaults() -> None:
    config = RoundConfig.for_cohort(100, 1000)
    assert (config.threat_model, config.suite) == (ThreatModel.SEMI_HONEST, Suite.AES_128)
    assert (config.colluders, config.dropouts) == (20, 10)
    assert config.sigma == 40
    assert config.quorum == config.grinding_bits == 0
    assert not config.is_complete
    assert config.min_survivors == config.clients - config.dropouts
    against_liars = RoundConfig.for_cohort(100, 1000, threat_model="active", cohort=bytes(32))
    assert against_liars.grinding_bits == 64
    assert against_liars.quorum == (100 + 20) // 2 + 1
    assert 2 * against_liars.threshold > against_liars.neighbours


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"clients": 2}, "clients"),
        ({"clients": True}, "clients"),
        ({"clients": 10.0}, "clients"),
        ({"length": 0}, "length"),
        ({"length": 1.5}, "length"),
        ({"gamma": -0.1}, "gamma"),
        ({"delta": 1.0}, "delta"),
        ({"gamma": 0.6, "delta": 0.4}, "gamma"),
        ({"gamma": math.nan}, "gamma"),
        ({"neighbours": 5}, "neighbours"),
        ({"neighbours": 9}, "neighbours"),
        ({"threshold": 0}, "threshold"),
        ({"threshold": 10}, "threshold"),
        ({"modulus": 15}, "modulus"),
        ({"input_max": 0}, "input_max"),
        ({"input_max": 2**64}, "input_max"),
        ({"min_survivors": 1}, "min_survivors"),
        ({"min_survivors": 11}, "min_survivors"),
        ({"threat_model": "malicious"}, "threat model"),
        ({"threat_model": "active"}, "cohort"),
        ({"context": bytes(2000)}, "context"),
    ],
)
def test_parameters_that_do_not_go_together(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        RoundConfig.for_cohort(**{"clients": 10, "length": 5, **options})


def test_replacing_checks_again() -> None:
    config = semi_honest(6)
    assert config.replace(length=9).length == 9
    assert config.length == 5
    with pytest.raises(ParameterError, match="threshold"):
        config.replace(threshold=6)


@given(configs(max_clients=9))
def test_every_drawn_config_keeps_the_rules(config: RoundConfig) -> None:
    """The protocol's own inequalities, written out."""
    n, a, d = config.clients, config.colluders, config.dropouts
    k, t, quorum = config.neighbours, config.threshold, config.quorum
    assert k == n - 1 or (k % 2 == 0 and 2 <= k < n - 1)
    assert 2 <= t <= k
    assert t + 1 <= config.min_survivors <= n - d
    assert config.min_survivors >= a + 2
    if config.is_active:
        assert 2 * t > k
        assert n + a < 2 * quorum <= 2 * (n - d)
        assert config.min_survivors >= quorum
    if config.is_complete:
        assert a < t <= n - 1 - d


# What is said about it.


@pytest.mark.parametrize("threat_model", ThreatModel)
@pytest.mark.parametrize("modulus", [2, 2**16, 2**64, 32771, 2**61 - 1])
def test_the_limit_of_a_phase_is_above_every_honest_message_and_close_to_the_largest(
    threat_model: ThreatModel, modulus: int
) -> None:
    configs_ = [MODELS[threat_model](clients, 301, modulus=modulus) for clients in (3, 9)]
    few_neighbours = {"neighbours": 4, "delta": 0.0, "sigma": 1, "eta": 1, "grinding_bits": 0}
    configs_.append(MODELS[threat_model](12, 301, modulus=modulus, **few_neighbours))
    for config in configs_:
        stage, clients = Stage(config), config.clients
        sizes = {phase: [0] for phase in phases_of(stage.config)}
        for phase in phases_of(stage.config):
            sizes[phase] += map(len, stage.collect().values())
            sizes[phase] += [len(data) for _, data in stage.server.close_phase()]
        for phase, met in sizes.items():
            limit = stage.config.max_message_bytes(phase)
            assert max(met) <= limit
            signatures_and_proofs = {"ADVERTISE": 72 + 32, "CONFIRM": 64}.get(phase, 0)
            assert limit <= max(met) + 64 + clients * signatures_and_proofs
    with pytest.raises(ParameterError, match="ADVERTISE"):
        stage.config.max_message_bytes("advertise")


@pytest.mark.parametrize("make", MODELS.values())
def test_the_explanation(make: Any) -> None:
    config = make(9, input_max=100)
    text = config.explain()
    told = [config.clients, config.colluders, config.dropouts, config.threshold, config.min_survivors, config.input_max]
    assert all(str(number) in text for number in told)
    assert str(config.threat_model) in text
    assert (f"after {config.quorum} clients have confirmed" in text) == config.is_active
    assert "modulo" in make(9).explain()


@pytest.mark.parametrize("min_survivors", [300, 600, 750, 900])
def test_the_explanation_has_the_bounds_of_the_config_and_no_others(min_survivors: int) -> None:
    """Connectivity is that of the smallest sum that may open: of 300 clients there is no bound at all."""
    config = RoundConfig.for_cohort(1000, 5, gamma=0.1, delta=0.1, min_survivors=min_survivors)
    text, bounds = config.explain(), config.bounds
    told = [
        f"at most 2^{bound:.1f}."
        for bound in (bounds.privacy_log2, bounds.connectivity_log2, bounds.correctness_log2)
        if bound < 0
    ]
    assert text.count("with probability at most") == len(told)
    assert all(bound in text for bound in told)
    assert f"the graph of {min_survivors} clients falls apart" in text
    assert ("nothing bounds the probability that the graph" in text) == (bounds.connectivity_log2 == 0)
    assert (bounds.connectivity_log2 == 0) == (min_survivors == 300)


def test_the_explanation_says_that_nobody_may_be_lost() -> None:
    assert "0 clients may be lost" in RoundConfig.for_cohort(3, 5).explain()
    assert "Up to 1 client may be lost." in RoundConfig.for_cohort(5, 5).explain()


# Policy.


def policy_of(config: RoundConfig) -> Policy:
    """The strictest that the config meets."""
    return Policy(
        threat_model=config.threat_model,
        min_clients=config.clients,
        max_clients=config.clients,
        gamma=config.colluders / config.clients,
        min_sigma=config.sigma,
        min_grinding_bits=config.grinding_bits,
        min_neighbours=config.neighbours,
        max_neighbours=config.neighbours,
        min_threshold=config.threshold,
        min_quorum=config.quorum,
        min_survivors=config.min_survivors,
        suites=frozenset({config.suite}),
        min_modulus_bits=config.modulus.bits,
        min_input_bits=config.input_max.bit_length(),
        min_length=config.length,
        max_length=config.length,
        context=config.context,
        min_version=config.version,
        max_attachment_bytes=config.attachment_bytes,
        max_complaints=config.complaints,
    )


@given(configs())
def test_the_strictest_policy_that_a_config_meets(config: RoundConfig) -> None:
    policy_of(config).check(config)


FLOORS: list[tuple[str, Any, str]] = [
    ("min_clients", 13, "clients = 12"),
    ("max_clients", 11, "clients = 12"),
    ("gamma", 0.26, "colluders = 2"),
    ("min_sigma", 41, "sigma = 40"),
    ("min_grinding_bits", 65, "grinding_bits = 64"),
    ("min_neighbours", 12, "neighbours = 11"),
    ("max_neighbours", 10, "neighbours = 11"),
    ("min_threshold", 8, "threshold = 7"),
    ("min_quorum", 9, "quorum = 8"),
    ("min_survivors", 9, "min_survivors = 8"),
    ("suites", frozenset({Suite.AES_256}), "AES_128"),
    ("min_modulus_bits", 17, "modulus bits = 16"),
    ("min_input_bits", 17, "input bits = 16"),
    ("min_length", 6, "length = 5"),
    ("max_length", 4, "length = 5"),
    ("context", b"another model", "context"),
    ("min_version", 3, "version = 2"),
    ("max_attachment_bytes", 7, "attachment_bytes = 8"),
    ("max_complaints", 1, "complaints = 2"),
    ("require_chain", True, "chain = nothing"),
    ("carrier", "lattice", "carrier = masks"),
]
"""Of a policy that the config of twelve below just meets: a field, a step beyond, and what is then said."""


@pytest.mark.parametrize(("name", "value", "told"), FLOORS)
def test_a_policy_is_not_talked_down(name: str, value: Any, told: str) -> None:
    config = active(12, gamma=0.2, delta=0.1, context=b"model", version=2, attachment_bytes=8, complaints="auto")
    policy = policy_of(config)
    policy.check(config)
    with pytest.raises(PeerError, match=told) as caught:
        dataclasses.replace(policy, **{name: value}).check(config)
    assert caught.value.code is ErrorCode.CONFIG_BELOW_POLICY


def test_a_policy_for_active_refuses_semi_honest() -> None:
    with pytest.raises(PeerError, match="threat_model"):
        Policy(threat_model=ThreatModel.ACTIVE).check(semi_honest(5))
    Policy().check(active(5))


def test_every_floor_of_the_policy_is_tested() -> None:
    """The threat model in the test above: a config has no step beyond ``active``.  Groups have tests of their own."""
    assert {name for name, *_ in FLOORS} | {"threat_model", "max_groups"} == {
        field.name for field in dataclasses.fields(Policy)
    }


def test_a_degree_that_would_keep_a_client_busy_for_hours_is_refused() -> None:
    """Dealing shares takes work that grows with the square of the degree; the check comes before any of it."""
    config = RoundConfig.for_cohort(2**20, 1, neighbours="complete", gamma=0.0, delta=0.0)
    with pytest.raises(PeerError, match="neighbours = 1048575; this client's policy asks for at most 4096") as caught:
        Policy().check(config)
    assert caught.value.code is ErrorCode.CONFIG_BELOW_POLICY
    Policy(max_neighbours=2**20).check(config)


# Types.


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_integers_of_numpy_are_integers(kind: Any) -> None:
    plain = RoundConfig.for_cohort(12, 5, input_max=100, threshold=6, min_survivors=9, neighbours="complete")
    given = RoundConfig.for_cohort(
        kind(12),
        kind(5),
        input_max=kind(100),
        threshold=kind(6),
        min_survivors=kind(9),
        neighbours="complete",
        sigma=kind(40),
        eta=kind(30),
        suite=kind(1),
        gamma=np.float64(0.2),
        delta=np.float32(0.1),
    )
    assert given == plain
    assert given.to_bytes() == plain.to_bytes()
    assert type(given.clients) is type(given.min_survivors) is int
    built = RoundConfig(**{field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)})
    assert built.replace(clients=kind(12), length=kind(5), threshold=kind(6)).to_bytes() == plain.to_bytes()
    assert RoundConfig.for_cohort(100, 5, modulus=np.int64(2**16), neighbours=kind(32)).neighbours == 32
    assert Policy(min_clients=kind(3)).min_clients == 3


NAMES = [field.name for field in dataclasses.fields(RoundConfig)]
FOR_COHORT = ["clients", "length", "threat_model", "gamma", "delta", "neighbours", "threshold", "input_max", "modulus"]
FOR_COHORT += ["min_survivors", "suite", "sigma", "grinding_bits", "eta", "context", "cohort", "version"]
FOR_COHORT += ["attachment_bytes", "groups", "min_group", "chain", "carrier", "complaints"]
FOR_COHORT += ["attackers", "robust_bits"]


@pytest.mark.parametrize("value", ["5", 1.5, [], object(), np.array([1, 2]), True])
@pytest.mark.parametrize("name", FOR_COHORT)
def test_a_parameter_of_another_type_is_named(name: str, value: Any) -> None:
    """Whatever it is, with the value met; never a TypeError from the depths."""
    options = {"clients": 12, "length": 5, "threat_model": "active", "cohort": bytes(32), name: value}
    with pytest.raises(ParameterError, match=name.replace("threat_model", "threat model")):
        RoundConfig.for_cohort(**options)


def test_every_parameter_of_for_cohort_is_tried() -> None:
    assert list(inspect.signature(RoundConfig.for_cohort).parameters) == FOR_COHORT


@pytest.mark.parametrize("value", [None, "5", 1.5, [], object(), True])
@pytest.mark.parametrize("name", NAMES)
def test_a_value_of_another_type_is_named(name: str, value: Any) -> None:
    """In a config that is built directly, or from another one."""
    with pytest.raises(ParameterError, match=name.replace("threat_model", "threat model")):
        active(12).replace(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (field.name, value)
        for field in dataclasses.fields(Policy)
        for value in ("5", 1.5, [1.5], object(), True)
        if (field.name, value) != ("require_chain", True)
    ],
)
def test_a_policy_s_value_of_another_type_is_named(name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=name.replace("threat_model", "threat model").rstrip("s")):
        Policy(**{name: value})


@pytest.mark.parametrize("make", [RoundConfig.for_cohort, lambda *given, **named: semi_honest(5).replace(**named)])
def test_a_context_is_bytes_and_not_text(make: Any) -> None:
    with pytest.raises(ParameterError, match="context = 'text': must be bytes, not str; encode it"):
        make(5, 5, context="text")
    assert make(5, 5, context=bytearray(b"text")).context == b"text"


def test_a_minimum_of_survivors_that_does_not_fit_is_told_why() -> None:
    with pytest.raises(
        ParameterError, match=r"at least 4 \(threshold \+ 1 = 4, .*\) and at most clients - dropouts = 4"
    ):
        RoundConfig.for_cohort(5, 5, gamma=0.2, delta=0.2, min_survivors=3)


def test_without_a_bound_inputs_have_16_bits() -> None:
    config = RoundConfig.for_cohort(10, 5, gamma=0.0, delta=0.1)
    assert config.input_max == 2**16 - 1
    assert config.modulus.value > 10 * config.input_max


def test_a_lower_minimum_of_survivors_shows_in_the_connectivity() -> None:
    """On a sparse graph in semi_honest: the bound is for the smallest sum that may open, not for D losses alone."""
    usual = RoundConfig.for_cohort(100, 10, gamma=0.2, delta=0.3)
    fewer = usual.replace(min_survivors=40)
    assert not usual.is_complete
    assert usual.min_survivors == 70
    assert usual.bounds.connectivity_log2 < -80
    assert -20 < fewer.bounds.connectivity_log2 < 0
    assert fewer.bounds.privacy_log2 == usual.bounds.privacy_log2


def test_on_the_complete_graph_the_minimum_is_what_the_threshold_and_two_honest_clients_ask_for() -> None:
    config = RoundConfig.for_cohort(100, 10, gamma=0.2, delta=0.3, neighbours="complete")
    assert config.min_survivors == max(config.threshold + 1, config.colluders + 2)
