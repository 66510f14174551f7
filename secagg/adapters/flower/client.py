"""The client's side: a Flower mod that answers the protocol's messages and masks what the app trained."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Final, TypeAlias, final

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Context, Error, Message, MessageType, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode as FlowerError

from secagg.adapters.flower import records
from secagg.adapters.flower.codec import Codec
from secagg.adapters.flower.records import Layout, log
from secagg.adapters.flower.tokens import DurableTokens, Memory
from secagg.checks import Consume
from secagg.client import Client
from secagg.config import Policy
from secagg.errors import InputError, ParameterError, PeerError
from secagg.events import InputNeeded, RoundAborted
from secagg.identity import Identity, MemoryDirectory, load_directory, load_identity

FilePath: TypeAlias = str | os.PathLike[str]
PathOf: TypeAlias = FilePath | Callable[[Context], FilePath | None] | None
"""A path, or what gives a node's path, or none, from its context."""

_ACTIVE_GAMMA: Final = 0.2
_UNTOUCHED: Final = frozenset({MessageType.EVALUATE, MessageType.QUERY})


class _RefusedError(Exception):
    """The server's message is answered with a Flower error; the reason holds nothing of the client's."""


class _AppFailedError(Exception):
    """The app, or a mod below, answered with an error of its own."""

    def __init__(self, reply: Message) -> None:
        super().__init__()
        self.reply = reply


@final
class SecAggMod:
    """A mod for ``ClientApp(mods=[...])``; ``secagg_mod`` is one without any argument.

    It runs the client's side of the protocol, lets the app train when the vector is asked for, and sends the masked
    vector in place of the app's reply: neither arrays nor metrics leave the client.  Messages of evaluation and queries
    pass untouched.  All others are refused, a training message without the protocol among them: the server could else
    have the plain update by leaving the wrapper out.

    An update that cannot be summed (a NaN, a weight beyond the largest) takes part as zeros of weight zero, so that the
    server cannot learn of it by the client's leaving; this client's log says why.  Without weights the client leaves.

    Put it before mods that change the update (clipping, local noise): the first in the list is the last to see it.
    """

    def __init__(
        self,
        *,
        policy: Policy | None = None,
        identity: PathOf = None,
        directory: PathOf = None,
        tokens: PathOf = None,
    ) -> None:
        """Options; what is not given here is looked up in the node's own config, never in the run's.

        A path may be a function of the node's context, for simulations, where one program plays all nodes.

        Args:
            policy: the least that this client accepts of a round's config.  The node config's ``secagg-gamma`` and
                ``secagg-min-survivors`` go before it.
            identity: ``active``: the file of this client's identity (``secagg identity new``); ``secagg-identity``.
            directory: ``active``: the file of the members' keys, which must not come from the server;
                ``secagg-directory``.
            tokens: an SQLite file for used states, made when it is not there; ``secagg-tokens``.  Needed in
                ``active``; see ``DurableTokens``.
        """
        self._policy = policy
        self._paths: dict[str, PathOf] = {"identity": identity, "directory": directory, "tokens": tokens}

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Answer one message; see ``flwr.clientapp.typing.Mod``.

        Raises OSError or ParameterError for an identity, a directory or a node config that cannot be used: Flower
        answers the server with an error then.
        """
        category = message.metadata.message_type.partition(".")[0]
        if category in _UNTOUCHED:
            return call_next(message, context)
        with ExitStack() as cleanup:
            try:
                if category != MessageType.TRAIN:
                    raise _RefusedError(f"a message of type {category!r}: its answer could hold this client's arrays")
                reply = self._answer(message, context, call_next, cleanup)
            except _RefusedError as refusal:
                log.error("secagg: %s", refusal)
                return Message(Error(FlowerError.MOD_FAILED_PRECONDITION, str(refusal)), reply_to=message)
            except _AppFailedError as failed:
                return failed.reply
        return Message(reply, reply_to=message)

    def __repr__(self) -> str:
        return f"SecAggMod(policy={self._policy!r})"

    def _answer(
        self, message: Message, context: Context, call_next: ClientAppCallable, cleanup: ExitStack
    ) -> RecordDict:
        record = message.content.config_records.get(records.RECORD)
        memory = Memory(context)
        credentials = _Credentials(self._paths, context, memory, cleanup)
        invitation, data = (records.bytes_of(record, key) for key in (records.INVITATION, records.PROTOCOL))
        if invitation is not None:
            memory.take()  # of a round that the server gave up
            policy = _policy_of(self._policy, context, active=credentials.identity is not None)
            return _join(invitation, records.index_of(record), policy, credentials, memory)
        if data is None:
            raise _RefusedError(
                "a training message without secure aggregation: this client sends no plain update; wrap the server's "
                "strategy in SecAggStrategy, or take secagg_mod out of the ClientApp"
            )
        state = memory.take()
        if state is None:
            raise _RefusedError(
                "a message of a round that this client is not in: it lost its context, or the round is over"
            )
        layout = records.bytes_of(record, records.LAYOUT) or b""
        below = copy.copy(message)  # the app and the mods below see what the strategy made
        below.content = RecordDict({key: value for key, value in message.content.items() if key != records.RECORD})
        bound = credentials.identity is not None
        with credentials.resume(state) as client:
            return _continue(client, data, memory, lambda: _train(client, layout, bound, below, context, call_next))


secagg_mod: Final = SecAggMod()
"""The mod with its options in the node's config."""


