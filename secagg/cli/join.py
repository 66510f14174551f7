"""``secagg join``: one client of a round that ``secagg serve`` hosts."""

from __future__ import annotations

import typer

from secagg.cli.command_options import command_of
from secagg.cli.extras import advice
from secagg.cli.join_options import JoinOptions
from secagg.cli.output import fail, print_json, usage_errors


@command_of(JoinOptions)
def join(options: JoinOptions) -> None:
    """Take part in a round: the server and the others see nothing of the input but the total.

    When the command is stopped or the line breaks, run it again with the same options: it goes on where it was.

    Values beyond the server's clip are clipped, and the command warns you of them when the round is over: a client that
    left because of its values would tell the server about them. With --layout, the command warns before it connects.

    With --judge, the client brings no file to sum, and votes on the candidate model of a ballot. It tests the candidate
    before it joins, and always votes: the others and the server see the count alone.

    Exit code 0: the total is in the file, or the ballot was counted. 1: the round ended without a sum, or without this
    client. 2: the command cannot be carried out. 3: it was stopped, or gave up, before the end; the state is kept. 4:
    the server was refused, or refuses this client. 5: the input is not the one that the state remembers, or it may be
    in a sum already.

    In the JSON object, clipped has the number of your own values that were clipped, by array, and clipped_by_all the
    number over all clients. arrays has for each array the largest absolute value of the output and the most by which
    the output can be off. With --chain, certificate has the digest of the round's certificate, and receipt the file of
    this member's receipt; each is null where there is none.
    """
    try:
        from secagg.cli import join_ballot, join_run
    except ModuleNotFoundError as missing:
        fail("join", advice(missing, "net"))
    with usage_errors("join"):
        outcome = join_run.run(options) if options.judge is None else join_ballot.run(options)
    if options.as_json:
        print_json(outcome.summary)
    raise typer.Exit(outcome.exit_code)
