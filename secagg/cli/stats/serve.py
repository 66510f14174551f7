"""``secagg stats serve``: the analyst's side of a study between machines."""

from __future__ import annotations

import typer

from secagg.cli.command_options import command_of
from secagg.cli.extras import advice
from secagg.cli.output import fail, usage_errors
from secagg.cli.stats.serve_options import ServeStudyOptions


@command_of(ServeStudyOptions)
def serve(options: ServeStudyOptions) -> None:
    """Host a study: organisations answer it round by round, and this server sees nothing but the sums.

    The rounds follow one another on one port until the study is over, or until three in a row have failed. The tables
    are printed at the end, and written to --output.

    Exit code 0: the study is over. 1: it ended early, because rounds failed. 2: the command cannot be carried out. 3:
    it was stopped.
    """
    try:
        from secagg.cli.stats import serve_run
    except ModuleNotFoundError as missing:
        fail("stats serve", advice(missing, "net"))
    with usage_errors("stats serve"):
        code = serve_run.run(options)
    raise typer.Exit(code)
