"""``secagg plan``, held against rounds that were run."""

from __future__ import annotations

import pytest

from secagg.cli import calibration
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import WITHOUT_COMPLAINTS, Phase
from secagg.simulation import PHASES
from secagg.simulation.costs import UnitCosts

KEYS = {
    "clients", "dim", "ring_bits", "graph", "neighbours", "threshold", "quorum", "min_survivors", "phases",
    "upload_bytes", "download_bytes", "client_cpu_s", "server_cpu_s", "client_floor_s", "server_floor_s", "confirm",
    "security", "explain", "privacy", "groups", "carrier", "workers", "complaints",
}  # fmt: skip


@pytest.fixture
def no_calibration(monkeypatch):
    """Counts and bytes need no clock."""

    def flat(config, *, length, lost):
        small = RoundConfig.for_cohort(
            33, length, threat_model=config.threat_model, gamma=0.0, delta=0.2, neighbours="complete",
            modulus=config.modulus, cohort=config.cohort,
        )  # fmt: skip
        return calibration._Measured(small, dict.fromkeys(PHASES, 1e-3), dict.fromkeys(PHASES, 1e-2))

    monkeypatch.setattr(calibration, "_run", flat)
    monkeypatch.setattr(
        calibration,
        "measure",
        lambda config: UnitCosts(keystream_s_per_byte=1e-10, agreement_s=4e-5, sign_s=4e-5, verify_s=1e-5, add_s=1e-5),
    )


@pytest.mark.parametrize("suite", ["aes-128", "hybrid"])
def test_a_plan_that_is_measured(invoke_json, suite):
    code, found = invoke_json("plan", "--clients", 30, "--dim", 1000, "--suite", suite)
    assert code == 0
    assert set(found) == KEYS
    assert tuple(found["phases"]) == WITHOUT_COMPLAINTS
    for phase, cost in found["phases"].items():
        assert set(cost) == {"bytes_up", "bytes_down", "client_cpu_s", "server_cpu_s"}
        assert (min(cost.values()) > 0) is (phase != "CONFIRM")
    assert 0 < found["client_floor_s"] < 10 * found["client_cpu_s"]
    assert 0 < found["server_floor_s"] < 10 * found["server_cpu_s"]
    assert found["confirm"] is None
    assert found["complaints"] is None


@pytest.mark.parametrize(
    ("clients", "threat", "degree", "threshold"),
    [(100, "semi_honest", 32, 21), (1000, "semi_honest", 76, 47), (100, "active", 42, 32), (1000, "active", 222, 170)],
)
@pytest.mark.usefixtures("no_calibration")
def test_degree_and_threshold(invoke_json, clients, threat, degree, threshold):
    code, found = invoke_json("plan", "--clients", clients, "--dim", 10, "--threat", threat)
    assert code == 0
    assert (found["graph"], found["neighbours"], found["threshold"]) == ("sparse", degree, threshold)
    assert found["security"]["privacy_log2"] is None or found["security"]["privacy_log2"] < -40


@pytest.mark.parametrize("threat", ["semi_honest", "active"])
@pytest.mark.parametrize("neighbours", ["auto", "complete"])
@pytest.mark.parametrize("suite", ["aes-128", "hybrid"])
@pytest.mark.usefixtures("no_calibration")
def test_the_bytes_are_those_of_a_round(invoke_json, threat, neighbours, suite):
    graph = ("--delta", 0.1, "--neighbours", neighbours)
    options = ("--clients", 40, "--dim", 700, "--threat", threat, "--suite", suite, *graph)
    _, planned = invoke_json("plan", *options)
    _, run = invoke_json("simulate", *options)
    assert planned["ring_bits"] == run["ring_bits"]
    for phase in WITHOUT_COMPLAINTS:
        met = run["phases"][phase]
        wanted = planned["phases"][phase]
        assert wanted["bytes_up"] == met["bytes_up"], phase
        if phase == "SHARE" and threat == "active":  # Merkle hashes: which ones depends on the graph that was drawn
            assert wanted["bytes_down"] == pytest.approx(met["bytes_down"], rel=0.1)
        else:
            assert wanted["bytes_down"] == met["bytes_down"], phase
    assert planned["upload_bytes"] == run["upload_bytes"]


