"""``secagg serve --epsilon`` and ``secagg join --epsilon`` as a user runs them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from secagg import Identity, save_directory
from secagg.cli.app import app
from secagg.privacy.budget import Budget
from tests.support.processes import Command, free_port
from tests.support.rounds_of_processes import Start

SHAPES = {"layer.weight": (8, 4), "layer.bias": (4,)}
PROMISE = ("--epsilon", 8, "--delta", 1e-5)
SERVE = ("serve", "--clients", 4, "--dim-from", "u0.npz", "--clip", 2, "--open", "--demo-cert", "tls")
FOUR = range(4)


def arrays_of(member: int) -> dict[str, Any]:
    rng = np.random.default_rng(member)
    return {name: np.asarray(rng.uniform(-1, 1, shape), dtype=np.float32) for name, shape in SHAPES.items()}


def clipped(member: int) -> dict[str, Any]:
    arrays = arrays_of(member)
    norm = np.sqrt(sum(float((values**2).sum()) for values in arrays.values()))
    return {name: values * min(1.0, 2.0 / norm) for name, values in arrays.items()}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    members = []
    for member in FOUR:
        np.savez(tmp_path / f"u{member}.npz", **arrays_of(member))
        identity = Identity.generate()
        members.append((f"m{member}", identity.public_key))
        content = {"name": f"m{member}", "key": identity.public_key.hex(), "private_key": identity.seed().hex()}
        (tmp_path / f"m{member}.json").write_text(json.dumps(content))
    save_directory(tmp_path / "cohort.json", members)
    np.savez(tmp_path / "counts.npz", **arrays_of(0), visits=np.arange(5))
    return tmp_path


@pytest.fixture
def refuses(files: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command that cannot be carried out; returns its line."""
    monkeypatch.chdir(files)

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 2, (result.stderr, result.exception)
        (line,) = [line for line in result.stderr.splitlines() if line.startswith(f"secagg {arguments[0]}: ")]
        return line

    return run


def join(start: Start, port: int, member: int, *more: object, name: str = "") -> Command:
    url = f"wss://localhost:{port}/default"
    files = ("--input", f"u{member}.npz", "--output", f"sum{member}.npz", "--ca", "tls/server.pem")
    return start(name or f"client {member}", "join", url, *files, *more)


def check_sum(found: Any, noise: float, members: range) -> None:
    for name in SHAPES:
        expected = sum(clipped(member)[name].astype(np.float64) for member in members)
        assert found[name].dtype == np.float64
        assert np.abs(found[name] - expected).max() < 6 * noise


def test_members_sum_their_files_with_a_promise_and_budgets(start: Start, files: Path) -> None:
    port = free_port()
    server = start(
        "server", *SERVE, *PROMISE, "--rounds", 2, "--port", port, "--output", "total.npz", "--budget", "s.budget",
        "--json",
    )  # fmt: skip
    server.await_log("listening")
    clients = [join(start, port, member, *PROMISE, "--budget", f"{member}.budget", "--json") for member in FOUR]
    assert [client.wait() for client in clients] == [0] * 4, clients[0].errors()
    assert server.wait() == 0, server.errors()
    promise = (
        r"Private: epsilon (7\.9\d*|8) at delta 1e-05 over the 2 rounds that a client may be in, for each client's"
    )
    for command in (server, clients[0]):
        assert re.search(promise, command.errors())
        assert "skellam noise of 2 honest clients or more" in command.errors()
        assert "Promised: epsilon" in command.errors()
        assert re.search(
            r"Reached: epsilon \d+(\.\d+)? if all rounds are like this one, with 4 clients in the sum, 1 ",
            command.errors(),
        )
        assert "Share of the coordinates that probably wrapped around" in command.errors()
    assert re.search(r"s\.budget: epsilon \d\.\d+ of 8 at delta 1e-05 is spent, over 1 round\.", server.errors())
    promised = clients[0].errors().index("Private: epsilon")
    assert promised < clients[0].errors().index("joins"), "what is promised is said before anything is sent"
    (round_,) = server.result()["rounds"]
    told = clients[0].result()
    for summary in (round_, told):
        report = summary["privacy"]
        assert report["reached_epsilon"] < report["promised_epsilon"] <= 8.0
        assert report["is_kept"]
        assert (report["contributors"], report["colluders"], report["promised_honest"]) == (4, 1, 2)
        assert report["wrapped_share"] < 0.01
        assert summary["weight"] == 4
        assert summary["arrays"].keys() == SHAPES.keys()
    assert 0 < told["shortened"] < 1
    noise = told["arrays"]["layer.bias"]["noise"]
    assert noise == pytest.approx(round_["noise"] * 4)
    check_sum(np.load(files / "total.npz"), noise, FOUR)
    check_sum(np.load(files / "sum2.npz"), noise, FOUR)
    for name in ("s.budget", *(f"{member}.budget" for member in FOUR)):
        budget = Budget(files / name)
        assert budget.spent().rounds == 1
        assert (budget.spent().limit, budget.spent().delta) == (8.0, 1e-5)
        budget.close()


