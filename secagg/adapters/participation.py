"""One client in one round: whether it joins, what it answers, and when it leaves.

Whether to join is decided before ADVERTISE, from public values alone.  What leaves the client after that depends on its
data in one way, which its host explains: an update that is not finite, or training code that fails, makes it leave.
(How long it trains is not in our hands.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from logging import Logger
from typing import Final, TypeAlias, final

from secagg.adapters.membership import Answer, LeavesError, RefusedMessageError, gone_on, joined
from secagg.adapters.node import ClientMemory, Node, Suspended
from secagg.errors import ErrorCode, ParameterError, PeerError
from secagg.events import Finished, InputNeeded, RoundAborted
from secagg.machines import ClientMachine
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import Phase
from secagg.privacy.budget_errors import BudgetExceededError, BudgetFileError
from secagg.privacy.hosting import Submitted
from secagg.privacy.layout import check_can_judge
from secagg.privacy.terms import PrivacyTerms

Train: TypeAlias = Callable[[RoundConfig], Submitted]

_RELEASED: Final = (
    "this client has answered UNMASK for this very model before, so that its update may be in a sum: that round failed "
    "afterwards, or a ballot dropped the model that it made.  A server that has two sums over one model can subtract "
    "them, and has what one client gave.  Train on from another model, or let the client's owner allow it in its own "
    "config"
)
_WITHHELD: Final = "which withholds what would open a sum that differs from earlier ones by too few members"
_RELEASED_SINCE: Final = "another round with this very model has got its answer to UNMASK since it joined this one"


@final
@dataclass(frozen=True, slots=True)
class Participation:
    """A client's part in the round of one announcement.

    Attributes:
        node, memory: the client's.
        announcement: the server's, as it came.
        input_digest: of what is announced: the key of the client's memory of released inputs.
        privacy: what a private round promises; None without noise.
        approve: what the client asks of what was announced; it raises PeerError for a round that it takes no part in.
        log: the client's own.
    """

    node: Node
    memory: ClientMemory
    announcement: bytes = field(repr=False)
    input_digest: bytes
    privacy: PrivacyTerms | None
    approve: Callable[[RoundConfig], bool]
    log: Logger

    def join(self, invitation: bytes, index: int | None) -> Answer:
        """Answer an invitation; ``index`` is the one that the server gives.

        Raises RefusedMessageError, and ModuleNotFoundError for a policy with an epsilon without the extra ``privacy``.
        """
        node = self.node
        check_can_judge(node.layout_policy)
        if not node.may_sum(self.input_digest):
            again, sums = node.config.key("again"), node.config.key("sums")
            raise RefusedMessageError(f"{_RELEASED}: {again}=true there, in active with {sums}, {_WITHHELD}")
        privacy = self.privacy
        # This host attaches the keys of noise in levels, and knows of nothing else that a round could ask it for.
        attached = 0 if privacy is None else privacy.attachment_bytes
        return joined(
            node,
            self.memory,
            invitation,
            index,
            announcement=self.announcement,
            approve=self.approve,
            log=self.log,
            attachment_bytes=attached,
            pay=lambda: self._pay(invitation),
        )

    def _pay(self, invitation: bytes) -> None:
        """Say what is promised, and charge the node's budget before anything of the round is made that can leave.

        The name of the charge is the invitation's digest.  An invitation that is charged already is refused: whether
        the first answer to it has left is not known.  Raises RefusedMessageError; the budget's numbers stay in this
        node's own log.
        """
        privacy = self.privacy
        if privacy is None:
            return
        self.log.info(
            "secagg: this round is private: the noise in the sum is %.3g times the clip of %.3g (L2 norm of an update) "
            "with %d honest clients or more, as for %d rounds in all",
            privacy.noise_multiplier,
            privacy.update_clip,
            privacy.honest,
            privacy.rounds,
        )
        try:
            self.node.charge(hashlib.sha256(invitation).digest(), privacy.sum_to_server)
        except (BudgetExceededError, BudgetFileError, ParameterError) as refused:
            self.log.error("secagg: this client does not join: %s", refused)
            raise RefusedMessageError("this client's privacy budget does not allow this round") from None

    def go_on(self, state: bytes, data: bytes, train: Train) -> Answer:
        """Answer a message of the protocol; ``train`` gives the vector of a round when it is asked for.

        Raises RefusedMessageError.
        """
        return gone_on(self.node, state, lambda client: self._answer(client, data, train), self.log)

    def _answer(self, client: ClientMachine, data: bytes, train: Train) -> Answer:
        step = client.receive(data)
        digest = self.input_digest
        if isinstance(step.event, InputNeeded):
            if not self.node.may_sum(digest):
                raise LeavesError(_RELEASED_SINCE)
            given = train(client.config)
            step = client.submit(given.vector, given.keys)
        if isinstance(step.event, Finished):
            if why := self.node.why_withheld(step.event.survivors, client.config):
                raise LeavesError(why)
            if not self.node.release(digest):
                raise LeavesError(_RELEASED_SINCE)
        if isinstance(step.event, RoundAborted):
            self.log.info("secagg: the server ended the round (%s)", step.event.code.name)
        if not client.done:
            self.memory.keep(Suspended(client.suspend(), self.announcement))
        return Answer(step.outgoing[0] if step.outgoing else b"")


def not_approved(reason: str) -> PeerError:
    """What a client's ``approve`` raises for a round that it takes no part in."""
    return PeerError(ErrorCode.CONFIG_NOT_APPROVED, reason, phase=Phase.ADVERTISE)
