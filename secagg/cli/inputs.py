"""The clients' updates: made, read and encoded one at a time, so that nobody ever holds them all."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from secagg.cli.array_files import read_arrays
from secagg.cli.layout_options import LayoutOptions
from secagg.cli.precision import decimals_warning, lost_decimals
from secagg.encoding import Encoder, Exact, Template, UpdateEncoder
from secagg.encoding.limits import LARGEST_CLIP, SMALLEST_CLIP
from secagg.errors import InputError, ParameterError
from secagg.simulation import SeededRandomness

E = TypeVar("E", bound=UpdateEncoder)
Randomness: TypeAlias = Callable[[int], bytes]

_FEWEST: Final = 3
"""Clients of a round; see ``RoundConfig``."""
_SYNTHETIC_CLIP: Final = 1.0
_SPREADS_IN_CLIP: Final = 4.0
"""Random values are drawn from a normal distribution with a standard deviation of a fourth of the clip, so that few of
them are clipped."""


@dataclass(frozen=True, slots=True)
class Updates:
    """What the clients hold.

    Attributes:
        clients: how many there are.
        template: the names, shapes and dtypes of every update.
        layout: how they are encoded; each array has a clip or an exact range.
        of: makes the update of a client, the same each time.
        warnings: what encoding will lose, beyond what the encoder itself counts.
    """

    clients: int
    template: Template
    layout: LayoutOptions
    of: Callable[[int], Any]
    warnings: Sequence[str] = field(default=())


def synthetic(clients: int, dim: int, layout: LayoutOptions, seed: int) -> Updates:
    """Normal values, four spreads wide, cut off at the clip; whole numbers in an exact layout's range, at its scale.

    A function of seed and client.
    """
    template = Template.from_shapes((dim,))
    name = template.leaves[0].name
    exact = layout.exact_of([name]).get(name)
    clip = layout.clips_of([name]).get(name)
    largest = _SYNTHETIC_CLIP if clip is None else clip

    def of(client: int) -> npt.NDArray[Any]:
        draw = np.random.default_rng([seed, client])
        if exact is not None:
            return _exact_values(draw, dim, exact)
        values = draw.standard_normal(dim, np.float32)
        values *= largest / _SPREADS_IN_CLIP
        return np.clip(values, -largest, largest, out=values)

    return Updates(clients, template, layout if clip is not None else replace(layout, clip=largest), of)


def _exact_values(draw: np.random.Generator, dim: int, exact: Exact) -> npt.NDArray[Any]:
    units = draw.integers(exact.low * exact.units, exact.high * exact.units, dim, endpoint=True)
    return units / exact.units if exact.decimals else units


def from_files(files: Sequence[Path], layout: LayoutOptions) -> Updates:
    """One file a client.  An array that the layout has no clip for gets its largest absolute value in any file."""
    if len(files) < _FEWEST:
        raise ParameterError(
            f"--input: each file is one client, and a round needs at least {_FEWEST} of them, not {len(files)}"
        )
    template = _template_of(files[0])
    names = [leaf.name for leaf in template.leaves]
    layout.check_names(names)
    ranges = layout.exact_of(names)
    largest: dict[str, float] = {}
    lost: dict[str, float] = {}
    for file in files:
        try:
            for leaf, values in zip(template.leaves, template.flatten(read_arrays(file)), strict=True):
                if not np.isfinite(values.astype(np.float64)).all():
                    raise InputError(f"{leaf.name} holds NaN or infinite values: only finite ones can be summed")
                largest[leaf.name] = max(largest.get(leaf.name, 0.0), largest_of(values))
                if leaf.name in ranges:
                    amount = lost_decimals(values, ranges[leaf.name])
                    lost[leaf.name] = max(lost.get(leaf.name, 0.0), amount)
        except InputError as refused:
            if str(file) in str(refused):
                raise
            raise InputError(f"{file}: {refused} (the layout is that of {files[0]})") from refused
    if layout.clip is None:
        # Patterns of the user come first, and the first that matches counts.
        own = {glob.escape(name): min(max(value, SMALLEST_CLIP), LARGEST_CLIP) for name, value in largest.items()}
        layout = replace(layout, clip=_SYNTHETIC_CLIP, clips={**layout.clips, **own} | dict(layout.clips))
    warnings = [decimals_warning(name, amount, ranges[name]) for name, amount in lost.items() if amount]
    return Updates(len(files), template, layout, lambda client: read_arrays(files[client]), warnings)


def _template_of(file: Path) -> Template:
    try:
        return Template.of(read_arrays(file))
    except InputError as refused:
        if str(file) in str(refused):
            raise
        raise InputError(f"{file}: {refused}") from refused


def largest_of(values: npt.NDArray[Any]) -> float:
    """The largest absolute value; 0.0 of nothing."""
    if values.size == 0:
        return 0.0
    widened = values.astype(np.float64, copy=False)
    return max(abs(float(widened.max())), abs(float(widened.min())))


class RoundInputs(Generic[E]):
    """Encodes a client's update when the round asks for it, and keeps the plain totals to compare with: O(m) memory.

    Attributes:
        encode_s: by client, the CPU seconds of its encoding.
        encoder: everybody's; each client has randomness of its own.
        updates: what is encoded.
        largest: by array, the largest absolute value of all updates that were encoded.
    """

    def __init__(self, updates: Updates, seed: int, encoder_of: Callable[[Randomness], E]) -> None:
        """``encoder_of`` makes the encoder; ``seed`` gives each client the same randomness whenever it is encoded."""
        self.updates, self._seed = updates, seed
        self._randomness = SeededRandomness(seed, "rounding")
        self.encoder: Final = encoder_of(lambda length: self._randomness(length))
        self.encode_s: dict[int, float] = {}
        self.largest: dict[str, float] = {}
        self._summed: set[int] = set()
        self._clipped: dict[int, dict[str, int]] = {}
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

    def encoded_again(self, members: Collection[int]) -> npt.NDArray[np.uint64]:
        """The plain sum of these clients' vectors, each of them encoded once more, with the same randomness."""
        total = np.zeros(self.encoder.length, dtype=np.uint64)
        for client in members:
            self._randomness = SeededRandomness(self._seed, f"rounding of client {client}")
            total += self._vector_of(client, self.updates.of(client)).astype(np.uint64, copy=False)
        return total

    def clipped_of(self, included: Collection[int]) -> dict[str, int]:
        """By array, how many values of these clients were clipped."""
        found: dict[str, int] = {}
        for client in included:
            for name, count in self._clipped.get(client, {}).items():
                found[name] = found.get(name, 0) + count
        return found

    def flat(self, update: object) -> npt.NDArray[np.float64]:
        """An update as one vector."""
        return np.concatenate([part.astype(np.float64) for part in self.updates.template.flatten(update)])

    def _account(self, client: int, add: np.ufunc) -> tuple[npt.NDArray[np.unsignedinteger[Any]], float]:
        """The client's vector and the CPU seconds of its encoding; puts it into the totals, or takes it out."""
        update = self.updates.of(client)
        self._randomness = SeededRandomness(self._seed, f"rounding of client {client}")
        started = time.thread_time()
        vector = self._vector_of(client, update)
        spent = time.thread_time() - started
        self._clipped[client] = self.encoder.clipped
        for leaf, values in zip(self.updates.template.leaves, self.updates.template.flatten(update), strict=True):
            self.largest[leaf.name] = max(self.largest.get(leaf.name, 0.0), largest_of(values))
        add(self._encoded, vector, out=self._encoded)
        add(self._plain, self.flat(update), out=self._plain)
        return vector, spent

    def _vector_of(self, client: int, update: object) -> npt.NDArray[np.unsignedinteger[Any]]:
        """The update of a client as its vector."""
        return self.encoder.encode(update)


class EncodedInputs(RoundInputs[Encoder]):
    """The inputs of a round without noise."""

    def __init__(self, updates: Updates, bits: int, rounding_seed: int) -> None:
        """``rounding_seed`` makes each client's roundings, the same each time that it is encoded."""
        super().__init__(
            updates,
            rounding_seed,
            lambda randomness: updates.layout.encoder(updates.template, bits, randomness=randomness),
        )
