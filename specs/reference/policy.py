"""What a client's host asks of a config before it joins: the config that it approved, or a policy."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import floor
from typing import Any

from .rules import Config

MEASURES: Mapping[str, Callable[[Config], int]] = {
    "version": lambda config: config.version,
    "attachment_bytes": lambda config: config.attachment_bytes,
    "groups": lambda config: config.groups,
    "complaints": lambda config: config.complaints,
    "clients": lambda config: config.clients,
    "sigma": lambda config: config.sigma,
    "grinding_bits": lambda config: config.grinding_bits,
    "neighbours": lambda config: config.neighbours,
    "threshold": lambda config: config.threshold,
    "quorum": lambda config: config.quorum,
    "survivors": lambda config: config.min_survivors if config.groups == 1 else config.min_group,  # R-GROUP-9
    "modulus_bits": lambda config: (config.modulus - 1).bit_length(),
    "input_bits": lambda config: config.input_max.bit_length(),
    "length": lambda config: config.length,
}

CARRIERS = {"masks": (0,), "lattice": (1,), "any": (0, 1)}  # R-ENV-9

SINCE_2 = ("version", "attachment_bytes", "groups", "complaints")  # those that policies for version 1 do not know


def share_of(rate: str, clients: int) -> int:
    """floor(rate n), of a rate such as "0.29" or "1/3"."""
    return floor(Fraction(rate) * clients)


def accepted(config: Config, policy: Mapping[str, Any], approve: str | None = None) -> str:
    """The code of a refusal, or nothing.  A policy has the names that it has in test vectors."""
    if approve is not None and config.digest.hex() != approve:
        return "config-not-approved"
    return "" if all(_holds(config, name, asked) for name, asked in policy.items()) else "config-below-policy"


def _holds(config: Config, name: str, asked: Any) -> bool:
    if name == "threat_model":
        return config.active or asked != "active"
    if name == "context":
        return config.context.hex() == asked
    if name == "carrier":
        return config.carrier in CARRIERS[asked]
    if name == "require_chain":  # R-CHAIN-6
        return not asked or config.chain != b""
    if name == "suites":
        return config.suite in asked
    if name == "gamma":
        return config.colluders >= share_of(asked, config.clients)
    if name == "min_grinding_bits" and not config.active:
        return True
    met = MEASURES[name[4:]](config)
    return met >= asked if name.startswith("min_") else met <= asked
