"""Complaints about shares on the command line: their option, and what the commands say of them."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer
from rich.table import Table

from secagg.cli.output import size
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.grouping import LEAST_VERSION
from secagg.pairwise.messages import ID_BYTES
from secagg.pairwise.records import SIGNATURE_BYTES, opened_bytes
from secagg.wording import counted

Complaints: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--complaints",
        help="Ask each client for a message more, in which it says whose shares do not open. A client that deals such "
        "shares to everybody is then named and left out, where it would end the round otherwise.",
    ),
]


def complaint_arguments(*, complaints: bool) -> dict[str, Any]:
    """The arguments of a round with complaints; nothing without them."""
    return {"version": LEAST_VERSION, "complaints": "auto"} if complaints else {}


def complaint_facts(config: RoundConfig) -> dict[str, int] | None:
    """For JSON: how many complaints a client may make, and what each takes; None for a round without complaints."""
    if not config.complaints:
        return None
    return {
        "most": config.complaints,
        "complaint_bytes": ID_BYTES + SIGNATURE_BYTES,
        "answer_bytes": opened_bytes(config.suite) + SIGNATURE_BYTES,
    }


def add_complaints(rows: Table, config: RoundConfig) -> None:
    """A row on the complaints; none for a round without them."""
    found = complaint_facts(config)
    if found is None:
        return
    rows.add_row(
        "complaints",
        f"a client may make up to {found['most']:,} in COMPLAIN, of {size(found['complaint_bytes'])} each, and an "
        f"answer takes {size(found['answer_bytes'])} in ANSWER; the bytes below are those of a round in which nobody "
        "complains",
    )


def of_complaints(config: RoundConfig) -> str:
    """The same in a sentence, with a space before it; empty for a round without complaints."""
    if not config.complaints:
        return ""
    return f" Each may make up to {counted(config.complaints, 'complaint')} about shares that do not open."
