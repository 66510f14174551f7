"""One node in one ballot: it tests a candidate model on its own data, and votes through a secure sum.

Whether to join is decided from public values alone.  After that nothing of what leaves the node depends on its data: a
node that cannot test the candidate sends a vote that abstains, like one with too few samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, final

import msgspec
import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, RecordDict

from secagg.adapters.flower import records
from secagg.adapters.flower.announcement import context_of, digest_of_model, digest_of_told
from secagg.adapters.flower.ballot_terms import BallotTerms
from secagg.adapters.flower.membership import gone_on, joined
from secagg.adapters.flower.memory import Memory
from secagg.adapters.flower.records import log
from secagg.adapters.membership import Answer, LeavesError, RefusedMessageError
from secagg.adapters.node import Node, Suspended
from secagg.adapters.participation import not_approved
from secagg.errors import InputError, ParameterError
from secagg.events import Finished, InputNeeded, RoundAborted
from secagg.machines import ClientMachine
from secagg.pairwise.config import RoundConfig
from secagg.robust.ballots import ClassErrors, Vote

ErrorsOf: TypeAlias = Callable[[ArrayRecord, Context], ClassErrors]
"""The app's function: how a model does on the node's own data."""

MOST_EARLIER: Final = 20
"""So many models' errors does a node remember; a ballot that looks at more is refused."""
_RECORD: Final = "secagg.adapters.flower.voter"
"""The config record in a node's context."""
_HISTORY: Final = "history"
_SUMMED: Final = "ballots"
"""What the values of a ballot are called in a ledger of sums."""
_VOTED: Final = "this node's vote on this very candidate may be in a sum already"


