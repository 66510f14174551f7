"""The commands of ``secagg stats``."""

from __future__ import annotations

import typer

from secagg.cli.stats import check, join, serve

app = typer.Typer(help="Statistics between organisations, from secure sums.", no_args_is_help=True)
app.command("check")(check.check)
app.command("serve")(serve.serve)
app.command("join")(join.join)
