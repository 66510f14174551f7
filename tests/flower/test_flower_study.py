"""A study over Flower's messages: real ClientApps answer for sites, and what is released is the pooled result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from secagg.adapters.flower import STUDY_ACTION, StudyNode, run_study
from secagg.adapters.flower.records import ANNOUNCEMENT, RECORD
from secagg.errors import DisclosureError, ErrorCode, InputError, ParameterError, PeerError
from secagg.pairwise.server.machine import Server
from secagg.privacy.budget import Budget, BudgetExceededError
from secagg.statistics import Chunk, Ledger, Site, SitePolicy, Study
from tests.support.cheating_site import cheat
from tests.support.flower_grid import MemoryGrid
from tests.support.flower_setup import members

TOML = """
name = "Ages"
[columns.age]
type = "number"
min = 0
max = 120
decimals = 1
[methods.basic]
method = "describe"
of = ["age"]
"""
STUDY = Study.from_toml(TOML)
NODES = 5
ROOT = Path(__file__).parents[2]
ODD = 103


def ages(node: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(node).uniform(0, 100, 20 + node % 7).round(1)


class Records:
    """The records of one node."""

    def __init__(self, node: int) -> None:
        self.values = ages(node)

    def chunks(self) -> Iterator[Chunk]:
        yield Chunk({"age": self.values}, self.values.size)


class Unfit:
    """Data that the study's range refuses."""

    def chunks(self) -> Iterator[Chunk]:
        raise InputError("age: 1 value is beyond 120: it is 4711")


def grid_of(**options: Any) -> MemoryGrid:
    return grid_for(StudyNode(lambda context: Site(STUDY, Records(context.node_id)), **options))


def grid_for(answers: StudyNode) -> MemoryGrid:
    app = ClientApp()
    app.query(STUDY_ACTION)(answers)
    return MemoryGrid(app, NODES)


def assert_pooled(values: Any, nodes: list[int]) -> None:
    pooled = np.concatenate([ages(node) for node in nodes])
    assert values["count"] == pooled.size
    assert values["mean"] == pytest.approx(pooled.mean(), rel=1e-12)
    assert values["variance"] == pytest.approx(pooled.var(ddof=1), rel=1e-9)


def test_a_study_of_two_rounds_over_a_grid() -> None:
    grid = grid_of()
    found = run_study(STUDY, grid)
    assert_pooled(found.methods["basic"].result.values["age"], grid.nodes)
    assert found.methods["basic"].sites == tuple(map(str, grid.nodes))
    assert [one.asked["basic"] for one in found.rounds] == ["sums", "squares"]


@pytest.mark.parametrize("phase", ["ADVERTISE", "MASK", "UNMASK"])
def test_a_node_that_goes_silent_does_not_end_the_study(phase: str) -> None:
    grid = grid_of()
    grid.mute = {(phase, ODD)}
    found = run_study(STUDY, grid, gamma=0.0, delta=0.25)
    left = [node for node in grid.nodes if node != ODD or phase == "UNMASK"]
    assert_pooled(found.methods["basic"].result.values["age"], left)


def test_in_active_the_members_have_their_directorys_names(tmp_path: Path) -> None:
    directory = members(tmp_path, NODES)
    grid = grid_of(
        identity=lambda context: tmp_path / f"{context.node_id}.json",
        directory=directory,
        tokens=lambda context: tmp_path / f"{context.node_id}.sqlite",
    )
    found = run_study(STUDY, grid, threat_model="active", directory=directory, gamma=0.2, delta=0.0)
    assert_pooled(found.methods["basic"].result.values["age"], grid.nodes)
    assert sorted(found.methods["basic"].sites) == sorted(map(str, grid.nodes))


def test_ledgers_withhold_what_opens_a_sum_that_lays_one_bare(tmp_path: Path) -> None:
    """All nodes are asked, and then all but one: nobody reveals a share, so that the server has no second sum."""
    directory = members(tmp_path, NODES)
    grid = grid_of(
        identity=lambda context: tmp_path / f"{context.node_id}.json",
        directory=directory,
        tokens=lambda context: tmp_path / f"{context.node_id}.sqlite",
        ledger=lambda context: Ledger(tmp_path / f"ledger-{context.node_id}.sqlite"),
    )
    options: dict[str, Any] = {"threat_model": "active", "directory": directory, "gamma": 0.2, "delta": 0.2}
    assert_pooled(run_study(STUDY, grid, **options).methods["basic"].result.values["age"], grid.nodes)
    grid.mute = {("MASK", ODD)}
    grid.sent.clear()
    again = run_study(STUDY, grid, **options)
    assert again.rounds == ()
    assert again.failed_rounds == 3
    for node in grid.nodes:
        ledger = Ledger(tmp_path / f"ledger-{node}.sqlite")
        assert {len(entry.organisations) for entry in ledger.entries()} == {NODES}
        ledger.close()