@pytest.mark.parametrize(
    ("threat", "suite", "answer"),
    [("semi_honest", "aes-128", 208), ("active", "aes-128", 208), ("active", "hybrid", 240)],
)
@pytest.mark.usefixtures("no_calibration")
def test_complaints_are_named_with_their_phases(invoke, invoke_json, threat, suite, answer):
    graph = ("--gamma", 0.2, "--delta", 0.1)
    options = ("--clients", 12, "--dim", 30, "--threat", threat, "--suite", suite, *graph, "--complaints")
    code, planned = invoke_json("plan", *options)
    assert code == 0
    config = RoundConfig.for_cohort(
        12, 30, threat_model=threat, gamma=0.2, delta=0.1, version=2, complaints="auto",
        cohort=bytes(32) if threat == "active" else b"",
    )  # fmt: skip
    # A client's number has 4 bytes, a signature 64, a pair of shares 144, a pair secret 32: R-COMPLAIN-13.
    assert planned["complaints"] == {"most": config.complaints, "complaint_bytes": 68, "answer_bytes": answer}
    assert tuple(planned["phases"]) == tuple(Phase)
    assert planned["phases"]["COMPLAIN"]["client_cpu_s"] > 0
    _, run = invoke_json("simulate", *options)
    assert run["complaints"] == planned["complaints"]
    for phase, met in run["phases"].items():
        assert planned["phases"][phase]["bytes_up"] == met["bytes_up"], phase
    assert planned["upload_bytes"] == run["upload_bytes"]
    for command in ("plan", "simulate"):
        text = " ".join(invoke(command, *options).stdout.split())
        assert f"a client may make up to {config.complaints} in COMPLAIN, of 68 B each" in text
        assert "│ COMPLAIN │" in text
        assert "│ ANSWER │" in text


def test_time_for_complaints_is_measured():
    """Opening the shares moves from MASK to COMPLAIN: whoever plans without it counts too little."""
    config = RoundConfig.for_cohort(5, 10, gamma=0.0, version=2, complaints="auto")
    measured = calibration._run(config, length=64, lost=0)
    assert measured.client["COMPLAIN"] > 0
    assert measured.server["COMPLAIN"] > 0
    assert measured.client["ANSWER"] == 0
    assert calibration._run(config.replace(complaints=0), length=64, lost=0).client["COMPLAIN"] == 0


@pytest.mark.parametrize("dim", [100, 1_000, 100_000])
@pytest.mark.usefixtures("no_calibration")
def test_the_masked_vector_under_every_header(invoke_json, dim):
    _, planned = invoke_json("plan", "--clients", 5, "--dim", dim)
    _, run = invoke_json("simulate", "--clients", 5, "--dim", dim, "--delta", 0.1)
    assert planned["phases"]["MASK"]["bytes_up"] == run["phases"]["MASK"]["bytes_up"]


@pytest.mark.usefixtures("no_calibration")
def test_what_confirm_costs(invoke, invoke_json):
    options = ("--clients", 1000, "--dim", 10, "--threat", "active")
    _, found = invoke_json("plan", *options)
    quorum = (1000 + 200) // 2 + 1
    assert found["quorum"] == quorum
    assert found["confirm"] == {
        "signatures_sent": 1,
        "signatures_verified": quorum,
        "bytes_down": 64 * quorum + 125,
        "verify_cpu_s": pytest.approx(quorum * 1e-5),
        "server_signatures_verified": 900,
    }
    shown = " ".join(invoke("plan", *options).stdout.split())
    assert f"verifies {quorum} signatures of others" in shown


@pytest.mark.usefixtures("no_calibration")
def test_workers_are_counted(invoke, invoke_json):
    options = ("--clients", 1000, "--dim", 10**7, "--bits", 22)
    _, small = invoke_json("plan", "--clients", 100, "--dim", 1000)
    assert small["workers"] == []
    _, found = invoke_json("plan", *options, "--workers", 7)
    one, seven = found["workers"]
    assert (one["workers"], seven["workers"]) == (1, 7)
    vector, message = 4 * (10**7 + 2), found["phases"]["MASK"]["bytes_up"]
    assert one["intake"]["vectors"] == 900
    assert seven["intake"]["vectors"] == 129  # 900 survivors among 7
    assert seven["intake"]["bytes_received"] == pytest.approx(129 * message, rel=1e-4)
    assert seven["intake"]["memory_bytes"] == pytest.approx(vector + message, rel=1e-4)
    assert seven["unmask"]["blocks"] == 7  # of 4 MiB and more
    assert seven["unmask"]["memory_bytes"] == -(-vector // 7)
    for part in ("intake", "unmask"):
        assert one[part]["cpu_s"] == pytest.approx(7 * seven[part]["cpu_s"])
    assert one["merge"] == {"bytes": 0, "cpu_s": 0}
    assert seven["merge"] == {"bytes": 7 * vector, "cpu_s": pytest.approx(7e-5)}
    assert one["server_memory_bytes"] == 3 * vector + 1000 * found["neighbours"] * (160 + 64)
    shown = invoke("plan", *options, "--workers", 7).stdout
    assert "MASK shared out" in shown
    assert "UNMASK shared out" in shown
    _, large = invoke_json("plan", "--clients", 100_000, "--dim", 10**8, "--bits", 15)
    assert [facts["workers"] for facts in large["workers"]] == [1, 8, 64]
    assert [facts["unmask"]["blocks"] for facts in large["workers"]] == [4, 32, 64]  # of 4 MiB and more


@pytest.mark.usefixtures("no_calibration")
def test_times_grow_with_what_there_is_more_of(invoke_json):
    def planned(**options):
        arguments = {"clients": 33, "dim": 64, "neighbours": "complete", "gamma": 0.1, "delta": 0.1, **options}
        _, found = invoke_json("plan", *(part for name, value in arguments.items() for part in (f"--{name}", value)))
        return found["phases"]

    # A round like the calibration's costs what the calibration cost.
    same = planned()
    assert same["SHARE"]["client_cpu_s"] == pytest.approx(1e-3)
    assert same["SHARE"]["server_cpu_s"] == pytest.approx(1e-2)
    twice = planned(clients=65)
    assert twice["SHARE"]["client_cpu_s"] == pytest.approx(2e-3)
    assert twice["SHARE"]["server_cpu_s"] == pytest.approx(1e-2 * 65 / 33 * 2)
    assert twice["ADVERTISE"]["client_cpu_s"] == pytest.approx(1e-3)


@pytest.mark.usefixtures("no_calibration")
def test_for_a_person(invoke):
    shown = invoke("plan", "--clients", 1000, "--dim", 100_000, "--suite", "aes-256")
    text = " ".join(shown.stdout.split())
    assert shown.exit_code == 0
    for said in ("76 neighbours", "threshold 47", "26 bits", "AES_256", "do not depend on the graph"):
        assert said in text
    for unsaid in ("CONFIRM", "COMPLAIN", "complaint"):
        assert unsaid not in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--clients", 2), "clients"),
        (("--clients", 100, "--gamma", 0.8, "--delta", 0.2), "--gamma + --delta"),
        (("--clients", 100, "--neighbours", 7), "7"),
        (("--clients", 100, "--neighbours", 4), "4"),
        (("--clients", 100, "--bits", 1), "bits"),
    ],
)
def test_what_cannot_be_planned_is_one_line(invoke, arguments, named):
    refused = invoke("plan", "--dim", 10, *arguments)
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith("secagg plan: ")
    assert len(refused.stderr.splitlines()) == 1
    assert named in refused.stderr


