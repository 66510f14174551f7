"""Noise in levels: what is removed, what is left, and that neither is ever less than was promised."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import InputError, ParameterError, RoundConfig, StateError
from secagg.privacy import Mechanism, NoiseKind, PrivateEncoder
from secagg.privacy.keys import EncodingKeys
from secagg.privacy.noise import Noise
from secagg.privacy.removal import NoiseLevels
from secagg.simulation import Faults, make_cohort, simulate
from secagg.testing.adversary import Attack, LeaveOut, Lose, ShowSurvivors
from tests.support.attack_stage import active
from tests.support.mutants import PRIVACY
from tests.support.staging import Stage

LENGTH = 1 << 10


def mechanism(variance: int = 40_000, **changes: Any) -> Mechanism:
    values = {
        "noise": NoiseKind.SKELLAM, "clip": 1.0, "scale": 1024, "bits": 24, "rounding_failure": 0.0,
        "variance": variance, "length": LENGTH,
    }  # fmt: skip
    return Mechanism(**(values | changes))


def cohort(clients: int, fewest: int, colluders: int = 0) -> Any:
    return SimpleNamespace(clients=clients, min_survivors=fewest, quorum=0, colluders=colluders)


cohorts = st.integers(3, 300).flatmap(
    lambda clients: st.integers(2, clients).flatmap(
        lambda fewest: st.builds(cohort, st.just(clients), st.just(fewest), st.integers(0, fewest - 1))
    )
)


@given(cohorts, st.integers(1, 64), st.integers(1, 2**40), st.data())
def test_the_honest_that_are_left_always_have_the_noise_that_was_promised(
    config: Any, levels: int, variance: int, data: st.DataObject
) -> None:
    cut = NoiseLevels.of(mechanism(variance), config, levels)
    promised = (config.min_survivors - config.colluders) * variance
    included = data.draw(st.integers(config.min_survivors, config.clients))
    left = cut.left(mechanism(variance), config.clients, included, config.colluders)
    honest = included - config.colluders
    level = cut.level(config.clients - included)
    assert left.honest * left.variance >= promised
    # Whoever did not answer in time may have answered, so that nobody's surplus counts.
    assert (left.honest, left.variance) == (honest, cut.variances[level])
    # Never more than the whole, and no more levels than asked for.
    assert cut.variances[-1] == variance == max(cut.variances)
    assert list(cut.variances) == sorted(cut.variances)
    assert len(cut.losses) <= levels + 1
    assert cut.losses[0] == 0
    assert cut.losses[-1] == config.clients - config.min_survivors


@pytest.mark.parametrize("lost", [0, 10, 30])
def test_enough_levels_are_within_a_hundredth_of_the_target(lost: int) -> None:
    config = cohort(100, 70)
    exact = 70 * 1_000_000
    cut = NoiseLevels.of(mechanism(1_000_000), config, 64)
    left = cut.left(mechanism(1_000_000), 100, 100 - lost, 0)
    assert 1 <= left.honest * left.variance / exact <= 1.01
    # Without levels a round that loses nobody has 43% more.
    assert (100 - lost) * 1_000_000 / exact >= (1.4 if lost == 0 else 1)


def encoders(config: RoundConfig, **options: Any) -> PrivateEncoder:
    encoder = PrivateEncoder(np.zeros(LENGTH), mechanism(**options), levels=4)
    return encoder.for_round(config)


def config_for(clients: int, **options: Any) -> RoundConfig:
    encoder = PrivateEncoder(np.zeros(LENGTH), mechanism(), levels=4)
    return RoundConfig.for_cohort(
        clients, encoder.length, modulus=encoder.modulus_for(clients), context=encoder.layout_digest(), version=2,
        attachment_bytes=encoder.attachment_bytes, neighbours="complete", **options,
    )  # fmt: skip


def test_the_server_takes_off_exactly_what_the_clients_added() -> None:
    """The components behind a level, drawn by client and by server, cancel to the last step."""
    config = config_for(10, gamma=0.0, delta=0.3)
    encoder = encoders(config)
    levels = encoder.noise_levels
    assert levels is not None
    lost = levels.losses[1]
    included = 10 - lost
    seeds = [bytes([number]) * 32 for number in range(included)]
    zero = np.zeros(LENGTH)
    total = np.zeros(LENGTH, np.uint64)
    links = []
    for seed in seeds:
        one = PrivateEncoder(zero, mechanism(), levels=4, randomness=lambda size, seed=seed: seed[:size])
        vector, attachment = one.for_round(config).encode_in_levels(zero)
        total += vector
        links.append(next(value for most, value in attachment if most >= lost))
    cleaned = levels.without_surplus(total, mechanism(), lost, links)
    always = np.zeros(LENGTH, np.int64)
    for seed in seeds:
        keys = EncodingKeys(seed)
        always += Noise(NoiseKind.SKELLAM, levels.variances[0], keys.noise.reveal()).draw(LENGTH)
        component, *_ = levels.removable(mechanism(), keys.removable.reveal(), 0)
        always += component.draw(LENGTH)
    assert ((cleaned - always.view(np.uint64)) & np.uint64(2**24 - 1)).max() == 0


def test_a_link_opens_nothing_in_front_of_it() -> None:
    levels = NoiseLevels.of(mechanism(), cohort(20, 10), 4)
    pairs = levels.attachment(bytes(32), 20)
    assert [most for most, _ in pairs] == [*levels.losses[:-1], 20]
    assert len({value for _, value in pairs}) == len(pairs)
    behind = [component.draw(8).tolist() for component in levels.removable(mechanism(), pairs[2][1], 2)]
    all_of_them = [component.draw(8).tolist() for component in levels.removable(mechanism(), pairs[0][1], 0)]
    assert all_of_them[2:] == behind
    assert levels.removable(mechanism(), pairs[-1][1], len(levels.losses) - 1) == []


class Host:
    """Every client's host: it encodes once, and hands vector and attachment over together."""

    def __init__(self, encoder: PrivateEncoder) -> None:
        self.encoder = encoder
        self.encoded: dict[int, Any] = {}

    def vector(self, index: int) -> Any:
        self.encoded[index] = self.encoder.encode_in_levels(np.zeros(LENGTH))
        return self.encoded[index][0]

    def attachment(self, index: int) -> Any:
        return self.encoded[index][1]


