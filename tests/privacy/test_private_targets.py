"""The private encoding is the same without the JIT, and for other processors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import hashlib
from fractions import Fraction
from types import SimpleNamespace

import numpy as np

from secagg.privacy import Mechanism, NoiseKind, PrivateEncoder

found = hashlib.sha256()
for kind in NoiseKind:
    for variance in (3, 3000):
        mechanism = Mechanism(
            noise=kind, clip=1.0, scale=Fraction(1000), bits=20, rounding_failure=0.6, variance=variance, length=20
        )
        encoder = PrivateEncoder(np.zeros(20), mechanism, randomness=bytes)
        terms = {"input_max": 2**20 - 1, "modulus": encoder.modulus_for(5), "context": b"", "attachment_bytes": 0}
        shape = SimpleNamespace(clients=5, length=32, **terms)
        encoder = encoder.for_round(shape)
        vector = encoder.encode(np.arange(20.0))
        found.update(vector.tobytes() + encoder.decode_sum(vector, 1).mean.round(9).tobytes())
print(found.hexdigest())
"""


def digest(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "environment", [{"NUMBA_DISABLE_JIT": "1"}, {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}]
)
def test_vectors_are_the_same(environment: dict[str, str]) -> None:
    assert digest(**environment) == digest()
