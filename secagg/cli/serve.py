"""``secagg serve``: host rounds on a port, for clients that ``secagg join`` them."""

from __future__ import annotations

import typer

from secagg.cli.command_options import command_of
from secagg.cli.extras import advice
from secagg.cli.output import fail, print_json, usage_errors
from secagg.cli.serve_options import ServeOptions


@command_of(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Host a round: the clients sum their files, and each of them sees nothing of the others' but the total.

    You may stop the server at any time and start it again with the same options: the journal has everything that was
    accepted.

    Arrays of integers in the file of --dim-from that have no option of their own are summed exactly, over the range of
    their type but at most from -2^31 to 2^31. The command says so when it starts.

    With --ballot, the members sum no files: each tests a candidate model and votes, and the count alone is opened.

    Exit code 0: every round ended with a sum, and a ballot accepted its candidate. 1: a round ended without a sum, or
    a ballot dropped its candidate or decided nothing. 2: the command cannot be carried out. 3:
    the server was stopped before the end.

    In the JSON object, each round has the number of contributors, the total weight, the number of values that were
    clipped over all clients, and for each array the largest absolute value of the sum and the most by which the sum can
    be off.
    """
    try:
        from secagg.cli import serve_run
    except ModuleNotFoundError as missing:
        fail("serve", advice(missing, "net"))
    with usage_errors("serve"):
        outcome = serve_run.run(options)
    if options.as_json:
        print_json(outcome.summary)
    raise typer.Exit(outcome.exit_code)
