"""The roster's tree against another construction, and proofs that must not hold."""

from __future__ import annotations

import hashlib
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.pairwise import transcript
from secagg.pairwise.merkle import MerkleTree, root_from

LABEL = b"secagg/v1 roster node"
LABELS = transcript.labels(1)
NODE = LABELS.node


def node(left: bytes, right: bytes) -> bytes:
    fields = (LABEL, left, right)
    return hashlib.sha256(b"".join(len(field).to_bytes(4, "little") + field for field in fields)).digest()


def root_of(leaves: list[bytes]) -> bytes:
    """From the top: the left subtree is the largest perfect one that is smaller than the whole (as in RFC 6962)."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node(root_of(leaves[:split]), root_of(leaves[split:]))


def leaves_of(count: int) -> list[bytes]:
    return [hashlib.sha256(f"leaf {index}".encode()).digest() for index in range(count)]


def hashes_needed(low: int, high: int, known: set[int]) -> int:
    """How many subtrees without a known leaf hang off the paths of the known ones."""
    if not any(low <= index < high for index in known):
        return 1
    if high - low == 1:
        return 0
    split = low + (1 << (high - low - 1).bit_length() - 1)
    return hashes_needed(low, split, known) + hashes_needed(split, high, known)


def some(leaves: list[bytes], indices: set[int]) -> dict[int, bytes]:
    return {index: leaves[index] for index in indices}


@pytest.mark.parametrize("count", range(1, 70))
def test_the_root(count: int) -> None:
    assert MerkleTree(leaves_of(count), NODE).root == root_of(leaves_of(count))


@pytest.mark.parametrize("count", range(1, 10))
def test_every_set_of_leaves_has_its_proof(count: int) -> None:
    leaves = leaves_of(count)
    tree = MerkleTree(leaves, NODE)
    for size in range(1, count + 1):
        for indices in map(set, itertools.combinations(range(count), size)):
            proof = tree.prove(sorted(indices))
            assert len(proof) == 32 * hashes_needed(0, count, indices)
            assert root_from(some(leaves, indices), count, proof, NODE) == root_of(leaves)
    assert tree.prove(range(count)) == b""


sets = st.integers(2, 90).flatmap(
    lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1), min_size=1, max_size=12))
)


@given(sets, st.randoms(use_true_random=False))
def test_proofs_of_larger_trees(drawn: tuple[int, set[int]], shuffler: random.Random) -> None:
    count, indices = drawn
    leaves = leaves_of(count)
    order = sorted(indices)
    shuffler.shuffle(order)
    proof = MerkleTree(leaves, NODE).prove([*order, order[0]])
    assert len(proof) == 32 * hashes_needed(0, count, indices)
    assert root_from({index: leaves[index] for index in order}, count, proof, NODE) == root_of(leaves)


@given(sets, st.data())
def test_a_forged_leaf_or_hash_gives_another_root(drawn: tuple[int, set[int]], data: st.DataObject) -> None:
    count, indices = drawn
    leaves = leaves_of(count)
    proof = MerkleTree(leaves, NODE).prove(sorted(indices))
    victim = data.draw(st.sampled_from(sorted(indices)))
    forged = some(leaves, indices) | {victim: bytes(32)}
    assert root_from(forged, count, proof, NODE) not in (root_of(leaves), None)
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        damaged = proof[:place] + bytes([proof[place] ^ 1]) + proof[place + 1 :]
        assert root_from(some(leaves, indices), count, damaged, NODE) not in (root_of(leaves), None)


@given(sets, st.data())
def test_a_leaf_counts_at_its_own_index_alone(drawn: tuple[int, set[int]], data: st.DataObject) -> None:
    """The same leaf shown at another place, with that place's own honest proof, leads elsewhere."""
    count, indices = drawn
    leaves = leaves_of(count)
    honest = data.draw(st.sampled_from(sorted(indices)))
    elsewhere = data.draw(st.integers(0, count - 1).filter(lambda index: index != honest))
    proof = MerkleTree(leaves, NODE).prove([elsewhere])
    assert root_from({elsewhere: leaves[honest]}, count, proof, NODE) != root_of(leaves)
    assert root_from({elsewhere: leaves[honest]}, count, MerkleTree(leaves, NODE).prove([honest]), NODE) != root_of(
        leaves
    )


@given(sets, st.integers(-64, 64).filter(bool))
def test_a_proof_of_the_wrong_length_gives_nothing(drawn: tuple[int, set[int]], change: int) -> None:
    count, indices = drawn
    leaves = leaves_of(count)
    proof = MerkleTree(leaves, NODE).prove(sorted(indices))
    other = proof + bytes(change) if change > 0 else proof[:change]
    if len(other) != len(proof):
        assert root_from(some(leaves, indices), count, other, NODE) is None


@given(sets)
def test_a_proof_for_other_leaves_does_not_do(drawn: tuple[int, set[int]]) -> None:
    count, indices = drawn
    leaves = leaves_of(count)
    proof = MerkleTree(leaves, NODE).prove(sorted(indices))
    for missing in indices:
        fewer = some(leaves, indices - {missing})
        if fewer:
            assert root_from(fewer, count, proof, NODE) != root_of(leaves)
    for extra in set(range(count)) - indices:
        met = root_from(some(leaves, indices | {extra}) | {extra: bytes(32)}, count, proof, NODE)
        assert met != root_of(leaves)


def test_trees_of_different_sizes_differ() -> None:
    """An odd leaf moves up as it is, so the number of leaves must be, and is, in the roster's digest."""
    roots = [MerkleTree(leaves_of(count), NODE).root for count in range(1, 65)]
    assert len(set(roots)) == len(roots)


def test_an_inner_node_is_no_leaf() -> None:
    """Leaves and nodes are hashed under different labels, so a node cannot stand for a leaf of a smaller tree."""
    leaf = LABELS.leaf(0, bytes(32), bytes(range(32)))
    assert leaf != LABELS.node(bytes(32), bytes(range(32)))
    assert LABELS.leaf(0, bytes(32), bytes(32)) != LABELS.leaf(1, bytes(32), bytes(32))
    assert LABELS.empty_leaf(3) != LABELS.empty_leaf(4)
    assert LABELS.node(leaf, bytes(32)) == node(leaf, bytes(32)) != LABELS.node(bytes(32), leaf)
