"""Vectors of single functions on bytes and numbers: hashes, keys, masks, packing, sharing."""

from __future__ import annotations

from reference import arithmetic, primitives, rules, transcript
from reference.transcript import V1

from .common import LOW_ORDER, PRIME_16, File, Test, entry, file, labelled, numbers
from .configs import base_config
from .signatures import signatures

CASES_OF_MODULI = {
    1 << 1: "a ring of one bit in lanes of 8",
    1 << 7: "a ring that does not fill its lane",
    1 << 8: "a ring that fills its lane",
    1 << 13: "lanes of 16 bits",
    1 << 20: "lanes of 32 bits",
    1 << 33: "lanes of 64 bits",
    1 << 64: "the largest ring",
    3: "the smallest prime",
    251: "a prime in lanes of 8",
    PRIME_16: "a prime in lanes of 16 that rejects half of them",
    65521: "a prime that fills lanes of 16",
    2**31 - 1: "a Mersenne prime in lanes of 32",
    2**61 - 1: "the largest prime, the field of the secret sharing",
}


def hashes(version: int = 1) -> File:
    """Every labelled hash and every labelled input.  Those of version 2 are about its labels, and about chains."""
    a, b, c, d = (labelled(f"hash argument {i}", 32) for i in range(4))
    calls: list[tuple[str, str, dict[str, bytes | int | list[bytes]]]] = [
        ("CONFIG-1", "config_digest", {"config": base_config().to_bytes()}),
        ("CONFIG-12", "cohort_digest", {"identity_keys": [a, b, c]}),
        ("WIRE-6", "round_id", {"config_digest": a, "nonce": b}),
        ("WIRE-6", "session_id", {"config_digest": a, "nonce": b, "roster_digest": c}),
        ("CONFIG-13", "join_token", {"round_id": a, "index": 7}),
        ("ADVERTISE-6", "leaf", {"index": 513, "channel_key": a, "masking_key": b}),
        ("ADVERTISE-6", "empty_leaf", {"index": 513}),
        ("ADVERTISE-6", "node", {"left": a, "right": b}),
        ("ADVERTISE-6", "roster_digest", {"round_id": a, "clients": 1000, "root": b}),
        ("GRAPH-1", "graph_key", {"roster_digest": a, "session": b}),
        (
            "ADVERTISE-3",
            "signed_advertisement",
            {"config_digest": a, "nonce": b, "index": 3, "channel_key": c, "masking_key": d},
        ),
        ("CONFIRM-1", "signed_survivors", {"session": a, "survivors": b"\x5f\x01"}),
        (
            "SHARE-4",
            "channel_info",
            {"suite": 1, "sender": 9, "receiver": 2, "sender_key": a, "receiver_key": b},
        ),
        (
            "MASK-3",
            "pairwise_mask_info",
            {"suite": 2, "lower": 2, "higher": 9, "lower_key": a, "higher_key": b},
        ),
        ("MASK-2", "self_mask_info", {"suite": 1, "index": 4}),
        ("SHARE-6", "seed_commitment_info", {"suite": 1, "index": 4}),
        ("SHARE-1", "share_randomness_info", {"suite": 1, "index": 4, "purpose": b"seed"}),
        ("SHARE-1", "share_randomness_info", {"suite": 1, "index": 4, "purpose": b"coefficients"}),
        ("SHARE-1", "share_randomness_info", {"suite": 2, "index": 4, "purpose": b"salts"}),
        ("SHARE-4", "sealed_shares_context", {"session": a, "sender": 9, "receiver": 2}),
        (
            "SHARE-5",
            "share_commitment",
            {"session": a, "dealer": 1, "holder": 2, "kind": 0, "salt": b, "share": labelled("share", 40)},
        ),
        (
            "SHARE-5",
            "share_commitment",
            {"session": a, "dealer": 1, "holder": 2, "kind": 1, "salt": b, "share": labelled("share", 40)},
        ),
    ]
    since_2: list[tuple[str, str, dict[str, bytes | int | list[bytes]]]] = [
        ("CHAIN-2", "sum_digest", {"session": a, "packed": labelled("packed sum", 12)}),
        ("CHAIN-3", "signed_certificate", {"unsigned": labelled("certificate", 40) + bytes(64)}),
        ("CHAIN-4", "certificate_digest", {"certificate": labelled("certificate", 104)}),
        ("CHAIN-12", "signed_silence", {"session": a}),
        ("ENV-4", "envelope_polynomials", {"session": a}),
        ("CHAIN-14", "signed_receipt", {"session": a, "number": 0, "digest": b}),
        ("CHAIN-14", "signed_receipt", {"session": a, "number": 258, "digest": b}),
    ]
    since_2 += _hashes_of_suite_3(a, b)
    of_complaints: list[tuple[str, str, dict[str, bytes | int | list[bytes]]]] = [
        ("COMPLAIN-4", "complaint_digest", {"sealed": labelled("sealed", 160), "commitments": a + b}),
        ("COMPLAIN-4", "signed_complaint", {"session": a, "holder": 258, "dealer": 1, "digest": b}),
        (
            "COMPLAIN-8",
            "signed_answer",
            {"session": a, "dealer": 1, "holder": 258, "digest": b, "pair": labelled("pair", 144)},
        ),
        *_hashes_of_complaints_in_suite_3(a, b),
    ]
    tests = []
    for requirement, function, arguments in calls if version == 1 else calls + since_2 + of_complaints:
        extra = (b"SHARE",) if function in ("sealed_shares_context", "sealed_pair_secret_context") else ()
        made = transcript.cohort_digest if function == "cohort_digest" else getattr(rules.LABELS[version], function)
        output: bytes = made(*arguments.values(), *extra)
        shown = {name: _shown(value) for name, value in arguments.items()}
        flags = "SHARE_KIND" if function == "share_commitment" else ""
        newer = ("CHAIN-", "ENV-", "HYBRID-", "COMPLAIN-")
        about = requirement if version == 1 or requirement.startswith(newer) else "VERSION-1"
        tests.append(entry(about, "", flags, function=function, arguments=shown, output=output.hex()))
    flags = {"SHARE_KIND": "commitments to both shares of a pair that differ in nothing but the share"}
    about = "Labelled hashes, signed bytes, and the info of key derivations."
    return file("hashes", about, flags, tests, version=version)


