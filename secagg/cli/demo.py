"""``secagg demo``: federated training on real data, every aggregate through the protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import typer
from rich.console import Console

from secagg.cli.command_options import command_of
from secagg.cli.demo_options import Data, DemoOptions
from secagg.cli.demo_progress import compiling_said, say, shown
from secagg.cli.dropout import all_lost
from secagg.cli.extras import advice
from secagg.cli.output import EXIT_FAILED, fail, print_json, results, seconds, size, table, usage_errors
from secagg.cli.promise_options import need_extra
from secagg.cli.report import client_cpu_s, per_client
from secagg.cli.rounds import Cohort, lower_median, warm_up
from secagg.encoding import Encoder
from secagg.pairwise.config import RoundConfig, Suite
from secagg.pairwise.phases import ThreatModel
from secagg.simulation import Faults, Outcome, simulate
from secagg.simulation.faults import phases_of

if TYPE_CHECKING:
    from secagg.cli import federated
    from secagg.cli.attack_demo import AttackRun
    from secagg.cli.private_demo import PrivateRun

_GAMMA = 0.2
_DELTA = 0.25
_BITS = 16
"""A fifth of the clients may collude, a quarter may drop out; 16 bits are the encoder's default."""


@command_of(DemoOptions)
def demo(options: DemoOptions) -> None:
    """Train on data that ships with scikit-learn, split over clients, some of which drop out in every round.

    Each round's update goes through secure aggregation, which also hides how many samples each client has. For
    comparison, the demo trains the same model by plain federated averaging with the same dropouts, and centrally on all
    data.

    With --private, clients add noise to their updates before they are summed, and the updates count equally. For each
    epsilon, the demo trains the same model with the noise of a server that everybody trusts, and without noise; the
    dropouts are the same.

    With --attack, every round's clients are drawn into groups of three, and the server takes a robust mean of the
    groups' sums. For comparison, the demo trains by plain averaging with the same attackers, and without any. With
    --ballots as well, the clients test each new model on their own data, and vote on it in one more secure sum. With
    --leave-out, clients whose updates stand out over several rounds are no longer invited, at most a fifth of them.
    That withstands attackers in most of the groups.

    Exit code 0: every aggregate was right. 1: an aggregate was further from the plain one than its encoding allows, or
    a round was aborted. 2: the command cannot be carried out.
    """
    say("loading scikit-learn and its data")
    try:
        from secagg.cli import attack_demo, federated, picture, poisoning, private_demo
    except ModuleNotFoundError as missing:
        fail("demo", advice(missing, "demo"))
    names = list(federated.DataName) if options.data is Data.BOTH else [federated.DataName(options.data.value)]
    with usage_errors("demo"), compiling_said():
        options.check()
        if options.private:
            need_extra()
        picture.check_format(options.output)
        options.output.touch()  # a path that cannot be written is said before the work, not after it
        problems = [federated.load(name, options.seed) for name in names]
        runs: Sequence[Run | PrivateRun | AttackRun]
        if options.private:
            shared = {"gamma": _GAMMA, "delta": _DELTA}
            runs = [
                private_demo.run(problem, options.threat, options.rounds, options.seed, **shared)
                for problem in problems
            ]
            picture.draw([(run.title, run.curves()) for run in runs], options.output, epsilons=private_demo.EPSILONS)
        elif options.attack is not None:
            runs = [
                attack_demo.run(
                    problem,
                    options.threat,
                    options.rounds,
                    options.seed,
                    poisoning.Poisoning.drawn(
                        options.attack, options.attackers, len(problem.clients), options.seed, options.strength
                    ),
                    options.rule,
                    ballots=options.ballots,
                    leave_out=options.leave_out,
                )
                for problem in problems
            ]
            picture.draw([(run.title, run.curves()) for run in runs], options.output)
        else:
            runs = [_Training(problem, options.threat, options.seed).run(options.rounds) for problem in problems]
            picture.draw([(run.title, run.curves()) for run in runs], options.output)
    if options.as_json:
        found = dict(zip(names, [run.as_json() for run in runs], strict=True))
        print_json({"picture": str(options.output), "data": found})
    else:
        for run in runs:
            run.show(results())
        typer.echo(f"The picture is {options.output.resolve()}")
    if not all(run.ok for run in runs):
        raise typer.Exit(EXIT_FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a round came to; accuracies are those after it."""

    included: int
    lost: dict[str, int]
    error: float
    error_bound: float
    secure: float
    plain: float
    central: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A training.

    Attributes:
        rounds: without the first model, before any.
        start: the accuracy of the first model.
        abort: why it ended early.
        parameters, clients, upload_bytes, client_cpu_s: of one round, the last two for the median client.
    """

    title: str
    members: str
    clients: int
    parameters: int
    start: float
    rounds: list[Round]
    abort: str | None
    upload_bytes: int
    client_cpu_s: float

    @property
    def ok(self) -> bool:
        """Whether every round gave the plain aggregate, up to its encoding."""
        return self.abort is None and all(done.error <= done.error_bound for done in self.rounds)

    def curves(self) -> dict[str, list[float]]:
        """The accuracies before the first round and after each."""
        return {
            "secure aggregation": [self.start, *(done.secure for done in self.rounds)],
            "plain FedAvg, same dropouts": [self.start, *(done.plain for done in self.rounds)],
            "central training": [self.start, *(done.central for done in self.rounds)],
        }

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints of it."""
        return {
            "ok": self.ok,
            "abort": self.abort,
            "clients": self.clients,
            "parameters": self.parameters,
            "upload_bytes": self.upload_bytes,
            "client_cpu_s": self.client_cpu_s,
            "start_accuracy": self.start,
            "rounds": [
                {
                    "included": done.included,
                    "lost": done.lost,
                    "max_error": done.error,
                    "error_bound": done.error_bound,
                    "accuracy": {"secure": done.secure, "plain": done.plain, "central": done.central},
                }
                for done in self.rounds
            ],
        }

    def show(self, console: Console) -> None:
        """Print the training for a person."""
        phases = self.rounds[0].lost if self.rounds else {}
        rows = table(self.title, "round", "in the sum", "lost", "secure", "plain", "central", "largest error")
        rows.add_row("start", "", "", *[f"{self.start:.1%}"] * 3, "")
        for number, done in enumerate(self.rounds, 1):
            lost = " + ".join(str(count) for count in done.lost.values())
            accuracies = (f"{value:.1%}" for value in (done.secure, done.plain, done.central))
            rows.add_row(str(number), f"{done.included} of {self.clients}", lost, *accuracies, f"{done.error:.1e}")
        console.print(rows)
        if self.abort is not None:
            console.print(f"ABORTED: {self.abort}", style="red")
        if not self.ok:
            console.print("An aggregate differs from the plain one by more than its encoding allows.", style="red")
        console.print(
            f"The column 'lost' counts the clients that dropped out in {' + '.join(phases)}. A client that drops out "
            "after MASK is still in the sum. The accuracies are those on test data of three models: averaged securely, "
            "averaged in the clear with the same dropouts, and trained centrally on all data.\n"
            f"There were {self.clients} {self.members} and {self.parameters:,} parameters. A round cost a client "
            f"{size(self.upload_bytes)} of upload and {seconds(self.client_cpu_s)} of CPU time for the protocol.\n"
            "The server saw only sums: it saw nobody's update, and nobody's number of samples. The error is that of "
            "the mean update; it comes from rounding.\n",
            soft_wrap=True,
        )


class _Training:
    """Three models side by side: averaged securely, averaged in the clear, and trained centrally."""

    def __init__(self, problem: federated.Problem, threat: ThreatModel, seed: int) -> None:
        from secagg.cli import federated

        self.learn, self.problem, self.threat, self.seed = federated, problem, threat, seed
        self.clients = len(problem.clients)
        self.cohort = Cohort(self.clients, threat)
        self.secure = self.plain = self.central = problem.start()
        self.encoder = Encoder(self.secure, clip=problem.clip, bits=_BITS, max_weight=problem.max_weight)
        self.rounds: list[Round] = []
        self.outcome: Outcome | None = None

    def run(self, rounds: int) -> Run:
        start = self.learn.accuracy(self.secure, self.problem.test)
        warm_up(self.config(0).modulus, Suite.AES_128, self.threat)
        for number in shown(range(rounds), f"rounds with {self.problem.members}"):
            if not self.round(number):
                break
        outcome = self.outcome
        return Run(
            title=self.problem.title,
            members=self.problem.members,
            clients=self.clients,
            parameters=self.encoder.template.size,
            start=start,
            rounds=self.rounds,
            abort=outcome.failure.reason if outcome is not None and outcome.failure is not None else None,
            upload_bytes=lower_median(per_client(outcome, "bytes_up")) if outcome is not None else 0,
            client_cpu_s=client_cpu_s(outcome) if outcome is not None else 0.0,
        )

    def round(self, number: int) -> bool:
        """One round of all three; False when the protocol aborted it."""
        config = self.config(number)
        outcome = self.outcome = simulate(
            lambda client: self.encoder.encode(self.update(self.secure, number, client), self.weight(client)),
            config,
            faults=self.faults(config, number),
            identities=self.cohort.identities,
            directory=self.cohort.directory,
        )
        if outcome.result is None:
            return False
        included, learn, test = outcome.included, self.learn, self.problem.test
        decoded = self.encoder.decode(outcome.result)
        wanted = learn.weighted_mean(
            (learn.clipped(self.update(self.secure, number, client), self.problem.clip), self.weight(client))
            for client in included
        )
        self.secure = learn.moved(self.secure, decoded.mean)
        in_clear = [(self.update(self.plain, number, client), self.weight(client)) for client in included]
        self.plain = learn.moved(self.plain, learn.weighted_mean(in_clear))
        self.central = learn.trained(self.central, self.problem.pooled, self.problem, self.draw(number, self.clients))
        self.rounds.append(
            Round(
                included=len(included),
                lost={phase: len(outcome.dropped.get(phase, ())) for phase in phases_of(config)},
                error=learn.difference(decoded.mean, wanted),
                error_bound=self.encoder.error_bound(decoded.count, decoded.weight),
                secure=learn.accuracy(self.secure, test),
                plain=learn.accuracy(self.plain, test),
                central=learn.accuracy(self.central, test),
            )
        )
        return True

    def config(self, number: int) -> RoundConfig:
        """The round's, tied to the model that clients train from and to how they encode."""
        model = b"".join(values.tobytes() for values in self.secure.values())
        return RoundConfig.for_cohort(
            self.clients,
            self.encoder.length,
            threat_model=self.threat,
            gamma=_GAMMA,
            delta=_DELTA,
            input_max=self.encoder.input_max,
            context=hashlib.sha256(b"round %d" % number + self.encoder.layout_digest() + model).digest(),
            cohort=self.cohort.digest,
        )

    def faults(self, config: RoundConfig, number: int) -> Faults:
        return all_lost(config, self.draw(number, self.clients + 1))

    def update(self, model: federated.Model, number: int, client: int) -> federated.Model:
        samples = self.problem.clients[client]
        return self.learn.change(model, self.learn.trained(model, samples, self.problem, self.draw(number, client)))

    def weight(self, client: int) -> int:
        return len(self.problem.clients[client])

    def draw(self, number: int, who: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, number, who])
