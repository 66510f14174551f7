"""Vectors of the private encoding: noise by trial and by key, rounding, rotation, and whole encodings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

from reference import primitives, private
from reference.private import Mechanism

from .common import File, Test, labelled, numbers

CANONICAL = math.exp(-0.5)
KINDS = ("skellam", "discrete-gaussian")
_VARIANCES = (1, 2, 3, 50, 2047, 2048, 2049, 1_000_001, 2**40, 2**62)


def private_files() -> dict[str, File]:
    """Every file, by name."""
    return {"noise": noise(), "encoding": encoding(), "levels": levels()}


def _file(kind: str, about: str, flags: dict[str, str], tests: Sequence[Test]) -> File:
    used = {flag for test in tests for flag in test["flags"]}
    if used != set(flags):
        raise ValueError(f"{kind}: flags {sorted(used ^ set(flags))} are not both used and described")
    return {
        "protocol": "secagg private encoding",
        "version": 1,
        "kind": kind,
        "about": about,
        "flags": {name: {"catches": flags[name]} for name in sorted(flags)},
        "tests": [{"id": f"{kind}-{place}", **test} for place, test in enumerate(tests, 1)],
    }


def _entry(requirements: str, function: str, comment: str, flags: str = "", **rest: object) -> Test:
    named = [f"DP-{name}" for name in requirements.split()]
    return {"requirements": named, "function": function, "comment": comment, "flags": flags.split(), **rest}


# Noise.


def noise() -> File:
    """Values from a key, and single trials."""
    flags = {
        "FURTHER_BITS": "a trial that is decided by the first 64 bits of U and of T alone",
        "ROOT": "a scale whose square root is a whole number",
        "NARROW": "a Poisson variable's mode, and probabilities of negative counts",
        "ODD": "a mean that is no whole number",
        "WIDE": "floats in which a unit is lost",
    }
    return _file(
        "noise", "Noise from a key, and what becomes of single trials.", flags, [*_drawn(), *_trials(), *_whole_roots()]
    )


def _drawn() -> Iterator[Test]:
    for kind in KINDS:
        for variance in _VARIANCES:
            key = labelled(f"noise {kind} {variance}", 32)
            flags = "NARROW" if variance < 4 else "WIDE" if variance > 2**53 else ""
            flags += " ODD" if variance % 2 and kind == "skellam" else ""
            requirements = f"NOISE-1 NOISE-2 NOISE-3 {'NOISE-4' if kind == 'skellam' else 'NOISE-5'}"
            values = numbers(private.noise(kind, variance, key, 16))
            shown = {"kind": kind, "variance": str(variance), "key": key.hex(), "values": values}
            yield _entry(requirements, "noise", f"{kind} of variance {variance}", flags, **shown)


def _whole_roots() -> Iterator[Test]:
    """Variances for which the square root in s is 3,679."""
    for kind, variance in (("skellam", 9_197_500), ("discrete-gaussian", 4_598_750)):
        key = labelled(f"noise {kind} {variance}", 32)
        requirements = f"NOISE-1 NOISE-2 NOISE-3 {'NOISE-4' if kind == 'skellam' else 'NOISE-5'}"
        values = numbers(private.noise(kind, variance, key, 64))
        shown = {"kind": kind, "variance": str(variance), "key": key.hex(), "values": values}
        yield _entry(requirements, "noise", f"{kind} of variance {variance}", "ROOT", **shown)


def _trials() -> Iterator[Test]:
    """Bits of U and T as hex, 64 bits each time, most significant first; the accepted value, or none."""
    zeros, ones = "00" * 8, "ff" * 8
    cases = [
        ("skellam", 1000, "80" + "00" * 7, "00" * 8, "a value in the middle"),
        ("skellam", 1000, "80" + "00" * 7, "30" + "00" * 7, "a value far out"),
        ("skellam", 1, "60" + "00" * 7, "e0" + "00" * 7, "less than no event"),
        ("discrete-gaussian", 1000, ones, "7f" + "ff" * 7, "the corner"),
        ("discrete-gaussian", 1000, "00" * 7 + "05", "00" * 8, "a small U"),
        ("discrete-gaussian", 2**40, "00" * 7 + "04" + "c0" + "00" * 7, "ff" * 7 + "ec" + "40" + "00" * 7, "5 / 2^64"),
        (
            "discrete-gaussian",
            2**40,
            "00" * 8 + "00" * 3 + "f0" + "00" * 4,
            "00" * 8 + "00" * 3 + "7f" * 5,
            "below 2^-64",
        ),
    ]
    for kind, variance, u, t, comment in cases:
        u, t = (bits.ljust(16 * 7, end[:1]) for bits, end in ((u, zeros), (t, ones)))
        flags = "FURTHER_BITS" if "/" in comment or "below" in comment else ""
        value = private.tried(kind, variance, _fraction(u), _fraction(t, signed=True))
        shown = {"kind": kind, "variance": str(variance), "u": u, "t": t}
        yield _entry("NOISE-1 NOISE-2", "trial", comment, flags, **shown, value=None if value is None else str(value))
    yield from _close_trials()


def _close_trials() -> Iterator[Test]:
    """U^2 above and below f(K), by 2^-100 of it."""
    for kind, variance, k in (("discrete-gaussian", 50, 5), ("skellam", 1000, -30), ("skellam", 9, 4)):
        root = private.root_of_density(kind, variance, k, 448)
        scale = private.scale_of(kind, variance)
        for side in (-1, 1):
            u = root + side * (root >> 100)
            t = k * u // scale  # x is K, up to a part in 2^400
            bits = {"u": f"{u:0112x}", "t": f"{t % 2**448:0112x}"}
            value = str(k) if side < 0 else None
            met = private.tried(kind, variance, _fraction(bits["u"]), _fraction(bits["t"], signed=True))
            if met != (k if side < 0 else None):
                raise ValueError("this trial is not what it was made to be")
            comment = f"U^2 {'below' if side < 0 else 'above'} f({k}), as far as 160 bits do not tell"
            yield _entry(
                "NOISE-1 NOISE-2",
                "trial",
                comment,
                "FURTHER_BITS",
                kind=kind,
                variance=str(variance),
                **bits,
                value=value,
            )


def _fraction(bits: str, *, signed: bool = False) -> Fraction:
    """448 bits in hex as 2^64 U or T."""
    return Fraction(int.from_bytes(bytes.fromhex(bits), "big", signed=signed), 2**384)


# The encoding.


def encoding() -> File:
    """Whole encodings, and their steps."""
    flags = {
        "AGAIN": "the first rounding is taken although it is too long",
        "CLIPPED": "an update that is longer than the clip",
        "CLOSE": "a comparison whose two sides are equal",
        "EXTREME": "squares that overflow or vanish, and powers of two that no double has",
        "ONE": "the smallest vector",
        "RUNS": "squares that are summed in one run",
        "TOWARDS_ZERO": "a rounding that never ends, or ends in another way",
        "WEIGHTED": "the weight's coordinate, and what it takes of the clip",
    }
    tests = [
        *_bounds(),
        *_digests(),
        *_transforms(),
        *_roundings(),
        *_encodings(),
        _long_rotation(),
        *_close_roundings(),
    ]
    return _file("encoding", "From an update to elements and back. Doubles are in hexadecimal.", flags, tests)


def base(length: int, **changes: object) -> Mechanism:
    """A mechanism with few bits and little noise, unless changed."""
    values: dict[str, object] = {
        "noise": "skellam",
        "clip": 0.5,
        "scale": Fraction(1001, 8),
        "bits": 16,
        "rounding_failure": CANONICAL,
        "variance": 900,
        "length": length,
    }
    return Mechanism(**(values | changes))  # type: ignore[arg-type]


def _shown(mechanism: Mechanism) -> Test:
    scale = [str(mechanism.scale.numerator), str(mechanism.scale.denominator)]
    return {
        "noise": mechanism.noise,
        "clip": mechanism.clip.hex(),
        "scale": scale,
        "bits": mechanism.bits,
        "rounding_failure": mechanism.rounding_failure.hex(),
        "variance": str(mechanism.variance),
        "length": mechanism.length,
        "max_weight": mechanism.max_weight,
        "weight_clip": mechanism.weight_clip.hex(),
    }


def _bounds() -> Iterator[Test]:
    cases = [
        (base(1), "ONE"),
        (base(1000), ""),
        (base(1000, rounding_failure=0.0), ""),
        (base(64, rounding_failure=0.0, clip=1.0, scale=Fraction(100)), ""),
        (base(1000, rounding_failure=0.9999999), ""),
        (base(3, rounding_failure=1e-300, clip=1e-90, scale=Fraction(2**320)), ""),
        (base(2**20, clip=1.0, scale=Fraction(24102.835), rounding_failure=CANONICAL), ""),
        (base(101, max_weight=10, weight_clip=0.125), "WEIGHTED"),
        (base(101, max_weight=10, weight_clip=0.4999999999), "WEIGHTED"),
    ]
    for mechanism, flags in cases:
        yield _entry(
            "PARAM-2 PARAM-3 CLIP-2 CLIP-5",
            "bounds",
            "what follows from a mechanism",
            flags,
            mechanism=_shown(mechanism),
            dimension=mechanism.dimension,
            squared_norm_bound=str(private.squared_norm_bound(mechanism)),
            update_clip=private.update_clip(mechanism).hex(),
            steps_in_a_unit=private.steps_in_a_unit(mechanism).hex(),
        )


def _digests() -> Iterator[Test]:
    cases = [
        (base(6), [([], [2, 3])], ""),
        (
            base(9, noise="discrete-gaussian", max_weight=7, weight_clip=0.125),
            [(["a", "b"], [2, 3]), (["a", 0], [2])],
            "WEIGHTED",
        ),
        (base(1), [(["caf\u00e9"], []), (["empty"], [0, 4])], "ONE"),
    ]
    for mechanism, arrays, flags in cases:
        shown = [{"keys": keys, "shape": shape} for keys, shape in arrays]
        digest = private.layout_digest(mechanism, arrays).hex()
        yield _entry(
            "PARAM-4", "layout_digest", "a layout", flags, mechanism=_shown(mechanism), arrays=shown, digest=digest
        )


def _transforms() -> Iterator[Test]:
    for size in (1, 2, 4, 64):
        values = _doubles(f"transform {size}", size)
        shown = {"values": _hex(values), "result": _hex(private.hadamard(values))}
        yield _entry("ROTATE-2", "hadamard", f"{size} values", "ONE" if size == 1 else "", **shown)
    for size in (1, 13, 300):
        context = labelled(f"context {size}", size)
        signs = "".join("-" if sign < 0 else "+" for sign in private.signs(context, size))
        yield _entry("ROTATE-1", "signs", f"{size} signs", "", context=context.hex(), signs=signs)


def _roundings() -> Iterator[Test]:
    halves = [0.5, -0.5, 1.5, -1.5, -1e-300, 7.0, -7.0, 2.0**46 + 0.25]
    cases: list[tuple[list[float], int, str, str]] = [
        (halves, 2**100, "", "halves, whole numbers, and extremes"),
        ([0.5] * 64, 40, "", "one that is short enough at once"),
        ([0.5] * 64, 28, "AGAIN", "one that is taken again and again"),
        ([0.5] * 64, 24, "AGAIN", "one that is taken again many times"),
        ([0.5, -0.5, 1.5, -1.5] * 8, 16, "TOWARDS_ZERO", "one that is never short enough"),
    ]
    for values, bound, flags, comment in cases:
        key = labelled(f"rounding {comment}", 32)
        rounded = numbers(private.round_conditionally(values, key, bound))
        shown = {"values": _hex(values), "key": key.hex(), "squared_norm_bound": str(bound), "rounded": rounded}
        yield _entry("ROUND-1 ROUND-2 ROUND-3", "round", comment, flags, **shown)


def _close_roundings() -> Iterator[Test]:
    """Values whose X is their draw, which rounds them down, and a sum of squares that is the bound."""
    key = labelled("rounding of what is equal", 32)
    stream = primitives.aes_blocks(key, range(2))
    draws = [int.from_bytes(stream[4 * i : 4 * i + 4], "little") for i in range(8)]
    even = [0.5] * 8
    squares = sum(draw < 2**31 for draw in draws)  # of the first attempt, in which a value is 0 or 1
    cases = [
        ([draw / 2**32 for draw in draws], 8, "draws that are equal to X"),
        (even, squares, "a sum of squares that is the bound"),
    ]
    for values, bound, comment in cases:
        rounded = numbers(private.round_conditionally(values, key, bound))
        shown = {"values": _hex(values), "key": key.hex(), "squared_norm_bound": str(bound), "rounded": rounded}
        yield _entry("ROUND-1 ROUND-2 ROUND-3", "round", comment, "CLOSE", **shown)


def _encodings() -> Iterator[Test]:
    ten = _doubles("update", 10)
    cases: list[tuple[Mechanism, list[float], int, str, str]] = [
        (base(10), [value / 100 for value in ten], 1, "", "an update within the clip"),
        (base(10), ten, 1, "CLIPPED", "an update beyond the clip"),
        (base(10, noise="discrete-gaussian"), ten, 1, "CLIPPED", "discrete Gaussian noise"),
        (base(10, rounding_failure=0.0), ten, 1, "CLIPPED", "rounding without a condition"),
        (base(1), [0.25], 1, "ONE", "one coordinate"),
        (base(1), [0.0], 1, "ONE EXTREME", "nothing"),
        (base(3), [1.5e308, -1.7e308, 0.0], 1, "CLIPPED EXTREME", "squares that overflow"),
        (base(3), [5e-324, 1e-310, -1e-300], 1, "EXTREME", "squares that vanish"),
        (
            base(3, clip=1e-90, scale=Fraction(2**306)),
            [1e-95, -2e-91, 0.0],
            1,
            "EXTREME",
            "a unit that is far too large",
        ),
        (base(11, max_weight=20, weight_clip=0.125), ten, 7, "CLIPPED WEIGHTED", "a weight"),
        (base(11, max_weight=20, weight_clip=0.125), [value / 100 for value in ten], 20, "WEIGHTED", "full weight"),
        (base(11, max_weight=20, weight_clip=0.125), ten, 0, "WEIGHTED", "no weight"),
        (
            base(9, max_weight=2**53, weight_clip=0.3),
            ten[:8],
            12345678901234567,
            "CLIPPED WEIGHTED",
            "a weight beyond the largest",
        ),
        (base(10, bits=2), ten, 1, "CLIPPED", "elements that wrap around"),
        (base(10, bits=32, scale=Fraction(2**30), variance=2**40), ten, 1, "CLIPPED", "large numbers"),
    ]
    for mechanism, update, weight, flags, comment in cases:
        context, seed = labelled(f"context {comment}", 12), labelled(f"seed {comment}", 32)
        vector = private.encode(mechanism, context, seed, update, weight)
        mean, divisor = private.decode(mechanism, context, vector, 1)
        yield _entry(
            "CLIP-1 CLIP-3 CLIP-4 ROTATE-1 ROTATE-2 ROUND-1 ROUND-2 ROUND-3 NOISE-6 WRAP-1 DECODE-1 DECODE-2",
            "encode",
            comment,
            flags,
            mechanism=_shown(mechanism),
            context=context.hex(),
            seed=seed.hex(),
            update=_hex(update),
            weight=str(weight),
            rotated=_hex(private.rotate(mechanism, context, update, weight)),
            vector=numbers(vector),
            mean=_hex(mean),
            total_weight=divisor.hex(),
        )


def _long_rotation() -> Test:
    """The only vector of more than one run of squares."""
    mechanism, context = base(33_000), labelled("context of a long update", 12)
    rotated = private.rotate(mechanism, context, long_update(), 1)
    return _entry(
        "CLIP-1 CLIP-3 CLIP-4 ROTATE-1 ROTATE-2",
        "rotate",
        "33,000 coordinates: number i is ((i 2654435761) mod 2^32 - 2^31) / 2^31; the first 64 rotated ones are shown",
        "CLIPPED RUNS",
        mechanism=_shown(mechanism),
        context=context.hex(),
        rotated=_hex(rotated[:64]),
    )


# Noise in levels.


def levels() -> File:
    """What follows from a config, encodings, and sums from which the surplus is taken."""
    flags = {
        "EQUAL": "a component of variance 0, which has no noise and a link all the same",
        "FEW": "more levels than losses",
        "NONE": "a round in which nobody may be lost",
        "QUORUM": "a quorum above min_survivors",
        "SILENT": "a member that revealed nothing, whose surplus stays",
        "WEIGHTED": "the noise of a weight, which the removal lowers too",
    }
    tests = [*_levels(), *_level_digests(), *_encodings_in_levels(), *_removals()]
    return _file("levels", "Noise in components, and the removal of those that are not needed.", flags, tests)


_COHORTS: dict[str, tuple[dict[str, int], int, str]] = {
    "ten clients, of whom three may be lost, in four levels": (
        {"clients": 10, "colluders": 2, "min_survivors": 7, "quorum": 0}, 4, "FEW"
    ),
    "ten clients, in two levels": ({"clients": 10, "colluders": 0, "min_survivors": 5, "quorum": 0}, 2, ""),
    "a quorum": ({"clients": 20, "colluders": 3, "min_survivors": 6, "quorum": 12}, 3, "QUORUM"),
    "nobody may be lost": ({"clients": 6, "colluders": 1, "min_survivors": 6, "quorum": 0}, 4, "NONE"),
}  # fmt: skip


def _levels() -> Iterator[Test]:
    many = {"clients": 1000, "colluders": 100, "min_survivors": 651, "quorum": 0}
    cases = [(cohort, number, 900, flags, comment) for comment, (cohort, number, flags) in _COHORTS.items()]
    cases += [
        (many, 64, 2**62, "", "a thousand clients, in as many levels as there may be"),
        (many, 64, 5, "EQUAL", "little noise in many levels"),
        (many, 1, 1, "EQUAL", "the least noise in one level"),
    ]
    for cohort, number, variance, flags, comment in cases:
        found = private.levels_of(base(1, variance=variance), levels=number, **cohort)
        allowed = found.losses[-1]
        lost = sorted({0, 1, *found.losses, *(most + 1 for most in found.losses), allowed // 2, allowed + 1})
        counted = [
            private.variance_that_counts(found, each, cohort["clients"] - each, cohort["colluders"]) for each in lost
        ]
        yield _entry(
            "LEVEL-2 LEVEL-8",
            "levels",
            comment,
            flags,
            cohort=cohort,
            levels=number,
            variance=str(variance),
            losses=found.losses,
            variances=numbers(found.variances),
            reached=[
                {"lost": each, "level": found.reached(each), "counts": str(least)}
                for each, least in zip(lost, counted, strict=True)
            ],
        )


def _level_digests() -> Iterator[Test]:
    mechanism = base(6)
    for number in (1, 64):
        yield _entry(
            "LEVEL-3",
            "layout_digest_with_levels",
            f"a layout with {number} levels",
            "",
            mechanism=_shown(mechanism),
            levels=number,
            arrays=[{"keys": [], "shape": [6]}],
            digest=private.layout_digest(mechanism, [([], [6])], number).hex(),
        )


def _encodings_in_levels() -> Iterator[Test]:
    ten = _doubles("update", 10)
    cases = [(base(10), cohort, number, flags, comment) for comment, (cohort, number, flags) in _COHORTS.items()]
    few, number, _ = _COHORTS["ten clients, in two levels"]
    cases += [
        (base(10, variance=1), few, number, "EQUAL", "the least noise"),
        (base(11, max_weight=20, weight_clip=0.125), few, number, "WEIGHTED", "a weight"),
    ]
    for mechanism, cohort, number, flags, comment in cases:
        context, seed = labelled(f"context in levels, {comment}", 12), labelled(f"seed in levels, {comment}", 32)
        weight = 1 if mechanism.max_weight is None else 7
        found = private.levels_of(mechanism, levels=number, **cohort)
        vector, links = private.encode_in_levels(mechanism, found, context, seed, ten, weight)
        yield _entry(
            "LEVEL-4 LEVEL-5 LEVEL-6",
            "encode_in_levels",
            comment,
            flags,
            mechanism=_shown(mechanism),
            cohort=cohort,
            levels=number,
            context=context.hex(),
            seed=seed.hex(),
            update=_hex(ten),
            weight=str(weight),
            vector=numbers(vector),
            attachment=_attachment(found, links, cohort["clients"]),
        )


def _attachment(found: private.Levels, links: Sequence[bytes], clients: int) -> list[dict[str, object]]:
    """Each link with the most losses that it is for."""
    most = [*found.losses[:-1], clients]
    return [{"lost": lost, "link": link.hex()} for lost, link in zip(most, links, strict=True)]


def _removals() -> Iterator[Test]:
    update = _doubles("update", 4)
    few, levels_of_few, _ = _COHORTS["ten clients, in two levels"]
    tight, levels_of_tight, _ = _COHORTS["nobody may be lost"]
    cases = [
        (base(4), few, levels_of_few, 0, 0, "", "nobody is lost"),
        (base(4), few, levels_of_few, 1, 0, "", "one is lost"),
        (base(4), few, levels_of_few, 3, 0, "", "so many are lost that nothing is removed"),
        (base(4), few, levels_of_few, 1, 2, "SILENT", "one is lost, and two are silent"),
        (base(4, variance=1), few, levels_of_few, 0, 0, "EQUAL", "the least noise"),
        (base(4, bits=2), few, levels_of_few, 0, 1, "SILENT", "elements that wrap around"),
        (base(4), tight, levels_of_tight, 0, 0, "NONE", "nobody may be lost"),
        (
            base(5, max_weight=20, weight_clip=0.125, variance=10**7),
            few, levels_of_few, 0, 3, "SILENT WEIGHTED", "weights that drown in noise",
        ),
    ]  # fmt: skip
    for mechanism, cohort, number, lost, silent, flags, comment in cases:
        context = labelled(f"context of a removal, {comment}", 12)
        found = private.levels_of(mechanism, levels=number, **cohort)
        included, weight = cohort["clients"] - lost, 1 if mechanism.max_weight is None else 7
        total, links = [0] * mechanism.dimension, []
        for member in range(included):
            seed = labelled(f"seed of a removal, {comment}, {member}", 32)
            vector, chain = private.encode_in_levels(mechanism, found, context, seed, update, weight)
            total = [(a + b) % 2**mechanism.bits for a, b in zip(total, vector, strict=True)]
            links.append(chain[found.reached(lost)])
        links = links[silent:]
        left = private.without_surplus(mechanism, found, total, lost, links)
        variance = private.variance_of_sum(found, lost, included, len(links))
        mean, divisor = private.decode(mechanism, context, left, included, variance)
        yield _entry(
            "LEVEL-5 LEVEL-7 LEVEL-8",
            "removal",
            comment,
            flags,
            mechanism=_shown(mechanism),
            cohort=cohort,
            levels=number,
            context=context.hex(),
            lost=lost,
            links=[link.hex() for link in links],
            sum=numbers(total),
            left=numbers(left),
            variance=str(variance),
            mean=_hex(mean),
            total_weight=divisor.hex(),
        )


def _doubles(label: str, count: int) -> list[float]:
    data = labelled(label, 8 * count)
    return [int.from_bytes(data[i : i + 8], "little", signed=True) / 2**62 for i in range(0, 8 * count, 8)]


def long_update() -> list[float]:
    return [((i * 2654435761) % 2**32 - 2**31) / 2**31 for i in range(33_000)]


def _hex(values: Sequence[float]) -> list[str]:
    return [value.hex() for value in values]
