"""The threat model names every rule, code and test as the code has them."""

import re
from pathlib import Path

from secagg.pairwise.rules.table import RULES, Role, Rule

ROOT = Path(__file__).parents[2]
THREAT_MODEL = (ROOT / "specs" / "threat-model.md").read_text(encoding="utf-8")
KEPT_BY = {Role.BOTH: "both", Role.CLIENT: "client", Role.SERVER: "server"}


def row(rule: Rule) -> str:
    """A rule as the threat model's table has it."""
    functions = ", ".join(f"`{name}`" for name in rule.functions) or "by construction"
    codes = ", ".join(f"`{code}`" for code in rule.codes) or "-"
    return f"| {', '.join(rule.requirements)} | {KEPT_BY[rule.role]} | {rule.stops} | {functions} | {codes} |"


def test_the_table_of_rules_is_that_of_the_code() -> None:
    rows = [line for line in THREAT_MODEL.splitlines() if re.match(r"\| R-", line)]
    assert rows == [row(rule) for rule in RULES]


def test_every_test_file_that_is_named_exists() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", THREAT_MODEL))
    assert len(named) > 5
    for file, function in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not function or f"def {function}(" in text, f"{file}::{function}"