def _hashes_of_complaints_in_suite_3(a: bytes, b: bytes) -> list[tuple[str, str, dict[str, bytes | int | list[bytes]]]]:
    sent: dict[str, bytes | int | list[bytes]] = {"sealed": labelled("sealed", 200), "commitments": a + b}
    return [
        ("COMPLAIN-4", "complaint_digest", {**sent, "pair_secret": labelled("record of a pair secret", 120)}),
        ("COMPLAIN-4", "complaint_digest", {**sent, "pair_secret": b""}),
        (
            "COMPLAIN-8",
            "signed_answer",
            {"session": a, "dealer": 1, "holder": 258, "digest": b, "pair": labelled("opened pair", 176)},
        ),
    ]


def _hashes_of_suite_3(a: bytes, b: bytes) -> list[tuple[str, str, dict[str, bytes | int | list[bytes]]]]:
    """The labels of 10.4, and those of version 1 whose fields are others in suite 3.

    Keys and ciphertexts are shorter than a round's, so that the file stays small: a field's length stands before it.
    """
    one, other = (labelled(f"hybrid key {i}", 48) for i in range(2))
    ciphertext = labelled("ciphertext", 40)
    return [
        (
            "HYBRID-5",
            "channel_info",
            {
                "suite": 3,
                "sender": 9,
                "receiver": 2,
                "sender_key": one,
                "receiver_key": other,
                "ciphertext": ciphertext,
            },
        ),
        (
            "HYBRID-13",
            "pairwise_mask_info",
            {"suite": 3, "lower": 2, "higher": 9, "lower_key": one, "higher_key": other},
        ),
        ("HYBRID-2", "x25519_key_info", {"suite": 3, "index": 4, "purpose": b"channel"}),
        ("HYBRID-2", "x25519_key_info", {"suite": 3, "index": 4, "purpose": b"masking"}),
        ("HYBRID-2", "ml_kem_key_info", {"suite": 3, "index": 4, "purpose": b"channel"}),
        ("HYBRID-2", "ml_kem_key_info", {"suite": 3, "index": 4, "purpose": b"masking"}),
        ("HYBRID-2", "pair_secrets_info", {"suite": 3, "index": 4}),
        ("HYBRID-7", "pair_secret_info", {"suite": 3, "sealer": 9, "holder": 2}),
        (
            "HYBRID-7",
            "pair_secret_seal_info",
            {"suite": 3, "sealer": 9, "holder": 2, "sealer_key": one, "holder_key": other, "ciphertext": ciphertext},
        ),
        ("HYBRID-7", "sealed_pair_secret_context", {"session": a, "sealer": 9, "holder": 2}),
        ("HYBRID-7", "pair_secret_commitment", {"session": a, "sealer": 9, "holder": 2, "secret": b}),
    ]


