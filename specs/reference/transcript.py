"""What is hashed, signed, derived and committed to: the only place where a label stands, but for the arguments."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial

KEY_SHARE, SEED_SHARE = 0, 1


def u32(value: int) -> bytes:
    """Four bytes, little-endian, as every number outside of MessagePack's headers and AES blocks."""
    return value.to_bytes(4, "little")


def fields(label: str, *parts: bytes | int) -> bytes:
    """FIELDS: the label and the parts, each behind its length; an int stands for its four bytes."""
    encoded = [label.encode(), *(u32(part) if isinstance(part, int) else part for part in parts)]
    return b"".join(u32(len(part)) + part for part in encoded)


def digest(label: str, *parts: bytes | int) -> bytes:
    """HASH: SHA-256 of FIELDS."""
    return hashlib.sha256(fields(label, *parts)).digest()


def cohort_digest(identity_keys: Sequence[bytes]) -> bytes:
    """Of the Ed25519 identity keys, by index; the same in every version, for a cohort belongs to no round."""
    return digest("secagg/v1 cohort", len(identity_keys), b"".join(identity_keys))


class Labels:
    """What is hashed, signed, derived and committed to in the rounds of one version."""

    def __init__(self, version: int) -> None:
        prefix = f"secagg/v{version} "

        def hashed(label: str) -> Callable[..., bytes]:
            return partial(digest, prefix + label)

        def listed(label: str) -> Callable[..., bytes]:
            return partial(fields, prefix + label)

        self.config_digest = hashed("config")  # the config's bytes
        self.round_id = hashed("round")  # config digest, nonce
        self.session_id = hashed("session")  # config digest, nonce, roster digest
        self.join_token = hashed("join token")  # round id, index
        self.leaf = hashed("roster leaf")  # index, channel key, masking key
        self.empty_leaf = hashed("roster empty leaf")  # index
        self.node = hashed("roster node")  # left child, right child
        self.roster_digest = hashed("roster")  # round id, n, root
        self.graph_key = hashed("graph")  # roster digest, session
        self.envelope_polynomials = hashed("envelope polynomials")  # session
        self.signed_advertisement = listed("advertise")  # config digest, nonce, index, channel key, masking key
        self.signed_survivors = listed("survivors")  # session, bitmap
        self.complaint_digest = hashed("complaint digest")  # sealed pair, commitments; in suite 3 a record
        self.signed_complaint = listed("complaint")  # session, holder, dealer, digest
        self.signed_answer = listed("complaint answer")  # session, dealer, holder, digest, opened pair
        self.channel_info = listed("channel")  # suite, sender, receiver, their keys; in suite 3 the ciphertext
        self.pairwise_mask_info = listed("pairwise mask")  # suite, lower id, higher id, lower's key, higher's key
        self.self_mask_info = listed("self mask")  # suite, index
        self.seed_commitment_info = listed("seed commitment")  # suite, index
        self.share_randomness_info = listed("share randomness")  # suite, index, purpose
        self.sealed_shares_context = listed("sealed shares")  # session, sender, receiver, the phase's name
        self.x25519_key_info = listed("x25519 key")  # suite, index, purpose
        self.ml_kem_key_info = listed("ml-kem key")  # suite, index, purpose
        self.pair_secrets_info = listed("pair secrets")  # suite, index
        self.pair_secret_info = listed("pair secret")  # suite, sealer, holder
        self.pair_secret_seal_info = listed("pair secret seal")  # suite, sealer, holder, their keys, ciphertext
        self.sealed_pair_secret_context = listed("sealed pair secret")  # session, sealer, holder, the phase's name
        self.pair_secret_commitment = hashed("pair secret commitment")  # session, sealer, holder, pair secret
        self.hash_of_sum = hashed("sum")  # session, SHA-256 of the packed sum
        self.signed_certificate = listed("certificate")  # the certificate, with zero bytes for its signature
        self.certificate_digest = hashed("certificate chain")  # the certificate
        self.signed_silence = listed("silence")  # session
        self.signed_receipt = listed("receipt")  # session, number of the group, digest of the sum
        self.commitment_head = listed("share commitment")()

    def share_commitment(self, session: bytes, dealer: int, holder: int, kind: int, salt: bytes, share: bytes) -> bytes:
        """To one share.  Only the label stands behind its length: everything else has one length ever."""
        parts = self.commitment_head, session, u32(dealer), u32(holder), bytes([kind]), salt, share
        return hashlib.sha256(b"".join(parts)).digest()

    def sum_digest(self, session: bytes, packed: bytes) -> bytes:
        """R-CHAIN-2: a sum is hashed before it becomes a field, for it may be longer than a field can say."""
        return self.hash_of_sum(session, hashlib.sha256(packed).digest())


V1 = Labels(1)
