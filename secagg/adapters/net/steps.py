"""What a client does with what the server sends: one durable step each, on a thread, without a connection.

Before it advertises its keys, a client may refuse for any reason of its own.  Afterwards nothing about its data makes
it leave or answer otherwise: everything that could is asked in ``prepare`` and ``_take_invitation``.  Two reasons are
left that are none of its data: another round, with another state file, has got the same input meanwhile; and the host
withholds the last answer, because of whom the sum would be of.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, final

from secagg.adapters.net.addresses import round_of
from secagg.adapters.net.announced_sizes import check_message, check_sum
from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.brought import Brought
from secagg.adapters.net.frames import (
    ABORT,
    AnnouncedLayout,
    Counted,
    Message,
    Refusal,
    RefusedError,
    Sum,
    encode_layout,
)
from secagg.adapters.net.membership import AnotherInputError, MaybeSummedError, MemberOptions, Total
from secagg.adapters.net.own_input import OwnInput
from secagg.adapters.net.own_statement import STATED, state_silence
from secagg.adapters.net.receipts import CertifiedTotal, certified_total
from secagg.adapters.net.store import ClientStore, JoinedRound
from secagg.adapters.net.study_answer import Answering, StudyTotal
from secagg.adapters.net.voting import BallotTotal, Judging
from secagg.arithmetic import PackedError, unpack
from secagg.errors import AbortCode, DisclosureError, ErrorCode, ParameterError, PeerError
from secagg.events import Finished, InputNeeded, RoundAborted
from secagg.identity import Identity
from secagg.machines import ClientMachine
from secagg.pairwise import messages
from secagg.pairwise.client.machine import Client
from secagg.pairwise.config import RoundConfig, decode_config
from secagg.pairwise.phases import Phase
from secagg.pairwise.transitions import next_answer
from secagg.privacy.layout import PrivateLayout
from secagg.privacy.terms import PrivacyTerms
from secagg.statistics.layout import StudyLayout
from secagg.wording import counted

_log = logging.getLogger("secagg.net.member")
FINISHED: Final = "finished"
_LEFT: Final = "left for another round"
_ACCEPTED: Final = frozenset({"accepted", "duplicate"})
_GIVES_AWAY: Final = frozenset({Phase.MASK, Phase.UNMASK})


class _LeavesError(Exception):
    """This client leaves for ``why``; ``reply`` is the ABORT message to send."""

    def __init__(self, why: MaybeSummedError | DisclosureError, reply: bytes) -> None:
        super().__init__(str(why))
        self.why, self.reply = why, reply


@final
class Steps:
    """A client's steps, and what they find out.

    Attributes:
        taken: how many there were in this process; a message that changes nothing leads to none.
        failure: why this client has left the round, once it has.
        ended: the server's word that the round is over, once it came as a message of the protocol.
    """

    def __init__(
        self,
        options: MemberOptions,
        store: ClientStore,
        own: OwnInput | Answering | Judging,
        login: Identity,
        on_terms: Callable[[PrivacyTerms], None] = lambda terms: None,
    ) -> None:
        self._options, self._store, self._login = options, store, login
        self._brought = Brought(options, store, own)
        self._on_terms = on_terms
        self._round = round_of(options.url)
        self._layout, self._certificate, self._clients = b"", b"", 0
        self.taken = 0
        self.failure: PeerError | MaybeSummedError | DisclosureError | None = None
        self.ended: RefusedError | None = None

    # Before anything is sent.

    def check_input(self) -> None:
        """Before connecting.  Raises AnotherInputError in the middle of a round that was joined with other data.

        What a study asks for, and what a ballot is about, is not known yet.
        """
        if not self._brought.is_file:
            return
        with self._store.step():
            part = self._store.load()
            if part is None or part.over is not None or self._is_input_of(part):
                return
            if self._options.again:
                self._store.drop_outgoing()
                self._store.save(replace(part, state=None, over=_LEFT))
                return
        raise AnotherInputError(
            f"the input or its weight has changed since this client joined round {self._round!r}, which is not over: "
            "give the same file and weight to go on; or add --again to leave that round and to join the next one with "
            "this file"
        )

    def wants_candidate(self, layout: BallotLayout) -> bool:
        """Whether this member has no vote on a ballot's candidate yet.

        Raises RefusedError when it brings no judge, when the candidate is too long for it, and in the middle of another
        ballot; PeerError when it asks for noise, which a ballot has not.
        """
        voting = self._brought.voting_on(layout)
        voting.check(layout)
        if self._options.privacy_budget is not None or self._options.layout_policy.asks_for_noise:
            raise PeerError(
                ErrorCode.CONFIG_BELOW_POLICY, "the round is a ballot, whose count has no noise, and noise is asked for"
            )
        with self._store.step():
            part = self._store.load()
            if part is not None and part.over is None and part.layout != encode_layout(layout):
                # Another vote would take the place of the one that the other ballot still needs.
                self._leave_for_another(part, "layout")
            return voting.stored(layout) is None

    def judge(self, layout: BallotLayout, candidate: bytes) -> None:
        """Vote on a candidate, and store the vote.  Raises RefusedError for what is not the announced candidate."""
        self._brought.voting_on(layout).judge(layout, candidate)

    def prepare(self, layout: AnnouncedLayout, certificate: bytes, clients: int) -> RoundConfig | None:
        """Fit the input to the round's layout, before anybody waits for it.

        Args:
            layout: what the server welcomed this client with.
            certificate: SHA-256 of the one that it showed.
            clients: how many it said that the round has.

        Returns the config of the round that this client is or was in.  Raises InputError when the input has another
        layout, and RefusedError for one that nobody could use.
        """
        self._clients = clients
        encoded = encode_layout(layout)
        if encoded != self._layout:
            self._brought.fit_to(layout)
        self._layout, self._certificate = encoded, certificate
        with self._store.step():
            part = self._store.load()
            if part is None:
                return None
            if part.over is None and (changed := self._changed(part)):
                part = self._leave_for_another(part, changed)
            if part.over is None:
                self._check_clients(decode_config(part.config))
            elif self.failure is None and part.over != STATED:
                self._store.drop_outgoing()  # of a round that this client has left
            return decode_config(part.config)

    def _check_unchanged(self, part: JoinedRound) -> None:
        """The server is the one that this client joined with, and wants what it wanted then."""
        if changed := self._changed(part):
            raise self._shows_another(changed)

    def _changed(self, part: JoinedRound) -> str:
        """What the server shows otherwise than when this client joined; nothing where it is the same."""
        if part.certificate != self._certificate:
            return "certificate"
        return "layout" if part.layout != self._layout else ""

    def _leave_for_another(self, part: JoinedRound, changed: str) -> JoinedRound:
        """Leave a round for good, where the member says so (``again``).  Raises RefusedError where it does not.

        A member of a study never does: its rounds have ``again`` because they are over the same records.
        """
        if not self._options.again or self._brought.is_study:
            raise self._shows_another(changed)
        self._store.drop_outgoing()
        left = replace(part, state=None, over=_LEFT)
        self._store.save(left)
        return left

    def _shows_another(self, changed: str) -> RefusedError:
        return RefusedError(
            Refusal.ANOTHER_ROUND,
            f"the server shows another {changed} than when this client joined round {self._round!r}; ask who runs "
            f"it why. To leave that round for good, {self._how_to_leave}",
        )

    @property
    def _how_to_leave(self) -> str:
        """A study has no option for it: its rounds are asked of the same records anyway."""
        if not self._brought.is_study:
            return "add --again (see its help first)"
        return f"remove {self._store.path}, which is this client's state of it"

    def _check_clients(self, config: RoundConfig) -> None:
        """The welcome and the invitation are of one round."""
        if self._clients != config.clients:
            raise RefusedError(
                Refusal.MALFORMED,
                f"the server welcomed this client to a round of {counted(self._clients, 'client')}, and round "
                f"{self._round!r} has {config.clients} by its invitation",
            )

    # What the server sends.

    def check_size(self, frame: Message | Sum | Counted, config: RoundConfig | None) -> None:
        """Before a byte behind the frame is read.  Raises RefusedError for more than belongs to this round."""
        if not isinstance(frame, Message) and isinstance(frame, Counted) != self._brought.is_vote:
            raise RefusedError(Refusal.MALFORMED, "the server ended the round with what is not of its kind")
        if isinstance(frame, Message):
            check_message(frame, config)
        elif isinstance(frame, Sum):
            if config is None:
                raise self._not_in_it()
            check_sum(frame, config)

    def take(self, seat: int, phase: str, data: bytes) -> RoundConfig:
        """Take one message of the server's; what it leads to is durable when this returns."""
        with self._store.step():
            part = self._store.load()
            if phase == Phase.ADVERTISE:
                part = self._take_invitation(part, seat, data)
            elif part is None or part.seat != seat:
                raise RefusedError(
                    Refusal.ROUND_BEGUN,
                    f"round {self._round!r} is in {phase}, and this client's state knows nothing of it: its file is "
                    "lost, or the client comes too late",
                )
            elif part.state is not None:
                part = self._go_on(part, part.state, data)
            return decode_config(part.config)

    def _take_invitation(self, part: JoinedRound | None, seat: int, data: bytes) -> JoinedRound:
        store, digest = self._store, hashlib.sha256(data).digest()
        if part is not None and part.over is None:
            if part.invitation == digest and part.seat == seat:
                return part
            if not self._options.again:
                raise RefusedError(
                    Refusal.ANOTHER_ROUND,
                    "the server opens a new round while this client is in the middle of another: it has lost its "
                    "journal; to leave the old round for good, add --again (see its help first)",
                )
        self.taken += 1
        self._check_not_summed(digest)
        store.drop_outgoing()
        layout = self._brought.layout
        # This host attaches the keys of noise in levels, and knows of nothing else that a round could ask it for.
        attached = layout.terms.attachment_bytes if isinstance(layout, PrivateLayout) else 0
        policy = replace(self._options.policy, context=layout.digest(), max_attachment_bytes=attached)
        active = self._options.directory is not None
        # When this client refuses the config, the step is undone and the server not told: its member may think better.
        with Client.join(
            data,
            seat,
            policy=policy,
            identity=self._login if active else None,
            directory=self._options.directory,
            consume=store.consume,
            chain=self._options.chain,
        ) as client:
            if not store.consume(digest):
                raise RefusedError(Refusal.ANOTHER_ROUND, "this client was in this very round already, on another seat")
            _check_config(layout, client.config)
            self._check_clients(client.config)
            self._pay(layout, digest)
            store.push(Phase.ADVERTISE, client.start())
            part = JoinedRound(
                seat=seat,
                invitation=digest,
                config=client.config.to_bytes(),
                layout=self._layout,
                certificate=self._certificate,
                values_digest=store.keyed(self._brought.own.values_digest),
                input_digest=store.keyed(self._brought.own.digest(self._layout)),
                masked=False,
                state=client.suspend(),
                over=None,
            )
        store.save(part)
        agreed = client.config
        fields: dict[str, Any] = {"seat": seat, "clients": agreed.clients, "threat_model": agreed.threat_model.value}
        fields |= {"colluders": agreed.colluders, "min_survivors": agreed.min_survivors}
        if agreed.groups > 1:
            fields |= {"groups": agreed.groups, "min_group": agreed.min_group}
        if (clip := self._brought.clip) is not None:
            fields["clip"] = clip
        _log.info("joins", extra={"fields": fields})
        return part

    def _pay(self, layout: AnnouncedLayout, invitation: bytes) -> None:
        """Charge this client's budget: the last step before anything of the round is made that can leave.

        Raises BudgetExceededError and BudgetFileError.  The name that is charged is the invitation's digest under the
        key of this state: when the process dies after it, the same state finds the round charged, and nothing has left.
        Another state, as of a member who has deleted the first one, pays again, for it may send a second vector.
        """
        cost = None
        if isinstance(layout, PrivateLayout):
            self._on_terms(layout.terms)
            cost = layout.terms.sum_to_server
        elif isinstance(layout, StudyLayout):
            cost = layout.noisy_sum
        budget = self._options.privacy_budget
        if budget is None or cost is None:
            return
        if not budget.is_charged(name := self._store.keyed(invitation)):
            budget.charge(name, cost)

    def _is_input_of(self, part: JoinedRound) -> bool:
        return part.input_digest == self._store.keyed(self._brought.own.digest(part.layout))

    def _check_not_summed(self, invitation: bytes) -> None:
        """A server that opened a sum, and said that it did not, must not get the same input again."""
        values = self._brought.own.values_digest
        if self._options.again:
            return
        here = self._store.is_released(self._store.keyed(values))
        others = self._options.other_states
        where = self._store.path if here else self._store.may_be_elsewhere(others, values, invitation)
        if where is not None:
            what = self._brought.what_is_summed
            raise MaybeSummedError(
                f"your {what} may be in a sum already: according to {where!s}, it took part in a round that is still "
                "going on, or that reached its last phase, even if the server said afterwards that it failed. A server "
                f"that has two sums with your {what} can subtract one from the other, and may then see the values of a "
                "single member. To take part all the same, add --again; read its help first"
            )

    def _go_on(self, part: JoinedRound, state: bytes, data: bytes) -> JoinedRound:
        store, options = self._store, self._options
        active = options.directory is not None
        identity = self._login if active else None
        try:
            with Client.resume(
                state, store.consume, identity=identity, directory=options.directory, chain=options.chain
            ) as client:
                answers = _answers(client)
                if answers in _GIVES_AWAY:
                    self._check_not_given_away(client, part.invitation)
                step = client.receive(data)
                if isinstance(step.event, InputNeeded):
                    if answers is Phase.ANSWER:  # nobody complained about this client's shares: it masks at once
                        answers = Phase.MASK
                        self._check_not_given_away(client, part.invitation)
                    given = self._brought.submitted(client.config)
                    step = client.submit(given.vector, given.keys)
                if isinstance(step.event, Finished):
                    self._check_may_reveal(client, step.event.survivors)
                if step.outgoing or step.event is not None:
                    self.taken += 1
                for message in step.outgoing:
                    store.push(answers, message)
                match step.event:
                    case RoundAborted(code):
                        self.ended = _ended(code)
                        part = replace(part, state=None, over=str(self.ended))
                        store.drop_outgoing()
                    case Finished():
                        store.release(part.values_digest)
                        part = replace(part, state=None)
                    case _:
                        part = replace(part, state=client.suspend())
        except PeerError as refused:
            part = self._leave(part, refused, refused.reply)
        except _LeavesError as leaves:
            part = self._leave(part, leaves.why, leaves.reply)
        store.save(part)
        return part

    def _check_not_given_away(self, client: ClientMachine, invitation: bytes) -> None:
        """Ask the other states again, before the vector leaves and before the last answer does.

        Two rounds that are joined at the same moment, with a state each, do not see each other when they are joined.
        Who leaves here does so because of the other round's state alone, whatever the values are.
        """
        if self._options.again:
            return
        where = self._store.goes_after(self._options.other_states, self._brought.own.values_digest, invitation)
        if where is not None:
            why = MaybeSummedError(
                f"your {self._brought.what_is_summed} may be in a sum already: {where} has it in another round since "
                f"this client joined round {self._round!r}, which it leaves"
            )
            raise _LeavesError(why, client.abort(AbortCode.CANCELLED))

    def _check_may_reveal(self, client: ClientMachine, survivors: tuple[int, ...]) -> None:
        """Ask the host whether a sum of these may be opened, while the answer that helps to open it is still here.

        R-JOIN-6.
        """
        try:
            self._options.may_reveal(survivors)
        except DisclosureError as withheld:
            raise _LeavesError(withheld, client.abort(AbortCode.CANCELLED)) from None

    def _leave(
        self, part: JoinedRound, why: PeerError | MaybeSummedError | DisclosureError, reply: bytes
    ) -> JoinedRound:
        """Forget the state, and tell the server; the error is raised once it knows, or is gone."""
        self.failure = why
        self.taken += 1
        self._store.drop_outgoing()
        if reply:
            self._store.push(ABORT, reply)
        return replace(part, state=None, over=str(why))

    # What becomes of a client's messages.

    def acknowledge(self, number: int, verdict: str) -> str | None:
        """The server has taken a message; returns its phase."""
        return self._store.acknowledged(number, accepted=verdict in _ACCEPTED)

    def awaits_mask(self) -> bool:
        """Whether the masked vector is on its way, so that a sum must wait for what becomes of it."""
        return any(phase == Phase.MASK for phase in self._store.waiting())

    def state_silence(self) -> bool:
        """The server says that the round is aborted: see ``own_statement``."""
        if self.failure is not None or not state_silence(self._store, self._options, self._login):
            return False
        self.taken += 1
        return True

    def decode(
        self, frame: Sum | Counted, packed: bytearray, certificate: bytes = b""
    ) -> Total | StudyTotal | BallotTotal:
        """The total; the round's certificate came with it, if there are bytes of one.

        Raises RefusedError for a sum that is none of this client's round, AnotherInputError for one of another input,
        and what ``certified_total`` raises.
        """
        with self._store.step():
            part = self._store.load()
            known = part is not None and self._is_input_of(part)
        layout = self._brought.layout
        if part is None or part.over not in (None, FINISHED):
            raise self._not_in_it()
        self._check_unchanged(part)
        if not known:
            if self._brought.is_study:
                raise AnotherInputError(
                    f"round {self._round!r} is over, and its sum is over other records than this client has now: give "
                    "those that it joined with, or begin a study of another name"
                )
            raise AnotherInputError(
                f"round {self._round!r} is over, and its sum is over another file or weight than this one: give the "
                "file that this client joined with to get that sum; for this file, the server must open a new round "
                "(with another --round or another --journal)"
            )
        if not part.masked:
            raise RefusedError(
                Refusal.LEFT_OUT, f"the server sent a sum, and never took this client's input for round {self._round!r}"
            )
        config = decode_config(part.config)
        if isinstance(frame, Counted):
            return self._brought.counted(config, frame, part.seat)
        included = messages.decode_bitmap(frame.included, config.clients)
        if part.seat not in included or len(included) < config.smallest_sum:
            raise RefusedError(
                Refusal.MALFORMED,
                f"the server's sum is over {counted(len(included), 'client')}, this one "
                f"{'' if part.seat in included else 'not '}among them; at least {config.smallest_sum} were agreed",
            )
        most = len(included) if isinstance(layout, PrivateLayout) and layout.terms.levels else 0
        if frame.answered > most:
            raise RefusedError(
                Refusal.MALFORMED,
                f"the server says that it took noise off for {counted(frame.answered, 'client')}: in this sum, there "
                f"are {most} of whom it could",
            )
        try:
            vector = unpack(packed, config.modulus, config.length)
        except PackedError as wrong:
            raise RefusedError(Refusal.MALFORMED, f"the server's sum is no vector of this round: {wrong}") from None
        certified = self._certified(certificate, vector, config, included, frame.answered)
        return self._brought.total(vector, config, included, part.seat, frame.answered, certified)

    def _certified(
        self, certificate: bytes, total: Any, config: RoundConfig, included: tuple[int, ...], answered: int
    ) -> CertifiedTotal | None:
        """A client without a chain does not know whose signature to ask for."""
        chain, directory = self._options.chain, self._options.directory
        if chain is None or directory is None:
            return None
        return certified_total(
            certificate,
            total,
            chain=chain,
            config=config,
            included=included,
            without_surplus=answered > 0,
            identity=self._login,
            directory=directory,
        )

    def _not_in_it(self) -> RefusedError:
        return RefusedError(Refusal.LEFT_OUT, f"round {self._round!r} is over, and this client was not in it")


def _answers(client: ClientMachine) -> Phase:
    """The phase of this client's next message: its own state says so, not the frame of a server."""
    answer = next_answer(client.config.threat_model, client.state, complaints=client.config.complaints > 0)
    if answer is None:
        raise RuntimeError(f"a client that is {client.state} has nothing more to send")
    return answer


def _check_config(layout: AnnouncedLayout, config: RoundConfig) -> None:
    """The round takes every input of this layout: else leaving it later would say something about this one.

    A private round also has the one modulus of its noise, and as many honest clients as that was sized for, by this
    client's own count.
    """
    try:
        layout.check_round(config)
    except ParameterError as wrong:
        raise PeerError(ErrorCode.CONFIG_BELOW_POLICY, str(wrong), phase=Phase.ADVERTISE) from None


def _ended(code: AbortCode) -> RefusedError:
    if code is AbortCode.EXCLUDED:
        return RefusedError(Refusal.LEFT_OUT, "the round went on without this client, which was too late")
    return RefusedError(Refusal.ROUND_ABORTED, f"the server ended the round: {code.name}")
