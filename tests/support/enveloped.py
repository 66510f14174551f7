"""Rounds whose vectors come in lattice envelopes, and clients that send something else than the right one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg import RoundConfig
from secagg.pairwise import messages
from secagg.pairwise.messages import MaskedInput
from secagg.simulation.driver import RoundDriver
from secagg.testing.adversary import known_cohort

CLIENTS: Final = 9
LENGTH: Final = 70
Change = Callable[[bytes], bytes]
"""What a client sends in the place of its masked key and envelope."""


def config_of(model: str = "semi_honest", **options: Any) -> RoundConfig:
    given = {"gamma": 0, "delta": 0.4, "input_max": 1000, "carrier": "lattice", "version": 2, **options}
    cohort = known_cohort(CLIENTS)[2] if model == "active" else b""
    return RoundConfig.for_cohort(CLIENTS, LENGTH, threat_model=model, cohort=cohort, **given)


def vectors(config: RoundConfig) -> npt.NDArray[np.uint64]:
    """Everybody's vector; the first is the largest there is, the second zero."""
    elements = np.random.default_rng(5).integers(0, config.input_max, (CLIENTS, LENGTH), np.uint64, endpoint=True)
    elements[0], elements[1] = config.input_max, 0
    return elements


def known(config: RoundConfig) -> dict[str, Any]:
    """The identities and the directory of a round that has them."""
    identities, directory, _ = known_cohort(CLIENTS)
    return {"identities": identities, "directory": directory} if config.is_active else {}


def sum_over(config: RoundConfig, members: tuple[int, ...]) -> list[int]:
    """By Python integers."""
    columns = zip(*vectors(config)[list(members)].tolist(), strict=True)
    return [sum(column) % config.modulus.value for column in columns]


class Tampering(RoundDriver):
    """What some clients send in MASK is changed: in the place of the right message, or before it."""

    def __init__(self, config: RoundConfig, changed: Mapping[int, Change], *, repeat: bool = False) -> None:
        super().__init__(vectors(config), config, seed=1, **known(config))
        self.changed, self.repeat = changed, repeat
        self.sent: dict[int, bytes] = {}

    def hand_in(self, phase: str, index: int, message: bytes) -> None:
        if phase == "MASK":
            decoded = messages.to_server.decode(message, len(message), 2)
            assert isinstance(decoded, MaskedInput)
            self.sent[index] = bytes(decoded.vector)
            if index in self.changed:
                tampered = memoryview(self.changed[index](self.sent[index]))
                super().hand_in(phase, index, messages.encode(MaskedInput(2, decoded.session, tampered)))
                if not self.repeat:
                    return
        super().hand_in(phase, index, message)


def other_envelope(config: RoundConfig) -> Change:
    """The masked key as it was, and an envelope of zeros: good residues, to which no secret but zero belongs."""
    assert config.envelope is not None
    size = config.envelope.key_bytes
    return lambda vector: vector[:size] + bytes(len(vector) - size)


def residue_of_ones(vector: bytes) -> bytes:
    """The last residues are above every prime."""
    return vector[:-200] + b"\xff" * 200
