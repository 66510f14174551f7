"""The pseudocode of the specification is run, beside the reference; its lists of roles and references are complete."""

from __future__ import annotations

import random
import re
from typing import Any, NoReturn

import pytest
from reference import arithmetic, primitives, rules, transcript
from reference.wire import Refused

from secagg.pairwise.graph import NeighbourGraph
from tests.support.reference_parties import SPECS

TEXT = (SPECS / "secagg-v1.md").read_text(encoding="utf-8")
SECOND = (SPECS / "secagg-v2.md").read_text(encoding="utf-8")
ALGORITHMS = dict(re.findall(r"<!-- algorithm: (\w+) -->\n```python\n(.*?)```", TEXT + SECOND, re.DOTALL))
MODULI = (2, 2**7, 2**20, 2**64, 3, 251, 32771, 65521, 2**61 - 1)


def refuse(code: str) -> NoReturn:
    raise Refused(code)


def algorithms() -> dict[str, Any]:
    """What the blocks of the text define, over what the text says is there."""
    given: dict[str, Any] = {
        "AES": lambda key, block: primitives.aes_blocks(key, range((n := int.from_bytes(block, "big")), n + 1)),
        "lane_bits": lambda modulus: next(lane for lane in (8, 16, 32, 64) if lane >= (modulus - 1).bit_length()),
        "HASH_NODE": transcript.V1.node,
        "refuse": refuse,
    }
    for block in ALGORITHMS.values():
        exec(block, given)
    return given


RUN = algorithms()


def test_what_is_explained() -> None:
    first = {"mask", "prove", "climb", "prune", "masked", "pack", "unmask", "reconstruct"}
    assert set(ALGORITHMS) == first | {"groups", "sealer"}


@pytest.mark.parametrize("neighbours", [11, 6])
def test_who_is_the_sealer(neighbours: int) -> None:
    """On the complete graph of twelve, and on a ring of them."""
    graph = NeighbourGraph(12, neighbours, bytes(32))
    place = {client: position for position, client in enumerate(graph.ring.tolist() or range(12))}
    for client in range(12):
        others = graph.neighbours_of(client)
        told = [RUN["sealer"](place, client, other) == client for other in others.tolist()]
        assert told == graph.seals_for(client, others).tolist()


@pytest.mark.parametrize("modulus", MODULI)
@pytest.mark.parametrize("size", [16, 32])
def test_masks(modulus: int, size: int) -> None:
    draw = random.Random(modulus)
    for start in (0, 5, 2**33 - 1):
        key = draw.randbytes(size)
        assert RUN["mask"](key, start, start + 20, modulus) == arithmetic.mask(key, start, start + 20, modulus)


@pytest.mark.parametrize("modulus", MODULI)
@pytest.mark.parametrize("length", [1, 7, 8, 11])
def test_packed_vectors(modulus: int, length: int) -> None:
    draw, bits = random.Random(length), (modulus - 1).bit_length()
    vector = [draw.randrange(modulus) for _ in range(length)]
    packed = arithmetic.pack_vector(vector, modulus)
    assert RUN["pack"](vector, bits) == packed
    for data in (packed, packed[:-1], packed + b"\0", b"", b"\xff" * len(packed), draw.randbytes(len(packed))):
        assert outcome(RUN["unpack"], data, length, bits, modulus) == outcome(
            arithmetic.unpack_vector, data, length, modulus
        )


def outcome(function: Any, *arguments: Any) -> object:
    try:
        return function(*arguments)
    except Refused as refused:
        return refused.code


@pytest.mark.parametrize("clients", [3, 4, 5, 6, 7, 11, 16, 17, 33])
def test_proofs(clients: int) -> None:
    draw = random.Random(clients)
    leaves = [draw.randbytes(32) for _ in range(clients)]
    for _ in range(20):
        indices = draw.sample(range(clients), draw.randint(1, clients))
        proof = rules.prove(leaves, indices)
        assert RUN["prove"](leaves, indices) == proof
        known = {index: leaves[index] for index in indices}
        for bad in (proof, proof[:-1], proof + b"\0", proof[32:], proof + bytes(32)):
            met, expected = (
                outcome(function, dict(known), clients, bad) for function in (RUN["climb"], rules.proved_root)
            )
            assert met == expected


def test_pruning() -> None:
    draw = random.Random(1)
    for _ in range(300):
        clients = draw.randint(3, 12)
        near = {i: [j for j in range(clients) if j != i and draw.random() < 0.4] for i in range(clients)}
        shared, least = [i for i in range(clients) if draw.random() < 0.8], draw.randint(1, 3)
        alive = RUN["prune"](shared, near, least)
        assert alive <= set(shared)
        assert all(len(alive & set(near[i])) >= least for i in alive)
        left = set(shared)  # one at a time, in any order, it comes out the same
        while weak := [i for i in left if len(left & set(near[i])) < least]:
            left.remove(draw.choice(weak))
        assert left == alive


