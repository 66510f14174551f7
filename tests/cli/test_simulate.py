"""``secagg simulate``: whole rounds, and what is said about them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from secagg import Encoder, ParameterError
from secagg.cli import simulate as command
from secagg.cli.dropout import parse_rates, schedule
from secagg.cli.inputs import EncodedInputs, synthetic
from secagg.cli.layout_options import LayoutOptions
from secagg.pairwise.phases import WITHOUT_COMPLAINTS
from secagg.simulation import Faults

KEYS = {
    "ok", "exact", "abort", "clients", "dim", "ring_bits", "graph", "neighbours", "threshold", "included", "dropped",
    "dropped_in", "phases", "client_cpu_s", "encode_s", "server_cpu_s", "client_floor_s", "server_floor_s",
    "upload_bytes", "download_bytes", "peak_rss_bytes", "compile_s", "max_error", "error_bound", "clipped", "arrays",
    "exact_sums", "output", "warnings", "security", "versions", "groups", "carrier", "complaints",
}  # fmt: skip
SECURITY = {
    "threat", "gamma", "delta", "colluders", "dropouts", "sigma", "privacy_log2", "connectivity_log2",
    "correctness_log2",
}  # fmt: skip
VERSIONS = {"secagg", "python", "numpy", "numba", "cryptography", "pynacl", "msgspec"}


def check_ids(found):
    assert not set(found["included"]) & set(found["dropped"])
    assert sorted(found["included"] + found["dropped"]) == list(range(found["clients"]))
    gone = found["dropped_in"]
    assert sorted(gone["ADVERTISE"] + gone["SHARE"] + gone["MASK"]) == found["dropped"]
    assert set(gone["CONFIRM"] + gone["UNMASK"]) <= set(found["included"])


# A round.


@pytest.mark.parametrize("more", [(), ("--full", 5), ("--threat", "active"), ("--groups", 2, "--gamma", 0.05)])
def test_envelopes_carry_the_vectors(invoke_json, more):
    given = ("simulate", "--clients", 14, "--dim", 300, "--seed", 3, "--dropout", 0.1)
    code, found = invoke_json(*given, "--carrier", "lattice", *more)
    assert (code, found["ok"], found["exact"], found["carrier"]) == (0, True, True, "lattice")
    assert len(found["included"]) == 13
    plain = invoke_json(*given, *more)[1]
    assert plain["carrier"] == "masks"
    assert plain["upload_bytes"] + 4096 < found["upload_bytes"]
    assert invoke_json(*given, "--carrier", "auto", *more)[1]["carrier"] in ("masks", "lattice")


def test_a_private_sum_comes_in_envelopes(invoke_json):
    code, found = invoke_json(
        "simulate", "--clients", 30, "--dim", 200, "--seed", 3, "--epsilon", 8, "--delta", 1e-6, "--carrier", "lattice"
    )
    assert (code, found["ok"], found["carrier"]) == (0, True, "lattice")


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--full", 5),
        ("--threat", "active", "--full", 5),
        ("--carrier", "lattice"),
        ("--suite", "hybrid", "--full", 5),
    ],
)
def test_clients_complain_about_nobody(invoke_json, more):
    code, found = invoke_json(
        "simulate", "--clients", 14, "--dim", 30, "--seed", 3, "--dropout", "complain=.1", "--complaints", *more
    )
    assert (code, found["ok"], found["exact"], len(found["included"])) == (0, True, True, 13)
    assert found["dropped_in"]["COMPLAIN"] == found["dropped"]
    sent = {phase: cost["bytes_up"] for phase, cost in found["phases"].items()}
    assert (sent["COMPLAIN"], sent["ANSWER"]) == (41, 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--complaints", "auto"), ", and --complaints takes no value: give it without auto"),
        (("--private", "auto"), ", and --private takes no value: give it without auto"),
        (("--json", "auto", "--complaints"), ", and --complaints and --json take no value: give them without auto"),
        (("auto",), ""),
    ],
)
def test_a_word_behind_a_flag_is_no_file(invoke, arguments, told):
    refused = invoke("simulate", "--clients", 14, *arguments)
    assert refused.exit_code == 2
    assert refused.stderr.startswith(
        "secagg simulate: auto: there is no such file. A word that belongs to no option is the name of an input file"
        + told
    )


@pytest.mark.parametrize("full", [(), ("--full", 5)])
def test_groups_are_opened_and_some_left_out(invoke_json, full):
    code, found = invoke_json(
        "simulate", "--clients", 40, "--dim", 50, "--gamma", 0.05, "--groups", 8, "--seed", 3, "--dropout", 0.3, *full
    )
    assert (code, found["ok"], found["graph"]) == (0, True, "groups")
    groups = found["groups"]
    left_out = {int(number) for number in groups["left_out"]}
    assert left_out
    assert left_out | set(groups["opened"]) == set(range(8))
    assert len(found["included"]) >= len(groups["opened"]) * groups["min_group"]
    assert all("could go on" in reason for reason in groups["left_out"].values())


@pytest.mark.parametrize("threat", ["semi_honest", "active"])
def test_the_keys_are_exactly_these(invoke_json, threat):
    code, found = invoke_json("simulate", "--clients", 11, "--dim", 50, "--dropout", 0.1, "--threat", threat)
    assert code == 0
    assert set(found) == KEYS
    assert tuple(found["phases"]) == tuple(found["dropped_in"]) == WITHOUT_COMPLAINTS
    for phase, cost in found["phases"].items():
        assert set(cost) == {"client_cpu_s", "server_cpu_s", "bytes_up", "bytes_down"}
        assert set(cost["client_cpu_s"]) == {"median", "max"}
        here = phase != "CONFIRM" or threat == "active"
        assert (cost["bytes_up"] > 0) is (cost["bytes_down"] > 0) is (cost["server_cpu_s"] > 0) is here
        assert (cost["client_cpu_s"]["max"] >= cost["client_cpu_s"]["median"] > 0) is here
    assert set(found["security"]) == SECURITY
    assert found["security"]["threat"] == threat
    assert set(found["versions"]) == VERSIONS
    assert found["complaints"] is None


def test_a_round_with_dropouts_is_exact(invoke_json):
    code, found = invoke_json("simulate", "--clients", 29, "--dim", 300, "--dropout", 0.1)
    assert code == 0
    assert (found["ok"], found["exact"], found["abort"]) == (True, True, None)
    assert (found["clients"], found["dim"]) == (29, 300)
    assert found["ring_bits"] == (29 * 2 * (2**15 - 1)).bit_length()
    assert len(found["dropped"]) == len(found["dropped_in"]["MASK"]) == 2  # floor(2.9)
    check_ids(found)
    assert found["security"]["delta"] == 0.1
    assert found["upload_bytes"] == sum(cost["bytes_up"] for cost in found["phases"].values())
    assert found["download_bytes"] == sum(cost["bytes_down"] for cost in found["phases"].values())
    for figure in ("client_cpu_s", "server_cpu_s", "client_floor_s", "server_floor_s", "encode_s"):
        assert found[figure] > 0, figure
    assert found["client_cpu_s"] > found["client_floor_s"] / 2
    assert 10**6 < found["peak_rss_bytes"] < 10**11


@pytest.mark.parametrize(
    ("threat", "dropout", "lost"),
    [
        ("semi_honest", "advertise=.05,share=.1,mask=.05,unmask=.1", (1, 2, 1, 0, 2)),
        ("active", "advertise=.05,share=.05,mask=.1,confirm=.05,unmask=.05", (1, 1, 2, 1, 1)),
        ("semi_honest", "UNMASK=0.3", (0, 0, 0, 0, 6)),
    ],
)
def test_clients_are_lost_in_the_phases_asked_for(invoke_json, threat, dropout, lost):
    code, found = invoke_json("simulate", "--clients", 20, "--dim", 20, "--dropout", dropout, "--threat", threat)
    assert code == 0
    assert tuple(len(members) for members in found["dropped_in"].values()) == lost
    check_ids(found)


@pytest.mark.parametrize(("neighbours", "graph", "degree"), [("complete", "complete", 19), (14, "sparse", 14)])
def test_the_graph_asked_for(invoke_json, neighbours, graph, degree):
    code, found = invoke_json("simulate", "--clients", 20, "--dim", 5, "--neighbours", neighbours, "--gamma", 0.1)
    assert code == 0
    assert (found["graph"], found["neighbours"]) == (graph, degree)
    assert found["security"]["gamma"] == 0.1
    if graph == "complete":
        assert found["security"]["privacy_log2"] is None  # minus infinity


@pytest.mark.parametrize(("bits", "suite"), [(2, "aes-128"), (32, "aes-256"), (16, "hybrid")])
def test_bits_and_suite(invoke_json, bits, suite):
    code, found = invoke_json("simulate", "--clients", 6, "--dim", 40, "--bits", bits, "--suite", suite)
    assert code == 0
    assert found["ring_bits"] == (6 * 2 * (2 ** (bits - 1) - 1)).bit_length()
    bound = Encoder(np.zeros(40), clip=1.0, bits=bits).error_bound(6)
    assert bound / 100 < found["max_error"] <= bound


def test_the_table_says_what_matters(invoke):
    shown = invoke("simulate", "--clients", 20, "--dim", 40, "--dropout", 0.1, "--seed", 5)
    text = " ".join(shown.stdout.split())
    assert shown.exit_code == 0
    assert "the sum is exact" in text
    assert "assumes that dropouts do not depend on the neighbour graph" in text
    assert "seed 5: for tests only" in text
    assert "times the floor" in text


def test_active_rests_on_no_such_supposition(invoke):
    shown = invoke("simulate", "--clients", 9, "--dim", 40, "--threat", "active")
    assert shown.exit_code == 0
    assert "CONFIRM" in shown.stdout
    assert "do not depend" not in " ".join(shown.stdout.split())


# Seeds.


def test_a_seed_repeats_the_round(invoke_json):
    def drawn(seed):
        _, found = invoke_json("simulate", "--clients", 40, "--dim", 30, "--dropout", 0.2, "--seed", seed)
        return found["dropped"], found["max_error"]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize("threat", ["semi_honest", "active"])
def test_a_seed_is_that_of_everybodys_randomness(invoke, monkeypatch, threat):
    transcripts = []
    honest = command.run_simulation

    def remembers(*arguments, **options):
        outcome = honest(*arguments, **options)
        transcripts.append(outcome.result.transcript_digest)
        return outcome

    monkeypatch.setattr(command, "run_simulation", remembers)
    for seed in ((), (), ("--seed", 1), ("--seed", 1), ("--seed", 2)):
        invoke("simulate", "--clients", 5, "--dim", 3, "--threat", threat, *seed)
    assert transcripts[2] == transcripts[3]
    assert len(set(transcripts)) == 4


@pytest.mark.parametrize("threat", ["semi_honest", "active"])
def test_a_seeded_round_says_so(invoke_json, threat):
    code, found = invoke_json("simulate", "--clients", 9, "--dim", 3, "--seed", 0, "--threat", threat)
    assert code == 0
    assert set(found) == KEYS | {"seeded"}
    assert "for tests only" in found["seeded"]


# When it goes wrong.


@pytest.mark.parametrize("threat", ["semi_honest", "active"])
def test_some_clients_in_full_and_the_rest_prepared(invoke, invoke_json, threat):
    arguments = ("simulate", "--clients", 30, "--dim", 20, "--dropout", 0.1, "--threat", threat, "--full", 4)
    code, found = invoke_json(*arguments)
    assert (code, found["exact"], found["full"]) == (0, True, 4)
    assert set(found) == KEYS | {"full"}
    assert len(found["included"]) == 27
    assert found["client_cpu_s"] > 0
    assert (found["phases"]["CONFIRM"]["bytes_up"] > 0) == (threat == "active")
    assert "The CPU times are those of 4 clients that ran in full." in invoke(*arguments).stdout


def test_a_wrong_sum_is_found(invoke, invoke_json, monkeypatch):
    honest = command.run_simulation

    def off_by_one(*arguments, **options):
        outcome = honest(*arguments, **options)
        wrong = outcome.result.sum.copy()
        wrong[7] ^= 1
        return dataclasses.replace(outcome, result=dataclasses.replace(outcome.result, sum=wrong))

    monkeypatch.setattr(command, "run_simulation", off_by_one)
    code, found = invoke_json("simulate", "--clients", 6, "--dim", 40)
    assert code == 1
    assert (found["ok"], found["exact"], found["abort"], found["max_error"]) == (False, False, None, None)
    shown = invoke("simulate", "--clients", 6, "--dim", 40)
    assert shown.exit_code == 1
    assert "WRONG" in shown.stdout


def test_a_client_too_many_or_too_few_in_the_sum_is_found(invoke_json, monkeypatch):
    honest = command.run_simulation

    def forgets_one(*arguments, **options):
        outcome = honest(*arguments, **options)
        others = outcome.result.included[1:]
        return dataclasses.replace(outcome, result=dataclasses.replace(outcome.result, included=others))

    monkeypatch.setattr(command, "run_simulation", forgets_one)
    code, found = invoke_json("simulate", "--clients", 6, "--dim", 40)
    assert (code, found["exact"]) == (1, False)


@pytest.mark.parametrize(("fate", "phase"), [("NONE", "ADVERTISE"), ("SHARE", "MASK"), ("MASK", "UNMASK")])
def test_an_aborted_round(invoke, invoke_json, monkeypatch, fate, phase):
    monkeypatch.setattr(command, "schedule", lambda *arguments: Faults(dict.fromkeys(range(9), fate)))
    code, found = invoke_json("simulate", "--clients", 10, "--dim", 40)
    assert code == 1
    assert set(found) == KEYS
    assert (found["ok"], found["exact"], found["included"]) == (False, False, [])
    assert found["dropped"] == list(range(10))
    assert isinstance(found["abort"], str)
    assert (found["max_error"], found["client_floor_s"], found["server_floor_s"]) == (None, None, None)
    assert len(found["dropped_in"][phase]) >= 9
    shown = invoke("simulate", "--clients", 10, "--dim", 40)
    assert shown.exit_code == 1
    assert "ABORTED" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--dropout", "lots"), "lots"),
        (("--dropout", "1"), "'1'"),
        (("--dropout", "-0.1"), "-0.1"),
        (("--dropout", "nan"), "nan"),
        (("--dropout", "breakfast=.1"), "breakfast"),
        (("--dropout", "mask=.1,mask=.1"), "twice"),
        (("--dropout", "mask=.1,.1"), "phase and a rate"),
        (("--dropout", "mask=.6,share=.6"), "1.2"),
        (("--dropout", ""), "no rate"),
        (("--dropout", "confirm=.1"), "confirm"),
        (("--dropout", ".2", "--delta", ".1"), "--delta 0.1"),
        (("--neighbours", "many"), "many"),
        (("--neighbours", "5"), "--neighbours 5: "),
        (("--clients", "2"), "--clients 2: must be"),
        (("--clients", "-3"), "--clients -3"),
        (("--gamma", "0.95"), "lower --gamma"),
        (("--delta", "0.85"), "lower --delta"),
        (("--gamma", "0.2", "--delta", "0.85"), "--gamma + --delta"),
        (("--bits", "33"), "33"),
        (("--clip", "-1"), "-1"),
        (("--clip", "nan"), "nan"),
        (("--threat", "active", "--gamma", "0.2", "--delta", "0.4"), "--gamma + 2 --delta"),
    ],
)
def test_what_cannot_be_carried_out_is_one_line(invoke, arguments, named):
    refused = invoke("simulate", "--dim", 10, *arguments)
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith("secagg simulate: ")
    assert len(refused.stderr.splitlines()) == 1
    assert named in refused.stderr


@pytest.mark.parametrize("arguments", [("--dim", "0"), ("--threat", "evil"), ("--suite", "des"), ("--clients", "x")])
def test_options_that_do_not_parse(invoke, arguments):
    assert invoke("simulate", *arguments).exit_code == 2


# Files.


@pytest.fixture
def files(tmp_path):
    """Five clients' updates, of two arrays each."""
    made = []
    for client in range(5):
        draw = np.random.default_rng(client)
        made.append(tmp_path / f"client{client}.npz")
        np.savez(made[-1], weight=draw.normal(size=(4, 6)).astype(np.float32), bias=draw.normal(size=6))
    return made


