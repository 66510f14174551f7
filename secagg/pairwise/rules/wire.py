"""What every message is held to, whoever gets it: size, form, version, session, place, repetition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypeVar

import msgspec

from secagg.errors import ErrorCode, PeerError
from secagg.pairwise.transcript import VERSION, VERSIONS, known_versions
from secagg.wording import counted

Buffer: TypeAlias = bytes | bytearray | memoryview
_M = TypeVar("_M")

_VERSIONED_ARRAYS: Final = range(0x93, 0xA0)
"""The first bytes of arrays of 3 to 15 elements: a message's."""
_ONE_BYTE: Final = range(0x80)
"""The numbers that are one byte: every type, and every version that this text can tell from the first bytes."""


def size_allowed(size: int, limit: int) -> None:
    """R-WIRE-5: a message is no longer than the longest honest one; this is asked before it is decoded."""
    if size > limit:
        raise PeerError(
            ErrorCode.TOO_LARGE, f"a message of {counted(size, 'byte')}; at most {limit:,} are allowed here"
        )


def well_formed(decode: Callable[[Buffer], _M], data: Buffer, versions: Sequence[int]) -> _M:
    """R-WIRE-1, R-WIRE-3: the bytes are one message of a type that this role is sent.  Returns the message.

    ``versions`` are those that the message may have.
    """
    try:
        return decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as refused:
        # A message of another version may have other fields: the refusal then says so (R-WIRE-4).
        head = bytes(memoryview(data).cast("B")[:3])
        if len(head) == 3 and head[0] in _VERSIONED_ARRAYS and head[1] in _ONE_BYTE and head[2] in _ONE_BYTE:
            version_spoken(head[2], versions)
        raise PeerError(ErrorCode.MALFORMED, f"the message does not decode: {refused}") from None


def version_spoken(met: int, versions: Sequence[int]) -> None:
    """R-WIRE-4, R-VERSION-2: the message is of its round's version; an invitation, of any that this library speaks."""
    if met not in versions:
        where = "" if versions == VERSIONS else f" in a round of version {versions[0]}"
        raise PeerError(
            ErrorCode.WRONG_VERSION,
            f"a message of protocol version {met}{where}; this library speaks the versions {known_versions()}",
        ) from None


def config_of_version(named: int | None, version: int) -> None:
    """R-VERSION-3: an invitation brings a config of its own version; ``named`` is None where no version shows.

    In version 1 a config of another version is not sound, which R-CONFIG-10 refuses.
    """
    if version != VERSION and named not in (version, None):
        raise PeerError(
            ErrorCode.WRONG_VERSION, f"an invitation of protocol version {version} with a config of version {named}"
        )


def records_whole(length: int, size: int, count: int, what: str) -> None:
    """R-WIRE-7: ``length`` bytes are ``count`` records of ``size`` bytes."""
    if length != size * count:
        raise PeerError(
            ErrorCode.MALFORMED,
            f"{what}: {counted(length, 'byte')}; {counted(count, 'record')} of {size} take {size * count:,}",
        )


def ids_whole(length: int, id_bytes: int) -> None:
    """R-WIRE-7: ``length`` bytes are a whole number of ids."""
    if length % id_bytes:
        raise PeerError(ErrorCode.MALFORMED, f"a list of ids of {counted(length, 'byte')}; each id has {id_bytes}")


def bitmap_whole(length: int, clients: int) -> None:
    """R-WIRE-7: a bitmap of ``length`` bytes has as many as it takes to have a bit for each member of the cohort."""
    if length != (clients + 7) // 8:
        raise PeerError(
            ErrorCode.MALFORMED,
            f"a bitmap of {counted(length, 'byte')}; that of {counted(clients, 'client')} has {(clients + 7) // 8:,}",
        )


def bitmap_of_cohort(strangers: bool, clients: int) -> None:
    """R-WIRE-7: a bitmap has no bit set for a member that the cohort does not have (``strangers``)."""
    if strangers:
        raise PeerError(ErrorCode.MALFORMED, f"a bitmap with a bit set beyond its {counted(clients, 'client')}")


def of_session(met: bytes, *allowed: bytes, named: bool = True) -> None:
    """R-WIRE-6: the message names this round or its session.

    ``named`` says whether the refusal names the first session that is allowed: a server has none before the roster.
    """
    if met not in allowed:
        instead = f"; this one is {allowed[0].hex()}" if named else ", not of this one"
        raise PeerError(ErrorCode.WRONG_SESSION, f"a message of session {met.hex()}{instead}")


def in_phase(allowed: bool, kind: str, place: str, *, phase: str = "") -> None:
    """R-STATE-1, R-STATE-2: a message of this kind has its place here.  ``phase`` is the message's own."""
    if not allowed:
        raise PeerError(ErrorCode.WRONG_PHASE, f"a {kind} message {place}", phase=phase)


def not_conflicting(seen: bytes, digest: bytes, kind: str, *, phase: str = "") -> None:
    """R-WIRE-8: a message that was accepted comes again only as it was.  ``phase`` is the message's own."""
    if seen != digest:
        raise PeerError(ErrorCode.CONFLICT, f"a second {kind} message that differs from the first", phase=phase)
