"""deploy/ and CITATION.cff by what can be checked without a container engine: options, metrics, paths, ports, units."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from secagg.adapters.net.monitor import _STATES, _ServiceCollector, monitor
from secagg.cli.app import app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
STATUS: dict[str, Any] = {
    **dict.fromkeys(("connections", "logging_in", "logged_in", "logins", "received_bytes", "journal_commits"), 1),
    "refused": {"bad-login": 1},
    "rounds": [
        {
            **dict.fromkeys(("clients", "seated", "offered", "may_be_lost", "connected", "arrived", "expected"), 1),
            "included": 1,
            "name": "default",
            "phase": "MASK",
            "phase_seconds": {"SHARE": 1.0},
            "refused": {"malformed": 1},
            "awaited": ["ada"],
            "refusals": [{"client": "bob", "phase": "MASK", "code": "malformed"}],
            "group_anomalies": [{"number": 0, "distance": 1.0, "cosine": 1.0, "norm": 1.0, "stands_out": False}],
        }
    ],
    "workers": {"processes": 2, "ready": 2, "restarts": 1},
    "scores": {"rounds": 1, "highest": [{"client": "ada", "score": 1.0, "excess": 1.0}]},
}
BOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "secagg.json").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
UNIT_FILE = DEPLOY / "secagg@.service"


def exported() -> dict[str, set[str]]:
    """By the name of each metric that the service exports, its labels."""
    collector = _ServiceCollector(lambda: STATUS)
    return {sample.name: set(sample.labels) for metric in collector.collect() for sample in metric.samples}


def options_of_serve() -> set[str]:
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    return {option for parameter in command.params for option in parameter.opts if option.startswith("--")}


def options_in(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def instructions(path: Path) -> list[tuple[str, str]]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def last(name: str) -> str:
    """The last instruction of a kind in the container file, which is the one that counts."""
    return next(rest for kind, rest in reversed(instructions(DEPLOY / "Containerfile")) if kind == name)


ENTRYPOINT = json.loads(last("ENTRYPOINT"))


def queries() -> Iterator[tuple[str, str]]:
    """Each query in a board or a rule, and the text that names its labels."""
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]
    for rule in ALERTS:
        yield rule["expr"], rule["annotations"]["summary"]
    for variable in BOARD["templating"]["list"]:
        inner = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"])
        assert inner is not None
        yield f'{inner[1]}{{{inner[2]}=""}}', ""


@pytest.mark.parametrize(("query", "text"), [*queries()])
def test_a_query_asks_for_what_the_service_exports(query: str, text: str) -> None:
    known = exported()
    names = set(re.findall(r"\bsecagg_\w+", query))
    assert names <= known.keys()
    assert names or query.startswith('up{job="secagg"}')
    for name, selector in re.findall(r"(secagg_\w+)\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)\s*=", selector)) <= known[name]
    grouped = {label for labels in re.findall(r"\bby \(([\w, ]+)\)", query) for label in labels.split(", ")}
    of_all = set().union(*(known[name] for name in names))
    assert grouped <= of_all
    shown = set(re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", text))
    assert shown <= (grouped if re.match(r"sum", query) else of_all)


def test_the_phases_of_the_rules_are_phases() -> None:
    named = set(re.findall(r"phase=~?\"([A-Z|]+)\"", "\n".join(rule["expr"] for rule in ALERTS)))
    assert {phase for phases in named for phase in phases.split("|")} <= set(_STATES)


def test_the_board_is_whole() -> None:
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    uids = {source["uid"] for source in sources}
    assert {panel["datasource"]["uid"] for panel in BOARD["panels"]} <= uids
    assert sources[0]["url"] == "http://prometheus:9090"
    assert "prometheus" in SERVICES
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    covered = [
        (x, y)
        for place in (panel["gridPos"] for panel in BOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(covered) == len(set(covered)), "panels overlap"
    assert max(x for x, _ in covered) < 24
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/secagg.yaml").read_text())["providers"][0]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


def test_prometheus_reads_the_rules_and_asks_the_service() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    assert all((DEPLOY / "prometheus" / name).is_file() for name in config["rule_files"])
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "secagg"
    port = ENTRYPOINT[ENTRYPOINT.index("--monitor-port") + 1]
    assert job["static_configs"] == [{"targets": [f"secagg:{port}"]}]
    assert job.get("metrics_path", "/metrics") == "/metrics"


def test_the_composition_uses_what_is_there() -> None:
    build = SERVICES["secagg"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Containerfile"
    for service in SERVICES.values():
        assert service.get("image", "x:1").rpartition(":")[2] != "latest"
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["cap_drop"] == ["ALL"]
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            brought_by_the_operator = source == "./config"
            assert source in COMPOSE["volumes"] or brought_by_the_operator or (DEPLOY / source).is_dir()
        for secret in service.get("secrets", []):
            assert secret in COMPOSE["secrets"]
    assert SERVICES["secagg"]["read_only"] is True
    assert all("9464" not in port for service in SERVICES.values() for port in service.get("ports", []))


def unit() -> configparser.RawConfigParser:
    """The unit; a setting that stands several times has all its values, one a line."""

    class Settings(dict[str, Any]):
        def __setitem__(self, name: str, value: Any) -> None:
            if isinstance(value, list) and isinstance(self.get(name), list):
                value = [*self[name], *value]
            super().__setitem__(name, value)

    parser = configparser.RawConfigParser(strict=False, dict_type=Settings, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT_FILE.read_text(encoding="utf-8"))
    return parser


@pytest.mark.parametrize(
    "words",
    [
        ENTRYPOINT[2:],
        SERVICES["secagg"]["command"],
        shlex.split(unit()["Service"]["ExecStart"])[2:],
        shlex.split(next(line for line in UNIT_FILE.read_text().splitlines() if "SECAGG_OPTIONS=" in line)[1:]),
    ],
    ids=["container", "compose", "unit", "environment of the unit"],
)
def test_every_option_is_one_of_the_service(words: list[str]) -> None:
    named = options_in([word.removeprefix("SECAGG_OPTIONS=") for word in words])
    assert len(named) >= 4
    assert named <= options_of_serve()


def test_the_unit_takes_away_what_the_service_does_not_need() -> None:
    service = unit()["Service"]
    for setting in (
        *("DynamicUser", "NoNewPrivileges", "PrivateDevices", "PrivateTmp", "ProtectHome", "ProtectKernelModules"),
        *("ProtectKernelTunables", "ProtectControlGroups", "RestrictNamespaces", "RestrictSUIDSGID", "LockPersonality"),
    ):
        assert service[setting] == "yes", setting
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert service["StateDirectory"] == "secagg/%i"
    assert service["WorkingDirectory"] == "%S/secagg/%i"
    assert "MemoryDenyWriteExecute" not in service, "the kernels are compiled in memory"


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Where systemd is installed it reads the unit itself; the settings are compared above in any case."""
    analyse = shutil.which("systemd-analyze")
    text = UNIT_FILE.read_text(encoding="utf-8").replace("/opt/secagg/bin/secagg", sys.executable)
    instance = tmp_path / "secagg@monday.service"
    instance.write_text(text)
    if analyse is not None:
        checked = subprocess.run([analyse, "verify", instance], capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_the_container_is_nobody_s_root_and_copies_what_is_there() -> None:
    assert last("USER") == "10001"
    assert all("slim" in rest for kind, rest in instructions(DEPLOY / "Containerfile") if kind == "FROM")
    for kind, rest in instructions(DEPLOY / "Containerfile"):
        if kind == "COPY" and not rest.startswith("--from"):
            assert all((ROOT / source).exists() for source in rest.split()[:-1])
    extra = re.search(r"'\.\[(\w+)\]'", "\n".join(rest for _, rest in instructions(DEPLOY / "Containerfile")))
    assert extra is not None
    assert extra[1] == "net"


def test_the_health_check_tells_a_service_that_answers_from_one_that_does_not() -> None:
    """The very program of the container file, at a port of this machine's."""
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert command[:2] == [ENTRYPOINT[0].replace("bin/secagg", "bin/python"), "-c"]
    port = ENTRYPOINT[ENTRYPOINT.index("--monitor-port") + 1]
    assert f"localhost:{port}/" in command[2]
    with monitor(lambda: STATUS, "localhost", 0) as bound:
        here = command[2].replace(port, str(bound))
        assert subprocess.run([sys.executable, *command[1:2], here]).returncode == 0
    assert subprocess.run([sys.executable, "-c", here], stderr=subprocess.DEVNULL).returncode != 0


def test_the_citation_is_that_of_this_release() -> None:
    """The required keys of the Citation File Format 1.2.0, and the types that it gives them."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert set(citation["keywords"]) == set(project["keywords"])
    released = re.search(
        rf"^## \[{re.escape(project['version'])}\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M
    )
    assert released is not None
    assert str(citation["date-released"]) == released[1]
    for work in (citation, *citation["references"]):
        for author in work["authors"]:
            assert author.keys() in ({"name"}, {"family-names", "given-names"})
            assert all(isinstance(value, str) and value for value in author.values())
    assert all(re.fullmatch(r"10\.\d{4}/[\d.]+", work["doi"]) for work in citation["references"])