class _Credentials:
    """What ``active`` needs of the node, and where used tokens are kept."""

    def __init__(self, paths: dict[str, PathOf], context: Context, memory: Memory, cleanup: ExitStack) -> None:
        found = {name: _path(name, path, context) for name, path in paths.items()}
        self.identity: Identity | None = load_identity(found["identity"]) if found["identity"] else None
        self.directory: MemoryDirectory | None = None
        self.members: tuple[bytes, ...] = ()
        if found["directory"]:
            self.directory, _, digest = load_directory(found["directory"])
            self.members = tuple(self.directory.cohort(digest) or ())
        if self.identity is not None and not found["tokens"]:
            raise ParameterError(
                "this client has an identity and no file of used tokens: give secagg-tokens in the node's config; "
                "a context alone does not keep a server from having one state used twice"
            )
        self.joins: Consume = memory.join
        self.states: Consume = lambda token: True  # Memory.take hands out a state once
        if found["tokens"]:
            durable = DurableTokens(found["tokens"])
            cleanup.callback(durable.close)
            self.joins = self.states = durable

    def resume(self, state: bytes) -> Client:
        try:
            return Client.resume(state, self.states, identity=self.identity, directory=self.directory)
        except PeerError as reused:
            raise _RefusedError(f"{reused.code}: this client answered from that state before") from None

    def own_index(self) -> int:
        """In ``active`` the client knows its index itself.  Raises ParameterError."""
        if self.identity is None or self.identity.public_key not in self.members:
            raise ParameterError("this client's identity is not in its directory: add it, or name another directory")
        return self.members.index(self.identity.public_key)


def _path(name: str, given: PathOf, context: Context) -> FilePath | None:
    path = given(context) if callable(given) else given
    if path is not None:
        return path
    value = context.node_config.get(f"secagg-{name}")
    if value is not None and not isinstance(value, str):
        raise ParameterError(f"node config secagg-{name} is {value!r}: give the path of a file")
    return value


def _policy_of(policy: Policy | None, context: Context, *, active: bool) -> Policy:
    if policy is None:
        policy = Policy(gamma=_ACTIVE_GAMMA if active else 0.0)
    gamma, survivors = (context.node_config.get(f"secagg-{name}") for name in ("gamma", "min-survivors"))
    if gamma is not None:
        if isinstance(gamma, str | bool) or not 0 <= gamma < 1:
            raise ParameterError(f"node config secagg-gamma is {gamma!r}: a number from 0 to 1")
        policy = replace(policy, gamma=float(gamma))
    if survivors is not None:
        if isinstance(survivors, bool) or not isinstance(survivors, int):
            raise ParameterError(f"node config secagg-min-survivors is {survivors!r}: a whole number")
        policy = replace(policy, min_survivors=survivors)
    return policy


