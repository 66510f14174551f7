"""Accuracy against epsilon with hundreds of clients: distributed noise, a trusted server's noise, and none.

    python benchmarks/private_training.py [--plot docs/private-training.png]

The data are scikit-learn's handwritten digits, split over clients that have about three pictures each.  The model is a
softmax regression, and the training is federated averaging: every round each client takes one gradient step, and a
tenth of the clients, drawn by lot, drop out.  The noise is sized for what then is left, less the clients that may
collude.  An epsilon holds for each client, over all rounds, also against the server: nobody is sampled.

Rounds are in memory: the vectors of ``PrivateEncoder`` are summed modulo 2^bits, which is what a server gets out of the
protocol.  For comparison, the same model is trained with NumPy's Gaussian noise on the plain sum (the central Gaussian
mechanism, with the same clip and accountant) and without noise.  Pictures are prepared by constants alone: what was
learned from the data would have to be paid for, too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from machine import describe, machine, save, table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from secagg import RoundConfig
from secagg.cli import federated
from secagg.privacy import PrivateEncoder
from secagg.privacy.calibration import Calibration, calibrate, honest_contributors
from secagg.simulation import SeededRandomness

GREY = 0.3
"""Subtracted from every pixel of 0 to 1: about the mean of handwriting, and no statistic of these data."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One epsilon; accuracies by seed and by round, from before the first round on."""

    epsilon: float
    promised_epsilon: float
    noise_multiplier: float
    bits: int
    excess: float
    distributed: list[list[float]]
    central: list[list[float]]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options().parse_args(arguments)
    if options.quick:
        options.clients, options.rounds, options.epsilons, options.repeat = 40, 3, [8.0], 1
    started = time.perf_counter()
    cohort = _cohort(options)
    problems = [_problem(options, seed) for seed in range(options.repeat)]
    none = [_trained(options, cohort, problem, 0.0, seed) for seed, problem in enumerate(problems)]
    rows = [_row(options, cohort, problems, epsilon) for epsilon in options.epsilons]
    found = machine("dp-accounting", "scikit-learn")
    print(f"{describe(found)}\n")
    sizes = [len(samples) for samples in problems[0].clients]
    print(
        f"{options.clients} clients with {min(sizes)} to {max(sizes)} pictures each, {options.rounds} rounds, "
        f"{cohort.min_survivors} clients in each sum, of whom {honest_contributors(cohort)} are honest; delta "
        f"{options.delta:g}, clip {options.clip:g}; accuracy on {len(problems[0].test)} pictures of a test set, "
        f"mean of {options.repeat} runs; {time.perf_counter() - started:.0f} s.\n"
    )
    print(
        table(
            ["epsilon", "noise / clip", "bits", "distributed noise", "trusted server", "no noise"],
            [
                [
                    f"{row.epsilon:g}",
                    f"{row.noise_multiplier:.2f}",
                    str(row.bits),
                    *(f"{_last(curves):.1%}" for curves in (row.distributed, row.central, none)),
                ]
                for row in rows
            ],
        )
    )
    if options.output:
        save(options.output, {"machine": found, "no_noise": none, "rows": [asdict(row) for row in rows]})
    if options.plot:
        _draw(options.plot, rows, none)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0])
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--clip", type=float, default=0.5, help="L2 norm that an update is shortened to")
    parser.add_argument("--step", type=float, default=8.0, help="what the mean update is multiplied by")
    parser.add_argument("--dropout", type=float, default=0.1, help="share of the clients that drops out of every round")
    parser.add_argument("--colluders", type=float, default=0.05, help="share of the clients that may collude")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="some clients, rounds and one epsilon: it still runs")
    parser.add_argument("--plot", type=Path, help="write a picture; its suffix says of which kind")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    return parser


def _cohort(options: argparse.Namespace) -> RoundConfig:
    lost = int(options.dropout * options.clients)
    return RoundConfig.for_cohort(
        options.clients,
        1,
        gamma=options.colluders,
        delta=options.dropout,
        min_survivors=options.clients - lost,
    )


