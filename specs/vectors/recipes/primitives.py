"""Vectors of single functions: hashes, keys, masks, packing, sharing, graphs, parameters, configs, proofs."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from reference import arithmetic, primitives, rules, transcript, wire
from reference.rules import Config

from .common import LOW_ORDER, File, Test, entry, file, labelled, numbers

PRIME_16 = 32771  # rejects 32765 of 65536 candidates: all but the first 32771
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


def base_config(**changes: Any) -> Config:
    """A config of ten clients on the complete graph."""
    made = Config(
        threat_model="semi_honest",
        suite=1,
        clients=10,
        length=8,
        ring_bits=20,
        prime=0,
        input_max=65535,
        colluders=2,
        dropouts=1,
        neighbours=9,
        threshold=6,
        quorum=0,
        min_survivors=7,
        sigma=40,
        grinding_bits=0,
        eta=30,
        context=b"",
        cohort=b"",
    )
    return replace(made, **changes)


def active_config(**changes: Any) -> Config:
    """The same in `active`."""
    made = base_config(
        threat_model="active",
        quorum=7,
        min_survivors=7,
        grinding_bits=64,
        cohort=labelled("cohort of configs", 32),
    )
    return replace(made, **changes)


def hashes() -> File:
    """Every labelled hash and every labelled input."""
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
    tests = []
    for requirement, function, arguments in calls:
        extra = (b"SHARE",) if function == "sealed_shares_context" else ()
        output: bytes = getattr(transcript, function)(*arguments.values(), *extra)
        shown = {name: _shown(value) for name, value in arguments.items()}
        flags = "SHARE_KIND" if function == "share_commitment" else ""
        tests.append(entry(requirement, "", flags, function=function, arguments=shown, output=output.hex()))
    flags = {"SHARE_KIND": "commitments to both shares of a pair that differ in nothing but the share"}
    return file("hashes", "Labelled hashes, signed bytes, and the info of key derivations.", flags, tests)


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
    for suite, size in primitives.KEY_BYTES.items():
        info = transcript.pairwise_mask_info(suite, 2, 9, public["lower"], public["higher"])
        there = transcript.channel_info(suite, 9, 2, public["higher"], public["lower"])
        common = {"suite": suite, "session": session.hex(), "lower": 2, "higher": 9, **ends, "agreed": agreed.hex()}
        for function, requirement, made in (("pairwise_mask", "MASK-3", info), ("channel", "SHARE-4", there)):
            derived = primitives.derive(agreed, session, made, size).hex()
            comment = "from the higher id to the lower" if function == "channel" else ""
            tests.append(entry(requirement, comment, function=function, **common, key=derived))
        seed = labelled("seed", 32)
        own = primitives.derive(seed, session, transcript.self_mask_info(suite, 4), size)
        committed = primitives.derive(seed, session, transcript.seed_commitment_info(suite, 4), 32)
        secret = labelled("share secret", 32)
        lengths = {"seed": 32, "coefficients": size, "salts": size}
        drawn = {
            purpose: primitives.derive(
                secret, session, transcript.share_randomness_info(suite, 4, purpose.encode()), length
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
    flags = {"LOW_ORDER": "an agreement whose outcome everybody knows"}
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


def graphs() -> File:
    """Neighbours."""
    tests = []
    for clients, neighbours in ((4, 2), (9, 4), (10, 8), (25, 6), (300, 20), (5, 4), (3, 2)):
        config = base_config(clients=clients, neighbours=neighbours)
        roster, session = (labelled(f"{name} {clients} {neighbours}", 32) for name in ("roster", "session"))
        members = sorted({0, 1, clients // 2, clients - 1})
        found = {str(member): rules.neighbours_of(member, config, roster, session) for member in members}
        about = "the complete graph, whose key does not matter" if neighbours == clients - 1 else ""
        tests.append(
            entry(
                "GRAPH-1 GRAPH-2",
                about,
                "COMPLETE" if about else "",
                clients=clients,
                neighbours=neighbours,
                roster_digest=roster.hex(),
                session=session.hex(),
                neighbours_of=found,
            )
        )
    return file(
        "graphs",
        "The neighbours that a roster's digest draws.",
        {"COMPLETE": "an order of the ring where there is no ring"},
        tests,
    )


def parameters() -> File:
    """Degrees and thresholds."""
    tests = []
    for clients in (5, 12, 30, 100, 200, 500):
        for model, sigma in (("semi_honest", 40), ("active", 104)):
            for colluding, lost in ((0, 0), (10, 10), (20, 5), (20, 30), (33, 10), (45, 45)):
                if colluding + (2 if model == "active" else 1) * lost > 90:
                    continue
                a, d = clients * colluding // 100, clients * lost // 100
                found = choose(base_config(threat_model=model, clients=clients, colluders=a, dropouts=d, sigma=sigma))
                given = {"threat_model": model, "clients": clients, "colluders": a, "dropouts": d}
                given |= {"sigma": sigma, "eta": 30}
                if found is None:
                    tests.append(entry("CONFIG-9", "", "INFEASIBLE", error="infeasible", **given))
                else:
                    tests.append(entry("CONFIG-9", "", **given, neighbours=found[0], threshold=found[1]))
    return file(
        "parameters",
        "The smallest degree and threshold for what is asked; sigma includes the bits for grinding.",
        {"INFEASIBLE": "a degree and threshold where even the complete graph has none"},
        tests,
    )


def configs() -> File:
    """Configs that are sound, and configs that are not."""
    sound = {
        "ten clients": base_config(),
        "context": base_config(context=b"round 7"),
        "the longest context": base_config(context=bytes(1024)),
        "any element": base_config(input_max=2**20 - 1),
        "the largest ring": base_config(ring_bits=64, input_max=2**60),
        "the smallest ring": base_config(ring_bits=1, input_max=1),
        "a prime": base_config(ring_bits=0, prime=2**61 - 1),
        "any element of a prime": base_config(ring_bits=0, prime=PRIME_16, input_max=PRIME_16 - 1),
        "AES-256": base_config(suite=2),
        "active": active_config(),
        "as few clients as can be": base_config(
            clients=3, colluders=0, dropouts=0, neighbours=2, threshold=2, min_survivors=3
        ),
        "a sparse graph": base_config(
            clients=100, colluders=20, dropouts=5, neighbours=26, threshold=20, min_survivors=22, ring_bits=30
        ),
        "a sparse graph in active": active_config(
            clients=100,
            colluders=20,
            dropouts=5,
            neighbours=32,
            threshold=27,
            quorum=61,
            min_survivors=61,
            ring_bits=30,
        ),
    }
    tests = []
    for comment, config in sound.items():
        shown = {
            name: value.hex() if isinstance(value, bytes) else str(value) if name in ("prime", "input_max") else value
            for name, value in asdict(config).items()
        }
        tests.append(
            entry("CONFIG-1", comment, config=shown, encoded=config.to_bytes().hex(), digest=config.digest.hex())
        )
    sparse = sound["a sparse graph"]
    unsound: list[tuple[str, str, str, Config]] = [
        ("CONFIG-3", "VALUES", "another threat model", base_config(threat_model="honest")),
        ("CONFIG-3", "VALUES", "another suite", base_config(suite=3)),
        ("CONFIG-4", "VALUES", "two clients", base_config(clients=2)),
        ("CONFIG-4", "VALUES", "too many clients", base_config(clients=2**20 + 1)),
        ("CONFIG-4", "VALUES", "no elements", base_config(length=0)),
        ("CONFIG-4", "VALUES", "too many elements", base_config(length=2**36 + 1)),
        ("CONFIG-4", "VALUES", "everybody colludes", base_config(colluders=10)),
        ("CONFIG-4", "VALUES", "no sigma", base_config(sigma=0)),
        ("CONFIG-4", "VALUES", "no eta", base_config(eta=0)),
        ("CONFIG-4", "VALUES", "a longer context", base_config(context=bytes(1025))),
        ("CONFIG-4", "VALUES", "a cohort in semi_honest", base_config(cohort=bytes(32))),
        ("CONFIG-4", "VALUES", "grinding bits in semi_honest", base_config(grinding_bits=1)),
        ("CONFIG-4", "VALUES", "a quorum in semi_honest", base_config(quorum=7)),
        ("CONFIG-4", "VALUES", "no cohort in active", active_config(cohort=b"")),
        ("CONFIG-5", "MODULUS", "a ring and a prime", base_config(prime=2**61 - 1)),
        ("CONFIG-5", "MODULUS", "neither", base_config(ring_bits=0)),
        ("CONFIG-5", "MODULUS", "a ring of 65 bits", base_config(ring_bits=65)),
        ("CONFIG-5", "MODULUS", "no prime", base_config(ring_bits=0, prime=2**31 + 1)),
        ("CONFIG-5", "MODULUS", "a strong pseudoprime to base 2", base_config(ring_bits=0, prime=3215031751)),
        ("CONFIG-5", "MODULUS", "a prime that is too large", base_config(ring_bits=0, prime=2**61 + 15)),
        ("CONFIG-5", "MODULUS", "two as a prime", base_config(ring_bits=0, prime=2, input_max=1)),
        ("CONFIG-6", "CAPACITY", "the sum can wrap", base_config(input_max=104858)),
        ("CONFIG-6", "CAPACITY", "an element of the modulus", base_config(input_max=2**20)),
        ("CONFIG-6", "CAPACITY", "no element but zero", base_config(input_max=0)),
        ("CONFIG-7", "QUORUM", "two quorums may not meet in an honest client", active_config(quorum=6)),
        ("CONFIG-7", "QUORUM", "more than may remain", active_config(quorum=10, min_survivors=9)),
        ("CONFIG-8", "SURVIVORS", "as few as the threshold", base_config(min_survivors=6)),
        ("CONFIG-8", "SURVIVORS", "fewer than the quorum", active_config(quorum=8, min_survivors=7)),
        ("CONFIG-8", "SURVIVORS", "more than may remain", base_config(min_survivors=10)),
        (
            "CONFIG-8",
            "SURVIVORS",
            "one honest client",
            base_config(colluders=5, dropouts=1, threshold=6, min_survivors=6),
        ),
        ("CONFIG-9", "DEGREE", "an odd degree", replace(sparse, neighbours=27)),
        ("CONFIG-9", "DEGREE", "more than everybody", base_config(neighbours=10)),
        ("CONFIG-9", "DEGREE", "too small a degree", replace(sparse, neighbours=24)),
        ("CONFIG-9", "DEGREE", "no neighbours", base_config(neighbours=0)),
        ("CONFIG-9", "THRESHOLD", "the colluders reach the threshold", base_config(threshold=2, min_survivors=7)),
        ("CONFIG-9", "THRESHOLD", "a threshold of one", base_config(colluders=0, threshold=1)),
        ("CONFIG-9", "THRESHOLD", "too few are left to reconstruct", base_config(threshold=9, dropouts=0)),
        ("CONFIG-9", "THRESHOLD", "2t = k + A", active_config(colluders=1, threshold=5, quorum=7)),
        ("CONFIG-9", "THRESHOLD", "too low on a sparse graph", replace(sparse, threshold=19)),
        ("CONFIG-9", "THRESHOLD", "too high on a sparse graph", replace(sparse, threshold=23, min_survivors=24)),
        ("CONFIG-9", "LOSSES", "more than nine tenths", base_config(clients=20, colluders=8, dropouts=11)),
    ]
    for requirement, flag, comment, config in unsound:
        if rules.is_sound(config):
            raise ValueError(f"{comment}: this config is sound")
        tests.append(entry(requirement, comment, flag, error="config-unsound", encoded=config.to_bytes().hex()))
    good = base_config().to_bytes()
    elements = wire.unpack(good)
    for comment, bad in {
        "another version": wire.pack([2, *elements[1:]]),
        "a field too few": wire.pack(elements[:-1]),
        "a field too many": wire.pack([*elements, 0]),
        "a number as a string": wire.pack([*elements[:3], "10", *elements[4:]]),
        "bytes as a string": wire.pack([*elements[:-1], ""]),
        "a byte too few": good[:-1],
        "a byte too many": good + b"\0",
        "nothing": b"",
    }.items():
        tests.append(entry("CONFIG-3", comment, "ENCODING", error="config-unsound", encoded=bad.hex()))
    flags = {
        "VALUES": "values that no round has",
        "MODULUS": "masks that are not uniform, or a modulus that arithmetic is not made for",
        "CAPACITY": "a sum that wraps without a word",
        "QUORUM": "two survivor sets that are both confirmed",
        "SURVIVORS": "a sum of so few that it gives somebody away",
        "DEGREE": "a graph that falls apart",
        "THRESHOLD": "secrets that colluders can open, or that nobody can",
        "LOSSES": "rates for which the bounds are of no use",
        "ENCODING": "bytes that are no config",
    }
    return file("configs", "Configs, their bytes and digests; those that a client must refuse.", flags, tests)


def proofs() -> File:
    """The roster's tree."""
    tests = []
    for clients in (3, 5, 6, 11):
        leaves = [
            transcript.empty_leaf(i)
            if i % 4 == 3
            else transcript.leaf(i, labelled(f"channel {i}", 32), labelled(f"masking {i}", 32))
            for i in range(clients)
        ]
        root = rules.proved_root(dict(enumerate(leaves)), clients, b"")
        for indices in ([0], [clients - 1], [0, 2], [1, clients - 2, clients - 1], list(range(clients))):
            indices = sorted(set(indices))
            proof = rules.prove(leaves, indices)
            shown = {str(index): leaves[index].hex() for index in indices}
            common = {"clients": clients, "leaves": shown, "root": root.hex()}
            tests.append(entry("ADVERTISE-7", "", **common, proof=proof.hex()))
            wrong = {"a hash too many": proof + bytes(32)}
            if proof:
                wrong["a hash too few"] = proof[:-32]
                wrong["a byte too few"] = proof[:-1]
                wrong["a bit flipped"] = proof[:-1] + bytes([proof[-1] ^ 1])
            if clients in (5, 11):
                tests += [
                    entry("ROSTER-5", comment, "PROOF", error="roster-path", **common, proof=bad.hex())
                    for comment, bad in wrong.items()
                ]
            if clients == 11 and len(indices) == 2:
                moved = {str(index ^ 1): leaf for index, leaf in zip(indices, shown.values(), strict=True)}
                bad_place = {**common, "leaves": moved, "proof": proof.hex()}
                comment = "leaves at their siblings' places"
                tests.append(entry("ROSTER-5", comment, "PLACE", error="roster-path", **bad_place))
    flags = {
        "PROOF": "a proof of another length, or of another tree",
        "PLACE": "a leaf that counts at another index than its own",
    }
    return file("proofs", "One proof for several leaves of the roster's tree.", flags, tests)


def choose(config: Config) -> tuple[int, int] | None:
    """The smallest even degree that will do, else the complete graph; None when that will not do either."""
    degrees = (*range(2, config.clients - 1, 2), config.clients - 1)
    for config in (replace(config, neighbours=degree) for degree in degrees):
        least, most = rules.thresholds(config)
        if rules.connects(config) and least <= most:
            complete = config.neighbours == config.clients - 1 and not config.active
            return config.neighbours, (least + most + 1) // 2 if complete else least
    return None