def test_a_ledger_needs_names(tmp_path: Path) -> None:
    grid = grid_of(ledger=lambda context: Ledger(tmp_path / f"{context.node_id}.sqlite"))
    assert run_study(STUDY, grid).failed_rounds == 3
    errors = [str(reply.error.reason) for _, reply in grid.replies if reply.has_error()]
    assert errors
    assert all("cannot tell organisations apart" in error for error in errors)


def test_a_site_whose_data_do_not_fit_stays_away_and_says_why_to_nobody_else() -> None:
    grid = grid_for(
        StudyNode(lambda context: Site(STUDY, Unfit() if context.node_id == ODD else Records(context.node_id)))
    )
    found = run_study(STUDY, grid, gamma=0.0, delta=0.25)
    assert_pooled(found.methods["basic"].result.values["age"], [node for node in grid.nodes if node != ODD])
    errors = [reply.error.reason for _, reply in grid.replies if reply.has_error()]
    assert set(errors) == {"this site does not take part in the study"}
    assert not any("4711" in str(reason) for reason in errors)


def test_what_is_wrong_with_a_file_stays_at_its_node() -> None:
    def site(context: Context) -> Site:
        if context.node_id == ODD:
            raise InputError("patients.csv: there is no column 'age'; there are name, address")
        return Site(STUDY, Records(context.node_id))

    grid = grid_for(StudyNode(site))
    found = run_study(STUDY, grid, gamma=0.0, delta=0.25)
    assert len(found.methods["basic"].sites) == NODES - 1
    errors = {reply.error.reason for _, reply in grid.replies if reply.has_error()}
    assert errors == {"this site does not take part in the study"}


def test_a_site_whose_data_change_in_a_round_leaves_it() -> None:
    asked: list[int] = []

    def site(context: Context) -> Site:
        asked.append(context.node_id)
        changed = context.node_id == ODD and asked.count(ODD) > 2
        return Site(STUDY, Unfit() if changed else Records(context.node_id))

    grid = grid_for(StudyNode(site))
    found = run_study(STUDY, grid, gamma=0.0, delta=0.25)
    assert_pooled(found.methods["basic"].result.values["age"], [node for node in grid.nodes if node != ODD])


def test_a_node_that_leaves_alone_between_rounds_ends_the_study() -> None:
    """The sums with it and without it would together be its own; a round takes four messages."""
    asked: list[int] = []

    def site(context: Context) -> Site:
        asked.append(context.node_id)
        changed = context.node_id == ODD and asked.count(ODD) > 4
        return Site(STUDY, Unfit() if changed else Records(context.node_id))

    found = run_study(STUDY, grid_for(StudyNode(site)), gamma=0.0, delta=0.25)
    assert [len(one.sites) for one in found.rounds] == [NODES]
    assert f"tell of {ODD} alone" in found.methods["basic"].result.withheld


def test_a_study_ends_with_what_it_has_when_too_few_nodes_are_left() -> None:
    """Three of five leave together, so that the two that stay may be summed, and are too few."""
    grid = grid_of()

    class Leaving(MemoryGrid):
        def get_node_ids(self) -> list[int]:
            return self.nodes if not self.sent else self.nodes[:2]

    found = run_study(STUDY, Leaving(grid.app, NODES))
    assert [len(one.sites) for one in found.rounds] == [NODES]
    assert "it was not finished after 1 round" in found.methods["basic"].result.withheld


