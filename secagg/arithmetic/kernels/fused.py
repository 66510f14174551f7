"""Whether masks are made by the kernels of ``kernels.aes``, which is not imported before that is decided.

They are, where they are faster and trusted:

- The environment variable SECAGG_FUSED_AES is not 0.
- Numba is loaded already, as it is once a process has shared a secret or packed an odd width, or one call has 4 GiB of
  keystream to make.  A process that masks little, and then ends, does not load and compile for it.
- What Numba compiles for has AES instructions.  Modulo a prime, where more is to be done to each stream than to add it
  up, only those that work on two blocks at least help, and only with eight streams or more in a call.
- The kernels gave known answers when this process first used them.  A wrong one, or a Numba in which they cannot be
  compiled, is told in one warning, and from then on the process does without them.

Nothing else matters, and whatever is chosen, the masks are the same.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import warnings
from functools import cache
from types import ModuleType
from typing import Final

import numpy as np

from secagg.arithmetic.modulus import Modulus

SWITCH: Final = "SECAGG_FUSED_AES"
WORTH_LOADING: Final = 1 << 32
"""Bytes of keystream that take a library as long as it takes to load Numba and the kernels from their cache."""
FEWEST_STREAMS: Final = 8
"""Modulo a prime, the sum of that many is worth the kernels' reduction of it."""

TRIED: Final = {
    8: (Modulus.ring(8), Modulus(251)),
    16: (Modulus.ring(16), Modulus(32771)),
    32: (Modulus.ring(32), Modulus(2147483659)),
    64: (Modulus.ring(64), Modulus(2049638230412172427)),
}
"""By lane bits: what the kernels are tried with.  The primes reject many candidates."""

# By modulus and key bytes, see ``_answer``; computed with ``cryptography``, as the tests do again.
_KNOWN_ANSWERS: Final = {
    (2**8, 16): "7761336f77d13f70",
    (2**8, 32): "131f2c8fd3f421aa",
    (251, 16): "9ce48cc38e8d0c2d",
    (251, 32): "3f8c1a57f3b1bd06",
    (2**16, 16): "a257df88ccf89a3e",
    (2**16, 32): "aa44170c6b948bfb",
    (32771, 16): "2397e3135e930e54",
    (32771, 32): "8848a14b0c05d288",
    (2**32, 16): "945d3675a4a8cc74",
    (2**32, 32): "e0a8bc222f8c2bfa",
    (2147483659, 16): "0b99d94232320dc2",
    (2147483659, 32): "7d1845a288e66af3",
    (2**64, 16): "3bfafbd84b955e79",
    (2**64, 32): "dff56c3ead97b6cc",
    (2049638230412172427, 16): "d5eaf49d2a0e894b",
    (2049638230412172427, 32): "878f796ae72f2053",
}

_lock = threading.Lock()
_fault: object = None


def kernels_for(modulus: Modulus, key_bytes: int, streams: int, vector_bytes: int) -> ModuleType | None:
    """The module of kernels if they are to make the masks of a call, else None.

    Args:
        modulus: of the vector that the masks are added to.
        key_bytes: 16 or 32.
        streams: how many masks.
        vector_bytes: of each of them.
    """
    if os.environ.get(SWITCH) == "0" or (not modulus.is_ring and streams < FEWEST_STREAMS):
        return None
    if "numba" not in sys.modules and streams * vector_bytes < WORTH_LOADING:
        return None
    tried = TRIED[modulus.lane_bits][not modulus.is_ring]
    with _lock:  # one thread compiles, the others wait for it
        kernels = _load()
        blocks: int = kernels.BLOCKS if kernels else 0
        return kernels if blocks >= (1 if modulus.is_ring else 2) and _is_trusted(tried, key_bytes) else None


@cache
def _load() -> ModuleType | None:
    try:
        from secagg.arithmetic.kernels import aes
    except Exception as fault:  # whatever is raised by a Numba other than those that this was written for
        _refuse(fault)
        return None
    return aes


@cache
def _is_trusted(tried: Modulus, key_bytes: int) -> bool:
    """Compile or load a kernel, and try it."""
    if _fault is not None:
        return False
    try:
        answer = _answer(tried, key_bytes)
    except Exception as fault:  # as above
        _refuse(fault)
        return False
    if answer != _KNOWN_ANSWERS[tried.value, key_bytes]:
        _refuse("they gave a wrong keystream")
    return _fault is None


def _answer(modulus: Modulus, key_bytes: int) -> str:
    """A digest of sums of streams: over several groups, from within a block to within another, counters that carry."""
    from secagg.arithmetic.kernels import aes

    schedules = aes.expand_keys(bytes(range(3 * key_bytes)), key_bytes)
    vector = np.zeros(1500 * 8 // modulus.lane_bits, dtype=modulus.dtype)
    aes.add_streams(vector, schedules[:1], modulus, negate=False, block=(3 << 64) - 9, skip=1)
    aes.add_streams(vector, schedules, modulus, negate=True, block=(1 << 32) - 10, skip=1)
    return hashlib.sha256(vector.tobytes()).hexdigest()[:16]


def _refuse(fault: object) -> None:
    global _fault
    if _fault is None:
        _fault = fault
        warnings.warn(
            f"secagg does not use its AES kernels ({fault}): masks come from the library's keystream, which is slower; "
            f"{SWITCH}=0 in the environment says that this is all right",
            RuntimeWarning,
            stacklevel=2,
        )