class _Tested(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The errors of one model."""

    model: bytes
    wrong: list[int]
    samples: list[int]

    @classmethod
    def of(cls, model: ArrayRecord, errors: ClassErrors) -> _Tested:
        """Raises InputError for what are no errors of classes."""
        if not isinstance(errors, ClassErrors):
            raise InputError(f"the test of a model gave {type(errors).__name__}: it must give ClassErrors")
        wrong, samples = np.asarray(errors.wrong), np.asarray(errors.samples)
        if wrong.ndim != 1 or wrong.shape != samples.shape or {wrong.dtype.kind, samples.dtype.kind} - set("iu"):
            raise InputError("the errors of a model must be two arrays of whole numbers, one number a class")
        return cls(digest_of_model(model), wrong.tolist(), samples.tolist())

    def errors(self) -> ClassErrors:
        """As a ballot compares them."""
        return ClassErrors(np.array(self.wrong, np.int64), np.array(self.samples, np.int64))


@final
class ModelTests:
    """A node's own tests of models: by the app's function, with what is remembered in the node's context.

    A model that the node is sent to train from is one that was accepted, so that its errors are the ones that a later
    candidate is compared with.  They never leave the node.
    """

    def __init__(self, errors_of: ErrorsOf, context: Context) -> None:
        """Nothing is read that another version wrote otherwise: it counts as absent."""
        self._errors_of, self._context = errors_of, context
        record = records.bytes_of(context.state.config_records.get(_RECORD), _HISTORY)
        try:
            self._history = [] if record is None else msgspec.msgpack.decode(record, type=list[_Tested])
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._history = []

    def remember(self, model: ArrayRecord) -> None:
        """Test an accepted model, and keep its errors with those of the last ones."""
        tested = self._test(model)
        if tested is None:
            return
        kept = [one for one in self._history if one.model != tested.model]
        self._history = [*kept, tested][-MOST_EARLIER:]
        self._context.state.config_records[_RECORD] = ConfigRecord({_HISTORY: msgspec.msgpack.encode(self._history)})

    def vote(self, terms: BallotTerms, candidate: ArrayRecord) -> Vote:
        """The node's vote; it abstains where the candidate cannot be tested.

        Errors from before the node's data changed are left out.
        """
        tested = self._test(candidate)
        if tested is None:
            return Vote.ABSTAIN
        earlier = [one.errors() for one in self._history if one.samples == tested.samples]
        return terms.ballot().vote(tested.errors(), earlier)

    def _test(self, model: ArrayRecord) -> _Tested | None:
        """The model's errors; None, and the log says why, where the app's function gives none."""
        try:
            return _Tested.of(model, self._errors_of(model, self._context))
        except Exception:
            # The function is somebody else's code, and may raise anything; that it did may tell of the node's data.
            log.exception("secagg: the app's test of a model gives no errors of classes, so that it does not count")
            return None


@final
class Voter:
    """A node's part in the ballot of one announcement."""

    def __init__(self, node: Node, memory: Memory, announcement: bytes, tests: ModelTests | None) -> None:
        """Raises RefusedMessageError for a node without a test, and for an announcement that does not decode."""
        if tests is None:
            raise RefusedMessageError("a ballot, and this node has no test of a model: it takes no part")
        self._node, self._memory, self._announcement, self._tests = node, memory, announcement, tests
        try:
            self._terms = BallotTerms.from_bytes(announcement)
        except ParameterError as wrong:
            raise RefusedMessageError(str(wrong)) from None

    def join(self, invitation: bytes, index: int | None) -> RecordDict:
        """Answer an invitation; ``index`` is the one that the server gives.  Raises RefusedMessageError."""
        node = self._node
        if node.has_budget or node.layout_policy.asks_for_noise:
            raise RefusedMessageError("a ballot has no noise, and this node asks for private rounds: it takes no part")
        if not node.may_sum(self._terms.input_digest):
            raise RefusedMessageError(_VOTED)
        return joined(node, self._memory, invitation, index, announcement=self._announcement, approve=self._approve)

    def go_on(self, state: bytes, data: bytes, message_type: str, content: RecordDict, context: Context) -> RecordDict:
        """Answer a message of the protocol; ``content`` is what came beside it.  Raises RefusedMessageError."""
        return gone_on(self._node, state, lambda client: self._answer(client, data, message_type, content, context))

    def _answer(
        self, client: ClientMachine, data: bytes, message_type: str, content: RecordDict, context: Context
    ) -> Answer:
        step = client.receive(data)
        if isinstance(step.event, InputNeeded):
            candidate = self._candidate(message_type, content, context)
            step = client.submit(self._terms.ballot().encode(self._tests.vote(self._terms, candidate)))
        if isinstance(step.event, Finished):
            if why := self._node.why_withheld(step.event.survivors, client.config, _SUMMED):
                raise LeavesError(why)
            if not self._node.release(self._terms.input_digest):
                raise LeavesError(_VOTED)
        if isinstance(step.event, RoundAborted):
            log.info("secagg: the server ended the ballot (%s)", step.event.code.name)
        if not client.done:
            self._memory.keep(Suspended(client.suspend(), self._announcement))
        return Answer(step.outgoing[0] if step.outgoing else b"")

    def _candidate(self, message_type: str, content: RecordDict, context: Context) -> ArrayRecord:
        """Raises LeavesError for a message that is not what was announced, which is public."""
        models = list(content.array_records.values())
        told = digest_of_told(content, message_type, context.run_config if self._terms.run_config else None)
        if len(models) != 1 or (digest_of_model(models[0]), told) != (self._terms.candidate, self._terms.told):
            raise LeavesError("the candidate, or what came beside it, is not what this ballot was announced for")
        return models[0]

    def _approve(self, config: RoundConfig) -> bool:
        """What this node asks of what was announced.  Raises PeerError."""
        terms = self._terms
        if context_of(self._announcement) != config.context:
            raise not_approved("the announced ballot is not that of this round's context")
        if config.threat_model.signs and not terms.run_config:
            raise not_approved("the ballot does not hold the run's config: in active, nodes must see that all have one")
        if terms.earlier > MOST_EARLIER:
            raise not_approved(
                f"the ballot looks at {terms.earlier} earlier models, and this node remembers {MOST_EARLIER}: give "
                f"Ballot(earlier=...) up to {MOST_EARLIER}"
            )
        try:
            terms.ballot().encoder().check_config(config)
        except ParameterError as wrong:
            raise not_approved(f"the round does not sum votes: {wrong}") from None
        return True