@pytest.mark.parametrize("last", [1, 9])
def test_a_node_that_sends_what_no_site_makes_costs_a_round_and_at_last_the_study(
    monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    cheat(monkeypatch, last)
    grid = grid_of()
    found = run_study(STUDY, grid)
    if last == 1:
        assert found.failed_rounds == 1
        assert_pooled(found.methods["basic"].result.values["age"], grid.nodes)
    else:
        assert (found.failed_rounds, found.rounds) == (3, ())
        assert "a site sent what no site makes" in found.methods["basic"].result.withheld


def test_a_node_that_dealt_bad_shares_costs_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come to light when the sum is computed, where the server raises."""
    honest, met = Server.compute, list[Server]()

    def compute(server: Server) -> Any:
        met.append(server)
        if len(met) == 1:
            raise PeerError(ErrorCode.BAD_SHARE, "the shares of one client are bad")
        return honest(server)

    monkeypatch.setattr(Server, "compute", compute)
    grid = grid_of()
    found = run_study(STUDY, grid)
    assert found.failed_rounds == 1
    assert_pooled(found.methods["basic"].result.values["age"], grid.nodes)


def test_a_policys_refusal_stays_at_its_node() -> None:
    def site(context: Context) -> Site:
        own = SitePolicy(columns=("*",), methods=("*",), min_records=4711) if context.node_id == ODD else None
        return Site(STUDY, Records(context.node_id), policy=own)

    grid = grid_for(StudyNode(site))
    found = run_study(STUDY, grid, gamma=0.0, delta=0.25)
    assert len(found.methods["basic"].sites) == NODES - 1
    errors = {reply.error.reason for _, reply in grid.replies if reply.has_error()}
    assert errors == {"this site does not take part in the study"}


def test_a_question_of_another_study_is_answered_by_nobody() -> None:
    grid = grid_of()
    other = Study.from_toml(TOML.replace("max = 120", "max = 121"))
    found = run_study(other, grid)
    assert found.methods["basic"].result.withheld.startswith("no round of it was completed: 3 rounds in a row failed")
    assert found.failed_rounds == 3
    assert {phase for phase, _ in grid.sent} == {"ADVERTISE"}


def test_a_question_that_is_not_what_the_round_sums_is_refused() -> None:
    grid = grid_of()

    def another_number(phase: str, message: Message) -> Message:
        record = message.content.config_records[RECORD]
        if ANNOUNCEMENT in record:
            record[ANNOUNCEMENT] = bytes(record[ANNOUNCEMENT]).replace(b'"number":1', b'"number":7')  # type: ignore[arg-type]
        return message

    grid.tamper_in = another_number
    assert run_study(STUDY, grid).failed_rounds == 1, "the second question has another number, and is left alone"


def test_too_few_nodes_for_the_study_are_not_asked() -> None:
    grid = grid_of()
    with pytest.raises(ParameterError):
        run_study(STUDY, grid, nodes=grid.nodes[:2])
    assert grid.sent == []


def test_messages_that_are_none_of_the_protocol_are_refused() -> None:
    grid = grid_of()
    reply = grid.run(Message(RecordDict(), dst_node_id=ODD, message_type=f"query.{STUDY_ACTION}"))
    assert "not in" in str(reply.error.reason)


def test_the_example_answers_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples" / "statistics")
    monkeypatch.syspath_prepend(ROOT / "examples" / "flower-statistics")
    for number in range(NODES):
        import_module("make_data").write_hospital(tmp_path / f"hospital-{number + 1}.csv", number)
    grid = MemoryGrid(import_module("statistics_app.client_app").app, NODES, {"data": str(tmp_path)})
    context = Context(1, 0, {}, RecordDict(), {"nodes": NODES, "report": str(tmp_path / "report")})
    import_module("statistics_app.server_app").app(grid, context)
    results = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))
    pooled = pd.concat(pd.read_csv(tmp_path / f"hospital-{number + 1}.csv") for number in range(NODES))
    assert results["methods"]["pressure"]["records"] == len(pooled)
    groups = results["methods"]["quartiles"]["values"]["groups"]
    for level, group in pooled.groupby("smoker")["pressure"]:
        median = group.quantile(0.5, interpolation="lower")
        assert groups[level]["quantiles"]["0.5"]["value"] == pytest.approx(median, abs=1)


NOISY = Study.from_toml(TOML + "[noise]\nepsilon = 1.0\ndelta = 1e-6\n")


def test_with_noise_each_round_is_charged_on_both_sides(tmp_path: Path) -> None:
    def own(context: Context) -> Path:
        path = tmp_path / f"{context.node_id}.budget"
        if not path.exists():
            Budget(path, epsilon=1.2, delta=1e-6).close()
        return path

    grid = grid_for(StudyNode(lambda context: Site(NOISY, Records(context.node_id)), budget=own))
    budget = Budget(":memory:", epsilon=3.0, delta=1e-6)
    found = run_study(NOISY, grid, budget=budget)
    basic = found.methods["basic"]
    values, pooled = basic.result.values["age"], np.concatenate([ages(node) for node in grid.nodes])
    assert (values["count"], values["sum"]) != (pooled.size, pytest.approx(pooled.sum()))
    assert abs(values["count"] - pooled.size) < 10 * basic.noise["count_age"]
    assert found.privacy is not None
    assert found.privacy.reached < 1
    assert budget.spent().rounds == 2
    for node in grid.nodes:
        at_node = Budget(tmp_path / f"{node}.budget")
        assert (at_node.spent().rounds, at_node.spent().epsilon) == (2, budget.spent().epsilon)
        at_node.close()
    again = run_study(NOISY, grid, budget=budget)  # no node has room for it
    assert again.rounds == ()
    budget.close()
    small = Budget(":memory:", epsilon=0.9, delta=1e-6)
    with pytest.raises(BudgetExceededError, match="may have 2 rounds, and there is room for 1"):
        run_study(NOISY, grid, budget=small)
    small.close()


@pytest.mark.parametrize("noisy", [False, True])
def test_a_node_with_a_budget_is_in_studies_with_noise_alone_and_no_other_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, noisy: bool
) -> None:
    asked = NOISY if noisy else STUDY
    if not noisy:
        Budget(tmp_path / "own.budget", epsilon=1.2, delta=1e-6).close()
    site = Site(asked, Records(1))
    grid = grid_for(StudyNode(lambda context: site, budget=None if noisy else tmp_path / "own.budget"))
    assert run_study(asked, grid).rounds == ()
    said = "this node has no budget: give the path" if noisy else "it has a budget, and the study has no noise"
    assert said in caplog.text


def test_a_servers_budget_is_for_studies_with_noise() -> None:
    budget = Budget(":memory:", epsilon=3.0, delta=1e-6)
    with pytest.raises(DisclosureError, match="the study has no noise"):
        run_study(STUDY, grid_of(), budget=budget)
    budget.close()
