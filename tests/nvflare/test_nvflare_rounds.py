"""Whole rounds over NVFlare's tasks, with sites in this process: means, dropouts, and what a server sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel

from secagg.adapters.nvflare.payload import KEY, ToServer, in_shareable
from secagg.adapters.nvflare.rounds import SecureRounds
from secagg.adapters.nvflare.tasks import Exchange, JobAbortedError
from secagg.errors import ErrorCode, InputError, ParameterError
from tests.support.bad_dealing import dealing_badly
from tests.support.nvflare_sites import (
    ODD,
    SITES,
    Board,
    InProcessSite,
    Train,
    assert_mean,
    board,
    members,
    model,
    ordinary,
    run,
    settings_of,
    silent,
    steps,
    with_changes,
)

PHASES = ["ADVERTISE", "SHARE", "MASK", "UNMASK"]
LOOSE = {"round_options": {"gamma": 0, "delta": 0.4}}
"""Two of five sites may be lost."""
OTHERS = [name for name in SITES if name != ODD]


def failed(site: InProcessSite, task: str, data: Shareable) -> Shareable:
    return make_reply(ReturnCode.EXECUTION_EXCEPTION)


def garbage(site: InProcessSite, task: str, data: Shareable) -> Shareable:
    return in_shareable(ToServer(b"\xff" * 100))


def no_payload(site: InProcessSite, task: str, data: Shareable) -> Shareable:
    return Shareable({KEY: ["neither bytes nor anything"]})


@pytest.mark.parametrize("train", [ordinary, with_changes], ids=["whole model", "changes"])
def test_the_mean_is_the_plain_mean_and_the_server_sees_nothing_else(tmp_path: Path, train: Train) -> None:
    over, given = board(tmp_path, train), model()
    mean, report = run(over, given, metrics={"loss": 5.0})
    assert_mean(mean, given, SITES)
    assert report.included == tuple(SITES)
    assert (report.contributors, report.clipped, report.dropped, report.blame, report.failure) == (5, 0, {}, (), "")
    assert report.total_weight == sum(map(steps, SITES))
    loss = sum(steps(site) ** 2 / 100 for site in SITES) / report.total_weight
    assert report.metrics["loss"] == pytest.approx(loss, abs=1e-6)
    assert [phase for phase in PHASES for _ in SITES] == over.phases
    for _, _, reply in over.results:
        assert reply.keys() <= {KEY, "__headers__"}, "neither the DXO of the script's result nor anything beside it"
        assert "secret" not in str(reply)


def test_rounds_that_stay_secret_from_quantum_computers(tmp_path: Path) -> None:
    over, given = board(tmp_path, count=3), {"w": np.zeros(6, np.float32)}
    for site in over.sites.values():
        site.write_config(suite="hybrid")
    assert run(over, given)[0] is None, "sites that ask for it refuse other rounds"
    assert run(over, given, round_options={"suite": "hybrid"})[0] is not None


def test_the_sum_of_whole_models_and_without_weights(tmp_path: Path) -> None:
    over, given = board(tmp_path, with_changes, count=3), {"w": np.zeros(6, np.float32)}
    for site in over.sites.values():
        site.write_config(whole_model=True)
    mean, _ = run(over, given, difference=False, max_weight=None)
    assert mean is not None
    assert mean.weight == 3
    each = [with_changes(site, FLModel(params=given)).params["w"] for site in over.sites.values()]
    assert np.abs(mean.arrays["w"] - np.mean(each, axis=0)).max() < 1e-4


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("fate", [silent, failed, garbage, no_payload])
def test_a_site_that_is_lost_in_a_phase_is_left_out(tmp_path: Path, phase: str, fate) -> None:  # type: ignore[no-untyped-def]
    over, given = board(tmp_path, count=4), model()
    over.fates[ODD, phase] = fate
    mean, report = run(over, given, round_options={"gamma": 0, "delta": 0.3})
    there = [site for site in OTHERS if site in over.sites]
    assert_mean(mean, given, there if phase != "UNMASK" else sorted([*there, ODD]))
    assert report.dropped == {phase: (ODD,)}
    assert bool(report.blame) == (fate is garbage)


@pytest.mark.parametrize("holders", [1, 5])
def test_a_site_that_deals_bad_shares_is_named_or_opens_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holders: int
) -> None:
    over, given = board(tmp_path), model()
    dealing_badly(monkeypatch, 4, holders)
    mean, report = run(over, given, round_options={"gamma": 0.2, "delta": 0.2, "complaints": "auto"})
    assert_mean(mean, given, SITES if holders == 1 else SITES[:4])
    assert [entry.code for entry in report.blame] == [ErrorCode.DISPUTED] * (holders > 1)
    assert over.phases.count("ANSWER") == (holders == 1)


def test_too_many_losses_end_the_round_with_its_reason(tmp_path: Path) -> None:
    over, given = board(tmp_path, count=4), model()
    over.fates |= {(site, "MASK"): silent for site in SITES[:2]}
    mean, report = run(over, given, round_options={"gamma": 0, "delta": 0.3})
    assert mean is None
    assert "MASK" in report.failure
    assert report.dropped["MASK"] == tuple(SITES[:2])
    assert over.phases[-2:] == ["ABORTED", "ABORTED"], "those that are left are told to wipe their states"


def test_every_site_that_fails_has_its_reason_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    over = board(tmp_path, count=4)
    over.sites["site-1"].write_config(max_clip=0.5)
    over.sites[ODD].write_config(min_max_weight=1000)
    over.sites["site-3"].write_config(max_clop=0.5)
    mean, report = run(over, {"w": np.zeros(3)})
    assert mean is None
    assert set(report.dropped["ADVERTISE"]) >= {"site-1", ODD, "site-3"}
    assert "has clip 1.0; this client's policy allows" in caplog.text
    assert "has max_weight 100; this client's policy allows 1000" in caplog.text


@pytest.mark.parametrize("lost", ["", "SHARE", "MASK", "CONFIRM", "UNMASK"])
def test_active_rounds(tmp_path: Path, lost: str) -> None:
    over, given = board(tmp_path), model()
    directory = members(tmp_path, over)
    if lost:
        over.fates[ODD, lost] = silent
    options = {"directory": str(directory), "round_options": {"gamma": 0.2, "delta": 0.2}}
    mean, report = run(over, given, threat_model="active", **options)
    assert_mean(mean, given, SITES if lost in ("", "CONFIRM", "UNMASK") else OTHERS)
    assert report.dropped == ({lost: (ODD,)} if lost else {})
    assert sorted(report.sites.values()) == SITES, "each by the name of its own startup kit, whatever its index"


def test_a_member_that_is_not_connected_is_named(tmp_path: Path) -> None:
    over, given = board(tmp_path), model()
    directory = members(tmp_path, over)
    del over.sites[ODD]
    options = {"directory": str(directory), "round_options": {"gamma": 0.2, "delta": 0.2}}
    mean, report = run(over, given, threat_model="active", **options)
    assert_mean(mean, given, OTHERS)
    assert report.dropped == {"ADVERTISE": (ODD,)}


def test_a_site_cannot_speak_for_another_member(tmp_path: Path) -> None:
    over, given = board(tmp_path), model()
    directory = members(tmp_path, over)
    own = Path(over.sites[ODD].workspace.get_site_config_dir(), "identity.json")
    honest = own.read_bytes()
    # Its own key, and the index of another: the claim is not proved, so that it counts for nobody.
    over.fates[ODD, "ADVERTISE"] = lambda site, task, data: in_shareable(
        ToServer(_message(site.handle(task, data)), index=0)
    )
    options = {"directory": str(directory), "round_options": {"gamma": 0.2, "delta": 0.2}}
    mean, report = run(over, given, threat_model="active", **options)
    assert_mean(mean, given, OTHERS)
    assert report.blame == ()
    assert own.read_bytes() == honest


def _message(reply: Shareable) -> bytes:
    from secagg.adapters.nvflare.payload import for_server

    payload = for_server(reply)
    assert payload is not None
    return payload.message


def test_counters_stay_counters_over_rounds(tmp_path: Path) -> None:
    """Their means are floats, and are summed in the next round as in the first: with a wide clip."""
    over, given, rounds = board(tmp_path, count=3), model(), SecureRounds(settings_of())
    for number in range(2):
        mean, _ = run(over, given, number, rounds)
        assert_mean(mean, given, SITES[:3])
        assert mean is not None
        given = dict(mean.arrays)
    assert given["norm.batches"].dtype == np.float64


@pytest.mark.parametrize(
    ("params", "named"),
    [({"w": "text"}, "'w' is a str"), ({}, "must be arrays by name"), ({"w": np.zeros(2, complex)}, "complex")],
)
def test_models_that_cannot_be_summed_are_named(tmp_path: Path, params: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        run(board(tmp_path, count=3), params)  # type: ignore[arg-type]


def test_settings_that_cannot_work_are_named(tmp_path: Path) -> None:
    over = board(tmp_path, count=3)
    for settings, named in (
        ({"max_weight": 10**9}, "max_weight"),
        ({"clips": {"nothing.*": 1.0}}, "nothing"),
        ({"threat_model": "paranoid"}, "paranoid"),
        ({"round_options": {"min_survivors": 7}}, "min_survivors"),
        ({"threat_model": "active"}, "directory|cohort"),
        ({"round_options": {"gama": 0.1}}, "round_options has 'gama'"),
        ({"timeout": 0}, "timeout = 0"),
        ({"train_timeout": -1.0}, "train_timeout = -1.0"),
    ):
        with pytest.raises(ParameterError, match=named):
            run(over, model(), **settings)  # type: ignore[arg-type]
    assert over.phases == [], "nobody was asked for anything"


def test_an_aborted_job_ends_at_once(tmp_path: Path) -> None:
    over, abort = board(tmp_path, count=3), Signal()

    class NobodyAnswers(Board):
        def send(self, task, fl_ctx, targets):  # type: ignore[no-untyped-def]
            self.standing.append(task)
            abort.trigger(True)

    quiet = NobodyAnswers(over.sites)
    exchange = Exchange(quiet, FLContext(), abort)
    with pytest.raises(JobAbortedError):
        list(exchange("secagg", {"site-1": Shareable()}, None))
    assert quiet.standing == [], "the task is taken back"


def test_an_answer_that_comes_too_late_does_not_hold_the_phase(tmp_path: Path) -> None:
    class Quiet(Board):
        def send(self, task, fl_ctx, targets):  # type: ignore[no-untyped-def]
            self.standing.append(task)
            if targets == ["site-1"]:
                self.standing.pop()
                super().send(task, fl_ctx, targets)

    over = Quiet(board(tmp_path, count=2).sites)
    exchange = Exchange(over, FLContext(), Signal())
    data = {name: in_shareable(_invitation()) for name in over.sites}
    assert [site for site, _ in exchange("secagg", data, 0.05)] == ["site-1"]
    assert over.standing == []


def _invitation():  # type: ignore[no-untyped-def]
    from secagg.adapters.nvflare.payload import ToSite

    return ToSite("ADVERTISE", b"no message of the protocol")


def test_what_a_site_says_cannot_pass_for_lines_of_the_servers_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    over = board(tmp_path, count=5)
    over.fates[SITES[1], "ADVERTISE"] = lambda site, task, data: in_shareable(
        ToServer(refused="no\nERROR the mean is wrong" + "!" * 10_000)
    )
    over.fates[SITES[2], "ADVERTISE"] = lambda site, task, data: make_reply(
        "code\nERROR the mean is wrong" + "!" * 10_000
    )
    with caplog.at_level("INFO"):
        run(over, model(), round_options={"gamma": 0, "delta": 0.4})
    said = [record.getMessage() for record in caplog.records if "wrong" in record.getMessage()]
    assert len(said) == 2
    assert not any("\n" in line or len(line) > 500 for line in said)
