"""The model in specs/formal: it has the client's edges, its sizes keep the config's rules, its verdicts are complete.

TLC itself is run by specs/formal/run.py, in CI; here it runs on the two smallest configs, on machines that have it.
"""

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from secagg import ParameterError, RoundConfig, ThreatModel
from secagg.pairwise.rules.table import RULES
from secagg.pairwise.transitions import CLIENT, input_name

FORMAL = Path(__file__).parents[2] / "specs" / "formal"
MODEL = (FORMAL / "SecAgg.tla").read_text(encoding="utf-8")
COMPLAINTS = (FORMAL / "Complaints.tla").read_text(encoding="utf-8")
CHAIN = (FORMAL / "Chain.tla").read_text(encoding="utf-8")


def _load_run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("secagg_specs_formal_run", FORMAL / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


run = _load_run()
CONFIGS = run.read_configs()
VERDICTS = run.read_verdicts()
ROUNDS = {name: config for name, config in CONFIGS.items() if config.module != "Chain"}
CHAINS = {name: config for name, config in CONFIGS.items() if config.module == "Chain"}


def _model_edges() -> dict[tuple[str, str], str]:
    actions = re.findall(r'^(\w+)\(u\) ==\n    /\\ Moves\(u, "(\w+)", "(\w+)"\)', MODEL, flags=re.MULTILINE)
    assert len(actions) == MODEL.count("/\\ Moves(u, ")
    return {(source, name): target for name, source, target in actions}


def test_the_model_has_the_edges_of_the_client_and_no_others() -> None:
    table = {
        (source.value, input_name(given)): target.value
        for (source, given), target in CLIENT[ThreatModel.ACTIVE].items()
    }
    assert _model_edges() == table


def test_the_model_takes_each_edge() -> None:
    taken = re.search(r"^Edges\(u\) == (.+)$", MODEL, flags=re.MULTILINE)
    assert taken is not None
    assert set(taken[1].split(r" \/ ")) == {f"{name}(u)" for _, name in _model_edges()}


def test_the_model_knows_no_other_rules_than_the_client() -> None:
    named = set(re.findall(r'On\("([^"]+)"\)', MODEL))
    assert len(re.findall(r"On\((?!rule\))", MODEL)) == len(re.findall(r'On\("R-', MODEL))
    assert named <= {name for rule in RULES for name in rule.requirements}
    off = {rule for config in ROUNDS.values() if config.module != "Complaints" for rule in config.rules_off}
    assert named == off, "each is left out in a config"


def test_every_config_has_a_verdict_and_the_other_way_round() -> None:
    assert set(VERDICTS) == set(CONFIGS)


@pytest.mark.parametrize("name", VERDICTS)
def test_verdicts_are_well_formed(name: str) -> None:
    verdict, config = VERDICTS[name], CONFIGS[name]
    assert config.note
    assert name in CHAINS or config.constants["Near"] in {"Complete", "Ring"}
    if verdict.verdict == "holds":
        assert verdict.distinct > 0
        assert config.invariants
    else:
        # One invariant alone: which of two TLC meets first would depend on its threads.
        assert verdict.verdict == f"violates {config.invariants[0]}"
        assert len(config.invariants) == 1
        assert verdict.distinct is None
    for invariant in config.invariants:
        where = CHAIN if name in CHAINS else MODEL + COMPLAINTS
        assert re.search(rf"^{invariant} ==", where, flags=re.MULTILINE)


def test_what_must_fail_fails_and_the_protocol_holds() -> None:
    every = ("NoBothKinds", "MinSum", "OneSum")
    for name in ("complete", "complete_two", "complete_rosters", "ring", "ring_views", "ring_threshold"):
        assert VERDICTS[name].verdict == "holds"
        assert CONFIGS[name].invariants == every
        assert not CONFIGS[name].rules_off
    for name in ("no_confirm", "no_confirm_threshold_tight", "ring_cut", "ring_threshold_tight", "unsigned_keys"):
        assert VERDICTS[name].verdict in {"violates NoBothKinds", "violates MinSum"}
    for name in ("complete_opens", "complete_recovers", "ring_recovers"):
        assert VERDICTS[name].verdict.startswith("violates Never")


def test_the_chain_closes_the_fake_abort_and_each_of_its_rules_is_needed() -> None:
    named = set(re.findall(r'On\("([^"]+)"\)', CHAIN))
    assert named <= {name for rule in RULES for name in rule.requirements}
    off = {name for config in CHAINS.values() for name in config.rules_off}
    assert named == off == {"R-CHAIN-10", "R-CHAIN-11", "R-CHAIN-12", "R-CHAIN-15"}
    assert CONFIGS["chain"].invariants == ("NoFakeAbort", "OneTotal")
    assert VERDICTS["chain_two_totals"].verdict == "violates OneTotal"
    assert VERDICTS["chain"].verdict == "holds"
    for name, config in CHAINS.items():
        honest, colluding = config.cohort
        threshold, asked = config.number("T"), config.number("Asked")
        assert 2 * threshold > honest + colluding - 1 + colluding
        assert threshold - asked == (name == "chain_tight")
        if name != "chain_two_totals" and (config.rules_off or name == "chain_tight"):
            assert VERDICTS[name].verdict == "violates NoFakeAbort"


def test_complaints_open_nothing_and_each_of_their_rules_is_needed() -> None:
    configs = {name: config for name, config in ROUNDS.items() if config.module == "Complaints"}
    named = set(re.findall(r'On\("(R-COMPLAIN-[^"]+)"\)', COMPLAINTS))
    assert named == {rule for config in configs.values() for rule in config.rules_off if rule.startswith("R-COMPLAIN")}
    assert VERDICTS["complaints"].verdict == "holds"
    assert VERDICTS["complaints_many"].verdict == "holds", "privacy rests on the signatures, not on the bound"
    secrets, counting = configs.pop("complaints_secrets"), configs["complaints_counted"]
    assert secrets.constants == counting.constants, "where counting is enough for shares, it is not for pair secrets"
    assert VERDICTS["complaints_secrets"].verdict == "violates OpensForColludersAlone"
    assert all("OpensForColludersAlone" in configs[name].invariants for name in ("complaints", "complaints_many"))
    for name, config in configs.items():
        (honest, colluding), threshold, bound = config.cohort, config.number("T"), config.number("Bound")
        assert max(1, colluding) <= bound + (name == "complaints_many") <= threshold - 1
        if {"R-COMPLAIN-4", "R-COMPLAIN-7"} & set(config.rules_off):
            bounded = "R-COMPLAIN-6" not in config.rules_off
            counted = bounded and 2 * threshold > honest + colluding - 1 + colluding + bound
            assert VERDICTS[name].verdict == ("holds" if counted else "violates NoBothKinds"), name


@pytest.mark.parametrize("name", ROUNDS)
def test_sizes_keep_the_rules_of_a_config_except_where_the_name_says_so(name: str) -> None:
    config = CONFIGS[name]
    honest, colluding = config.cohort
    clients, threshold, least = honest + colluding, config.number("T"), config.number("MinSurvivors")
    slack = 2 * threshold - config.neighbours - colluding
    assert (slack == 0) if "threshold_tight" in name or name == "ring_cut" else (slack > 0)
    quorum = (clients + colluding) // 2 + 1
    assert config.number("Quorum") == quorum - (name == "quorum_tight")
    assert least >= max(config.number("Quorum"), threshold + 1, colluding + 2)


@pytest.mark.parametrize("name", [name for name, config in CONFIGS.items() if config.module == "MC"])
def test_the_library_takes_the_sizes_that_are_sound_and_no_others(name: str) -> None:
    config = CONFIGS[name]
    honest, colluding = config.cohort
    clients, threshold, least = honest + colluding, config.number("T"), config.number("MinSurvivors")

    def make(quorum: int) -> RoundConfig:
        return RoundConfig.for_cohort(
            clients,
            length=1,
            threat_model="active",
            gamma=colluding / clients,
            delta=(clients - least) / clients,
            neighbours="complete",
            threshold=threshold,
            min_survivors=least,
            cohort=bytes(32),
        ).replace(quorum=quorum)

    if "tight" in name:
        with pytest.raises(ParameterError):
            make(config.number("Quorum"))
    else:
        assert make(config.number("Quorum")).colluders == colluding


def test_the_readme_shows_the_verdicts() -> None:
    readme = (FORMAL / "README.md").read_text(encoding="utf-8")
    assert run.TABLE_MARKS[0] + run.table(CONFIGS, VERDICTS) + run.TABLE_MARKS[1] in readme


# The script.

HOLDS = """Model checking completed. No error has been found.
6677 states generated, 2585 distinct states found, 0 states left on queue.
"""
VIOLATED = """Error: Invariant MinSum is violated.
Error: The behavior up to this point is:
7711 states generated, 3221 distinct states found, 0 states left on queue.
"""


def test_judge() -> None:
    assert run.judge(HOLDS) == run.Verdict("holds", 2585)
    assert run.judge(VIOLATED) == run.Verdict("violates MinSum")
    assert run.judge("Parsing or semantic analysis failed.") == run.Verdict("error")
    assert run.judge("") == run.Verdict("error")


@pytest.mark.parametrize(("output", "code"), [(HOLDS, 0), (VIOLATED, 1), (HOLDS.replace("2585", "2586"), 1)])
def test_a_difference_is_reported(
    output: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "find_java", lambda: "java")
    monkeypatch.setattr(run, "run_tlc", lambda java, jar, config: (run.judge(output), output))
    assert run.main(["uncounted_neighbours", "--jar", "tla2tools.jar"]) == code
    assert ("EXPECTED holds, 2,585 states" in capsys.readouterr().out) == (code == 1)


def test_without_java_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda command: None)
    assert run.main(["ring_cut"]) == 2
    assert "apt-get install default-jre-headless" in capsys.readouterr().err


def test_a_jar_that_is_not_the_pinned_one_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "tla2tools.jar").write_bytes(b"another")
    assert run.cached_jar(tmp_path) is None


if shutil.which("java") and run.cached_jar(run.default_cache()):

    @pytest.mark.parametrize("name", ["ring_cut", "ring_threshold"])
    def test_tlc_finds_what_is_expected(name: str) -> None:
        assert run.main([name]) == 0
