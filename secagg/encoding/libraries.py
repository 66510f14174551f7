"""Arrays back to the library that they came from.

No library is imported: one that made the template's arrays has been, so that it is found among the loaded modules.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt


@final
@dataclass(frozen=True, slots=True)
class Origin:
    """Where an array of the template came from.

    Attributes:
        library: whose array it was.
        dtype: the library's own, as the library has it (``torch.bfloat16``); None keeps the type that an array has.
    """

    library: Literal["torch", "jax"]
    dtype: object


def origin_of(value: object) -> Origin | None:
    """The origin of a PyTorch tensor or a JAX array; None for anything else, which comes back as NumPy's."""
    if _is_a(value, "torch", "Tensor"):
        return Origin("torch", getattr(value, "dtype", None))
    if _is_a(value, "jax", "Array"):
        return Origin("jax", getattr(value, "dtype", None))
    return None


def restored(array: npt.NDArray[Any], origin: Origin) -> object:
    """The array as one of its library's, on the CPU (JAX: its default device), of the origin's dtype.

    Values beyond a narrower dtype's range become its largest.  NumPy's array itself where the library is not loaded,
    as in another process than the template's.
    """
    library: Any = sys.modules.get(origin.library)
    if library is None:
        return array
    if origin.library == "jax":
        return library.numpy.asarray(array)
    tensor = library.from_numpy(array)
    if origin.dtype is None or tensor.dtype == origin.dtype:
        return tensor
    limit = float(library.finfo(origin.dtype).max)  # only floats are of a dtype that NumPy has not
    return library.from_numpy(np.asarray(np.clip(array, -limit, limit), array.dtype)).to(origin.dtype)


def _is_a(value: object, library: str, kind: str) -> bool:
    found = getattr(sys.modules.get(library), kind, None)
    return isinstance(found, type) and isinstance(value, found)