def test_active_with_weights_and_the_mean(start: Start, files: Path) -> None:
    port = free_port()
    serve = ("serve", "--directory", "cohort.json", "--dim-from", "u0.npz", "--clip", 2, "--demo-cert", "tls")
    server = start(
        "server", *serve, "--port", port, "--epsilon", 10_000, "--delta", 1e-5, "--noise", "discrete-gaussian",
        "--max-weight", 10, "--max-dropout", 0, "--json",
    )  # fmt: skip
    server.await_log("listening")
    trust = ("--directory", "cohort.json", "--private", "--min-noise", 0.001, "--mean", "--json")
    clients = [
        join(start, port, member, "--identity", f"m{member}.json", "--weight", 4 + member, *trust) for member in FOUR
    ]
    assert [client.wait() for client in clients] == [0] * 4, clients[0].errors()
    assert server.wait() == 0
    assert server.result()["rounds"][0]["threat_model"] == "active"
    found = clients[1].result()
    assert found["weight"] == pytest.approx(22, abs=4), "its noise has a standard deviation of 0.6"
    weights = np.arange(4.0, 8.0)
    for name in SHAPES:
        mean = np.load(files / "sum1.npz")[name]
        assert mean.dtype == np.float32
        cut = 15**0.5 / 4  # what the weight leaves of the clip
        each = [clipped(member)[name] * cut for member in FOUR]
        assert np.abs(mean - np.average(each, axis=0, weights=weights)).max() < 6 * found["noise"] + 0.1


def test_noise_in_levels_is_no_more_than_was_promised(start: Start, files: Path) -> None:
    port = free_port()
    server = start("server", *SERVE, *PROMISE, "--levels", 3, "--port", port, "--output", "total.npz", "--json")
    server.await_log("listening")
    picky = join(start, port, 0, "--max-levels", 2, name="picky")
    assert picky.wait() == 4
    assert "has levels 3; this client's policy allows 0 to 2; --max-levels of secagg join sets what" in picky.errors()
    clients = [join(start, port, member, *PROMISE, "--json") for member in FOUR]
    assert [client.wait() for client in clients] == [0] * 4, clients[0].errors()
    assert server.wait() == 0, server.errors()
    (round_,) = server.result()["rounds"]
    for command, summary in ((server, round_), (clients[0], clients[0].result())):
        assert "It is in 3 levels: what the losses do not ask for is taken off again" in command.errors()
        report = summary["privacy"]
        assert (report["contributors"], report["promised_honest"], report["is_kept"]) == (4, 2, True)
        assert 1 <= (report["reached_sigma"] / report["promised_sigma"]) ** 2 <= 1.01, "nobody was lost"
    noise = clients[0].result()["arrays"]["layer.bias"]["noise"]
    assert noise == pytest.approx(round_["noise"] * 4)
    assert noise == pytest.approx(report["reached_sigma"] * np.sqrt(4 / 3), rel=1e-4)
    check_sum(np.load(files / "total.npz"), noise, FOUR)
    check_sum(np.load(files / "sum2.npz"), noise, FOUR)


