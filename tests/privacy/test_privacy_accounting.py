"""The bounds on divergences, beside exact ones; composition, sampling, and what one member can change."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import dp_accounting
import numpy as np
import pytest
from dp_accounting.rdp import RdpAccountant
from hypothesis import given
from hypothesis import strategies as st

from secagg._install import how_to_install
from secagg.errors import ParameterError
from secagg.privacy import accounting
from secagg.privacy.noisy_sum import NoisySum
from secagg.privacy.parameters import Mechanism, NoiseKind
from secagg.privacy.perturbation import Scaling
from secagg.privacy.rotation import signs_of
from tests.support import exact_divergences as exact

DELTA = 1e-5
ROOT = Path(__file__).parents[2]
REACH = 400
BOTH = pytest.mark.parametrize("noise", list(NoiseKind))


def noisy_sum(noise: NoiseKind = NoiseKind.SKELLAM, **changes: object) -> NoisySum:
    values: dict[str, object] = {"honest": 4, "variance": 5, "dimension": 2, "squared_l2": 8, "l1": 4, **changes}
    return NoisySum(noise=noise, **values)  # type: ignore[arg-type]


def noise_of(one: NoisySum) -> exact.FloatArray:
    if one.noise is NoiseKind.SKELLAM:
        return exact.skellam(float(one.honest * one.variance), REACH)
    return exact.sum_of_discrete_gaussians(one.honest, float(one.variance), REACH)


def bound(one: NoisySum, order: int) -> float:
    return min(rho * order + xi for rho, xi in accounting.lines_of(one))


# Beside exact divergences.


@BOTH
@pytest.mark.parametrize("honest", [1, 2, 5])
@pytest.mark.parametrize("variance", [1, 3, 12])
@pytest.mark.parametrize(("dimension", "squared_l2", "l1"), [(1, 1, 1), (1, 9, 3), (2, 8, 4), (4, 7, 7)])
def test_bounds_hold_and_are_near(
    noise: NoiseKind, honest: int, variance: int, dimension: int, squared_l2: int, l1: int
) -> None:
    one = noisy_sum(noise, honest=honest, variance=variance, dimension=dimension, squared_l2=squared_l2, l1=l1)
    for order in (2, 3, 5, 9, 16):
        true = exact.worst_renyi(noise_of(one), dimension, squared_l2, l1, order)
        assert bound(one, order) >= true * (1 - 1e-9)
        if honest * variance >= 36 and order <= 5:
            assert bound(one, order) <= 1.2 * true


def test_a_bound_of_less_noise_would_not_hold() -> None:
    """The exact divergences tell a bound that is wrong by one client's share."""
    one = noisy_sum()
    true = exact.worst_renyi(noise_of(one), 2, 8, 4, 4)
    assert bound(replace(one, honest=one.honest + 1), 4) < true


def test_the_sum_of_few_coarse_shares_is_no_discrete_gaussian() -> None:
    """What tau counts: at a variance of 1 a sum of shares is measurably another distribution."""
    coarse, fine = (accounting.discrete_gaussian_lines(3, variance, 8, 4, 4) for variance in (0.3, 12.0))
    assert coarse[0][1] > 0.01
    assert fine[0][1] < 1e-40


def test_shares_beyond_the_first_many_are_still_counted() -> None:
    k = np.arange(1, 100_000, dtype=np.float64)
    tau = 10 * np.exp(-2 * math.pi**2 * 0.3 * k / (k + 1)).sum()
    found = accounting.discrete_gaussian_lines(100_000, 0.3, 8, 4, 4)[0][1] / 4
    assert tau <= found <= tau * (1 + 1e-3)


@BOTH
def test_epsilon_is_not_below_the_exact_one(noise: NoiseKind) -> None:
    one = noisy_sum(noise)
    epsilon = accounting.epsilon([(one, 1)], DELTA)
    assert epsilon >= exact.epsilon(noise_of(one), 2, 8, 4, DELTA) * (1 - 1e-12)
    for vector in exact.vectors(2, 8, 4):
        assert exact.delta_at(noise_of(one), vector, epsilon) <= DELTA


# Composition.


def test_nothing_seen_costs_nothing() -> None:
    assert accounting.epsilon([], DELTA) == 0.0


@given(times=st.integers(1, 50), others=st.integers(1, 50))
def test_times_add_up(times: int, others: int) -> None:
    one = noisy_sum(variance=5000)
    together = accounting.epsilon([(one, times + others)], DELTA)
    assert accounting.epsilon([(one, times), (one, others)], DELTA) == pytest.approx(together, rel=1e-9)


