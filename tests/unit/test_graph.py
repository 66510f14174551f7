"""The neighbour graph itself, against a ring that is drawn word for word."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.pairwise import graph
from secagg.pairwise.graph import NeighbourGraph
from tests.support.rings import connected


def _reference_ring(clients: int, key: bytes) -> list[int]:
    def image(client: int) -> int:
        encryptor = Cipher(AES(key), ECB()).encryptor()
        return int.from_bytes(encryptor.update(client.to_bytes(16, "big")), "big")

    return sorted(range(clients), key=image)


def _reference_neighbours(ring: list[int], degree: int, client: int) -> list[int]:
    place, half = ring.index(client), degree // 2
    return sorted(ring[(place + step) % len(ring)] for step in range(-half, half + 1) if step)


graphs = st.integers(4, 60).flatmap(
    lambda clients: st.tuples(
        st.just(clients),
        st.integers(1, (clients - 2) // 2).map(lambda half: 2 * half),
        st.binary(min_size=32, max_size=32),
    )
)


@settings(max_examples=60, deadline=None)
@given(graphs)
def test_graph_is_the_ring_of_encrypted_ids(drawn: tuple[int, int, bytes]) -> None:
    clients, degree, key = drawn
    ring, drawn_graph = _reference_ring(clients, key), NeighbourGraph(clients, degree, key)
    for client in range(clients):
        assert drawn_graph.neighbours_of(client).tolist() == _reference_neighbours(ring, degree, client)


@settings(max_examples=40, deadline=None)
@given(graphs, st.data())
def test_graph_is_regular_symmetric_andconnected(drawn: tuple[int, int, bytes], data: st.DataObject) -> None:
    clients, degree, key = drawn
    drawn_graph = NeighbourGraph(clients, degree, key)
    near = [set(drawn_graph.neighbours_of(client).tolist()) for client in range(clients)]
    assert all(len(neighbours) == degree for neighbours in near)
    for one, other in itertools.product(range(clients), repeat=2):
        assert (other in near[one]) == (one in near[other])
    assert connected(set(range(clients)), near)
    members = np.array(data.draw(st.lists(st.booleans(), min_size=clients, max_size=clients)))
    expected = [sum(bool(members[other]) for other in near[client]) for client in range(clients)]
    assert drawn_graph.count_within(members).tolist() == expected


def test_complete_graph_needs_no_key() -> None:
    everyone = NeighbourGraph(5, 4, b"")
    assert everyone.complete
    assert everyone.neighbours_of(2).tolist() == [0, 1, 3, 4]
    members = np.array([True, False, True, True, False])
    assert everyone.count_within(members).tolist() == [2, 3, 2, 2, 3]


def _chi_square(counts: Iterable[int], expected: float) -> float:
    return sum((count - expected) ** 2 / expected for count in counts)


def test_ring_order_looks_uniform() -> None:
    """Fixed keys, so that the outcome is too.  The bounds are exceeded by chance once in 10^6."""
    keys, clients = 4000, 7
    rings = [tuple(graph._ring_order(clients, number.to_bytes(32, "big")).tolist()) for number in range(keys)]
    first = Counter(ring[0] for ring in rings)
    assert _chi_square((first[client] for client in range(clients)), keys / clients) < 38.3  # 6 degrees of freedom
    step = Counter((ring.index(1) - ring.index(0)) % clients for ring in rings)
    assert _chi_square((step[distance] for distance in range(1, clients)), keys / (clients - 1)) < 35.9  # 5
    orders = Counter(tuple(client for client in ring if client < 4) for ring in rings)
    assert len(orders) == 24
    assert _chi_square(orders.values(), keys / 24) < 71.0  # 23


def test_a_million_clients() -> None:
    clients, degree = 10**6, 104
    big = NeighbourGraph(clients, degree, bytes(range(32)))
    near = big.neighbours_of(999_999)
    assert len(set(near.tolist())) == degree
    assert all(999_999 in big.neighbours_of(other) for other in near.tolist())
    assert (big.count_within(np.ones(clients, dtype=bool)) == degree).all()
