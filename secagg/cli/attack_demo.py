"""``secagg demo --attack``: plain averaging beside a robust mean of secure groups, while some clients are malicious.

Three models are trained side by side on the same data: by the robust mean of the group sums of real rounds, by plain
averaging with the same attackers, and by plain averaging that nobody attacks.  Every client counts as one: whoever
poisons its update would claim a large weight, too.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from rich.console import Console

from secagg.cli import federated
from secagg.cli.demo_progress import shown
from secagg.cli.dropout import all_lost
from secagg.cli.electorate import Count, Electorate
from secagg.cli.output import table
from secagg.cli.poisoning import Poisoning
from secagg.cli.rounds import Cohort, warm_up
from secagg.encoding import Encoder
from secagg.pairwise.config import RoundConfig, Suite
from secagg.pairwise.phases import ThreatModel
from secagg.robust import Exclusions, LeaveOut, RuleName, Scores, Verdict, group_means, report_round, robust_mean
from secagg.simulation import simulate
from secagg.wording import counted

GROUP_SIZE: Final = 3
"""The fewest that a group can have: with more in each, more of the groups hold an attacker."""
NORM_LIMIT: Final = 2.0
LEFT_OUT_SHARE: Final = 0.2
"""Of the clients: the most that are left out, where leaving out is asked for.  Nobody knows the attackers' number."""
_FEWEST_GROUPS: Final = 3
_DELTA: Final = 0.05
_BITS: Final = 16
_SHOWN: Final = 5
"""Clients of the ranking that a person is shown beyond the number of attackers."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AttackedRound:
    """What a round came to; accuracies are those after it.

    Attributes:
        invited: clients that were.
        groups: into how many they were drawn.
        opened: groups that have a sum.
        poisoned: those of them with an attacker.
        error, error_bound: the largest difference of a group's mean from the plain one, and what its encoding allows.
        robust, plain, unattacked: accuracies of the three models.
        ballot: the clients' vote on the robust model; None in a training without ballots.
    """

    invited: int
    groups: int
    opened: int
    poisoned: int
    error: float
    error_bound: float
    robust: float
    plain: float
    unattacked: float
    ballot: Count | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AttackRun:
    """A training under attack.

    Attributes:
        poisoning: the attack.
        groups: into how many the whole cohort is drawn.
        start: the accuracy of the first model.
        ranking: clients and their scores, the highest first.
        left_out: who is no longer invited, the one that stood out the most first; None where it was not asked for.
        abort: why it ended early.
    """

    title: str
    members: str
    clients: int
    poisoning: Poisoning
    groups: int
    rule: RuleName
    start: float
    rounds: list[AttackedRound]
    ranking: list[tuple[int, float]]
    left_out: list[int] | None
    abort: str | None

    @property
    def ok(self) -> bool:
        """Whether every round gave the groups' plain means, up to their encoding, and every ballot the plain count."""
        counts = [done.ballot.is_right for done in self.rounds if done.ballot is not None]
        return self.abort is None and all(counts) and all(done.error <= done.error_bound for done in self.rounds)

    @property
    def has_ballots(self) -> bool:
        """Whether the clients voted."""
        return any(done.ballot is not None for done in self.rounds)

    def curves(self) -> dict[str, list[float]]:
        """The accuracies before the first round and after each."""
        return {
            f"{self.rule} of secure groups{', ballots' * self.has_ballots}, attacked": [
                self.start,
                *(done.robust for done in self.rounds),
            ],
            "plain averaging, attacked": [self.start, *(done.plain for done in self.rounds)],
            "plain averaging, nobody attacks": [self.start, *(done.unattacked for done in self.rounds)],
        }

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints of it."""
        return {
            "ok": self.ok,
            "abort": self.abort,
            "clients": self.clients,
            "attack": str(self.poisoning.attack),
            "attackers": sorted(self.poisoning.attackers),
            "strength": self.poisoning.strength,
            "groups": self.groups,
            "rule": str(self.rule),
            "norm_limit": NORM_LIMIT,
            "start_accuracy": self.start,
            "rounds": [
                {
                    "invited": done.invited,
                    "groups": done.opened,
                    "poisoned": done.poisoned,
                    "max_error": done.error,
                    "error_bound": done.error_bound,
                    "accuracy": {"robust": done.robust, "plain": done.plain, "unattacked": done.unattacked},
                    "ballot": None if done.ballot is None else done.ballot.as_json(),
                }
                for done in self.rounds
            ],
            "ranking": [{"client": client, "score": score} for client, score in self.ranking],
            "left_out": self.left_out,
        }

    def show(self, console: Console) -> None:
        """Print the training for a person."""
        bad = self.poisoning.attackers
        rows = table(
            f"{self.title}: {counted(len(bad), 'attacker')} of {self.clients} ({self.poisoning.attack})",
            "round", "invited", "groups", "poisoned", "robust", "plain", "nobody attacks",
            *["ballot"] * self.has_ballots,
        )  # fmt: skip
        rows.add_row("start", "", "", "", *[f"{self.start:.1%}"] * 3)
        for number, done in enumerate(self.rounds, 1):
            accuracies = (f"{value:.1%}" for value in (done.robust, done.plain, done.unattacked))
            ballot = [] if done.ballot is None else [_said(done.ballot)]
            opened = f"{done.opened} of {done.groups}"
            rows.add_row(str(number), str(done.invited), opened, str(done.poisoned), *accuracies, *ballot)
        console.print(rows)
        if self.abort is not None:
            console.print(f"ABORTED: {self.abort}", style="red")
        if not self.ok:
            wrong = "A group's mean differs from the plain one by more than its encoding allows, or a count is wrong."
            console.print(wrong, style="red")
        first = ", ".join(
            f"{client}{'*' if client in bad else ''} ({score:.2f})"
            for client, score in self.ranking[: len(bad) + _SHOWN]
        )
        console.print(
            f"In {'each' if self.left_out is None else 'the first'} round the {self.clients} {self.members} were drawn "
            f"into {counted(self.groups, 'group')}. The "
            f"server saw one sum for each group. The column 'robust' is the rule {self.rule} over the groups' means "
            f"without those longer than {NORM_LIMIT:g} times the short ones. 'plain' averages all updates in the clear "
            "with the same attackers. A group that lost a member has no sum.\n"
            f"The highest anomaly scores, with attackers marked by a star: {first}. A score is the mean distance of a "
            "client's groups from the robust centre; it is a hint, and no proof.\n",
            soft_wrap=True,
        )
        if self.left_out is not None:
            named = ", ".join(f"{client}{'*' if client in bad else ''}" for client in self.left_out) or "nobody"
            console.print(
                "Left out because their updates, as estimated from the groups' means of several rounds, stood out: "
                f"{named}. They were no longer invited. Whoever has no star was honest.\n",
                soft_wrap=True,
            )
        if self.has_ballots:
            console.print(
                "After each round the clients tested the new model on their own data, and voted in one more secure sum "
                "of each group, so that nobody saw a single vote. The column 'ballot' says how many of the voters "
                "objected; the attackers never do. A model that is dropped leaves the previous one in its place.\n",
                soft_wrap=True,
            )


def _said(ballot: Count) -> str:
    return f"{ballot.verdict}, {ballot.tally.objections} of {ballot.tally.voters} object"


def run(
    problem: federated.Problem,
    threat: ThreatModel,
    rounds: int,
    seed: int,
    poisoning: Poisoning,
    rule: RuleName,
    *,
    ballots: bool = False,
    leave_out: bool = False,
) -> AttackRun:
    """Train on a data set under an attack.

    Args:
        problem: the data set.
        threat: what the server may do.
        rounds: how many.
        seed: of dropouts and training.
        poisoning: who attacks, and how.
        rule: of the robust mean.
        ballots: whether the clients vote on each model that the robust mean gives.
        leave_out: whether clients that stand out over rounds are no longer invited.

    Raises InfeasibleError, which is a ParameterError, where the cohort is too small for groups.
    """
    electorate = Electorate(problem, poisoning, seed) if ballots else None
    exclusions = None
    if leave_out:
        exclusions = Exclusions(LeaveOut(at_most=max(1, math.floor(LEFT_OUT_SHARE * len(problem.clients)))))
    return _AttackTraining(problem, threat, seed, poisoning, rule, electorate, exclusions).run(rounds)


class _AttackTraining:
    """Three models side by side, and the scores of the clients."""

    def __init__(
        self,
        problem: federated.Problem,
        threat: ThreatModel,
        seed: int,
        poisoning: Poisoning,
        rule: RuleName,
        electorate: Electorate | None,
        exclusions: Exclusions | None,
    ) -> None:
        self.problem, self.threat, self.seed, self.rule = problem, threat, seed, rule
        self.poisoning, self.electorate, self.exclusions = poisoning, electorate, exclusions
        self.nobody = Poisoning(attack=poisoning.attack, attackers=frozenset(), strength=poisoning.strength)
        self.clients = len(problem.clients)
        self.invited = list(range(self.clients))
        self.cohort = Cohort(self.clients, threat)
        self.robust = self.plain = self.unattacked = problem.start()
        self.encoder = Encoder(self.robust, clip=problem.clip, bits=_BITS)
        self.scores = Scores()
        self.rounds: list[AttackedRound] = []
        self.abort: str | None = None

    def run(self, rounds: int) -> AttackRun:
        start = federated.accuracy(self.robust, self.problem.test)
        warm_up(self.config(0).modulus, Suite.AES_128, self.threat)
        for number in shown(range(rounds), f"rounds with {self.problem.members}"):
            if not self.round(number):
                break
        return AttackRun(
            title=self.problem.title,
            members=self.problem.members,
            clients=self.clients,
            poisoning=self.poisoning,
            groups=self.clients // GROUP_SIZE,
            rule=self.rule,
            start=start,
            rounds=self.rounds,
            ranking=[(int(one.client), one.score) for one in self.scores.ranking()],
            left_out=None if self.exclusions is None else [int(name) for name in self.exclusions.names],
            abort=self.abort,
        )

    def round(self, number: int) -> bool:
        """One round of all three; False when the protocol aborted it."""
        config, sent = self.config(number), self.sent(self.robust, number, self.poisoning)
        outcome = simulate(
            lambda index: self.encoder.encode(federated.shaped(sent[self.invited[index]], self.robust)),
            config,
            faults=all_lost(config, np.random.default_rng([self.seed, number, self.clients])),
            identities=self.cohort.identities,
            directory=self.cohort.directory,
        )
        if outcome.result is None:
            self.abort = outcome.failure.reason if outcome.failure is not None else "no sum"
            return False
        groups = group_means(self.encoder, outcome.result.groups)
        means, members = groups.means, [[self.invited[index] for index in group] for group in groups.members]
        wanted = np.array([sent[included].mean(axis=0) for included in members])
        centre = robust_mean(means, groups.weights, self.rule, norm_limit=NORM_LIMIT)
        self.scores.add(report_round(means, members, centre=centre))
        candidate, ballot = federated.moved(self.robust, federated.shaped(centre, self.robust)), None
        if self.electorate is not None:
            ballot = self.voted(self.electorate, number, config, candidate)
            if ballot is None:
                return False
        self.move(number, [client for included in members for client in included])
        if ballot is None or ballot.verdict is Verdict.ACCEPTED:
            self.robust = candidate
        test = self.problem.test
        self.rounds.append(
            AttackedRound(
                invited=config.clients,
                groups=config.groups,
                opened=len(means),
                poisoned=sum(not self.poisoning.attackers.isdisjoint(included) for included in members),
                error=float(np.abs(means - wanted).max()),
                error_bound=max(self.encoder.error_bound(len(included)) for included in members),
                robust=federated.accuracy(self.robust, test),
                plain=federated.accuracy(self.plain, test),
                unattacked=federated.accuracy(self.unattacked, test),
                ballot=ballot,
            )
        )
        self.leave_out(means, members)
        return True

    def leave_out(self, means: federated.Floats, members: list[list[int]]) -> None:
        """Invite those that stand out no longer, where it is asked for; the others make a cohort of their own."""
        if self.exclusions is None or not self.exclusions.add(means, members):
            return
        everybody = map(str, range(self.clients))
        staying = self.exclusions.staying(everybody, lambda count: count >= _FEWEST_GROUPS * GROUP_SIZE)
        self.invited = [int(name) for name in staying]
        self.cohort = Cohort(len(self.invited), self.threat)

    def voted(
        self, electorate: Electorate, number: int, training: RoundConfig, candidate: federated.Model
    ) -> Count | None:
        """The clients' vote on a candidate; None when the protocol aborted the ballot."""
        everybody, encoder = electorate.votes(candidate), electorate.ballot.encoder()
        votes = [everybody[client] for client in self.invited]
        context = hashlib.sha256(b"ballot" + training.context + federated.flat(candidate).tobytes()).digest()
        config = self.config_of(encoder, context)
        outcome = simulate(
            lambda index: electorate.ballot.encode(votes[index]),
            config,
            faults=all_lost(config, np.random.default_rng([self.seed, number, self.clients + 1])),
            identities=self.cohort.identities,
            directory=self.cohort.directory,
        )
        count = electorate.count(outcome, votes)
        if count is None:
            self.abort = f"ballot: {outcome.failure.reason if outcome.failure is not None else 'no count'}"
        elif count.verdict is Verdict.ACCEPTED:
            electorate.accept(candidate)
        return count

    def move(self, number: int, included: list[int]) -> None:
        """The two plain models by one round.  They average the clients of the secure one, and those left out of it."""
        averaged = included + sorted(set(range(self.clients)) - set(self.invited))
        plain = self.sent(self.plain, number, self.poisoning)[averaged].mean(axis=0)
        unattacked = self.sent(self.unattacked, number, self.nobody)[averaged].mean(axis=0)
        self.plain = federated.moved(self.plain, federated.shaped(plain, self.plain))
        self.unattacked = federated.moved(self.unattacked, federated.shaped(unattacked, self.unattacked))

    def sent(self, model: federated.Model, number: int, poisoning: Poisoning) -> federated.Floats:
        """What clients send, clipped as the encoder does."""
        found = poisoning.sent(self.problem, model, number, self.seed)
        return np.clip(found, -self.problem.clip, self.problem.clip)

    def config(self, number: int) -> RoundConfig:
        """The round's, tied to the model that clients train from and to how they encode."""
        told = b"attacked round %d" % number + self.encoder.layout_digest() + federated.flat(self.robust).tobytes()
        return self.config_of(self.encoder, hashlib.sha256(told).digest())

    def config_of(self, encoder: Encoder, context: bytes) -> RoundConfig:
        """Of a round over the cohort's groups.

        Nobody works with the server in this demo: a group of three has no room for it.
        """
        return RoundConfig.for_cohort(
            len(self.invited),
            encoder.length,
            threat_model=self.threat,
            gamma=0.0,
            delta=_DELTA,
            input_max=encoder.input_max,
            context=context,
            cohort=self.cohort.digest,
            version=2,
            groups=len(self.invited) // GROUP_SIZE,
        )
