"""A Flower model to a vector of the protocol and back."""

from __future__ import annotations

import hashlib
import json
from fnmatch import fnmatchcase
from tokenize import TokenError
from typing import Any, Final, final
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord

from secagg.adapters.flower.records import Layout
from secagg.encoding import Encoder
from secagg.encoding.sums import SumResult
from secagg.errors import InputError, ParameterError

_REAL: Final = "biuf"
_CONTEXT_LABEL: Final = b"secagg flower context 1\n"


@final
class Codec:
    """Turns a client's arrays into the vector that it submits, and the sum of such vectors into the mean arrays.

    Both sides make one from the model that was sent out, the layout, and the digest of what else the app is told;
    ``context`` is equal for the two exactly when all three are.
    """

    def __init__(self, model: ArrayRecord, layout: Layout, told: bytes) -> None:
        """Raises ParameterError or InputError for a model or a layout that cannot be encoded; they name the array."""
        self.layout = layout
        self._told = told
        self._model = {name: _numbers(name, array) for name, array in model.items()}
        self._digest = _digest(model)
        if unknown := sorted(layout.clips.keys() - self._model.keys()):
            raise ParameterError(f"clips: {unknown[0]!r} is no array of the model; it has {', '.join(self._model)}")
        self.encoder = Encoder(self._model, layout.clip, layout.bits, layout.max_weight)
        for name, clip in layout.clips.items():
            if not 1e-100 <= clip <= 1e100:
                raise ParameterError(f"clips: {name} has {clip!r}; a clip is a number from 1e-100 to 1e100")

    @property
    def context(self) -> bytes:
        """32 bytes that name all that clients train from, and how it is encoded: the round's public context."""
        parts = (self._digest, self._told, self.encoder.layout_digest(), self.layout.to_bytes())
        return hashlib.sha256(_CONTEXT_LABEL + b"".join(parts)).digest()

    def error_bound(self, count: int, total_weight: int, name: str | None = None) -> float:
        """The most by which a value of the mean can differ from the exact one, before it is cast; of array ``name``."""
        bound = self.encoder.error_bound(count, total_weight if self.layout.max_weight is not None else None)
        return bound * (self.layout.clips.get(name or "", self.layout.clip) / self.layout.clip)

    def encode(self, arrays: ArrayRecord, weight: int) -> tuple[npt.NDArray[np.unsignedinteger], dict[str, int]]:
        """The vector, and by array how many values were clipped.

        Raises InputError for arrays that are not those of the model, hold what is not finite, or are of whole numbers
        beyond their clip: a counter that is cut off is wrong, where a clipped weight is only moderate.
        """
        vector = self.encoder.encode({name: self._scaled(name, array) for name, array in arrays.items()}, weight)
        clipped = self.encoder.clipped
        for name in clipped:
            # A counter that Flower has averaged is a float in the model, and a whole number again at the client.
            if self._model[name].dtype.kind != "f" or not arrays[name].dtype.startswith("float"):
                raise InputError(
                    f"{name} holds whole numbers beyond its clip of {self.layout.clips.get(name, self.layout.clip)}: "
                    f"give the strategy clips={{{name!r}: ...}} with a larger one, or leave the array out of the model"
                )
        return vector, clipped

    def nothing(self) -> npt.NDArray[np.unsignedinteger]:
        """The vector of a client that adds nothing to the mean: zeros of weight zero, when there are weights."""
        return self.encoder.encode({name: np.zeros(array.shape) for name, array in self._model.items()}, 0)

    def decode(self, result: SumResult) -> tuple[ArrayRecord, int]:
        """The mean arrays and the total weight.

        Floats come back in the model's own type, all else as float64: so does an average of whole numbers in Flower.
        Raises InputError when the total weight is zero, or the sum is none that clients can have.
        """
        mean = self.encoder.decode(result)
        return ArrayRecord({name: Array(self._restored(name, mean.mean[name])) for name in self._model}), mean.weight

    def _scaled(self, name: str, array: Array) -> npt.NDArray[Any]:
        value, base = _numbers(name, array), self._model.get(name)
        if base is None or value.shape != base.shape or value.dtype.kind not in _REAL:
            return value  # the encoder says what is wrong with it
        if self.layout.difference:
            # In float64, where the difference of two float32 or of two counters is exact.
            value = np.asarray(np.subtract(value, base, dtype=np.float64))
        if name in self.layout.clips:
            value = np.asarray(np.multiply(value, self.layout.clip / self.layout.clips[name], dtype=np.float64))
        return value

    def _restored(self, name: str, mean: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        base = self._model[name]
        if name in self.layout.clips:
            mean = mean * (self.layout.clips[name] / self.layout.clip)
        if self.layout.difference:
            mean = mean + base.astype(np.float64)
        if base.dtype.kind != "f":
            return np.asarray(mean, np.float64)
        limit = float(min(np.finfo(base.dtype).max, np.finfo(np.float64).max))
        return np.asarray(np.clip(mean, -limit, limit), base.dtype)


def resolve_clips(model: ArrayRecord, patterns: dict[str, float]) -> dict[str, float]:
    """The clip of each array that a pattern matches; the first one counts.  Raises ParameterError for a useless one."""
    clips: dict[str, float] = {}
    for pattern, clip in patterns.items():
        matched = [name for name in model if fnmatchcase(name, pattern)]
        if not matched:
            raise ParameterError(f"clips: {pattern!r} matches no array of the model; it has {', '.join(model)}")
        for name in matched:
            clips.setdefault(name, float(clip))
    return clips


def _numbers(name: str, array: Array) -> npt.NDArray[Any]:
    try:
        values = array.numpy()
    except (TypeError, ValueError, EOFError, OSError, BadZipFile, MemoryError, OverflowError, TokenError) as wrong:
        raise InputError(f"{name} does not read as a NumPy array: {wrong}") from None
    if not isinstance(values, np.ndarray):  # numpy.load opens archives too
        raise InputError(f"{name} does not read as a NumPy array")
    return values


def _digest(model: ArrayRecord) -> bytes:
    """SHA-256 over every array's name, type, shape and bytes."""
    total = hashlib.sha256()
    for name, array in model.items():
        header = json.dumps([name, array.dtype, list(array.shape), array.stype, len(array.data)], ensure_ascii=True)
        total.update(len(header).to_bytes(4, "little") + header.encode("ascii") + array.data)
    return total.digest()