def _problem(options: argparse.Namespace, seed: int) -> federated.Problem:
    """The digits, each picture of norm 1, in shares of the same size."""
    data = load_digits()
    pictures = data.data / 16 - GREY
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
    train, test, train_labels, test_labels = train_test_split(
        pictures, data.target, test_size=0.3, random_state=seed, stratify=data.target
    )
    shares = np.array_split(np.random.default_rng(seed).permutation(len(train)), options.clients)
    return federated.Problem(
        title="Handwritten digits",
        members="people",
        clients=[federated.Samples(train[share], train_labels[share]) for share in shares],
        pooled=federated.Samples(train, train_labels),
        test=federated.Samples(test, test_labels),
        rate=1.0,
        epochs=1,
        clip=1.0,
        norm=options.clip,
        max_weight=1,
    )


def _row(
    options: argparse.Namespace, cohort: RoundConfig, problems: Sequence[federated.Problem], epsilon: float
) -> Row:
    template = problems[0].start()
    found = calibrate(
        epsilon=epsilon,
        delta=options.delta,
        rounds=options.rounds,
        length=PrivateEncoder.coordinates(template),
        clip=options.clip,
        clients=cohort.clients,
        honest=honest_contributors(cohort),
    )
    sigma = found.central_multiplier * options.clip
    return Row(
        epsilon=epsilon,
        promised_epsilon=found.promise.epsilon,
        noise_multiplier=found.promise.noise_multiplier,
        bits=found.mechanism.bits,
        excess=found.excess,
        distributed=[_private(options, cohort, problem, found, seed) for seed, problem in enumerate(problems)],
        central=[_trained(options, cohort, problem, sigma, seed) for seed, problem in enumerate(problems)],
    )


def _private(
    options: argparse.Namespace, cohort: RoundConfig, problem: federated.Problem, found: Calibration, seed: int
) -> list[float]:
    """The accuracies by round, with noise of the clients."""
    noise = SeededRandomness(seed, "noise")  # so that the script prints the same figures again; for simulations alone
    encoder = PrivateEncoder(problem.start(), found.mechanism, randomness=noise)
    config = cohort.replace(
        length=encoder.length, modulus=encoder.modulus_for(cohort.clients), input_max=encoder.input_max
    )

    def mean_of(number: int, update_of: federated.UpdateOf) -> federated.Model:
        bound = encoder.for_round(config.replace(context=encoder.layout_digest() + bytes([seed, number])))
        total = np.zeros(encoder.length, np.uint64)
        included = list(_included(cohort, seed, number))
        for client in included:
            total += bound.encode(update_of(client))
        mean: federated.Model = bound.decode_sum(total % config.modulus.value, len(included)).mean
        return mean

    return federated.train(problem, options.rounds, mean_of, seed, options.step)


def _trained(
    options: argparse.Namespace, cohort: RoundConfig, problem: federated.Problem, sigma: float, seed: int
) -> list[float]:
    """The accuracies by round, with so much Gaussian noise on the plain sum, or none."""

    def mean_of(number: int, update_of: federated.UpdateOf) -> federated.Model:
        updates = (update_of(client) for client in _included(cohort, seed, number))
        return federated.noisy_mean(updates, options.clip, sigma, np.random.default_rng([seed, number, 1]))

    return federated.train(problem, options.rounds, mean_of, seed, options.step)


def _included(cohort: RoundConfig, seed: int, number: int) -> Iterator[int]:
    order = np.random.default_rng([seed, number]).permutation(cohort.clients)
    yield from sorted(order[: cohort.min_survivors].tolist())


def _last(curves: Sequence[Sequence[float]]) -> float:
    return float(np.mean([curve[-1] for curve in curves]))


def _draw(path: Path, rows: Sequence[Row], none: Sequence[Sequence[float]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for row in rows:
        left.plot(np.mean(row.distributed, axis=0), label=f"epsilon {row.epsilon:g}")
    left.plot(np.mean(none, axis=0), "k--", label="no noise")
    left.set(xlabel="round", title="distributed noise", ylim=(0.5, 1))
    epsilons = [row.epsilon for row in rows]
    right.plot(epsilons, [_last(row.distributed) for row in rows], "o-", label="distributed noise")
    right.plot(epsilons, [_last(row.central) for row in rows], "s:", label="trusted server")
    right.axhline(_last(none), color="black", linestyle="--", label="no noise")
    right.set(xlabel="epsilon, over all rounds", title="last round", xscale="log", ylim=(0.5, 1))
    right.set_xticks(epsilons, [f"{epsilon:g}" for epsilon in epsilons])
    right.minorticks_off()
    for axes in (left, right):
        axes.set_ylabel("accuracy on test data")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
