"""Replay the private encoding's vectors with the executable reference, as ``replay`` does those of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from reference import private

from .recipes.private import long_update
from .replay import Test, expect


def failures(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Id and difference of each test of a file that the reference does not keep."""
    for test in content["tests"]:
        try:
            _FUNCTIONS[test["function"]](test)
        except Exception as difference:  # whatever it is, it is not what the test says
            yield test["id"], f"{type(difference).__name__}: {difference}"


def _texts(values: Sequence[int]) -> list[str]:
    return list(map(str, values))


def _doubles(values: Sequence[str]) -> list[float]:
    return [float.fromhex(value) for value in values]


def _mechanism(test: Test) -> private.Mechanism:
    told = test["mechanism"]
    return private.Mechanism(
        noise=told["noise"],
        clip=float.fromhex(told["clip"]),
        scale=Fraction(*map(int, told["scale"])),
        bits=told["bits"],
        rounding_failure=float.fromhex(told["rounding_failure"]),
        variance=int(told["variance"]),
        length=told["length"],
        max_weight=told["max_weight"],
        weight_clip=float.fromhex(told["weight_clip"]),
    )


def _noise(test: Test) -> None:
    key = bytes.fromhex(test["key"])
    values = private.noise(test["kind"], int(test["variance"]), key, len(test["values"]))
    expect("values", _texts(values), test["values"])


def _trial(test: Test) -> None:
    u, t = (bytes.fromhex(test[name]) for name in ("u", "t"))
    whole, signed = (int.from_bytes(u, "big"), int.from_bytes(t, "big", signed=True))
    met = private.tried(test["kind"], int(test["variance"]), Fraction(whole, 2**384), Fraction(signed, 2**384))
    expect("value", None if met is None else str(met), test["value"])


def _bounds(test: Test) -> None:
    mechanism = _mechanism(test)
    expect("dimension", mechanism.dimension, test["dimension"])
    expect("bound", str(private.squared_norm_bound(mechanism)), test["squared_norm_bound"])
    expect("clip", private.update_clip(mechanism).hex(), test["update_clip"])
    expect("steps", private.steps_in_a_unit(mechanism).hex(), test["steps_in_a_unit"])


def _digest(test: Test) -> None:
    arrays = [(array["keys"], array["shape"]) for array in test["arrays"]]
    expect("digest", private.layout_digest(_mechanism(test), arrays, test.get("levels", 0)).hex(), test["digest"])


def _signs(test: Test) -> None:
    signs = private.signs(bytes.fromhex(test["context"]), len(test["signs"]))
    expect("signs", "".join("-" if sign < 0 else "+" for sign in signs), test["signs"])


def _hadamard(test: Test) -> None:
    expect("result", private.hadamard(_doubles(test["values"])), _doubles(test["result"]))


def _round(test: Test) -> None:
    key, bound = bytes.fromhex(test["key"]), int(test["squared_norm_bound"])
    expect("rounded", _texts(private.round_conditionally(_doubles(test["values"]), key, bound)), test["rounded"])


def _rotate(test: Test) -> None:
    met = private.rotate(_mechanism(test), bytes.fromhex(test["context"]), long_update(), 1)
    expect("rotated", met[: len(test["rotated"])], _doubles(test["rotated"]))


def _encode(test: Test) -> None:
    mechanism, context, seed = _mechanism(test), bytes.fromhex(test["context"]), bytes.fromhex(test["seed"])
    update, weight = _doubles(test["update"]), int(test["weight"])
    expect("rotated", private.rotate(mechanism, context, update, weight), _doubles(test["rotated"]))
    vector = private.encode(mechanism, context, seed, update, weight)
    expect("vector", _texts(vector), test["vector"])
    _decodes(test, private.decode(mechanism, context, vector, 1))


def _decodes(test: Test, decoded: tuple[list[float], float]) -> None:
    expect("mean", decoded[0], _doubles(test["mean"]))
    expect("weight", decoded[1].hex(), test["total_weight"])


def _levels_of(test: Test, mechanism: private.Mechanism) -> private.Levels:
    return private.levels_of(mechanism, levels=test["levels"], **test["cohort"])


def _levels(test: Test) -> None:
    mechanism = private.Mechanism("skellam", 1.0, Fraction(1), 16, 0.0, int(test["variance"]), 1)
    levels, cohort = _levels_of(test, mechanism), test["cohort"]
    expect("losses", levels.losses, test["losses"])
    expect("variances", _texts(levels.variances), test["variances"])
    for reached in test["reached"]:
        lost = reached["lost"]
        expect("level", levels.reached(lost), reached["level"])
        counts = private.variance_that_counts(levels, lost, cohort["clients"] - lost, cohort["colluders"])
        expect("counts", str(counts), reached["counts"])


def _encode_in_levels(test: Test) -> None:
    mechanism = _mechanism(test)
    vector, links = private.encode_in_levels(
        mechanism,
        _levels_of(test, mechanism),
        bytes.fromhex(test["context"]),
        bytes.fromhex(test["seed"]),
        _doubles(test["update"]),
        int(test["weight"]),
    )
    expect("vector", _texts(vector), test["vector"])
    expect("links", [link.hex() for link in links], [entry["link"] for entry in test["attachment"]])


def _removal(test: Test) -> None:
    mechanism, lost = _mechanism(test), test["lost"]
    levels, links = _levels_of(test, mechanism), [bytes.fromhex(link) for link in test["links"]]
    left = private.without_surplus(mechanism, levels, list(map(int, test["sum"])), lost, links)
    expect("left", _texts(left), test["left"])
    included = test["cohort"]["clients"] - lost
    variance = private.variance_of_sum(levels, lost, included, len(links))
    expect("variance", str(variance), test["variance"])
    _decodes(test, private.decode(mechanism, bytes.fromhex(test["context"]), left, included, variance))


_FUNCTIONS: Mapping[str, Callable[[Test], None]] = {
    "noise": _noise,
    "trial": _trial,
    "bounds": _bounds,
    "layout_digest": _digest,
    "layout_digest_with_levels": _digest,
    "signs": _signs,
    "hadamard": _hadamard,
    "round": _round,
    "rotate": _rotate,
    "encode": _encode,
    "levels": _levels,
    "encode_in_levels": _encode_in_levels,
    "removal": _removal,
}
