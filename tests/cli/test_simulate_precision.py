"""``secagg simulate``: what encoding loses is counted, said beside the values' size, and can be changed by array."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from secagg import Encoder, Exact
from secagg._install import how_to_install
from secagg.cli.layout_options import LayoutOptions
from secagg.cli.precision import lost_decimals, precision_of, rounded_up, warnings_of
from secagg.encoding.sums import Mean, sums_by_name

CLIENTS = 5


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Small weights, counts up to 1701, and money in cents."""
    made = []
    for client in range(CLIENTS):
        draw = np.random.default_rng(client)
        made.append(tmp_path / f"client{client}.npz")
        np.savez(
            made[-1],
            weights=draw.uniform(-0.01, 0.01, (4, 3)),
            counts=np.array([1701, client, 7]),
            cost=draw.integers(-(10**8), 10**8, 6) / 100,
        )
    return made


def money(files: list[Path]) -> list[str]:
    columns = zip(*(np.load(file)["cost"].tolist() for file in files), strict=True)
    return [str(sum(Decimal(f"{value:.2f}") for value in column)) for column in columns]


def test_a_count_that_the_clip_loses_is_told(invoke, invoke_json, files):
    """--clip 1e8 made 0 of a count of 1701, and the report said that the sum was exact."""
    code, found = invoke_json("simulate", "--input", *files, "--clip", "1e8")
    assert code == 0
    counts = found["arrays"]["counts"]
    assert (counts["largest"], counts["clipped"], counts["exact"]) == (1701, 0, False)
    assert counts["step"] == pytest.approx(1e8 / (2**15 - 1))
    assert found["error_bound"] == pytest.approx(1e8 / (2**15 - 1))
    told = next(warning for warning in found["warnings"] if warning.startswith("counts: "))
    assert "largest value is 1.7e+03" in told
    assert "steps of 3.05e+03" in told
    assert "Lower --clip 'counts=1800'" in told
    shown = " ".join(invoke("simulate", "--input", *files, "--clip", "1e8").stdout.split())
    assert f"Warning: {told}" in shown
    assert "1701" in shown


def test_doing_what_the_warning_says_ends_it(invoke_json, files):
    code, found = invoke_json(
        "simulate", "--input", *files, "--clip", "1e6", "--clip", "counts=1800", "--clip", "weights=0.01"
    )
    assert (code, found["warnings"], found["clipped"]) == (0, [], 0)


def test_values_that_are_clipped_are_counted_out_of_the_sum(invoke, invoke_json, files):
    arguments = ("simulate", "--input", *files, "--clip", "1e6", "--clip", "counts=1000")
    code, found = invoke_json(*arguments)
    assert code == 0
    assert found["clipped"] == CLIENTS
    assert found["arrays"]["counts"]["clipped"] == CLIENTS
    told = [warning for warning in found["warnings"] if "clipped" in warning]
    assert told == [
        "counts, whose largest value is 1701, was clipped: 5 values were beyond the clip 1000 and cut down to it, so "
        "that the sum is not that of the values. To keep them, raise --clip 'counts=1800'."
    ]
    shown = " ".join(invoke(*arguments).stdout.split())
    assert "the sum is exact" not in shown
    assert "5 values were clipped before" in shown


def test_only_the_clients_in_the_sum_count(invoke_json, files):
    code, found = invoke_json("simulate", "--input", *files, "--clip", "0.001", "--dropout", 0.2, "--seed", 1)
    included = found["included"]
    assert (code, len(included)) == (0, CLIENTS - 1)
    beyond = sum(
        int(np.count_nonzero(np.abs(array) > 0.001)) for client in included for array in np.load(files[client]).values()
    )
    assert found["clipped"] == beyond == sum(array["clipped"] for array in found["arrays"].values())


def test_without_a_clip_every_array_has_its_own(invoke_json, files):
    """One clip for all arrays left steps of 30 for weights of 0.01."""
    code, found = invoke_json("simulate", "--input", *files)
    assert (code, found["clipped"], found["warnings"]) == (0, 0, [])
    for array in found["arrays"].values():
        assert array["error_bound"] < array["largest"] / 10_000


def test_a_model_of_many_arrays_fits_a_screen(invoke, invoke_json, tmp_path):
    made = [tmp_path / f"{client}.npz" for client in range(3)]
    for file in made:
        np.savez(file, **{f"layer{layer}": np.full(2, 1e-6) for layer in range(40)})
    shown = invoke("simulate", "--input", *made, "--clip", 1).stdout
    assert shown.count("Warning: layer") == 12
    assert "Not shown: 28 more warnings. --json prints all of them." in shown
    assert "Not shown: 28 more arrays, in which less is lost." in shown
    assert len(invoke_json("simulate", "--input", *made, "--clip", 1)[1]["warnings"]) == 40


def test_names_that_look_like_patterns_have_their_own_clip_too(invoke_json, tmp_path):
    made = [tmp_path / f"{client}.npz" for client in range(4)]
    for file in made:
        np.savez(file, **{"w*": np.ones(3), "w[1]": np.full(3, 1e6), "w1": np.full(3, 1e-6)})
    code, found = invoke_json("simulate", "--input", *made)
    assert (code, found["warnings"]) == (0, [])
    assert {name: array["largest"] for name, array in found["arrays"].items()} == {"w*": 1, "w[1]": 1e6, "w1": 1e-6}


