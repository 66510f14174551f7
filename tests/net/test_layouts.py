"""What a layout says of single arrays: on the wire, in a file, against a client's policy, from a server that lies."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from secagg import Encoder, Exact, InputError, LayoutPolicy, ParameterError, PeerError
from secagg.adapters.net.frames import RefusedError, decode_layout, encode_layout
from secagg.adapters.net.store import ClientStore
from secagg.encoding.layout import Layout, totals
from secagg.encoding.layout_file import write_layout
from secagg.privacy.layout_file import read_any_layout
from tests.support.hosting import LAYOUT, SHAPES, hosting, spec_of
from tests.support.lying_service import Line, log_in, lying_server
from tests.support.moved_clock import run

MIXED = {"cost": (2,), "layer.bias": (2,), "layer.weight": (3, 2), "visits": ()}


def mixed(**changes: Any) -> Layout:
    given: dict[str, Any] = {
        "clip": 0.5,
        "max_weight": 100,
        "clips": {"*.bias": 4.0},
        "array_bits": {"layer.w*": 24},
        "exact": {"visits": Exact(0, 10**6), "cost": Exact(-1000, 1000, 2)},
    }
    return Layout.of(MIXED, **{**given, **changes})


def test_settings_travel_by_name_and_have_the_encoders_digest() -> None:
    layout = mixed()
    assert layout.clips == (("layer.bias", 4.0),)
    assert layout.array_bits == (("layer.weight", 24),)
    assert layout.exact == (("cost", -1000, 1000, 2), ("visits", 0, 10**6, 0))
    again = decode_layout(encode_layout(layout))
    assert again == layout
    encoder = Encoder(
        {name: np.zeros(shape) for name, shape in MIXED.items()},
        0.5,
        max_weight=100,
        clips={"layer.bias": 4.0},
        array_bits={"layer.weight": 24},
        exact={"visits": Exact(0, 10**6), "cost": Exact(-1000, 1000, 2)},
    )
    assert again.encoder().layout_digest() == encoder.layout_digest()
    assert mixed(exact={"visits": Exact(0, 10**6)}).encoder().layout_digest() != encoder.layout_digest()


def test_a_name_with_wildcards_in_it_is_that_array() -> None:
    layout = Layout.of({"w[0]": (2,), "w0": (2,), "w*": ()}, clip=1.0, clips={"w[0]": 2.0}, exact={"w*": Exact(0, 5)})
    assert layout.clip_by_name() == {"w0": 1.0, "w[0]": 2.0}
    assert set(layout.exact_by_name()) == {"w*"}
    encoder = layout.encoder_for({"w[0]": np.full(2, 1.5), "w0": np.full(2, 1.5), "w*": np.array(7)})
    encoder.encode({"w[0]": np.full(2, 1.5), "w0": np.full(2, 1.5), "w*": np.array(7)})
    assert encoder.clipped == {"w0": 2, "w*": 1}


def test_names_that_cannot_be_printed_have_settings_too() -> None:
    layout = Layout.of({"a\n": (2,), "b": ()}, clip=1.0, exact={"a\n": Exact(0, 9, 1)})
    own = {"a\n": np.array([0.1, 0.2]), "b": np.array(0.5)}
    encoder = layout.encoder_for(own)
    mean = layout.encoder().decode_sum(encoder.encode(own).astype(np.uint64), 1)
    assert totals(mean, layout)["a\n"].tolist() == [0.1, 0.2]
    assert layout.by_name(encoder.error_bounds(1))["a\n"] < 1e-6


def raw_layout(**changes: object) -> bytes:
    names = ("arrays", "clip", "bits", "max_weight", "clips", "array_bits", "exact")
    found: dict[str, object] = dict(zip(names, msgspec.msgpack.decode(encode_layout(LAYOUT)), strict=True))
    return msgspec.msgpack.encode(list({**found, **changes}.values()))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arrays": [["b", [5]], ["b", [5]]]}, "'b' is there twice"),
        ({"arrays": [["w", [4]], ["b", [5]]]}, "names must be ascending"),
        ({"clips": [["x", 1.0]]}, "clips: the layout has no array 'x'"),
        ({"clips": [["*", 1.0]]}, "clips: the layout has no array '*'"),
        ({"clips": [["w", 1.0], ["b", 1.0]]}, "names must be ascending"),
        ({"array_bits": [["b", 20], ["b", 21]]}, "'b' is there twice"),
        ({"clips": [["b", 1.0]], "exact": [["b", 0, 9, 0]]}, "neither clip nor bits"),
        ({"array_bits": [["b", 18]], "exact": [["b", 0, 9, 0]]}, "neither clip nor bits"),
        ({"exact": [["b", 0, 9]]}, "Expected `array` of length 4"),
        ({"exact": [["b", 0.5, 9, 0]]}, "Expected `int`"),
        ({"more": 1}, "Expected `array` of at most length 7"),
    ],
)
def test_a_layout_that_is_none_does_not_decode(changes: dict[str, object], says: str) -> None:
    decode_layout(raw_layout())
    with pytest.raises(RefusedError, match="does not decode") as refused:
        decode_layout(raw_layout(**changes))
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "lie",
    [
        {"clips": (("b", -1.0),)},
        {"clips": (("b", float("nan")),)},
        {"array_bits": (("b", 33),)},
        {"exact": (("b", 5, 5, 0),)},
        {"exact": (("b", 0, 9, 16),)},
        {"exact": (("b", -(2**53), 2**53, 0),), "max_weight": 2**20},
        {"arrays": ()},
        {"arrays": (("b", (-5,)),)},
        {"arrays": (("b", (1,) * 33),)},
        {"arrays": (("b", (2**31, 2**31)),)},
    ],
)
def test_a_server_whose_layout_encodes_nothing_is_refused(
    tmp_path: Path, tls_folder: Path, lie: dict[str, Any]
) -> None:
    async def behave(line: Line) -> None:
        await log_in(line, msgspec.structs.replace(LAYOUT, **lie))
        await line.connection.wait_closed()

    async def test() -> None:
        store = ClientStore(tmp_path / "client.state")
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(RefusedError, match="the server's layout cannot be used"):
                await member(store).run()
        assert store.waiting() == []

    run(test)


@pytest.mark.parametrize(
    ("settings", "policy", "says"),
    [
        ({"clips": {"b": 0.001}}, LayoutPolicy(min_clip=0.1), "clip 0.001"),
        ({"clips": {"b": 1000.0}}, LayoutPolicy(max_clip=10.0), "clip 1000.0"),
        ({"array_bits": {"b": 4}}, LayoutPolicy(min_bits=16), "bits 4"),
        ({"array_bits": {"b": 32}}, LayoutPolicy(max_bits=24), "bits 32"),
        ({"exact": {"b": Exact(-1, 1)}}, LayoutPolicy(min_clip=2.0), "exact range -1..1, with a clip of 1"),
        ({"exact": {"b": Exact(0, 1000)}}, LayoutPolicy(max_clip=10.0), "exact range 0..1000, with a clip of 1000"),
        ({"exact": {"b": Exact(-1, 1)}}, LayoutPolicy(min_bits=16), "in steps of 1, with bits 2"),
        ({"exact": {"b": Exact(10**6, 10**6 + 1)}}, LayoutPolicy(), "leaves out 0"),
        ({"exact": {"b": Exact(-9, -3)}}, LayoutPolicy(), "leaves out 0"),
    ],
)
def test_a_policy_holds_for_single_arrays(
    tmp_path: Path, tls_folder: Path, settings: dict[str, Any], policy: LayoutPolicy, says: str
) -> None:
    """A server that cuts or coarsens one array alone is refused before anything but a login was sent."""
    layout = Layout.of(SHAPES, clip=2.0, bits=18, **settings)
    LAYOUT.check_policy(policy)

    async def behave(line: Line) -> None:
        await log_in(line, layout)
        await line.connection.wait_closed()

    async def test() -> None:
        store = ClientStore(tmp_path / "client.state")
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(PeerError, match=says):
                await member(store, layout_policy=policy).run()
        assert store.waiting() == []

    run(test)


def test_a_policy_takes_flags_and_counts_by_default() -> None:
    Layout.of({"b": (2,)}, clip=1.0, exact={"b": Exact(0, 1)}).check_policy(LayoutPolicy())
    Layout.of({"b": (2,)}, clip=1.0, exact={"b": Exact(-(2**31), 2**31)}).check_policy(LayoutPolicy())


def test_a_clip_that_no_array_has_is_not_judged() -> None:
    Layout.of({"b": (2,)}, clip=1.0, exact={"b": Exact(0, 100)}).check_policy(LayoutPolicy(min_clip=50.0))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"clip": 1e-6}, "clip of b 2.0 was agreed, and it is 1e-06"),
        ({"bits": 4}, "bits 18 was agreed, and it is 4"),
        ({"clips": {"b": 1e-6}}, "clip of b 2.0 was agreed, and it is 1e-06"),
        ({"exact": {"w": Exact(0, 1)}}, "range of w none was agreed, and it is 0..1"),
        ({"max_weight": 5}, "max_weight None was agreed, and it is 5"),
        ({"shapes": {"b": (5,)}}, "it lacks 'w'"),
    ],
)
def test_a_server_with_another_layout_than_the_agreed_one(
    tmp_path: Path, tls_folder: Path, changes: dict[str, Any], says: str
) -> None:
    given = {"clip": 2.0, "bits": 18, **changes}
    layout = Layout.of(given.pop("shapes", SHAPES), **given)

    async def behave(line: Line) -> None:
        await log_in(line, layout)
        await line.connection.wait_closed()

    async def test() -> None:
        store = ClientStore(tmp_path / "client.state")
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(PeerError, match="not the one that was agreed") as refused:
                await member(store, agreed_layout=LAYOUT).run()
        assert says in str(refused.value)
        assert store.waiting() == []

    run(test)


def test_counts_and_money_come_out_exactly(tmp_path: Path, tls_folder: Path) -> None:
    layout = mixed(max_weight=None)
    members = [
        {
            "cost": np.array([0.1 * n, -999.99]),
            "layer.bias": np.full(2, 3.0),
            "layer.weight": np.full((3, 2), 0.25),
            "visits": np.array(1000 + n),
        }
        for n in range(3)
    ]

    async def test() -> None:
        async with hosting([spec_of(3, layout=layout)], tmp_path, tls_folder) as host:
            found = await asyncio.gather(
                *(host.member(n, arrays=members[n], agreed_layout=layout).run() for n in range(3))
            )
        sums = totals(found[0].mean, found[0].layout)
        assert sums["visits"].dtype == np.int64
        assert sums["visits"] == 3003
        assert sums["cost"].tolist() == [0.3, -2999.97]
        assert np.abs(sums["layer.bias"] - 9.0).max() < 1e-3
        assert np.abs(sums["layer.weight"] - 0.75).max() < 1e-6
        assert found[0].mean_as_input()["visits"].dtype == members[0]["visits"].dtype

    run(test)


# The file.


def test_a_layout_file_comes_back(tmp_path: Path) -> None:
    for layout in (LAYOUT, mixed(), mixed(max_weight=None)):
        write_layout(tmp_path / "layout.json", layout)
        assert read_any_layout(tmp_path / "layout.json") == layout


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda found: found.update(clip=1e-9), "it was changed after it was written"),
        (lambda found: found["arrays"].append(found["arrays"][0]), "two arrays have the same name"),
        (lambda found: found["arrays"][0].pop("low"), "low, high and decimals belong together"),
        (lambda found: found.update(format="secagg layout 9"), "not a layout file"),
        (lambda found: found.update(more=1), "not a layout file"),
        (lambda found: found["arrays"][0].update(high=-(10**6)), "not a layout file"),
        (lambda found: found.update(arrays=[]), "not a layout file"),
    ],
)
def test_a_layout_file_that_was_changed_is_refused(tmp_path: Path, change: Any, says: str) -> None:
    file = tmp_path / "layout.json"
    write_layout(file, mixed())
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))
    with pytest.raises(InputError) as refused:
        read_any_layout(file)
    assert str(file) in str(refused.value)
    assert says in str(refused.value)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_layout_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "layout.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"layout\.json"):
        read_any_layout(file)


def test_the_layout_of_an_array_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ParameterError, match="matches no array"):
        Layout.of(SHAPES, clip=1.0, clips={"nothing": 2.0})
    with pytest.raises(ParameterError, match=r"give secagg\.Exact"):
        Layout.of(SHAPES, clip=1.0, exact={"b": (0, 5)})  # type: ignore[dict-item]


def test_a_layout_in_another_order_is_none_that_a_server_can_send() -> None:
    """Two forms of one layout would be two contexts, and clients compare the bytes."""
    layout = msgspec.structs.replace(LAYOUT, arrays=LAYOUT.arrays[::-1])
    with pytest.raises(ParameterError, match="names must be ascending"):
        encode_layout(layout)
    with pytest.raises(ParameterError, match="names must be ascending"):
        spec_of(3, layout=layout)
