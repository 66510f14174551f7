"""Lies about the invitation: another config, or another nonce."""

from __future__ import annotations

from dataclasses import dataclass, fields

from secagg.pairwise.config import RoundConfig
from secagg.testing.adversary.lies.lie import Lie, meant
from secagg.testing.adversary.world import Ids, LyingServer


def forged(config: RoundConfig, **changes: object) -> RoundConfig:
    """A config with other values, whether or not they are sound: none of the rules is checked."""
    made = object.__new__(RoundConfig)
    for field in fields(RoundConfig):
        object.__setattr__(made, field.name, changes.get(field.name, getattr(config, field.name)))
    return made


@dataclass(frozen=True, slots=True)
class ForgeConfig(Lie):
    """Some values of the config are others: a lower threshold, quorum or input_max, fewer colluders.

    For a config that everybody is sent, and that is to be accepted, see ``Attack.sends``.
    """

    changes: tuple[tuple[str, object], ...]
    to: Ids = ()

    def invitation(
        self, server: LyingServer, index: int, config: RoundConfig, nonce: bytes
    ) -> tuple[RoundConfig, bytes]:
        return (forged(config, **dict(self.changes)), nonce) if meant(self.to, index) else (config, nonce)


@dataclass(frozen=True, slots=True)
class OtherNonce(Lie):
    """Some clients are invited with a nonce of their own."""

    to: Ids

    def invitation(
        self, server: LyingServer, index: int, config: RoundConfig, nonce: bytes
    ) -> tuple[RoundConfig, bytes]:
        return config, bytes(byte ^ 0xFF for byte in nonce) if meant(self.to, index) else nonce
