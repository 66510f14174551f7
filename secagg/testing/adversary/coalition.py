"""An honest server among honest clients and others, which lie, or only pool what they see with what it sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from secagg.errors import PeerError
from secagg.events import ServerEvent
from secagg.outcome import Blame, Failure, Result
from secagg.pairwise import messages
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import Phase
from secagg.simulation.driver import RoundDriver
from secagg.simulation.faults import FATES
from secagg.testing.adversary.attack import known_cohort, true_inputs
from secagg.testing.adversary.client import ClientLie, MaliciousClient
from secagg.testing.adversary.ledger import Input, Ledger, Opening, View


@dataclass(frozen=True)
class CoalitionOutcome:
    """What a round with malicious or curious clients came to.

    Attributes:
        result: the server's, or None.
        failure: why it was aborted.
        events: what the server said about each message.
        client_errors: by honest client, what made it leave.
        openings, both_kinds: what the curious coalition of the server and these clients learnt.
        blame: whom the server named, with a result or without.
        inputs: the true vectors.
    """

    result: Result | None
    failure: Failure | None
    events: tuple[ServerEvent, ...]
    client_errors: Mapping[int, PeerError]
    openings: tuple[Opening, ...]
    both_kinds: frozenset[int]
    blame: tuple[Blame, ...]
    inputs: Mapping[Input, list[int]] = field(repr=False)
    ledger: Ledger = field(repr=False)


@dataclass(frozen=True)
class Coalition:
    """An honest server, honest clients, and clients whose secrets are pooled with what the server sees.

    Attributes:
        config: the round's.
        liars: by client, the lies it tells; none for one that is only curious.
        fates: by honest client, the last of its messages that the server gets in time (``secagg.simulation.FATES``).
        late: whether messages of lost clients still arrive, after their phase was closed.
        wire: changes what reaches an honest client (phase, client, message), as a transport that mixes things up.
        seed: of everybody's randomness.
    """

    config: RoundConfig
    liars: Mapping[int, tuple[ClientLie, ...]] = field(default_factory=dict)
    fates: Mapping[int, str] = field(default_factory=dict)
    late: bool = False
    wire: Callable[[str, int, bytes], bytes] | None = None
    seed: int = 0

    def run(self) -> CoalitionOutcome:
        """The whole round."""
        return _CoalitionRound(self).run()


class _CoalitionRound(RoundDriver):
    def __init__(self, coalition: Coalition) -> None:
        config, seed = coalition.config, coalition.seed
        identities, directory, _ = known_cohort(config.clients)
        self.coalition = coalition
        self.true_inputs = true_inputs(config, seed)
        super().__init__(
            lambda index: self.true_inputs[index, 0], config, seed=seed, identities=identities, directory=directory
        )
        self.nonce = self.randomness("server")(messages.NONCE_BYTES)
        self.ledger = Ledger(config)
        self.liars: dict[int, MaliciousClient] = {}
        self.views: dict[int, View] = {}

    def run(self) -> CoalitionOutcome:
        self.play_phases()
        result = self.compute() if self.server.ready_to_compute else None
        for liar in self.liars.values():
            self.ledger.chosen.update(liar.chosen)
        return CoalitionOutcome(
            result,
            self.server.failure,
            tuple(self.events),
            self.errors,
            self.ledger.openings(),
            self.ledger.both_kinds(),
            self.server.blame,
            self.true_inputs,
            self.ledger,
        )

    def in_time(self, phase: str, index: int) -> bool:
        return FATES.index(self.coalition.fates.get(index, Phase.UNMASK)) >= FATES.index(phase)

    def exchange(self, phase: str, index: int, message: bytes) -> None:
        for answer in self.answers_to(phase, index, message):
            if self.in_time(phase, index):
                self.hand_in(phase, index, answer)
            elif self.coalition.late:
                self.late.append((index, answer))

    def answers_to(self, phase: str, index: int, message: bytes) -> Sequence[bytes]:
        if index in self.coalition.liars:
            return self.liar_answers(phase, index, message)
        if phase == Phase.ADVERTISE:
            answers = super().answers_to(phase, index, message)
            if index in self.clients:
                view = self.views[index] = self.ledger.watch(index)
                view.sent(self.config, answers[0])
            return answers
        shown = message if self.coalition.wire is None else self.coalition.wire(phase, index, message)
        answers = super().answers_to(phase, index, shown)
        if index not in self.errors and (self.in_time(phase, index) or self.coalition.late):
            for answer in answers:
                self.views[index].answered(self.config, self.nonce, shown, answer)
        return answers

    def liar_answers(self, phase: str, index: int, message: bytes) -> Sequence[bytes]:
        if phase != Phase.ADVERTISE:
            return self.liars[index].receive(message)
        liar = self.liars[index] = MaliciousClient(
            self.config,
            self.nonce,
            index,
            randomness=self.randomness(f"client {index}"),
            identity=self.identities[index] if self.config.threat_model.signs else None,
            lies=self.coalition.liars[index],
            vector=self.true_inputs[index, 0],
        )
        self.ledger.learn(liar.channel, liar.masking)
        return liar.start()
