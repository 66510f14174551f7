"""Ballots over Flower: nodes test the new model on their own data, vote in secret, and keep the previous one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from secagg import Policy
from secagg.adapters.flower import BallotReport, Batches, SecAggMod, SecAggStrategy
from secagg.adapters.flower.announcement import digest_of_model
from secagg.adapters.flower.ballot_terms import BallotTerms
from secagg.adapters.flower.voter import MOST_EARLIER, ModelTests
from secagg.differencing import DifferenceLedger
from secagg.errors import ParameterError
from secagg.privacy import Privacy
from secagg.robust import Ballot, ClassErrors, Tally, Verdict
from tests.support.flower_grid import Arrays, MemoryGrid, arrays_of, record_of
from tests.support.flower_setup import ODD, averaging, members, with_node_config

NODES = 8
SAMPLES = 10
START: Arrays = {"weight": np.array([0.5])}
GOOD, POISON = 0.1, -0.9
"""How a round changes the weight; below 0 the model puts every sample into the wrong class."""
ALL = Tally(objections=0, voters=NODES, clients=NODES)
LABELS = np.array([0] * SAMPLES + [1] * SAMPLES)

ErrorsOf = Callable[[ArrayRecord, Context], ClassErrors]


def honest(model: ArrayRecord, context: Context) -> ClassErrors:
    """Samples of class 0 lie at -1 and those of class 1 at 1; the model says class 1 where weight * x is above 0."""
    (weight,) = arrays_of(model)["weight"]
    return ClassErrors.of(LABELS, ((2 * LABELS - 1) * weight > 0).astype(int), classes=2)


def failing(model: ArrayRecord, context: Context) -> ClassErrors:
    raise RuntimeError("the picture of patient 17 cannot be read")


def only(node: int, errors_of: ErrorsOf) -> ErrorsOf:
    """This test at one node, and the honest one elsewhere."""
    return lambda model, context: (errors_of if context.node_id == node else honest)(model, context)


class Cohort:
    """A strategy and its nodes, of which every round changes the model by ``change``."""

    def __init__(self, mod: SecAggMod, change: float, without: frozenset[int] = frozenset(), **options: Any) -> None:
        self.change = change
        app, plain = ClientApp(), ClientApp()
        app.train(mods=[mod])(self.train)
        plain.train(mods=[SecAggMod()])(self.train)
        self.grid = MemoryGrid(app, NODES)
        self.grid.app = lambda message, context: (plain if context.node_id in without else app)(message, context)
        given = {"clip": 1.0, "max_weight": None, "gamma": 0.2, "delta": 0.25, "ballot": Ballot()} | options
        self.strategy = SecAggStrategy(averaging(), **given)
        self.before_ballot: Callable[[], None] = lambda: None
        box = self.strategy._box
        assert box is not None
        judge = box.judge

        def after_the_training(*arguments: Any) -> BallotReport:
            self.before_ballot()
            return judge(*arguments)

        box.judge = after_the_training  # type: ignore[method-assign]

    def train(self, message: Message, context: Context) -> Message:
        (arrays,) = message.content.array_records.values()
        update = {name: part + self.change for name, part in arrays_of(arrays).items()}
        metrics = MetricRecord({"num-examples": 10})
        return Message(RecordDict({"arrays": record_of(update), "metrics": metrics}), reply_to=message)

    def round(self, start: Arrays = START, number: int = 1) -> tuple[npt.NDArray[np.float64], BallotReport]:
        messages = self.strategy.configure_train(number, record_of(start), ConfigRecord(), self.grid)
        replies = self.grid.send_and_receive(messages)
        arrays, _ = self.strategy.aggregate_train(number, replies)
        assert arrays is not None, self.strategy.reports[number].failure
        ballot = self.strategy.reports[number].ballot
        assert ballot is not None
        return arrays_of(arrays)["weight"], ballot


def cohort(change: float, errors_of: ErrorsOf = honest, **options: Any) -> Cohort:
    return Cohort(SecAggMod(ballot=errors_of), change, **options)


def active(change: float, directory: Path, **options: Any) -> Cohort:
    mod = SecAggMod(
        identity=lambda context: directory / f"{context.node_id}.json",
        directory=directory / "cohort.json",
        tokens=lambda context: directory / f"{context.node_id}.sqlite",
        sums=lambda context: directory / f"{context.node_id}.sums",
        ballot=honest,
    )
    listed = members(directory, NODES)
    return Cohort(mod, change, threat_model="active", directory=listed, run_config={}, **options)


def test_a_poisoned_model_is_dropped_and_a_good_one_is_kept() -> None:
    weight, ballot = cohort(GOOD).round()
    assert weight == pytest.approx([0.6], abs=1e-4)
    assert (ballot.kept, ballot.verdict, ballot.tally, ballot.failure) == (True, Verdict.ACCEPTED, ALL, "")
    weight, ballot = cohort(POISON).round()
    assert weight == START["weight"]  # to the bit
    assert (ballot.kept, ballot.verdict) == (False, Verdict.DROPPED)
    assert ballot.tally == Tally(objections=NODES, voters=NODES, clients=NODES)


def test_active(tmp_path: Path) -> None:
    nodes = active(GOOD, tmp_path)
    weight, ballot = nodes.round()
    assert (ballot.verdict, ballot.tally) == (Verdict.ACCEPTED, ALL)
    nodes.change = POISON
    after, ballot = nodes.round({"weight": weight}, 2)
    assert (ballot.verdict, after) == (Verdict.DROPPED, weight)


def test_groups_count_their_own_votes_and_set_a_liars_group_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    encode = Ballot.encode

    def noted(model: ArrayRecord, context: Context) -> ClassErrors:
        asked.append(context.node_id)
        return honest(model, context)

    def vector(ballot: Ballot, vote: Any) -> Any:
        honestly = encode(ballot, vote)
        return honestly + np.ones_like(honestly) if asked[-1] == ODD else honestly

    monkeypatch.setattr(Ballot, "encode", vector)
    mod = SecAggMod(policy=Policy(max_groups=None), ballot=noted)
    nodes = Cohort(mod, GOOD, groups=2, robust="median", gamma=0.0, delta=0.1)
    weight, ballot = nodes.round()
    assert ballot.tally is not None
    assert len(ballot.tally.impossible) == 1
    assert ballot.tally.clients == ballot.tally.voters == NODES // 2
    assert (ballot.verdict, ballot.kept) == (Verdict.ACCEPTED, True)
    assert weight == pytest.approx([0.6], abs=1e-4)


def test_a_liar_has_one_objection() -> None:
    wrong = ClassErrors(np.array([SAMPLES] * 2), np.array([SAMPLES] * 2))
    liar = only(ODD, lambda model, context: wrong if arrays_of(model)["weight"][0] != 0.5 else honest(model, context))
    _, ballot = cohort(GOOD, liar).round()
    assert (ballot.verdict, ballot.tally) == (Verdict.ACCEPTED, Tally(objections=1, voters=NODES, clients=NODES))


@pytest.mark.parametrize("fate", ["deaf", "mute"])
@pytest.mark.parametrize("phase", ["ADVERTISE", "SHARE", "MASK", "UNMASK"])
def test_a_node_is_lost_in_the_ballot(phase: str, fate: str) -> None:
    nodes = cohort(POISON)
    nodes.before_ballot = lambda: getattr(nodes.grid, fate).add((phase, ODD))
    weight, ballot = nodes.round()
    assert (ballot.verdict, weight) == (Verdict.DROPPED, START["weight"])
    assert [len(lost) for lost in ballot.dropped.values() if lost] == [1]
    assert ballot.tally is not None
    assert ballot.tally.clients == (NODES if phase == "UNMASK" else NODES - 1)


@pytest.mark.parametrize("fate", ["deaf", "mute"])
@pytest.mark.parametrize("phase", ["MASK", "CONFIRM", "UNMASK"])
def test_a_node_is_lost_in_an_active_ballot(phase: str, fate: str, tmp_path: Path) -> None:
    """Whoever is lost after MASK has voted."""
    nodes = active(POISON, tmp_path)
    nodes.before_ballot = lambda: getattr(nodes.grid, fate).add((phase, ODD))
    weight, ballot = nodes.round()
    assert (ballot.verdict, weight) == (Verdict.DROPPED, START["weight"])
    lost = {name: found for name, found in ballot.dropped.items() if found}
    assert list(lost) == [phase]
    assert len(lost[phase]) == 1
    votes = NODES - (phase == "MASK")
    assert ballot.tally == Tally(objections=votes, voters=votes, clients=votes)


def test_too_many_losses_in_confirm_are_no_verdict(tmp_path: Path) -> None:
    nodes = active(POISON, tmp_path, without_verdict="drop")
    nodes.before_ballot = lambda: nodes.grid.deaf.update(("CONFIRM", node) for node in nodes.grid.nodes[:5])
    weight, ballot = nodes.round()
    assert (ballot.verdict, ballot.tally, ballot.kept) == (Verdict.UNDECIDED, None, False)
    assert "CONFIRM" in ballot.failure
    assert weight == START["weight"]


# Several rounds.


def test_batches_are_asked_whole_and_a_node_that_is_lost_in_a_ballot_costs_nothing(tmp_path: Path) -> None:
    ledger = tmp_path / "nodes.ledger"
    nodes = cohort(GOOD, batches=Batches(size=4, per_round=1, min_difference=2, ledger=ledger), delta=0.25, gamma=0.0)
    weight = START["weight"]
    for number in range(1, 4):
        asked: list[int] = []
        nodes.before_ballot = lambda found=asked: found.extend(asked_now(nodes))  # type: ignore[misc]
        weight, ballot = nodes.round({"weight": weight}, number)
        assert (ballot.verdict, ballot.tally) == (Verdict.ACCEPTED, Tally(objections=0, voters=4, clients=4))
        assert len(asked) == 4
        report = nodes.strategy.reports[number]
        assert sorted(asked) == sorted(report.nodes[index] for index in report.included)
    nodes.before_ballot = lambda: nodes.grid.mute.update(("MASK", node) for node in asked_now(nodes)[:1])
    weight, ballot = nodes.round({"weight": weight}, 4)
    assert ballot.tally == Tally(objections=0, voters=3, clients=3)
    nodes.grid.mute.clear()
    nodes.before_ballot = lambda: None
    _, ballot = nodes.round({"weight": weight}, 5)
    assert ballot.verdict is Verdict.ACCEPTED
    kept = DifferenceLedger(ledger, "flower nodes")
    assert {len(members) for members in kept.classes().members()} <= {4}


def asked_now(nodes: Cohort) -> list[int]:
    """Whom the training of the present round has invited."""
    last = [message.metadata.dst_node_id for phase, message in nodes.grid.sent if phase == "ADVERTISE"]
    return last[-4:]


def trained_again(nodes: Cohort, number: int) -> list[int]:
    """The nodes in the sum of one more round from the same model; none where it fails."""
    messages = nodes.strategy.configure_train(number, record_of(START), ConfigRecord(), nodes.grid)
    nodes.strategy.aggregate_train(number, nodes.grid.send_and_receive(messages))
    report = nodes.strategy.reports[number]
    return sorted(report.nodes[index] for index in report.included)


def test_after_a_drop_the_model_is_trained_again_where_the_sums_tell_of_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A node that the second sum lacks would be what the difference of the two sums tells."""
    nodes = active(POISON, tmp_path)
    _, ballot = nodes.round()
    assert ballot.verdict is Verdict.DROPPED
    assert "secagg-again=true" in caplog.text  # the server's own operator is told
    nodes.grid.replies.clear()
    assert trained_again(nodes, 2) == []
    refused = [reply.error.reason for _, reply in nodes.grid.replies if reply.has_error()]
    assert len(refused) == NODES
    assert all("a ballot dropped the model" in reason and "secagg-sums" in reason for reason in refused)
    for node in nodes.grid.nodes:
        with_node_config(nodes.grid, node, again=True)
    nodes.grid.mute = {("MASK", ODD)}
    assert trained_again(nodes, 3) == []
    assert f"to tell of {ODD} alone" in caplog.text
    nodes.grid.mute = set()
    assert trained_again(nodes, 4) == nodes.grid.nodes


