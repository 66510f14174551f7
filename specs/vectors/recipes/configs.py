"""Vectors of configs and of what they decide: sound and unsound configs, degrees and thresholds, neighbours, proofs."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from reference import rules, wire
from reference.rules import Config
from reference.transcript import V1

from .common import PRIME_16, File, Test, entry, file, labelled
from .config_edges import RARE, by_numbers, sound_edges, unsound_edges
from .encodings import config_encodings, negatives


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
                tests.append(_chosen("", model, clients, a, d, sigma, 30))
    tests += [_chosen(comment, *case) for case, comment in RARE.items()]
    return file(
        "parameters",
        "The smallest degree and threshold for what is asked; sigma includes the bits for grinding.",
        {"INFEASIBLE": "a degree and threshold where even the complete graph has none"},
        tests,
    )


def _chosen(comment: str, model: str, clients: int, colluders: int, dropouts: int, sigma: int, eta: int) -> Test:
    given: dict[str, Any] = {"threat_model": model, "clients": clients, "colluders": colluders, "dropouts": dropouts}
    given |= {"sigma": sigma, "eta": eta}
    found = choose(base_config(**given))
    if found is None:
        return entry("CONFIG-9", comment, "INFEASIBLE", error="infeasible", **given)
    return entry("CONFIG-9", comment, **given, neighbours=found[0], threshold=found[1])


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
    tests = [_sound(comment, config) for comment, config in sound.items()]
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
    edges = [
        _sound(f"{comment}: an edge", config) for comment, config in sound_edges(base_config(), active_config()).items()
    ]
    tests += map(_unsound, unsound)
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
    tests += edges + [_unsound(edge) for edge in unsound_edges(base_config(), active_config())]
    for comment, holds, config in by_numbers(base_config(), active_config()):
        tests.append(_sound(comment, config) if holds else _unsound(("CONFIG-9", "NUMBERS", comment, config)))
    for comment, bad in negatives(active_config()).items():
        tests.append(entry("CONFIG-4", f"{comment}, in active", "VALUES", error="config-unsound", encoded=bad.hex()))
    longer, wrong = config_encodings(base_config())
    for comment, received in longer.items():
        tests.append(
            {
                **_sound(f"{comment}: the digest is that of the canonical bytes", base_config()),
                "received": received.hex(),
            }
        )
    for comment, bad in {**wrong, **negatives(base_config())}.items():
        tests.append(entry("CONFIG-3", comment, "ENCODING", error="config-unsound", encoded=bad.hex()))
    flags = {
        "VALUES": "values that no round has",
        "MODULUS": "masks that are not uniform, or a modulus that arithmetic is not made for",
        "CAPACITY": "a sum that wraps without a word",
        "QUORUM": "two survivor sets that are both confirmed",
        "SURVIVORS": "a sum of so few that it gives somebody away",
        "DEGREE": "a graph that falls apart",
        "THRESHOLD": "secrets that colluders can open, or that nobody can",
        "NUMBERS": "a number in a formula that is off by one",
        "LOSSES": "rates for which the bounds are of no use",
        "ENCODING": "bytes that are no config",
    }
    return file("configs", "Configs, their bytes and digests; those that a client must refuse.", flags, tests)


def _sound(comment: str, config: Config) -> Test:
    if not rules.is_sound(config):
        raise ValueError(f"{comment}: this config is not sound")
    shown = {
        name: value.hex() if isinstance(value, bytes) else str(value) if name in ("prime", "input_max") else value
        for name, value in asdict(config).items()
        if name in rules.ELEMENTS or config.version > 1
    }
    return entry("CONFIG-1", comment, config=shown, encoded=config.to_bytes().hex(), digest=config.digest.hex())


def _unsound(case: tuple[str, str, str, Config]) -> Test:
    requirement, flag, comment, config = case
    if rules.is_sound(config):
        raise ValueError(f"{comment}: this config is sound")
    return entry(requirement, comment, flag, error="config-unsound", encoded=config.to_bytes().hex())


def proofs() -> File:
    """The roster's tree."""
    tests = []
    for clients in (3, 5, 6, 11):
        leaves = [
            V1.empty_leaf(i) if i % 4 == 3 else V1.leaf(i, labelled(f"channel {i}", 32), labelled(f"masking {i}", 32))
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
