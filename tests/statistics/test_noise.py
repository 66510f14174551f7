"""Differential privacy of a record: what one record changes, how much noise there is, and what it costs."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import dp_accounting
import numpy as np
import pandas as pd
import pytest
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from secagg.errors import DisclosureError, InputError, ParameterError, PeerError
from secagg.pairwise.phases import Phase
from secagg.privacy import accounting
from secagg.privacy.budget import Budget, BudgetExceededError
from secagg.privacy.noise import Noise
from secagg.privacy.parameters import NoiseKind
from secagg.simulation import Faults, simulate
from secagg.statistics import Analyst, Question, Site, SitePolicy, Study, StudyLayout, simulate_study
from secagg.statistics.analyst import layout_of, noise_in
from secagg.statistics.cells import Cells, Whole
from secagg.statistics.noise import cost_of, multiplier, noise_of
from secagg.statistics.release import NoiseTerms
from tests.support.hospitals import LOST, Frame, add_up, as_json, split

TOML = """
name = "Noisy"
max_records = 100_000
[columns.age]
type = "whole"
min = 0
max = 120
[columns.dose]
type = "number"
min = -0.35
max = 0.75
decimals = 1
outside = "clip"
[columns.height]
type = "number"
min = 0.3
max = 2.7
[columns.sex]
type = "category"
values = ["female", "male", "other"]
[columns.ill]
type = "flag"
[methods.table]
method = "crosstab"
of = ["sex", "ill"]
[methods.ages]
method = "histogram"
of = "age"
by = "ill"
[methods.middle]
method = "quantiles"
of = "age"
by = "sex"
rounds = 2
bins = 12
[methods.means]
method = "describe"
of = ["age", "dose", "ill"]
by = "sex"
[methods.scales]
method = "standardise"
of = ["dose"]
[methods.groups]
method = "kmeans"
of = ["age", "height"]
clusters = 2
max_rounds = 2
[release]
min_organisations = 4
[noise]
epsilon = EPSILON
delta = 1e-6
colluders = 1
"""


def noisy_text(epsilon: float = 1.0, **changed: str) -> str:
    text = TOML.replace("EPSILON", repr(epsilon))
    for old, new in changed.items():
        assert old in text
        text = text.replace(old, new)
    return text


def study(epsilon: float = 1.0, **changed: str) -> Study:
    return Study.from_toml(noisy_text(epsilon, **changed))


STUDY = study()


def patients(count: int, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(0, 121, count).astype(float),
            "dose": rng.choice([-0.35, 0.75, 0.1, 0.3], count),
            "height": np.where(rng.random(count) < 0.2, rng.choice([0.3, 2.7], count), rng.uniform(0.3, 2.7, count)),
            "sex": rng.choice(["female", "male", "other"], count, p=[0.5, 0.4, 0.1]),
            "ill": (rng.random(count) < 0.3).astype(float),
        }
    )
    for name in ("age", "dose", "ill"):
        frame.loc[rng.random(count) < 0.1, name] = np.nan
    frame.loc[rng.random(count) < 0.1, "sex"] = None
    return frame


def site_of(asked: Study, frame: pd.DataFrame, **options: Any) -> Site:
    return Site(asked, Frame(asked, frame, rows=7), **options)


# What one record changes.


def questions(frame: pd.DataFrame) -> list[Question]:
    """Those of a study over these records, as its noise has them."""
    analyst, asked = Analyst(STUDY), []
    site = site_of(STUDY, frame)
    site.check()
    while (question := analyst.question()) is not None:
        asked.append(question)
        layout = analyst.layout(question)
        analyst.release(question, layout.decode(layout.encode(site.answer(question)), 1), "abcd")
    return asked


QUESTIONS = questions(patients(300))


def test_a_study_of_two_rounds_is_asked() -> None:
    assert [len(question.history) for question in QUESTIONS] == [0, 1]
    assert STUDY.noisy_rounds == 2


def sums_of(question: Question, records: pd.DataFrame) -> dict[str, Any]:
    site = site_of(STUDY, records)
    site.check()
    return site.sums(question)


@settings(max_examples=settings().max_examples // 4)
@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from(QUESTIONS))
def test_a_record_changes_no_more_than_noise_is_sized_for(seed: int, size: int, question: Question) -> None:
    """A sum is made of what each record adds by itself, whoever else is there; and that is bounded."""
    frame = patients(size, seed)
    apart = [sums_of(question, frame.iloc[[row]]) for row in range(size)]
    for name, together in sums_of(question, frame).items():
        np.testing.assert_array_equal(together, sum(one[name] for one in apart), name)
    noise = noise_in(STUDY, question.asks)
    assert {array for one in noise for array in one.arrays} == apart[0].keys()
    for one in noise:
        for record in apart:
            change = np.concatenate([record[name].reshape(-1) for name in one.arrays]).astype(object)
            assert (change**2).sum() <= one.sum.squared_l2
            assert abs(change).sum() <= one.sum.l1


@given(st.sampled_from([-0.35, 0.75]), st.sampled_from([-0.35, 0.75]))
def test_an_end_between_two_units_moves_a_sum_by_no_more_than_its_noise_is_for(value: float, centre: float) -> None:
    """With one decimal, -0.35 and 0.75 are 11 units apart as numbers, and 12 as they are rounded: -4 and 8."""
    ask = STUDY.methods["scales"].noisy_rounds(STUDY.terms)[1]
    asked = type(ask)(ask.stage, {"centre_dose": [centre]})
    cells = STUDY.methods["scales"].cells(STUDY.terms, asked)
    assert isinstance(cells["first_dose"], Whole)
    one = Frame(STUDY, pd.DataFrame({"dose": [value]}))
    sums = STUDY.methods["scales"].sums(STUDY.terms, asked, next(one.chunks()))
    assert abs(sums["first_dose"][0]) <= cells["first_dose"].per_record
    assert sums["second_dose"][0] <= cells["first_dose"].per_record ** 2


# What an accountant makes of it.

SHAPES = st.sampled_from([(), (3,), (2, 5)])
ARRAYS = st.builds(
    Whole,
    SHAPES,
    per_record=st.sampled_from([1, 2, 120, 10**6]),
    touched=st.sampled_from([None, 1]),
    group=st.sampled_from(["", "one"]),
)
ROUNDS = st.dictionaries(
    st.sampled_from(["columns", "one", "two"]),
    st.dictionaries(st.sampled_from(["counts", "sums", "squares"]), ARRAYS, min_size=1, max_size=3),
    min_size=1,
)
TERMS = st.builds(
    NoiseTerms,
    epsilon=st.sampled_from([0.1, 1.0, 8.0]),
    delta=st.sampled_from([1e-9, 1e-6, 1e-3]),
)


@settings(max_examples=settings().max_examples // 2)
@given(TERMS, st.integers(1, 9), st.integers(1, 20), ROUNDS)
def test_all_rounds_together_keep_to_epsilon_and_waste_little_of_it(
    terms: NoiseTerms, honest: int, rounds: int, cells: dict[str, dict[str, Cells]]
) -> None:
    found = noise_of(terms, honest, rounds, cells)
    spent = accounting.epsilon([(one.sum, rounds) for one in found], terms.delta)
    assert spent <= terms.epsilon
    if (
        min(one.sum.variance for one in found) * honest > 10**5
    ):  # otherwise whole variances, and Skellam's excess, count
        assert spent > 0.98 * terms.epsilon


@settings(max_examples=settings().max_examples // 2)
@given(TERMS, st.integers(1, 9), st.integers(1, 20), ROUNDS)
def test_no_round_is_worse_than_what_it_costs_a_budget_at_any_order(
    terms: NoiseTerms, honest: int, rounds: int, cells: dict[str, dict[str, Cells]]
) -> None:
    found, cost = noise_of(terms, honest, rounds, cells), cost_of(terms, rounds)
    assert accounting.epsilon([(cost, rounds)], terms.delta) <= terms.epsilon
    for order in accounting.ORDERS:
        seen = sum(min(rho * order + xi for rho, xi in accounting.lines_of(one.sum)) for one in found)
        assert seen <= min(rho * order + xi for rho, xi in accounting.lines_of(cost)) * (1 + 1e-12)


@pytest.mark.parametrize(("epsilon", "z"), [(4.752728, 1.0), (10.801691, 0.5)])
def test_the_multiplier_is_that_of_a_published_gaussian(epsilon: float, z: float) -> None:
    """At delta 1e-5, to the digits that epsilon has; z is rounded up to four digits."""
    assert 0.9999999 * z <= multiplier(NoiseTerms(epsilon=epsilon, delta=1e-5)) <= 1.0011 * z


@given(TERMS, st.integers(1, 30))
def test_a_gaussian_of_the_multiplier_keeps_the_promise_by_dp_accounting_itself(terms: NoiseTerms, rounds: int) -> None:
    z = float(multiplier(terms)) * math.sqrt(rounds)
    event = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(z), rounds)
    assert RdpAccountant(accounting.ORDERS).compose(event).get_epsilon(terms.delta) <= terms.epsilon


def test_of_arrays_in_a_group_a_record_changes_one_alone() -> None:
    apart, together = (
        noise_of(
            NoiseTerms(epsilon=1.0, delta=1e-6),
            3,
            1,
            {"one": {name: Whole((4,), touched=1, group=group) for name in ("a", "b", "c")}},
        )
        for group in ("", "same")
    )
    assert [len(one.arrays) for one in apart] == [1, 1, 1]
    assert [one.arrays for one in together] == [("one/a", "one/b", "one/c")]
    assert together[0].sum.variance < apart[0].sum.variance / 2.5


# In the ring.

LAYOUT = StudyLayout(
    (("a", (20_000,)), ("b", (3,))),
    (("a", 5), ("b", 5)),
    b"",
    (("a", 400), ("b", 1)),
    4,
    cost_of(NoiseTerms(epsilon=1.0, delta=1e-6), 1).to_text(),
)
ZEROS = {"a": np.zeros(20_000, np.int64), "b": np.zeros(3, np.int64)}


def is_of_variance(drawn: Any, variance: float) -> bool:
    """By a chi-squared test that errs once in 10^6; the values are nearly Gaussian."""
    return bool(1e-6 < stats.chi2.cdf((drawn.astype(float) ** 2).sum() / variance, drawn.size) < 1 - 1e-6)


def test_each_vector_has_noise_of_its_own_and_of_the_variance_that_the_layout_names() -> None:
    one, other = (LAYOUT.encode(ZEROS).view(np.int64)[:20_000] for _ in range(2))
    assert (one != other).mean() > 0.9
    assert is_of_variance(one, 400)
    assert is_of_variance(other, 400)
    assert not is_of_variance(one, 400 * 1.1)
    assert is_of_variance(one - other, 800)
    assert (LAYOUT.decode(LAYOUT.encode(ZEROS), 1)["a"] < 0).any()


def test_without_the_noise_of_its_keys_a_sum_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[bytes] = []

    def remembered(size: int) -> bytes:
        keys.append(np.random.default_rng(len(keys)).bytes(size))
        return keys[-1]

    monkeypatch.setattr(os, "urandom", remembered)
    values = [{"a": np.full(20_000, number), "b": np.arange(3) - number} for number in range(5)]
    total = sum((LAYOUT.encode(one) for one in values), np.zeros(LAYOUT.length, np.uint64))
    found = LAYOUT.decode(total, 5)
    assert len(keys) == 10
    for at, (name, variance) in enumerate(LAYOUT.noise):
        drawn = sum(Noise(NoiseKind.SKELLAM, variance, key).draw(ZEROS[name].size) for key in keys[at::2])
        np.testing.assert_array_equal(found[name] - drawn, sum(one[name] for one in values))


def test_with_noise_a_large_sum_has_no_limbs_that_could_tell_more_than_it_does() -> None:
    large = {"max_records = 100_000": "max_records = 10_000_000", "max = 120\n": "max = 12_000\n"}
    noisy = study(**large)
    silent = Study.from_toml(noisy_text(**large)[: noisy_text(**large).index("[noise]")])
    ask = noisy.methods["means"].noisy_rounds(noisy.terms)[1]
    names = [{name for name, _ in layout_of(one, {"means": ask}, b"").arrays} for one in (noisy, silent)]
    assert names[1] - names[0] == {"means/second_age~1"}
    assert names[0] < names[1]


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=8), st.sampled_from([1, 10**6, 2**62]))
def test_a_sum_with_noise_is_read_back_wherever_it_lies(values: list[int], variance: int) -> None:
    layout = StudyLayout((("a", ()),), (("a", 2**40),), b"", (("a", variance),), 1, LAYOUT.cost)
    layout.check_sites(len(values))
    vectors = [layout.encode({"a": np.array(value)}) for value in values]
    noise = sum(int(vector.view(np.int64)[0]) - value for vector, value in zip(vectors, values, strict=True))
    assert abs(noise) <= 16 * math.isqrt(len(values) * variance) + 64
    found = layout.decode(np.add.reduce(vectors), len(values))["a"]
    assert int(found) == sum(values) + noise


def test_a_sum_that_no_noise_reaches_is_of_a_site_that_cheated() -> None:
    vector = LAYOUT.encode(ZEROS)
    vector[0] = 5 + 64 * 21
    assert LAYOUT.decode(vector, 1)["a"][0] == 5 + 64 * 21
    vector[0] += np.uint64(1)
    with pytest.raises(InputError, match="a is 1350 in the sum, and 1 sites can reach 1349"):
        LAYOUT.decode(vector, 1)


@pytest.mark.parametrize(
    ("noise", "cost", "said"),
    [
        ((("a", 4),), LAYOUT.cost, "no whole numbers 'a'"),
        ((("b", 0),), LAYOUT.cost, "a variance of 0; must be from 1"),
        ((("b", 1), ("b", 1)), LAYOUT.cost, "noise: 'b' is there twice"),
        ((("b", 1),), "", "noise and what it costs, or neither"),
    ],
)
def test_a_layout_with_noise_of_nothing_is_refused(noise: Any, cost: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        StudyLayout((("a", ()), ("b", ())), (("b", 5),), b"", noise, 2, cost)


def test_a_ring_that_the_noise_could_leave_is_refused() -> None:
    def layout(most: int) -> StudyLayout:
        return StudyLayout((("b", ()),), (("b", most),), b"", (("b", 2**62),), 2, LAYOUT.cost)

    layout(2**61).check_sites(3)
    with pytest.raises(ParameterError, match="leave a ring"):
        layout(2**62 - 1).check_sites(2)


def test_a_round_that_fewer_could_open_than_the_noise_is_sized_for_is_refused() -> None:
    config = LAYOUT.config_for(4, 2)
    assert config.min_survivors == 4
    LAYOUT.check_round(config)
    LAYOUT.check_round(LAYOUT.config_for(6, 2).replace(min_survivors=4))
    with pytest.raises(ParameterError, match="a sum of 3 sites be opened, and the noise is sized for 4"):
        LAYOUT.check_round(LAYOUT.config_for(6, 2).replace(min_survivors=3))


def test_a_round_of_groups_shows_sums_of_fewer_than_the_study_asks_for_and_is_refused() -> None:
    with pytest.raises(ParameterError, match="has 2 groups, each with a sum of its own"):
        LAYOUT.config_for(40, 4, version=2, groups=2, gamma=0.05)


def test_the_noise_is_in_the_digest() -> None:
    question = Analyst(STUDY).question()
    assert question is not None
    layouts = [Analyst(study(epsilon)).layout(question) for epsilon in (1.0, 2.0)]
    assert layouts[0].digest() != layouts[1].digest()
    assert [name for name, _ in layouts[0].noise] == [name for name, _ in layouts[0].arrays]


# Studies.

FINE = """
name = "Fine"
columns.age = { type = "whole", min = 0, max = 3999 }
methods.ages = { method = "histogram", of = "age", bins = 4000 }
release = { min_organisations = 4, min_cell = 1 }
noise = { epsilon = 1.0, delta = 1e-6 }
"""


def test_after_two_losses_a_sum_has_the_noise_of_those_that_are_left() -> None:
    asked = Study.from_toml(FINE)
    ages = np.random.default_rng(5).integers(0, 4000, (10, 500))
    sites = [Site(asked, Frame(asked, pd.DataFrame({"age": part}))) for part in ages]
    for site in sites:
        site.check()
    analyst = Analyst(asked)
    question = analyst.question()
    assert question is not None
    layout = analyst.layout(question)
    outcome = simulate(
        lambda index: layout.encode(sites[index].answer(question)),
        layout.config_for(10, 4, delta=0.3),
        faults=Faults(fates=dict.fromkeys((2, 7), Phase.SHARE.value)),
        seed=3,
    )
    assert len(outcome.included) == 8
    analyst.release(question, layout.decode(outcome.sum, 8), [f"site {index}" for index in outcome.included])
    result = analyst.result().methods["ages"]
    noise = np.array(result.result.values["counts"]) - np.bincount(
        np.delete(ages, [2, 7], 0).reshape(-1), minlength=4000
    )
    each = dict(layout.noise)["ages/counts"]
    assert is_of_variance(noise, 8 * each)
    assert not is_of_variance(noise, 10 * each)
    assert result.noise["counts"] == pytest.approx(math.sqrt(8 * each))


def test_a_round_that_fails_can_be_asked_again_when_it_was_planned_for() -> None:
    frames = split(patients(2000), 10)
    for spare in (0, 1):
        asked = study(**{"colluders = 1": f"colluders = 1\nspare_rounds = {spare}"})
        sites = {name: Site(asked, Frame(asked, frame, 500)) for name, frame in frames.items()}
        result = simulate_study(sites, lost=dict.fromkeys(LOST, 1), seed=3)
        assert result.failed_rounds == 1
        assert len(result.rounds) == 1 + spare
        assert result.methods["table"].sites == tuple(sorted(frames.keys() - set(LOST)))
        means = result.methods["means"].result
        assert bool(means.withheld) is not bool(spare)
    assert result.privacy is not None
    assert 0 < result.privacy.reached < 1


def test_a_study_with_noise_says_how_much_and_what_it_cost() -> None:
    frames = split(patients(30_000), 8)
    sites = {name: Site(STUDY, Frame(STUDY, frame, rows=5_000)) for name, frame in frames.items()}
    result = simulate_study(sites, seed=1)
    pooled = pd.concat(frames.values())
    table = result.methods["table"]
    counts = np.array(table.result.values["counts"])
    known = pooled.dropna(subset=["sex", "ill"])
    exact = pd.crosstab(known["sex"], known["ill"]).to_numpy()
    assert (counts != exact).any()
    assert np.abs(counts - exact).max() < 8 * table.noise["counts"]
    assert f"{table.noise['counts']:.3g} in counts" in table.result.notes[-1]
    assert table.result.values["tests"] == {}
    middle = result.methods["middle"].result.values["groups"]["female"]["quantiles"]["0.5"]
    assert abs(middle["value"] - pooled[pooled["sex"] == "female"]["age"].median()) < 10
    means = result.methods["means"].result.values["age"]
    assert means["female"]["mean"] == pytest.approx(pooled[pooled["sex"] == "female"]["age"].mean(), rel=0.05)


@pytest.mark.parametrize("count", [4, 8])
def test_what_was_reached_follows_from_who_took_part(count: int) -> None:
    analyst = Analyst(STUDY)
    site = site_of(STUDY, patients(300))
    site.check()
    noise = []
    while (question := analyst.question()) is not None:
        layout = analyst.layout(question)
        noise += noise_in(STUDY, question.asks)
        analyst.release(question, layout.decode(layout.encode(site.answer(question)), 1), list("abcdefgh")[:count])
    found = analyst.result().privacy
    assert found is not None
    assert (found.promised, found.delta, found.colluders) == (1.0, 1e-6, 1)
    accountant = RdpAccountant(accounting.ORDERS)
    for one in noise:  # the first of the two bounds of Agarwal, Kairouz and Liu, written out
        mu, squared = (count - 1) * one.sum.variance, one.sum.squared_l2
        xi = max(0, 6 * one.sum.l1 - squared) / (4 * mu**2)
        accountant.compose(dp_accounting.ZCDpEvent(squared / (2 * mu) + squared / (2 * mu**2), xi))
    assert found.reached == pytest.approx(accountant.get_epsilon(1e-6), rel=1e-6)
    assert found.reached <= (1.0 if count == 4 else 0.7)


@settings(max_examples=settings().max_examples // 20)
@given(st.integers(0, 10**6), st.integers(0, 12))
def test_noise_that_drowns_everything_ends_in_results_all_the_same(seed: int, size: int) -> None:
    found = add_up(study(0.05), split(patients(size, seed), 4))
    as_json(found)


def test_a_round_that_failed_counts_as_one_that_was_seen() -> None:
    analyst = Analyst(STUDY)
    first = analyst.question()
    analyst.failed("it rained")
    second = analyst.question()
    assert first is not None
    assert second is not None
    analyst.failed("it rained")
    assert analyst.question() is None
    found = analyst.result()
    assert found.methods["table"].result.withheld == (
        "no round of it was completed: its noise is for 2 rounds, and 2 failed, the last one because it rained; a "
        "study with spare_rounds can ask again"
    )
    assert found.privacy is not None
    assert 0.99 < found.privacy.reached <= 1.0
    late = Question(second.study, second.session, 3, second.asks, ())
    site = site_of(STUDY, patients(50))
    with pytest.raises(PeerError, match="does not follow from the study"):
        site.check_question(late)
    site.check_question(second)


def test_spare_rounds_are_for_those_that_fail() -> None:
    asked = study(**{"colluders = 1": "colluders = 1\nspare_rounds = 2"})
    assert asked.noisy_rounds == 4
    assert (
        study(
            **{"colluders = 1": "colluders = 1\nspare_rounds = 2", "max_records": "max_rounds = 3\nmax_records"}
        ).noisy_rounds
        == 3
    )
    questions = [Analyst(one).question() for one in (STUDY, asked)]
    variances = [
        sum(one.sum.variance for one in noise_in(STUDY if at == 0 else asked, question.asks))
        for at, question in enumerate(questions)
        if question
    ]
    assert variances[1] == pytest.approx(2 * variances[0], rel=0.01)


def test_clusters_of_many_records_are_found_through_noise() -> None:
    asked = study(1.0, **{"max_rounds = 2\n[release]": "max_rounds = 5\n[release]"})
    assert asked.noisy_rounds == 5
    rng = np.random.default_rng(3)
    ages, heights = rng.normal((30, 80), 5, (20_000, 2)), rng.normal((1.2, 1.8), 0.1, (20_000, 2))
    frame = pd.DataFrame({"age": ages.reshape(-1).round().clip(0, 120), "height": heights.reshape(-1)})
    frame["dose"], frame["ill"], frame["sex"] = 0.1, 1.0, "male"
    found = add_up(asked, split(frame, 5))["groups"]
    values = found.result.values
    for one, age, height in zip(values["clusters"], (30, 80), (1.2, 1.8), strict=True):
        assert one["count"] == pytest.approx(20_000, rel=0.02)
        assert one["centre"]["age"] == pytest.approx(age, abs=1)
        assert one["centre"]["height"] == pytest.approx(height, abs=0.02)
    inertia = 40_000 * (25 / 60**2 + 0.01 / 1.2**2)
    step = 2 * 2**2 / 2**20  # of the largest squared distance, over two columns from -1 to 1
    assert values["inertia"] == pytest.approx(inertia, abs=8 * math.sqrt(2) * step * found.noise["squares"])


# Budgets.


def test_a_site_without_a_budget_answers_no_more_than_the_study_promises() -> None:
    """Whatever sessions a server begins: noise that is drawn again and again can be averaged away."""
    site = site_of(STUDY, patients(50))
    site.check()
    for _ in range(2):
        question = Analyst(STUDY).question()
        assert question is not None
        site.answer(question)
    with pytest.raises(BudgetExceededError, match="has answered 2 rounds, which is all that the study's noise is for"):
        site.answer(question)


def test_a_budget_holds_over_studies_and_restarts(tmp_path: Path) -> None:
    frames = split(patients(400), 5)
    own, at_analyst = tmp_path / "own.budget", tmp_path / "analyst.budget"
    for path in (own, at_analyst):
        Budget(path, epsilon=1.5, delta=1e-6).close()

    def run(number: int) -> Any:
        asked = study(1.0, Noisy=f"Number {number}")
        budget, for_all = Budget(own), Budget(at_analyst)
        sites = {name: site_of(asked, frame) for name, frame in frames.items()}
        sites["hospital 0"] = site_of(asked, frames["hospital 0"], budget=budget)
        try:
            return simulate_study(sites, budget=for_all), budget.spent(), for_all.spent()
        finally:
            budget.close()
            for_all.close()

    result, at_site, at_all = run(1)
    assert at_site == at_all
    assert at_site.rounds == 2
    assert result.privacy.reached < at_site.epsilon <= 1.0
    _, at_site, _ = run(2)
    assert 1.3 < at_site.epsilon < 1.5
    with pytest.raises(BudgetExceededError, match="may have 2 rounds, and there is room for 0"):
        run(3)
    budget = Budget(own)
    assert budget.spent().rounds == 4
    budget.close()


class Unread:
    """Data that fail the test when they are read."""

    def chunks(self) -> Any:
        raise AssertionError("the data were read")


def test_a_study_that_the_budget_has_no_room_for_is_refused_before_anything_is_read() -> None:
    budget = Budget(":memory:", epsilon=0.9, delta=1e-6)
    with pytest.raises(BudgetExceededError, match="may have 2 rounds, and there is room for 1"):
        Site(STUDY, Unread(), budget=budget).check()
    assert budget.spent().rounds == 0
    budget.close()


def test_the_analysts_budget_refuses_a_round_before_anybody_answers() -> None:
    budget = Budget(":memory:", epsilon=0.1, delta=1e-6)
    sites = {name: site_of(STUDY, frame) for name, frame in split(patients(100), 4).items()}
    with pytest.raises(BudgetExceededError):
        simulate_study(sites, budget=budget)
    budget.close()


# What is refused.

METHOD = '[methods.more]\nmethod = "{}"\nof = ["{}"]\n'


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"[methods.table]": METHOD.format("any", "ill") + "[methods.table]"}, "methods.more: 'any' has no results"),
        (
            {"[methods.table]": METHOD.format("covariance", 'age", "dose') + "[methods.table]"},
            "'covariance' has no results",
        ),
        ({"decimals = 1\n": ""}, "'sum_dose' is of floats, whose rounding no noise covers: give the columns decimals"),
        ({"max = 120\n": "max = 2_000_000\n"}, "'second_age' may be above 2.56 at one site: lower max_records"),
        ({"colluders = 1": "colluders = 4"}, "colluders is 4, and a sum may be over 4 organisations"),
        ({"colluders = 1": "colluders = 0"}, "colluders is 0: must be 1 or more"),
        ({"colluders = 1": "spare_rounds = -1"}, "spare_rounds is -1"),
        ({"delta = 1e-6": "delta = 2"}, "delta is 2"),
    ],
)
def test_a_study_whose_sums_can_have_no_noise_is_refused(changed: dict[str, str], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        study(**changed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"EPSILON": "1e-300", "1e-6": "1e-99"}, "noise: none keeps epsilon 1e-300 at delta 1e-99: raise one"),
        (
            {"max = 120\n": "max = 1_000_000\n", "max_records = 100_000": "max_records = 1", "EPSILON": "1e-3"},
            "a variance of 1.01e[+]25, and at most 2.62 is possible",
        ),
    ],
)
def test_a_promise_that_no_noise_keeps_is_refused(changed: dict[str, str], said: str) -> None:
    text = TOML
    for old, new in changed.items():
        text = text.replace(old, new)
    asked = Study.from_toml(text)
    with pytest.raises(ParameterError, match=said):
        Analyst(asked).question()
    with pytest.raises(ParameterError, match=said):
        Site(asked, Unread()).check()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"max_epsilon": 0.5}, "max_epsilon: the study has 1, and the policy allows 0.5"),
        ({"max_epsilon": 2.0, "max_delta": 1e-9}, "max_delta: the study has 1e-06, and the policy allows 1e-09"),
        ({"max_epsilon": 2.0, "min_colluders": 2}, "min_colluders: the study's noise bears 1"),
        ({"max_epsilon": 1.0}, ""),
    ],
)
def test_a_policy_asks_for_noise(changed: dict[str, Any], said: str) -> None:
    policy = SitePolicy(columns=("*",), methods=("*",), **changed)
    if not said:
        policy.check(STUDY)
    else:
        with pytest.raises(DisclosureError, match=said):
            policy.check(STUDY)


@pytest.mark.parametrize(
    "wrong", [{"max_epsilon": -1.0}, {"max_epsilon": math.inf}, {"max_delta": 0.0}, {"min_colluders": 0}]
)
def test_a_policy_with_limits_of_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        SitePolicy(columns=("*",), methods=("*",), **wrong)


def test_without_noise_a_study_passes_neither_such_a_policy_nor_a_budget() -> None:
    silent = Study.from_toml(TOML[: TOML.index("[noise]")])
    policy = SitePolicy(columns=("*",), methods=("*",), max_epsilon=1.0)
    with pytest.raises(DisclosureError, match="max_epsilon: the study has no noise"):
        policy.check(silent)
    budget = Budget(":memory:", epsilon=1.0, delta=1e-6)
    with pytest.raises(DisclosureError, match="the study has no noise, and the budget :memory: covers"):
        Site(silent, Unread(), budget=budget)
    budget.close()


# An attack.


@pytest.mark.parametrize(("epsilon", "least", "most"), [(0.5, 0.0, 0.26), (8.0, 0.3, 1.0)])
def test_who_knows_all_records_but_one_guesses_it_no_better_than_epsilon_allows(
    epsilon: float, least: float, most: float
) -> None:
    """The best test of a sum with or without one record of 100; each of 20,000 cells is a try of its own."""
    (noise,) = noise_of(
        NoiseTerms(epsilon=epsilon, delta=1e-6), 3, 1, {"one": {"counts": Whole((20_000,), 100, touched=1)}}
    )
    layout = StudyLayout((("a", (20_000,)),), (("a", 100),), b"", (("a", noise.sum.variance),), 3, LAYOUT.cost)
    without, having = (
        np.add.reduce([layout.encode({"a": np.full(20_000, value if at == 0 else 0)}) for at in range(3)]).view(
            np.int64
        )
        for value in (0, 100)
    )
    advantage = max((having >= at).mean() - (without >= at).mean() for at in range(-500, 601, 10))
    assert least <= advantage <= most
