"""Layouts of thousands of arrays: they are sent in fragments, or refused at the start."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from secagg import ParameterError
from secagg.adapters.net.frames import FRAGMENT_BYTES, MAX_WELCOME_BYTES, RefusedError, decode_layout, encode_layout
from secagg.encoding.layout import Layout
from tests.support.hosting import LAYOUT, hosting, spec_of
from tests.support.moved_clock import run


def adapter(tensors: int, *, name: str = "") -> Layout:
    """The layout of a LoRA adapter: many small arrays with long names."""
    shapes = {f"base_model.model.layers.{n}.self_attn.q_proj.lora_A.{name}weight": (2, 1) for n in range(tensors)}
    return Layout.of(shapes, clip=1.0)


def test_a_layout_of_thousands_of_arrays_is_joined(tmp_path: Path, tls_folder: Path) -> None:
    layout = adapter(2500)
    assert len(encode_layout(layout)) > 2 * FRAGMENT_BYTES

    async def test() -> None:
        async with hosting([spec_of(3, layout=layout)], tmp_path, tls_folder) as host:
            arrays = [{name: np.full(shape, n / 10) for name, shape in layout.arrays} for n in range(3)]
            totals = await asyncio.gather(*(host.member(n, arrays=arrays[n]).run() for n in range(3)))
            for total in totals:
                assert all(np.abs(values - 0.1).max() < 1e-3 for values in total.mean.mean.values())

    run(test)


def test_a_layout_that_cannot_be_sent_is_refused_before_anybody_connects() -> None:
    layout = adapter(100, name="x" * (MAX_WELCOME_BYTES // 100))
    with pytest.raises(ParameterError, match=f"at most {MAX_WELCOME_BYTES:,} can be sent"):
        spec_of(3, layout=layout)


def test_a_layout_comes_back_or_is_refused() -> None:
    encoded = encode_layout(LAYOUT)
    assert decode_layout(encoded) == LAYOUT
    for wrong in (encoded[:-1], encoded + b"\x00", b"\xc1", encoded[:1]):
        with pytest.raises(RefusedError, match="does not decode"):
            decode_layout(wrong)


@pytest.mark.parametrize("begins", [b"", b"\x92\xa7private", b"\x81"])
def test_a_layout_that_is_nested_without_end_is_refused(begins: bytes) -> None:
    with pytest.raises(RefusedError, match=r"nested thousands of times|does not decode"):
        decode_layout(begins + b"\x91" * 100_000)