def _join(
    invitation: bytes, index: int | None, policy: Policy, credentials: _Credentials, memory: Memory
) -> RecordDict:
    extra: dict[str, bytes | int] = {}
    if credentials.identity is not None:
        index = credentials.own_index()
        extra[records.INDEX] = index
    if index is None:
        raise _RefusedError("an invitation without an index: the server is in active, and this client has no identity")
    try:
        client = Client.join(
            invitation,
            index,
            policy=policy,
            identity=credentials.identity,
            directory=credentials.directory,
            consume=credentials.joins,
        )
    except PeerError as refused:
        return _left(refused)
    except ParameterError as refused:  # an active round and no identity, an index beyond the cohort
        raise _RefusedError(str(refused)) from None
    with client:
        advertisement = client.start()
        memory.keep(client.suspend())
    return records.content({records.PROTOCOL: advertisement, **extra})


def _continue(
    client: Client, data: bytes, memory: Memory, train: Callable[[], npt.NDArray[np.unsignedinteger]]
) -> RecordDict:
    try:
        step = client.receive(data)
        if isinstance(step.event, InputNeeded):
            step = client.submit(train())
    except PeerError as refused:
        return _left(refused)
    except InputError as unfit:
        # Its message may speak of the client's data, so it stays here.
        log.error("secagg: this client leaves the round: %s", unfit)
        return records.content({records.PROTOCOL: client.abort()})
    if isinstance(step.event, RoundAborted):
        log.info("secagg: the server ended the round (%s)", step.event.code.name)
    if not client.done:
        memory.keep(client.suspend())
    return records.content({records.PROTOCOL: step.outgoing[0] if step.outgoing else b""})


def _left(refused: PeerError) -> RecordDict:
    log.error("secagg: this client leaves the round (%s): %s", refused.code, refused)
    return records.content({records.PROTOCOL: refused.reply})


def _train(
    client: Client,
    layout_bytes: bytes,
    run_config_bound: bool,
    message: Message,
    context: Context,
    call_next: ClientAppCallable,
) -> npt.NDArray[np.unsignedinteger]:
    """The app's update as a vector; ``run_config_bound``: whether the round's context must hold the run's config.

    Raises InputError for what the server sent, and for an update without weights that cannot be summed; _AppFailedError
    for the app's own error.
    """
    if len(message.content.array_records) != 1:
        raise InputError(f"the server sent {len(message.content.array_records)} array records; it must send one model")
    model = next(iter(message.content.array_records.values()))
    try:
        layout = Layout.from_bytes(layout_bytes)
        run_config = context.run_config if layout.run_config else None
        codec = Codec(model, layout, records.digest_of(message.content, message.metadata.message_type, run_config))
    except ParameterError as wrong:
        raise InputError(f"the server's model or layout cannot be encoded: {wrong}") from None
    if codec.context != client.config.context:
        raise InputError(
            "the model, its layout, the configs beside it or the run's config are not those that this round was "
            "announced for"
        )
    if run_config_bound and not layout.run_config:
        raise InputError("the server's SecAggStrategy has no run_config: in active, clients must see that all have one")
    reply = call_next(message, context)
    if reply.has_error():
        raise _AppFailedError(reply)
    try:
        arrays, weight = _update_of(reply.content, layout)
        vector, clipped = codec.encode(arrays, weight)
    except InputError as unfit:
        if layout.max_weight is None:
            raise
        # Leaving would tell the server something of the update.  The message speaks of data, and stays here.
        log.error("secagg: this client's update is left out, it takes part with weight 0: %s", unfit)
        return codec.nothing()
    for name, count in clipped.items():
        log.warning("secagg: %s: %d values were clipped", name, count)
    return vector


def _update_of(content: RecordDict, layout: Layout) -> tuple[ArrayRecord, int]:
    if len(content.array_records) != 1 or len(content.metric_records) != 1:
        raise InputError(
            f"the app's reply has {len(content.array_records)} array records and {len(content.metric_records)} metric "
            "records; it must have one of each"
        )
    arrays = next(iter(content.array_records.values()))
    if layout.max_weight is None:
        return arrays, 1
    weight = next(iter(content.metric_records.values())).get(layout.weighted_by)
    if isinstance(weight, float) and weight.is_integer():
        weight = int(weight)
    if not isinstance(weight, int):
        raise InputError(f"the app's reply has {weight!r} for the metric {layout.weighted_by!r}; give a whole number")
    return arrays, weight
