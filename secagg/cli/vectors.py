"""``secagg vectors``: replay files of test vectors with this library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.output import EXIT_FAILED, print_json, results, table, usage_errors
from secagg.testing.vectors import VectorResult, check_file

app = typer.Typer(help="Replay test vectors of the protocol.", no_args_is_help=True)


@app.command("check")
def check(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Files of test vectors, in the form of those in specs/vectors/v1."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Replay every test of some files, and say whether this library does what they say, byte for byte.

    Exit code 0: every test passed. 1: a test failed. 2: the command cannot be carried out.
    """
    with usage_errors("vectors check"):
        checked = {str(file): check_file(file) for file in files}
    failed = {file: [result for result in found if not result.ok] for file, found in checked.items()}
    if as_json:
        print_json(
            {
                "ok": not any(failed.values()),
                "files": {file: _summary(found, failed[file]) for file, found in checked.items()},
            }
        )
    else:
        rows = table("Test vectors", "file", "tests", "failed")
        for file, found in checked.items():
            rows.add_row(file, f"{len(found):,}", f"{len(failed[file]):,}")
        console = results()
        console.print(rows)
        for found in failed.values():
            for result in found:
                console.print(f"{result.id}: {result.detail}", markup=False, soft_wrap=True)
    if any(failed.values()):
        raise typer.Exit(EXIT_FAILED)


def _summary(found: list[VectorResult], failed: list[VectorResult]) -> dict[str, object]:
    return {"tests": len(found), "failed": {result.id: result.detail for result in failed}}
