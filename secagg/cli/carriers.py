"""The carrier of a round's vectors on the command line: its option, and what the commands say of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

import typer
from rich.table import Table

from secagg.cli.output import seconds, size
from secagg.errors import ParameterError
from secagg.pairwise.carrier import LEAST_VERSION, Carrier
from secagg.pairwise.config import RoundConfig
from secagg.simulation.carriers import costs_of


class CarrierChoice(StrEnum):
    """What ``--carrier`` may be."""

    MASKS = "masks"
    LATTICE = "lattice"
    AUTO = "auto"


class AcceptedCarrier(StrEnum):
    """What ``--carrier`` may be for a client."""

    MASKS = "masks"
    LATTICE = "lattice"
    ANY = "any"

    @property
    def accepted(self) -> Carrier | Literal["any"]:
        """What a policy calls it."""
        return "any" if self is AcceptedCarrier.ANY else Carrier(self.value)


ChosenCarrier: TypeAlias = Annotated[
    CarrierChoice,
    typer.Option(
        "--carrier",
        help="What carries the vectors: masks over every value, one lattice envelope per client, or auto for the one "
        "that takes less CPU time here.",
    ),
]


def carrier_facts(config: RoundConfig) -> dict[str, Any]:
    """For JSON: the round's carrier, and what each carrier takes; null for envelopes that cannot hold the sums."""
    able = config.replace(version=max(config.version, LEAST_VERSION))
    return {"name": config.carrier.value, **{one.value: _facts_of(able, one) for one in Carrier}}


def _facts_of(config: RoundConfig, carrier: Carrier) -> dict[str, float] | None:
    try:
        costs = costs_of(config.replace(carrier=carrier))
    except ParameterError:
        return None
    return {"client_cpu_s": costs.client_s, "server_cpu_s": costs.server_s, "upload_bytes": costs.upload_bytes}


def add_carriers(rows: Table, found: dict[str, Any]) -> None:
    """A row on each carrier, of what ``carrier_facts`` gives."""
    for one in Carrier:
        costs = found[one.value]
        told = "cannot hold the sums of this round"
        if costs is not None:
            told = (
                f"{seconds(costs['client_cpu_s'])} per client, {seconds(costs['server_cpu_s'])} for the server, "
                f"{size(costs['upload_bytes'])} sent per client"
            )
        rows.add_row(f"{one}{' (chosen)' if found['name'] == one else ''}", told)
