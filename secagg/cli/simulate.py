"""``secagg simulate``: a whole round in this process, checked against the plain sum."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any

import numpy as np
import typer

from secagg.cli.array_files import check_names, check_output
from secagg.cli.command_options import command_of, flags_given
from secagg.cli.complaints import complaint_arguments
from secagg.cli.dropout import Rates, parse_rates, schedule, total_rate
from secagg.cli.inputs import EncodedInputs, RoundInputs, Updates, from_files, synthetic
from secagg.cli.layout_options import LayoutOptions, parse_layout
from secagg.cli.option_words import option_words
from secagg.cli.options import DEFAULT_CLIENTS, DEFAULT_DIM
from secagg.cli.output import EXIT_FAILED, PhaseProgress, print_json, results, usage_errors
from secagg.cli.private_round import PrivateRound, infeasible_as_json, private_round
from secagg.cli.private_simulation import (
    PrivateInputs,
    SimulatedPrivateRound,
    private_clip,
    private_report,
    show_private,
    synthetic_of_norm,
)
from secagg.cli.promise_options import PLAIN_BITS
from secagg.cli.report import SimulatedRound, report, show
from secagg.cli.rounds import Cohort, config_for, grouped_arguments, warm_up_for
from secagg.cli.simulate_options import SimulateOptions
from secagg.errors import ParameterError
from secagg.pairwise.config import RoundConfig
from secagg.simulation import Outcome
from secagg.simulation import simulate as run_simulation
from secagg.simulation.carriers import with_carrier
from secagg.simulation.faults import phases_of
from secagg.simulation.prepared import simulate_prepared


@command_of(SimulateOptions)
def simulate(options: SimulateOptions) -> None:
    """Run a round in this process and compare its sum with the plain one.

    Exit code 0: the included vectors were summed exactly. 1: they were not, or the round was aborted. 2: the command
    cannot be carried out.

    Without --clip, random values are drawn up to 1, and each array of the input files gets a clip of its own, which is
    its largest absolute value. Values beyond a clip are clipped when they are encoded: the report counts them, and
    warns where an array loses more than a hundredth of its largest value.

    With --private or --epsilon, every client adds a share of noise, which is sized for the fewest honest clients that a
    sum can have. --clip is then the L2 norm that a whole update is shortened to: random updates have just that
    norm, and input files need the option. The report says what was promised and what was reached, and how far the mean
    is from the plain one. --delta is the second number of the promise; the share of the clients that may drop out is
    --max-dropout, which is the total of --dropout when it is not given.

    In the JSON object, a client's figures are medians. client_cpu_s and the bytes are medians over the clients that
    stayed to the end; encoding is not part of them, and has its own figure, encode_s. The figures of a phase are
    medians over the clients that took part in it. With --full, the CPU times are those of the clients that ran in full,
    and the key full gives their number.

    Each bound under security is a probability, given as its logarithm to base 2: -40 stands for 2^-40, and null for a
    probability of zero. colluders and dropouts are the numbers of clients that may collude and drop out; gamma and
    delta are the shares that were given for them, or null. complaints is null without complaints; its most is how many
    a client may make. max_error, clipped, client_floor_s and server_floor_s are
    null when there is no sum. arrays and error_bound are in the unit of the values. exact_sums has the sums of the
    arrays of --exact as decimal numbers, except for arrays of more than 1,000 values. In a private round, the keys
    privacy and error stand for error_bound, arrays, exact_sums and clipped; an epsilon is null where it is infinite.
    """
    with usage_errors("simulate"):
        run = _simulated(options)
        found = private_report(run) if isinstance(run, SimulatedPrivateRound) else report(run)
    if options.as_json:
        print_json(found)
    else:
        (show_private if isinstance(run, SimulatedPrivateRound) else show)(found, run.config, results())
    if not found["ok"]:
        raise typer.Exit(EXIT_FAILED)


def _simulated(options: SimulateOptions) -> SimulatedRound:
    """Make or read the updates, agree on a config, and run the round."""
    _check_words(options)
    drawn = secrets.randbits(64) if options.seed is None else options.seed
    if options.output is not None:
        check_output(options.output, options.files)
    layout = parse_layout(options.clip, options.array_bits, options.exact)
    clip = private_clip(layout, files=bool(options.files)) if options.is_private else None
    privacy = options.privacy(clip)
    updates = _updates(options, layout, drawn)
    if options.output is not None:
        check_names(options.output, [leaf.name for leaf in updates.template.leaves], options.files)
    ask = privacy.ask(updates.clients)
    rates = parse_rates(options.dropout)
    delta = total_rate(rates, privacy.most_lost, "--max-dropout" if options.is_private else "--delta")
    bits = PLAIN_BITS if ask is not None or options.bits is None else options.bits
    inputs: RoundInputs[Any] = EncodedInputs(updates, bits, drawn)
    with option_words():
        config = config_for(
            updates.clients,
            inputs.encoder,
            options.threat,
            options.gamma,
            delta,
            options.neighbours,
            options.suite,
            own={
                **grouped_arguments(options.groups, options.min_group),
                **complaint_arguments(complaints=options.complaints),
            },
        )
    agreed: PrivateRound | None = None
    if ask is not None:
        with infeasible_as_json(options.as_json):
            agreed = private_round(ask, updates.template, config)
        inputs, config = PrivateInputs(updates, drawn, agreed), agreed.config
    config = with_carrier(config, options.carrier)
    config, outcome, compile_s = _run(config, inputs, rates, options, dropout_seed=drawn)
    run = SimulatedRound(
        config=config,
        outcome=outcome,
        inputs=inputs,
        gamma=options.gamma,
        delta=delta,
        seed=options.seed,
        compile_s=compile_s,
        full=options.full,
        output=options.output,
    )
    return run if agreed is None else SimulatedPrivateRound(**vars(run), agreed=agreed)


def _check_words(options: SimulateOptions) -> None:
    """Raises ParameterError for a word that stands for a file and names none: it may be meant as a flag's value."""
    for file in options.more_inputs or ():
        if not file.exists():
            told = f"{file}: there is no such file. A word that belongs to no option is the name of an input file"
            if flags := flags_given(options):
                takes = "takes no value: give it" if len(flags) == 1 else "take no value: give them"
                told += f", and {' and '.join(flags)} {takes} without {file}"
            raise ParameterError(told)


