"""How kernels are compiled, and nothing else: the one place that calls Numba's ``njit``.

Machine code is cached on disk: next to the source, else in the user's cache directory, or in NUMBA_CACHE_DIR.  Where
none of them can be written, as in a read-only install, kernels are compiled once a process, and a warning says so.

Rules for whoever writes a kernel:

- every constant is an ``np.uint64``, or of the array's own dtype: ``uint64_array[i] % 5`` is typed int64 by Numba;
- a kernel calls only kernels of its own file: the cache of a file is stale when that file changes, and only then;
- no ``parallel`` (threads come from the caller's executor; kernels release the GIL), no ``fastmath``;
- values may be secret: select, do not jump, and index nothing by them.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any, Final, Literal, TypeVar

import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])

# No cache directory at all; one that cannot be written after all; index or data files cut short by a crash.
_CACHE_FAULTS: Final = (RuntimeError, OSError, EOFError, UnpicklingError)

_warned = False


def kernel(function: Function) -> Function:
    """Compile a function, when it is first called, for the types that it is called with."""
    return _jit(function, None)


def specialised(function: Function, name: str, *arguments: Any) -> Function:
    """Compile a closure now, for one signature; what it closes over becomes constants.

    Args:
        function: the kernel; captured variables are hashed into the key of the cache, so they must be plain values.
        name: unique in its file for every combination of captured values and argument types.  It names the cache's
            files: Numba numbers the entries of a file, and two processes that add different ones at the same time can
            give one number to both, so that a later process would load the wrong machine code.
        arguments: Numba types, from ``array_of`` and ``scalar_of``.
    """
    function.__name__ = function.__qualname__ = name
    return _jit(function, arguments)


def array_of(dtype: Any, dimensions: int = 1, *, writable: bool = True, contiguous: bool = True) -> Any:
    """The Numba type of arrays; those that are not contiguous need not be aligned either."""
    from numba import from_dtype, types

    layout: Literal["C", "A"] = "C" if contiguous else "A"
    element: Any = from_dtype(np.dtype(dtype))
    return types.Array(element, dimensions, layout, readonly=not writable, aligned=contiguous)


def scalar_of(dtype: Any) -> Any:
    """The Numba type of numbers."""
    from numba import from_dtype

    return from_dtype(np.dtype(dtype))


def is_loaded() -> bool:
    """Whether Numba was imported by something else, and compiles: then a kernel costs no more than its own loading."""
    if sys.modules.get("numba") is None:
        return False
    import numba  # another thread may be in the midst of it

    settings: Any = numba.config
    return not settings.DISABLE_JIT


def target() -> Any:
    """What Numba compiles for, (triple, processor, features), the latter as "+aes,-avx,..."; None when it does not.

    It need not be the host: NUMBA_CPU_NAME and NUMBA_CPU_FEATURES can ask for less.  It is not from a public interface.
    """
    import numba
    from numba.core.registry import cpu_target

    settings: Any = numba.config
    return None if settings.DISABLE_JIT else cpu_target.target_context.codegen().magic_tuple()


def features_of(target: Any) -> frozenset[str]:
    """What an x86-64 target has, in LLVM's names; nothing for other processors, or when it is told in another form."""
    match target:
        case (str(triple), _, str(listed)) if triple.startswith("x86_64"):
            features = listed.split(",")
        case _:
            return frozenset()
    missing = {feature[1:] for feature in features if feature.startswith("-")}
    return frozenset(feature[1:] for feature in features if feature.startswith("+")) - missing


@contextmanager
def first_compilation(then: Callable[[], object]) -> Iterator[None]:
    """Call ``then`` when, in this block, a kernel is compiled for the first time; one from the cache does not count."""
    from numba.core import event

    class FirstStart(event.Listener):
        has_come = False

        def on_start(self, _: object) -> None:
            if not self.has_come:
                self.has_come = True
                then()

        def on_end(self, _: object) -> None:
            pass

    with event.install_listener("numba:compile", FirstStart()):
        yield


def _jit(function: Function, signature: Any) -> Function:
    import numba

    settings: Any = numba.config
    if settings.DISABLE_JIT:
        # As plain Python, where wrap-around, which is meant, would warn.
        return function if signature is None else np.errstate(over="ignore")(function)
    try:
        compiled: Function = numba.njit(signature, cache=True, nogil=True)(function)
    except _CACHE_FAULTS as fault:
        _warn_once(fault)
        compiled = numba.njit(signature, nogil=True)(function)
    if signature is None:
        _bear_with_cache(compiled)
    return compiled


def _bear_with_cache(dispatcher: Any) -> None:
    """A kernel without a signature is loaded when it is first called, and saved after that: faults must not get out.

    Numba has no public way to it; where it keeps its cache in another way, nothing is changed.
    """
    cache = getattr(dispatcher, "_cache", None)
    for name in ("load_overload", "save_overload"):
        if method := getattr(cache, name, None):
            setattr(cache, name, _guarded(method))


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except _CACHE_FAULTS as fault:
            _warn_once(fault)
            return None  # not in the cache, and not put there

    return call


def _warn_once(fault: BaseException) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"secagg cannot cache its compiled kernels ({fault}): every process will compile them again, 0.1 to 0.2 s "
            "each; set NUMBA_CACHE_DIR to a directory that can be written",
            RuntimeWarning,
            stacklevel=2,
        )