def test_many_rounds_are_those_of_the_gaussian_mechanism() -> None:
    """With much noise in steps, the integers do not show: dp-accounting's Gaussian event is an independent result."""
    one = NoisySum.of_clients(mechanism(), 100)
    z = math.sqrt(one.honest * one.variance / one.squared_l2)
    for rounds in (1, 10, 100):
        gaussian = accounting.gaussian_epsilon(z, DELTA, rounds)
        assert accounting.epsilon([(one, rounds)], DELTA) == pytest.approx(gaussian, rel=1e-4)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan, "1e-5"])
def test_delta_is_a_probability(delta: object) -> None:
    with pytest.raises(ParameterError, match="delta is"):
        accounting.epsilon([], delta)  # type: ignore[arg-type]


# Sampling.


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.7])
@BOTH
def test_sampling_bounds_the_exact_mixture_both_ways(noise: NoiseKind, rate: float) -> None:
    """With probability ``rate`` an update is in the sum; neither presence nor absence shows more than accounted."""
    one = noisy_sum(noise, dimension=1, squared_l2=4, l1=2, sampling_rate=rate)
    without = noise_of(one)[2:-2]
    mixed = (1 - rate) * without + rate * noise_of(one)[:-4]
    orders = [2, 3, 4, 8, 16]
    event = accounting._sampled(one)
    allowed = RdpAccountant(orders).compose(event).rdp
    for order, most in zip(orders, allowed, strict=True):
        assert exact.renyi(mixed, without, order) <= most * (1 + 1e-9)
        assert exact.renyi(without, mixed, order) <= most * (1 + 1e-9)


@pytest.mark.parametrize(("epsilon", "rounds", "rate"), [(0.5, 10, 0.1), (20.0, 1, 1 - 1e-9), (20.0, 1, 1.0)])
def test_the_multiplier_is_the_smallest_that_keeps_the_promise(epsilon: float, rounds: int, rate: float) -> None:
    z = accounting.gaussian_multiplier(epsilon, DELTA, rounds, rate)
    assert accounting.gaussian_epsilon(z, DELTA, rounds, rate) <= epsilon
    assert accounting.gaussian_epsilon(z * (1 - 1e-6), DELTA, rounds, rate) > epsilon


def test_sampling_helps_and_never_harms() -> None:
    one = noisy_sum(variance=50)
    whole = accounting.epsilon([(one, 10)], DELTA)
    rates = [accounting.epsilon([(replace(one, sampling_rate=rate), 10)], DELTA) for rate in (0.01, 0.1, 0.999999)]
    assert rates == sorted(rates)
    assert rates[0] < 0.2 * whole
    assert rates[-1] <= whole


def test_huge_noise_under_sampling_is_not_taken_for_no_loss() -> None:
    """Beyond float64's reach dp-accounting's sum of logarithms would come out below 0, and epsilon as 0."""
    one = noisy_sum(variance=10**15, sampling_rate=0.01)
    events = RdpAccountant(accounting.ORDERS).compose(accounting._sampled(one), 10**6)
    assert min(events.rdp) > 0
    assert isinstance(accounting._sampled(one), dp_accounting.PoissonSampledDpEvent)


# What one member can change.


def mechanism(**changes: object) -> Mechanism:
    values: dict[str, object] = {
        "noise": NoiseKind.SKELLAM,
        "clip": 1.0,
        "scale": Fraction(7845),
        "bits": 16,
        "rounding_failure": 0.0,
        "variance": 615_000,
        "length": 60_000,
        **changes,
    }
    return Mechanism(**values)  # type: ignore[arg-type]


def test_a_client_changes_its_whole_update() -> None:
    one = NoisySum.of_clients(mechanism(), 60)
    assert one.dimension == 2**16
    assert math.sqrt(one.squared_l2) == pytest.approx(7845 + 256, rel=1e-6)
    assert one.l1 == math.ceil(mechanism().scaled_norm_bound * 256 * (1 + 2**-40))
    assert (one.honest, one.variance, one.sampling_rate) == (60, 615_000, 1.0)


def test_an_update_for_another_is_twice_the_change() -> None:
    one, two = NoisySum.of_clients(mechanism(), 60), NoisySum.of_replaced_clients(mechanism(), 60)
    assert (two.squared_l2, two.l1) == (4 * one.squared_l2, 2 * one.l1)


