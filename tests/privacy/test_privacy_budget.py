"""A budget refuses before anything leaves, and its file is taken for nothing else."""

from __future__ import annotations

import os
import pickle
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import ParameterError, UsageError
from secagg.privacy import accounting
from secagg.privacy.budget import Budget, BudgetExceededError, BudgetFileError
from secagg.privacy.noisy_sum import NoisySum
from secagg.privacy.parameters import NoiseKind

DELTA = 1e-6
ROUND = NoisySum(noise=NoiseKind.SKELLAM, honest=70, variance=90_000, dimension=4096, squared_l2=40_000, l1=9000)
"""A small part of an epsilon of 3."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budget"


def budget_of(path: Path | str, epsilon: float = 3.0) -> Budget:
    return Budget(path, epsilon=epsilon, delta=DELTA)


def name(number: int) -> bytes:
    return number.to_bytes(4, "big")


def fill(budget: Budget, noisy_sum: NoisySum = ROUND) -> int:
    """Charge rounds until one is refused; returns how many there are."""
    for number in range(10**6):
        try:
            budget.charge(name(number), noisy_sum)
        except BudgetExceededError:
            return number
    raise AssertionError("no round was refused")


# What fits.


def test_rounds_are_charged_until_one_would_pass_the_budget(path: Path) -> None:
    budget = budget_of(path)
    allowed = budget.rounds_left(ROUND)
    assert allowed > 3
    assert fill(budget) == allowed
    spent = budget.spent()
    assert (spent.rounds, spent.limit, spent.delta) == (allowed, 3.0, DELTA)
    assert spent.epsilon == pytest.approx(accounting.epsilon([(ROUND, allowed)], DELTA))
    assert spent.epsilon <= 3.0 < accounting.epsilon([(ROUND, allowed + 1)], DELTA)
    assert spent.left == 3.0 - spent.epsilon
    assert budget.rounds_left(ROUND) == 0


def test_a_refused_round_is_not_recorded_and_is_named(path: Path) -> None:
    limit = accounting.epsilon([(ROUND, 1)], DELTA)
    budget = budget_of(path, epsilon=limit)
    budget.charge(b"one", ROUND)
    with pytest.raises(
        BudgetExceededError, match=r"would be 0\.\d+ at delta 1e-06, and the budget is 0\.\d+"
    ) as caught:
        budget.charge(b"two", ROUND)
    assert isinstance(caught.value, UsageError)
    for refused in (caught.value, pickle.loads(pickle.dumps(caught.value))):  # as a process pool hands it on
        assert refused.epsilon == accounting.epsilon([(ROUND, 2)], DELTA)
        assert (refused.limit, refused.rounds) == (limit, 1)
    assert not budget.is_charged(b"two")
    assert budget.spent().rounds == 1


@settings(max_examples=max(10, settings().max_examples // 5))
@given(
    sums=st.lists(
        st.builds(
            NoisySum,
            noise=st.sampled_from(NoiseKind),
            honest=st.integers(1, 100),
            variance=st.integers(100, 10**6),
            dimension=st.just(64),
            squared_l2=st.integers(1, 10**6),
            l1=st.integers(1, 10**5),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_different_rounds_compose(sums: list[NoisySum]) -> None:
    """Whatever comes, what is recorded stays within the budget and is dp-accounting's composition of it."""
    budget = budget_of(":memory:", epsilon=2.0)
    taken: list[NoisySum] = []
    for number, one in enumerate(sums):
        fits = accounting.epsilon([(other, 1) for other in [*taken, one]], DELTA) <= 2.0 * (1 + 1e-12)
        try:
            spent = budget.charge(name(number), one)
        except BudgetExceededError:
            assert accounting.epsilon([(other, 1) for other in [*taken, one]], DELTA) > 2.0 * (1 - 1e-9)
            continue
        assert fits
        taken.append(one)
        assert spent == budget.spent()
        assert spent.epsilon <= 2.0
        assert spent.rounds == len(taken)
    budget.close()


def test_an_endless_budget_says_so(path: Path) -> None:
    nothing = NoisySum(noise=NoiseKind.SKELLAM, honest=1, variance=2**200, dimension=1, squared_l2=1, l1=1)
    assert budget_of(path).rounds_left(nothing) == 2**20


# Rounds and their names.


def test_a_round_is_charged_once_and_resumed_for_nothing(path: Path) -> None:
    budget = budget_of(path)
    assert not budget.is_charged(b"round")
    budget.charge(b"round", ROUND)
    assert budget.is_charged(b"round")
    with pytest.raises(ParameterError, match="726f756e64 is recorded already"):
        budget.charge(b"round", ROUND)
    assert budget.spent().rounds == 1


