"""What a client brings to a round, of whichever kind: a file, answers to a study's question, or a vote on a candidate.

It is fitted to the layout that the server announces before the client joins: what could be refused is refused then.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, final

import numpy.typing as npt

from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.frames import AnnouncedLayout, Counted, Refusal, RefusedError
from secagg.adapters.net.membership import MemberOptions, Total
from secagg.adapters.net.own_input import OwnInput
from secagg.adapters.net.receipts import CertifiedTotal
from secagg.adapters.net.store import ClientStore
from secagg.adapters.net.study_answer import Answering, StudyAnswer, StudyTotal
from secagg.adapters.net.voting import BallotInput, BallotTotal, Judging, Voting, checked_count
from secagg.encoding import Encoder
from secagg.errors import ErrorCode, InputError, ParameterError, PeerError
from secagg.pairwise.config import RoundConfig
from secagg.privacy.encoder import PrivateEncoder
from secagg.privacy.hosting import OpenedSum, Submitted, decoded, submitted
from secagg.privacy.layout import AnyLayout, PrivateLayout, agreed_difference
from secagg.statistics.layout import StudyLayout


@final
class Brought:
    """A client's input, and what a sum of such inputs comes to."""

    def __init__(self, options: MemberOptions, store: ClientStore, own: OwnInput | Answering | Judging) -> None:
        self._options, self._store = options, store
        self._given = own if isinstance(own, OwnInput) else None
        self._voting = Voting(own, store) if isinstance(own, Judging) else None
        self._answering = None if isinstance(own, OwnInput | Judging) else own
        self._fitted: tuple[AnyLayout, Encoder | PrivateEncoder] | None = None
        self._answered: tuple[StudyLayout, StudyAnswer] | None = None
        self._voted: BallotInput | None = None

    @property
    def is_file(self) -> bool:
        """Whether it is known before any layout is."""
        return self._given is not None

    @property
    def is_study(self) -> bool:
        """Whether it answers the questions of a study."""
        return self._answering is not None

    @property
    def is_vote(self) -> bool:
        """Whether it votes on candidates."""
        return self._voting is not None

    @property
    def what_is_summed(self) -> str:
        """For a person: what must not be in two sums."""
        return "vote on this candidate" if self.is_vote else "file"

    @property
    def clip(self) -> float | None:
        """The layout's, of a file that was fitted to one."""
        return None if self._fitted is None else self._fitted[1].clip

    def fit_to(self, layout: AnnouncedLayout) -> None:
        """Have the client's input for this layout, before anybody waits for it.

        Raises RefusedError for a round of another kind and for a layout that nobody could use, InputError for an input
        of another layout, ParameterError for a weight in a round without weights, and PeerError for a layout that this
        client does not accept.
        """
        self._check_kind(layout)
        if isinstance(layout, BallotLayout):
            with self._store.step():
                self._voted = self.voting_on(layout).stored(layout)
            return
        if isinstance(layout, StudyLayout):
            if self._answering is not None:
                answer = StudyAnswer(self._answering(layout))
                layout.encode(answer.arrays)  # what could be refused is refused before anybody waits for it
                self._answered = layout, answer
            return
        encoder = self._fit(layout)
        if isinstance(encoder, Encoder):
            encoder.encode(self._own_file.arrays, weight=self._weight)  # for what it tells this client's operator
        self._fitted = layout, encoder

    def _check_kind(self, layout: AnnouncedLayout) -> None:
        """Raises RefusedError when the round sums something else than this client brings."""
        asked = "a file"
        if isinstance(layout, StudyLayout | BallotLayout):
            asked = "a study's answers" if isinstance(layout, StudyLayout) else "votes on a candidate"
        brought = "a file" if self._given is not None else "a study's answers"
        if self._voting is not None:
            brought = "votes on a candidate"
        if asked != brought:
            raise RefusedError(Refusal.OTHER, f"the round sums {asked}, and this client brings {brought}")

    def voting_on(self, layout: BallotLayout) -> Voting:
        """What holds this client's votes.  Raises RefusedError for a client that brings no judge."""
        self._check_kind(layout)
        if self._voting is None:
            raise RuntimeError("this client brings no judge")
        return self._voting

    @property
    def own(self) -> OwnInput | StudyAnswer | BallotInput:
        """The input for the layout that was fitted last; a file is there from the beginning."""
        if self._given is not None:
            return self._given
        if self._voting is not None:
            return self._require_voted()
        return self._require_answered()[1]

    @property
    def _own_file(self) -> OwnInput:
        if self._given is None:
            raise RuntimeError("this client answers a study")
        return self._given

    @property
    def _weight(self) -> int:
        return 1 if self.own.weight is None else self.own.weight

    def _fit(self, layout: AnyLayout) -> Encoder | PrivateEncoder:
        """This client's encoder, unless the layout is none that it accepts: so far nothing but a login was sent."""
        if self._own_file.weight is not None and layout.max_weight is None:  # whatever the weight is
            raise ParameterError("the round has no weights, and this client brings one: leave --weight out")
        try:
            digest = layout.digest()
        except (ParameterError, InputError) as wrong:
            raise RefusedError(Refusal.MALFORMED, f"the server's layout cannot be used: {wrong}") from None
        policy, agreed = self._options.layout_policy, self._options.agreed_layout
        if self._options.privacy_budget is not None:
            policy = replace(policy, private=True)
        layout.check_policy(policy)
        if agreed is not None and agreed.digest() != digest:
            raise PeerError(
                ErrorCode.CONFIG_BELOW_POLICY,
                f"the server's layout is not the one that was agreed: {agreed_difference(agreed, layout)}",
            )
        return layout.encoder_for(self._own_file.arrays)

    def submitted(self, config: RoundConfig) -> Submitted:
        """What goes into a round with this config."""
        if self._answering is not None:
            layout, answer = self._require_answered()
            return Submitted(layout.encode(answer.arrays), None)
        if self._voting is not None:
            voted = self._require_voted()
            return Submitted(voted.layout.ballot().encode(voted.vote), None)
        encoder = self._require_fitted()[1].for_round(config)
        return submitted(encoder, self._own_file.arrays, self._weight)

    def total(
        self,
        vector: npt.NDArray[Any],
        config: RoundConfig,
        included: tuple[int, ...],
        seat: int,
        answered: int,
        certified: CertifiedTotal | None,
    ) -> Total | StudyTotal:
        """What a sum comes to.  Raises RefusedError for one that is of no use."""
        layout = self.layout
        if isinstance(layout, StudyLayout):
            return replace(_study_total(layout, config, vector, included, seat), certified=certified)
        if isinstance(layout, BallotLayout):  # its end is a Counted, which ``check_size`` has seen to
            raise RuntimeError("a ballot ends with a count")
        encoder = self._require_fitted()[1].for_round(config)
        own = self._own_file
        try:
            total = OpenedSum(vector, answered)
            mean = decoded(encoder, total, len(included), min_contributors=config.smallest_sum)
        except InputError as wrong:  # a member that cheated, or too few with a weight above 0
            raise RefusedError(Refusal.ROUND_ABORTED, f"the round's sum is of no use: {wrong}") from None
        return Total(
            mean=mean,
            layout=layout,
            encoder=encoder,
            config=config,
            vector=vector,
            included=included,
            seat=seat,
            clipped=encoder.clipped if isinstance(encoder, Encoder) else {},
            weight_clamped=layout.max_weight is not None and self._weight > layout.max_weight,
            coarse=encoder.coarse(own.arrays, self._weight) if isinstance(encoder, Encoder) else {},
            shortened=layout.shortening(own.arrays) if isinstance(layout, PrivateLayout) else 1.0,
            certified=certified,
        )

    def counted(self, config: RoundConfig, frame: Counted, seat: int) -> BallotTotal:
        """How a ballot ended.  Raises RefusedError for counts that no ballot has."""
        return checked_count(self._require_voted().layout, config, frame, seat)

    def _require_voted(self) -> BallotInput:
        if self._voted is None:
            raise RuntimeError("no vote yet")
        return self._voted

    @property
    def layout(self) -> AnnouncedLayout:
        """The layout that was fitted last."""
        if self._voting is not None:
            return self._require_voted().layout
        return self._require_fitted()[0] if self._answering is None else self._require_answered()[0]

    def _require_answered(self) -> tuple[StudyLayout, StudyAnswer]:
        if self._answered is None:
            raise RuntimeError("no question yet")
        return self._answered

    def _require_fitted(self) -> tuple[AnyLayout, Encoder | PrivateEncoder]:
        if self._fitted is None:
            raise RuntimeError("no layout yet")
        return self._fitted


def _study_total(
    layout: StudyLayout, config: RoundConfig, vector: Any, included: tuple[int, ...], seat: int
) -> StudyTotal:
    try:
        sums = layout.decode(vector, len(included))
    except InputError as wrong:  # a member that cheated
        raise RefusedError(Refusal.ROUND_ABORTED, f"the round's sum is of no use: {wrong}") from None
    return StudyTotal(layout, config, sums, included, seat)