@pytest.mark.parametrize("style", ["one option", "an option each"])
def test_one_file_a_client(invoke_json, files, style):
    given = ["--input", *files] if style == "one option" else [part for file in files for part in ("--input", file)]
    code, found = invoke_json("simulate", *given)
    assert code == 0
    assert (found["clients"], found["dim"], found["exact"]) == (5, 30, True)
    # Nothing is cut off: the clip is the largest value there is.
    largest = max(float(np.abs(array).max()) for file in files for array in np.load(file).values())
    bound = Encoder({"weight": np.zeros((4, 6)), "bias": np.zeros(6)}, clip=largest).error_bound(5)
    assert 0 < found["max_error"] <= bound


def test_a_clip_shows_in_the_error(invoke_json, tmp_path):
    made = [tmp_path / f"{client}.npz" for client in range(4)]
    for file in made:
        np.savez(file, ones=np.ones(8))
    code, found = invoke_json("simulate", "--input", *made, "--clip", 0.75)
    assert code == 0
    assert found["max_error"] == pytest.approx(0.25, abs=1e-4)


def test_the_files_are_read_again_and_again_not_held(files, monkeypatch):
    from secagg.cli import inputs

    reads = []
    honest = inputs.read_arrays
    monkeypatch.setattr(inputs, "read_arrays", lambda file: reads.append(file) or honest(file))
    updates = inputs.from_files(files, LayoutOptions())
    reads.clear()
    updates.of(2)
    updates.of(2)
    assert reads == [files[2], files[2]]


