"""The kernels one by one, with pytest-benchmark; masks beside the speed of the raw keystream.

    pip install -e ".[bench]"
    python -m pytest benchmarks/test_kernels.py

Everything runs once before it is timed, so that nothing is compiled then.  One thread: its CPU time; two threads: wall
time, so that other work on the machine shows.  The raw keystream is that of ``cryptography``, in blocks of 256 KiB on
as many threads, timed right before and after each mask kernel: the better one counts.  A table at the end holds the
best time of each kernel, and of masks the ratio of their speed to that of the raw keystream, which is in the JSON of
``--benchmark-json`` as well.  With SECAGG_FUSED_AES=0, or where there are no fused kernels, those rows are left out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from secagg import Encoder, Modulus, Suite, arithmetic
from secagg.arithmetic.kernels import fused
from secagg.arithmetic.modulus import MERSENNE_61
from secagg.pairwise import messages, records, transcript
from secagg.primitives import masking, secret_sharing

pytest.importorskip("pytest_benchmark")

ELEMENTS = 1_000_000
MASKS = 100
SHORT, MANY = 1_000, 20_000
SUITES = {"AES-128": Suite.AES_128, "AES-256": Suite.AES_256}
MODULI = [*map(Modulus.ring, (8, 16, 20, 32, 40, 64)), *map(Modulus, (65537, 2**31 - 1, 4293918721, MERSENNE_61))]
WIDTHS = (7, 12, 20, 26, 32, 40, 61)
HOLDERS, THRESHOLD, SECRETS = 999, 667, 1_000

RAW_BLOCK, RAW_BYTES = 1 << 18, 1 << 26

Row = tuple[str, str, str, str]


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest) -> Iterator[list[Row]]:
    """The summary; printed when all is done."""
    found: list[Row] = []
    yield found
    widths = [max(len(row[column]) for row in found) for column in range(4)] if found else []
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print()
        for row in found:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def timed(benchmark: Any, rows: list[Row], request: pytest.FixtureRequest) -> Callable[..., float]:
    """Times a call and adds it to the summary; the best seconds, or 0.0 where timing is switched off."""

    def run(call: Callable[[], object], what: str, items: int, unit: str) -> float:
        call()
        benchmark(call)
        if benchmark.stats is None:
            return 0.0
        best: float = benchmark.stats.stats.min
        speed = scaled(items / best, {"G": 1e9, "M": 1e6, "k": 1e3}, f"{unit}/s")
        benchmark.extra_info["speed"] = speed
        rows.append((what, scaled(best, {"": 1, "m": 1e-3, "u": 1e-6}, "s"), speed, ""))
        return best

    return run


def scaled(value: float, prefixes: dict[str, float], unit: str) -> str:
    prefix, factor = next((found for found in prefixes.items() if value >= found[1]), list(prefixes.items())[-1])
    return f"{value / factor:,.4g} {prefix}{unit}"


# Masks.


def raw_speed(key_bytes: int, threads: int, executor: ThreadPoolExecutor) -> float:
    """Bytes of keystream a second."""
    clock = time.thread_time if threads == 1 else time.perf_counter

    def make(_: int) -> None:
        encryptor = Cipher(AES(os.urandom(key_bytes)), CTR(bytes(16))).encryptor()
        zeros, out = bytes(RAW_BLOCK), bytearray(RAW_BLOCK)
        for _block in range(RAW_BYTES // RAW_BLOCK):
            encryptor.update_into(zeros, out)

    def elapsed() -> float:
        started = clock()
        list((map if threads == 1 else executor.map)(make, range(threads)))
        return clock() - started

    return threads * RAW_BYTES / min(elapsed() for _ in range(3))


@pytest.fixture(params=["library", "fused"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the keystream of masks comes from; numba is loaded, without which nothing is fused."""
    if request.param == "library":
        monkeypatch.setenv(fused.SWITCH, "0")
    arithmetic.pack(np.zeros(8, np.uint8), Modulus.ring(7))
    return str(request.param)


