"""``secagg serve``: host rounds on a port, for clients that ``secagg join`` them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.extras import advice
from secagg.cli.options import AsJson, Bits, ChosenSuite, LogFormat, LogFormatName, Neighbours
from secagg.cli.output import fail, print_json, usage_errors
from secagg.cli.rounds import SuiteName
from secagg.config import ThreatModel

_NETWORK = "Network"
_ROUND = "Round"
_RUNNING = "Running it"


def serve(
    dim_from: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="An .npz or .safetensors file with the names and shapes to sum; its values are not read.",
            rich_help_panel=_ROUND,
        ),
    ],
    clip: Annotated[
        float,
        typer.Option(
            help="The largest absolute value of an element; what is larger is cut off.", rich_help_panel=_ROUND
        ),
    ],
    clients: Annotated[
        int | None,
        typer.Option(help="How many are invited; those of the directory.", show_default=False, rich_help_panel=_ROUND),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The cohort's directory: only its members may log in. Without one, whoever comes first takes a seat: "
            "say --open.",
            rich_help_panel=_ROUND,
        ),
    ] = None,
    open_seats: Annotated[
        bool, typer.Option("--open", help="No directory: anybody may take a free seat.", rich_help_panel=_ROUND)
    ] = False,
    threat: Annotated[
        ThreatModel | None,
        typer.Option(
            "--threat-model",
            help="What the server may do; active with a directory, semi_honest without.",
            show_default=False,
            rich_help_panel=_ROUND,
        ),
    ] = None,
    rounds: Annotated[
        list[str] | None,
        typer.Option(
            "--round", metavar="NAME", help="The name in the URL, default; repeated: several.", rich_help_panel=_ROUND
        ),
    ] = None,
    bits: Bits = 16,
    max_weight: Annotated[
        int | None,
        typer.Option(help="The largest weight of a client; without it there are no weights.", rich_help_panel=_ROUND),
    ] = None,
    gamma: Annotated[
        float | None,
        typer.Option(
            help="Largest share of the clients that colludes with the server (default: a fifth, and at least one "
            "client).",
            show_default=False,
        ),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(
            help="Largest share of the clients that may be lost (default: a tenth, and at least one client where "
            "--gamma and --min-survivors leave room).",
            show_default=False,
        ),
    ] = None,
    min_survivors: Annotated[
        int | None,
        typer.Option(
            help="Fewest clients in a sum (default: what --gamma asks for, and at least 3).", show_default=False
        ),
    ] = None,
    neighbours: Neighbours = "auto",
    suite: ChosenSuite = SuiteName.AES_128,
    deadline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[PHASE=]SECONDS",
            help="How long a phase may last, or all: ADVERTISE=600, SHARE=120, MASK=600, CONFIRM=120, UNMASK=120.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.", rich_help_panel=_NETWORK)] = "localhost",
    port: Annotated[int, typer.Option(help="0: any free one.", min=0, max=65535, rich_help_panel=_NETWORK)] = 8443,
    cert: Annotated[
        Path | None, typer.Option(help="The TLS certificate, with its chain, in PEM.", rich_help_panel=_NETWORK)
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key, in PEM.", rich_help_panel=_NETWORK)] = None,
    demo_cert: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Make a self-signed certificate for this machine in DIR.", rich_help_panel=_NETWORK
        ),
    ] = None,
    insecure_plaintext: Annotated[
        bool, typer.Option(help="No TLS; on a loopback address only.", rich_help_panel=_NETWORK)
    ] = False,
    max_connections: Annotated[
        int | None,
        typer.Option(help="At the same time; twice the seats, and 64.", show_default=False, rich_help_panel=_NETWORK),
    ] = None,
    monitor_port: Annotated[
        int | None,
        typer.Option(help="Serve /metrics and /status there; not at all without it.", rich_help_panel=_RUNNING),
    ] = None,
    monitor_host: Annotated[
        str, typer.Option(help="The address for --monitor-port.", rich_help_panel=_RUNNING)
    ] = "localhost",
    journal: Annotated[
        Path, typer.Option(help="Where the rounds are kept; they go on from there.", rich_help_panel=_RUNNING)
    ] = Path("secagg-journal.sqlite"),
    output: Annotated[
        Path | None,
        typer.Option(help="Write the sum here too; {round} is the round's name.", rich_help_panel=_RUNNING),
    ] = None,
    linger: Annotated[
        float,
        typer.Option(
            help="Seconds to wait at the end for clients that logged in and do not know yet how the round ended.",
            rich_help_panel=_RUNNING,
        ),
    ] = 60.0,
    log_format: LogFormat = LogFormatName.PAIRS,
    as_json: AsJson = False,
) -> None:
    """Host a round: the clients sum their files, and see nothing of each other's but the total.

    Stop it at any time, and start it again with the same options: the journal has everything that was accepted.

    Exit code 0: every round ended with a sum. 1: one did not. 2: the command cannot be carried out. 3: it was stopped
    before the end.
    """
    try:
        from secagg.cli import serving
    except ModuleNotFoundError as missing:
        fail("serve", advice(missing, "net"))
    with usage_errors("serve"):
        specs = serving.round_specs(
            dim_from=dim_from,
            clip=clip,
            bits=bits,
            max_weight=max_weight,
            clients=clients,
            directory=directory,
            open_seats=open_seats,
            threat=threat,
            names=rounds or ["default"],
            gamma=gamma,
            delta=delta,
            min_survivors=min_survivors,
            neighbours=neighbours,
            suite=suite,
            deadlines=deadline or [],
        )
        where = serving.Where(
            host=host,
            port=port,
            certificate=cert,
            key=key,
            demo_certificate=demo_cert,
            plaintext=insecure_plaintext,
            monitor_host=monitor_host,
            monitor_port=monitor_port,
            max_connections=max_connections,
        )
        outcome = serving.run(specs, where, journal=journal, output=output, linger=linger, log_format=log_format)
    if as_json:
        print_json(outcome.summary)
    raise typer.Exit(outcome.exit_code)
