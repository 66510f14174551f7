"""A part of MASK that somebody takes for the server: some clients' masked inputs, added up elsewhere.

    the server (coordinator)             a worker: a thread, a process, another machine

    server.open_partial()            ->  partial
    server.admit(sender, header, ..) <-  partial.header(sender, message)
    Admitted                         ->  partial.add(sender, message)
    server.merge(partial)            <-  partial

The server decides who is in, by a header of some dozen bytes; the worker reads the vector, and holds it to the same
rules as the server would.  A partial sum knows whose inputs it holds, and the server counts those, and nobody else,
when the sum arrives.  Whatever is lost with a worker was not counted: its clients are awaited again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Self, TypeAlias, final

import msgspec
import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError, PeerError
from secagg.events import Accepted, AlreadyMasked, Misbehaved
from secagg.pairwise import messages
from secagg.pairwise.config import RoundConfig, decode_config
from secagg.pairwise.messages import ID_BYTES, MaskedInput
from secagg.pairwise.phases import Phase
from secagg.pairwise.rules import server as rules
from secagg.pairwise.rules import wire as wire_rules
from secagg.pairwise.sums import Lanes, MaskedSums, group_row
from secagg.primitives.calls import OneCall
from secagg.wording import counted

Buffer: TypeAlias = bytes | bytearray | memoryview
Ids: TypeAlias = tuple[int, ...]

VERSION: Final = 1
"""Of the bytes of a partial sum; apart from the protocol's, because their form changes without it."""
MAX_PARTIALS: Final = 1 << 16
"""That may be open in a round at once, so that neither a server's state nor a partial sum's bytes grow without end."""
NAME_BYTES: Final = 16

_CHECKSUM_BYTES: Final = 32
_HEADERS_BYTES: Final = 1 << 13
"""Of everything in the bytes that is neither a vector nor grows with clients, groups or names: an upper bound."""
_PART_BYTES: Final = 48
"""Of a name, and of the headers of a list of members: an upper bound."""
_HEAD_BYTES: Final = 5
"""Of a byte string, at most."""
_PIECE_BYTES: Final = 1 << 30
"""MessagePack holds no byte string of 2^32 bytes: longer vectors go in pieces."""