def test_bits_by_name(invoke_json, files):
    plain, finer = (
        invoke_json("simulate", "--input", *files, "--clip", "1e6", *more)[1]["arrays"]
        for more in ((), ("--array-bits", "counts=28"))
    )
    assert finer["counts"]["step"] == pytest.approx(plain["counts"]["step"] / 2**12, rel=1e-3)
    assert finer["cost"] == plain["cost"]


def test_sums_to_the_cent(invoke, invoke_json, files, tmp_path):
    arguments = ("simulate", "--input", *files, "--exact", "counts=0..2000", "--exact", "cost=-1000000..1000000:2")
    output = tmp_path / "sum.npz"
    code, found = invoke_json(*arguments, "--output", output)
    assert (code, found["warnings"], found["clipped"], found["output"]) == (0, [], 0, str(output))
    assert found["exact_sums"] == {"counts": [str(1701 * CLIENTS), "10", "35"], "cost": money(files)}
    written = np.load(output)
    assert sorted(written) == ["cost", "counts", "weights"]
    assert (written["counts"].dtype, written["counts"].tolist()) == (np.int64, [1701 * CLIENTS, 10, 35])
    assert written["cost"].tolist() == [float(amount) for amount in money(files)]
    assert written["weights"].shape == (4, 3)
    weights = sum(np.load(file)["weights"] for file in files)
    assert np.abs(written["weights"] - weights).max() <= CLIENTS * found["arrays"]["weights"]["error_bound"]
    assert money(files)[0] in invoke(*arguments).stdout


def test_exact_arrays_say_what_they_lose(invoke_json, files):
    code, found = invoke_json(
        "simulate", "--input", *files, "--exact", "counts=0..1000", "--exact", "cost=-1000000..1000000:1"
    )
    assert (code, found["clipped"]) == (0, CLIENTS)
    decimals, clipped = found["warnings"]
    assert decimals.startswith("cost: it holds values between two multiples of 0.1, which are rounded by up to 0.05")
    assert "--exact 'cost=-1000000..1000000:DECIMALS'" in decimals
    assert clipped.startswith("counts, whose largest value is 1701, has the range 0 to 1000: 5 values were outside")


@pytest.mark.parametrize(
    ("values", "decimals", "lost"),
    [
        (np.array([0.1 + 0.2, 1.1, -3.7]), 1, 0.0),
        (np.array([0.1, 12345.67], np.float32), 2, 0.0),
        (np.array([0.125]), 2, 0.005),
        (np.array([0.25]), 0, 0.25),
        (np.array([7, 8]), 0, 0.0),
        (np.array([]), 0, 0.0),
    ],
)
def test_decimals_that_are_lost(values, decimals, lost):
    assert lost_decimals(values, Exact(-(10**6), 10**6, decimals)) == pytest.approx(lost, rel=1e-9)


def test_synthetic_updates_of_an_exact_layout(invoke_json):
    code, found = invoke_json("simulate", "--clients", 5, "--dim", 8, "--exact", "*=-3..5:2", "--seed", 1)
    assert (code, found["warnings"], found["clipped"]) == (0, [], 0)
    assert len(found["exact_sums"]["update"]) == 8
    assert found["max_error"] < 1e-12


def test_the_sum_of_synthetic_updates_is_written(invoke_json, tmp_path):
    output = tmp_path / "s.npz"
    code, found = invoke_json("simulate", "--clients", 5, "--dim", 2000, "--exact", "*=0..5", "--output", output)
    assert (code, found["exact_sums"]) == (0, {})  # too many to print
    assert np.load(output)["update"].shape == (2000,)


def test_an_aborted_round_writes_nothing(invoke_json, files, tmp_path, monkeypatch):
    from secagg.cli import simulate as command
    from secagg.simulation import Faults

    monkeypatch.setattr(command, "schedule", lambda *arguments: Faults(dict.fromkeys(range(4), "NONE")))
    code, found = invoke_json("simulate", "--input", *files, "--output", tmp_path / "sum.npz")
    assert (code, found["output"], found["clipped"], found["exact_sums"]) == (1, None, None, {})
    assert not (tmp_path / "sum.npz").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sum.txt", "must end in .npz or .safetensors"),
        ("missing/sum.npz", "there is no directory"),
        ("client0.npz", "this is an input file, which would be lost"),
        (".npz/", "must end in"),
    ],
)
def test_outputs_that_are_refused_before_the_round(invoke, files, tmp_path, name, said):
    before = files[0].read_bytes()
    refused = invoke("simulate", "--input", *files, "--output", tmp_path / name)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert files[0].read_bytes() == before


