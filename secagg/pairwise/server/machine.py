"""The server: collects one phase's messages, and moves on only when its host closes the phase.

No input or output, no clock, no thread of its own.  Nothing that a client sends makes it raise, advance or send.
Masked inputs are added up as they arrive, so that vectors take O(m) memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, KeysView, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn, TypeAlias, final

from secagg.errors import AbortCode, ErrorCode, ParameterError, PeerError, StateError, UsageError
from secagg.events import (
    Accepted,
    Admitted,
    AlreadyMasked,
    ClientAborted,
    Duplicate,
    InHand,
    Late,
    Misbehaved,
    ServerEvent,
    ServerStep,
)
from secagg.identity import Directory, Identity
from secagg.outcome import Blame, Failure, GroupSum, Merged, Outgoing, Result
from secagg.pairwise import messages
from secagg.pairwise.certificate import Spent
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.graph import NeighbourGraph
from secagg.pairwise.messages import Abort, Advertise, MaskedInput, ToServer
from secagg.pairwise.partial import NAME_BYTES, PartialSum
from secagg.pairwise.phases import SERVER_ENDED, HostCall, ServerState, collected_in
from secagg.pairwise.rules import server as rules
from secagg.pairwise.rules import wire as wire_rules
from secagg.pairwise.server import advertise, certify, compute, dispatch, groups, intake, opening
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.failure_reasons import RoundOverError
from secagg.pairwise.server.records import (
    STATES,
    Aborted,
    Advertised,
    Advertising,
    Answering,
    Collector,
    Done,
    Held,
    Ids,
    Masking,
    Round,
    Unmasked,
)
from secagg.pairwise.server.snapshot import dump, load
from secagg.pairwise.transitions import server_table
from secagg.primitives.calls import OneCall
from secagg.wording import counted

if TYPE_CHECKING:
    from concurrent.futures import Executor

Randomness: TypeAlias = Callable[[int], bytes]


@final
class Server:
    """One round.

    ``receive`` takes messages, ``close_phase`` ends a phase and gives what to send, ``compute`` the sum.

    One thread at a time calls ``receive``, ``close_phase`` and ``abort``: a call that comes while another one is under
    way raises StateError and changes nothing.  ``compute`` may run in a thread of its own beside them.
    """

    def __init__(
        self,
        config: RoundConfig,
        *,
        directory: Directory | None = None,
        certificates: Sequence[bytes] = (),
        randomness: Randomness = os.urandom,
    ) -> None:
        """Open a round.

        Args:
            config: the round's constants.
            directory: ``active``: who knows the cohort's identity keys; clients whose signatures fail are refused.
            certificates: of a chained round: the last ones of the chain, which its invitation brings to clients that do
                not know them yet; the last one's digest is the config's ``chain``.
            randomness: returns that many random bytes; drawn from once, for the nonce.
        """
        round_ = Round(config, randomness(messages.NONCE_BYTES), directory, certificates)
        self._set_up(round_, Attendance.of_cohort(config.clients), Advertising(round_))

    def _set_up(self, round_: Round, attendance: Attendance, held: Held) -> None:
        self._round, self._attendance, self._held = round_, attendance, held
        self._config = round_.config
        self._table = server_table(round_.config.threat_model, complaints=round_.config.complaints > 0)
        self._largest = messages.most_bytes_to_server(round_.config)
        self._blamed = {(entry.sender, entry.phase, entry.code) for entry in attendance.blame}
        self._result: Result | None = None
        self._one_call, self._one_compute = OneCall("server"), OneCall("server's compute")

    @classmethod
    def restore(cls, snapshot: bytes, *, directory: Directory | None = None) -> Server:
        """The server of a ``snapshot``; it sends the very bytes that the old one would have.

        Never restore an older snapshot than the newest whose messages were sent (R-STATE-5).  Raises ParameterError.
        """
        server = cls.__new__(cls)
        server._set_up(*load(snapshot, directory))
        return server

    def snapshot(self) -> bytes:
        """The whole state, everything received so far included.

        Store it durably before sending what ``close_phase`` returned, and journal what is received until the next.
        """
        return dump(self._round, self._attendance, self._held)

    # What a host asks.

    @property
    def config(self) -> RoundConfig:
        """The round's config."""
        return self._config

    @property
    def phase(self) -> ServerState:
        """The phase whose messages are collected, or COMPUTE, DONE, ABORTED."""
        return STATES[type(self._held)]

    @property
    def missing(self) -> KeysView[int]:
        """Who is still awaited in this phase, a live read-only view; empty: close at once."""
        return self._attendance.awaited.keys()

    @property
    def in_hand(self) -> Mapping[int, str]:
        """In MASK, who was admitted to a partial sum that is still open, and its name, a live read-only view.

        They are ``missing`` too: closed now, the phase would lose them.
        """
        return MappingProxyType(self._attendance.in_hand)

    @property
    def ready_to_compute(self) -> bool:
        """Whether the shares are in and ``compute`` is next."""
        return self.phase is ServerState.COMPUTE

    @property
    def done(self) -> bool:
        """Whether the round is over, with a sum or without."""
        return self.phase in SERVER_ENDED

    @property
    def failure(self) -> Failure | None:
        """Why the round was aborted, if it was."""
        return self._held.failure if isinstance(self._held, Aborted) else None

    @property
    def dropped(self) -> Mapping[str, tuple[int, ...]]:
        """By phase, whom the server lost in it so far."""
        return {phase: tuple(members) for phase, members in self._attendance.dropped.items()}

    @property
    def graph(self) -> NeighbourGraph | None:
        """Who is whose neighbour; None before the roster is made."""
        advertised = self._held.advertised
        return None if advertised is None else advertised.graph

    @property
    def blame(self) -> tuple[Blame, ...]:
        """Who broke which rule so far: each (client, phase, rule) once."""
        return tuple(self._attendance.blame)

    def __repr__(self) -> str:
        clients, awaited = counted(self._config.clients, "client"), len(self._attendance.awaited)
        return f"<Server of {clients}, {self.phase}, {awaited} awaited>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Server is not pickled; use snapshot()")

    # What a host does.

    def invitation(self) -> bytes:
        """Config and nonce, the same bytes for everybody."""
        return advertise.invitation(self._round)

    def receive(self, sender: int, data: bytes | bytearray | memoryview) -> ServerStep:
        """Take one message that the host's channel says is ``sender``'s (R-EXTERNAL-2).

        Never raises for what a peer sent, never advances, never sends: the step holds an event alone (R-WIRE-10).
        """
        with self._one_call("receive"):
            return self._step("receive", sender, data)

    # MASK on more workers than one; decision 0033.

    def open_partial(self, *, randomness: Randomness = os.urandom) -> PartialSum:
        """A partial sum for a worker to fill while MASK is open: ``secagg.PartialSum`` says how.

        Args:
            randomness: draws its name, which no message depends on.

        Raises StateError unless MASK is open; ParameterError when 65,536 partial sums are open.
        """
        with self._one_call("open_partial"):
            return intake.open_partial(self._masking("open_partial"), randomness(NAME_BYTES).hex())

    def admit(self, sender: int, header: bytes | bytearray | memoryview, partial: str) -> ServerStep:
        """Decide whether a partial sum may add a client's masked input: the event ``Admitted`` says that it may.

        Args:
            sender: as for ``receive``.
            header: what ``PartialSum.header`` made of the message; or the message, whose vector is not looked at.
            partial: the name of an open partial sum.

        Any other message is taken as ``receive`` takes it.  Raises ParameterError when MASK is open and there is no
        such partial sum.
        """
        with self._one_call("admit"):
            if isinstance(self._held, Masking):
                intake.require_open(self._held, partial)
            return self._step("admit", sender, header, partial)

    def refuse(self, event: Misbehaved, partial: str | None = None) -> None:
        """Note what a worker refused.

        Args:
            event: what ``PartialSum.header`` or ``PartialSum.add`` returned.
            partial: the name of the partial sum whose ``add`` it was: its sender, who was admitted to it, is awaited
                again, and may send the right message.  None for an event of ``header``: whatever else this client
                sent, and was admitted, stays.
        """
        with self._one_call("refuse"):
            if not isinstance(event, Misbehaved):
                raise UsageError(f"refuse: {type(event).__name__}; give the Misbehaved that the worker's call returned")
            if partial is not None and self._attendance.in_hand.get(event.sender) == partial:
                del self._attendance.in_hand[event.sender]
            self._blame(event)

    def merge(self, partial: PartialSum | bytes | bytearray | memoryview) -> Merged:
        """Count the clients whose masked inputs a partial sum holds, given as such or as its bytes, and close it.

        Raises StateError unless MASK is open, and ParameterError for a partial sum of another round, one that is not
        open any more, one with a client that was not admitted to it, or damaged bytes.  Nothing has changed then.
        """
        with self._one_call("merge"):
            masking = self._masking("merge")
            whole = partial if isinstance(partial, PartialSum) else PartialSum.from_bytes(partial)
            return intake.merge(masking, self._attendance, whole)

    def drop_partial(self, partial: str) -> tuple[int, ...]:
        """Give up a partial sum whose worker is gone.  It cannot be merged any more, should it turn up after all.

        Returns the clients that had been admitted to it, ascending: they are awaited again, and lost at the close of
        the phase unless their messages are taken once more.  Raises StateError unless MASK is open; ParameterError when
        no such partial sum is.
        """
        with self._one_call("drop_partial"):
            return intake.drop(self._masking("drop_partial"), self._attendance, partial)

    def close_phase(self) -> Outgoing:
        """End the phase: decide with what is there, move on, and return what to send.

        With too few answers the round is ABORTED, ``failure`` says why, and what to send is an ABORT for each client
        that may still be listening.  Raises StateError when there is no phase to close.
        """
        with self._one_call("close_phase"):
            return self._close_phase()

    def outgoing(self) -> Outgoing:
        """What the last ``close_phase`` returned, again; before the first one, the invitation for everybody."""
        attendance, held = self._attendance, self._held
        if isinstance(held, Aborted):
            # R-ABORT-2
            farewell = messages.encode_abort(self._config.version, self._round.round_id, held.failure.code)
            return Outgoing(attendance.staying(attendance.recipients), lambda index: farewell)
        if not isinstance(held, Collector):
            return Outgoing((), lambda index: b"")
        make, dismissed = dispatch.messages_of(held), frozenset(attendance.dismissed)
        dismissal = messages.encode_abort(self._config.version, self._round.round_id, AbortCode.EXCLUDED)
        return Outgoing(
            [*dispatch.asked_of(held, tuple(attendance.recipients)), *attendance.dismissed],
            lambda index: dismissal if index in dismissed else make(index),
        )

    def compute(self, executor: Executor | None = None, workers: int | None = None) -> Result:
        """Unmask the sum: the one step that takes long.  May run in another thread; called again, returns the same.

        Args:
            executor: where secrets are reconstructed and masks expanded; this thread when not given.  It gets shares of
                secrets and keys of streams, so a process or a machine behind it is as trusted as the server.
            workers: how many jobs the executor runs at once, where it does not say so itself, as Dask's.

        Raises StateError before UNMASK is closed; ParameterError when ``workers`` is below 1; PeerError(BAD_DEALER)
        when a client dealt shares that open to something else than it announced, and PeerError(BAD_ENVELOPE), which
        names nobody, when a client's envelope is malformed: the round is then ABORTED.
        """
        if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
            raise ParameterError(f"workers = {workers!r}: a whole number, 1 or more; leave it out if you do not know")
        with self._one_compute("compute"):
            return self._compute(executor, workers)

    def certificate(
        self,
        identity: Identity,
        *,
        previous: bytes = b"",
        name: str = "",
        time: int = 0,
        spent: Spent | None = None,
        statements: Mapping[int, bytes] = MappingProxyType({}),
    ) -> bytes:
        """The round's certificate, signed, once the round is over: with its sum, or without one.

        Args:
            identity: the server's, which it keeps beyond rounds.
            previous: the certificate of the round before it, of the same identity; nothing for the first of a chain.
            name: what the host calls the round, for people who read the certificate; at most 64 characters.
            time: seconds since 1970, by the host's clock; 0 for a host that does not say.
            spent: the differential privacy that the round took, by the host's account.
            statements: of a round that was aborted, by member: what its ``Client.disclaim`` gave, that it did not
                answer UNMASK.

        Raises StateError before the round is over; CertificateError when ``previous`` is no certificate of this
        identity, or the arguments make none that holds.
        """
        with self._one_call("certificate"):
            if not self.done or (isinstance(self._held, Done) and self._result is None):
                raise StateError(f"certificate: not possible in state {self.phase}; call compute, or abort, first")
            draft = certify.draft(self._round, self._attendance, self._held, self._result, statements)
            return certify.chained(draft, identity, previous, name=name, time=time, spent=spent)

    def check_statement(self, member: int, statement: bytes) -> None:
        """Whether a member signed that it did not answer in this round, for hosts that collect such statements.

        Args:
            member: the cohort index of whoever the statement is said to be of.
            statement: what its ``Client.disclaim`` gave.

        Raises CertificateError when it is anything else than the member's signature over this session, and StateError
        unless the round was aborted after its roster was made.
        """
        with self._one_call("check_statement"):
            advertised = self._held.advertised
            if advertised is None or not isinstance(self._held, Aborted):
                raise StateError(
                    f"check_statement: not possible in state {self.phase}; it is for a round with a roster that was "
                    "aborted"
                )
            certify.check_statement(self._round, advertised.session, member, statement)

    def abort(self, reason: str = "cancelled by the host") -> Outgoing:
        """End the round without a sum; returns an ABORT for each client that may still be listening."""
        with self._one_call("abort"):
            if not self.done:
                self._abort(reason, AbortCode.CANCELLED)
            return self.outgoing()

    # Receiving.

    def _step(
        self, call: str, sender: int, data: bytes | bytearray | memoryview, partial: str | None = None
    ) -> ServerStep:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise UsageError(f"{call}: data is {type(data).__name__}; give the message's bytes")
        try:
            return ServerStep(event=self._receive(sender, data, partial))
        except PeerError as refused:
            return ServerStep(event=self._refuse(sender, refused))
        except Exception as bug:
            self._abort(f"unexpected {type(bug).__name__} while receiving", AbortCode.INTERNAL)
            raise

    def _masking(self, call: str) -> Masking:
        if not isinstance(self._held, Masking):
            raise StateError(
                f"{call}: not possible in state {self.phase}; partial sums are opened, filled and merged while MASK is "
                "open"
            )
        return self._held

    def _receive(self, sender: int, raw: bytes | bytearray | memoryview, partial: str | None) -> ServerEvent:
        """Ask in the order of R-WIRE-9, so that one message has one verdict."""
        config, attendance, state = self._config, self._attendance, self.phase
        rules.sender_invited(sender, config.clients)
        message = messages.to_server.decode(raw, self._largest, config.version, config.suite.agreement)
        wire_rules.of_session(message.session, *self._sessions_of(message), named=False)
        if isinstance(message, Abort):
            return self._take_abort(sender, message)
        phase = messages.PHASE_OF[type(message)]
        earlier = attendance.answered(phase)
        # A masked input is not hashed: that would cost several times the rest of the work on it.
        digest = b"" if isinstance(message, MaskedInput) else hashlib.sha256(raw).digest()
        if sender in earlier:
            if isinstance(message, MaskedInput):
                return AlreadyMasked(sender)  # R-MASK-7
            wire_rules.not_conflicting(earlier[sender], digest, phase, phase=phase)
            return Duplicate(sender, phase)
        open_phase = collected_in(state)
        if open_phase is None or phase.place < open_phase.place:
            return Late(sender, phase)
        wire_rules.in_phase(phase is open_phase, phase, f"in phase {state}", phase=phase)
        if isinstance(message, MaskedInput) and sender in attendance.in_hand:
            return InHand(sender, attendance.in_hand[sender])
        if sender not in attendance.awaited:
            return Late(sender, phase)
        if partial is not None and isinstance(self._held, Masking):
            intake.admit(self._held, attendance, sender, partial)
            return Admitted(sender, partial)
        fault = dispatch.take(self._held, sender, message)
        attendance.answer(phase, sender, digest)
        return Accepted(sender, phase) if fault is None else self._blame(fault)

    def _sessions_of(self, message: ToServer) -> tuple[bytes, ...]:
        """What a message may give as its session: the round id before there is a session, either in an ABORT."""
        advertised = self._held.advertised
        session = () if advertised is None else (advertised.session,)
        if isinstance(message, Abort):
            return (self._round.round_id, *session)
        return (self._round.round_id,) if isinstance(message, Advertise) else session

    def _refuse(self, sender: int, refused: PeerError) -> Misbehaved:
        phase = refused.phase or self.phase.value
        return self._blame(Misbehaved(sender, phase, refused.code, str(refused)))

    def _blame(self, event: Misbehaved) -> Misbehaved:
        """Remember a fault once a client, phase and rule: a flood of bad messages must not fill the memory."""
        in_cohort = event.code is not ErrorCode.UNKNOWN_SENDER
        entry = (event.sender, event.phase, event.code)
        if in_cohort and entry not in self._blamed:
            self._blamed.add(entry)
            self._attendance.blame.append(Blame(event.sender, event.phase, event.code, event.detail))
        return event

    def _take_abort(self, sender: int, message: Abort) -> ServerEvent:
        state = self.phase
        if sender in self._attendance.departed or collected_in(state) is None:
            return Late(sender, state.value)
        code = messages.abort_code(message)
        self._attendance.leave(sender, code)  # R-ABORT-4
        return ClientAborted(sender, state.value, code)

    # Moving on.

    def _close_phase(self) -> Outgoing:
        state, held, attendance = self.phase, self._held, self._attendance
        following = self._table.get((state, HostCall.CLOSE))
        if following is None or not isinstance(held, Collector):
            raise StateError(f"close_phase: there is no phase to close in state {state}")
        try:
            closed, participants = dispatch.close(held, attendance)
            begun = dispatch.begin(following, closed)
            self._advance(HostCall.CLOSE, begun)
            if isinstance(begun, Answering) and not begun.complained.accused:  # R-COMPLAIN-3
                closed, participants = dispatch.close(begun, attendance)
                self._advance(HostCall.CLOSE, dispatch.begin(self._table[following, HostCall.CLOSE], closed))
        except RoundOverError as ends:
            missing = tuple(sorted(attendance.awaited))
            self._abort(ends.reason, AbortCode.TOO_FEW_CLIENTS, missing=missing, advertised=ends.advertised)
            return self.outgoing()
        except Exception as bug:
            self._abort(f"unexpected {type(bug).__name__} while closing {state}", AbortCode.INTERNAL)
            raise
        if collected_in(following) is not None:
            attendance.ask(participants)
            if isinstance(self._held, Answering):
                attendance.await_only(dispatch.asked_of(self._held, participants))
        else:
            attendance.ask_nobody()
        return self.outgoing()

    def _advance(self, call: HostCall, held: Held) -> None:
        """Follow an edge of the table."""
        state = self._table[self.phase, call]
        if STATES[type(held)] is not state:
            raise RuntimeError(f"{call} leads to {state}, not to {held}")
        self._held = held

    def _abort(
        self,
        reason: str,
        code: AbortCode,
        *,
        missing: Ids = (),
        culprit: Ids = (),
        advertised: Advertised | None = None,
    ) -> None:
        failure = Failure(self.phase.value, reason, code, missing, culprit)
        self._held = Aborted(advertised or self._held.advertised, failure)
        self._attendance.await_nobody()

    def _compute(self, executor: Executor | None, workers: int | None) -> Result:
        if self._result is not None:
            return self._result
        unmasked = self._held.unmasked if isinstance(self._held, Done) else self._held
        if not isinstance(unmasked, Unmasked):
            raise StateError(f"compute: not possible in state {self.phase}; close the UNMASK phase first")
        sums = self._sums(unmasked, executor, workers)
        self._result = compute.result_of(unmasked, self._attendance, sums)
        if isinstance(self._held, Unmasked):
            self._advance(HostCall.COMPUTE, Done(unmasked))
        return self._result

    def _sums(self, unmasked: Unmasked, executor: Executor | None, workers: int | None) -> list[GroupSum]:
        """The sum of each group that is opened; a bad dealer costs its own group and no other (R-GROUP-8), and so does
        a malformed envelope.

        Raises PeerError when no group is left: the round is then ABORTED.
        """
        sums: list[GroupSum] = []
        bad: PeerError | None = None
        for group, owners in compute.owners_by_group(unmasked).items():
            try:
                add, subtract = opening.mask_keys(unmasked, owners, executor, workers)
                masked_sum = unmasked.masked.total_of(group)
                keys = compute.without_masks(masked_sum, add, subtract, self._config, executor, workers)
                total = compute.unsealed(unmasked, group, keys)
            except PeerError as refused:
                bad = refused
                for culprit in refused.culprit[:1]:  # of a malformed envelope there is none
                    self._refuse(culprit, refused)
                if self._config.groups > 1:
                    groups.fail(self._attendance, self.phase, group, refused)
                continue
            if isinstance(self._held, Aborted):  # by its host, from another thread
                raise StateError("compute: the round was aborted while its sum was computed")
            sums.append(compute.group_sum(unmasked, group, total))
        if bad is not None and not sums:
            self._abort(str(bad), AbortCode.PROTOCOL_VIOLATION, culprit=bad.culprit)
            raise bad
        return sums
