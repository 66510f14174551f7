"""What a server announces: its bytes and its vector stay, whichever release made them."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from secagg import LayoutPolicy, ParameterError, PeerError
from secagg.adapters.flower.announcement import Announcement, UpdateTerms, context_of

MODEL = ArrayRecord(
    {
        name: Array(np.zeros(shape, dtype))
        for name, shape, dtype in (
            ("w*[0]", (3, 2), "float32"),
            ("b.c", (2,), "float64"),
            ("a", (), "int64"),
            ("empty", (0, 4), "float32"),
        )
    }
)
TERMS = UpdateTerms(
    clip=0.5,
    bits=16,
    max_weight=1000,
    clips={"a": 100.0, "w*[0]": 0.25},
    array_bits={"a": 32, "metric loss": 32, "metric accuracy": 32},
    metrics={"loss": 10.0, "accuracy": 1.0},
    difference=True,
    weighted_by="num-examples",
    run_config=False,
)
ANNOUNCED = Announcement.of(MODEL, TERMS, b"\x07" * 32)
BYTES = bytes.fromhex(
    "84a66172726179739493a5772a5b305da7666c6f6174333292030293a3622e63a7666c6f61743634910293a161a5696e7436349093a5656d70"
    "7479a7666c6f61743332920004a66c61796f757489aa61727261795f6269747383a16120af6d657472696320616363757261637920ab6d6574"
    "726963206c6f737320a46269747310a4636c6970cb3fe0000000000000a5636c69707382a161cb4059000000000000a5772a5b305dcb3fd000"
    "0000000000aa646966666572656e6365c3aa6d61785f776569676874cd03e8a76d65747269637382a86163637572616379cb3ff00000000000"
    "00a46c6f7373cb4024000000000000aa72756e5f636f6e666967c2ab77656967687465645f6279ac6e756d2d6578616d706c6573a56d6f6465"
    "6cc42035919e4da949a8752de1896916c03e36d0e1cbd6f9dcf52730c267fd7f571c90a4746f6c64c420070707070707070707070707070707"
    "0707070707070707070707070707070707"
)
"""As the first release that sent it wrote it: clients and servers of different releases take part in one round."""
CONTEXT = "295857f6be9688ceebee8c0894f3ef6379a6b69cedff7791474aba62e748123b"
VECTOR = "b188f95dc48ee2200e87439143fc729da3572e152e907ad572895c6025a3b98e"
"""The digest of the layout of its encoder, which says where each value is in the vector."""


def test_the_bytes_and_the_vector_stay() -> None:
    assert ANNOUNCED.to_bytes() == BYTES
    assert Announcement.from_bytes(BYTES) == ANNOUNCED
    assert context_of(BYTES).hex() == CONTEXT
    assert ANNOUNCED.layout.encoder().layout_digest().hex() == VECTOR


def test_the_layout_has_the_model_s_arrays_in_its_order_and_then_the_metrics() -> None:
    layout = ANNOUNCED.layout
    assert [name for name, _ in layout.arrays] == ["w*[0]", "b.c", "a", "empty", "metric accuracy", "metric loss"]
    assert layout.clip_by_name() == {
        "w*[0]": 0.25,
        "b.c": 0.5,
        "a": 100.0,
        "empty": 0.5,
        "metric accuracy": 1.0,
        "metric loss": 10.0,
    }
    for name, clip in layout.clip_by_name().items():
        assert ANNOUNCED.clip_of(name) == clip


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (LayoutPolicy(max_clip=50.0), "clip 100.0"),
        (LayoutPolicy(min_clip=0.3), "clip 0.25"),
        (LayoutPolicy(max_bits=16), "bits 32"),
        (LayoutPolicy(min_max_weight=2000), "max_weight 1000"),
        (LayoutPolicy(weighted_by=frozenset({"examples"})), "weights updates by 'num-examples'"),
    ],
)
def test_a_policy_is_asked_about_every_array_and_the_weight(policy: LayoutPolicy, says: str) -> None:
    ANNOUNCED.layout.check_policy(LayoutPolicy(), weighted_by=TERMS.weighted_by, difference=TERMS.difference)
    with pytest.raises(PeerError, match=says):
        ANNOUNCED.layout.check_policy(policy, weighted_by=TERMS.weighted_by, difference=TERMS.difference)


@pytest.mark.parametrize(
    ("metrics", "says"),
    [({"num-examples": 1.0}, "'num-examples' is the weight"), ({"x": 1.0}, "'metric x' an array of the model")],
)
def test_a_metric_that_is_something_else_already(metrics: dict[str, float], says: str) -> None:
    terms = UpdateTerms(0.5, 16, 1000, {}, {}, metrics, True, "num-examples", False)
    model = ArrayRecord({"metric x": Array(np.zeros(2, np.float32))})
    with pytest.raises(ParameterError, match=says):
        _ = Announcement.of(model, terms, bytes(32)).layout
