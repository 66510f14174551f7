"""The client: one facade over frozen records, one for each state, which hold only the secrets of that state.

No input or output, no clock, no thread.  What a client refuses is in ``rules``; what comes after what, in
``transitions``; what it does with a message, in the module of the phase.
"""

from __future__ import annotations

import hashlib
import os
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self, TypeVar, final

import numpy as np
import numpy.typing as npt

from secagg.errors import AbortCode, PeerError, StateError, UsageError
from secagg.events import ClientStep, RoundAborted
from secagg.identity import Directory, Identity
from secagg.pairwise import messages
from secagg.pairwise.client import advertise, complain, confirm, mask, share, suspension, unmask
from secagg.pairwise.client.advertise import Randomness
from secagg.pairwise.client.attachment import Attached, Attachment, taken
from secagg.pairwise.client.chaining import Chain
from secagg.pairwise.client.member import Member, invited_member, resumed_member
from secagg.pairwise.client.records import (
    Advertised,
    Answered,
    Checked,
    Confirmed,
    Ended,
    HasInput,
    Joined,
    Masked,
    Record,
    Shared,
    wipe,
)
from secagg.pairwise.config import Policy, RoundConfig
from secagg.pairwise.messages import Abort, Accusations, Confirmations, Roster, Settled, Shares, Survivors
from secagg.pairwise.phases import CLIENT_ENDED, ClientState, HostCall
from secagg.pairwise.rules import client as rules
from secagg.pairwise.rules import wire as wire_rules
from secagg.pairwise.rules.client import Approve, Consume
from secagg.pairwise.transitions import ClientInput, client_table, input_name, phase_of
from secagg.primitives.calls import ClearedOnError, OneCall

if TYPE_CHECKING:
    from concurrent.futures import Executor

_R = TypeVar("_R", Advertised, Shared, Checked, Answered, HasInput, Masked, Confirmed)


