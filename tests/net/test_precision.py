"""What ``serve`` and ``join`` keep of numbers, and that they say what they lose."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509

from secagg.cli.sum_report import array_sums, sum_warnings
from secagg.encoding import Exact, Mean
from tests.support.processes import Command, free_port
from tests.support.rounds_of_processes import Start

MEMBERS = 3


def write(folder: Path, **arrays: Any) -> None:
    """Each member's file; a function makes an array of the member's number."""
    for member in range(MEMBERS):
        given = {name: make(member) if callable(make) else make for name, make in arrays.items()}
        np.savez(folder / f"u{member}.npz", **given)


def play(start: Start, serve: tuple[object, ...], *join: object, name: str = "") -> tuple[Command, list[Command]]:
    """A round over plaintext on this machine; everybody ends with a sum."""
    port = free_port()
    plain = ("--insecure-plaintext", "--port", port, "--linger", 30)
    server = start(f"{name}server", "serve", "--clients", MEMBERS, "--dim-from", "u0.npz", "--open", *plain, *serve)
    assert "listening" in server.await_log("listening"), server.errors()
    clients = [
        start(
            f"{name}client{member}",
            *("join", f"ws://localhost:{port}/default", "--insecure-plaintext", "--input", f"u{member}.npz"),
            *("--output", f"o{member}.npz", *join),
        )
        for member in range(MEMBERS)
    ]
    assert [client.wait() for client in clients] == [0, 0, 0], clients[0].errors()
    assert server.wait() == 0, server.errors()
    return server, clients


def test_a_count_is_summed_exactly_without_an_option(start: Start, tmp_path: Path) -> None:
    """With a clip for the weights, the mean of an int64 of 1000 came out as 8, and nobody was told."""
    write(tmp_path, w=np.full(4, 0.01, np.float32), steps=np.int64(1000), seen=np.array([True, False]))
    server, clients = play(start, ("--clip", 8, "--output", "s.npz"), "--mean")
    said = server.errors()
    assert "steps: whole numbers (int64), which are summed exactly from -2147483648 to 2147483648" in said
    assert "give --exact 'steps=LOW..HIGH'" in said
    mean, total = np.load(tmp_path / "o0.npz"), np.load(tmp_path / "s.npz")
    assert mean["steps"] == 1000
    assert mean["steps"].dtype == np.int64
    assert mean["seen"].tolist() == [True, False]
    assert total["steps"] == 3000
    assert total["steps"].dtype == np.int64
    assert total["seen"].tolist() == [3, 0]
    assert "the mean is rounded to the type of your file, int64" in clients[0].errors()


def test_a_count_that_is_clipped_is_told_to_everybody(start: Start, tmp_path: Path) -> None:
    write(tmp_path, steps=lambda member: np.int64(1000 * member))
    server, clients = play(start, ("--clip", "steps=8", "--json"), "--mean", "--json")
    found = server.result()["rounds"][0]
    assert (found["clipped"], found["contributors"], found["weight"]) == (2, 3, 3)
    assert set(found["arrays"]) == {"steps"}
    assert not found["arrays"]["steps"]["exact"]
    assert "over all clients together, 2 values were clipped" in server.errors()
    own = [client.result() for client in clients]
    assert [one["clipped"] for one in own] == [{}, {"steps": 1}, {"steps": 1}]
    assert [one["clipped_by_all"] for one in own] == [2, 2, 2]
    assert [one["contributors"] for one in own] == [3, 3, 3]
    assert "steps: 1 value of yours was beyond the clip, and was clipped" in clients[1].errors()
    assert "of yours" not in clients[0].errors()
    for client in clients:
        assert "over all clients together, 2 values were clipped" in client.errors()


def test_money_is_summed_to_the_cent(start: Start, tmp_path: Path) -> None:
    cents = np.random.default_rng(7).integers(-(10**8), 10**8, (MEMBERS, 50))
    write(tmp_path, cost=lambda member: cents[member] / 100, visits=lambda member: np.float64(member + 1))
    exact = ("--exact", "cost=-1e6..1e6:2", "--exact", "visits=0..1000")
    server, clients = play(start, (*exact, "--output", "s.npz"))
    for name in ("s.npz", "o0.npz", "o2.npz"):
        total = np.load(tmp_path / name)
        assert total["cost"].tolist() == (cents.sum(axis=0) / 100).tolist()
        assert total["visits"] == 6
        assert total["visits"].dtype == np.int64
    for command in (server, clients[0]):
        table = command.out.read_text()
        assert "error at most" in table
        assert table.count("none") == 2
        assert "2 decimals" in table


def test_decimals_that_an_exact_range_has_not_are_told(start: Start, tmp_path: Path) -> None:
    write(tmp_path, cost=lambda member: np.array([1.25 + member]))
    _, clients = play(start, ("--exact", "cost=-100..100:1"))
    assert "cost: it holds values between two multiples of 0.1" in clients[0].errors()


def test_small_arrays_beside_a_wide_clip_are_told(start: Start, tmp_path: Path) -> None:
    """``--clip 1e8`` made a count of 1701 come out as 0."""
    write(tmp_path, count=np.float64(1701), huge=np.float64(9e7))
    server, clients = play(start, ("--clip", 1e8))
    for command in (server, clients[0]):
        assert "count: its largest value is" in command.errors()
        assert "more than a hundredth of it" in command.errors()
    assert "count is hardly in the sum: the largest of your values is 1.7e+03" in clients[0].errors()
    _, clients = play(
        start, ("--clip", 1e8, "--clip", "count=1e4", "--array-bits", "count=28", "--journal", "new.sqlite"), "--again",
        name="again",
    )  # fmt: skip
    assert "hardly" not in clients[0].errors()
    assert "count: " not in clients[0].errors()
    assert abs(np.load(tmp_path / "o0.npz")["count"] - 3 * 1701) < 0.01


# What a client states itself, before it connects.


def layout_file(start: Start, *options: object) -> None:
    command = start("write", "serve", "--dim-from", "u0.npz", "--write-layout", "layout.json", *options)
    assert command.wait() == 0, command.errors()
    assert "members give it to secagg join --layout" in command.errors()


def test_a_check_says_what_would_be_lost_and_connects_to_nothing(start: Start, tmp_path: Path) -> None:
    write(tmp_path, w=np.array([0.1, -3.0]), steps=np.int64(5))
    layout_file(start, "--clip", 1)
    before = {file.name for file in tmp_path.iterdir()}
    with socket.create_server(("localhost", 0)) as listening:
        listening.settimeout(0)
        url = f"wss://localhost:{listening.getsockname()[1]}/default"
        check = start("check", "join", url, "--check", "--input", "u0.npz", "--layout", "layout.json", "--json")
        assert check.wait() == 0, check.errors()
        with pytest.raises(BlockingIOError):
            listening.accept()
    found = check.result()
    assert found["clipped"] == {"w": 1}
    assert found["arrays"]["w"]["largest"] == 3.0
    assert found["arrays"]["steps"] == {"largest": 5.0, "rounding": 0.0, "clipped": 0}
    assert "w: 1 value of yours was beyond the clip" in check.errors()
    assert {file.name for file in tmp_path.iterdir()} - before == {"check.out", "check.log"}, "no state"
    shown = start("shown", "join", "--check", "--input", "u0.npz", "--layout", "layout.json", "--weight", 5)
    assert shown.wait() == 2
    assert "the layout has no weights" in shown.errors()
    shown = start("again", "join", "--check", "--input", "u0.npz")
    assert shown.wait() == 0
    assert "The file has 3 values in 2 arrays." in shown.out.read_text()


def test_a_check_names_the_file_of_another_layout(start: Start, tmp_path: Path) -> None:
    write(tmp_path, w=np.zeros(2))
    layout_file(start, "--clip", 1)
    np.savez(tmp_path / "other.npz", v=np.zeros(2))
    check = start("check", "join", "--check", "--input", "other.npz", "--layout", "layout.json")
    assert check.wait() == 2
    (line,) = check.errors().splitlines()
    assert "other.npz: the input has another layout than the round: it lacks 'w'" in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--refuse-clipped",), "--refuse-clipped: 1 value of w would be clipped; nothing was sent"),
        (("--refuse-above", 2), "w has the absolute value 3, which is above --refuse-above 2; nothing was sent"),
        (("--refuse-above", 100, "--refuse-above", "w=2"), "above --refuse-above 2; nothing was sent"),
        (("--min-clip", 2), "layout.json has clip 1.0; this client's policy allows 2.0"),
    ],
)
def test_a_refusal_by_own_bounds_comes_before_the_first_packet(
    start: Start, tmp_path: Path, options: tuple[object, ...], says: str
) -> None:
    write(tmp_path, w=np.array([0.1, -3.0]))
    layout_file(start, "--clip", 1)
    with socket.create_server(("localhost", 0)) as listening:
        listening.settimeout(0)
        url = f"wss://localhost:{listening.getsockname()[1]}/default"
        join = ("join", url, "--input", "u0.npz", "--output", "o.npz", "--layout", "layout.json")
        refused = start("refused", *join, *options)
        assert refused.wait() == 2
        with pytest.raises(BlockingIOError):
            listening.accept()
    (line,) = refused.errors().splitlines()
    assert says in line
    assert not list(tmp_path.glob("*.state"))


def test_with_an_agreed_layout_the_warning_comes_before_the_round(start: Start, tmp_path: Path) -> None:
    write(tmp_path, w=np.array([0.1, -3.0]))
    layout_file(start, "--clip", 1)
    url = f"wss://localhost:{free_port()}/default"
    join = ("join", url, "--input", "u0.npz", "--output", "o.npz", "--layout", "layout.json", "--give-up-after", 1)
    client = start("client", *join)
    assert client.wait() == 3
    first, *said, last = client.errors().splitlines()
    assert "Warning: w: 1 value of yours was beyond the clip, and was clipped." in first
    (line,) = said  # it has tried several times
    assert "nobody listens at localhost" in line
    assert "the state is kept" in last


def test_a_round_with_the_agreed_layout_and_one_without(start: Start, tmp_path: Path) -> None:
    write(tmp_path, w=np.array([0.1, -0.3]), steps=np.int64(7))
    layout_file(start, "--clip", 1, "--exact", "steps=0..100")
    agreed = ("--clip", 1, "--exact", "steps=0..100")
    play(start, agreed, "--layout", "layout.json")
    assert np.load(tmp_path / "o0.npz")["steps"] == 21
    port = free_port()
    serve = ("serve", "--clients", 3, "--dim-from", "u0.npz", "--open", "--insecure-plaintext", "--port", port)
    start("other", *serve, "--clip", 2, "--exact", "steps=0..100", "--journal", "x.sqlite").await_log("listening")
    join = ("join", f"ws://localhost:{port}/default", "--insecure-plaintext", "--input", "u0.npz")
    client = start("refusing", *join, "--output", "x.npz", "--layout", "layout.json")
    assert client.wait() == 4
    assert "is not the one that was agreed: clip of w 1.0 was agreed, and it is 2.0" in client.errors()
    assert "--layout of secagg join sets what it accepts" in client.errors()


# Across machines.


def test_a_certificate_for_a_stated_name(start: Start, tmp_path: Path) -> None:
    write(tmp_path, w=np.zeros(2))
    port = free_port()
    serve = ("serve", "--clients", 3, "--dim-from", "u0.npz", "--clip", 1, "--open", "--port", port)
    server = start("server", *serve, "--host", "0.0.0.0", "--demo-cert", "tls", "--demo-name", "server.example")
    said = server.await_log("clients run")
    assert f"secagg join wss://server.example:{port}/default --ca server.pem" in said
    assert "a copy of tls/server.pem" in said
    (made,) = x509.load_pem_x509_certificates((tmp_path / "tls" / "server.pem").read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"server.example", "localhost"} <= set(names.get_values_for_type(x509.DNSName))
    server.kill()


@pytest.mark.parametrize(("option", "says"), [("--port", "--host localhost, --port"), ("--monitor-port", "--monitor-")])
def test_a_port_that_is_taken_is_named(start: Start, tmp_path: Path, option: str, says: str) -> None:
    write(tmp_path, w=np.zeros(2))
    with socket.create_server(("localhost", 0)) as listening:
        serve = ("serve", "--clients", 3, "--dim-from", "u0.npz", "--clip", 1, "--open", "--insecure-plaintext")
        server = start("server", *serve, "--port", free_port(), option, listening.getsockname()[1])
        assert server.wait() == 2
    (line,) = [line for line in server.errors().splitlines() if line.startswith("secagg serve: ")]
    assert says in line
    assert "this machine cannot listen there" in line


# The report by itself.


def report_of(totals: Any, values: Any, exact: Exact, *, as_mean: bool = False) -> tuple[Any, list[str]]:
    from secagg.encoding.layout import Layout

    layout = Layout.of({"x": np.shape(values)}, clip=1.0, exact={"x": exact})
    mean = Mean(mean={"x": values}, weight=3, count=3, contributors=3, clipped=0, totals={"x": totals})
    arrays = array_sums({"x": values}, mean, layout, as_mean=as_mean)
    return arrays[0], sum_warnings(arrays, mean)


def test_a_sum_with_more_digits_than_its_file_is_told() -> None:
    exact = Exact(0, 10**12, 2)
    found, warnings = report_of(None, np.array([2.0**50]), exact)
    assert found.error_bound == 2.0**-3
    assert warnings == ["x: the sum has more digits than the file can hold, which has the nearest value"]
    found, warnings = report_of(None, np.array([1.25]), exact)
    assert (found.error_bound, warnings) == (0.0, [])


def test_what_the_type_of_a_mean_loses_is_no_fault_of_the_encoding() -> None:
    found, warnings = report_of(None, np.array([True]), Exact(0, 1), as_mean=True)
    assert found.error_bound == pytest.approx(0.5)
    assert not found.is_coarse
    assert warnings == ["x: the mean is rounded to the type of your file, bool"]
    found, _ = report_of(None, np.array([0.5], np.float16), Exact(0, 1), as_mean=True)
    assert 0.0004 < found.error_bound < 0.0006


def test_what_is_printed_is_json() -> None:
    found, _ = report_of(None, np.zeros((0,)).reshape(0, 1).sum(axis=0), Exact(0, 1))
    assert json.loads(json.dumps(found.as_json())) == {"largest": 0.0, "error_bound": 0.0, "exact": True}