def _shown(value: bytes | int | list[bytes]) -> str | int | list[str]:
    if isinstance(value, list):
        return [item.hex() for item in value]
    return value.hex() if isinstance(value, bytes) else value


def keys() -> File:
    """Agreement, derivation, sealing, signatures."""
    session = labelled("session", 32)
    private = {name: labelled(f"private {name}", 32) for name in ("lower", "higher")}
    public = {name: primitives.public_key(key) for name, key in private.items()}
    agreed = primitives.agree(private["lower"], public["higher"])
    ends = {"lower_private": private["lower"].hex(), "higher_private": private["higher"].hex()}
    tests: list[Test] = []
    for suite, size in ((1, 16), (2, 32)):
        info = V1.pairwise_mask_info(suite, 2, 9, public["lower"], public["higher"])
        there = V1.channel_info(suite, 9, 2, public["higher"], public["lower"])
        common = {"suite": suite, "session": session.hex(), "lower": 2, "higher": 9, **ends, "agreed": agreed.hex()}
        for function, requirement, made in (("pairwise_mask", "MASK-3", info), ("channel", "SHARE-4", there)):
            derived = primitives.derive(agreed, session, made, size).hex()
            comment = "from the higher id to the lower" if function == "channel" else ""
            tests.append(entry(requirement, comment, function=function, **common, key=derived))
        seed = labelled("seed", 32)
        own = primitives.derive(seed, session, V1.self_mask_info(suite, 4), size)
        committed = primitives.derive(seed, session, V1.seed_commitment_info(suite, 4), 32)
        secret = labelled("share secret", 32)
        lengths = {"seed": 32, "coefficients": size, "salts": size}
        drawn = {
            purpose: primitives.derive(
                secret, session, V1.share_randomness_info(suite, 4, purpose.encode()), length
            ).hex()
            for purpose, length in lengths.items()
        }
        seeded = {"suite": suite, "session": session.hex(), "index": 4}
        tests += [
            entry(
                "MASK-2 SHARE-6",
                "",
                function="seed",
                **seeded,
                seed=seed.hex(),
                mask_key=own.hex(),
                commitment=committed.hex(),
            ),
            entry(
                "SHARE-1",
                "",
                function="share_randomness",
                **seeded,
                share_secret=secret.hex(),
                **drawn,
            ),
        ]
    for order, public_key in enumerate(sorted(LOW_ORDER)):
        for high_bit in (0, 0x80):
            key = public_key[:31] + bytes([public_key[31] | high_bit])
            comment = f"encoding {order} of a point of low order" + (", the highest bit set" if high_bit else "")
            low = entry("ROSTER-3 ADVERTISE-4", comment, "LOW_ORDER", error="low-order", function="agree")
            tests.append({**low, "private": private["lower"].hex(), "public": key.hex()})
    tests += signatures()
    flags = {
        "LOW_ORDER": "an agreement whose outcome everybody knows",
        "VERIFY": "signatures that one verifier takes and another refuses",
    }
    return file("keys", "Key agreements, and the keys and commitments that are derived.", flags, tests)


