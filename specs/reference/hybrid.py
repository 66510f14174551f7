"""Key pairs of every suite, and what suite 3 adds to a pair of clients: section 10 of version 2.

A key pair is made of 32 drawn bytes.  They are the X25519 private key; in suite 3 they are the root of two private
keys, X25519's and ML-KEM-768's.  ``cryptography`` makes the keys, encapsulates and decapsulates.
"""

from . import primitives, wire
from .primitives import KEY_BYTES, derive
from .rules import Config


class KeyPair:
    """R-HYBRID-2: one of a client's two; ``purpose`` says which."""

    def __init__(self, config: Config, round_id: bytes, index: int, drawn: bytes, purpose: bytes) -> None:
        self.x25519, self.seed, self.secrets_key, labels = drawn, b"", b"", config.labels
        if config.suite == 3:
            self.x25519 = derive(drawn, round_id, labels.x25519_key_info(3, index, purpose), 32)
            self.seed = derive(drawn, round_id, labels.ml_kem_key_info(3, index, purpose), 64)
            self.secrets_key = derive(drawn, round_id, labels.pair_secrets_info(3, index), 32)
        self.public = primitives.public_key(self.x25519) + (primitives.kem_public_key(self.seed) if self.seed else b"")

    def agree(self, public: bytes) -> bytes:
        """By X25519, with another's public key."""
        return primitives.agree(self.x25519, public[:32])

    def opened(self, ciphertext: bytes, public: bytes) -> bytes:
        """The secret in a ciphertext, which other suites do not have, and behind it what X25519 agrees on."""
        return (primitives.decapsulate(self.seed, ciphertext) if self.seed else b"") + self.agree(public)


def halves(key: bytes) -> list[bytes]:
    """R-HYBRID-3: what is compared of a public key: the X25519 half, and in suite 3 the encapsulation key."""
    return [key[:32], key[32:]] if key[32:] else [key]


def is_usable(key: bytes) -> bool:
    """R-HYBRID-3, and R-ADVERTISE-4 in other suites."""
    return not primitives.has_low_order(key[:32]) and (not key[32:] or primitives.passes_modulus_check(key[32:]))


def sealer(places: dict[int, int], one: int, other: int) -> int:
    """R-HYBRID-6: of two neighbours, who seals the secret of the pair."""
    first, second = sorted((one, other), key=lambda client: places[client])
    return first if (places[second] - places[first]) % 2 == 1 else second


def pair_secret(config: Config, session: bytes, pair: KeyPair, own: int, holder: int) -> bytes:
    """R-HYBRID-7: as the sealer derives it, from its masking key pair."""
    return derive(pair.secrets_key, session, config.labels.pair_secret_info(3, own, holder), 32)


def sealing_key(
    config: Config, session: bytes, secret: bytes, ends: tuple[int, int], keys: tuple[bytes, bytes], ciphertext: bytes
) -> bytes:
    """R-HYBRID-7: of a pair secret, from both secrets of the two; ``ends`` and ``keys`` have the sealer first."""
    info = config.labels.pair_secret_seal_info(3, *ends, *keys, ciphertext)
    return derive(secret, session, info, KEY_BYTES[3])


def open_secret(
    config: Config, session: bytes, pair: KeyPair, ends: tuple[int, int], sealer_key: bytes, record: bytes
) -> bytes | None:
    """R-HYBRID-11: the pair secret in a record, from the holder's masking key pair; ``ends`` has the sealer first."""
    ciphertext, sealed = record[: wire.CIPHERTEXT[3]], record[wire.CIPHERTEXT[3] : -32]
    secret = pair.opened(ciphertext, sealer_key)
    key = sealing_key(config, session, secret, ends, (sealer_key, pair.public), ciphertext)
    return primitives.unseal(key, sealed, config.labels.sealed_pair_secret_context(session, *ends, b"SHARE"))


def is_committed(config: Config, session: bytes, ends: tuple[int, int], secret: bytes, record: bytes) -> bool:
    """R-HYBRID-12: whether a pair secret is the one that its record commits to."""
    return config.labels.pair_secret_commitment(session, *ends, secret) == record[-32:]


def complaint_digest(config: Config, box: bytes, both: bytes, record: bytes) -> bytes:
    """R-COMPLAIN-4: of what a dealer sends a holder.  ``record`` is empty where the dealer is not the sealer."""
    return config.labels.complaint_digest(box, both, *([record] if config.suite == 3 else []))


def mask_key(
    config: Config, session: bytes, one: int, other: int, pair: KeyPair, public: bytes, secret: bytes = b""
) -> bytes:
    """R-MASK-3: of the mask between two clients, from the masking key pair of one; ``secret`` is R-HYBRID-13's."""
    ends = (one, other, pair.public, public) if one < other else (other, one, public, pair.public)
    info = config.labels.pairwise_mask_info(config.suite, *ends)
    return derive(secret + pair.agree(public), session, info, KEY_BYTES[config.suite])
