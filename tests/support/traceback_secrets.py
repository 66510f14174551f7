"""What an exception still holds: a recorder of every secret that the library makes, and a walk over all frames."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import numpy as np
import pytest

import secagg
from secagg import Client, Identity, Server, Suite
from secagg.pairwise import transcript
from secagg.primitives import aead, agreement, kdf, signing
from secagg.primitives.secret import Secret

LIBRARY = Path(secagg.__file__).parent
HOSTS = LIBRARY / "testing"
"""The lying servers' and the simulator's own frames are a host's: what it knows, it knows."""


class Secrets:
    """Everything secret that is drawn, agreed, derived or opened, as long as it is recorded."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.known: set[bytes] = set()
        make, unseal, pair = Secret.__init__, aead.unseal, signing.signing_key_pair
        extract, expand, agree = kdf.extract, kdf.expand, agreement.AgreementKey.agree

        def made(secret: Secret, data: bytes) -> None:
            self.add(data[:32] if len(data) == 64 else data)  # an Ed25519 secret key ends in the public one
            make(secret, data)

        def extracted(secret: bytes, salt: bytes) -> bytes:
            self.add(secret)
            return self.add(extract(secret, salt))

        def expanded(secret: bytes, info: bytes, length: int) -> bytes:
            return self.add(expand(secret, info, length), unless=transcript._SEED_COMMITMENT in info)

        def agreed(key: agreement.AgreementKey, peer: bytes) -> bytes:
            return self.add(agree(key, peer))

        def unsealed(suite: Suite, key: bytes, sealed: bytes, associated: bytes) -> bytes:
            self.add(key)
            return self.add(unseal(suite, key, sealed, associated))

        def key_pair(seed: bytes) -> tuple[bytes, bytes]:
            self.add(seed)
            return pair(seed)

        patch.setattr(Secret, "__init__", made)
        patch.setattr(kdf, "extract", extracted)
        patch.setattr(kdf, "expand", expanded)
        patch.setattr(aead, "unseal", unsealed)
        patch.setattr(signing, "signing_key_pair", key_pair)
        patch.setattr(agreement.AgreementKey, "agree", agreed)

    def add(self, data: bytes, unless: bool = False) -> bytes:
        """Remember it in pieces of 16 bytes: shares and keys lie at multiples of 8 in what holds several."""
        blob = bytes(data)
        if not unless and len(blob) >= 16:
            self.known.update(blob[start : start + 16] for start in range(0, len(blob) - 15, 8))
        return data

    def except_for(self, *public: bytes) -> None:
        """What is public stands in suspended states as well."""
        self.known = {piece for piece in self.known if not any(piece in blob for blob in public)}

    def in_bytes(self, blob: bytes) -> bool:
        """Whether a secret stands anywhere in these bytes."""
        return any(blob[start : start + 16] in self.known for start in range(len(blob) - 15))


def links(error: BaseException) -> Iterator[BaseException]:
    """The exception, and all that it came out of, shown or not."""
    waiting, seen = [error], set()
    while waiting:
        link = waiting.pop()
        if id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting += [other for other in (link.__cause__, link.__context__) if other is not None]


def library_frames(error: BaseException) -> Iterator[FrameType]:
    """The library's frames that an exception keeps, and none of its host's."""
    for link in links(error):
        for frame, _ in traceback.walk_tb(link.__traceback__):
            file = Path(frame.f_code.co_filename)
            if file.is_relative_to(LIBRARY) and not file.is_relative_to(HOSTS):
                yield frame


def parts(thing: object) -> Collection[Any]:
    """What a value of a local variable leads to."""
    if isinstance(thing, Identity):
        return ()  # it outlives rounds, is its host's, and hides its own
    if isinstance(thing, Mapping):
        return [*thing.keys(), *thing.values()]
    if isinstance(thing, list | tuple | set | frozenset):
        return thing
    if isinstance(thing, msgspec.Struct):
        return [getattr(thing, name) for name in thing.__struct_fields__]
    if dataclasses.is_dataclass(thing):
        return [getattr(thing, field.name) for field in dataclasses.fields(thing)]
    if isinstance(thing, Secret):
        return [thing._data]
    if isinstance(thing, Client | Server):
        return list(vars(thing).values())
    return ()


def leaks(error: BaseException, secrets: Secrets) -> list[str]:
    """Where a secret was found: the functions and names of local variables."""
    found = []
    for frame in library_frames(error):
        for name, value in frame.f_locals.items():
            waiting, seen = [value], set()
            while waiting:
                thing = waiting.pop()
                if id(thing) in seen:
                    continue
                seen.add(id(thing))
                if isinstance(thing, np.ndarray) and thing.dtype != object:
                    thing = thing.tobytes()
                if isinstance(thing, bytes | bytearray | memoryview):
                    if secrets.in_bytes(bytes(thing)):
                        found.append(f"{frame.f_code.co_qualname}: {name}")
                else:
                    waiting += parts(thing)
    return found
