"""The client's side: a Flower mod that answers the protocol's messages and masks what the app trained."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import Final, final

from flwr.app import Context, Error, Message, MessageType, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode as FlowerError

from secagg.adapters.flower import records
from secagg.adapters.flower.ballot_terms import announces_ballot
from secagg.adapters.flower.lora import LoraRank
from secagg.adapters.flower.memory import Memory
from secagg.adapters.flower.node import Node, NodeOptions, PathOf, lora_of, may_evaluate
from secagg.adapters.flower.participant import Participant
from secagg.adapters.flower.records import log
from secagg.adapters.flower.voter import ErrorsOf, ModelTests, Voter
from secagg.adapters.membership import RefusedMessageError
from secagg.encoding import LayoutPolicy
from secagg.errors import InputError
from secagg.pairwise.config import Policy, RoundConfig
from secagg.privacy.hosting import Submitted

_ASKED: Final = frozenset({MessageType.EVALUATE, MessageType.QUERY})


@final
class SecAggMod:
    """A mod for ``ClientApp(mods=[...])``; ``secagg_mod`` is one without any argument.

    It runs the client's side of the protocol, lets the app train when the vector is asked for, and sends the masked
    vector in place of the app's reply: neither arrays nor metrics leave the client.  A training message without the
    protocol is refused, since a server could else have the plain update by leaving the wrapper out; so are messages of
    other kinds.  Evaluation and queries pass untouched in ``semi_honest``; a client with an identity refuses them, and
    so does one that asks for private rounds, whose promise answers in clear would break.

    A client decides whether to join before it trains, from what the server has announced.  After that, nothing of its
    data shows in what it does: values beyond a clip are clipped, and a weight beyond the largest is clamped.  There is
    one exception: a client whose update is not finite leaves the round, as one does whose app fails.  Its own log says
    why, and the server counts it as lost.

    Put it before mods that change the update (clipping, local noise): the first in the list is the last to see it.
    """

    def __init__(
        self,
        *,
        policy: Policy | None = None,
        layout_policy: LayoutPolicy | None = None,
        evaluate: bool | None = None,
        identity: PathOf = None,
        directory: PathOf = None,
        tokens: PathOf = None,
        budget: PathOf = None,
        sums: PathOf = None,
        ballot: ErrorsOf | None = None,
        evaluation: ClientAppCallable | None = None,
        lora: LoraRank | None = None,
    ) -> None:
        """Options; what is not given here is looked up in the node's own config, never in the run's.

        A path may be a function of the node's context, for simulations, where one program plays all nodes.

        Args:
            policy: the least that this client accepts of a round's config.  The node config's ``secagg-gamma`` and
                ``secagg-min-survivors`` go before it.
            layout_policy: how the server may have updates encoded and weighed; ``LayoutPolicy()`` when it is not given.
                Each of its fields may also stand in the node's config, which goes before it: ``secagg-min-max-weight``,
                ``secagg-max-clip``, ...
            evaluate: whether evaluation messages and queries reach the app; the node config's ``secagg-evaluate`` goes
                before it.  None lets them pass unless the node has an identity, or asks for private rounds.
            identity: ``active``: the file of this client's identity (``secagg identity new``); ``secagg-identity``.
            directory: ``active``: the file of the members' keys, which must not come from the server;
                ``secagg-directory``.
            tokens: an SQLite file for used states, made when it is not there; ``secagg-tokens``.  Needed in
                ``active``; see ``DurableTokens``.
            budget: a file that is charged for each round before this client joins it (``secagg.privacy.budget``), made
                with the ``max_epsilon`` and ``max_delta`` of the layout policy when it is not there;
                ``secagg-budget``.  Rounds without noise are refused then.
            sums: ``active``: a file that remembers who was summed with whom (``DifferenceLedger``), made when it is not
                there; ``secagg-sums``.  This client withholds its last answer when earlier sums, taken off this one,
                would tell of fewer than ``secagg-min-difference`` members, which are two more than the colluders of a
                sum when the node says nothing.
            ballot: how a model does on the node's own data, as ``ClassErrors``, from its arrays and the node's context:
                with it, the node votes in ballots (``SecAggStrategy(ballot=...)``).  It is called with each model that
                the node trains from as well, whose errors it compares with; those stay in its context.  None: the node
                takes part in no ballot.
            evaluation: the app's evaluation, ``evaluation(message, context)``: it is called on the model that the node
                trains from, in the same step, when the server has metrics of it summed (``SecAggStrategy(metrics=...)``
                with names that begin with ``evaluate.``).  Its answer stays at the node but for its part of those sums.
                None: the node takes part in no round that sums such metrics.
            lora: the rank of this node's LoRA adapters, where it is smaller than that of the server's model: the app
                gets them cut to it, and its answer is padded to the agreed rank again.  The node config's
                ``secagg-lora-rank`` and ``secagg-max-lora-rank`` go before it.
        """
        self._errors_of, self._evaluation = ballot, evaluation
        self._options = NodeOptions(
            policy=policy,
            layout_policy=layout_policy or LayoutPolicy(),
            evaluate=evaluate,
            lora=lora,
            paths={"identity": identity, "directory": directory, "tokens": tokens, "budget": budget, "sums": sums},
        )

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Answer one message; see ``flwr.clientapp.typing.Mod``.

        Raises OSError or ParameterError for an identity, a directory or a node config that cannot be used: Flower
        answers the server with an error then.
        """
        category = message.metadata.message_type.partition(".")[0]
        with ExitStack() as cleanup:
            try:
                if category in _ASKED and may_evaluate(self._options, context):
                    return call_next(_at_own_rank(message, lora_of(self._options, context)), context)
                if category in _ASKED:
                    raise RefusedMessageError(
                        f"a message of type {category!r}: its answer would leave in clear, and a server that asks "
                        "often enough has this client's data; sum metrics securely (SecAggStrategy's metrics), or let "
                        "messages of evaluation pass by the node config secagg-evaluate=true"
                    )
                if category != MessageType.TRAIN:
                    raise RefusedMessageError(
                        f"a message of type {category!r}: its answer could hold this client's arrays"
                    )
                reply = self._answer(message, context, call_next, cleanup)
            except RefusedMessageError as refusal:
                log.error("secagg: %s", refusal)
                return Message(Error(FlowerError.MOD_FAILED_PRECONDITION, str(refusal)), reply_to=message)
        return Message(reply, reply_to=message)

    def __repr__(self) -> str:
        return f"SecAggMod(policy={self._options.policy!r}, layout_policy={self._options.layout_policy!r})"

    def _answer(
        self, message: Message, context: Context, call_next: ClientAppCallable, cleanup: ExitStack
    ) -> RecordDict:
        record = message.content.config_records.get(records.RECORD)
        memory = Memory(context)
        node = Node(self._options, context, memory, cleanup)
        invitation, data = (records.bytes_of(record, key) for key in (records.INVITATION, records.PROTOCOL))
        if invitation is not None:
            memory.take()  # of a round that the server gave up
            announcement = records.bytes_of(record, records.ANNOUNCEMENT)
            if announcement is None:
                raise RefusedMessageError(
                    "an invitation that announces no model: server and client need the same version"
                )
            index = records.index_of(record)
            if announces_ballot(announcement):
                return Voter(node, memory, announcement, self._tests(context, node.lora)).join(invitation, index)
            part = Participant(node, memory, announcement)
            if part.needs_evaluation and self._evaluation is None:
                raise RefusedMessageError(
                    "the server sums metrics of the evaluation, and this node's SecAggMod has none: give it "
                    "SecAggMod(evaluation=...)"
                )
            return part.join(invitation, index)
        if data is None:
            raise RefusedMessageError(
                "a training message without secure aggregation: this client sends no plain update; wrap the server's "
                "strategy in SecAggStrategy, or take secagg_mod out of the ClientApp"
            )
        suspended = memory.take()
        if suspended is None:
            raise RefusedMessageError(
                "a message of a round that this client is not in: it lost its context, or the round is over"
            )
        below = copy.copy(message)  # the app and the mods below see what the strategy made
        below.content = RecordDict({key: value for key, value in message.content.items() if key != records.RECORD})
        tests = self._tests(context, node.lora)
        if announces_ballot(suspended.announcement):
            voter = Voter(node, memory, suspended.announcement, tests)
            return voter.go_on(suspended.state, data, message.metadata.message_type, below.content, context)
        part = Participant(node, memory, suspended.announcement)

        def train(config: RoundConfig) -> Submitted:
            given = part.train(below, context, call_next, config, self._evaluation)
            models = list(below.content.array_records.values())
            if tests is not None and len(models) == 1:  # no ballot is about several records
                tests.remember(models[0])  # the announced model, which was accepted: nodes train from no other
            return given

        return part.go_on(suspended.state, data, train)

    def _tests(self, context: Context, lora: LoraRank | None) -> ModelTests | None:
        errors_of = self._errors_of
        if errors_of is None:
            return None
        if lora is None:
            return ModelTests(errors_of, context)
        return ModelTests(lambda model, context: errors_of(lora.cut(model), context), context)


def _at_own_rank(message: Message, lora: LoraRank | None) -> Message:
    """A message that the app answers in clear, with the model at the node's rank.  Raises RefusedMessageError."""
    if lora is None or not message.has_content():
        return message
    try:
        return lora.cut_message(message)
    except InputError as wrong:
        raise RefusedMessageError(f"the model does not have this node's adapters: {wrong}") from None


secagg_mod: Final = SecAggMod()
"""The mod with its options in the node's config."""
