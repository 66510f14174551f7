"""The library's mechanisms as the reference of ``specs/distributed-dp.md`` has them."""

from __future__ import annotations

from fractions import Fraction

from reference import private as reference

from secagg.privacy import Mechanism


def reference_of(met: Mechanism, max_weight: int | None = None, weight_clip: float = 0.0) -> reference.Mechanism:
    return reference.Mechanism(
        noise=met.noise.value,
        clip=met.clip,
        scale=Fraction(met.scale),
        bits=met.bits,
        rounding_failure=met.rounding_failure,
        variance=met.variance,
        length=met.length,
        max_weight=max_weight,
        weight_clip=weight_clip,
    )
