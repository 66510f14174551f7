"""Scores of clients over the rounds of a service: counted once, kept over restarts, shown as a hint for a person."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from secagg import Identity, ParameterError, Policy, ThreatModel
from secagg.adapters.net.monitor import _ServiceCollector
from secagg.adapters.net.round_spec import RoundSpec
from secagg.adapters.net.score_keeping import ScoreKeeper
from secagg.robust import RoundReport, Scores, report_round
from tests.support.hosting import SHAPES, Hosting, hosting, spec_of
from tests.support.moved_clock import eventually, run

CLIENTS, ATTACKER, ROUNDS = 9, 4, 5
MEMBERS = [Identity.generate() for _ in range(CLIENTS)]
IN_GROUPS = Policy(threat_model=ThreatModel.SEMI_HONEST, gamma=0.0, min_survivors=3, max_groups=3)


def spec(name: str = "default", members: Sequence[Identity] | None = MEMBERS, **options: Any) -> RoundSpec:
    given = {"gamma": 0.0, "version": 2, "groups": 3, "min_survivors": None} | options
    return spec_of(CLIENTS, name=name, identities=members, **given)


async def round_of(host: Hosting, name: str) -> None:
    """Everybody takes part, and the attacker sends something else than the others."""
    rng = np.random.default_rng(int(name))
    honest = [{key: 0.1 + rng.normal(0, 0.01, shape) for key, shape in SHAPES.items()} for _ in MEMBERS]
    honest[ATTACKER] = {key: np.full(shape, -1.5) for key, shape in SHAPES.items()}
    await asyncio.gather(
        *(
            host.member(n, name=name, arrays=honest[n], policy=IN_GROUPS, identity=MEMBERS[n]).run()
            for n in range(CLIENTS)
        )
    )


def test_an_attacker_comes_to_the_top_and_every_round_counts_once(tmp_path: Path, tls_folder: Path) -> None:
    names = [str(number) for number in range(1, ROUNDS + 1)]

    async def test() -> None:
        with closing(ScoreKeeper(tmp_path / "scores", tmp_path / "scores.html")) as keeper:
            async with hosting([spec(names[0])], tmp_path, tls_folder, scores=keeper) as host:
                for name in names:
                    if name not in host.service.rounds:
                        await host.service.host(spec(name))
                    await round_of(host, name)
                    await eventually(lambda name=name: keeper.scores.rounds == int(name))  # type: ignore[misc]
                shown = host.service.status()["scores"]
            assert shown["rounds"] == ROUNDS
            assert shown["clients"] == CLIENTS
            key = MEMBERS[ATTACKER].public_key.hex()
            assert shown["highest"][0]["client"] == key
            page = tmp_path / "scores.html"
            assert key in page.read_text()
            assert stat.S_IMODE(page.stat().st_mode) == stat.S_IMODE((tmp_path / "scores").stat().st_mode) == 0o600
        # Started again, with the same file: the journal has the rounds, and none of them counts a second time.
        with closing(ScoreKeeper(tmp_path / "scores")) as keeper:
            async with hosting([spec(name) for name in names], tmp_path, tls_folder, scores=keeper) as host:
                assert host.service.status()["scores"] == shown
                assert len(host.hosted("1").group_anomalies) == 3
        # With a new file, as after a crash between a round's end and its count.
        with closing(ScoreKeeper()) as keeper:
            async with hosting([spec(name) for name in names], tmp_path, tls_folder, scores=keeper) as host:
                assert host.service.status()["scores"] == shown

    run(test)


def test_a_file_that_cannot_be_written_costs_no_sum(
    tmp_path: Path, tls_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        with closing(ScoreKeeper(tmp_path / "scores")) as keeper:
            with closing(sqlite3.connect(tmp_path / "scores")) as broken:
                broken.execute("DROP TABLE counted")
                broken.commit()
            async with hosting([spec("1")], tmp_path, tls_folder, scores=keeper) as host:
                await round_of(host, "1")
                await eventually(lambda: any(record.message == "scores" for record in caplog.records))
                assert len(host.hosted("1").group_anomalies) == 3
                assert keeper.scores.rounds == 0

    run(test)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda: spec(members=None), "give the round a directory"),
        (lambda: spec(groups=1), "this round has none"),
    ],
)
def test_rounds_that_give_no_scores_are_refused(tmp_path: Path, tls_folder: Path, given: Any, says: str) -> None:
    async def test() -> None:
        with pytest.raises(ParameterError, match=says):
            async with hosting([given()], tmp_path, tls_folder, scores=ScoreKeeper()):
                raise AssertionError("it listens")

    run(test)


def a_report(clients: int, far: int) -> RoundReport:
    """Groups of three in the order of the clients; the one of ``far`` lies apart."""
    members = [list(range(first, first + 3)) for first in range(0, clients, 3)]
    means = [[5.0 if far in group else number / 100] for number, group in enumerate(members)]
    return report_round(np.array(means), members)


def test_the_page_and_the_metrics_have_the_highest_scores_alone(tmp_path: Path) -> None:
    many = [Identity.generate() for _ in range(60)]
    names = tuple(f"member {number}" for number in range(60))
    made = spec_of(60, identities=many, gamma=0.0, version=2, groups=20, min_survivors=None)
    named = RoundSpec(
        name="default", config=made.config, layout=made.layout, keys=made.keys, names=names, directory=made.directory
    )
    with closing(ScoreKeeper()) as keeper:
        keeper.add(named, b"first", a_report(60, 7))
        assert keeper.shown() == {"rounds": 1, "clients": 60, "highest": []}  # one round says nothing of a client
        keeper.add(named, b"first", a_report(60, 7))
        assert keeper.scores.rounds == 1
        keeper.add(named, b"second", a_report(60, 8))
        shown = keeper.shown()
        assert len(shown["highest"]) == 20
        assert {one["client"] for one in shown["highest"][:3]} == {"member 6", "member 7", "member 8"}
        json.dumps(shown, allow_nan=False)
        expected = Scores()
        for far in (7, 8):
            expected.add(a_report(60, far), names)
        assert keeper.scores.ranking() == expected.ranking()
        status = {
            **dict.fromkeys(("connections", "logging_in", "logged_in", "logins", "received_bytes"), 0),
            "journal_commits": 0,
            "refused": {},
            "rounds": [],
            "workers": None,
            "scores": shown,
        }
        registry = CollectorRegistry()
        registry.register(_ServiceCollector(lambda: status))
        series = [sample for metric in registry.collect() for sample in metric.samples]
        assert sum(sample.name == "secagg_client_score" for sample in series) == 20
        top = shown["highest"][0]
        assert registry.get_sample_value("secagg_client_score", {"client": top["client"]}) == top["score"]
        assert registry.get_sample_value("secagg_client_score_excess", {"client": top["client"]}) == top["excess"]
        assert registry.get_sample_value("secagg_scored_rounds") == 2


def test_two_processes_add_to_one_file(tmp_path: Path) -> None:
    with closing(ScoreKeeper(tmp_path / "s")) as one, closing(ScoreKeeper(tmp_path / "s")) as other:
        one.add(spec(), b"first", a_report(CLIENTS, 4))
        other.add(spec(), b"second", a_report(CLIENTS, 5))
        assert other.scores.rounds == 2
        one.add(spec(), b"second", a_report(CLIENTS, 5))
        assert one.scores.rounds == 2
        assert one.scores.ranking() == other.scores.ranking()


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, but some words that are longer than a header of SQLite" * 10)
    with pytest.raises(ParameterError, match="not a file of scores"):
        ScoreKeeper(tmp_path / "text")
    with closing(ScoreKeeper(tmp_path / "s")) as keeper:
        keeper.add(spec(), b"first", a_report(CLIENTS, 4))
    with closing(sqlite3.connect(tmp_path / "s")) as broken:
        broken.execute("UPDATE scores SET state = ?", (b"{}",))
        broken.commit()
    with pytest.raises(ParameterError, match="this is no state of scores"):
        ScoreKeeper(tmp_path / "s")