def test_serve_sizes_the_noise_as_plan_says(start: Start, files: Path) -> None:
    """Also for losses that min_survivors would let be more: each of them would be one less to add noise."""
    shares = ("--gamma", 0.2, "--max-dropout", 0.25, "--clip", 2, "--rounds", 4)
    cohort = ("--clients", 12, *PROMISE, *shares)
    plan = start("plan", "plan", *cohort, "--dim", 36, "--levels", 2, "--json")
    serve = ("serve", "--dim-from", "u0.npz", "--open", "--demo-cert", "tls")
    layout = start("layout", *serve, *cohort, "--levels", 2, "--write-layout", "layout.json", "--json")
    assert (plan.wait(), layout.wait()) == (0, 0), layout.errors()
    terms = json.loads((files / "layout.json").read_text())["terms"]
    planned = plan.result()["privacy"]
    assert (terms["honest"], terms["bits"], terms["levels"]) == (planned["honest"], planned["bits"], 2)
    assert planned["honest"] == 12 - 3 - 2
    assert np.sqrt(terms["variance"]) == planned["client_sigma_steps"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ("--epsilon", 2, "--delta", 1e-5),
            r"costs an epsilon of 7\.\d+ at delta 1e-05 .* allows 2; --epsilon of",
        ),
        (("--min-noise", 50), r"a noise multiplier of 0\.\d+; .* allows 50 or more; --min-noise of secagg join sets"),
        (("--max-clip", 1), r"has clip 2\.0; .*; --min-clip or --max-clip of secagg join sets what it accepts"),
    ],
)
def test_less_than_a_member_asks_for_is_refused_with_exit_code_4(
    start: Start, files: Path, options: tuple[object, ...], says: str
) -> None:
    port = free_port()
    server = start("server", *SERVE, *PROMISE, "--port", port)
    server.await_log("listening")
    command = (
        join(start, port, 0, *options, "--budget", "m.budget")
        if options[0] == "--epsilon"
        else join(start, port, 0, *options)
    )
    assert command.wait() == 4, command.errors()
    (line,) = [line for line in command.errors().splitlines() if line.startswith("secagg join: ")]
    assert re.search(says, line)
    assert "Private: epsilon" not in command.errors(), "nothing was accepted that could be announced"
    if options[0] == "--epsilon":
        budget = Budget(files / "m.budget")
        assert budget.spent().rounds == 0
        budget.close()
    server.kill()


def test_a_round_without_noise_is_refused_by_whoever_asks_for_it(start: Start, files: Path) -> None:
    port = free_port()
    server = start("server", *SERVE, "--port", port)
    server.await_log("listening")
    for number, options in enumerate((PROMISE, ("--private",))):
        command = join(start, port, number, *options)
        assert command.wait() == 4
        assert "the server's layout has no noise; this client's policy allows private rounds alone" in command.errors()
        assert "--epsilon, --private, --min-noise or --budget of secagg join sets what it accepts" in command.errors()
    server.kill()


def test_a_member_whose_budget_is_spent_sends_nothing(start: Start, files: Path) -> None:
    port = free_port()
    server = start("server", *SERVE, *PROMISE, "--port", port, "--log-format", "json")
    server.await_log("listening")
    spent = Budget(files / "spent.budget", epsilon=8.0, delta=1e-5)
    layout = start("layout", *SERVE, *PROMISE, "--write-layout", "layout.json", "--json")
    assert layout.wait() == 0
    terms = json.loads((files / "layout.json").read_text())["terms"]
    from secagg.privacy import PrivacyTerms

    spent.charge(b"an earlier round", PrivacyTerms.from_data(terms).sum)
    spent.close()
    command = join(start, port, 0, *PROMISE, "--budget", "spent.budget")
    assert command.wait() == 4
    (line,) = [line for line in command.errors().splitlines() if line.startswith("secagg join: ")]
    assert "with this round epsilon would be" in line
    assert line.endswith("nothing of this round was sent")
    assert '"arrived": 1' not in server.errors()
    server.kill()


