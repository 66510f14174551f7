"""Lattice envelopes: their parameters, envelopes and sums, malformed ones, and configs that ask for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256

from reference import envelopes, wire
from reference.arithmetic import pack_vector, packed_bytes
from reference.client import Client
from reference.rules import Config
from reference.wire import Refused

from .cases import Case, ClientCases, ServerCases, changed
from .common import File, Test, entry, file, labelled, numbers
from .rounds import LOOSE, Recorder, small, small_active

FLAGS = {
    "PARAMETERS": "another set of parameters than the one with the fewest bytes",
    "ENVELOPE": "another secret, other errors or public polynomials, or elements in other places",
    "MALFORMED": "an envelope that makes a server fail, or a sum that is opened although its noise is too large",
}
_SIZES = ((1000, 10**4, 26), (1000, 10**5, 26), (1000, 10**6, 26), (10**4, 10**6, 30), (2**20, 2**36, 64), (3, 1, 2))


def envelope_file() -> File:
    """Envelopes apart from any round."""
    tests = [
        entry("ENV-3", f"parameters for {g} clients, {m} elements and {b} bits", "PARAMETERS", **_parameters(g, m, b))
        for g, m, b in _SIZES
    ]
    for comment, sizes, key_bytes in (
        ("one element", (4, 1, 2), 16),
        ("two polynomials' coefficients, some of them empty", (5, 70, 11), 32),
        ("several primes and slots", (1000, 130, 26), 16),
        ("elements of 64 bits", (3, 5, 64), 16),
    ):
        tests.append(_opened(comment, sizes, key_bytes))
    tests += _malformed()
    return file("envelopes", "Lattice envelopes.", FLAGS, tests, version=2)


def _parameters(clients: int, length: int, bits: int) -> Test:
    found = envelopes.find(clients, length, bits)
    sizes = {"clients": clients, "length": str(length), "element_bits": bits}
    return {**sizes, "degree": found.degree, "slots": found.slots, "primes": [*found.primes]}


def _opened(comment: str, sizes: tuple[int, int, int], key_bytes: int) -> Test:
    clients, length, bits = sizes
    parameters, label = envelopes.find(*sizes), f"envelopes {comment}"
    key, largest = labelled(f"{label} key", key_bytes), (2**bits - 1) // clients
    drawn = [labelled(f"{label} vector {i}", 8 * length) for i in range(2)]
    vectors = [
        [int.from_bytes(part[8 * j : 8 * j + 8], "little") % (largest + 1) for j in range(length)] for part in drawn
    ]
    vectors[0][0] = largest
    seeds = [labelled(f"{label} seed {i}", 32) for i in range(2)]
    made = [envelopes.seal(parameters, key, seed, vector) for seed, vector in zip(seeds, vectors, strict=True)]
    total = _sum(parameters, key, made)
    if total != [x + y for x, y in zip(*vectors, strict=True)]:
        raise ValueError(f"{comment}: the sum is wrong")
    return entry(
        "ENV-4 ENV-5 ENV-6 ENV-8",
        comment,
        "ENVELOPE",
        **_parameters(*sizes),
        key=key.hex(),
        seeds=[seed.hex() for seed in seeds],
        vectors=[numbers(vector) for vector in vectors],
        secrets=[sha256(pack_vector(secret, parameters.key_modulus)).hexdigest() for secret, _ in made],
        envelopes=[envelope.hex() for _, envelope in made],
        sum=numbers(total),
    )


def _sum(parameters: envelopes.Parameters, key: bytes, made: Sequence[tuple[Sequence[int], bytes]]) -> list[int]:
    total = envelopes.read(parameters, made[0][1])
    for _, envelope in made[1:]:
        total = envelopes.add(parameters, total, envelopes.read(parameters, envelope))
    secrets = [sum(column) for column in zip(*(secret for secret, _ in made), strict=True)]
    return envelopes.open_sum(parameters, key, total, secrets, len(made))


def _malformed() -> Iterator[Test]:
    sizes = (5, 70, 11)
    parameters, key = envelopes.find(*sizes), labelled("envelopes malformed key", 16)
    seeds = [labelled(f"envelopes malformed seed {i}", 32) for i in range(2)]
    made = [envelopes.seal(parameters, key, seed, [7] * 70) for seed in seeds]
    right = made[1][1]
    prime = parameters.primes[0]
    bits = prime.bit_length()
    first = int.from_bytes(right, "little") >> bits << bits
    for requirement, comment, bad in (
        ("ENV-7", "a byte too few", right[:-1]),
        ("ENV-7", "a byte too many", right + b"\0"),
        ("ENV-7", "nothing", b""),
        ("ENV-7", "a residue that is its prime", (first + prime).to_bytes(len(right), "little")),
        ("ENV-7", "a residue of all ones", right[:-1] + b"\xff"),
        ("ENV-8", "an envelope of zeros", bytes(len(right))),
        ("ENV-8", "an envelope of another secret", made[0][1]),
    ):
        try:
            _sum(parameters, key, [made[0], (made[1][0], bad)])
        except Refused as refused:
            yield entry(
                requirement,
                comment,
                "MALFORMED",
                error=refused.code,
                **_parameters(*sizes),
                key=key.hex(),
                seeds=[seed.hex() for seed in seeds],
                envelopes=[made[0][1].hex(), bad.hex()],
            )
            continue
        raise ValueError(f"{comment}: it is taken")


# Configs.


def sound_configs() -> Iterator[tuple[str, Config]]:
    """With envelopes."""
    yield "envelopes", small(version=2, carrier=1)
    yield "envelopes in active", small_active(version=2, carrier=1)
    yield "envelopes for sums modulo a prime", small(version=2, carrier=1, ring_bits=0, prime=2**31 - 1, input_max=9)
    yield "envelopes for sums modulo M", small(version=2, carrier=1, ring_bits=61, input_max=2**61 - 1)


def unsound_configs() -> Iterator[tuple[str, str, bytes]]:
    """The requirement, what is wrong, and the bytes."""
    elements = wire.unpack(small(version=2).to_bytes(), depth=2)[:-1]
    for comment, extensions in {
        "masks written": [6, 0],
        "a carrier that nobody knows": [6, 2],
        "a carrier that is bytes": [6, b"\1"],
    }.items():
        yield "ENV-1", comment, wire.pack([*elements, extensions])
    wide = small(version=2, carrier=1, ring_bits=62, input_max=2**62 - 1)
    yield "ENV-2", "envelopes for sums of 65 bits", wide.to_bytes()


# Refusals.


class _OtherEnvelope(Client):
    """Sends zeros in the place of its envelope: good residues, which no secret but zero belongs to."""

    def submit(self, vector: Sequence[int], attachment: Sequence[tuple[int, bytes]] = ()) -> bytes:
        size = packed_bytes(self.config.masked_length, self.config.masked_modulus)
        honest = super().submit(vector, attachment)
        return changed(honest, vector=lambda sent: sent[:size] + bytes(len(sent) - size))


def four_active() -> Config:
    """A round with envelopes in `active`."""
    sizes = {"clients": 4, "neighbours": 3, "dropouts": 1, "threshold": 2, "quorum": 3, "min_survivors": 3}
    return small_active(**sizes, version=2, carrier=1, length=9)


def _four() -> Config:
    return small(version=2, carrier=1, length=3, clients=4, neighbours=3, dropouts=1)


def setup() -> Recorder:
    """A round with envelopes."""
    recorder = Recorder("refusals-envelopes", _four(), LOOSE)
    recorder.run({})
    return recorder


def client_refusals(tests: ClientCases) -> None:
    """Adds a test."""
    case, client, _ = tests.at("envelopes", "Survivors")
    case.note("client.submit", error="state", state=client.state)
    tests.add(case, "ENV-10", "a second vector: there is no second envelope", "ENVELOPE", "state")


def server_refusals(tests: ServerCases) -> None:
    """Adds tests."""
    for error, comment, change in (
        ("wrong-length", "a byte too many", lambda sent: sent + b"\0"),
        ("wrong-length", "the masked key alone", lambda sent: sent[:-216]),
        ("element-range", "a residue of all ones", lambda sent: sent[:-8] + b"\xff" * 8),
    ):
        wrong = tests.rule("envelopes", "masked-input", error, "ENV-7", "ENVELOPE")
        wrong(comment, lambda m, change=change: changed(m, vector=change))
    recorder = Recorder("bad-envelope", _four(), LOOSE, {2: _OtherEnvelope})
    recorder.run({}, compute=False)
    tests.setups["bad-envelope"] = recorder
    case = Case("bad-envelope", recorder, "server", len(recorder.of("server")))
    try:
        recorder.server.compute()
    except Refused as refused:
        case.note("server.compute", error=refused.code, culprits=[*refused.culprits], state="ABORTED")
    tests.tests.append(
        case.test("ENV-8", "an envelope of another secret: there is no sum, and nobody is named", "ENVELOPE")
    )
