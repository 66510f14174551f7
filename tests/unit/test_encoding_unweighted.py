"""Arrays that a client's weight does not multiply, beside others that it does, in one vector."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import Encoder, Exact, LayoutPolicy
from secagg.encoding.layout import Layout, MixedLayout, totals
from secagg.errors import ParameterError, PeerError

Updates = list[tuple[dict[str, Any], int]]
MOST = 40


def encoder(**options: Any) -> Encoder:
    shapes = {"model": np.zeros(3), "loss": 0.0, "correct": 0}
    given_ = {"array_bits": {"loss": 30}, "exact": {"correct": Exact(-5, 1000)}, "unweighted": ["loss", "corr*"]}
    return Encoder(shapes, clip=2.0, bits=20, max_weight=MOST, **{**given_, **options})


def summed(made: Encoder, updates: Updates) -> Any:
    vectors = [made.encode(update, weight).astype(np.uint64) for update, weight in updates]
    return made.decode_sum(np.sum(vectors, axis=0), len(updates))


values = st.floats(-2, 2, width=32)
update = st.fixed_dictionaries(
    {"model": st.tuples(values, values, values).map(np.array), "loss": values, "correct": st.integers(0, 1000)}
)


@given(
    st.lists(st.tuples(update, st.integers(0, MOST)), min_size=2, max_size=6).filter(
        lambda all_: any(w for _, w in all_)
    )
)
def test_the_weight_multiplies_the_weighted_arrays_alone(updates: Updates) -> None:
    made = encoder()
    mean = summed(made, updates)
    weights = [weight for _, weight in updates]
    bounds = made.error_bounds(len(updates), sum(weights))
    model = np.average([update["model"] for update, _ in updates], axis=0, weights=weights)
    assert np.abs(mean.mean["model"] - model).max() <= bounds["model"]
    assert abs(mean.mean["loss"] - np.mean([update["loss"] for update, _ in updates])) <= bounds["loss"]
    assert bounds["loss"] == pytest.approx(2.0 / (2**29 - 1), rel=1e-6), "one step, whatever the weights"
    assert mean.totals["correct"] == sum(update["correct"] for update, _ in updates)
    assert mean.mean["correct"] == pytest.approx(np.mean([update["correct"] for update, _ in updates]), rel=1e-12)
    assert mean.weight == sum(weights)


def test_sums_of_a_layout_count_clients_for_unweighted_arrays() -> None:
    layout = MixedLayout(
        arrays=(("model", (3,)), ("loss", ()), ("correct", ())),
        clip=2.0,
        bits=20,
        max_weight=MOST,
        clips=(),
        array_bits=(),
        exact=(("correct", 0, 1000, 0),),
        unweighted=("correct", "loss"),
    )
    updates: Updates = [
        ({"model": np.ones(3), "loss": 0.5, "correct": 7}, 10),
        ({"model": np.ones(3), "loss": 1.0, "correct": 5}, 20),
    ]
    found = totals(summed(layout.encoder(), updates), layout)
    assert found["correct"] == 12
    assert found["loss"] == pytest.approx(1.5, abs=1e-4)
    assert found["model"] == pytest.approx([30.0] * 3, abs=1e-2)


def test_a_client_of_weight_0_counts_in_what_has_no_weight() -> None:
    ones = {"model": np.ones(3), "loss": 1.0, "correct": 1}
    mean = summed(encoder(), [(ones, 0), (ones, 3)])
    assert mean.contributors == 1
    assert mean.totals["correct"] == 2


def test_a_layout_without_such_arrays_has_the_digest_that_it_had() -> None:
    plain = Encoder({"a": np.zeros(2)}, clip=1.0, max_weight=3)
    assert plain.layout_digest().hex() == "9e8643a4540087d3233874d6c563bab47ee63a6cecd08565fb79f2e60199f90b"
    other = Encoder({"a": np.zeros(2)}, clip=1.0, max_weight=3, unweighted=["a"])
    assert other.layout_digest() != plain.layout_digest()


def test_without_weights_there_is_nothing_to_leave_out() -> None:
    plain, named = (Encoder({"a": np.zeros(2)}, clip=1.0, unweighted=names) for names in ([], ["a"]))
    assert plain.layout_digest() == named.layout_digest()


@pytest.mark.parametrize("names", [("loss", "correct"), ("nothing",), ("loss", "loss")])
def test_names_ascend_and_are_known(names: tuple[str, ...]) -> None:
    with pytest.raises(ParameterError, match="unweighted"):
        MixedLayout((("loss", ()), ("correct", ())), 1.0, 16, 5, (), (), (), names)
    with pytest.raises(ParameterError, match="unweighted: 'nothing' matches no array"):
        encoder(unweighted=["nothing"])


def test_a_precision_check_looks_at_each_arrays_own_weight() -> None:
    encoder(array_bits={"loss": 4}).check_precision()
    with pytest.raises(ParameterError, match="a value of model"):
        encoder(array_bits={"model": 4}).check_precision()


def test_a_layout_is_sent_as_it_was() -> None:
    assert Layout.__struct_fields__ == ("arrays", "clip", "bits", "max_weight", "clips", "array_bits", "exact")


@pytest.mark.parametrize(
    ("pattern", "name"), [("head.*", "head.bias"), ("*.bias", "head.bias"), ("head.bias", "head.bias")]
)
def test_a_layout_that_sums_what_a_client_keeps_is_refused(pattern: str, name: str) -> None:
    """By whatever host: Flower, the network service, or one's own."""
    layout = Layout.of({"body": (2,), "head.bias": (3,)}, clip=1.0)
    with pytest.raises(PeerError, match=f"sums '{name}'; this client keeps arrays called"):
        layout.check_policy(LayoutPolicy(local_arrays=frozenset({pattern})))
    layout.check_policy(LayoutPolicy(local_arrays=frozenset({"heads.*", "Head.*"})))
