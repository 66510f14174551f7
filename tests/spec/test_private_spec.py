"""The private encoding's specification: every requirement has a test, and library and reference keep the vectors."""

from __future__ import annotations

import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from fractions import Fraction
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from vectors.recipes.private import long_update

from secagg.encoding import Template
from secagg.privacy import Mechanism, PrivateEncoder, exact, perturbation, rotation
from secagg.privacy.noise import Noise
from secagg.privacy.parameters import NoiseKind
from secagg.privacy.removal import NoiseLevels
from tests.support.reference_parties import SPECS
from tests.support.ties import exists

Test = Mapping[str, Any]

TEXT = (SPECS / "distributed-dp.md").read_text(encoding="utf-8")
TIES: dict[str, list[str]] = tomllib.loads((SPECS / "distributed-dp.toml").read_text(encoding="utf-8"))
DEFINED = re.findall(r"^\*\*(DP-[A-Z]+-\d+)\.\*\*", TEXT, re.MULTILINE)
FILES = {path.stem: path for path in sorted((SPECS / "vectors" / "private-v1").glob("*.json"))}
CONTENTS = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
TESTS = {test["id"]: test for content in CONTENTS.values() for test in content["tests"]}


# Ties.


def named_by_vectors() -> dict[str, set[str]]:
    found = defaultdict(set)
    for name, content in CONTENTS.items():
        for test in content["tests"]:
            for requirement in test["requirements"]:
                found[requirement].add(f"vectors:{name}")
    return found


def test_every_requirement_has_tests_that_exist() -> None:
    assert len(set(DEFINED)) == len(DEFINED)
    assert sorted(DEFINED) == sorted(TIES)
    named = named_by_vectors()
    assert named.keys() <= set(DEFINED)
    for requirement, ties in TIES.items():
        assert {tie for tie in ties if tie.startswith("vectors:")} == named[requirement], requirement
        assert [tie for tie in ties if not tie.startswith("vectors:") and not exists(tie)] == []


