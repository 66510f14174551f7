"""Training while some clients are malicious: accuracy by attack and rule, and how well anomaly scores find them.

    python benchmarks/robust_training.py

The data are the demo's digits: 40 people who each wrote only some of them, a softmax regression, federated averaging
in which every person counts as one.  In every round people are drawn into groups, two are lost, and a group that loses
a member has no sum.  The sums are plain ones: a round of the protocol gives the same up to its encoding.

With ballots, everybody votes on the model that a round would lead to, by its errors on own pictures; attackers accept
everything.  A model that is dropped leaves the one before in place.

The first tables have the accuracy after the last round, by rule and attack; the number after an attack is its strength
(``secagg.cli.poisoning``).  The last one has the area under the ROC curve of the clients' scores: the probability that
an attacker's score is above an honest client's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, machine, save, table

from secagg.cli import federated
from secagg.cli.electorate import Electorate, plain_tally
from secagg.cli.poisoning import STRENGTHS, Poisoning
from secagg.robust import (
    AttackName,
    RuleName,
    Scores,
    Verdict,
    report_round,
    robust_mean,
)

LOST = 2
GROUPS_SEED, LOST_SEED = 77, 78
"""Set these draws apart from all else that is drawn."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a round's updates become one."""

    name: str
    rule: RuleName
    grouped: bool = True
    norm_limit: float | None = None
    ballots: bool = False


WAYS = [
    Way(name="plain average, no groups", rule=RuleName.MEAN, grouped=False),
    *(Way(name=str(rule), rule=rule) for rule in RuleName if rule is not RuleName.MEAN),
    Way(name="mixed-geometric-median, ballots", rule=RuleName.MIXED_GEOMETRIC_MEDIAN, ballots=True),
    Way(name="mixed-geometric-median, norm limit 2", rule=RuleName.MIXED_GEOMETRIC_MEDIAN, norm_limit=2.0),
    Way(
        name="mixed-geometric-median, norm limit 2, ballots",
        rule=RuleName.MIXED_GEOMETRIC_MEDIAN,
        norm_limit=2.0,
        ballots=True,
    ),
]
SCORED = next(way for way in WAYS if way.norm_limit is not None and not way.ballots)
ATTACKS = [*STRENGTHS.items(), (AttackName.LITTLE, 4.0), (AttackName.LITTLE, 2.5), (AttackName.LITTLE, 1.5)]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options().parse_args(arguments)
    attacks, ways = ATTACKS, WAYS
    if options.quick:
        options.rounds, options.repeat, options.shares, attacks, ways = 2, 1, [0.1], ATTACKS[:1], WAYS[:1] + WAYS[-1:]
    started, found = time.perf_counter(), machine("scikit-learn")
    ways = [way for way in ways if options.rules in way.name]
    problems = [federated.load(federated.DataName.DIGITS, seed) for seed in range(options.repeat)]
    print(f"{describe(found)}\n")
    rows: list[dict[str, Any]] = []
    for share in options.shares:
        rows += [_row(options, problems, way, share, attacks) for way in ways]
        print(f"{share:.0%} of {len(problems[0].clients)} clients attack, groups of {options.group_size}:\n")
        print(
            table(
                ["rule", "nobody attacks", *map(_named, attacks)],
                [_cells(row) for row in rows if row["share"] == share],
            )
        )
        print()
    ranks = [_ranks(options, problems, share, attack) for share in options.shares for attack in attacks]
    header = ["attackers", "attack", *(f"after {count} rounds" for count in _looks(options.rounds))]
    areas = [[f"{one['share']:.0%}", one["attack"], *(f"{area:.3f}" for area in one["areas"])] for one in ranks]
    print("Area under the ROC curve of the scores:\n")
    print(table(header, areas))
    print(f"\nMean of {options.repeat} runs of {options.rounds} rounds; {time.perf_counter() - started:.0f} s.")
    if options.output:
        save(options.output, {"machine": found, "accuracies": rows, "scores": ranks})


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--group-size", type=int, default=3, help="members of a group; some have one more")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.2], help="shares of the clients that attack")
    parser.add_argument("--rules", default="", help="only those whose name holds this")
    parser.add_argument("--repeat", type=int, default=3, help="runs, each with another split and other attackers")
    parser.add_argument("--quick", action="store_true", help="two rounds of one attack: it still runs")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    return parser


def _named(attack: tuple[AttackName, float]) -> str:
    return f"{attack[0]} {attack[1]:g}"