@pytest.mark.parametrize("modulus", MODULI)
def test_a_round_of_masks(modulus: int) -> None:
    """Client 3 is lost after it shared: its pairwise masks are taken out again."""
    draw, clients, length = random.Random(modulus), 5, 6
    selves = {i: draw.randbytes(16) for i in range(clients)}
    pairs = {(i, j): draw.randbytes(16) for i in range(clients) for j in range(i)}
    inputs = {i: [draw.randrange(modulus) for _ in range(length)] for i in range(clients)}
    survivors = [0, 1, 2, 4]
    sent = [
        RUN["masked"](
            inputs[i], i, selves[i], {j: pairs[max(i, j), min(i, j)] for j in range(clients) if j != i}, modulus
        )
        for i in survivors
    ]
    total = [sum(column) for column in zip(*sent, strict=True)]
    outside = {(i, 3): pairs[max(i, 3), min(i, 3)] for i in survivors}
    opened = RUN["unmask"](total, {i: selves[i] for i in survivors}, outside, modulus)
    assert opened == [sum(column) % modulus for column in zip(*(inputs[i] for i in survivors), strict=True)]


def test_secrets_are_reconstructed() -> None:
    draw, prime = random.Random(2), arithmetic.FIELD
    for threshold in (2, 3, 5):
        secret = draw.randbytes(32)
        rows = [[draw.randrange(prime) for _ in range(threshold - 1)] for _ in range(5)]
        holders = draw.sample(range(2**20), threshold)
        shares = {holder: arithmetic.read_share(arithmetic.share(secret, rows, holder)) for holder in holders}
        points = [(holder + 1, values) for holder, values in shares.items()]
        assert RUN["reconstruct"](points, prime) == secret
        assert values_out_of_range(points, prime)


def test_groups() -> None:
    for clients, groups in ((6, 2), (7, 2), (11, 3), (100, 7)):
        config = rules.Config("semi_honest", 1, clients, *[1] * 13, b"", b"", version=2, groups=groups)
        ring = rules.ring_of(config, bytes(32), bytes(32))
        assert RUN["groups"](ring, groups) == rules.groups_of(config, bytes(32), bytes(32))


def values_out_of_range(points: list[Any], prime: int) -> bool:
    """A limb that is too large is the dealer's fault."""
    (x, values), *rest = points
    shifted = [(x, [(values[0] + 2**58) % prime, *values[1:]])]
    shifted += [(x, [(values[0] + 2**58) % prime, *values[1:]]) for x, values in rest]
    return outcome(RUN["reconstruct"], shifted, prime) == "bad-dealer"


# The lists at the end.


def listed(cell: str) -> set[str]:
    """The requirements in a cell; "R-WIRE-1 to R-WIRE-3" stands for those between as well."""
    found = set(re.findall(r"R-[A-Z]+-\d+", cell))
    for name, first, last in re.findall(r"(R-[A-Z]+-)(\d+) to \1(\d+)", cell):
        found |= {f"{name}{number}" for number in range(int(first), int(last) + 1)}
    return found


def test_every_requirement_is_some_roles() -> None:
    section = TEXT[TEXT.index("\n## 14. Conformance") : TEXT.index("\n## 15. References")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    named = set().union(*(listed(requirements) for _, requirements, _ in rows[2:]))
    defined = set(re.findall(r"^\*\*(R-[A-Z]+-\d+)\.\*\*", TEXT, re.MULTILINE))
    assert named == defined
    kinds = {path.stem for path in (SPECS / "vectors" / "v1").glob("*.json")}
    assert {kind for *_, vectors in rows[2:] for kind in re.findall(r"`([\w-]+)`", vectors)} >= kinds


def test_references_are_listed_and_used() -> None:
    section = TEXT[TEXT.index("\n## 15. References") : TEXT.index("\n## 16. Change log")]
    body = TEXT.replace(section, "")
    defined = set(re.findall(r"\[([A-Z][A-Za-z]*\d[\d\w-]*|MSGPACK)\](?!\()", section))
    cited = {
        name
        for group in re.findall(
            r"\[((?:[A-Z][A-Za-z]*\d[\w-]*|MSGPACK)(?:, (?:[A-Z][A-Za-z]*\d[\w-]*|MSGPACK))*)\](?!\()", body
        )
        for name in group.split(", ")
    }
    assert cited <= defined
    only_informative = {"FIPS202", "RFC9162", "RFC9180", "RFC9591", "Sha79"}
    assert defined - cited <= only_informative
