"""Training while some clients are malicious: accuracy by attack and rule, and how well anomaly scores find them.

    python benchmarks/robust_training.py

The data are the demo's digits: 40 people who each wrote only some of them, a softmax regression, federated averaging
in which every person counts as one.  In every round people are drawn into groups, two are lost, and a group that loses
a member has no sum.  The sums are plain ones: a round of the protocol gives the same up to its encoding.

With ballots, everybody votes on the model that a round would lead to, by its errors on own pictures; attackers accept
everything.  A model that is dropped leaves the one before in place.

Where clients are left out, those that stand out over rounds are invited no longer, at most a fifth of them
(``secagg.robust.LeaveOut``); the groups are then drawn from the others.

The first tables have the accuracy after the last round, by rule and attack; the number after an attack is its strength
(``secagg.cli.poisoning``).  The next ones have the accuracy by the strength of the attack, of attackers that know what
they are up against: plain averaging, a rule over groups, and the same with clients left out; and who was left out.  The
last one has the area under the ROC curve of the clients' scores: the probability that an attacker's score is above an
honest client's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, machine, save, table

from secagg.cli import federated
from secagg.cli.electorate import Electorate, plain_tally
from secagg.cli.poisoning import STRENGTHS, Poisoning
from secagg.robust import (
    AttackName,
    Exclusions,
    LeaveOut,
    RuleName,
    Scores,
    Verdict,
    report_round,
    robust_mean,
)

LOST = 2
LEFT_OUT_SHARE = 0.2
"""Of the clients, the most that are left out."""
FEWEST_GROUPS = 3
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
    leaves_out: bool = False


@dataclass(frozen=True, kw_only=True)
class Training:
    """What came of a training.

    Attributes:
        accuracies: after each round.
        states: of the scores, after each round.
        left_out: who was no longer invited in the end.
        last_round: after which the last of them was left out; 0 for nobody.
    """

    accuracies: list[float]
    states: list[bytes]
    left_out: frozenset[int]
    last_round: int


PLAIN = Way(name="plain average, no groups", rule=RuleName.MEAN, grouped=False)
LIMITED = Way(name="mixed-geometric-median, norm limit 2", rule=RuleName.MIXED_GEOMETRIC_MEDIAN, norm_limit=2.0)
LEAVING_OUT = replace(LIMITED, name="mixed-geometric-median, norm limit 2, leaving out", leaves_out=True)
WAYS = [
    PLAIN,
    *(Way(name=str(rule), rule=rule) for rule in RuleName if rule is not RuleName.MEAN),
    Way(name="mixed-geometric-median, ballots", rule=RuleName.MIXED_GEOMETRIC_MEDIAN, ballots=True),
    LIMITED,
    replace(LIMITED, name="mixed-geometric-median, norm limit 2, ballots", ballots=True),
    LEAVING_OUT,
]
ATTACKS = [*STRENGTHS.items(), (AttackName.LITTLE, 4.0), (AttackName.LITTLE, 2.5), (AttackName.LITTLE, 1.5)]
KNOWING = {
    AttackName.SIGN: [2.0, 3.0, 5.0, 10.0],
    AttackName.BOOST: [2.0, 2.5, 3.0, 5.0, 7.0, 10.0],
    AttackName.LABELS: [3.0, 5.0, 12.0, 20.0],
    AttackName.LITTLE: [1.5, 2.5, 3.0, 4.0, 6.0, 8.0],
}
"""Strengths from which attackers choose when they know the rule."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options().parse_args(arguments)
    attacks, ways, knowing = ATTACKS, WAYS, KNOWING
    if options.quick:
        options.rounds, options.repeat, options.shares, attacks, ways = 2, 1, [0.1], ATTACKS[:1], WAYS[:1] + WAYS[-2:]
        knowing = {AttackName.SIGN: [3.0]}
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
    known = [_known(options, problems, share, knowing) for share in options.shares]
    for share, strengths in zip(options.shares, known, strict=True):
        print(
            f"{share:.0%} of the clients attack, and know the rule; left out: attackers, honest clients, last round:\n"
        )
        header = ["attack", "plain", "norm limit 2", "leaving out", "attackers", "honest", "last"]
        print(table(header, [_known_cells(row) for row in strengths]))
        print()
    print("What re-drawn groups tell of one client: cosine of its estimated average update to the true one, median:\n")
    told = np.mean([_told(options, problem, seed) for seed, problem in enumerate(problems)], axis=0)
    print(table([f"after {count} rounds" for count in _looks(options.rounds)], [[f"{one:.2f}" for one in told]]))
    print()
    ranks = [_ranks(options, problems, share, attack) for share in options.shares for attack in attacks]
    header = ["attackers", "attack", *(f"after {count} rounds" for count in _looks(options.rounds))]
    areas = [[f"{one['share']:.0%}", one["attack"], *(f"{area:.3f}" for area in one["areas"])] for one in ranks]
    print("Area under the ROC curve of the scores:\n")
    print(table(header, areas))
    print(f"\nMean of {options.repeat} runs of {options.rounds} rounds; {time.perf_counter() - started:.0f} s.")
    if options.output:
        save(
            options.output,
            {"machine": found, "accuracies": rows, "knowing": known, "told": told.tolist(), "scores": ranks},
        )


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
            _trained(options, problem, way, _poisoning(attack, strength, drawn, problem, seed), seed).accuracies[-1]
            for seed, problem in enumerate(problems)
        ]

    return {
        "share": share,
        "rule": way.name,
        "unattacked": last(AttackName.SIGN, 1.0, 0.0),
        "attacked": {_named(attack): last(*attack, share) for attack in attacks},
    }