def masks() -> File:
    """Slices of masks."""
    tests = []
    for modulus, about in CASES_OF_MODULI.items():
        for size in (16, 32):
            key = labelled(f"mask {modulus} {size}", size)
            for start, stop in ((0, 9), (5, 8)) if size == 16 else ((0, 3),):
                tests.append(_mask(key, start, stop, modulus, about, "PRIME_REJECTS" if modulus == PRIME_16 else ""))
    key = labelled("mask far", 16)
    for modulus in (1 << 8, 1 << 20, 1 << 64, PRIME_16, 2**61 - 1):
        tests.append(_mask(key, 2**33 - 1, 2**33 + 4, modulus, "a slice that begins far within a block", "FAR_SLICE"))
    for start, stop in ((0, 48), (17, 23), (40, 41), (47, 48), (7, 7)):
        tests.append(_mask(key, start, stop, PRIME_16, "slices of one mask agree where they meet", "PRIME_REJECTS"))
    key, at = labelled("mask at the bound", 16), 0
    stream = primitives.aes_blocks(key, range(256))
    for modulus, lane in ((3, 1), (251, 1)):
        bound = 256 // modulus * modulus
        at = next(at for at in range(0, len(stream), lane) if stream[at] == bound)
        tests.append(_mask(key, at, at + 1, modulus, "a candidate that equals the bound is rejected", "PRIME_REJECTS"))
        at = next(at for at in range(0, len(stream), lane) if stream[at] == bound - 1)
        tests.append(_mask(key, at, at + 1, modulus, "a candidate just below it is taken", "PRIME_REJECTS"))
    flags = {
        "PRIME_REJECTS": "elements whose first candidates are rejected: the next one lies 2^64 blocks further on, "
        "at the same lane, whatever the slice",
        "FAR_SLICE": "a slice that is made by expanding everything before it, or that begins at a block's first lane",
    }
    return file("masks", "Elements start .. stop - 1 of the mask that a key makes.", flags, tests)


def _mask(key: bytes, start: int, stop: int, modulus: int, about: str, flags: str) -> Test:
    elements = arithmetic.mask(key, start, stop, modulus)
    requirements = "STREAM-1 STREAM-2" if modulus & (modulus - 1) else "STREAM-1"
    where = {"key": key.hex(), "start": start, "stop": stop, "modulus": str(modulus)}
    return entry(requirements, about, flags, **where, elements=numbers(elements))