@final
class Client:
    """One member of the cohort in one round.

    Made by ``join`` or ``resume``.  ``start`` gives the first message, ``receive`` takes the server's, ``submit``
    the vector when the event InputNeeded came; ``done`` says when it is over.  As a context manager it wipes its
    secrets on the way out.

    One thread at a time: a call that comes while another one is under way raises StateError and changes nothing.
    """

    def __init__(self, member: Member, record: Record, seen: dict[str, bytes], randomness: Randomness) -> None:
        """Not for callers: use ``join`` or ``resume``."""
        self._member, self._config = member, member.config
        self._table = client_table(member.config.threat_model, complaints=member.config.complaints > 0)
        self._record, self._state = record, record.state
        self._seen = seen
        """The digest of each message that was taken, by the name of its type."""
        self._randomness = randomness
        self._failure: AbortCode | None = None
        self._one_call = OneCall("client")

    # Making one.

    @classmethod
    def join(
        cls,
        invitation: bytes,
        index: int,
        *,
        approve: Approve | None = None,
        policy: Policy | None = None,
        identity: Identity | None = None,
        directory: Directory | None = None,
        consume: Consume | None = None,
        chain: Chain | None = None,
        randomness: Randomness = os.urandom,
    ) -> Client:
        """Join the round of an invitation as member ``index``.

        Args:
            invitation: the server's bytes.
            index: this client's cohort index, 0 .. n-1.
            approve: the digest of the only config to accept, or a function that looks at a config and says True.
            policy: the least to accept; ``Policy()`` when not given.  In ``active`` give ``approve``, or a policy with
                ``gamma``: else the server says how many collude.
            identity: ``active``: this client's identity.
            directory: ``active``: who vouches for the cohort; its answers must not come from this round's server.
            consume: marks a token as used, durably, and says whether it was new (``UsedTokens`` in memory); needed in
                ``active``, and wherever a host could join the same round twice.
            chain: ``active``: what this client knows of the cohort's chain; it then joins no round that hides what
                became of the one in which it answered last.
            randomness: returns that many secret random bytes; anything but the system's is for tests
                (R-EXTERNAL-3).

        Raises PeerError (R-CONFIG-2, R-CONFIG-10 to R-CONFIG-13 and R-CHAIN-8 to R-CHAIN-10 in ``rules``), and
        ParameterError for arguments that do not go together.
        """
        with ClearedOnError():
            member = invited_member(invitation, index, approve, policy, identity, directory, consume, chain)
            return cls(member, Joined(), {}, randomness)

    @classmethod
    def resume(
        cls,
        state: bytes,
        consume: Consume,
        *,
        key: bytes | None = None,
        identity: Identity | None = None,
        directory: Directory | None = None,
        chain: Chain | None = None,
        randomness: Randomness = os.urandom,
    ) -> Client:
        """The client that ``suspend`` made ``state`` of.

        ``consume`` must mark the state's token as used, atomically and durably, and return whether it was new: a state
        that is resumed twice loses every guarantee for this client.  ``key`` is the one given to ``suspend``, ``chain``
        the one given to ``join``.

        Raises PeerError(STATE_REUSED) (R-STATE-4), and ParameterError for bytes that are no suspended state.
        """
        with ClearedOnError():
            try:
                return cls._resume(state, consume, key, identity, directory, chain, randomness)
            except BaseException:
                state, key = b"", None  # this frame is in the traceback, and ends too late to be cleared
                raise

    @classmethod
    def _resume(
        cls,
        state: bytes,
        consume: Consume,
        key: bytes | None,
        identity: Identity | None,
        directory: Directory | None,
        chain: Chain | None,
        randomness: Randomness,
    ) -> Client:
        token, round_, record, seen = suspension.load(state, key)
        member = resumed_member(round_, identity, directory, chain)
        rules.state_unused(consume, token)
        return cls(member, record, seen, randomness)

    # What a host asks.

    @property
    def config(self) -> RoundConfig:
        """The round's config."""
        return self._config

    @property
    def index(self) -> int:
        """This client's cohort index."""
        return self._member.index

    @property
    def state(self) -> ClientState:
        """What it has done last; ``secagg.pairwise.transitions`` says what may follow."""
        return self._state

    @property
    def done(self) -> bool:
        """Whether it is over, well or badly: no message is sent or awaited any more."""
        return self._state in CLIENT_ENDED

    def __repr__(self) -> str:
        return f"<Client {self.index} of {self._config.clients}, {self._state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Client is not pickled; use suspend()")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What a host does.

    def start(self) -> bytes:
        """The ADVERTISE message.  Once; raises StateError afterwards."""
        with self._one_call("start"):
            self._require(HostCall.START)
            try:
                return self._start()
            except Exception:
                self._end(ClientState.ABORTED, AbortCode.INTERNAL)
                raise

    def receive(self, data: bytes | bytearray | memoryview, executor: Executor | None = None) -> ClientStep:
        """Take one message of the server's.

        Args:
            data: the message.
            executor: ``active``: where many signatures are verified (threads serve: verifying releases the GIL); this
                thread when not given.

        Returns what to send, and an event: InputNeeded, Finished, RoundAborted, or None.  A message that came before,
        byte for byte, changes nothing and returns an empty step; so does anything once the client is ABORTED.  Before
        ``start``, no message has its place but an ABORT, which a server may well send to a client that is slow.

        Raises PeerError when the server, or another client through it, broke a rule: the client is then ABORTED, and
        the error's ``reply`` is the ABORT message to send.
        """
        with self._one_call("receive"):
            if not isinstance(data, bytes | bytearray | memoryview):
                raise UsageError(f"receive: data is {type(data).__name__}; give the message's bytes")
            if self._state is ClientState.ABORTED:  # R-STATE-3: nothing is looked at any more
                return ClientStep()
            complaints = self._config.complaints > 0
            phase = phase_of(self._config.threat_model, self._state, complaints=complaints) or self._state.value
            try:
                return self._receive(data, executor)
            except PeerError as refused:
                refused.phase = phase
                self._end(ClientState.ABORTED, AbortCode.PROTOCOL_VIOLATION)
                refused.reply = self._abort_message(AbortCode.PROTOCOL_VIOLATION)  # R-ABORT-5
                raise
            except Exception:
                self._end(ClientState.ABORTED, AbortCode.INTERNAL)
                raise

    def submit(self, vector: npt.ArrayLike, attachment: Attachment | None = None) -> ClientStep:
        """Mask the input vector.

        Args:
            vector: shape (config.length,), an integer dtype, elements 0 .. config.input_max.  It is not changed.
            attachment: in a round with ``config.attachment_bytes``, what the server is given beside this client's
                shares once it is settled who is in the sum, in that many bytes.  Several values may be given, as
                (losses, value) pairs of ascending losses: the client then reveals the first whose number is at least
                the number of clients that are missing from the sum, and wipes the others.  The last number is at least
                ``config.clients - config.min_survivors``, the most that can be missing.

        Raises InputError, with the client as it was, when the vector or the attachment is another; StateError in any
        other state than INPUT.
        """
        with self._one_call("submit"):
            self._require(HostCall.SUBMIT)
            return self._submit(mask.lanes_of(vector, self._config), taken(attachment, self._config))

    def abort(self, code: AbortCode = AbortCode.CANCELLED) -> bytes:
        """Leave the round, wiping every secret.  Returns the ABORT message to send; the first code given stays."""
        with self._one_call("abort"):
            if self._state is not ClientState.ABORTED:
                self._end(ClientState.ABORTED, code)
            return self._abort_message(self._failure or code)  # R-ABORT-4

    def close(self) -> None:
        """Wipe every secret; a client that was not done is ABORTED.  Idempotent."""
        with self._one_call("close"):
            if not self.done:
                self._end(ClientState.ABORTED, AbortCode.CANCELLED)

    def disclaim(self) -> bytes:
        """State, with a signature, that this client did not answer UNMASK in a round that was aborted, and never will.

        The server puts such statements into the round's certificate, so that others that did answer may go on.  Raises
        StateError unless the client is ABORTED, keeps a chain, and has not answered.
        """
        with self._one_call("disclaim"):
            member, session = self._member, self._record.session
            if self._state is not ClientState.ABORTED or not session or not member.chain or not member.identity:
                raise StateError(
                    f"disclaim: not possible in state {self._state}; it is for a client with a chain, in a round that "
                    "was aborted after its roster came"
                )
            member.chain.disclaim(self._config.cohort, session)
            return member.identity.sign(self._config.labels.signed_silence(session))

    def suspend(self, key: bytes | None = None) -> bytes:
        """Hand out the whole state, once, and spend this object: it is ABORTED afterwards.

        The state holds secrets in clear unless ``key``, 32 secret bytes, is given to seal it.  Raises StateError when
        there is nothing to resume.
        """
        with self._one_call("suspend"):
            try:
                return self._suspend(key)
            except BaseException:
                key = None  # this frame is in the traceback, and ends too late to be cleared
                raise

    # The machine.

    def _start(self) -> bytes:
        record, message = advertise.advertise(self._member, self._randomness)
        self._advance(HostCall.START, record)
        return message

    def _submit(self, lanes: npt.NDArray[np.unsignedinteger], attached: Attached) -> ClientStep:
        try:
            record, step = mask.mask_input(self._member, self._in(HasInput), lanes, attached, self._randomness)
            self._advance(HostCall.SUBMIT, record)
            return step
        except Exception:
            self._end(ClientState.ABORTED, AbortCode.INTERNAL)
            raise

    def _suspend(self, key: bytes | None) -> bytes:
        if self.done:
            raise StateError(f"suspend: a client that is {self._state} has nothing to resume")
        token = self._randomness(suspension.TOKEN_BYTES)
        state = suspension.dump(token, self._member.round, self._record, self._seen, key)
        self._end(ClientState.ABORTED, AbortCode.CANCELLED)
        return state

    def _require(self, call: HostCall) -> None:
        if (self._state, call) not in self._table:
            raise StateError(f"{call.value}: not possible in state {self._state}")

    def _in(self, kind: type[_R]) -> _R:
        if not isinstance(self._record, kind):
            raise RuntimeError(f"{kind.__name__} expected in state {self._state}")
        return self._record

    def _advance(self, given: ClientInput, record: Record) -> None:
        """Follow an edge of the table; wipe what the new record does not hold."""
        state = self._table[self._state, given]
        if state is not record.state:
            raise RuntimeError(f"{input_name(given)} leads to {state}, not {record.state}")
        wipe(self._record, keep=record)
        self._record, self._state = record, state

    def _end(self, state: ClientState, code: AbortCode) -> None:
        """R-STATE-3: nothing leads out of here, and no secret is left."""
        wipe(self._record)
        self._record, self._state, self._failure = Ended(state, self._record.session), state, code

    def _abort_message(self, code: AbortCode) -> bytes:
        return messages.encode_abort(self._config.version, self._member.round.round_id, code)

    def _receive(self, data: bytes | bytearray | memoryview, executor: Executor | None) -> ClientStep:
        """Ask in the order of R-WIRE-9, so that one message has one verdict."""
        config = self._config
        limit = messages.most_bytes_to_client(config)
        message = messages.to_client.decode(data, limit, config.version, config.suite.agreement)
        if isinstance(message, Abort):
            return self._aborted_by_server(message)
        kind = messages.plain(message)
        name, digest = kind.__name__, hashlib.sha256(data).digest()
        if (seen := self._seen.get(name)) is not None:
            if isinstance(message, Survivors):
                rules.survivors_once(seen, digest)
            else:
                wire_rules.not_conflicting(seen, digest, name)
            return ClientStep()
        wire_rules.in_phase((self._state, kind) in self._table, name, f"has no place in state {self._state}")
        wire_rules.of_session(message.session, self._expected_session())
        record, step = self._taken(message, executor)
        self._advance(kind, record)
        self._seen[name] = digest
        return step

    def _taken(
        self, message: Roster | Shares | Accusations | Settled | Survivors | Confirmations, executor: Executor | None
    ) -> tuple[Record, ClientStep]:
        """What the client knows after a message, and what it answers."""
        match message:
            case Roster():
                return share.take_roster(self._member, self._in(Advertised), message, executor)
            case Shares():
                return mask.take_shares(self._member, self._in(Shared), message)
            case Accusations():
                return complain.take_accusations(self._member, self._in(Checked), message)
            case Settled():
                return complain.take_settled(self._member, self._in(Answered), message)
            case Survivors():
                return confirm.take_survivors(self._member, self._in(Masked), message)
            case Confirmations():
                return unmask.take_confirmations(self._member, self._in(Confirmed), message, executor)

    def _expected_session(self) -> bytes:
        return self._record.session or self._member.round.round_id

    def _aborted_by_server(self, message: Abort) -> ClientStep:
        wire_rules.of_session(message.session, self._member.round.round_id, self._record.session)
        if self._state is ClientState.DONE:  # R-ABORT-3
            return ClientStep()
        code = messages.abort_code(message)
        self._end(ClientState.ABORTED, code)
        return ClientStep(event=RoundAborted(code))