def test_a_record_changes_less_if_rounding_is_unconditional() -> None:
    client, record = NoisySum.of_clients(mechanism(), 60), NoisySum.of_records(mechanism(), 60, 0.01)
    assert math.sqrt(record.squared_l2) == pytest.approx(0.01 * 7845 + 256, rel=1e-6)
    assert accounting.epsilon([(record, 1)], DELTA) < 0.5 * accounting.epsilon([(client, 1)], DELTA)
    conditional = mechanism(rounding_failure=math.exp(-0.5))
    assert NoisySum.of_records(conditional, 60, 0.01) == NoisySum.of_replaced_clients(conditional, 60)
    assert (
        NoisySum.of_records(mechanism(), 60, 2.0).squared_l2 <= NoisySum.of_replaced_clients(mechanism(), 60).squared_l2
    )


@given(st.integers(0, 2**32), st.floats(0, 3))
def test_roundings_of_near_updates_stay_near(seed: int, record_norm: float) -> None:
    """Why a record's bound holds: shortened, scaled and rounded with the same thresholds, two updates stay near."""
    generator, plan = np.random.default_rng(seed), mechanism(scale=Fraction(5, 2), length=7)
    one = generator.normal(size=8) * generator.choice([0.1, 1.0, 3.0])
    step = generator.normal(size=8)
    other = one + record_norm * step / np.linalg.norm(step)
    thresholds = generator.random(8)
    rounded = []
    for update in (one, other):
        shortened = update / max(1.0, float(np.linalg.norm(update)))
        rounded.append(np.floor(shortened * 2.5 + thresholds))
    moved = rounded[0] - rounded[1]
    allowed = NoisySum.of_records(plan, 3, record_norm)
    assert np.sum(moved**2) <= allowed.squared_l2
    assert np.abs(moved).sum() <= allowed.l1


def test_the_rounding_of_floats_is_within_a_record_s_bound() -> None:
    """Both updates are longer than the clip and point the same way: what is apart after scaling is floats' doing."""
    size = 2**15
    plan = Mechanism(
        noise=NoiseKind.SKELLAM, clip=1.0, scale=2**46, bits=32, rounding_failure=0.0, variance=1, length=size
    )
    negated = np.unpackbits(signs_of(b"context", size), bitorder="little").astype(np.float64)
    one = 0.020250211576280635
    apart = one * 2**-48
    rotated = []
    for value in (one, one + apart):  # turned against the signs, so that all of it comes to stand in one coordinate
        values = value * (1 - 2 * negated)
        Scaling(plan, plan.clip, 0.0).rotate(values, size, value, 1.0, signs_of(b"context", size))
        rotated.append(values)
    steps = float(np.linalg.norm(rotated[0] - rotated[1]))
    record_norm = apart * math.sqrt(size)
    assert steps > 10 * record_norm * 2**46  # so there is something to allow for
    bound = NoisySum.of_records(plan, 3, record_norm).squared_l2
    assert steps + math.sqrt(size) <= math.sqrt(bound)


# What a ledger stores.


@given(
    st.builds(
        NoisySum,
        noise=st.sampled_from(NoiseKind),
        honest=st.integers(1, 2**20),
        variance=st.integers(1, 2**80),
        dimension=st.integers(1, 2**36),
        squared_l2=st.integers(1, 2**90),
        l1=st.integers(1, 2**90),
        sampling_rate=st.floats(2**-40, 1.0),
    )
)
def test_a_record_reads_back(one: NoisySum) -> None:
    text = one.to_text()
    assert NoisySum.from_text(text) == one
    assert NoisySum.from_text(text).to_text() == text
    assert "epsilon" not in text


def test_a_record_has_this_form_for_good() -> None:
    assert noisy_sum(sampling_rate=0.1).to_text() == (
        '{"dimension":2,"honest":4,"l1":4,"noise":"skellam","sampling_rate":0.1,"squared_l2":8,"variance":5,"version":1}'
    )


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", "{}", '{"version":1}', '{"version":2,"noise":"skellam"}', noisy_sum().to_text()[:-1], "[" * 10**5],
)
def test_a_record_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="record of a private sum"):
        NoisySum.from_text(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [("honest", 0), ("variance", 0), ("squared_l2", 2.5), ("l1", -1), ("sampling_rate", 0.0), ("noise", "x")],
)
def test_a_sum_out_of_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=f"{name} is"):
        replace(noisy_sum(), **{name: value})  # type: ignore[arg-type]


def test_what_is_missing_is_named_with_how_to_install_it() -> None:
    """``accounting`` alone needs the extra; what a client's encoder and its bytes need does not."""
    hidden = (
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'dp_accounting':\n"
        "            raise ModuleNotFoundError('hidden', name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "import secagg.privacy.noisy_sum, secagg.privacy.adaptive_clipping\n"
        "import secagg.privacy.budget\n"
    )
    done = subprocess.run([sys.executable, "-c", hidden], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: dp_accounting is not installed, and this needs it: {how_to_install('privacy')}"
    )