def _looks(rounds: int) -> list[int]:
    return [count for count in (5, 10, 20) if count <= rounds] or [rounds]


def _cells(row: dict[str, Any]) -> list[str]:
    return [row["rule"], *(f"{np.mean(reached):.1%}" for reached in (row["unattacked"], *row["attacked"].values()))]


def _row(
    options: argparse.Namespace,
    problems: list[federated.Problem],
    way: Way,
    share: float,
    attacks: list[tuple[AttackName, float]],
) -> dict[str, Any]:
    def last(attack: AttackName, strength: float, drawn: float) -> list[float]:
        return [
            _trained(options, problem, way, _poisoning(attack, strength, drawn, problem, seed), seed)[0][-1]
            for seed, problem in enumerate(problems)
        ]

    return {
        "share": share,
        "rule": way.name,
        "unattacked": last(AttackName.SIGN, 1.0, 0.0),
        "attacked": {_named(attack): last(*attack, share) for attack in attacks},
    }


def _poisoning(attack: AttackName, strength: float, share: float, problem: federated.Problem, seed: int) -> Poisoning:
    attackers = Poisoning.drawn(attack, share, len(problem.clients), seed).attackers if share else frozenset()
    return Poisoning(attack=attack, attackers=attackers, strength=strength)


def _ranks(
    options: argparse.Namespace, problems: list[federated.Problem], share: float, attack: tuple[AttackName, float]
) -> dict[str, Any]:
    areas = []
    for seed, problem in enumerate(problems):
        poisoning = _poisoning(*attack, share, problem, seed)
        states = _trained(options, problem, SCORED, poisoning, seed)[1]
        areas.append([_area(states[count - 1], poisoning.attackers) for count in _looks(options.rounds)])
    return {"share": share, "attack": _named(attack), "areas": np.mean(areas, axis=0).tolist()}


def _area(state: bytes, attackers: frozenset[int]) -> float:
    """The share of pairs of an attacker and an honest client in which the attacker's score is higher."""
    scores = {int(one.client): one.score for one in Scores.from_bytes(state).ranking()}
    bad = [score for client, score in scores.items() if client in attackers]
    good = [score for client, score in scores.items() if client not in attackers]
    return float(np.mean([one > other for one in bad for other in good]))


def _trained(
    options: argparse.Namespace, problem: federated.Problem, way: Way, poisoning: Poisoning, seed: int
) -> tuple[list[float], list[bytes]]:
    """The accuracy after each round, and the state of the scores."""
    model, scores = problem.start(), Scores()
    electorate = Electorate(problem, poisoning, seed) if way.ballots else None
    accuracies, states = [], []
    for number in range(options.rounds):
        sent = np.clip(poisoning.sent(problem, model, number, seed), -problem.clip, problem.clip)
        groups = _groups(options, len(sent), number, seed)
        if way.grouped:
            means = np.array([sent[group].mean(axis=0) for group in groups])
            counts = [len(group) for group in groups]
            centre = robust_mean(means, counts, way.rule, norm_limit=way.norm_limit)
            scores.add(report_round(means, groups, centre=centre))
        else:
            centre = sent[np.concatenate(groups)].mean(axis=0)
        candidate = federated.moved(model, federated.shaped(centre, model))
        if electorate is None or _accepted(electorate, candidate, np.concatenate(groups).tolist()):
            model = candidate
        accuracies.append(federated.accuracy(model, problem.test))
        states.append(scores.to_bytes())
    return accuracies, states


def _accepted(electorate: Electorate, candidate: federated.Model, voting: list[int]) -> bool:
    """Whether those who vote accept a candidate, with which later ones are then compared."""
    votes = electorate.votes(candidate)
    accepted = electorate.ballot.verdict(plain_tally([votes[client] for client in voting])) is Verdict.ACCEPTED
    if accepted:
        electorate.accept(candidate)
    return accepted


def _groups(options: argparse.Namespace, clients: int, number: int, seed: int) -> list[np.ndarray]:
    """The groups that lose nobody."""
    count = clients // options.group_size
    order = np.random.default_rng([seed, number, GROUPS_SEED]).permutation(clients)
    lost = np.random.default_rng([seed, number, LOST_SEED]).choice(clients, LOST, replace=False)
    ends = [group * clients // count for group in range(1, count)]
    return [group for group in np.split(order, ends) if not np.isin(group, lost).any()]


if __name__ == "__main__":
    main()