@pytest.mark.parametrize(("option", "value"), [("--clients", 6), ("--dim", 31)])
def test_numbers_that_contradict_the_files(invoke, files, option, value):
    refused = invoke("simulate", "--input", *files, option, value)
    assert refused.exit_code == 2
    assert f"{option} {value}" in refused.stderr
    assert invoke("simulate", "--input", *files, option, value - 1).exit_code == 0


def test_files_that_will_not_do_are_named(invoke, files, tmp_path):
    bad = {
        "missing": tmp_path / "missing.npz",
        "text": tmp_path / "text.npz",
        "shape": tmp_path / "shape.npz",
        "nan": tmp_path / "nan.npz",
    }
    bad["text"].write_text("no archive")
    np.savez(bad["shape"], weight=np.zeros((4, 5)), bias=np.zeros(6))
    np.savez(bad["nan"], weight=np.full((4, 6), np.nan), bias=np.zeros(6))
    bad["complex"] = tmp_path / "complex.npz"
    np.savez(bad["complex"], weight=np.zeros((4, 6), complex), bias=np.zeros(6))
    for file, first in itertools.product(bad.values(), (False, True)):
        refused = invoke("simulate", "--input", *((file, *files) if first and file != bad["shape"] else (*files, file)))
        assert refused.exit_code == 2
        assert str(file) in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_too_few_files(invoke, files):
    refused = invoke("simulate", "--input", *files[:2])
    assert refused.exit_code == 2
    assert "--input: each file is one client, and a round needs at least 3 of them, not 2" in refused.stderr


