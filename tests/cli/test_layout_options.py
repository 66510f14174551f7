"""``--clip``, ``--array-bits`` and ``--exact`` as text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import Encoder, Exact, ParameterError
from secagg.cli.layout_options import LayoutOptions, parse_layout
from secagg.encoding import Template

MODEL = Template.of({"w": np.zeros(3), "bias.a": np.zeros(2), "bias.b": np.zeros(2), "visits": np.zeros(4)})


def test_nothing_given() -> None:
    assert parse_layout() == parse_layout([], [], []) == LayoutOptions()


def test_the_documented_forms() -> None:
    layout = parse_layout(
        ["10", "bias*=0.5", "odd=name=1e6"],
        ["w=24"],
        ["visits=0..100000", "cost=-1000000..1000000:2", "steps = 0..1e6", "balance=-5.. 5:0"],
    )
    assert layout.clip == 10.0
    assert layout.clips == {"bias*": 0.5, "odd=name": 1e6}
    assert layout.array_bits == {"w": 24}
    assert layout.exact == {
        "visits": Exact(0, 100000),
        "cost": Exact(-1000000, 1000000, 2),
        "steps ": Exact(0, 1000000),
        "balance": Exact(-5, 5),
    }


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**9), st.integers(0, 5))
def test_every_range_comes_back(low: int, width: int, decimals: int) -> None:
    exact = Exact(low, low + width, decimals)
    assert parse_layout(exact=[f"a={low}..{low + width}:{decimals}"]).exact == {"a": exact}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clip": ["ten"]}, "--clip 'ten': 'ten' is not a number"),
        ({"clip": ["nan"]}, "--clip 'nan': the clip is nan"),
        ({"clip": ["-1"]}, "--clip '-1': the clip is -1.0: must be a number from 1e-100 to 1e\\+100"),
        ({"clip": ["w=0"]}, "--clip 'w=0': the clip is 0.0"),
        ({"clip": ["1", "2"]}, "--clip 2: --clip is there twice for all arrays; write --clip 'ARRAY=2'"),
        ({"clip": ["w=1", "w=2"]}, "--clip 'w=2': w is there twice"),
        ({"clip": ["=1"]}, "--clip '=1': write it as ARRAY=VALUE"),
        ({"array_bits": ["24"]}, "--array-bits '24': write it as ARRAY=VALUE"),
        (
            {"array_bits": ["w=33"]},
            "--array-bits 'w=33': the number of bits is 33: must be a whole number from 2",
        ),
        ({"array_bits": ["w=2.5"]}, "--array-bits 'w=2.5': '2.5' is not a whole number"),
        ({"exact": ["w"]}, "--exact 'w': write it as ARRAY=VALUE"),
        ({"exact": ["w=5"]}, "--exact 'w=5': write the range as LOW..HIGH"),
        ({"exact": ["w=0...5"]}, "'.5' is not a whole number"),
        ({"exact": ["w=0.5..5"]}, "'0.5' is not a whole number"),
        ({"exact": ["w=0..1e999999999"]}, "'1e999999999' is not a whole number of at most"),
        ({"exact": ["w=0..inf"]}, "'inf' is not a whole number"),
        ({"exact": ["w=x..5"]}, "'x' is not a whole number"),
        ({"exact": ["w=3..3"]}, "--exact 'w=3..3': an exact array from 3 to 3: high must be above low"),
        ({"exact": ["w=0..1:x"]}, "'x' is not a whole number"),
        ({"exact": ["w=0..1:16"]}, "--exact 'w=0..1:16': decimals is 16: must be a whole number from 0 to 15"),
        ({"exact": ["w=0..1e17"]}, "--exact 'w=0..1e17': high is 100000000000000000"),
    ],
)
def test_texts_that_say_nothing(given: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        parse_layout(**given)


def test_the_encoder_is_that_of_the_library() -> None:
    layout = parse_layout(["10", "bias*=0.5"], ["w=24"], ["visits=0..100000"])
    wanted = Encoder(
        MODEL, 10.0, 16, 50, clips={"bias*": 0.5}, array_bits={"w": 24}, exact={"visits": Exact(0, 100000)}
    )
    assert layout.encoder(MODEL, 16, 50).layout_digest() == wanted.layout_digest()


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (parse_layout(["1", "c=2"]), "--clip 'c=...': no array has this name; the arrays are w, bias.a, bias.b, vis"),
        (parse_layout(["1"], ["c*=2"]), "--array-bits 'c\\*=...': no array"),
        (parse_layout(["1"], [], ["c=0..1"]), "--exact 'c=...': no array"),
        (parse_layout(["bias*=1"], [], ["v*=0..1"]), "--clip is missing: w would have none; give --clip VALUE, or"),
    ],
)
def test_layouts_that_do_not_fit_the_arrays(layout: LayoutOptions, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        layout.encoder(MODEL, 16)


def test_no_clip_is_needed_where_every_array_has_its_own_or_is_exact() -> None:
    parse_layout(["bias*=1", "w=2"], [], ["visits=0..1"]).encoder(MODEL, 16)
    parse_layout(exact=["*=0..1"]).encoder(MODEL, 16)


def test_a_clip_that_stands_in() -> None:
    assert parse_layout().encoder(MODEL, 16, clip=3.0).clip == 3.0
    assert parse_layout(["2"]).encoder(MODEL, 16, clip=3.0).clip == 2.0
    with pytest.raises(ParameterError, match="--bits is 33"):
        parse_layout(["2"]).encoder(MODEL, 33)