def test_a_server_whose_budget_is_spent_opens_no_port(start: Start, files: Path) -> None:
    command = start("server", *SERVE, *PROMISE, "--round", "a", "--round", "b", "--port", 0, "--budget", "s.budget")
    assert command.wait() == 2
    assert "with this round epsilon would be" in command.errors()
    assert "listening" not in command.errors()
    budget = Budget(files / "s.budget")
    assert budget.spent().rounds == 0
    budget.close()


def test_a_check_says_what_is_promised_and_connects_to_nothing(start: Start, files: Path) -> None:
    written = start("layout", *SERVE, *PROMISE, "--rounds", 3, "--write-layout", "layout.json", "--json")
    assert written.wait() == 0, written.errors()
    assert "Private: epsilon" in written.errors()
    digest = written.result()["digest"]
    check = ("join", "--check", "--input", "u0.npz", "--layout", "layout.json")
    shown = start("shown", *check, *PROMISE)
    assert shown.wait() == 0, shown.errors()
    assert re.search(r"Private: epsilon \d\.\d+ at delta 1e-05 over the 3 rounds", shown.out.read_text())
    assert "They would be sent as 64 masked numbers" in shown.out.read_text()
    assert "your file is longer than the clip (L2 norm), so that 0." in shown.errors()
    as_json = start("json", *check, "--json")
    assert as_json.wait() == 0
    found = as_json.result()
    assert found["digest"] == digest
    assert found["length"] == 64
    assert found["promise"]["epsilon"] <= 8.0
    assert (found["promise"]["honest"], found["promise"]["rounds"], found["promise"]["delta"]) == (2, 3, 1e-5)
    norm = np.sqrt(sum(float((values.astype(float) ** 2).sum()) for values in arrays_of(0).values()))
    assert found["shortened"] == pytest.approx(2.0 / norm)
    refused = start("refused", *check, "--epsilon", 1, "--delta", 1e-5)
    assert refused.wait() == 2
    assert "--layout layout.json costs an epsilon of" in refused.errors()
    clipped_away = start("clipped", *check, "--refuse-clipped")
    assert clipped_away.wait() == 2
    assert "--refuse-clipped: your file would be shortened to 0." in clipped_away.errors()


def test_arrays_of_whole_numbers_are_said_to_be_part_of_the_clip(start: Start, files: Path) -> None:
    serve = ("serve", "--clients", 4, "--dim-from", "counts.npz", "--clip", 2, "--open", "--demo-cert", "tls")
    written = start("layout", *serve, *PROMISE, "--write-layout", "layout.json")
    assert written.wait() == 0
    assert "visits: whole numbers (int64), which are part of the update's one norm" in written.errors()
    assert not [line for line in written.errors().splitlines() if "layer" in line]


