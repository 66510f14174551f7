"""``secagg simulate``: a whole round in this process, checked against the plain sum."""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from secagg.cli.dropout import Rates, parse_rates, schedule, total_rate
from secagg.cli.inputs import EncodedInputs, Updates, from_files, synthetic
from secagg.cli.options import AsJson, Bits, ChosenSuite, Gamma, Neighbours, Threat
from secagg.cli.output import EXIT_FAILED, PhaseProgress, print_json, results, usage_errors
from secagg.cli.report import SimulatedRound, report, show
from secagg.cli.rounds import Cohort, SuiteName, config_for, warm_up
from secagg.config import RoundConfig, ThreatModel
from secagg.errors import ParameterError
from secagg.testing import simulate as run_simulation
from secagg.testing.faults import phases_of
from secagg.testing.prepared import simulate_prepared

_DEFAULT_CLIENTS = 100
_DEFAULT_DIM = 10_000


def simulate(
    clients: Annotated[
        int | None, typer.Option(help=f"How many are invited; {_DEFAULT_CLIENTS}, or one a file.", show_default=False)
    ] = None,
    dim: Annotated[
        int | None,
        typer.Option(help=f"Values of an update; {_DEFAULT_DIM:,}, or those in a file.", show_default=False, min=1),
    ] = None,
    dropout: Annotated[
        str,
        typer.Option(
            help="The share of the clients that is lost in MASK, after dealing its shares; or shares by the phase that "
            "they are lost in: share=.02,mask=.05,unmask=.03, and advertise=, confirm=. Exactly floor(share x clients)."
        ),
    ] = "0",
    neighbours: Neighbours = "auto",
    threat: Threat = ThreatModel.SEMI_HONEST,
    gamma: Gamma = 0.2,
    delta: Annotated[
        float | None,
        typer.Option(help="The largest share that may be lost; the total of --dropout.", show_default=False),
    ] = None,
    bits: Bits = 16,
    clip: Annotated[
        float | None,
        typer.Option(help="The largest absolute value kept; 1, or the largest one in the files.", show_default=False),
    ] = None,
    suite: ChosenSuite = SuiteName.AES_128,
    seed: Annotated[int | None, typer.Option(help="Makes everything reproducible, for tests only.", min=0)] = None,
    inputs: Annotated[
        list[Path] | None, typer.Option("--input", metavar="FILE.npz ...", help="The clients' updates, a file each.")
    ] = None,
    more_inputs: Annotated[list[Path] | None, typer.Argument(metavar="FILE.npz", help="More of --input.")] = None,
    full: Annotated[
        int | None,
        typer.Option(
            help="Run so many clients in full, and make the others' messages by a cheaper route: for large cohorts, "
            "above all in active.",
            show_default="all",
            min=1,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a round in this process and compare its sum with the plain one.

    Exit code 0: the sum is exact. 1: it is not, or the round was aborted. 2: the command cannot be carried out.

    In the JSON object, a client's figures are medians: client_cpu_s and the bytes over those that stayed to the end,
    without encoding (encode_s), those of a phase over whoever took part in it. A bound's log2 is null when it is minus
    infinity; max_error and the floors are null when there is no sum to speak of. With --full, client_cpu_s and the
    phases' are of the clients in full, and the key full says how many.
    """
    with usage_errors("simulate"):
        drawn = secrets.randbits(64) if seed is None else seed
        updates = _updates([*(inputs or ()), *(more_inputs or ())], clients, dim, clip, drawn)
        rates = parse_rates(dropout)
        delta = total_rate(rates, delta)
        encoded = EncodedInputs(updates, bits, drawn)
        config = config_for(updates.clients, encoded.encoder, threat, gamma, delta, neighbours, suite)
        run = _run(config, encoded, rates, gamma=gamma, delta=delta, seed=seed, dropout_seed=drawn, full=full)
        found = report(run)
    if as_json:
        print_json(found)
    else:
        show(found, run.config, results())
    if not found["ok"]:
        raise typer.Exit(EXIT_FAILED)


def _run(
    config: RoundConfig,
    encoded: EncodedInputs,
    rates: Rates,
    *,
    gamma: float,
    delta: float,
    seed: int | None,
    dropout_seed: int,
    full: int | None,
) -> SimulatedRound:
    """Draw who is lost, make the cohort's identities, warm up, and run the round."""
    faults = schedule(rates, config.clients, phases_of(config), np.random.default_rng([dropout_seed, config.clients]))
    cohort = Cohort(config.clients, config.threat_model, seed)
    config = config.replace(cohort=cohort.digest)
    with PhaseProgress() as progress:
        compile_s = warm_up(config.modulus, config.suite, config.threat_model)
        run_round = run_simulation if full is None else partial(simulate_prepared, full=full)
        outcome = run_round(
            encoded,
            config,
            faults=faults,
            seed=seed,
            identities=cohort.identities,
            directory=cohort.directory,
            progress=progress,
        )
    return SimulatedRound(
        config=config,
        outcome=outcome,
        inputs=encoded,
        gamma=gamma,
        delta=delta,
        seed=seed,
        compile_s=compile_s,
        full=full,
    )


def _updates(files: list[Path], clients: int | None, dim: int | None, clip: float | None, seed: int) -> Updates:
    """What the clients hold: made up, or read from the files, which --clients and --dim must then agree with."""
    if not files:
        return synthetic(
            _DEFAULT_CLIENTS if clients is None else clients, _DEFAULT_DIM if dim is None else dim, clip, seed
        )
    updates = from_files(files, clip)
    for name, met, given in (("--clients", clients, len(files)), ("--dim", dim, updates.template.size)):
        if met is not None and met != given:
            raise ParameterError(f"{name} {met}: the input files make it {given}; leave it out, or give other files")
    return updates
