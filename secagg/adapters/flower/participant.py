"""One client in one round: whether it joins, what it answers, and when it leaves.

Whether to join is decided before ADVERTISE, from public values alone.  What leaves the client after that depends on its
data in one way, which ``update`` explains: an update that is not finite, or an app that fails, makes it leave.  (How
long the app trains is not in our hands.)
"""

from __future__ import annotations

from typing import final

from flwr.app import Context, Message, MessageType, RecordDict
from flwr.clientapp.typing import ClientAppCallable

from secagg.adapters.flower.announcement import Announcement, context_of, digest_of_model, digest_of_told
from secagg.adapters.flower.codec import Codec
from secagg.adapters.flower.membership import record_of
from secagg.adapters.flower.memory import Memory
from secagg.adapters.flower.metric_sums import is_evaluated
from secagg.adapters.flower.model_records import flat_model, record_sizes
from secagg.adapters.flower.node import Node
from secagg.adapters.flower.records import log
from secagg.adapters.flower.update import update_of, vector_of
from secagg.adapters.membership import LeavesError, RefusedMessageError
from secagg.adapters.participation import Participation, Train, not_approved
from secagg.errors import InputError, ParameterError
from secagg.pairwise.config import RoundConfig
from secagg.privacy.hosting import Submitted


@final
class Participant:
    """A client's part in the round of one announcement."""

    def __init__(self, node: Node, memory: Memory, announcement: bytes) -> None:
        """Raises RefusedMessageError for an announcement that does not decode."""
        self._node, self._announcement = node, announcement
        try:
            self._announced = Announcement.from_bytes(announcement)
        except ParameterError as wrong:
            raise RefusedMessageError(str(wrong)) from None
        self._part = Participation(
            node,
            memory,
            announcement,
            input_digest=self._announced.input_digest,
            privacy=self._announced.terms.privacy,
            approve=self._approve,
            log=log,
        )

    def join(self, invitation: bytes, index: int | None) -> RecordDict:
        """Answer an invitation; ``index`` is the one that the server gives.

        Raises RefusedMessageError, and ModuleNotFoundError for a policy with an epsilon without the extra ``privacy``.
        """
        if self._node.lora is not None:
            try:
                self._node.lora.check(self._announced.shapes_in_records())
            except ParameterError as unfit:
                raise RefusedMessageError(str(unfit)) from None
        return record_of(self._part.join(invitation, index))

    def go_on(self, state: bytes, data: bytes, train: Train) -> RecordDict:
        """Answer a message of the protocol; ``train`` gives the vector of a round when it is asked for.

        Raises RefusedMessageError.
        """
        return record_of(self._part.go_on(state, data, train))

    @property
    def needs_evaluation(self) -> bool:
        """Whether metrics of the node's evaluation are to be summed beside its update."""
        return is_evaluated(iter(self._announced.terms.metric_names))

    def train(
        self,
        message: Message,
        context: Context,
        call_next: ClientAppCallable,
        config: RoundConfig,
        evaluation: ClientAppCallable | None = None,
    ) -> Submitted:
        """The app's update as a vector of a round with this config, with the metrics that ``evaluation`` gives.

        Raises LeavesError for a message that is not what was announced, which is public, and for an app that fails or
        whose update cannot be summed, which is the one thing about a client's data that shows.
        """
        announced, content = self._announced, message.content
        sent = dict(content.array_records)
        try:
            model = flat_model(sent)
        except InputError as wrong:
            raise LeavesError(f"the server's message has no model that can be summed: {wrong}") from None
        run_config = context.run_config if announced.terms.run_config else None
        told = digest_of_told(content, message.metadata.message_type, run_config)
        if (digest_of_model(model), record_sizes(sent), told) != (announced.model, announced.records, announced.told):
            raise LeavesError(
                "the model, the configs beside it or the run's config are not those that this round was announced for"
            )
        try:
            codec = Codec(model, announced)
            codec.bind(config)
        except (ParameterError, InputError) as wrong:
            raise LeavesError(f"the server's model or layout cannot be encoded: {wrong}") from None
        lora, evaluated = self._node.lora, None
        try:
            below = message if lora is None else lora.cut_message(message)
            if self.needs_evaluation and evaluation is not None:  # of the model that came, before anything is trained
                evaluated = _reply_of_app(evaluation_message(below, context), context, evaluation).content
            reply = _reply_of_app(below, context, call_next).content
            answer = reply if lora is None else lora.padded(reply, content)
            return vector_of(update_of(answer, announced, evaluated), codec)
        except InputError as unfit:
            raise LeavesError(unfit) from None

    def _approve(self, config: RoundConfig) -> bool:
        """What this client asks of what was announced.  Raises PeerError."""
        terms = self._announced.terms
        if context_of(self._announcement) != config.context:
            raise not_approved("the announced model and layout are not those of this round's context")
        if config.threat_model.signs and not terms.run_config:
            raise not_approved(
                "the server's SecAggStrategy has no run_config: in active, clients must see that all have one"
            )
        try:
            layout = self._announced.layout
            self._announced.check_policy(self._node.layout_policy)
            layout.check_round(config)
        except (ParameterError, InputError) as wrong:
            raise not_approved(f"the announced layout does not fit the round: {wrong}") from None
        return True


def evaluation_message(message: Message, context: Context) -> Message:
    """The message of a training as one that asks to evaluate: the same records, which its function may change."""
    content = RecordDict(dict(message.content))
    return Message(content, dst_node_id=context.node_id, message_type=MessageType.EVALUATE)


def _reply_of_app(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """What the app answers.  Raises LeavesError when it fails, in whatever way."""
    try:
        reply = call_next(message, context)
    except Exception as raised:
        # The app is somebody else's code, and may raise anything.  Flower would send the exception's text to the
        # server, and the text may quote the client's data.
        log.exception("secagg: the app raised an exception while it trained")
        raise LeavesError(f"the app raised {type(raised).__name__}") from None
    if not isinstance(reply, Message):
        raise LeavesError(f"the app answered with {type(reply).__name__}; a Message is needed")
    if reply.has_error():
        raise LeavesError(f"the app, or a mod below, answered with an error: {reply.error.reason}")
    return reply