@pytest.mark.parametrize("phase", ["ADVERTISE", "SHARE", "MASK"])
@pytest.mark.parametrize(("without_verdict", "kept"), [("accept", True), ("drop", False)])
def test_a_ballot_fails(phase: str, without_verdict: str, kept: bool) -> None:
    nodes = cohort(GOOD, without_verdict=without_verdict)
    nodes.before_ballot = lambda: nodes.grid.deaf.update((phase, node) for node in nodes.grid.nodes[:5])
    weight, ballot = nodes.round()
    assert (ballot.kept, ballot.verdict, ballot.tally) == (kept, Verdict.UNDECIDED, None)
    assert phase in ballot.failure
    assert weight == pytest.approx([0.6 if kept else 0.5], abs=1e-4)
    assert nodes.strategy.reports[1].failure == ""


@pytest.mark.parametrize(("without_verdict", "kept"), [("accept", True), ("drop", False)])
def test_too_few_voters_decide_nothing(without_verdict: str, kept: bool) -> None:
    nodes = cohort(POISON, failing, without_verdict=without_verdict)
    _, ballot = nodes.round()
    assert ballot.tally == Tally(objections=0, voters=0, clients=NODES)
    assert (ballot.kept, ballot.verdict) == (kept, Verdict.UNDECIDED)


