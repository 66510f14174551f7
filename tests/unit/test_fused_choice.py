"""When the AES kernels are taken: on which targets, by which rules, and what happens where they are not trusted."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from llvmlite import binding
from numba.core.registry import cpu_target

import secagg
from secagg import Suite
from secagg.arithmetic import Modulus
from secagg.arithmetic.kernels import aes, fused
from secagg.primitives import masking
from tests.support.installs import read_only_install

Lanes = npt.NDArray[np.unsignedinteger]

ROOT = Path(secagg.__file__).parents[1]
KEYS = {
    size: tuple(hashlib.sha256(bytes((size, index))).digest()[:size] for index in range(9)) for size in (16, 32)
}  # fmt: skip
SUITES = {suite.key_bytes: suite for suite in (Suite.AES_128, Suite.AES_256)}
RINGS = tuple(Modulus.ring(lane_bits) for lane_bits in (8, 16, 32, 64))

on_kernels = pytest.mark.skipif(not aes.BLOCKS, reason="what Numba compiles for has no AES instructions")


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No environment variable, and what this process believes of its kernels is forgotten, before a test and after."""
    monkeypatch.delenv(fused.SWITCH, raising=False)
    forget()
    yield
    monkeypatch.undo()
    forget()


def forget() -> None:
    fused._fault = None
    fused._load.cache_clear()
    fused._is_trusted.cache_clear()


def library_mask(
    suite: Suite, keys: tuple[bytes, ...], others: tuple[bytes, ...], start: int, stop: int, modulus: Modulus
) -> Lanes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(fused.SWITCH, "0")
        return masking.net_mask(suite, keys, others, start, stop, modulus)


# Which targets have AES.

SSE = "+sse,+sse2,+sse3,+ssse3,+sse4.1"
AVX = f"{SSE},+sse4.2,+avx,+avx2"
WIDE = f"{AVX},+fma,+f16c,+avx512f,+avx512bw,+avx512vl"
LINUX = "x86_64-unknown-linux-gnu"


@pytest.mark.parametrize(
    ("target", "blocks"),
    [
        ((LINUX, "znver4", f"{WIDE},+aes,+vaes"), 4),
        (("x86_64-apple-darwin23", "generic", f"{WIDE},+aes,+vaes,-avx10.1"), 4),
        ((LINUX, "znver4", f"{WIDE},+aes,+vaes,-evex512"), 2),
        ((LINUX, "znver4", f"{WIDE},+aes,+vaes,-fma"), 2),
        ((LINUX, "znver4", f"{WIDE},+aes,+vaes,-avx512vl"), 2),
        ((LINUX, "znver4", f"-avx2,{WIDE},+aes,+vaes"), 1),
        ((LINUX, "znver3", f"{AVX},+aes,+vaes"), 2),
        ((LINUX, "haswell", f"{WIDE},+aes,-vaes"), 1),
        ((LINUX, "haswell", f"{AVX},+aes"), 1),
        ((LINUX, "westmere", f"{SSE},+aes,-avx"), 1),
        ((LINUX, "znver4", f"{WIDE},+vaes"), 0),
        ((LINUX, "znver4", f"{WIDE},+aes,+vaes,-sse2"), 0),
        ((LINUX, "znver4", f"{WIDE},-aes,+vaes"), 0),
        ((LINUX, "znver4", ""), 0),
        ((LINUX, "generic", ""), 0),
        (("aarch64-unknown-linux-gnu", "neoverse-n1", f"{WIDE},+aes,+vaes"), 0),
        (("i386-unknown-linux-gnu", "znver4", f"{WIDE},+aes,+vaes"), 0),
        # Forms that Numba does not have, yet.
        (None, 0),
        ((), 0),
        ((LINUX, f"{WIDE},+aes,+vaes"), 0),
        ((LINUX, "znver4", f"{WIDE},+aes,+vaes", "more"), 0),
        ((LINUX, "znver4", {"aes": True}), 0),
        ((None, "znver4", f"{WIDE},+aes,+vaes"), 0),
        ({"triple": LINUX}, 0),
        (f"{LINUX},znver4,{WIDE},+aes", 0),
    ],
)
def test_what_a_target_has(target: Any, blocks: int) -> None:
    assert aes._blocks_of(target) == blocks