class _Part(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    name: str
    members: bytes
    """Ids of 4 bytes."""


class _Form(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the bytes of a partial sum hold, behind their checksum."""

    version: int
    config: bytes
    session: bytes
    parts: tuple[_Part, ...]
    """The first one is the sum's own."""
    group_numbers: bytes
    """(n,) numbers of 4 bytes; nothing in a round without groups."""
    rows: bytes
    """The groups whose sums follow, as numbers of 4 bytes; 0 in a round without groups, nothing for a sum of nobody."""
    totals: tuple[memoryview, ...]
    envelopes: tuple[memoryview, ...]


@final
class PartialSum:
    """The sum of some clients' masked inputs in one round, and who they are; ``Server.open_partial`` makes it.

    It takes the memory of one vector; with groups, of one for each group whose members it meets.  It is pickled as the
    bytes of ``to_bytes``, so that any executor carries it.  One thread at a time calls it: a call that comes while
    another one is under way raises StateError and changes nothing.

    It counts once.  A worker that has given it to ``Server.merge`` goes on with a new one.
    """

    def __init__(
        self, config: RoundConfig, session: bytes, name: str, group_numbers: npt.NDArray[np.int64] | None = None
    ) -> None:
        """Hold nobody's input yet; hosts call ``Server.open_partial`` instead.

        Args:
            config: the round's constants.
            session: its session id.
            name: what the server knows this sum by.
            group_numbers: the number of each client's group, shape (n,), in a round with groups.
        """
        self._config, self._session, self._name = config, session, name
        self._groups = None if group_numbers is None else group_numbers.astype("<u4")
        self._sums = MaskedSums.empty(config)
        self._members: set[int] = set()
        self._parts: dict[str, list[int]] = {name: []}
        self._largest = messages.most_bytes_to_server(config)
        self._one_call = OneCall("partial sum")

    @property
    def config(self) -> RoundConfig:
        """The round's config."""
        return self._config

    @property
    def session(self) -> bytes:
        """The round's session id."""
        return self._session

    @property
    def name(self) -> str:
        """What the server knows it by, which ``Server.admit`` is told."""
        return self._name

    @property
    def parts(self) -> Mapping[str, Ids]:
        """Whose inputs it holds, by the name of the partial sum that took them: its own, and those merged into it."""
        return {name: tuple(members) for name, members in self._parts.items()}

    @property
    def members(self) -> Ids:
        """Whose inputs it holds, ascending."""
        return tuple(sorted(self._members))

    @property
    def group_numbers(self) -> npt.NDArray[np.int64] | None:
        """The number of each client's group, shape (n,), a copy; None in a round without groups."""
        return None if self._groups is None else self._groups.astype(np.int64)

    @property
    def sums(self) -> MaskedSums:
        """The sums themselves, for the server that merges them."""
        return self._sums

    @property
    def groups(self) -> Ids:
        """The groups that its members are of, ascending; in a round without groups (0,), and of nobody nothing."""
        if self._groups is None or not self._members:
            return (0,) if self._members else ()
        return tuple(np.unique(self._groups[list(self._members)]).tolist())

    def __repr__(self) -> str:
        return f"<PartialSum {self._name[:8]}: of {counted(len(self._members), 'client')}>"

    def __reduce__(self) -> tuple[object, ...]:
        return PartialSum.from_bytes, (self.to_bytes(),)

    # What a worker calls.

    def header(self, sender: int, data: Buffer) -> bytes | Misbehaved:
        """What the coordinator decides by: bytes for ``Server.admit``, or what is wrong, for ``Server.refuse``.

        Of a masked input these are the message without its vector, some 40 bytes; of any other message, all of it.
        Nothing changes here.
        """
        try:
            message = self._decoded(sender, data)
        except PeerError as refused:
            return _misbehaved(sender, refused)
        if not isinstance(message, MaskedInput):
            return bytes(data)
        return messages.encode(MaskedInput(message.version, message.session, memoryview(b"")))

    def add(self, sender: int, data: Buffer) -> Accepted | AlreadyMasked | Misbehaved:
        """Add the masked input of a client that the server has admitted to this sum.

        A message that breaks a rule leaves the sum as it was: give the event to ``Server.refuse``.  A second message of
        one client changes nothing either, so that a worker may add what its journal has once more.  Raises
        ParameterError for a message that is no masked input.
        """
        with self._one_call("add"):
            try:
                message = self._decoded(sender, data)
                if not isinstance(message, MaskedInput):
                    raise ParameterError(
                        f"add: a message {type(message).__name__}, and no masked input; give it to Server.admit alone"
                    )
                wire_rules.of_session(message.session, self._session, named=False)
                if sender in self._members:
                    return AlreadyMasked(sender)  # R-MASK-7
                group = 0 if self._groups is None else int(self._groups[sender])
                self._sums.add(self._config, sender, group, message.vector)
            except PeerError as refused:
                return _misbehaved(sender, refused)
            self._members.add(sender)
            self._parts[self._name].append(sender)
            return Accepted(sender, Phase.MASK)

    def add_all(self, admitted: Iterable[tuple[int, Buffer]]) -> tuple[Self, tuple[Misbehaved, ...]]:
        """``add`` the messages of many clients: a job for an executor, ``executor.submit(partial.add_all, batch)``.

        Returns the sum, which is another object where the executor has carried it elsewhere, and what was refused.  An
        executor may run the job again, as Dask does when a worker dies: no input is added twice.
        """
        events = [self.add(sender, data) for sender, data in admitted]
        return self, tuple(event for event in events if isinstance(event, Misbehaved))

    def merge(self, other: PartialSum) -> None:
        """Take over all that another partial sum of the round holds; that one is then of no more use.

        The names of both stay known, so that a server can be given one sum for many.  Raises ParameterError, and
        changes nothing, when the other one is of another round, or when both hold a client or a name.
        """
        with self._one_call("merge"):
            self.require_round(other._config, other._session)
            if both := self._parts.keys() & other._parts.keys():
                raise ParameterError(f"merge: both hold the partial sum {min(both)}; each counts once")
            if both_hold := self._members & other._members:
                raise ParameterError(
                    f"merge: both hold the input of client {min(both_hold)}; each client is admitted to one partial sum"
                )
            if len(self._parts) + len(other._parts) > MAX_PARTIALS:
                raise ParameterError(f"merge: more than {MAX_PARTIALS:,} partial sums; give some to the server before")
            self._sums.merge(self._config, other._sums, other.groups)
            self._members |= other._members
            self._parts.update(other._parts)

    def require_round(self, config: RoundConfig, session: bytes) -> None:
        """Raise ParameterError unless this is a partial sum of the round of this config and session."""
        if self._session != session or self._config != config:
            raise ParameterError(
                f"a partial sum of session {self._session.hex()[:16]}; this one is {session.hex()[:16]}: partial sums "
                "of one round are merged, and nothing else"
            )

    def _decoded(self, sender: int, data: Buffer) -> messages.ToServer:
        """In the order of R-WIRE-9: who sent it, its size, its form, its version."""
        rules.sender_invited(sender, self._config.clients)
        return messages.to_server.decode(data, self._largest, self._config.version, self._config.suite.agreement)

    # As bytes.

    def to_bytes(self) -> bytearray:
        """The whole sum, from which ``from_bytes`` makes it again: on another machine, or after a restart.

        Beside the result this takes no memory.
        """
        with self._one_call("to_bytes"):
            rows = self.groups
            form = _Form(
                VERSION,
                self._config.to_bytes(),
                self._session,
                tuple(_Part(name, messages.encode_ids(members)) for name, members in self._parts.items()),
                b"" if self._groups is None else self._groups.tobytes(),
                messages.encode_ids(rows),
                tuple(_pieces(self._sums.total, rows)),
                tuple(_pieces(self._sums.envelopes, rows)),
            )
            data = bytearray(_CHECKSUM_BYTES)
            msgspec.msgpack.Encoder().encode_into(form, data, _CHECKSUM_BYTES)
            data[:_CHECKSUM_BYTES] = hashlib.sha256(memoryview(data)[_CHECKSUM_BYTES:]).digest()
            return data

    @classmethod
    def from_bytes(cls, data: Buffer) -> Self:
        """The partial sum that ``to_bytes`` made these of.

        Raises ParameterError when they are no partial sum's, damaged, or larger than ``most_bytes`` of its config.
        """
        view = memoryview(data).cast("B")
        if hashlib.sha256(view[_CHECKSUM_BYTES:]).digest() != view[:_CHECKSUM_BYTES]:
            raise ParameterError("these bytes are no partial sum, or damaged: their checksum is wrong")
        try:
            form = msgspec.msgpack.decode(view[_CHECKSUM_BYTES:], type=_Form)
            return cls._of_form(form, view.nbytes)
        except (msgspec.DecodeError, ValueError) as wrong:
            raise ParameterError(f"these bytes are no partial sum: {wrong}") from None

    @classmethod
    def _of_form(cls, form: _Form, size: int) -> Self:
        if form.version != VERSION:
            raise ParameterError(f"they are of version {form.version}, and this library reads version {VERSION}")
        config = decode_config(form.config)
        if size > most_bytes(config, len(form.parts)) or not 0 < len(form.parts) <= MAX_PARTIALS:
            raise ParameterError(f"{counted(size, 'byte')} with {counted(len(form.parts), 'name')} are too many")
        groups = np.frombuffer(form.group_numbers, "<u4") if config.groups > 1 else None
        if groups is not None and (len(groups) != config.clients or groups.max() >= config.groups):
            raise ParameterError("they give other group numbers than the config")
        self = cls(config, form.session, form.parts[0].name, groups)
        self._parts = {part.name: np.frombuffer(part.members, "<u4").tolist() for part in form.parts}
        members = [member for part in self._parts.values() for member in part]
        self._members = set(members)
        if len(self._parts) < len(form.parts) or len(self._members) < len(members):
            raise ParameterError("a name or a client is in them twice")
        if members and max(members) >= config.clients:
            raise ParameterError(
                f"client {max(members)} is in them; this round's clients are 0 to {config.clients - 1}"
            )
        self._sums.members = members
        rows = self.groups
        if rows != tuple(np.frombuffer(form.rows, "<u4").tolist()):
            raise ParameterError("they hold the sums of other groups than those of their members")
        _fill(self._sums.total, rows, form.totals)
        _fill(self._sums.envelopes, rows, form.envelopes)
        self._sums.check(config, rows)
        return self


def most_bytes(config: RoundConfig, parts: int = 1) -> int:
    """The most bytes that a partial sum of the round has which was merged from so many: a limit for a transport."""
    vectors = MaskedSums.size(config)
    pieces = 2 * (config.groups + vectors // _PIECE_BYTES)
    by_client = ID_BYTES * config.clients * (3 if config.groups > 1 else 1)  # its id; its group, and that group's row
    return vectors + _HEAD_BYTES * pieces + by_client + _PART_BYTES * parts + _HEADERS_BYTES


def _misbehaved(sender: int, refused: PeerError) -> Misbehaved:
    return Misbehaved(sender, refused.phase or Phase.MASK, refused.code, str(refused))


def _pieces(total: Lanes, rows: Ids) -> Iterator[memoryview]:
    """The bytes of some rows, one after the other, in pieces of a size that MessagePack holds."""
    for group in rows:
        row = group_row(total, group).view(np.uint8)
        for start in range(0, len(row), _PIECE_BYTES):
            yield row[start : start + _PIECE_BYTES].data


def _fill(total: Lanes, rows: Ids, pieces: tuple[memoryview, ...]) -> None:
    """Undo ``_pieces``.  Raises ParameterError when they are of another size."""
    left = iter(pieces)
    for group in rows:
        row = group_row(total, group).view(np.uint8)
        for start in range(0, len(row), _PIECE_BYTES):
            part, piece = row[start : start + _PIECE_BYTES], next(left, memoryview(b""))
            if len(piece) != len(part):
                raise ParameterError(f"{counted(len(piece), 'byte')} of a sum; {len(part):,} are needed")
            part[:] = np.frombuffer(piece, np.uint8)
    if next(left, None) is not None:
        raise ParameterError("more sums follow than their members have")
