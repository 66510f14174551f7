"""The versions of the wire: what a config says of them, what version 2 adds to its bytes, what a policy asks for."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import ErrorCode, ParameterError, PeerError, Policy, RoundConfig
from secagg.pairwise import config_wire, transcript
from tests.support import wire

KNOWN = r"1 and 2"


def draft(**options: Any) -> RoundConfig:
    return RoundConfig.for_cohort(5, 3, gamma=0, delta=0.2, **{"version": 2, **options})


def with_extensions(*parts: Any) -> bytes:
    return wire.write([*wire.read(draft().to_bytes())[:-1], list(parts)])


def test_a_config_is_of_version_1_unless_it_is_asked_for_another() -> None:
    assert RoundConfig.for_cohort(5, 3).version == 1
    assert draft().version == 2
    assert RoundConfig.for_cohort(5, 3).attachment_bytes == draft().attachment_bytes == 0


@given(st.integers(0, 1024))
def test_the_bytes_of_version_2_are_those_of_version_1_and_the_extensions(size: int) -> None:
    config = draft(attachment_bytes=size)
    first, *rest = wire.read(config.replace(version=1, attachment_bytes=0).to_bytes())
    assert first == 1
    assert config.to_bytes() == wire.write([2, *rest, [1, size] if size else []])
    assert RoundConfig.from_bytes(config.to_bytes()) == config
    label = b"secagg/v2 config"
    parts = b"".join(len(part).to_bytes(4, "little") + part for part in (label, config.to_bytes()))
    assert config.digest == hashlib.sha256(parts).digest()


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ((1, 0), "default is not written"),
        ((1,), "no value"),
        ((1, 5, 2), "no value"),
        ((1, 5, 1, 5), "after 1"),
        ((99, 5), f"extension 99; this library knows {', '.join(map(str, config_wire.EXTENSIONS))}"),
        ((0, 5), "extension 0"),
        ((-1, 5), "extension -1"),
        ((b"1", 5), "bytes"),
        ((1, b"5"), "attachment_bytes: it must be of type int"),
        ((1, -1), "attachment_bytes = -1"),
        ((1, 1025), "attachment_bytes = 1025: must be a whole number from 0 to 1024"),
        ((1, [5]), "does not decode"),
        ((1, True), "does not decode"),
    ],
)
def test_a_list_of_extensions_is_written_in_one_way(parts: tuple[Any, ...], told: str) -> None:
    assert RoundConfig.from_bytes(with_extensions(1, 5)).attachment_bytes == 5
    with pytest.raises(ParameterError, match=told):
        RoundConfig.from_bytes(with_extensions(*parts))


def test_version_1_has_no_extensions() -> None:
    values = wire.read(draft().to_bytes())
    with pytest.raises(ParameterError, match="does not decode"):
        RoundConfig.from_bytes(wire.write([1, *values[1:]]))
    with pytest.raises(ParameterError, match=r"attachment_bytes = 8: version 1 of the wire carries no attachment.*= 2"):
        draft(version=1, attachment_bytes=8)


@pytest.mark.parametrize("version", [0, 3, 127, -1])
def test_a_version_that_is_not_spoken_is_named_with_those_that_are(version: int) -> None:
    with pytest.raises(ParameterError, match=rf"version = {version}: this library speaks the versions {KNOWN}"):
        draft(version=version)
    values = [version, *wire.read(draft().to_bytes())[1:], "whatever it has besides"]
    with pytest.raises(ParameterError, match=rf"version {version}; this library speaks the versions {KNOWN}"):
        RoundConfig.from_bytes(wire.write(values))


def test_a_policy_asks_for_a_least_version() -> None:
    Policy(min_version=2).check(draft())
    Policy().check(draft())
    with pytest.raises(PeerError, match=r"version = 1; this client's policy asks for at least 2") as refused:
        Policy(min_version=2).check(draft(version=1))
    assert refused.value.code is ErrorCode.CONFIG_BELOW_POLICY


def test_a_policy_bounds_what_is_attached() -> None:
    """By default a host knows of no attachment: it finds out before it has joined, and not when it must submit."""
    Policy(max_attachment_bytes=32).check(draft(attachment_bytes=32))
    for policy, most in ((Policy(), 0), (Policy(max_attachment_bytes=31), 31)):
        with pytest.raises(PeerError, match=rf"attachment_bytes = 32.*at most {most}") as refused:
            policy.check(draft(attachment_bytes=32))
        assert refused.value.code is ErrorCode.CONFIG_BELOW_POLICY


def test_no_label_of_one_version_is_one_of_another() -> None:
    one, other = (transcript.labels(version) for version in transcript.VERSIONS)
    made = [
        (labels.config_digest(b""), labels.round_id(b"", b""), labels.leaf(0, b"", b""), labels.self_mask_info(1, 0))
        for labels in (one, other)
    ]
    assert not set(made[0]) & set(made[1])


@pytest.mark.parametrize("head", [b"\x91", b"\x92\x01", b"\xdc\x00\x14\x01"])
def test_a_config_that_is_nested_without_end_is_refused(head: bytes) -> None:
    """Whatever stands where a reader skips what it does not know yet must not end in a RecursionError."""
    with pytest.raises(ParameterError, match="does not decode"):
        RoundConfig.from_bytes(head + b"\x91" * 4000)