TARGET_SCRIPT = """
import hashlib, sys, warnings
from secagg import Suite
from secagg.primitives import masking
from secagg.arithmetic import Modulus
from secagg.arithmetic.kernels import fused
warnings.simplefilter("error")
if "load" in sys.argv:
    import numba
digest = hashlib.sha256()
for suite in (Suite.AES_128, Suite.AES_256):
    size = suite.key_bytes
    keys = [hashlib.sha256(bytes((size, index))).digest()[:size] for index in range(9)]
    for value in (2**8, 2**13, 2**32, 2**61, 32771, 2**61 - 1):
        for start, length in ((0, 1), (3, 3000), ((1 << 36) - 131, 611)):
            digest.update(masking.net_mask(suite, keys[:4], keys[4:], start, start + length, Modulus(value)).tobytes())
ring, prime = Modulus(2**32), Modulus(2**61 - 1)
print(*(fused.kernels_for(modulus, 16, 9, 1 << 20) is not None for modulus in (ring, prime)), digest.hexdigest())
"""


@functools.cache
def expected_digest() -> str:
    digest = hashlib.sha256()
    for size in (16, 32):
        for value in (2**8, 2**13, 2**32, 2**61, 32771, 2**61 - 1):
            for start, length in ((0, 1), (3, 3000), ((1 << 36) - 131, 611)):
                mask = library_mask(SUITES[size], KEYS[size][:4], KEYS[size][4:], start, start + length, Modulus(value))
                digest.update(mask.tobytes())
    return digest.hexdigest()


