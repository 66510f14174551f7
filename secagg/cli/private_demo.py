"""``secagg demo --private``: accuracy against epsilon, beside a trusted server's noise and beside none.

For each epsilon the same model is trained three times, with the same dropouts and the same clip: with noise that is
distributed over the clients, every sum through the protocol; with the Gaussian noise of a server that everybody trusts
(the central Gaussian mechanism), by the same accountant; and without noise.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any, Final, final

import numpy as np
from rich.console import Console

from secagg.cli import federated
from secagg.cli.demo_progress import shown
from secagg.cli.dropout import all_lost
from secagg.cli.output import table
from secagg.cli.private_round import PrivateRound, private_round
from secagg.cli.rounds import Cohort
from secagg.encoding import Template
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import Phase, ThreatModel
from secagg.privacy import Privacy
from secagg.privacy.cohort import private_cohort
from secagg.privacy.noisy_sum import NoisySum
from secagg.simulation import simulate
from secagg.wording import counted

EPSILONS: Final = (1.0, 3.0, 10.0, 30.0)
DELTA: Final = 1e-5
_NOISE_SEED: Final = 7
"""Sets the noise of the trusted server apart from all else that is drawn."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What a training came to at one epsilon; the accuracies are those of the last model.

    Attributes:
        epsilon: what was asked for.
        reached_epsilon: what the noise of those who took part gave, over all rounds.
        noise_multiplier: the noise that nobody can take off the sum, over the clip.
        bits: of the modulus.
        wrapped_share: the largest of all rounds.
        distributed, central: accuracies with noise of the clients, and of a trusted server.
    """

    epsilon: float
    reached_epsilon: float
    noise_multiplier: float
    bits: int
    wrapped_share: float
    distributed: float
    central: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateRun:
    """A data set's trainings.

    Attributes:
        no_noise: the accuracy with the same clip and dropouts, and no noise.
        aborted: how a round ended that was aborted, if one was.
    """

    title: str
    members: str
    clients: int
    honest: int
    parameters: int
    clip: float
    rounds: int
    no_noise: float
    levels: list[Level]
    aborted: str | None

    @property
    def ok(self) -> bool:
        """Whether every round came to a sum."""
        return self.aborted is None

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints of it."""
        facts = asdict(self)
        return {
            "ok": self.ok,
            "delta": DELTA,
            **{name: facts[name] for name in facts if name not in ("title", "members")},
        }

    def curves(self) -> dict[str, list[float]]:
        """The accuracies by epsilon."""
        return {
            "distributed noise, secure aggregation": [level.distributed for level in self.levels],
            "noise of a trusted server": [level.central for level in self.levels],
            "no noise": [self.no_noise for _ in self.levels],
        }

    def show(self, console: Console) -> None:
        """Print the trainings for a person."""
        rows = table(
            f"{self.title}: accuracy after {counted(self.rounds, 'round')}",
            "epsilon", "reached", "noise / clip", "bits", "distributed", "trusted server", "no noise",
        )  # fmt: skip
        for level in self.levels:
            rows.add_row(
                f"{level.epsilon:g}",
                f"{level.reached_epsilon:.3g}",
                f"{level.noise_multiplier:.2f}",
                str(level.bits),
                f"{level.distributed:.1%}",
                f"{level.central:.1%}",
                f"{self.no_noise:.1%}",
            )
        console.print(rows)
        if self.aborted is not None:
            console.print(f"ABORTED: {self.aborted}", style="red")
        console.print(
            f"Epsilon holds for each of the {self.clients} {self.members}, at delta {DELTA:g}, over all rounds. All "
            f"{self.parameters:,} parameters of an update share a clip of {self.clip:g} (L2 norm). The noise is sized "
            f"for {counted(self.honest, 'honest client')}; all others may have dropped out, or work with the server. "
            "The trusted server adds Gaussian noise to the plain sum, for the same epsilon by the same accountant.\n"
            f"The noise hides one client, and does not grow with their number: among {self.clients} it is felt more "
            "than among hundreds.\n",
            soft_wrap=True,
        )


def run(
    problem: federated.Problem, threat: ThreatModel, rounds: int, seed: int, *, gamma: float, delta: float
) -> PrivateRun:
    """Train on a data set at each of ``EPSILONS``.

    Args:
        problem: the data set.
        threat: what the server may do.
        rounds: of each training.
        seed: of dropouts, training and the trusted server's noise; noise of the clients is the system's.
        gamma, delta: the shares of clients that may collude, and that are lost in every round.

    Raises InfeasibleError, which is a ParameterError, and ParameterError without the extra ``privacy``.
    """
    return _PrivateTraining(problem, threat, rounds, seed, gamma=gamma, delta=delta).run()


