"""``secagg stats check``: what a study would send of one's own data, and whether the data fit it."""

from __future__ import annotations

import typer

from secagg.cli.command_options import command_of
from secagg.cli.output import print_json, usage_errors
from secagg.cli.stats.check_options import CheckOptions
from secagg.statistics import Study


@command_of(CheckOptions)
def check(options: CheckOptions) -> None:
    """Say what a study releases.

    Nothing is sent.

    Exit code 0: the study can be read. 2: it cannot.
    """
    with usage_errors("stats check"):
        study = Study.load(options.study)
    words = {name: method.in_words(study.terms) for name, method in study.methods.items()}
    if options.as_json:
        print_json({"name": study.name, "digest": study.digest.hex(), "methods": words})
        return
    for name, text in words.items():
        typer.echo(f"{name}: {text}")
