"""``secagg stats join``: one organisation's side of a study between machines."""

from __future__ import annotations

import typer

from secagg.cli.command_options import command_of
from secagg.cli.extras import advice
from secagg.cli.output import fail, usage_errors
from secagg.cli.stats.join_options import JoinStudyOptions


@command_of(JoinStudyOptions)
def join(options: JoinStudyOptions) -> None:
    """Take part in a study: the server and the other organisations see nothing of the data but the sums.

    The command checks the data, says in words what the study releases, and asks before it connects. A server that asks
    for anything else than this study, or that tells other sums than this organisation got, is refused before anything
    is sent.

    Exit code 0: the study is over. 1: a round ended without a sum, or the data do not fit the study. 2: the command
    cannot be carried out. 3: it was stopped, or gave up, before the end. 4: the server was refused, or refuses this
    organisation.
    """
    try:
        from secagg.cli.stats import join_run
    except ModuleNotFoundError as missing:
        fail("stats join", advice(missing, "net"))
    with usage_errors("stats join"):
        code = join_run.run(options)
    raise typer.Exit(code)