def test_what_is_mentioned_is_defined() -> None:
    root = SPECS.parent
    paths = [path for place in ("specs", "secagg", "tests", "docs") for path in (root / place).rglob("*.*")]
    for path in (path for path in paths if path.suffix in (".md", ".py")):
        mentioned = set(re.findall(r"\bDP-[A-Z]+-\d+\b", path.read_text(encoding="utf-8")))
        assert mentioned - set(DEFINED) == set(), path.relative_to(root)


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_vectors_follow_the_schema(content: Test) -> None:
    schema = json.loads((SPECS / "vectors" / "private-schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(content)


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_vectors_have_ids_of_their_own_and_flags_that_are_explained(content: Test) -> None:
    ids = [test["id"] for test in content["tests"]]
    assert len(set(ids)) == len(ids)
    assert {flag for test in content["tests"] for flag in test["flags"]} == set(content["flags"])


# The library keeps them.


@pytest.mark.parametrize("name", TESTS)
def test_the_library_keeps_every_vector(name: str) -> None:
    test = TESTS[name]
    LIBRARY[test["function"]](test)


def mechanism_of(test: Test) -> Mechanism:
    told = test["mechanism"]
    return Mechanism(
        noise=told["noise"],
        clip=float.fromhex(told["clip"]),
        scale=Fraction(*map(int, told["scale"])),
        bits=told["bits"],
        rounding_failure=float.fromhex(told["rounding_failure"]),
        variance=int(told["variance"]),
        length=told["length"],
    )


def encoder_of(test: Test, template: object = None) -> PrivateEncoder:
    """An encoder of the test's mechanism and context, with its seed."""
    mechanism, max_weight = mechanism_of(test), test["mechanism"]["max_weight"]
    encoder = PrivateEncoder(
        np.zeros(mechanism.length - (max_weight is not None)) if template is None else template,
        mechanism,
        max_weight=max_weight,
        weight_clip=None if max_weight is None else float.fromhex(test["mechanism"]["weight_clip"]),
        randomness=lambda length: bytes.fromhex(test["seed"])[:length],
    )
    shape = {"clients": 5, "length": encoder.length, "input_max": encoder.input_max, "attachment_bytes": 0}
    context = bytes.fromhex(test.get("context", ""))
    return encoder.for_round(SimpleNamespace(**shape, modulus=encoder.modulus_for(5), context=context))


def doubles(values: list[str]) -> list[float]:
    return [float.fromhex(value) for value in values]


def keep_noise(test: Test) -> None:
    met = Noise(NoiseKind(test["kind"]), int(test["variance"]), bytes.fromhex(test["key"])).draw(len(test["values"]))
    assert list(map(str, met.tolist())) == test["values"]


def keep_trial(test: Test) -> None:
    variance = int(test["variance"])
    law: exact.Law = exact.CentredPoisson(variance) if test["kind"] == "skellam" else exact.DiscreteGaussian(variance)
    u, t = (bytes.fromhex(test[name]) for name in ("u", "t"))
    more = (
        (int.from_bytes(u[8 * i : 8 * i + 8], "big"), int.from_bytes(t[8 * i : 8 * i + 8], "big")) for i in count(1)
    )
    met = exact.decide(law, int.from_bytes(u[:8], "big"), int.from_bytes(t[:8], "big", signed=True), more)
    assert test["value"] == (None if met is None else str(met))


def keep_bounds(test: Test) -> None:
    mechanism, encoder = mechanism_of(test), encoder_of(test)
    assert mechanism.dimension == test["dimension"]
    assert str(mechanism.squared_norm_bound) == test["squared_norm_bound"]
    assert encoder.clip.hex() == test["update_clip"]
    root = perturbation.nearest_root(Fraction(mechanism.scale) ** 2 / mechanism.dimension)
    assert root.hex() == test["steps_in_a_unit"]


def keep_digest(test: Test) -> None:
    leaves: dict[Any, Any] = {}
    for array in test["arrays"]:
        node, value = leaves, np.zeros(array["shape"])
        if not array["keys"]:
            leaves = value  # type: ignore[assignment]
            continue
        for key in array["keys"][:-1]:
            node = node.setdefault(key, {})
        node[array["keys"][-1]] = value
    assert encoder_of(test, Template.of(leaves)).layout_digest().hex() == test["digest"]


def keep_signs(test: Test) -> None:
    bits = np.unpackbits(rotation.signs_of(bytes.fromhex(test["context"]), len(test["signs"])), bitorder="little")
    assert "".join("-" if bit else "+" for bit in bits[: len(test["signs"])]) == test["signs"]


def keep_hadamard(test: Test) -> None:
    values = np.array(doubles(test["values"]))
    rotation.transform(values)
    assert values.tolist() == doubles(test["result"])


def keep_round(test: Test) -> None:
    from secagg.arithmetic.kernels import private_rounding

    values = np.array(doubles(test["values"]))
    draws = perturbation._Draws(bytes.fromhex(test["key"]), len(values))
    limits: Any = SimpleNamespace(squared_norm_bound=int(test["squared_norm_bound"]), rounding_failure=0.5)
    attempt = perturbation._first_good(values, draws, limits)
    met = np.empty(len(values), np.int64)
    zeros = np.zeros(len(values), np.int64)
    private_rounding.round_and_add(values, draws.block(attempt, 0, len(values)), zeros, met)
    assert list(map(str, met.tolist())) == test["rounded"]


def rotated(test: Test, update: list[float], weight: int) -> list[float]:
    encoder = encoder_of(test)
    values = np.zeros(encoder.length)
    values[: len(update)] = update
    share = 1.0 if encoder.max_weight is None else min(weight, encoder.max_weight) / encoder.max_weight
    signs = rotation.signs_of(bytes.fromhex(test["context"]), encoder.length)
    encoder._scaling.rotate(values, len(update), max(map(abs, update)), share, signs)
    met: list[float] = values.tolist()
    return met


def keep_rotate(test: Test) -> None:
    expected = doubles(test["rotated"])
    assert rotated(test, long_update(), 1)[: len(expected)] == expected


def keep_encode(test: Test) -> None:
    update, weight = doubles(test["update"]), int(test["weight"])
    assert rotated(test, update, weight) == doubles(test["rotated"])
    encoder = encoder_of(test)
    vector = encoder.encode(np.array(update), weight)
    assert list(map(str, vector.tolist())) == test["vector"]
    mean = encoder.decode_sum(vector, 1)
    assert mean.mean.tolist() == pytest.approx(doubles(test["mean"]), rel=1e-9, abs=1e-9 * encoder.mechanism.clip)
    assert mean.weight == pytest.approx(float.fromhex(test["total_weight"]), rel=1e-9)


def levels_of(test: Test, mechanism: Mechanism) -> NoiseLevels:
    return NoiseLevels.of(mechanism, SimpleNamespace(**test["cohort"]), test["levels"])


def keep_levels(test: Test) -> None:
    mechanism = Mechanism(
        noise=NoiseKind.SKELLAM, clip=1.0, scale=1, bits=16, rounding_failure=0.0, variance=int(test["variance"]),
        length=1,
    )  # fmt: skip
    levels, cohort = levels_of(test, mechanism), test["cohort"]
    assert list(levels.losses) == test["losses"]
    assert list(map(str, levels.variances)) == test["variances"]
    for reached in test["reached"]:
        lost = reached["lost"]
        assert levels.level(lost) == reached["level"]
        left = levels.left(mechanism, cohort["clients"], cohort["clients"] - lost, cohort["colluders"])
        assert str(left.honest * left.variance) == reached["counts"]


def keep_digest_with_levels(test: Test) -> None:
    (array,) = test["arrays"]
    encoder = PrivateEncoder(np.zeros(array["shape"]), mechanism_of(test), levels=test["levels"])
    assert encoder.layout_digest().hex() == test["digest"]


def encoder_in_levels(test: Test) -> PrivateEncoder:
    mechanism, max_weight = mechanism_of(test), test["mechanism"]["max_weight"]
    encoder = PrivateEncoder(
        np.zeros(mechanism.length - (max_weight is not None)),
        mechanism,
        max_weight=max_weight,
        weight_clip=None if max_weight is None else float.fromhex(test["mechanism"]["weight_clip"]),
        levels=test["levels"],
        randomness=lambda length: bytes.fromhex(test["seed"])[:length],
    )
    shape = {"length": encoder.length, "input_max": encoder.input_max, "attachment_bytes": 32}
    cohort, context = test["cohort"], bytes.fromhex(test["context"])
    modulus = encoder.modulus_for(cohort["clients"])
    return encoder.for_round(SimpleNamespace(**shape, **cohort, modulus=modulus, context=context))


def keep_encode_in_levels(test: Test) -> None:
    vector, attachment = encoder_in_levels(test).encode_in_levels(
        np.array(doubles(test["update"])), int(test["weight"])
    )
    assert list(map(str, vector.tolist())) == test["vector"]
    assert [{"lost": lost, "link": link.hex()} for lost, link in attachment] == test["attachment"]


def keep_removal(test: Test) -> None:
    encoder, clients, lost = encoder_in_levels(test), test["cohort"]["clients"], test["lost"]
    levels, links = levels_of(test, encoder.mechanism), [bytes.fromhex(link) for link in test["links"]]
    total = np.array(list(map(int, test["sum"])), np.uint64)
    left = levels.without_surplus(total, encoder.mechanism, lost, links)
    assert list(map(str, left.tolist())) == test["left"]
    assert str(levels.variance_of_sum(lost, clients - lost, len(links))) == test["variance"]
    result: Any = SimpleNamespace(
        sum=total, included=range(clients - lost), min_survivors=1, attachments=dict(enumerate(links))
    )
    mean = encoder.decode_in_levels(result)
    assert mean.mean.tolist() == pytest.approx(doubles(test["mean"]), rel=1e-9, abs=1e-9 * encoder.mechanism.clip)
    assert mean.weight == pytest.approx(float.fromhex(test["total_weight"]), rel=1e-9)


LIBRARY = {
    "noise": keep_noise,
    "trial": keep_trial,
    "bounds": keep_bounds,
    "layout_digest": keep_digest,
    "signs": keep_signs,
    "hadamard": keep_hadamard,
    "round": keep_round,
    "rotate": keep_rotate,
    "encode": keep_encode,
    "levels": keep_levels,
    "layout_digest_with_levels": keep_digest_with_levels,
    "encode_in_levels": keep_encode_in_levels,
    "removal": keep_removal,
}