def test_a_name_that_the_format_reserves_is_refused_before_the_round(invoke, tmp_path):
    """The round went well, and the file that came of it could not be read."""
    made = [tmp_path / f"{client}.npz" for client in range(3)]
    for file in made:
        np.savez(file, __metadata__=np.ones(2))
    refused = invoke("simulate", "--input", *made, "--output", tmp_path / "sum.safetensors")
    assert refused.exit_code == 2
    assert "sum.safetensors: a .safetensors file cannot hold an array named '__metadata__'" in refused.stderr
    assert invoke("simulate", "--input", *made, "--output", tmp_path / "sum.npz").exit_code == 0


def test_a_full_disk_is_said_with_the_files_name(invoke, files, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("secagg.cli.array_files.save_npz", full)
    refused = invoke("simulate", "--input", *files, "--output", tmp_path / "sum.npz")
    assert refused.exit_code == 2
    assert refused.stderr == f"secagg simulate: {tmp_path / 'sum.npz'}: No space left on device\n"


def test_safetensors_in_and_out(invoke_json, files, tmp_path):
    made = []
    for file in files:
        made.append(file.with_suffix(".safetensors"))
        save_file(dict(np.load(file)), made[-1])
    exact = ("--exact", "c*=-1000000..1000000:2")
    code, found = invoke_json("simulate", "--input", *made, *exact, "--output", tmp_path / "sum.safetensors")
    assert (code, found["warnings"]) == (0, [])
    written = load_file(tmp_path / "sum.safetensors")
    assert written["cost"].tolist() == [float(amount) for amount in money(files)]
    # Both kinds may be mixed.
    assert invoke_json("simulate", "--input", *made[:3], *files[3:])[0] == 0


def test_safetensors_without_the_extra(run_process, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"")
    for arguments in (("--input", *["x.safetensors"] * 3), ("--clients", 5, "--output", "sum.safetensors")):
        done = run_process("simulate", *arguments, without="safetensors,websockets")
        assert done.returncode == 2
        assert done.stderr.endswith(f"is not installed, and this needs it: {how_to_install('net')}\n")
        assert ".safetensors: " in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--clip", "nothing=1"), "--clip 'nothing=...': no array has this name; the arrays are weights, counts, cost"),
        (("--exact", "cost=1"), "--exact 'cost=1': write the range as LOW..HIGH"),
        (
            ("--array-bits", "cost=1"),
            "--array-bits 'cost=1': the number of bits is 1: must be a whole number from 2",
        ),
        (("--bits", "1"), "--bits is 1"),
        (("--clients", "6"), "--clients 6: the 5 input files make it 5"),
    ],
)
def test_the_command_lines_own_words(invoke, files, arguments, said):
    refused = invoke("simulate", "--input", *files, *arguments)
    assert refused.exit_code == 2
    assert said in refused.stderr


# The parts.


def test_weights_far_below_the_largest_are_told():
    """max_weight 10^6 with weights near 100 gave 320% of error."""
    encoder = Encoder({"w": np.zeros(3)}, 1.0, max_weight=10**6)
    layout = LayoutOptions(clip=1.0)
    arrays = precision_of(encoder, layout, largest={"w": 1.0}, clipped={}, count=10, weight=1000)
    (told,) = warnings_of(arrays)
    assert "the mean can be off by up to 0.305" in told
    assert "Lower --max-weight" in told
    assert warnings_of(precision_of(encoder, layout, largest={"w": 1.0}, clipped={}, count=10, weight=10**6)) == []


def test_more_bits_are_advised_where_the_clip_is_not_the_reason():
    encoder = Encoder({"w": np.zeros(3)}, 1.0, bits=4)
    (told,) = warnings_of(precision_of(encoder, LayoutOptions(clip=1.0), largest={"w": 1.0}, clipped={}, count=3))
    assert "Raise --bits, or --array-bits 'w=BITS'; 32 is the most." in told


@pytest.mark.parametrize(
    ("value", "wanted"), [(1701, 1800), (0.0371, 0.038), (1.0, 1.0), (0.3, 0.3), (9.96, 10), (5e-324, 5e-324), (0, 0)]
)
def test_rounded_up(value, wanted):
    assert rounded_up(value) == pytest.approx(wanted, rel=1e-9)


def test_whole_sums_in_the_type_that_holds_them():
    template = Encoder({"n": np.zeros(1)}, 1.0).template
    for total, dtype in ((5, np.int64), (2**63, np.uint64), (-(2**70), np.float64)):
        mean = Mean({"n": np.zeros(1)}, 1, 1, 1, 0, {"n": np.array([total], object)})
        summed = sums_by_name(mean, template, {"n": 0})["n"]
        assert (summed.dtype, int(summed[0])) == (dtype, total)


def test_what_a_file_cannot_hold_is_in_the_json_object(tmp_path):
    """Sums beyond 2^53 cents: the file has the nearest float, the object all digits, and a warning says so."""
    for client in range(4):
        np.savez(tmp_path / f"{client}.npz", cost=np.array([45 * 10**12 + 0.25]))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "secagg", "simulate", "--json", "--output", "sum.npz", "--exact", "cost=0..9e13:2"),
            *("--input", *(f"{client}.npz" for client in range(4))),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["exact_sums"]["cost"] == ["180000000000001.00"]
    (told,) = found["warnings"]
    assert told.startswith("cost: its sum has more digits than a float64, so that sum.npz has the nearest value")
