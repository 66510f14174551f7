"""``secagg plan --epsilon``: the calibration beside the plan's costs."""

from __future__ import annotations

import math
from fractions import Fraction

import dp_accounting
import pytest
from dp_accounting.rdp import RdpAccountant

from secagg.privacy import Mechanism
from secagg.privacy.calibration import Promise
from secagg.simulation import PHASES
from secagg.simulation.costs import UnitCosts

ISSUE = ("--epsilon", 3, "--delta", 1e-6, "--rounds", 100)


@pytest.fixture(autouse=True)
def no_measuring(monkeypatch):
    """Times are those of ``test_plan``; what is promised needs no clock."""
    from secagg.cli import plan
    from secagg.cli.calibration import Expected

    phases = dict.fromkeys(PHASES, 1e-3)
    costs = UnitCosts(keystream_s_per_byte=1e-10, agreement_s=4e-5, sign_s=4e-5, verify_s=1e-5, add_s=1e-5)
    expected = Expected(client_s=phases, server_s=phases, client_floor_s=1e-3, server_floor_s=1e-3, costs=costs)
    monkeypatch.setattr(plan, "expect", lambda config: expected)
    monkeypatch.setattr(plan, "warm_up_for", lambda config: 0.0)


def test_the_promise_is_one_that_dp_accounting_confirms(invoke_json):
    code, found = invoke_json("plan", *ISSUE)
    assert code == 0
    privacy = found["privacy"]
    assert 0.99 * 3 < privacy["promised_epsilon"] <= 3
    assert privacy["epsilon_to_server"] == privacy["promised_epsilon"]  # nobody is sampled
    assert (privacy["delta"], privacy["rounds"], privacy["noise"]) == (1e-6, 100, "skellam")
    assert privacy["honest"] == 100 - 10 - 20
    assert privacy["min_survivors"] == found["min_survivors"] == 90
    # A Gaussian of the same noise over the clip is the least that it can cost.
    accountant = RdpAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(privacy["noise_multiplier"]), 100)
    assert accountant.get_epsilon(1e-6) <= privacy["promised_epsilon"] <= accountant.get_epsilon(1e-6) * 1.02
    assert privacy["sum_sigma"] == pytest.approx(math.sqrt(70) * privacy["client_sigma"])
    assert privacy["client_sigma"] == pytest.approx(privacy["client_sigma_steps"] * privacy["step"])
    assert 0 < privacy["excess"] <= 0.01
    assert privacy["wrapped_share"] <= 1.001e-4


def test_the_costs_are_those_of_the_private_vector(invoke_json):
    _, found = invoke_json("plan", *ISSUE, "--dim", 10_000)
    privacy = found["privacy"]
    assert found["ring_bits"] == privacy["bits"]
    assert privacy["padded_length"] == 16_384
    assert privacy["vector_bytes"] == 16_384 * privacy["bits"] // 8
    assert 0 < found["phases"]["MASK"]["bytes_up"] - privacy["vector_bytes"] < 200
    _, plain = invoke_json("plan", "--dim", 10_000)
    assert plain["privacy"] is None
    assert 0 < plain["phases"]["MASK"]["bytes_up"] - privacy["plain_vector_bytes"] < 200


def test_more_losses_leave_less_noise_and_none_below_the_survivors(invoke_json):
    _, found = invoke_json("plan", *ISSUE, "--max-dropout", 0.1, "--gamma", 0.1)
    none, tenth, third = found["privacy"]["lost"]
    assert [lost["share"] for lost in (none, tenth, third)] == [0.0, 0.1, 0.3]
    assert [lost["contributors"] for lost in (none, tenth, third)] == [100, 90, 70]
    assert none["epsilon"] < tenth["epsilon"] == found["privacy"]["promised_epsilon"]
    assert (third["epsilon"], third["sum_sigma"]) == (None, None)
    _, wide = invoke_json("plan", *ISSUE, "--max-dropout", 0.3, "--gamma", 0.1)
    assert wide["privacy"]["lost"][2]["epsilon"] == wide["privacy"]["promised_epsilon"]


def test_levels_leave_what_was_promised_whatever_is_lost(invoke_json, invoke):
    wide = (*ISSUE, "--dim", 1000, "--max-dropout", 0.3, "--gamma", 0.1)
    _, found = invoke_json("plan", *wide, "--levels", 30)
    _, without = invoke_json("plan", *wide)
    privacy, promised = found["privacy"], found["privacy"]["promised_epsilon"]
    assert privacy["levels"]["losses"] == list(range(31))
    assert privacy["levels"]["client_draws"] == 31 * 1024
    assert privacy["levels"]["server_draws"] == 100 * 30 * 1024
    for lost in privacy["lost"]:
        assert 1 <= (lost["sum_sigma"] / privacy["sum_sigma"]) ** 2 <= 1.0001
        assert 0.9999 * promised <= lost["epsilon"] <= promised
    assert without["privacy"]["levels"] is None
    assert without["privacy"]["lost"][0]["epsilon"] < 0.85 * promised
    assert without["privacy"]["sum_sigma"] == privacy["sum_sigma"], "levels ask for no more noise"
    assert found["phases"]["UNMASK"]["bytes_up"] - without["phases"]["UNMASK"]["bytes_up"] in range(32, 40)
    said = " ".join(invoke("plan", *wide, "--levels", 30).stdout.replace("│", " ").split())
    assert "for up to 0, 1, 2, 3, 4, 5, 6, ..., 30 lost" in said
    assert "A client draws 31,744 values of noise in place of 1,024, and the server at most 3,072,000" in said
    assert "In semi_honest this trusts the server to say truly who survived" in said


