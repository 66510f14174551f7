"""The clients' updates: made, read and encoded one at a time, so that nobody ever holds them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.encoding import Encoder, Template, load_npz
from secagg.errors import InputError
from secagg.testing import SeededRandomness

_SYNTHETIC_CLIP: Final = 1.0
_SPREADS_IN_CLIP: Final = 4.0


@dataclass(frozen=True, slots=True)
class Updates:
    """What the clients hold.

    Attributes:
        clients: how many there are.
        template: the layout of every update.
        clip: the largest absolute value that the encoder keeps.
        of: makes the update of a client, the same each time.
    """

    clients: int
    template: Template
    clip: float
    of: Callable[[int], Any]


def synthetic(clients: int, dim: int, clip: float | None, seed: int) -> Updates:
    """Normal values, four spreads wide, cut off at the clip; a function of seed and client."""
    largest = _SYNTHETIC_CLIP if clip is None else clip

    def of(client: int) -> npt.NDArray[np.float32]:
        values = np.random.default_rng([seed, client]).standard_normal(dim, np.float32)
        values *= largest / _SPREADS_IN_CLIP
        return np.clip(values, -largest, largest, out=values)

    return Updates(clients, Template.from_shapes((dim,)), largest, of)


def from_files(files: Sequence[Path], clip: float | None) -> Updates:
    """One .npz archive a client.  Without a clip: the largest absolute value in any, so that none is cut off."""
    template = Template.of(load_npz(files[0]))
    largest = 0.0
    for file in files:
        try:
            for leaf, values in zip(template.leaves, template.flatten(load_npz(file)), strict=True):
                if not np.isfinite(values).all():
                    raise InputError(f"{leaf.name} holds NaN or infinite values: only finite ones can be summed")
                largest = max(largest, float(np.abs(values.astype(np.float64)).max(initial=0.0)))
        except InputError as refused:
            if str(file) in str(refused):
                raise
            raise InputError(f"{file}: {refused} (the layout is that of {files[0]})") from refused
    return Updates(len(files), template, clip or largest or _SYNTHETIC_CLIP, lambda client: load_npz(files[client]))


class EncodedInputs:
    """Encodes a client's update when the round asks for it, and keeps the plain totals to compare with: O(m) memory.

    Attributes:
        encode_s: by client, the CPU seconds of its encoding.
        encoder: that of client 0; the others differ in their random roundings alone.
    """

    def __init__(self, updates: Updates, bits: int, rounding_seed: int) -> None:
        """``rounding_seed`` makes each client's roundings, the same each time that it is encoded."""
        self._updates, self._bits, self._rounding_seed = updates, bits, rounding_seed
        self.encoder = self._encoder_of(0)
        self.encode_s: dict[int, float] = {}
        self._summed: set[int] = set()
        self._encoded = np.zeros(self.encoder.length, dtype=np.uint64)
        self._plain = np.zeros(updates.template.size, dtype=np.float64)

    def __call__(self, client: int) -> npt.NDArray[np.unsignedinteger[Any]]:
        """The client's vector."""
        vector, self.encode_s[client] = self._account(client, np.add)
        self._summed.add(client)
        return vector

    def totals_of(self, included: Collection[int]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64]]:
        """The plain sums of these clients' encoded vectors, and of their updates.

        Raises ValueError for a client whose vector was never asked for.
        """
        if strangers := set(included) - self._summed:
            raise ValueError(f"the vector of client {min(strangers)} was never asked for")
        for client in sorted(self._summed - set(included)):
            self._account(client, np.subtract)
            self._summed.remove(client)
        return self._encoded, self._plain

    def flat(self, update: object) -> npt.NDArray[np.float64]:
        """An update as one vector."""
        return np.concatenate([part.astype(np.float64) for part in self._updates.template.flatten(update)])

    def _account(self, client: int, add: np.ufunc) -> tuple[npt.NDArray[np.unsignedinteger[Any]], float]:
        """The client's vector and the CPU seconds of its encoding; puts it into the totals, or takes it out."""
        update, encoder = self._updates.of(client), self._encoder_of(client)
        started = time.thread_time()
        vector = encoder.encode(update)
        spent = time.thread_time() - started
        add(self._encoded, vector, out=self._encoded)
        add(self._plain, self.flat(update), out=self._plain)
        return vector, spent

    def _encoder_of(self, client: int) -> Encoder:
        return Encoder(
            self._updates.template,
            clip=self._updates.clip,
            bits=self._bits,
            randomness=SeededRandomness(self._rounding_seed, f"rounding of client {client}"),
        )