def time_masks(
    timed: Any, benchmark: Any, rows: list[Row], executor: ThreadPoolExecutor, source: str,
    modulus: Modulus, suite: str, length: int, masks: int, threads: int = 1,
) -> None:  # fmt: skip
    key_bytes = SUITES[suite].key_bytes
    vector = np.zeros(length, modulus.dtype)
    if source == "fused" and fused.kernels_for(modulus, key_bytes, masks, vector.nbytes) is None:
        pytest.skip("no fused kernel here")
    keys = [os.urandom(key_bytes) for _ in range(masks)]
    before = raw_speed(key_bytes, threads, executor)
    best = timed(
        lambda: masking.remove_masks(
            SUITES[suite], vector, keys[: masks // 2], keys[masks // 2 :], modulus, executor if threads > 1 else None
        ),
        f"{masks:,} x {length:,} masked, {suite}, mod {modulus}, {threads} thread{'s' * (threads > 1)}, {source}",
        masks * vector.nbytes,
        "B",
    )
    if best:
        ratio = masks * vector.nbytes / best / max(before, raw_speed(key_bytes, threads, executor))
        benchmark.extra_info["ratio to the raw keystream"] = round(ratio, 3)
        rows[-1] = (*rows[-1][:3], f"{ratio:.2f} x raw keystream")


@pytest.mark.benchmark(group="masks", timer=time.thread_time, max_time=0.5)
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("modulus", MODULI, ids=str)
def test_masks(
    modulus: Modulus, suite: str, source: str, timed: Any, benchmark: Any, rows: list[Row], executor: ThreadPoolExecutor
) -> None:
    time_masks(timed, benchmark, rows, executor, source, modulus, suite, ELEMENTS, MASKS)


@pytest.mark.benchmark(group="masks on two threads", max_time=0.5)
@pytest.mark.parametrize("modulus", [Modulus.ring(32), Modulus.ring(64), Modulus(MERSENNE_61)], ids=str)
def test_masks_on_two_threads(
    modulus: Modulus, source: str, timed: Any, benchmark: Any, rows: list[Row], executor: ThreadPoolExecutor
) -> None:
    time_masks(timed, benchmark, rows, executor, source, modulus, "AES-128", ELEMENTS, MASKS, threads=2)


@pytest.mark.benchmark(group="many short masks", timer=time.thread_time, max_time=0.5)
@pytest.mark.parametrize("modulus", [Modulus.ring(32), Modulus(MERSENNE_61)], ids=str)
def test_many_short_masks(
    modulus: Modulus, source: str, timed: Any, benchmark: Any, rows: list[Row], executor: ThreadPoolExecutor
) -> None:
    time_masks(timed, benchmark, rows, executor, source, modulus, "AES-128", SHORT, MANY)


@pytest.mark.benchmark(group="one mask", timer=time.thread_time, max_time=0.5)
@pytest.mark.parametrize("modulus", [Modulus.ring(32), Modulus(MERSENNE_61)], ids=str)
def test_one_mask(
    modulus: Modulus, source: str, timed: Any, benchmark: Any, rows: list[Row], executor: ThreadPoolExecutor
) -> None:
    time_masks(timed, benchmark, rows, executor, source, modulus, "AES-128", ELEMENTS, 1)


# Packing.


@pytest.mark.benchmark(group="packing", timer=time.thread_time, max_time=0.5)
@pytest.mark.parametrize("bits", WIDTHS)
def test_packing(bits: int, timed: Any) -> None:
    modulus = Modulus.ring(bits)
    vector = masking.expand(Suite.AES_128, bytes(16), 0, ELEMENTS, modulus)
    timed(lambda: arithmetic.pack(vector, modulus), f"packing {bits} bits", ELEMENTS, "elements")


@pytest.mark.benchmark(group="unpacking and adding", timer=time.thread_time, max_time=0.5)
@pytest.mark.parametrize("modulus", [*map(Modulus.ring, WIDTHS), Modulus(2**31 - 1), Modulus(MERSENNE_61)], ids=str)
def test_unpacking(modulus: Modulus, timed: Any) -> None:
    vector = masking.expand(Suite.AES_128, bytes(16), 0, ELEMENTS, modulus)
    packed = arithmetic.pack(vector, modulus)
    what = f"unpacking and adding mod {modulus}"
    timed(lambda: arithmetic.add_packed(vector, packed, modulus), what, ELEMENTS, "elements")


# Secret sharing.


def coefficients(secrets: int) -> Any:
    drawn = masking.expand(Suite.AES_128, os.urandom(16), 0, secrets * 5 * (THRESHOLD - 1), Modulus(MERSENNE_61))
    return drawn.reshape(secrets, 5, THRESHOLD - 1)


@pytest.mark.benchmark(group="secret sharing", timer=time.thread_time, max_time=1)
def test_sharing(timed: Any) -> None:
    secrets, holders, drawn = [os.urandom(32)] * 2, np.arange(HOLDERS), coefficients(2)
    timed(
        lambda: secret_sharing.share(secrets, holders, THRESHOLD, drawn),
        f"sharing 2 secrets among {HOLDERS}, {THRESHOLD} reconstruct",
        2,
        "secrets",
    )


@pytest.mark.benchmark(group="secret sharing", timer=time.thread_time, max_time=1)
@pytest.mark.parametrize("holders", ["common", "complete", "different"])
def test_reconstruction(holders: str, timed: Any) -> None:
    """Common: all dealers' shares are with the same clients; complete: with all clients but the dealer; different: each
    dealer has 100 neighbours of its own.
    """
    threshold, count = (60, 200) if holders == "different" else (THRESHOLD, SECRETS)
    shared = shared_secrets(holders, count)
    shares = np.concatenate(
        [secret_sharing.share(os.urandom(32), ids, threshold, coefficients(1)[0][:, : threshold - 1]) for ids in shared]
    )
    ends = np.cumsum([len(ids) for ids in shared])

    def reconstruct() -> None:
        reconstructor = secret_sharing.Reconstructor(threshold, shares)
        for ids, end in zip(shared, ends, strict=True):
            reconstructor.add(ids, np.arange(end - len(ids), end))
        reconstructor.secrets()

    timed(reconstruct, f"reconstructing {count:,} secrets, {holders} holders, t = {threshold}", count, "secrets")


def shared_secrets(holders: str, count: int) -> list[np.ndarray]:
    """Who holds the shares of each secret."""
    everybody, generator = np.arange(HOLDERS), np.random.default_rng(1)
    if holders == "common":
        return [everybody] * count
    if holders == "complete":
        return [np.delete(everybody, dealer % HOLDERS) for dealer in range(count)]
    return [np.sort(generator.choice(HOLDERS, 100, replace=False)) for _ in range(count)]


# Encoding, and the wire.


@pytest.mark.benchmark(group="encoding", timer=time.thread_time, max_time=1)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_encoding(weighted: bool, timed: Any) -> None:
    update = np.random.default_rng(1).normal(size=ELEMENTS).astype(np.float32)
    encoder = Encoder(update, clip=4.0, max_weight=100 if weighted else None)
    weight = 7 if weighted else 1
    timed(
        lambda: encoder.encode(update, weight=weight), f"encoding {'weighted' * weighted}".strip(), ELEMENTS, "elements"
    )


def masked_input() -> messages.MaskedInput:
    return messages.MaskedInput(transcript.VERSION, os.urandom(32), memoryview(os.urandom(4 * ELEMENTS)))


def shares_of_a_client() -> messages.Shares:
    dealers = messages.encode_ids(np.arange(100))
    return messages.Shares(
        transcript.VERSION,
        os.urandom(32),
        dealers,
        os.urandom(100 * records.SEALED_BYTES),
        os.urandom(100 * records.COMMITMENTS_BYTES),
    )


@pytest.mark.benchmark(group="wire", timer=time.perf_counter, max_time=0.5)
@pytest.mark.parametrize("make", [masked_input, shares_of_a_client])
def test_wire_encoding(make: Callable[[], Any], timed: Any) -> None:
    message = make()
    size = len(messages.encode(message))
    timed(lambda: messages.encode(message), f"wire: encode {make.__name__}", size, "B")


@pytest.mark.benchmark(group="wire", timer=time.perf_counter, max_time=0.5)
@pytest.mark.parametrize("make", [masked_input, shares_of_a_client])
def test_wire_decoding(make: Callable[[], Any], timed: Any) -> None:
    data = messages.encode(make())
    decoder = messages.to_server if make is masked_input else messages.to_client
    timed(lambda: decoder.decode(data, len(data), transcript.VERSION), f"wire: decode {make.__name__}", len(data), "B")
