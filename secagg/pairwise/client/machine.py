"""The client: one facade over frozen per-phase states, each of which holds only the secrets of its phase.

No input or output, no clock, no thread.  What a client refuses is in ``checks``; what comes after what, in
``transitions``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from types import TracebackType
from typing import NoReturn, Self, TypeAlias, TypeVar, final

import numpy as np
import numpy.typing as npt

from secagg import arithmetic
from secagg.errors import (
    AbortCode,
    InputError,
    ParameterError,
    PeerError,
    StateError,
    UsageError,
)
from secagg.events import ClientStep, Finished, InputNeeded, RoundAborted
from secagg.identity import Directory, Identity
from secagg.pairwise import checks, messages, records, transcript
from secagg.pairwise.checks import Approve, Consume
from secagg.pairwise.client import dealing, verification
from secagg.pairwise.client import states as client_state
from secagg.pairwise.client.states import Advertised, Confirmed, Ended, HasInput, Joined, Masked, Phase, Shared
from secagg.pairwise.config import Policy, RoundConfig, decode_config
from secagg.pairwise.keys import SHARE_SECRET_BYTES, KeySchedule
from secagg.pairwise.messages import (
    Abort,
    Advertise,
    Confirm,
    Confirmations,
    MaskedInput,
    Roster,
    Share,
    Shares,
    Survivors,
    Unmask,
)
from secagg.pairwise.records import PublicKeys
from secagg.pairwise.transcript import VERSION
from secagg.pairwise.transitions import CLIENT, CLIENT_ENDED, ClientState
from secagg.primitives import agreement, masking
from secagg.primitives.calls import ClearedOnError, OneCall
from secagg.primitives.secret import Secret

Randomness: TypeAlias = Callable[[int], bytes]
_P = TypeVar("_P", Joined, Advertised, Shared, HasInput, Masked, Confirmed)


@final
class Client:
    """One member of the cohort in one round.

    Made by ``join`` or ``resume``.  ``start`` gives the first message, ``receive`` takes the server's, ``submit``
    the vector when the event InputNeeded came; ``done`` says when it is over.  As a context manager it wipes its
    secrets on the way out.

    One thread at a time: a call that comes while another one is under way raises StateError and changes nothing.
    """

    def __init__(
        self,
        round_: client_state.Round,
        phase: Phase,
        seen: dict[str, bytes],
        *,
        identity: Identity | None,
        cohort: Sequence[bytes],
        randomness: Randomness,
    ) -> None:
        """Not for callers: use ``join`` or ``resume``."""
        self._round = round_
        self._config = decode_config(round_.config)
        self._phase = phase
        self._seen = seen
        self._identity = identity
        self._cohort = cohort
        self._randomness = randomness
        self._state = phase.state
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
            randomness: returns that many secret random bytes; anything but the system's is for tests.

        Raises PeerError (checks 1 to 4), and ParameterError for arguments that do not go together.
        """
        with ClearedOnError():
            return cls._join(invitation, index, approve, policy, identity, directory, consume, randomness)

    @classmethod
    def _join(
        cls,
        invitation: bytes,
        index: int,
        approve: Approve | None,
        policy: Policy | None,
        identity: Identity | None,
        directory: Directory | None,
        consume: Consume | None,
        randomness: Randomness,
    ) -> Client:
        round_id = bytes(transcript.DIGEST_BYTES)
        try:
            opened = messages.invitation.decode(invitation, messages.MAX_INVITATION_BYTES)
            round_id = opened.session
            config = checks.config_sound(decode_config, opened.config)
            checks.of_session(opened.session, transcript.round_id(config.digest, opened.nonce))
            checks.config_approved(config, approve)
            identified = identity is not None or directory is not None
            checks.config_within_policy(config, policy or Policy(), identified=identified)
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < config.clients:
                raise ParameterError(f"index {index!r}: this round's clients are 0 to {config.clients - 1}")
            cohort = _vouched_cohort(config, index, identity, directory)
            if config.is_active and consume is None:
                raise ParameterError("active: give consume, which keeps this client from joining a round twice")
            checks.not_joined_before(consume, transcript.join_token(round_id, index))
        except PeerError as refused:
            refused.phase = "ADVERTISE"
            refused.reply = messages.encode_abort(round_id, AbortCode.CONFIG_REFUSED)
            raise
        round_ = client_state.Round(config.to_bytes(), opened.nonce, round_id, index)
        return cls(round_, Joined(), {}, identity=identity, cohort=cohort, randomness=randomness)

    @classmethod
    def resume(
        cls,
        state: bytes,
        consume: Consume,
        *,
        key: bytes | None = None,
        identity: Identity | None = None,
        directory: Directory | None = None,
        randomness: Randomness = os.urandom,
    ) -> Client:
        """The client that ``suspend`` made ``state`` of.

        ``consume`` must mark the state's token as used, atomically and durably, and return whether it was new: a state
        that is resumed twice loses every guarantee for this client.  ``key`` is the one given to ``suspend``.

        Raises PeerError(STATE_REUSED) (check 21), and ParameterError for bytes that are no suspended state.
        """
        with ClearedOnError():
            try:
                return cls._resume(state, consume, key, identity, directory, randomness)
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
        randomness: Randomness,
    ) -> Client:
        token, round_, phase, seen = client_state.load(state, key)
        config = decode_config(round_.config)
        if not 0 <= round_.index < config.clients:
            raise ParameterError(f"this suspended client is number {round_.index} of {config.clients}: damaged bytes")
        cohort = _vouched_cohort(config, round_.index, identity, directory)
        checks.state_unused(consume, token)
        return cls(round_, phase, seen, identity=identity, cohort=cohort, randomness=randomness)

    # What a host asks.

    @property
    def config(self) -> RoundConfig:
        """The round's config."""
        return self._config

    @property
    def index(self) -> int:
        """This client's cohort index."""
        return self._round.index

    @property
    def state(self) -> ClientState:
        """Where it stands; see ``transitions``."""
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
            self._require("start")
            try:
                return self._advertise()
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
            if self._state is ClientState.ABORTED:
                return ClientStep()
            phase = self._phase_name()
            try:
                return self._receive(data, executor)
            except PeerError as refused:
                refused.phase = phase
                self._end(ClientState.ABORTED, AbortCode.PROTOCOL_VIOLATION)
                refused.reply = self._abort_message(AbortCode.PROTOCOL_VIOLATION)
                raise
            except Exception:
                self._end(ClientState.ABORTED, AbortCode.INTERNAL)
                raise

    def submit(self, vector: npt.ArrayLike) -> ClientStep:
        """Mask the input vector.

        Args:
            vector: shape (config.length,), an integer dtype, elements 0 .. config.input_max.  It is not changed.

        Raises InputError, with the client as it was, when the vector is another; StateError in any other state than
        INPUT.
        """
        with self._one_call("submit"):
            self._require("submit")
            return self._submit(_input_lanes(vector, self._config))

    def abort(self, code: AbortCode = AbortCode.CANCELLED) -> bytes:
        """Leave the round, wiping every secret.  Returns the ABORT message to send; the first code given stays."""
        with self._one_call("abort"):
            if self._state is not ClientState.ABORTED:
                self._end(ClientState.ABORTED, code)
            return self._abort_message(self._failure or code)

    def close(self) -> None:
        """Wipe every secret; a client that was not done is ABORTED.  Idempotent."""
        with self._one_call("close"):
            if not self.done:
                self._end(ClientState.ABORTED, AbortCode.CANCELLED)

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

    def _submit(self, lanes: npt.NDArray[np.unsignedinteger]) -> ClientStep:
        try:
            return self._mask(lanes)
        except Exception:
            self._end(ClientState.ABORTED, AbortCode.INTERNAL)
            raise

    def _suspend(self, key: bytes | None) -> bytes:
        if self.done:
            raise StateError(f"suspend: a client that is {self._state} has nothing to resume")
        state = client_state.dump(self._randomness(client_state.TOKEN_BYTES), self._round, self._phase, self._seen, key)
        self._end(ClientState.ABORTED, AbortCode.CANCELLED)
        return state

    def _require(self, call: str) -> None:
        if (self._state, call) not in CLIENT[self._config.threat_model]:
            raise StateError(f"{call}: not possible in state {self._state}")

    def _phase_name(self) -> str:
        return self._state.value if self._state in CLIENT_ENDED else client_state.PHASE_NAMES[self._state]

    def _in(self, kind: type[_P]) -> _P:
        if not isinstance(self._phase, kind):
            raise RuntimeError(f"{kind.__name__} expected in state {self._state}")
        return self._phase

    def _advance(self, trigger: str, phase: Phase) -> None:
        """Follow an edge of the table; wipe what the new phase does not hold."""
        state = CLIENT[self._config.threat_model][self._state, trigger]
        if state is not phase.state:
            raise RuntimeError(f"{trigger} leads to {state}, not {phase.state}")
        client_state.wipe(self._phase, keep=phase)
        self._phase, self._state = phase, state

    def _end(self, state: ClientState, code: AbortCode) -> None:
        client_state.wipe(self._phase)
        self._phase, self._state, self._failure = Ended(), state, code

    def _abort_message(self, code: AbortCode) -> bytes:
        return messages.encode_abort(self._round.round_id, code)

    def _receive(self, data: bytes | bytearray | memoryview, executor: Executor | None) -> ClientStep:
        message = messages.to_client.decode(data, self._largest_message())
        if isinstance(message, Abort):
            return self._aborted_by_server(message)
        kind = type(message).__name__
        digest = hashlib.sha256(data).digest()
        if (seen := self._seen.get(kind)) is not None:
            if isinstance(message, Survivors):
                checks.survivors_once(seen, digest)
            else:
                checks.not_conflicting(seen, digest, kind)
            return ClientStep()
        checks.in_phase((self._state, kind) in CLIENT[self._config.threat_model], kind, self._state)
        checks.of_session(message.session, self._expected_session())
        step = self._handle(message, executor)
        self._seen[kind] = digest
        return step

    def _handle(self, message: Roster | Shares | Survivors | Confirmations, executor: Executor | None) -> ClientStep:
        match message:
            case Roster():
                return self._share(message, executor)
            case Shares():
                return self._take_shares(message)
            case Survivors():
                return self._take_survivors(message)
            case Confirmations():
                return self._take_confirmations(message, executor)

    def _largest_message(self) -> int:
        kinds = (Roster, Shares, Survivors, Confirmations)
        return max(messages.max_bytes(self._config, kind) for kind in kinds)

    def _expected_session(self) -> bytes:
        return self._phase.session or self._round.round_id

    def _aborted_by_server(self, message: Abort) -> ClientStep:
        if message.session != self._phase.session:
            checks.of_session(message.session, self._round.round_id)
        if self._state is ClientState.DONE:
            return ClientStep()
        code = messages.abort_code(message)
        self._end(ClientState.ABORTED, code)
        return ClientStep(event=RoundAborted(code))

    # ADVERTISE.

    def _advertise(self) -> bytes:
        size = self._config.suite.private_key_bytes
        drawn = [self._randomness(size), self._randomness(size), self._randomness(SHARE_SECRET_BYTES)]
        channel_private, masking_private, share_secret = (Secret(part) for part in drawn)
        channel_key, masking_key = (agreement.public_key(self._config.suite, private) for private in drawn[:2])
        signature = b""
        if self._identity is not None and self._config.is_active:
            signature = self._identity.sign(
                transcript.signed_advertisement(
                    self._config.digest, self._round.nonce, self.index, channel_key, masking_key
                )
            )
        self._advance("start", Advertised(channel_private, masking_private, share_secret, channel_key, masking_key))
        return messages.encode(Advertise(VERSION, self._round.round_id, channel_key, masking_key, signature))

    # SHARE.

    def _share(self, roster: Roster, executor: Executor | None) -> ClientStep:
        phase, config = self._in(Advertised), self._config
        present = messages.decode_ids(roster.present)
        absent = messages.decode_ids(roster.absent)
        keys = records.public_keys(roster.keys, len(present), "the neighbours' keys")
        session = transcript.session_id(config.digest, self._round.nonce, roster.digest)
        own = PublicKeys(phase.channel_key, phase.masking_key)
        verification.check_roster(
            roster, own, present, keys, absent, config, self._round, session, self._cohort, executor
        )
        dealt = dealing.deal(
            config,
            session,
            self.index,
            own,
            phase.channel_private.reveal(),
            phase.masking_private.reveal(),
            phase.share_secret.reveal(),
            dict(zip(present, keys, strict=True)),
        )
        self._advance(
            "Roster",
            Shared(
                session=session,
                neighbours=tuple(sorted((*present, *absent))),
                present=present,
                masking_key=phase.masking_key,
                masking_keys=tuple(both.masking for both in keys),
                masking_private=phase.masking_private,
                seed=Secret(dealt.seed),
                receive_keys=Secret(dealt.receive_keys),
            ),
        )
        answer = Share(VERSION, session, dealt.seed_commitment, dealt.sealed, dealt.commitments)
        return ClientStep((messages.encode(answer),))

    # MASK.

    def _take_shares(self, message: Shares) -> ClientStep:
        phase, config, index = self._in(Shared), self._config, self.index
        session, suite = phase.session, config.suite
        dealers = messages.decode_ids(message.dealers)
        checks.dealers_known(dealers, phase.present)
        checks.dealers_enough(dealers, config.threshold)
        sealed = records.cut_exactly(message.sealed, records.SEALED_BYTES, len(dealers), "the sealed shares")
        commitments = records.cut_exactly(
            message.commitments, records.COMMITMENTS_BYTES, len(dealers), "the commitments"
        )
        position_of = {neighbour: position for position, neighbour in enumerate(phase.present)}
        positions = [position_of[dealer] for dealer in dealers]
        receive_keys = records.cut(phase.receive_keys.reveal(), suite.key_bytes)
        pairs = dealing.open_pairs(
            suite, session, index, dealers, [receive_keys[position] for position in positions], sealed, commitments
        )
        mask_keys = dealing.pairwise_keys(
            KeySchedule(suite, session),
            index,
            phase.masking_key,
            agreement.AgreementKey(suite, phase.masking_private.reveal()),
            dealers,
            [phase.masking_keys[position] for position in positions],
        )
        self._advance(
            "Shares",
            HasInput(
                session=session,
                neighbours=phase.neighbours,
                dealers=dealers,
                seed=phase.seed,
                mask_keys=Secret(b"".join(mask_keys)),
                openings=Secret(pairs),
            ),
        )
        return ClientStep(event=InputNeeded(config.length, config.modulus.value, config.input_max))

    def _mask(self, lanes: npt.NDArray[np.unsignedinteger]) -> ClientStep:
        phase, config, suite = self._in(HasInput), self._config, self._config.suite
        pairwise = records.cut(phase.mask_keys.reveal(), suite.key_bytes)
        lower = sum(dealer < self.index for dealer in phase.dealers)  # dealers are ascending
        self_mask = KeySchedule(suite, phase.session).self_mask(phase.seed.reveal(), self.index)
        masking.apply_masks(suite, lanes, [self_mask, *pairwise[lower:]], pairwise[:lower], config.modulus)
        packed = arithmetic.pack_in_place(lanes, config.modulus)
        self._advance(
            "submit",
            Masked(session=phase.session, neighbours=phase.neighbours, dealers=phase.dealers, openings=phase.openings),
        )
        return ClientStep((messages.encode(MaskedInput(VERSION, phase.session, packed)),))

    # CONFIRM and UNMASK.

    def _take_survivors(self, message: Survivors) -> ClientStep:
        phase, config = self._in(Masked), self._config
        survivors = frozenset(messages.decode_bitmap(message.survivors, config.clients))
        checks.survivors_include_self(survivors, self.index)
        checks.survivors_enough(survivors, config)
        checks.survivors_shared(survivors, phase.neighbours, phase.dealers)
        checks.survivors_near(survivors, phase.neighbours, config.threshold)
        if not config.is_active:
            return self._unmask("Survivors", phase, survivors)
        if self._identity is None:
            raise RuntimeError("an active client without its identity")
        signature = self._identity.sign(transcript.signed_survivors(phase.session, message.survivors))
        self._advance(
            "Survivors",
            Confirmed(
                session=phase.session,
                survivors=bytes(message.survivors),
                dealers=phase.dealers,
                openings=phase.openings,
            ),
        )
        return ClientStep((messages.encode(Confirm(VERSION, phase.session, signature)),))

    def _take_confirmations(self, message: Confirmations, executor: Executor | None) -> ClientStep:
        phase, config = self._in(Confirmed), self._config
        survivors = frozenset(messages.decode_bitmap(phase.survivors, config.clients))
        signers = messages.decode_bitmap(message.signers, config.clients)
        checks.signers_enough(signers, survivors, config.quorum)
        signatures = records.cut_exactly(message.signatures, records.SIGNATURE_BYTES, len(signers), "the confirmations")
        signed = transcript.signed_survivors(phase.session, phase.survivors)
        claims = [
            (self._cohort[signer], signed, signature, signer)
            for signer, signature in zip(signers, signatures, strict=True)
        ]
        verification.verify_each(checks.signatures_valid, claims, executor)
        return self._unmask("Confirmations", phase, survivors)

    def _unmask(self, trigger: str, phase: Masked | Confirmed, survivors: frozenset[int]) -> ClientStep:
        """Reveal one share a dealer (18), and keep nothing (19)."""
        revealed = dealing.reveal(phase.openings.reveal(), phase.dealers, survivors)
        self._advance(trigger, Ended(ClientState.DONE, phase.session))
        return ClientStep((messages.encode(Unmask(VERSION, phase.session, revealed)),), Finished())


def _vouched_cohort(
    config: RoundConfig, index: int, identity: Identity | None, directory: Directory | None
) -> Sequence[bytes]:
    """Check 3, and what ``active`` needs of the host."""
    if not config.is_active:
        return ()
    if identity is None or directory is None:
        raise ParameterError("active: give this client's identity and the directory that vouches for its cohort")
    return checks.cohort_vouched(config, index, identity, directory)


def _input_lanes(vector: npt.ArrayLike, config: RoundConfig) -> npt.NDArray[np.unsignedinteger]:
    """A fresh lane array of the input.  Messages name no element's value: it is somebody's data."""
    given = np.asarray(vector)
    if given.dtype.kind not in "ui":
        raise InputError(
            f"the input vector has dtype {given.dtype}; it must be of integers (see secagg.Encoder for floats)"
        )
    if given.shape != (config.length,):
        raise InputError(f"the input vector has shape {given.shape}; this round's is ({config.length},)")
    low = int(given.min()) if given.dtype.kind == "i" else 0
    if low < 0 or int(given.max()) > config.input_max:
        raise InputError(f"the input vector has an element outside 0 .. {config.input_max}, this round's input_max")
    return given.astype(config.modulus.dtype, order="C", copy=True)