def test_a_test_that_fails_shows_in_no_answer() -> None:
    """The node abstains, with a vector as long as everybody's, and nothing of the exception leaves it."""
    nodes = cohort(GOOD, only(ODD, failing))
    _, ballot = nodes.round()
    assert ballot.tally == Tally(objections=0, voters=NODES - 1, clients=NODES)
    assert not any(reply.has_error() for _, reply in nodes.grid.replies)
    sizes = {
        len(reply.content.config_records["secagg.round"]["message"])  # type: ignore[arg-type]
        for phase, reply in nodes.grid.replies[-2 * NODES :]
        if phase == "MASK"
    }
    assert len(sizes) == 1


def test_nodes_without_a_test_take_no_part() -> None:
    _, ballot = cohort(POISON, without=frozenset({ODD})).round()
    assert ballot.tally == Tally(objections=NODES - 1, voters=NODES - 1, clients=NODES - 1)
    _, ballot = cohort(POISON, without=frozenset(range(101, 101 + NODES))).round()
    assert (ballot.verdict, ballot.kept) == (Verdict.UNDECIDED, True)
    assert "SecAggMod(ballot=" in ballot.failure


def test_a_node_leaves_when_the_candidate_is_not_the_announced_one() -> None:
    nodes = cohort(GOOD)

    def another(phase: str, message: Message) -> Message:
        if phase == "MASK" and message.metadata.dst_node_id == ODD:
            message.content["arrays"] = record_of({"weight": np.array([-3.0])})
        return message

    nodes.before_ballot = lambda: setattr(nodes.grid, "tamper_in", another)
    _, ballot = nodes.round()
    assert len(ballot.dropped["MASK"]) == 1
    assert ballot.tally == Tally(objections=0, voters=NODES - 1, clients=NODES - 1)