def test_a_layout_that_was_agreed_is_the_only_one(start: Start, files: Path) -> None:
    port = free_port()
    other = start("layout", *SERVE, *PROMISE, "--rounds", 5, "--write-layout", "layout.json")
    assert other.wait() == 0
    server = start("server", *SERVE, *PROMISE, "--port", port)
    server.await_log("listening")
    command = join(start, port, 0, "--layout", "layout.json")
    assert command.wait() == 4
    assert "the server's layout is not the one that was agreed: " in command.errors()
    assert "rounds 5 was agreed, and it is 1" in command.errors()
    server.kill()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((*SERVE, "--epsilon", 8), "--delta is missing: an epsilon says nothing without the probability"),
        ((*SERVE, "--epsilon", 8, "--delta", 0.25), "it must be below 1/4, one over the number of clients"),
        ((*SERVE, "--epsilon", 8, "--delta", 0.3), "the share of the clients that may drop out is --max-dropout"),
        ((*SERVE, "--epsilon", 8, "--delta", 0), "delta is 0.0: must be a number from"),
        ((*SERVE, "--epsilon", 0, "--delta", 1e-5), "epsilon is 0.0: must be a number from"),
        ((*SERVE, *PROMISE, "--rounds", 0), "rounds is 0: must be a whole number from 1"),
        ((*SERVE, *PROMISE, "--exact", "layer.bias=0..9"), "--exact 'layer.bias=...': a private round (--epsilon) has"),
        ((*SERVE, *PROMISE, "--array-bits", "layer.bias=9"), "give --bits for all arrays together"),
        ((*SERVE, *PROMISE, "--clip", "layer.bias=9"), "give --clip VALUE for all arrays together, or leave --epsilon"),
        (
            ("serve", "--clients", 4, "--dim-from", "u0.npz", "--open", *PROMISE),
            "--clip is missing: a private round (--epsilon) has one clip, the L2 norm of a whole update",
        ),
        (
            (*SERVE, "--epsilon", 0.5, "--delta", 1e-5, "--rounds", 1000, "--bits", 8),
            "with 8 bits, 4 clients of whom 2 are honest, and 36 coordinates: use 14 bits or more; or allow an",
        ),
        ((*SERVE, *PROMISE, "--gamma", 0, "--min-survivors", 3), "colluders is 0: a private round must count"),
        ((*SERVE, *PROMISE, "--levels", 65), "levels is 65: must be a whole number from 0 to 64"),
        ((*SERVE, "--levels", 2), "--levels 2: it belongs to private rounds; give --epsilon with it"),
        (
            (*SERVE, *PROMISE, "--levels", 2, "--noise", "discrete-gaussian"),
            "levels is 2 and noise 'discrete-gaussian': only 'skellam' noise can be added in levels",
        ),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--max-levels", 65),
            "--max-levels 65: it must be from 0 to 64",
        ),
        ((*SERVE, "--budget", "b"), "--budget b: it is charged for private rounds; give --epsilon"),
        (
            (*SERVE, "--rounds", 3),
            "--rounds 3: it belongs to --epsilon; to host several rounds, give --round NAME more",
        ),
        ((*SERVE, "--delta", 0.1, "--max-dropout", 0.1), "--delta 0.1 and --max-dropout 0.1: without --epsilon, both"),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--epsilon", 1),
            "--delta is missing: an epsilon says nothing without its delta; give it with --epsilon",
        ),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--delta", 1e-6),
            "--epsilon is missing: an epsilon says nothing without its delta; give it with --delta",
        ),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--epsilon", 0, "--delta", 1e-6),
            "--epsilon 0.0: must be above 0",
        ),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--min-noise", -1),
            "--min-noise -1.0: must be above 0",
        ),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--budget", "new.budget"),
            "new.budget: there is no budget yet; give epsilon and delta to make one",
        ),
    ],
)
def test_what_cannot_be_carried_out_is_said_in_one_line(refuses: Any, arguments: tuple[object, ...], says: str) -> None:
    assert says in refuses(*arguments)


def test_a_budget_of_another_promise_is_refused(refuses: Any, files: Path) -> None:
    Budget(files / "b", epsilon=3.0, delta=1e-6).close()
    says = "this budget has epsilon = 3.0, not 8.0, and is not changed once it is made"
    assert says in refuses(*SERVE, *PROMISE, "--port", 0, "--budget", "b")


def test_without_the_accountant_a_promise_cannot_be_made_or_judged(
    refuses: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("secagg.privacy.accounting", "secagg.privacy.calibration", "secagg.privacy.budget"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    says = "dp_accounting is not installed, and this needs it: run pip install '.[privacy]'"
    assert says in refuses(*SERVE, *PROMISE)
    joining = ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz")
    assert says in refuses(*joining, *PROMISE)
    assert says in refuses(*joining, "--budget", "b")


def test_without_the_accountant_a_member_is_told_the_noise(
    start: Start, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from secagg.cli import private_sums

    written = start("layout", *SERVE, *PROMISE, "--write-layout", "layout.json")
    assert written.wait() == 0
    monkeypatch.setattr(private_sums, "find_spec", lambda name: None)
    monkeypatch.chdir(files)
    result = CliRunner().invoke(app, ["join", "--check", "--input", "u0.npz", "--layout", "layout.json"])
    assert result.exit_code == 0, result.stderr
    said = " ".join(result.stdout.split())
    assert "Private. The noise in the sum is 0." in said
    assert "To see the epsilon that this costs, run pip install '.[privacy]' in a checkout" in said
