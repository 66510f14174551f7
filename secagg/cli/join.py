"""``secagg join``: one client of a round that ``secagg serve`` hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.extras import advice
from secagg.cli.options import AsJson, Gamma, LogFormat, LogFormatName
from secagg.cli.output import fail, print_json, usage_errors
from secagg.config import ThreatModel

_NETWORK = "Network"
_TRUST = "What this client insists on"


def join(
    url: Annotated[str, typer.Argument(metavar="URL", help="wss://HOST:PORT/ROUND")],
    inputs: Annotated[
        Path, typer.Option("--input", metavar="FILE", help="The file to sum, .npz or .safetensors: it stays here.")
    ],
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where the total goes, .npz or .safetensors.")],
    mean: Annotated[
        bool,
        typer.Option(help="Write the (weighted) mean, in the input's dtypes, instead of the sum in float64."),
    ] = False,
    weight: Annotated[
        int | None,
        typer.Option(
            help="The weight of this client's file, such as its number of examples. A weight above the server's "
            "--max-weight counts as that. Leave it out where the server has no weights.",
            min=1,
            show_default=False,
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option(
            help="Take part although your file may be in a sum already, or although an earlier round with this state "
            "is not over. The risk: a server can open a sum in secret, say that the round was aborted, and invite "
            "everybody again but one member; the difference of the two sums is that member's file. Give this option "
            "only when you know that nobody has a sum with your file, or when two of them do no harm."
        ),
    ] = False,
    identity: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="This member's identity file.", show_default=False, rich_help_panel=_TRUST),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="active: this member's own copy of the cohort's directory.",
            show_default=False,
            rich_help_panel=_TRUST,
        ),
    ] = None,
    threat: Annotated[
        ThreatModel | None,
        typer.Option(
            "--threat-model",
            help="The least to accept: active with a directory, semi_honest without.",
            show_default=False,
            rich_help_panel=_TRUST,
        ),
    ] = None,
    min_survivors: Annotated[int, typer.Option(help="The fewest clients in a sum.", min=2, rich_help_panel=_TRUST)] = 3,
    gamma: Gamma = 0.2,
    min_clip: Annotated[
        float | None,
        typer.Option(
            help="The smallest --clip of the server to accept: values beyond it are cut off, so that a small one "
            "leaves little of your file (default: any).",
            show_default=False,
            rich_help_panel=_TRUST,
        ),
    ] = None,
    max_clip: Annotated[
        float | None,
        typer.Option(
            help="The largest --clip of the server to accept: a large one makes the steps between values wide "
            "(default: any).",
            show_default=False,
            rich_help_panel=_TRUST,
        ),
    ] = None,
    min_bits: Annotated[
        int, typer.Option(help="The fewest --bits of the server to accept.", min=2, max=32, rich_help_panel=_TRUST)
    ] = 2,
    max_bits: Annotated[
        int, typer.Option(help="The most --bits of the server to accept.", min=2, max=32, rich_help_panel=_TRUST)
    ] = 32,
    min_max_weight: Annotated[
        int | None,
        typer.Option(
            help="The smallest --max-weight of the server to accept: a larger weight of yours counts as that "
            "(default: any).",
            min=1,
            show_default=False,
            rich_help_panel=_TRUST,
        ),
    ] = None,
    max_max_weight: Annotated[
        int | None,
        typer.Option(
            help="The largest --max-weight of the server to accept: the error grows with it (default: any).",
            min=1,
            show_default=False,
            rich_help_panel=_TRUST,
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Certificates to trust, in PEM; those of the system.",
            show_default=False,
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    insecure_plaintext: Annotated[
        bool, typer.Option(help="Allow ws://, to this machine only.", rich_help_panel=_NETWORK)
    ] = False,
    give_up_after: Annotated[
        float,
        typer.Option(
            help="Seconds without progress of the round, beyond the deadlines that the server names, after which this "
            "client stops. The state is kept.",
            min=1,
            rich_help_panel=_NETWORK,
        ),
    ] = 600.0,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The file that a restart goes on from (default: IDENTITY.HOST-PORT.ROUND.state, or "
            "INPUT.HOST-PORT.ROUND.state without an identity).",
            show_default=False,
        ),
    ] = None,
    log_format: LogFormat = LogFormatName.PAIRS,
    as_json: AsJson = False,
) -> None:
    """Take part in a round: the server and the others see nothing of the input but the total.

    When it is stopped or the line breaks, run it again with the same options: it goes on where it was.

    Exit code 0: the total is in the file. 1: the round ended without a sum, or without this client. 2: the command
    cannot be carried out. 3: it was stopped, or gave up, before the end; the state is kept. 4: the server was refused,
    or refuses this client. 5: the input is not the one that the state remembers, or it may be in a sum already.
    """
    try:
        from secagg.cli import joining
    except ModuleNotFoundError as missing:
        fail("join", advice(missing, "net"))
    with usage_errors("join"):
        outcome = joining.run(
            url=url,
            inputs=inputs,
            output=output,
            mean=mean,
            weight=weight,
            identity=identity,
            directory=directory,
            threat=threat,
            min_survivors=min_survivors,
            gamma=gamma,
            ca=ca,
            plaintext=insecure_plaintext,
            give_up_after=give_up_after,
            state=state,
            again=again,
            layout_policy=joining.layout_policy(
                min_clip=min_clip,
                max_clip=max_clip,
                min_bits=min_bits,
                max_bits=max_bits,
                min_max_weight=min_max_weight,
                max_max_weight=max_max_weight,
            ),
            log_format=log_format,
        )
    if as_json:
        print_json(outcome.summary)
    raise typer.Exit(outcome.exit_code)