def test_what_never_left_is_given_back(path: Path) -> None:
    budget = budget_of(path)
    budget.charge(b"round", ROUND)
    assert budget.give_back(b"round")
    assert not budget.give_back(b"round")
    assert budget.spent().epsilon == 0.0
    budget.charge(b"round", ROUND)


@pytest.mark.parametrize("bad", [b"", bytes(65), "round", None])
def test_a_name_is_a_few_bytes(path: Path, bad: bytes) -> None:
    budget = budget_of(path)
    for call in (lambda: budget.charge(bad, ROUND), lambda: budget.is_charged(bad), lambda: budget.give_back(bad)):
        with pytest.raises(ParameterError, match="round_name is"):
            call()


# The file.


def test_a_budget_outlives_its_process(path: Path) -> None:
    first = budget_of(path)
    first.charge(b"one", ROUND)
    spent = first.spent()
    first.close()
    again = Budget(path)
    assert again.spent() == spent
    assert again.is_charged(b"one")


def test_a_file_holds_numbers_and_no_epsilon_of_a_round(path: Path) -> None:
    budget_of(path).charge(b"one", ROUND)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT * FROM spent").fetchall() == [(b"one", ROUND.to_text())]
        assert database.execute("SELECT epsilon, delta FROM bound").fetchone() == ("3.0", "1e-06")


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX files")
def test_a_file_is_its_owner_s(path: Path) -> None:
    path.touch(mode=0o644)
    budget_of(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    path.symlink_to(tmp_path / "other")
    with pytest.raises(ParameterError, match="a symbolic link"):
        budget_of(path)


def test_a_budget_is_not_changed_once_it_is_made(path: Path) -> None:
    budget_of(path).close()
    with pytest.raises(ParameterError, match=r"this budget has epsilon = 3\.0, not 4\.0"):
        budget_of(path, epsilon=4.0)
    with pytest.raises(ParameterError, match="this budget has delta = 1e-06, not 1e-05"):
        Budget(path, epsilon=3.0, delta=1e-5)


def test_a_new_file_needs_both_numbers(path: Path) -> None:
    with pytest.raises(ParameterError, match="there is no budget yet"):
        Budget(path)
    with pytest.raises(ParameterError, match="there is no budget yet"):
        Budget(path, epsilon=1.0)
    budget_of(path)  # what was refused left nothing behind


@pytest.mark.parametrize(("epsilon", "delta"), [(-1.0, DELTA), (float("nan"), DELTA), (1.0, 0.0), (1.0, 1.0)])
def test_a_budget_out_of_range_is_refused(path: Path, epsilon: float, delta: float) -> None:
    with pytest.raises(ParameterError, match=r"(epsilon|delta) is"):
        Budget(path, epsilon=epsilon, delta=delta)


def test_another_file_is_never_taken_for_an_empty_budget(path: Path) -> None:
    path.write_text("something else, which is long enough to be looked at as a database" * 20)
    with pytest.raises(ParameterError, match="not a privacy budget"):
        budget_of(path)
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE spent (round BLOB)")
    with pytest.raises(ParameterError, match="another program's database"):
        budget_of(path)


def test_another_version_is_refused(path: Path) -> None:
    budget_of(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 2")
    with pytest.raises(ParameterError, match="a privacy budget of version 2; this library writes 1"):
        budget_of(path)


def test_a_record_that_cannot_be_read_stops_everything(path: Path) -> None:
    budget_of(path).close()
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO spent VALUES (?, ?)", (b"one", '{"version":9}'))
    budget = Budget(path)
    for call in (budget.spent, lambda: budget.charge(b"two", ROUND), lambda: budget.rounds_left(ROUND)):
        with pytest.raises(ParameterError, match="version 9; this library reads 1"):
            call()
    assert not budget.is_charged(b"two")


def test_a_full_disk_is_said_and_nothing_is_spent(path: Path) -> None:
    budget = budget_of(path)
    budget._file._database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(BudgetFileError, match="full"):
        fill(budget)
    assert not budget._file._database.in_transaction
    assert Budget(path).spent() == budget.spent()


def test_several_threads_share_one_budget(path: Path) -> None:
    budget = budget_of(path)
    allowed = budget.rounds_left(ROUND)

    def charge(number: int) -> bool:
        try:
            budget.charge(name(number), ROUND)
        except BudgetExceededError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(charge, range(allowed + 20))) == allowed