def _run(
    config: RoundConfig,
    inputs: RoundInputs[Any],
    rates: Rates,
    options: SimulateOptions,
    *,
    dropout_seed: int,
) -> tuple[RoundConfig, Outcome, float]:
    """Draw who is lost, make the cohort's identities, warm up, and run the round.

    Returns the config with its cohort, what came of it, and the seconds that compiling took.
    """
    faults = schedule(rates, config.clients, phases_of(config), np.random.default_rng([dropout_seed, config.clients]))
    cohort = Cohort(config.clients, config.threat_model, options.seed)
    config = config.replace(cohort=cohort.digest)
    with PhaseProgress() as progress:
        compile_s = warm_up_for(config)
        run_round = run_simulation if options.full is None else partial(simulate_prepared, full=options.full)
        outcome = run_round(
            inputs,
            config,
            attachments=inputs.keys if isinstance(inputs, PrivateInputs) and config.attachment_bytes else None,
            faults=faults,
            seed=options.seed,
            identities=cohort.identities,
            directory=cohort.directory,
            progress=progress,
        )
    return config, outcome, compile_s


def _updates(options: SimulateOptions, layout: LayoutOptions, seed: int) -> Updates:
    """What the clients hold: made up, or read from the files, which --clients and --dim must then agree with."""
    files = options.files
    if not files:
        make = synthetic_of_norm if options.is_private else synthetic
        return make(
            DEFAULT_CLIENTS if options.clients is None else options.clients,
            DEFAULT_DIM if options.dim is None else options.dim,
            layout,
            seed,
        )
    updates = from_files(files, layout)
    for name, met, given in (
        ("--clients", options.clients, len(files)),
        ("--dim", options.dim, updates.template.size),
    ):
        if met is not None and met != given:
            raise ParameterError(
                f"{name} {met}: the {len(files)} input files make it {given}; leave the option out, or give other files"
            )
    return updates
