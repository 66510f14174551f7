"""``secagg simulate``: a whole round in this process, checked against the plain sum."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from secagg.cli.array_files import check_names, check_output
from secagg.cli.dropout import Rates, parse_rates, schedule, total_rate
from secagg.cli.inputs import EncodedInputs, Updates, from_files, synthetic
from secagg.cli.layout_options import ArrayBitsTexts, ClipTexts, ExactTexts, LayoutOptions, parse_layout
from secagg.cli.option_words import option_words
from secagg.cli.options import AsJson, Bits, ChosenSuite, Neighbours, RoundGamma, Threat
from secagg.cli.output import EXIT_FAILED, PhaseProgress, print_json, results, usage_errors
from secagg.cli.report import SimulatedRound, report, show
from secagg.cli.rounds import Cohort, SuiteName, config_for, warm_up
from secagg.errors import ParameterError
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import ThreatModel
from secagg.simulation import simulate as run_simulation
from secagg.simulation.faults import phases_of
from secagg.simulation.prepared import simulate_prepared

_DEFAULT_CLIENTS = 100
_DEFAULT_DIM = 10_000
"""A round that takes a second or two."""


def simulate(
    clients: Annotated[
        int | None,
        typer.Option(
            help=f"Number of clients to invite (default: {_DEFAULT_CLIENTS}, or one per input file).",
            show_default=False,
        ),
    ] = None,
    dim: Annotated[
        int | None,
        typer.Option(
            help=f"Number of values in an update (default: {_DEFAULT_DIM:,}, or as many as the input files hold).",
            show_default=False,
            min=1,
        ),
    ] = None,
    dropout: Annotated[
        str,
        typer.Option(
            help="Share of the clients that drops out in the phase MASK, after they have dealt their shares. Shares "
            "for several phases are written as share=.02,mask=.05,unmask=.03; advertise= and confirm= exist too. The "
            "number of clients is rounded down."
        ),
    ] = "0",
    neighbours: Neighbours = "auto",
    threat: Threat = ThreatModel.SEMI_HONEST,
    gamma: RoundGamma = None,
    delta: Annotated[
        float | None,
        typer.Option(
            help="Largest share of the clients that may drop out, which the round is planned for (default: the total "
            "of --dropout).",
            show_default=False,
        ),
    ] = None,
    bits: Bits = 16,
    clip: ClipTexts = None,
    array_bits: ArrayBitsTexts = None,
    exact: ExactTexts = None,
    suite: ChosenSuite = SuiteName.AES_128,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of all randomness, which makes the round reproducible. For tests only.",
            min=0,
            show_default=False,
        ),
    ] = None,
    inputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--input",
            metavar="FILE ...",
            help="The clients' updates, one .npz or .safetensors file per client (default: random values).",
            show_default=False,
        ),
    ] = None,
    more_inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="More input files, one per client.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File to write the sum to, .npz or .safetensors (default: the sum is not written).",
            show_default=False,
        ),
    ] = None,
    full: Annotated[
        int | None,
        typer.Option(
            help="Number of clients to run in full. The messages of the others are made in a cheaper way, which saves "
            "time in large rounds, above all with --threat active (default: all).",
            show_default=False,
            min=1,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a round in this process and compare its sum with the plain one.

    Exit code 0: the included vectors were summed exactly. 1: they were not, or the round was aborted. 2: the command
    cannot be carried out.

    Without --clip, random values are drawn up to 1, and each array of the input files gets a clip of its own, which is
    its largest absolute value. Values beyond a clip are clipped when they are encoded: the report counts them, and
    warns where an array loses more than a hundredth of its largest value.

    In the JSON object, a client's figures are medians. client_cpu_s and the bytes are medians over the clients that
    stayed to the end; encoding is not part of them, and has its own figure, encode_s. The figures of a phase are
    medians over the clients that took part in it. With --full, the CPU times are those of the clients that ran in full,
    and the key full gives their number.

    Each bound under security is a probability, given as its logarithm to base 2: -40 stands for 2^-40, and null for a
    probability of zero. colluders and dropouts are the numbers of clients that may collude and drop out; gamma and
    delta are the shares that were given for them, or null. max_error, clipped, client_floor_s and server_floor_s are
    null when there is no sum. arrays and error_bound are in the unit of the values. exact_sums has the sums of the
    arrays of --exact as decimal numbers, except for arrays of more than 1,000 values.
    """
    with usage_errors("simulate"):
        drawn = secrets.randbits(64) if seed is None else seed
        files = [*(inputs or ()), *(more_inputs or ())]
        if output is not None:
            check_output(output, files)
        updates = _updates(files, clients, dim, parse_layout(clip, array_bits, exact), drawn)
        if output is not None:
            check_names(output, [leaf.name for leaf in updates.template.leaves], files)
        rates = parse_rates(dropout)
        delta = total_rate(rates, delta)
        encoded = EncodedInputs(updates, bits, drawn)
        with option_words():
            config = config_for(updates.clients, encoded.encoder, threat, gamma, delta, neighbours, suite)
        run = _run(config, encoded, rates, gamma=gamma, delta=delta, seed=seed, dropout_seed=drawn, full=full)
        found = report(replace(run, output=output))
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
    gamma: float | None,
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


def _updates(files: list[Path], clients: int | None, dim: int | None, layout: LayoutOptions, seed: int) -> Updates:
    """What the clients hold: made up, or read from the files, which --clients and --dim must then agree with."""
    if not files:
        return synthetic(
            _DEFAULT_CLIENTS if clients is None else clients, _DEFAULT_DIM if dim is None else dim, layout, seed
        )
    updates = from_files(files, layout)
    for name, met, given in (("--clients", clients, len(files)), ("--dim", dim, updates.template.size)):
        if met is not None and met != given:
            raise ParameterError(
                f"{name} {met}: the {len(files)} input files make it {given}; leave the option out, or give other files"
            )
    return updates
