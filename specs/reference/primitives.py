"""The ciphers, signatures and agreements, each a few lines over ``cryptography``."""

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = {1: 16, 2: 32, 3: 32}  # suite -> bytes of a mask key and of a sealing key


def public_key(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


def has_low_order(public: bytes) -> bool:
    """Whether every agreement with this key is zero, which those with points of order 1, 2, 4 and 8 are."""
    try:
        agree(b"\1" * 32, public)
    except ValueError:
        return True
    return False


def kem_public_key(seed: bytes) -> bytes:
    """The encapsulation key of ML-KEM-768."""
    return MLKEM768PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()


def encapsulate(public: bytes) -> tuple[bytes, bytes]:
    """A fresh secret, and the ciphertext that brings it to the owner of an encapsulation key."""
    return MLKEM768PublicKey.from_public_bytes(public).encapsulate()


def decapsulate(seed: bytes, ciphertext: bytes) -> bytes:
    """The secret in a ciphertext; of one that was not made for this key, one that nobody else has."""
    return MLKEM768PrivateKey.from_seed_bytes(seed).decapsulate(ciphertext)


def passes_modulus_check(public: bytes) -> bool:
    """FIPS 203, 7.2: each of the 768 numbers of 12 bits, the lowest bit first, is below 3329."""
    digits = public[1151::-1].hex()  # three of them are a number, the last number first
    return all(int(digits[place : place + 3], 16) < 3329 for place in range(0, 3 * 768, 3))


def derive(secret: bytes, session: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA256 with the session as its salt."""
    return HKDF(algorithm=SHA256(), length=length, salt=session, info=info).derive(secret)


def seal(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """AES-GCM with a constant nonce: a key seals one plaintext, ever.  The tag comes last."""
    return AESGCM(key).encrypt(bytes(12), plaintext, associated)


def unseal(key: bytes, sealed: bytes, associated: bytes) -> bytes | None:
    try:
        return AESGCM(key).decrypt(bytes(12), sealed, associated)
    except InvalidTag:
        return None


def is_well_formed(identity: bytes) -> bool:
    """Whether these bytes are an identity key on which all verifiers agree."""
    return len(identity) == 32 and int.from_bytes(identity, "little") % 2**255 < 2**255 - 19


def identity_key(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed: bytes, message: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def aes_blocks(key: bytes, numbers: range) -> bytes:
    """AES of each number as a 16-byte big-endian block: for successive numbers, the keystream of CTR mode."""
    encryptor = Cipher(AES(key), ECB()).encryptor()  # noqa: S305
    return encryptor.update(b"".join(number.to_bytes(16, "big") for number in numbers)) + encryptor.finalize()