@pytest.mark.usefixtures("no_calibration")
@pytest.mark.parametrize("carrier", ["masks", "lattice", "auto"])
def test_carriers_are_compared(invoke, invoke_json, carrier):
    given = ("plan", "--clients", 50, "--dim", 5000, "--carrier", carrier)
    code, found = invoke_json(*given)
    assert code == 0
    costs = found["carrier"]
    assert set(costs) == {"name", "masks", "lattice"}
    assert costs["name"] in ([carrier] if carrier != "auto" else ["masks", "lattice"])
    for one in ("masks", "lattice"):
        assert set(costs[one]) == {"client_cpu_s", "server_cpu_s", "upload_bytes"}
        assert min(costs[one].values()) > 0
    assert costs["lattice"]["upload_bytes"] > costs["masks"]["upload_bytes"]
    assert 0 < found["phases"]["MASK"]["bytes_up"] - costs[costs["name"]]["upload_bytes"] < 64
    assert any("envelope" in line for line in found["explain"]) is (costs["name"] == "lattice")
    shown = invoke(*given).output
    assert f"{costs['name']} (chosen)" in shown


@pytest.mark.usefixtures("no_calibration")
def test_groups_that_withstand_attackers(invoke, invoke_json):
    given = ("plan", "--clients", 1000, "--dim", 10, "--gamma", 0.02, "--delta", 0.02)
    _, plain = invoke_json(*given)
    assert plain["groups"] is None
    code, found = invoke_json(*given, "--groups", "auto", "--attackers", 12)
    assert code == 0
    groups = found["groups"]
    config = RoundConfig.for_cohort(1000, 10, gamma=0.02, delta=0.02, groups="auto", attackers=12, version=2)
    assert (groups["groups"], groups["min_group"]) == (config.groups, config.min_group)
    assert (groups["smallest"], groups["largest"]) == (1000 // config.groups, -(-1000 // config.groups))
    assert groups["colluders_in_group"] == config.colluders_in_group
    assert groups["robust_log2"] is None or groups["robust_log2"] < -20
    assert any("Robustness: 12 attackers" in line for line in found["explain"])
    shown = invoke(*given, "--groups", config.groups, "--attackers", 12)
    assert shown.exit_code == 0
    assert f"{config.groups} of " in shown.output
    assert "robust mean" in shown.output


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--attackers", 3), "--attackers 3: one sum over everybody withstands none; give --groups auto"),
        (("--groups", "many"), "--groups 'many': give auto, or a number of groups"),
        (("--groups", "auto"), "--groups 'auto': give attackers"),
        (("--groups", 4, "--attackers", 3), "2^-20 is asked for (--robust-bits); ask for more groups"),
        (("--groups", 4, "--epsilon", 8, "--delta", 1e-5), "--groups 4: the noise of --epsilon is for one sum"),
        (("--groups", "auto", "--attackers", 60), "ask for at most"),
    ],
)
def test_groups_that_there_are_not(invoke, options, told):
    result = invoke("plan", "--clients", 100, "--dim", 10, "--gamma", 0.02, *options)
    assert result.exit_code == 2
    assert told in result.stderr