def test_the_modulus_and_the_kind_of_noise_can_be_chosen(invoke_json):
    _, found = invoke_json("plan", *ISSUE, "--bits", 20, "--noise", "discrete-gaussian", "--clip", 0.5)
    privacy = found["privacy"]
    assert (privacy["bits"], privacy["noise"], privacy["clip"]) == (20, "discrete-gaussian", 0.5)
    scale = round(1 / privacy["step"] * 2**40)
    mechanism = Mechanism(
        noise="discrete-gaussian",
        clip=0.5,
        scale=Fraction(scale, 2**40),
        bits=20,
        rounding_failure=math.exp(-0.5),
        variance=round(privacy["client_sigma_steps"] ** 2),
        length=10_000,
    )
    promise = Promise(mechanism=mechanism, honest=privacy["honest"], delta=1e-6, rounds=100)
    assert promise.epsilon == pytest.approx(privacy["promised_epsilon"], rel=1e-6)


def test_for_a_person(invoke):
    shown = invoke("plan", *ISSUE)
    text = " ".join(shown.stdout.replace("│", " ").split())
    assert shown.exit_code == 0, shown.stderr
    for said in (
        "at delta 1e-06, over 100 rounds, at the client level",
        "delta is the probability with which the promise may fail; the share of dropouts is --max-dropout",
        "20 may collude with the server, 10 may drop out",
        "70 honest clients: a sum has at least 90",
        "no sum: 70 clients are left, and it takes 90",
        "2^17",
    ):
        assert said in text, said


def test_what_would_do_where_no_noise_does(invoke, invoke_json):
    code, found = invoke_json("plan", *ISSUE, "--bits", 9)
    assert code == 2
    assert set(found) == {"infeasible"}
    infeasible = found["infeasible"]
    assert set(infeasible) == {"reason", "smallest_bits", "smallest_epsilon", "largest_cohort"}
    bits = infeasible["smallest_bits"]
    assert invoke("plan", *ISSUE, "--bits", bits).exit_code == 0
    assert invoke("plan", *ISSUE, "--bits", bits - 1).exit_code == 2
    looser = ("--epsilon", infeasible["smallest_epsilon"], *ISSUE[2:])
    assert invoke("plan", *looser, "--bits", 9).exit_code == 0
    refused = invoke("plan", *ISSUE, "--bits", 9)
    assert (refused.stdout, len(refused.stderr.splitlines())) == ("", 1)
    assert f"use {bits} bits or more" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--epsilon", 3), "--delta is missing"),
        (("--epsilon", 3, "--delta", 0.1), "--max-dropout"),
        (("--epsilon", 3, "--delta", 0.01, "--clients", 100), "below 1/100"),
        (("--epsilon", 0, "--delta", 1e-6), "epsilon"),
        (("--epsilon", 3, "--delta", 1e-6, "--rounds", 0), "rounds"),
        (("--epsilon", 3, "--delta", 1e-6, "--clip", 0), "clip"),
        (("--epsilon", 3, "--delta", 1e-6, "--bits", 40), "bits"),
        (("--epsilon", 3, "--delta", 1e-6, "--clients", 0), "--clients 0"),
        (("--epsilon", "nan", "--delta", 1e-6), "epsilon"),
        (("--epsilon", 3, "--delta", "nan"), "--delta nan"),
        (("--epsilon", 3, "--delta", -1e-6), "delta"),
        (("--rounds", 100), "--epsilon"),
        (("--noise", "skellam"), "--epsilon"),
        (("--clip", 2), "--epsilon"),
        (("--delta", 0.1, "--max-dropout", 0.1), "give one of them"),
    ],
)
def test_what_cannot_be_promised_is_one_line(invoke, arguments, named):
    refused = invoke("plan", *arguments)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("secagg plan: ")
    assert len(refused.stderr.splitlines()) == 1
    assert named in refused.stderr


def test_the_share_that_may_drop_out_has_two_names_without_a_promise(invoke_json):
    _, one = invoke_json("plan", "--delta", 0.2)
    _, other = invoke_json("plan", "--max-dropout", 0.2)
    assert one == other
    assert one["security"]["dropouts"] == 20