def packing() -> File:
    """Packed vectors."""
    tests = []
    for modulus, about in CASES_OF_MODULI.items():
        vector = arithmetic.mask(labelled(f"packed {modulus}", 16), 0, 11, modulus)
        vector[3:5] = [0, modulus - 1]
        packed = arithmetic.pack_vector(vector, modulus)
        common = {"modulus": str(modulus), "length": 11}
        tests.append(entry("MASK-4", about, **common, vector=numbers(vector), packed=packed.hex()))
        for bad in (packed[:-1], packed + b"\0", b""):
            comment = f"{len(bad)} bytes"
            tests.append(entry("MASK-6", comment, "LENGTH", error="wrong-length", **common, packed=bad.hex()))
        if 11 * arithmetic.bits_of(modulus) % 8:
            bad = packed[:-1] + bytes([packed[-1] | 0x80])
            tests.append(entry("MASK-6", about, "PADDING", error="padding", **common, packed=bad.hex()))
        if modulus & (modulus - 1):
            for place, element in ((0, modulus), (10, (1 << arithmetic.bits_of(modulus)) - 1)):
                wrong = [*vector[:place], element, *vector[place + 1 :]]
                bad = arithmetic.pack_vector(wrong, modulus)
                comment = f"element {place} is {element}"
                tests.append(entry("MASK-6", comment, "RANGE", error="element-range", **common, packed=bad.hex()))
    both = arithmetic.pack_vector([3] * 11, 3)
    both = both[:-1] + bytes([both[-1] | 0x80])
    common = {"modulus": "3", "length": 11}
    for comment, error, bad in (
        ("bits after the last element, and elements of 3: the bits are found first", "padding", both),
        ("a byte too many, bits and elements of 3: the length is found first", "wrong-length", both + b"\0"),
    ):
        tests.append(
            entry(
                "MASK-6 WIRE-9", comment, error.upper().removeprefix("WRONG-"), error=error, **common, packed=bad.hex()
            )
        )
    flags = {
        "LENGTH": "a vector of another length than the config's",
        "PADDING": "bits after the last element, which would let one vector have several encodings",
        "RANGE": "an element at or above a prime modulus",
    }
    return file("packing", "Vectors at exactly b bits an element.", flags, tests)


def sharing() -> File:
    """Shares, and secrets of them."""
    tests = []
    for name, secret in {
        "random bytes": labelled("secret", 32),
        "zero": bytes(32),
        "all ones: every limb at its largest": b"\xff" * 32,
        "limbs in order, the lowest first": bytes(range(32)),
    }.items():
        for threshold, holders in ((2, (0, 1)), (3, (0, 4, 5, 9)), (5, (1, 2, 3, 7, 200, 2**20 - 1))):
            rows = [
                arithmetic.mask(labelled(f"coefficients {threshold} {limb}", 16), 0, threshold - 1, arithmetic.FIELD)
                for limb in range(5)
            ]
            dealt = {holder: arithmetic.share(secret, rows, holder) for holder in holders}
            answering = sorted(holders)[-threshold:]
            tests.append(
                entry(
                    "SHARE-2 SHARE-3 UNMASK-6",
                    name,
                    threshold=threshold,
                    secret=secret.hex(),
                    coefficients=[numbers(row) for row in rows],
                    shares={str(holder): share.hex() for holder, share in dealt.items()},
                    answering=answering,
                )
            )
    for limb, width in enumerate(arithmetic.LIMB_BITS):
        tests.append(_out_of_range(limb, 1 << width))
        tests.append(_out_of_range(limb, arithmetic.FIELD - 1))
    for element in range(5):
        for value in (arithmetic.FIELD, 2**64 - 1):
            values = [1, 2, 3, 4, 5]
            values[element] = value
            share = b"".join(item.to_bytes(8, "little") for item in values)
            tests.append(
                entry("SHARES-4 UNMASK-4", f"element {element} is {value}", "RANGE", error="range", share=share.hex())
            )
    flags = {
        "LIMB": "shares that reconstruct to no secret of 256 bits: the dealer is to blame",
        "RANGE": "an element that is not below the prime: whoever sent it is to blame",
    }
    return file("sharing", "Shamir's sharing of 32 bytes over GF(2^61 - 1).", flags, tests)


def _out_of_range(limb: int, value: int) -> Test:
    limbs = [0] * 5
    limbs[limb] = value
    slope = [11, 12, 13, 14, 15]
    shares = {}
    for holder in (0, 3):
        values = [(c + s * (holder + 1)) % arithmetic.FIELD for c, s in zip(limbs, slope, strict=True)]
        shares[str(holder)] = b"".join(item.to_bytes(8, "little") for item in values).hex()
    comment = f"limb {limb} reconstructs to {value}"
    return entry("UNMASK-7", comment, "LIMB", error="bad-dealer", threshold=2, shares=shares, answering=[0, 3])