class _RoundAbortedError(Exception):
    """A round came to no sum."""


class _PrivateTraining:
    """A data set, a cohort, and who is lost in each round."""

    def __init__(
        self,
        problem: federated.Problem,
        threat: ThreatModel,
        rounds: int,
        seed: int,
        *,
        gamma: float,
        delta: float,
    ) -> None:
        self.problem, self.rounds, self.seed = problem, rounds, seed
        self.clients = len(problem.clients)
        self.template = Template.of(problem.start())
        self.cohort = Cohort(self.clients, threat)
        self.config = private_cohort(
            RoundConfig.for_cohort(
                self.clients,
                self.template.size,
                threat_model=threat,
                gamma=gamma,
                delta=delta,
                cohort=self.cohort.digest,
            )
        )
        self.faults = [all_lost(self.config, np.random.default_rng([seed, number])) for number in range(rounds)]

    def run(self) -> PrivateRun:
        agreed = [self.agreed(epsilon) for epsilon in EPSILONS]
        levels, aborted = [], None
        try:
            for one in shown(agreed, f"values of epsilon with {self.problem.members}"):
                levels.append(self.level(one))
        except _RoundAbortedError as failure:
            aborted = str(failure)
        return PrivateRun(
            title=self.problem.title,
            members=self.problem.members,
            clients=self.clients,
            honest=agreed[0].calibration.promise.honest,
            parameters=self.template.size,
            clip=self.problem.norm,
            rounds=self.rounds,
            no_noise=self.train(self.in_the_clear(0.0)),
            levels=levels,
            aborted=aborted,
        )

    def agreed(self, epsilon: float) -> PrivateRound:
        """What keeps an epsilon."""
        ask = Privacy(epsilon=epsilon, delta=DELTA, rounds=self.rounds, clip=self.problem.norm)
        return private_round(ask, self.template, self.config)

    def level(self, agreed: PrivateRound) -> Level:
        """Train with noise of the clients, and with that of a trusted server."""
        from secagg.privacy.accounting import epsilon

        calibration, spent, wrapped = agreed.calibration, [], [0.0]

        def distributed(number: int, update_of: federated.UpdateOf) -> federated.Model:
            config = agreed.config.replace(context=self.context(agreed, number))
            encoder = agreed.encoder.for_round(config)
            outcome = simulate(
                lambda client: encoder.encode(update_of(client)),
                config,
                faults=self.faults[number],
                identities=self.cohort.identities,
                directory=self.cohort.directory,
            )
            if outcome.result is None:
                raise _RoundAbortedError(outcome.failure.reason if outcome.failure is not None else "no sum")
            decoded = encoder.decode(outcome.result)
            wrapped.append(decoded.wrapped_share)
            honest = decoded.count - config.colluders
            spent.append((NoisySum.of_clients(calibration.mechanism, honest), 1))
            mean: federated.Model = decoded.mean
            return mean

        reached = self.train(distributed)
        return Level(
            epsilon=agreed.ask.epsilon,
            reached_epsilon=epsilon(spent, DELTA),
            noise_multiplier=calibration.promise.noise_multiplier,
            bits=calibration.mechanism.bits,
            wrapped_share=max(wrapped),
            distributed=reached,
            central=self.train(self.in_the_clear(calibration.central_multiplier * self.problem.norm)),
        )

    def in_the_clear(self, sigma: float) -> federated.MeanOf:
        """The mean of those that are not lost before the sum, with so much noise in the sum, or none."""

        def mean_of(number: int, update_of: federated.UpdateOf) -> federated.Model:
            faults = self.faults[number]
            included = [client for client in range(self.clients) if faults.delivers(client, Phase.MASK)]
            draw = np.random.default_rng([self.seed, number, _NOISE_SEED])
            return federated.noisy_mean((update_of(client) for client in included), self.problem.norm, sigma, draw)

        return mean_of

    def train(self, mean_of: federated.MeanOf) -> float:
        """The accuracy of the last model."""
        return federated.train(self.problem, self.rounds, mean_of, self.seed)[-1]

    def context(self, agreed: PrivateRound, number: int) -> bytes:
        """Ties a round to what was agreed on; every round has another rotation."""
        return hashlib.sha256(b"private round %d" % number + agreed.encoder.layout_digest()).digest()
