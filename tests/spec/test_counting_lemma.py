"""The counting lemmas are true at every size, and just so; the ring's part of them on every small ring."""

import importlib.util
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest
import z3

from secagg import RoundConfig

PATH = Path(__file__).parents[2] / "specs" / "formal" / "counting_lemma.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("secagg_specs_formal_counting_lemma", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lemmas = _load()
BY_NAME = {lemma.name: lemma for lemma in lemmas.LEMMAS}


def _possible(*claims: z3.BoolRef) -> bool:
    solver = z3.Solver()
    solver.add(*claims)
    return bool(solver.check() == z3.sat)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_lemma_is_true_at_every_size(name: str) -> None:
    assert BY_NAME[name].proved()


@pytest.mark.parametrize("name", BY_NAME)
def test_a_lemma_says_something(name: str) -> None:
    lemma = BY_NAME[name]
    assert _possible(lemma.rule, lemma.facts)
    assert _possible(lemma.facts, lemma.bad)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_lemma_is_tight_at_every_size(name: str) -> None:
    assert _possible(BY_NAME[name].edge)
    assert BY_NAME[name].tight()


def test_the_quorum_of_the_config_is_the_least_that_is_safe() -> None:
    assert lemmas.quorum_is_least()


@pytest.mark.parametrize(
    ("clients", "gamma", "delta"), [(5, 0.2, 0.2), (30, 0.1, 0.1), (100, 0.2, 0.1), (500, 1 / 3, 0.05)]
)
def test_configs_meet_the_rules(clients: int, gamma: float, delta: float) -> None:
    config = RoundConfig.for_cohort(
        clients, length=1, threat_model="active", gamma=gamma, delta=delta, neighbours="complete", cohort=bytes(32)
    )
    values = {
        lemmas.n: config.clients,
        lemmas.colluders: config.colluders,
        lemmas.q: config.quorum,
        lemmas.k: config.neighbours,
        lemmas.t: config.threshold,
        lemmas.t1: config.colluders,
    }
    for name in ("both kinds", "masked against nobody who answers", "quorum"):
        rule = z3.substitute(BY_NAME[name].rule, *((symbol, z3.IntVal(value)) for symbol, value in values.items()))
        assert z3.is_true(z3.simplify(rule))


@pytest.mark.parametrize(("clients", "reach"), lemmas.sizes(11))
def test_a_part_of_a_ring_has_two_empty_windows_or_is_spread_all_over_it(clients: int, reach: int) -> None:
    assert list(islice(lemmas.part_exceptions(clients, reach), 1)) == []


@pytest.mark.parametrize(("clients", "reach"), lemmas.sizes(8))
def test_no_part_of_a_ring_opens(clients: int, reach: int) -> None:
    assert list(islice(lemmas.ring_exceptions(clients, reach), 1)) == []


@pytest.mark.parametrize(
    ("clients", "reach"), [(clients, reach) for clients, reach in lemmas.sizes(8) if 2 * reach < clients - 1]
)
def test_a_part_of_a_ring_opens_when_the_threshold_is_one_less(clients: int, reach: int) -> None:
    assert next(lemmas.ring_exceptions(clients, reach, short=1))


def test_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert lemmas.main() == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(lemmas.LEMMAS) + 3
    assert all(line.startswith("proved  ") for line in printed)
