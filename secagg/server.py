"""The server: collects one phase's messages, and moves on only when its host closes the phase.

No input or output, no clock, no thread of its own.  Nothing that a client sends makes it raise, advance or send.
Masked inputs are added up as they arrive, so that vectors take O(m) memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, KeysView, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Final, NoReturn, TypeAlias, final

import numpy as np
import numpy.typing as npt

from secagg import crypto, failure_reasons, intake, messages, server_state, transcript, unmasking
from secagg.calls import OneCall
from secagg.config import RoundConfig, decode_config
from secagg.errors import AbortCode, ErrorCode, ParameterError, PeerError, StateError, UsageError
from secagg.events import Accepted, AlreadyMasked, ClientAborted, Duplicate, Late, Misbehaved, ServerEvent, ServerStep
from secagg.graph import NeighbourGraph
from secagg.identity import Directory
from secagg.messages import Abort, Advertise, Confirm, MaskedInput, Share, ToServer, Unmask
from secagg.server_round import Round
from secagg.server_state import Blame, Data, Failure, Outgoing, Result, Security
from secagg.transitions import SERVER, SERVER_COLLECTS, SERVER_ENDED, ServerState

Randomness: TypeAlias = Callable[[int], bytes]

_TO_SERVER: Final = (Advertise, Share, MaskedInput, Confirm, Unmask)
_PHASES: Final = tuple(state.value for state in SERVER_COLLECTS)


class _RoundOverError(Exception):
    """Inside a close: the round cannot go on."""

    def __init__(self, reason: str, missing: Sequence[int] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.missing = tuple(missing)


@final
class Server:
    """One round.

    ``receive`` takes messages, ``close_phase`` ends a phase and gives what to send, ``compute`` the sum.

    One thread at a time calls ``receive``, ``close_phase`` and ``abort``: a call that comes while another one is under
    way raises StateError and changes nothing.  ``compute`` may run in a thread of its own beside them.
    """

    def __init__(
        self, config: RoundConfig, *, directory: Directory | None = None, randomness: Randomness = os.urandom
    ) -> None:
        """Open a round.

        Args:
            config: the round's constants.
            directory: ``active``: who knows the cohort's identity keys; clients whose signatures fail are refused.
            randomness: returns that many random bytes; drawn from once, for the nonce.
        """
        everybody = dict.fromkeys(range(config.clients))
        data = Data(ServerState.ADVERTISE, awaited=everybody, recipients=list(everybody))
        self._set_up(config, randomness(messages.NONCE_BYTES), data, directory)

    def _set_up(self, config: RoundConfig, nonce: bytes, data: Data, directory: Directory | None) -> None:
        identities: Sequence[bytes] | None = ()
        if config.is_active:
            identities = None if directory is None else directory.cohort(config.cohort)
        if identities is None or (config.is_active and len(identities) != config.clients):
            raise ParameterError("active: give the directory that holds the config's cohort")
        if not all(map(crypto.is_signing_key, identities)):
            raise ParameterError("active: the directory holds an identity key that is no canonical Ed25519 key")
        self._config, self._data = config, data
        self._round = Round(config, nonce, data, identities)
        self._largest = max(messages.max_bytes(config, kind) for kind in _TO_SERVER)
        self._blamed = {(entry.sender, entry.phase, entry.code) for entry in data.blame}
        self._result: Result | None = None
        self._one_call, self._one_compute = OneCall("server"), OneCall("server's compute")

    @classmethod
    def restore(cls, snapshot: bytes, *, directory: Directory | None = None) -> Server:
        """The server of a ``snapshot``; it sends the very bytes that the old one would have.

        Never restore an older snapshot than the newest whose messages were sent.  Raises ParameterError.
        """
        config, nonce, data = server_state.load(snapshot)
        server = cls.__new__(cls)
        server._set_up(decode_config(config), nonce, data, directory)
        return server

    def snapshot(self) -> bytes:
        """The whole state, everything received so far included.

        Store it durably before sending what ``close_phase`` returned, and journal what is received until the next.
        """
        return server_state.dump(self._config.to_bytes(), self._round.nonce, self._data)

    # What a host asks.

    @property
    def config(self) -> RoundConfig:
        """The round's config."""
        return self._config

    @property
    def phase(self) -> ServerState:
        """The phase whose messages are collected, or COMPUTE, DONE, ABORTED."""
        return self._data.state

    @property
    def missing(self) -> KeysView[int]:
        """Who is still awaited in this phase, a live read-only view; empty: close at once."""
        return self._data.awaited.keys()

    @property
    def ready_to_compute(self) -> bool:
        """Whether the shares are in and ``compute`` is next."""
        return self._data.state is ServerState.COMPUTE

    @property
    def done(self) -> bool:
        """Whether the round is over, with a sum or without."""
        return self._data.state in SERVER_ENDED

    @property
    def failure(self) -> Failure | None:
        """Why the round was aborted, if it was."""
        return self._data.failure

    @property
    def dropped(self) -> Mapping[str, tuple[int, ...]]:
        """By phase, whom the server lost in it so far."""
        return {phase: tuple(members) for phase, members in self._data.dropped.items()}

    @property
    def graph(self) -> NeighbourGraph | None:
        """Who is whose neighbour; None before the roster is made."""
        return self._round.graph if self._data.session else None

    @property
    def blame(self) -> tuple[Blame, ...]:
        """Who broke which rule so far: each (client, phase, rule) once."""
        return tuple(self._data.blame)

    def __repr__(self) -> str:
        return f"<Server of {self._config.clients} clients, {self._data.state}, {len(self._data.awaited)} awaited>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Server is not pickled; use snapshot()")

    # What a host does.

    def invitation(self) -> bytes:
        """Config and nonce, the same bytes for everybody."""
        return self._round.invitation(0)

    def receive(self, sender: int, data: bytes | bytearray | memoryview) -> ServerStep:
        """Take one message that the host's channel says is ``sender``'s.

        Never raises for what a peer sent, never advances, never sends: the step holds an event alone.
        """
        with self._one_call("receive"):
            if not isinstance(data, bytes | bytearray | memoryview):
                raise UsageError(f"receive: data is {type(data).__name__}; give the message's bytes")
            try:
                return ServerStep(event=self._receive(sender, data))
            except PeerError as refused:
                return ServerStep(event=self._refuse(sender, refused))
            except Exception as bug:
                self._abort(f"unexpected {type(bug).__name__} while receiving", AbortCode.INTERNAL)
                raise

    def close_phase(self) -> Outgoing:
        """End the phase: decide with what is there, move on, and return what to send.

        With too few answers the round is ABORTED, ``failure`` says why, and what to send is an ABORT for each client
        that may still be listening.  Raises StateError when there is no phase to close.
        """
        with self._one_call("close_phase"):
            return self._close_phase()

    def outgoing(self) -> Outgoing:
        """What the last ``close_phase`` returned, again; before the first one, the invitation for everybody."""
        data = self._data
        if data.state is ServerState.ABORTED:
            code = AbortCode.UNSPECIFIED if data.failure is None else data.failure.code
            return Outgoing(
                [member for member in data.recipients if member not in data.left],
                lambda index: messages.encode_abort(self._round.round_id, code),
            )
        round_ = self._round
        makers: dict[ServerState, Callable[[int], bytes]] = {
            ServerState.ADVERTISE: round_.invitation,
            ServerState.SHARE: round_.roster_for,
            ServerState.MASK: round_.shares_for,
            ServerState.CONFIRM: round_.survivors_for,
            ServerState.UNMASK: round_.confirmations_for if self._config.is_active else round_.survivors_for,
        }
        if data.state not in makers:
            return Outgoing((), round_.invitation)
        make, dismissed = makers[data.state], frozenset(data.dismissed)
        dismissal = messages.encode_abort(self._round.round_id, AbortCode.EXCLUDED)
        return Outgoing(
            [*data.recipients, *data.dismissed],
            lambda index: dismissal if index in dismissed else make(index),
        )

    def compute(self, executor: Executor | None = None, workers: int | None = None) -> Result:
        """Unmask the sum: the one step that takes long.  May run in another thread; called again, returns the same.

        Args:
            executor: where masks are expanded, slice by slice; this thread when not given.  It gets keys of single
                streams, so a process or a machine behind it is as trusted as the server.
            workers: how many jobs the executor runs at once, where it does not say so itself, as Dask's.

        Raises StateError before UNMASK is closed; ParameterError when ``workers`` is below 1; PeerError(BAD_DEALER)
        when a client dealt shares that open to something else than it announced: the round is then ABORTED.
        """
        if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
            raise ParameterError(f"workers = {workers!r}: a whole number, 1 or more; leave it out if you do not know")
        with self._one_compute("compute"):
            return self._compute(executor, workers)

    def abort(self, reason: str = "cancelled by the host") -> Outgoing:
        """End the round without a sum; returns an ABORT for each client that may still be listening."""
        with self._one_call("abort"):
            if not self.done:
                self._abort(reason, AbortCode.CANCELLED)
            return self.outgoing()

    # Receiving.

    def _receive(self, sender: int, raw: bytes | bytearray | memoryview) -> ServerEvent:
        data, config = self._data, self._config
        if isinstance(sender, bool) or not isinstance(sender, int) or not 0 <= sender < config.clients:
            raise PeerError(
                ErrorCode.UNKNOWN_SENDER, f"sender {sender!r}; this round's clients are 0 to {config.clients - 1}"
            )
        message = messages.to_server.decode(raw, self._largest)
        known = {self._round.round_id, data.session} if isinstance(message, Abort) else {self._session_of(message)}
        if message.session not in known:
            raise PeerError(ErrorCode.WRONG_SESSION, f"a message of session {message.session.hex()}, not of this one")
        if isinstance(message, Abort):
            return self._take_abort(sender, message)
        phase = messages.PHASE_OF[type(message)]
        earlier = data.digests.get(phase, {})
        # A masked input is not hashed: that would cost several times the rest of the work on it.
        digest = b"" if isinstance(message, MaskedInput) else hashlib.sha256(raw).digest()
        if sender in earlier:
            if isinstance(message, MaskedInput):
                return AlreadyMasked(sender)
            if earlier[sender] != digest:
                raise PeerError(
                    ErrorCode.CONFLICT, f"a second {phase} message that differs from the first", phase=phase
                )
            return Duplicate(sender, phase)
        if data.state not in SERVER_COLLECTS or _PHASES.index(phase) < _PHASES.index(data.state):
            return Late(sender, phase)
        if phase != data.state:
            raise PeerError(ErrorCode.WRONG_PHASE, f"a {phase} message in phase {data.state}", phase=phase)
        if sender not in data.awaited:
            return Late(sender, phase)
        fault = intake.take(self._round, sender, message)
        data.digests.setdefault(phase, {})[sender] = digest
        del data.awaited[sender]
        return Accepted(sender, phase) if fault is None else self._blame(fault)

    def _session_of(self, message: ToServer) -> bytes:
        return self._round.round_id if isinstance(message, Advertise) else self._data.session

    def _refuse(self, sender: int, refused: PeerError) -> Misbehaved:
        phase = refused.phase or self._data.state.value
        return self._blame(Misbehaved(sender, phase, refused.code, str(refused)))

    def _blame(self, event: Misbehaved) -> Misbehaved:
        """Remember a fault once a client, phase and rule: a flood of bad messages must not fill the memory."""
        in_cohort = event.code is not ErrorCode.UNKNOWN_SENDER
        entry = (event.sender, event.phase, event.code)
        if in_cohort and entry not in self._blamed:
            self._blamed.add(entry)
            self._data.blame.append(Blame(event.sender, event.phase, event.code, event.detail))
        return event

    def _take_abort(self, sender: int, message: Abort) -> ServerEvent:
        if sender in self._data.left or self._data.state not in SERVER_COLLECTS:
            return Late(sender, self._data.state.value)
        code = messages.abort_code(message)
        self._data.left[sender] = int(code)
        self._data.awaited.pop(sender, None)
        return ClientAborted(sender, self._data.state.value, code)

    def _close_phase(self) -> Outgoing:
        state = self._data.state
        if (state, "close") not in SERVER[self._config.threat_model]:
            raise StateError(f"close_phase: there is no phase to close in state {state}")
        closers = {
            ServerState.ADVERTISE: self._close_advertise,
            ServerState.SHARE: self._close_share,
            ServerState.MASK: self._close_mask,
            ServerState.CONFIRM: self._close_confirm,
            ServerState.UNMASK: self._close_unmask,
        }
        try:
            participants, awaited = closers[state]()
        except _RoundOverError as ends:
            self._abort(ends.reason, AbortCode.TOO_FEW_CLIENTS, missing=ends.missing)
            return self.outgoing()
        except Exception as bug:
            self._abort(f"unexpected {type(bug).__name__} while closing {state}", AbortCode.INTERNAL)
            raise
        listening = [member for member in self._data.recipients if member not in self._data.left]
        self._data.dismissed = sorted(set(listening) - set(participants)) if awaited else []
        self._data.recipients = [member for member in participants if member not in self._data.left]
        self._data.awaited = dict.fromkeys(self._data.recipients if awaited else ())
        self._data.state = SERVER[self._config.threat_model][state, "close"]
        return self.outgoing()

    # Closing: each returns who takes part in the next phase, and whether they are awaited in it.

    def _close_advertise(self) -> tuple[list[int], bool]:
        data, config = self._data, self._config
        data.roster = sorted(set(data.adverts) - set(data.left))
        data.roster_digest = transcript.roster_digest(self._round.round_id, config.clients, self._round.tree.root)
        data.session = transcript.session_id(config.digest, self._round.nonce, data.roster_digest)
        edges = self._round.edges
        degrees = edges.degrees_within(self._round.flags(data.roster))
        # Who stands in the roster with too few neighbours would refuse it: it is told so instead.
        able = [member for member in data.roster if degrees[member] >= config.threshold]
        self._lose("ADVERTISE", set(range(config.clients)) - set(able))
        self._require_enough(able)
        data.sealed = np.zeros((len(edges), messages.SEALED_BYTES), dtype=np.uint8)
        data.commitments = np.zeros((len(edges), messages.COMMITMENTS_BYTES), dtype=np.uint8)
        return able, True

    def _close_share(self) -> tuple[list[int], bool]:
        data, config, edges = self._data, self._config, self._round.edges
        alive = self._round.flags([member for member in data.seed_commitments if member not in data.left])
        while True:
            pruned = alive & (edges.degrees_within(alive) < config.threshold)
            if not pruned.any():
                break
            alive &= ~pruned
        data.shared = np.flatnonzero(alive).tolist()
        self._lose("SHARE", set(data.recipients) - set(data.shared))
        self._require_enough(data.shared)
        data.accumulator = np.zeros(config.length, dtype=config.modulus.dtype)
        return data.shared, True

    def _close_mask(self) -> tuple[list[int], bool]:
        data, config, edges = self._data, self._config, self._round.edges
        data.masked.sort()
        survivors = self._round.survivors
        self._lose("MASK", set(data.shared) - set(data.masked))
        self._require_enough(data.masked)
        near = edges.degrees_within(survivors)
        stuck = [owner for owner in unmasking.owners(data, edges, survivors) if near[owner] < config.threshold]
        if stuck:
            reason = failure_reasons.stuck(data, data.recipients, stuck, config.threshold)
            raise _RoundOverError(reason, tuple(data.awaited))
        data.sealed = None
        data.openings = np.zeros((len(edges), messages.SHARE_BYTES // 8), dtype=np.uint64)
        data.opened = np.zeros(len(edges), dtype=np.bool_)
        return data.masked, True

    def _close_confirm(self) -> tuple[list[int], bool]:
        data, config = self._data, self._config
        self._lose("CONFIRM", set(data.masked) - set(data.signatures))
        if len(data.signatures) < config.quorum:
            reason = f"{failure_reasons.answers(data, data.recipients)}; {config.quorum} are needed"
            raise _RoundOverError(reason, tuple(data.awaited))
        return sorted(data.signatures), True

    def _close_unmask(self) -> tuple[list[int], bool]:
        data, config, edges = self._data, self._config, self._round.edges
        survivors = self._round.survivors
        answered = data.digests.get("UNMASK", {})
        self._lose("UNMASK", set(data.signatures if config.is_active else data.masked) - set(answered))
        if data.opened is None:
            raise RuntimeError("no shares to count")
        returned = np.bincount(edges.ids[data.opened], minlength=config.clients)
        for owner in unmasking.owners(data, edges, survivors):
            if returned[owner] < config.threshold:
                good, holders = int(returned[owner]), edges.neighbours(owner).tolist()
                bad = sum(holder in answered for holder in holders) - good
                reason = failure_reasons.shares_missing(data, data.recipients, owner, good, bad, config.threshold)
                raise _RoundOverError(reason, tuple(data.awaited))
        return [], False

    def _require_enough(self, able: Sequence[int]) -> None:
        data, config = self._data, self._config
        if len(able) < config.min_survivors:
            reason = failure_reasons.too_few(data, data.recipients, able, config.threshold, config.min_survivors)
            raise _RoundOverError(reason, tuple(data.awaited))

    def _lose(self, phase: str, members: set[int]) -> None:
        if members:
            self._data.dropped[phase] = sorted(members)

    def _abort(
        self, reason: str, code: AbortCode, *, missing: Sequence[int] = (), culprit: tuple[int, ...] = ()
    ) -> None:
        data = self._data
        data.failure = Failure(data.state.value, reason, code, tuple(sorted(missing)), culprit)
        data.state = ServerState.ABORTED
        data.awaited = {}
        data.sealed = data.commitments = data.accumulator = data.openings = data.opened = None

    def _compute(self, executor: Executor | None, workers: int | None) -> Result:
        if self._result is not None:
            return self._result
        data = self._data
        if data.state not in (ServerState.COMPUTE, ServerState.DONE) or data.accumulator is None:
            raise StateError(f"compute: not possible in state {data.state}; close the UNMASK phase first")
        edges = self._round.edges
        try:
            add, subtract = unmasking.mask_keys(data, edges, self._round.survivors, self._config)
        except PeerError as refused:
            self._refuse(refused.culprit[0], refused)
            self._abort(str(refused), AbortCode.PROTOCOL_VIOLATION, culprit=refused.culprit)
            raise
        total = unmasking.unmasked(data.accumulator, add, subtract, self._config, executor, workers)
        if self._data.state is ServerState.ABORTED:  # by its host, from another thread
            raise StateError("compute: the round was aborted while its sum was computed")
        self._result = self._make_result(total)
        data.state = ServerState.DONE
        return self._result

    def _make_result(self, total: npt.NDArray[np.unsignedinteger[Any]]) -> Result:
        data, config = self._data, self._config
        total.flags.writeable = False
        parts = [
            part
            for phase in _PHASES
            if phase != "MASK"
            for sender, digest in sorted(data.digests.get(phase, {}).items())
            for part in (phase.encode(), sender.to_bytes(4, "little"), digest)
        ]
        parts += [messages.encode_bitmap(members, config.clients) for members in (data.shared, data.masked)]
        bounds = config.bounds
        return Result(
            sum=total,
            modulus=config.modulus,
            included=tuple(data.masked),
            min_survivors=config.min_survivors,
            dropped=self.dropped,
            blame=self.blame,
            security=Security(
                threat=config.threat_model.value,
                colluders=config.colluders,
                honest_members=len(data.masked) - config.colluders,
                sigma=config.sigma,
                privacy_log2=bounds.privacy_log2,
                connectivity_log2=bounds.connectivity_log2,
                correctness_log2=bounds.correctness_log2,
            ),
            session=data.session,
            transcript_digest=transcript.transcript_digest(data.session, parts),
        )