@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
@pytest.mark.parametrize(("lost", "silent"), [(0, 0), (0, 2), (1, 0), (3, 0), (2, 1)])
def test_a_whole_round(lost: int, silent: int, threat_model: str) -> None:
    """The sum has the variance that is reported: of 1,024 coordinates, to the precision of an estimate."""
    clients, members = 12, {}
    if threat_model == "active":
        identities, directory, digest = make_cohort(12)
        members = {"identities": identities, "directory": directory}
        config = config_for(clients, gamma=0.0, delta=0.35, threat_model="active", cohort=digest)
    else:
        config = config_for(clients, gamma=0.0, delta=0.35)
    encoder = encoders(config)
    host = Host(encoder)
    fates = dict.fromkeys(range(lost), "SHARE")
    fates |= dict.fromkeys(range(lost, lost + silent), "CONFIRM" if threat_model == "active" else "MASK")
    outcome = simulate(host.vector, config, attachments=host.attachment, faults=Faults(fates), seed=1, **members)
    result = outcome.result
    assert result is not None
    assert len(result.included) == clients - lost
    assert len(result.attachments) == clients - lost - silent
    mean, levels = encoder.decode_in_levels(result), encoder.noise_levels
    assert levels is not None
    variance = levels.variance_of_sum(lost, clients - lost, clients - lost - silent)
    deviation = math.sqrt(variance) / 1024 / (clients - lost)
    assert mean.noise == pytest.approx(deviation)
    # The standard deviation of 1,024 values is known to 1 / sqrt(2,048) = 2.2%; five of these.
    assert np.asarray(mean.mean).std() == pytest.approx(deviation, rel=0.11)


