"""The threat model names every check, code and test as the code has them."""

import re
from pathlib import Path

from secagg.pairwise.checks import CHECKS, Check

ROOT = Path(__file__).parents[2]
THREAT_MODEL = (ROOT / "specs" / "threat-model.md").read_text(encoding="utf-8")


def row(check: Check) -> str:
    """A check as the threat model's table has it."""
    functions = ", ".join(f"`{name}`" for name in check.functions) or "by construction"
    codes = ", ".join(f"`{code}`" for code in check.codes) or "-"
    return f"| {check.number} | {check.stops} | {functions} | {codes} |"


def test_the_table_of_checks_is_that_of_the_code() -> None:
    rows = [line for line in THREAT_MODEL.splitlines() if re.match(r"\| \d+ \|", line)]
    assert rows == [row(check) for check in CHECKS]


def test_every_test_file_that_is_named_exists() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", THREAT_MODEL))
    assert len(named) > 5
    for file, function in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not function or f"def {function}(" in text, f"{file}::{function}"
