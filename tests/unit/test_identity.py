"""Identity keys on which all verifiers agree, and no others (R-SIGN-2)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from secagg import MemoryDirectory, ParameterError, RoundConfig, Server
from secagg.primitives.signing import is_signing_key
from secagg.simulation import SeededRandomness, make_cohort

_, DIRECTORY, COHORT = make_cohort(5, SeededRandomness(0, "cohort"))
KEYS = list(DIRECTORY.cohort(COHORT) or ())
P = 2**255 - 19
ODD = [number.to_bytes(32, "little") for number in (P, P + 1, 2**255 - 1, 2**255 + P, 2**256 - 1)]
OTHER_LENGTHS = [b"", KEYS[0][:31], KEYS[0] + b"\0"]


class Anything:
    """A directory that vouches for whatever it was made with."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.keys = keys

    def cohort(self, digest: bytes) -> Sequence[bytes]:
        return self.keys


@pytest.mark.parametrize("key", ODD + OTHER_LENGTHS, ids=bytes.hex)
def test_a_key_that_is_no_canonical_point_is_refused(key: bytes) -> None:
    assert not is_signing_key(key)
    with pytest.raises(ParameterError, match="member 1 has an identity key"):
        MemoryDirectory([KEYS[0], key])


@pytest.mark.parametrize("number", [0, 1, P - 1, 2**255 + P - 1, 2**254, 2**248 * 0x7F])
def test_a_number_below_the_prime_is_taken(number: int) -> None:
    assert is_signing_key(number.to_bytes(32, "little"))


@pytest.mark.parametrize("key", [ODD[0], *OTHER_LENGTHS], ids=bytes.hex)
def test_a_server_opens_no_round_with_such_a_key(key: bytes) -> None:
    config = RoundConfig.for_cohort(5, 3, threat_model="active", gamma=0, delta=0.2, cohort=COHORT)
    Server(config, directory=Anything(KEYS))
    with pytest.raises(ParameterError, match="canonical Ed25519 key"):
        Server(config, directory=Anything([*KEYS[:-1], key]))