def _known(
    options: argparse.Namespace,
    problems: list[federated.Problem],
    share: float,
    strengths: dict[AttackName, list[float]],
) -> list[dict[str, Any]]:
    """Accuracies by attack and strength, the first row that of nobody, and who was left out."""
    rows = []
    for attack, strength in [(None, 0.0), *((name, one) for name, many in strengths.items() for one in many)]:
        row: dict[str, Any] = {"share": share, "attack": "nobody" if attack is None else _named((attack, strength))}
        for way in (PLAIN, LIMITED, LEAVING_OUT):
            trainings = []
            for seed, problem in enumerate(problems):
                poisoning = _poisoning(
                    attack or AttackName.SIGN, strength or 1.0, share if attack else 0.0, problem, seed
                )
                trainings.append((poisoning.attackers, _trained(options, problem, way, poisoning, seed)))
            row[way.name] = [training.accuracies[-1] for _, training in trainings]
            if way.leaves_out:
                row["attackers"] = [len(training.left_out & bad) for bad, training in trainings]
                row["honest"] = [len(training.left_out - bad) for bad, training in trainings]
                row["last"] = [training.last_round for _, training in trainings]
        rows.append(row)
    return rows


def _known_cells(row: dict[str, Any]) -> list[str]:
    accuracies = [f"{np.mean(row[way.name]):.1%}" for way in (PLAIN, LIMITED, LEAVING_OUT)]
    return [row["attack"], *accuracies, *(f"{np.mean(row[name]):.1f}" for name in ("attackers", "honest", "last"))]


def _poisoning(attack: AttackName, strength: float, share: float, problem: federated.Problem, seed: int) -> Poisoning:
    attackers = Poisoning.drawn(attack, share, len(problem.clients), seed).attackers if share else frozenset()
    return Poisoning(attack=attack, attackers=attackers, strength=strength)


def _ranks(
    options: argparse.Namespace, problems: list[federated.Problem], share: float, attack: tuple[AttackName, float]
) -> dict[str, Any]:
    areas = []
    for seed, problem in enumerate(problems):
        poisoning = _poisoning(*attack, share, problem, seed)
        states = _trained(options, problem, LIMITED, poisoning, seed).states
        areas.append([_area(states[count - 1], poisoning.attackers) for count in _looks(options.rounds)])
    return {"share": share, "attack": _named(attack), "areas": np.mean(areas, axis=0).tolist()}


