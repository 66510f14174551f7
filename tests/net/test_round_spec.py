"""What cannot be hosted is refused when the round is described, with what is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from secagg import ParameterError, RoundConfig
from secagg.adapters.net.round_spec import RoundSpec
from tests.support.hosting import LAYOUT, spec_of

SPEC = spec_of(3)
ENCODER = LAYOUT.encoder()


def config(**changes: Any) -> RoundConfig:
    """The round's config, with something else in it."""
    options = {"input_max": ENCODER.input_max, "context": ENCODER.layout_digest(), "length": ENCODER.length, **changes}
    length = options.pop("length")
    return RoundConfig.for_cohort(3, length, delta=0.0, min_survivors=3, **options)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"config": config(input_max=ENCODER.input_max - 1)}, "input_max"),
        ({"config": config(length=ENCODER.length + 1)}, "elements"),
        ({"config": config(context=b"another")}, "context must be the digest of its layout"),
        ({"keys": (bytes(32),) * 4}, "4 keys for 3 clients"),
        ({"names": ("ada", "ben")}, "2 names for 3 clients"),
        ({"deadlines": {}}, "give ADVERTISE a deadline"),
    ],
)
def test_a_round_that_cannot_be_hosted(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        replace(SPEC, **changes)


def test_clients_have_names() -> None:
    assert SPEC.name_of(2) == "seat 2"
    assert replace(SPEC, names=("ada", "ben", "cy")).name_of(2) == "cy"
    assert isinstance(SPEC, RoundSpec)