def run(source: str, *arguments: str, root: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("NUMBA_") and name != fused.SWITCH
    }
    return subprocess.run(
        [sys.executable, "-c", source, *arguments],
        env={**inherited, "PYTHONPATH": str(root), **environment},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def host_features(*, without: tuple[str, ...]) -> str:
    """All of this processor's, but those that begin in one of these ways."""
    features = binding.get_host_cpu_features()
    return ",".join(
        f"{'+' if has and not name.startswith(without) else '-'}{name}" for name, has in sorted(features.items())
    )


def host_has(*names: str) -> bool:
    features = binding.get_host_cpu_features()
    return all(features.get(name, False) for name in names)


IS_X86 = binding.get_process_triple().startswith("x86_64")
HAS_AES = IS_X86 and host_has("aes", "sse4.1")
HAS_VAES = HAS_AES and host_has("vaes", "avx2")
HAS_WIDE = HAS_VAES and host_has("avx512f", "avx512bw", "avx512vl")
NO_WIDE: dict[str, str] = {"NUMBA_CPU_FEATURES": host_features(without=("avx512", "avx10"))}
NO_VAES: dict[str, str] = {"NUMBA_CPU_FEATURES": host_features(without=("avx512", "avx10", "vaes"))}
NO_AVX: dict[str, str] = {
    "NUMBA_CPU_FEATURES": host_features(without=("avx", "vaes", "vpclmulqdq", "fma", "f16c", "xop", "sm3", "sha512"))
}


@pytest.mark.parametrize(
    ("environment", "taken"),
    [
        ({}, (HAS_AES, HAS_VAES)),
        ({"SECAGG_FUSED_AES": "0"}, (False, False)),
        ({"NUMBA_DISABLE_JIT": "1"}, (False, False)),
        ({"NUMBA_CPU_NAME": "generic"}, (False, False)),
        ({"NUMBA_CPU_FEATURES": ""}, (False, False)),
        ({"NUMBA_CPU_NAME": "generic", **NO_WIDE}, (HAS_AES, HAS_VAES)),
        (NO_WIDE, (HAS_AES, HAS_VAES)),
        (NO_VAES, (HAS_AES, False)),
        (NO_AVX, (HAS_AES, False)),
        ({"NUMBA_ENABLE_AVX": "0"}, (HAS_AES, False)),
    ],
    ids=("host", "off", "no-jit", "generic", "no-features", "named-generic", "avx2-vaes", "aes-ni", "sse", "numba-sse"),
)
def test_every_kind_of_target_gives_the_same_masks(environment: dict[str, str], taken: tuple[bool, bool]) -> None:
    result = run(TARGET_SCRIPT, "load", **environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == [*map(str, taken), expected_digest()]


# When kernels are taken.


def test_a_process_that_masks_little_does_not_load_numba() -> None:
    source = """
import sys, numpy as np
from secagg import Suite
from secagg.primitives import masking
from secagg.arithmetic import Modulus
from secagg.arithmetic.kernels import fused
modulus, keys = Modulus.ring(32), [bytes(16)] * 100
masking.apply_masks(Suite.AES_128, np.zeros(10_000, np.uint32), keys, keys, modulus)
assert fused.kernels_for(modulus, 16, 1, fused.WORTH_LOADING - 1) is None
assert "numba" not in sys.modules
fused.kernels_for(modulus, 16, 1 << 12, fused.WORTH_LOADING >> 12)
print("numba" in sys.modules)
"""
    result = run(source)
    assert (result.stdout.strip(), result.stderr) == ("True", "")
    result = run(source, SECAGG_FUSED_AES="0")
    assert (result.stdout.strip(), result.stderr) == ("False", "")


@pytest.mark.parametrize(
    ("modulus", "blocks", "streams", "taken"),
    [
        (Modulus.ring(20), 0, 1000, False),
        (Modulus.ring(20), 1, 1, True),
        (Modulus.ring(20), 4, 1, True),
        (Modulus(2**31 - 1), 1, 1000, False),
        (Modulus(2**31 - 1), 2, 7, False),
        (Modulus(2**31 - 1), 2, 8, True),
        (Modulus(2**31 - 1), 4, 8, True),
    ],
)
def test_what_helps(modulus: Modulus, blocks: int, streams: int, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_load", lambda: SimpleNamespace(BLOCKS=blocks))
    monkeypatch.setattr(fused, "_is_trusted", lambda tried, key_bytes: True)
    assert (fused.kernels_for(modulus, 16, streams, 1) is not None) == taken
    monkeypatch.setenv(fused.SWITCH, "0")
    assert fused.kernels_for(modulus, 16, streams, 1) is None
    monkeypatch.setenv(fused.SWITCH, "1")
    assert (fused.kernels_for(modulus, 16, streams, 1) is not None) == taken


def masks_with_warnings(*moduli: Modulus) -> tuple[bool, list[str]]:
    """Make masks of each kind: whether they are right, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        right = all(
            np.array_equal(
                masking.net_mask(suite, KEYS[size], (), 0, 100, modulus),
                library_mask(suite, KEYS[size], (), 0, 100, modulus),
            )
            for size, suite in SUITES.items()
            for modulus in moduli
        )
    return right, [str(warning.message) for warning in caught]


@on_kernels
def test_kernels_that_give_a_wrong_answer_are_not_used_and_said_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    right = aes.add_streams

    def wrong(vector: Lanes, *arguments: Any, **named: Any) -> None:
        right(vector, *arguments, **named)
        vector[-1] ^= 1

    monkeypatch.setattr(aes, "add_streams", wrong)
    right_masks, said = masks_with_warnings(*RINGS, Modulus(2**61 - 1))
    assert right_masks
    assert len(said) == 1
    assert "wrong keystream" in said[0]
    assert "SECAGG_FUSED_AES=0" in said[0]


@on_kernels
def test_kernels_that_do_not_compile_are_not_used_and_said_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> Any:
        raise NotImplementedError("a Numba of another shape")

    monkeypatch.setattr(aes, "_ring_adder", fails)
    monkeypatch.setattr(aes, "_prime_adder", fails)
    right_masks, said = masks_with_warnings(*RINGS, Modulus(2**61 - 1))
    assert right_masks
    assert len(said) == 1
    assert "a Numba of another shape" in said[0]


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of kernels will be imported again."""
    monkeypatch.delitem(sys.modules, "secagg.arithmetic.kernels.aes")
    monkeypatch.delattr(secagg.arithmetic.kernels, "aes")


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("name", ["numba.core.cgutils", "numba.core.registry", "numba.np.arrayobj", "llvmlite.ir"])
def test_a_numba_that_lacks_what_is_imported_from_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package, _, module = name.rpartition(".")
    monkeypatch.delattr(sys.modules[package], module)
    monkeypatch.setitem(sys.modules, name, None)
    right, said = masks_with_warnings(*RINGS)
    assert right
    assert len(said) == 1
    assert module in said[0]


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    "told", [None, (), ("x86_64", "znver4"), ("x86_64", "znver4", {"aes": True}), OSError("what?")]
)
def test_a_numba_that_tells_of_its_target_in_another_way(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def magic_tuple(self: Any) -> Any:
        if isinstance(told, OSError):
            raise told
        return told

    monkeypatch.setattr(type(cpu_target.target_context.codegen()), "magic_tuple", magic_tuple)
    right, said = masks_with_warnings(*RINGS)
    assert right
    assert len(said) == isinstance(told, OSError)
    assert fused.kernels_for(Modulus.ring(32), 16, 10, 1000) is None


# How kernels are cached.


@pytest.fixture(scope="module")
def filled_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    result = run(TARGET_SCRIPT, "load", NUMBA_CACHE_DIR=str(cache))
    assert (result.returncode, result.stderr) == (0, "")
    return cache


@on_kernels
def test_the_next_process_takes_the_kernels_from_the_cache(filled_cache: Path) -> None:
    made = {path.name.partition("-")[0] for path in filled_cache.rglob("aes.*.nbc")}
    rings = {f"aes.add_to_ring_{bits}_{rounds}_x{aes.BLOCKS}" for bits in (8, 16, 32, 64) for rounds in (10, 14)}
    assert made >= rings | {f"aes.expand_keys_x{aes.BLOCKS}"}
    result = run(TARGET_SCRIPT, "load", NUMBA_CACHE_DIR=str(filled_cache), NUMBA_DEBUG_CACHE="1")
    assert result.stdout.split()[-1] == expected_digest()
    assert "data saved" not in result.stdout
    loaded = [line for line in result.stdout.splitlines() if "data loaded" in line]
    assert all(any(f"{name}-" in line for line in loaded) for name in rings)


@on_kernels
@pytest.mark.skipif(not HAS_VAES, reason="this processor has one kind of target only")
def test_another_target_has_its_own_kernels(filled_cache: Path, tmp_path: Path) -> None:
    shutil.copytree(filled_cache, tmp_path, dirs_exist_ok=True)
    result = run(TARGET_SCRIPT, "load", NUMBA_CACHE_DIR=str(tmp_path), **NO_VAES)
    assert result.stdout.split() == ["True", "False", expected_digest()]
    assert {path.name for path in tmp_path.rglob("aes.*_x1-*.nbc")}


@on_kernels
def test_a_read_only_install_without_a_cache(tmp_path: Path) -> None:
    nowhere = read_only_install(tmp_path)
    result = run(TARGET_SCRIPT.replace('"error"', '"once"'), "load", root=tmp_path, **nowhere)
    assert result.stdout.split() == [str(HAS_AES), str(HAS_VAES), expected_digest()]
    assert result.stderr.count("RuntimeWarning") == 1
    assert "NUMBA_CACHE_DIR" in result.stderr
