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
    weight: Annotated[int, typer.Option(help="Of this client, up to the server's --max-weight.", min=0)] = 1,
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
        float, typer.Option(help="Seconds without a word from the server.", min=1, rich_help_panel=_NETWORK)
    ] = 600.0,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What a restart goes on from; IDENTITY.ROUND.state, or OUTPUT.state.",
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
    or refuses this client.
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
            state=state or _state_of(url, output, identity),
            log_format=log_format,
        )
    if as_json:
        print_json(outcome.summary)
    raise typer.Exit(outcome.exit_code)


def _state_of(url: str, output: Path, identity: Path | None) -> Path:
    """Beside the identity: whatever an output is called, one member's rounds are remembered in one place."""
    if identity is None:
        return output.with_name(output.name + ".state")
    name = "".join(letter for letter in url.rpartition("/")[2] if letter.isalnum() or letter in "._-") or "default"
    return identity.with_name(f"{identity.name}.{name}.state")