@pytest.mark.parametrize("variance", [1, 3, 40_000])
def test_the_cost_is_what_is_drawn(variance: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels without noise of their own cost nothing."""
    drawn: list[int] = []
    blocks = Noise.blocks
    monkeypatch.setattr(Noise, "blocks", lambda self, size: (drawn.append(size), blocks(self, size))[1])
    config = config_for(10, gamma=0.0, delta=0.3)
    encoder = PrivateEncoder(np.zeros(LENGTH), mechanism(variance), levels=3).for_round(config)
    levels = encoder.noise_levels
    assert levels is not None
    encoder.encode_in_levels(np.zeros(LENGTH))
    assert sum(drawn) == levels.client_draws(encoder.mechanism)
    for included in range(7, 11):
        drawn.clear()
        links = [bytes(32)] * included
        levels.without_surplus(np.zeros(LENGTH, np.uint32), encoder.mechanism, 10 - included, links)
        assert sum(drawn) == levels.server_draws(encoder.mechanism, 10, included)
    assert sum(drawn) <= levels.server_draws(encoder.mechanism, 10, 10)


def test_what_needs_levels_says_so() -> None:
    config = config_for(10, gamma=0.0, delta=0.3)
    with_levels, zero = encoders(config), np.zeros(LENGTH)
    without = PrivateEncoder(zero, mechanism())
    with pytest.raises(StateError, match="encode_in_levels"):
        with_levels.encode(zero)
    with pytest.raises(ParameterError, match="attachment_bytes = 32, and this encoder needs 0"):
        without.for_round(config)
    plain = RoundConfig.for_cohort(10, without.length, modulus=without.modulus_for(10))
    with pytest.raises(ParameterError, match=r"attachment_bytes=encoder\.attachment_bytes"):
        PrivateEncoder(zero, mechanism(), levels=1).for_round(plain)
    with pytest.raises(StateError, match="has no levels"):
        without.for_round(plain).encode_in_levels(zero)
    with pytest.raises(StateError, match="of no round yet"):
        PrivateEncoder(zero, mechanism(), levels=1).encode_in_levels(zero)
    assert PrivateEncoder(zero, mechanism(), levels=1).layout_digest() != without.layout_digest()


def test_refusals() -> None:
    with pytest.raises(ParameterError, match="only 'skellam' noise"):
        NoiseLevels.of(mechanism(noise=NoiseKind.DISCRETE_GAUSSIAN), cohort(10, 5), 2)
    with pytest.raises(ParameterError, match="levels is 65"):
        NoiseLevels.of(mechanism(), cohort(10, 5), 65)
    levels = NoiseLevels.of(mechanism(), cohort(10, 5), 2)
    with pytest.raises(InputError, match="31 bytes"):
        levels.without_surplus(np.zeros(LENGTH, np.uint32), mechanism(), 0, [bytes(31)])
    with pytest.raises(ParameterError, match="fewer than the included"):
        levels.left(mechanism(), 10, 5, 5)


def test_an_answer_that_comes_too_late_is_counted_as_known() -> None:
    """The server has the links of clients whose answers are in no result, and can take their surplus off as well."""
    stage = Stage(config_for(10, gamma=0.0, delta=0.3, min_survivors=7))
    encoder = encoders(stage.config)
    host, levels = Host(encoder), encoder.noise_levels
    assert levels is not None
    stage.inputs, stage.attachments = host.vector, host.attachment
    stage.play("UNMASK")
    late = (3, 4, 5)
    answers = stage.answers()
    stage.deliver({index: answer for index, answer in answers.items() if index not in late})
    stage.close()
    result = stage.server.compute()
    assert set(result.attachments) == set(range(10)) - set(late)
    links = [dict(host.encoded[index][1])[0] for index in late]
    assert all(link in answers[index] for index, link in zip(late, links, strict=True))
    all_links = [*result.attachments.values(), *links]
    bare = levels.without_surplus(result.sum, encoder.mechanism, 0, all_links).astype(np.int64)
    bare[bare >= 1 << 23] -= 1 << 24
    known = levels.left(encoder.mechanism, 10, 10, 0)
    assert known.honest * known.variance == 10 * levels.variances[0] < levels.variance_of_sum(0, 10, 7)
    # 1,024 values: their variance is known to sqrt(2 / 1,024) = 4.4%, five of which the surplus of three exceeds.
    assert bare.var() == pytest.approx(known.honest * known.variance, rel=0.22)


@pytest.mark.parametrize("config", [active(7, 1, 2), active(14, 1, 2, 6)], ids=["complete", "sparse"])
@pytest.mark.parametrize(
    "gone",
    [LeaveOut, lambda ids: Lose(ids, "ADVERTISE"), lambda ids: Lose(ids, "SHARE")],
    ids=["never there", "never shared", "sent no vector"],
)
def test_a_server_that_claims_more_survivors_gets_links_and_no_sum(config: RoundConfig, gone: Any) -> None:
    """Else it could have more noise removed than the losses ask for: clients count the losses that they are shown."""
    everybody, colluder = tuple(range(config.clients)), config.clients - 1
    for lost in range(colluder):
        spoils = Attack(config, colluders=(colluder,), lies=(gone((lost,)), ShowSurvivors(everybody))).run()
        assert spoils.openings == ()
        assert spoils.broken == []


def test_without_the_rule_about_neighbours_it_would_get_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test before this one can fail."""
    (mutant,) = (mutant for mutant in PRIVACY if mutant.rule == "client.survivors_shared")
    mutant.remove(monkeypatch)
    config = active(7, 1, 2)
    spoils = Attack(config, colluders=(6,), lies=(LeaveOut((0,)), ShowSurvivors(tuple(range(7))))).run()
    (opening,) = spoils.openings
    assert opening.clients == {1, 2, 3, 4, 5}