# The mini-language, and the schedule.


def test_rates():
    assert parse_rates("0.1") == {"MASK": Fraction(1, 10)}
    assert parse_rates(".02") == {"MASK": Fraction(1, 50)}
    assert parse_rates("share=.02, Mask=0.05 ,unmask=3e-2") == {
        "SHARE": Fraction(2, 100),
        "MASK": Fraction(5, 100),
        "UNMASK": Fraction(3, 100),
    }
    with pytest.raises(ParameterError, match="0 to below 1"):
        parse_rates("mask=1/0")


@pytest.mark.parametrize("rate", ["0.29", "0.57", "0.58", "0.07", "0.1"])
@pytest.mark.parametrize("clients", [3, 10, 100, 1000])
def test_exactly_the_floor_of_the_rate_is_lost(rate, clients):
    phases = ("ADVERTISE", "SHARE", "MASK", "UNMASK")
    faults = schedule(parse_rates(rate), clients, phases, np.random.default_rng(0))
    assert len(faults.fates) == math.floor(Fraction(rate) * clients)
    assert set(faults.fates.values()) <= {"SHARE"}
    assert set(faults.fates) <= set(range(clients))


def test_the_plain_totals_are_those_of_the_included_alone():
    updates = synthetic(6, 20, LayoutOptions(), seed=3)
    inputs = EncodedInputs(updates, 16, 3)
    vectors = [inputs(client).astype(np.uint64) for client in range(6)]
    included = (0, 2, 5)
    encoded, plain = inputs.totals_of(included)
    assert np.array_equal(encoded, sum(vectors[client] for client in included))
    assert plain == pytest.approx(sum(updates.of(client).astype(np.float64) for client in included))
    with pytest.raises(ValueError, match="client 1 "):
        inputs.totals_of((0, 1))


def test_synthetic_updates_differ_and_stay_within_the_clip():
    updates = synthetic(3, 5000, LayoutOptions(clip=0.5), seed=1)
    assert np.array_equal(updates.of(1), updates.of(1))
    assert not np.array_equal(updates.of(1), updates.of(2))
    assert 0.3 < np.abs(updates.of(0)).max() <= 0.5