def _told(options: argparse.Namespace, problem: federated.Problem, seed: int) -> list[float]:
    """How well the server can estimate what a client sends on average, relative to everybody's average.

    By least squares over the group means of all rounds, as anybody can who sees them.
    """
    nobody, model, clients = _poisoning(AttackName.SIGN, 1.0, 0.0, problem, seed), problem.start(), len(problem.clients)
    shares, means, true, cosines = [], [], np.zeros((clients, federated.flat(model).size)), []
    for number in range(options.rounds):
        sent = np.clip(nobody.sent(problem, model, number, seed), -problem.clip, problem.clip)
        groups = _groups(options, np.arange(clients), number, seed)
        share = np.array([np.isin(np.arange(clients), group) / len(group) for group in groups])
        mean = share @ sent
        shares.append(share - share.mean(axis=0))
        means.append(mean - mean.mean(axis=0))
        true += sent - sent.mean(axis=0)
        model = federated.moved(model, federated.shaped(mean.mean(axis=0), model))
        if number + 1 in _looks(options.rounds):
            known = np.concatenate(shares)
            ridge = np.eye(clients) * 0.1 * np.square(known).sum() / clients
            found = np.linalg.solve(known.T @ known + ridge, known.T @ np.concatenate(means))
            lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(true, axis=1)
            inner = np.einsum("ij,ij->i", found, true)
            cosines.append(float(np.median(np.divide(inner, lengths, out=np.zeros(clients), where=lengths > 0))))
    return cosines


def _area(state: bytes, attackers: frozenset[int]) -> float:
    """The share of pairs of an attacker and an honest client in which the attacker's score is higher."""
    scores = {int(one.client): one.score for one in Scores.from_bytes(state).ranking()}
    bad = [score for client, score in scores.items() if client in attackers]
    good = [score for client, score in scores.items() if client not in attackers]
    return float(np.mean([one > other for one in bad for other in good]))


def _trained(
    options: argparse.Namespace, problem: federated.Problem, way: Way, poisoning: Poisoning, seed: int
) -> Training:
    model, scores = problem.start(), Scores()
    everybody = [str(client) for client in range(len(problem.clients))]
    exclusions = Exclusions(LeaveOut(at_most=int(LEFT_OUT_SHARE * len(everybody))), seed=seed)
    electorate = Electorate(problem, poisoning, seed) if way.ballots else None
    accuracies, states, last_round = [], [], 0
    for number in range(options.rounds):
        sent = np.clip(poisoning.sent(problem, model, number, seed), -problem.clip, problem.clip)
        staying = exclusions.staying(everybody, lambda count: count >= FEWEST_GROUPS * options.group_size)
        groups = _groups(options, np.array([int(name) for name in staying]), number, seed)
        if way.grouped:
            means = np.array([sent[group].mean(axis=0) for group in groups])
            counts = [len(group) for group in groups]
            centre = robust_mean(means, counts, way.rule, norm_limit=way.norm_limit)
            scores.add(report_round(means, groups, centre=centre))
            if way.leaves_out and exclusions.add(means, groups):
                last_round = number + 1
        else:
            centre = sent[np.concatenate(groups)].mean(axis=0)
        candidate = federated.moved(model, federated.shaped(centre, model))
        if electorate is None or _accepted(electorate, candidate, np.concatenate(groups).tolist()):
            model = candidate
        accuracies.append(federated.accuracy(model, problem.test))
        states.append(scores.to_bytes())
    left_out = frozenset(map(int, exclusions.names))
    return Training(accuracies=accuracies, states=states, left_out=left_out, last_round=last_round)


def _accepted(electorate: Electorate, candidate: federated.Model, voting: list[int]) -> bool:
    """Whether those who vote accept a candidate, with which later ones are then compared."""
    votes = electorate.votes(candidate)
    accepted = electorate.ballot.verdict(plain_tally([votes[client] for client in voting])) is Verdict.ACCEPTED
    if accepted:
        electorate.accept(candidate)
    return accepted


def _groups(options: argparse.Namespace, invited: np.ndarray, number: int, seed: int) -> list[np.ndarray]:
    """The groups that lose nobody."""
    clients, count = len(invited), len(invited) // options.group_size
    order = np.random.default_rng([seed, number, GROUPS_SEED]).permutation(clients)
    lost = np.random.default_rng([seed, number, LOST_SEED]).choice(clients, LOST, replace=False)
    ends = [group * clients // count for group in range(1, count)]
    return [invited[group] for group in np.split(order, ends) if not np.isin(group, lost).any()]


if __name__ == "__main__":
    main()
