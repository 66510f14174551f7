"""The command line's entry: every command, and ``--version``."""

from __future__ import annotations

from typing import Annotated

import typer

from secagg import __version__
from secagg.cli import audit, demo, identity, join, plan, serve, simulate, vectors, warmup
from secagg.cli.stats import app as stats

# Without typer's own tracebacks: they can show the values of local variables.
app = typer.Typer(
    help="Secure aggregation: a server learns the sum of its clients' vectors and nothing else about any of them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("simulate")(simulate.simulate)
app.command("plan")(plan.plan)
app.command("demo")(demo.demo)
app.command("warmup")(warmup.warmup)
app.command("serve")(serve.serve)
app.command("join")(join.join)
app.command("audit")(audit.audit)
app.add_typer(identity.app, name="identity")
app.add_typer(vectors.app, name="vectors")
app.add_typer(stats.app, name="stats")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"secagg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