def test_a_node_votes_once_on_a_candidate() -> None:
    nodes = cohort(GOOD)
    nodes.round()
    box = nodes.strategy._box
    assert box is not None
    asked = [message for phase, message in nodes.grid.sent if phase == "MASK"][-NODES:]
    candidate = asked[0].content.array_records["arrays"]
    nodes.grid.replies.clear()
    again = box.judge(candidate, nodes.grid, asked)
    assert (again.verdict, again.tally) == (Verdict.UNDECIDED, None)
    refused = [reply for _, reply in nodes.grid.replies if reply.has_error()]
    assert len(refused) == NODES
    assert all("may be in a sum already" in reply.error.reason for reply in refused)


def test_a_ballot_that_was_not_announced_is_refused() -> None:
    nodes = cohort(GOOD)

    def another(phase: str, message: Message) -> Message:
        if phase == "ADVERTISE" and message.metadata.dst_node_id == ODD:
            record = message.content.config_records["secagg.round"]
            announced = record["announcement"]
            assert isinstance(announced, bytes)
            terms = BallotTerms.from_bytes(announced)
            record["announcement"] = msgspec.structs.replace(terms, tolerance=0.9).to_bytes()
        return message

    nodes.before_ballot = lambda: setattr(nodes.grid, "tamper_in", another)
    _, ballot = nodes.round()
    assert len(ballot.dropped["ADVERTISE"]) == 1
    assert ballot.tally == Tally(objections=0, voters=NODES - 1, clients=NODES - 1)


def test_errors_stay_at_the_node_and_are_bounded() -> None:
    context = Context(1, ODD, {}, RecordDict(), {})
    for number in range(MOST_EARLIER + 5):
        ModelTests(honest, context).remember(record_of({"weight": np.array([number + 1.0])}))
    history = context.state.config_records["secagg.adapters.flower.voter"]["history"]
    assert isinstance(history, bytes)
    kept = [one["model"] for one in msgspec.msgpack.decode(history)]
    last = [record_of({"weight": np.array([number + 1.0])}) for number in range(5, MOST_EARLIER + 5)]
    assert kept == [digest_of_model(model) for model in last]


def test_nodes_that_ask_for_noise_take_no_part() -> None:
    nodes = cohort(GOOD)
    nodes.before_ballot = lambda: with_node_config(nodes.grid, ODD, private=True)
    _, ballot = nodes.round()
    assert ballot.tally == Tally(objections=0, voters=NODES - 1, clients=NODES - 1)
    assert any("asks for private rounds" in reply.error.reason for _, reply in nodes.grid.replies if reply.has_error())


def test_privacy_and_a_ballot_do_not_go_together() -> None:
    with pytest.raises(ParameterError, match="ballot and privacy"):
        SecAggStrategy(averaging(), privacy=Privacy(epsilon=8, delta=1e-5, rounds=3, clip=1.0), ballot=Ballot())


@pytest.mark.parametrize(
    ("options", "named"),
    [({"without_verdict": "perhaps"}, "without_verdict"), ({"ballot": Ballot(earlier=21)}, "earlier = 21")],
)
def test_options_that_cannot_work(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ParameterError, match=named):
        SecAggStrategy(averaging(), clip=1.0, max_weight=None, **options)
