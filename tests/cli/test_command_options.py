"""Messages about options name them as a user writes them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import typer

from secagg import ParameterError
from secagg.cli.app import app
from secagg.cli.command_options import check_no_others
from secagg.cli.join_options import JoinOptions
from secagg.cli.plan_options import PlanOptions
from secagg.cli.serve_options import ServeOptions
from secagg.cli.simulate_options import SimulateOptions

COMMANDS: Any = typer.main.get_command(app)


@pytest.mark.parametrize(
    ("command", "options"),
    [("simulate", SimulateOptions), ("plan", PlanOptions), ("serve", ServeOptions), ("join", JoinOptions)],
)
def test_an_option_is_named_as_it_is_written(command: str, options: Any) -> None:
    parameters = [
        one for one in COMMANDS.commands[command].params if one.name != "help" and one.opts[0].startswith("--")
    ]
    assert len(parameters) > 10
    given = options(**{field.name: object() for field in dataclasses.fields(options)})  # none has its default
    for parameter in parameters:
        with pytest.raises(ParameterError) as refused:
            check_no_others(given, "--chosen", "for a reason", [parameter.name])
        assert str(refused.value) == f"--chosen: for a reason; leave out {parameter.opts[0]}"
