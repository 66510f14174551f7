"""Replay test vectors (``specs/vectors``) with this library.

    for result in check_file("specs/vectors/v1/rounds.json"):
        print(result.id, result.ok, result.detail)

A file says by its ``kind`` what its tests hold.  Vectors of single functions are compared with what the functions give;
of a round, the operations are carried out by clients and servers whose randomness is the one that the file records,
and every message, event, error code and state is compared.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from secagg import arithmetic
from secagg.arithmetic.modulus import Modulus
from secagg.envelopes import scheme
from secagg.envelopes.parameters import find
from secagg.envelopes.randomness import EnvelopeRandomness
from secagg.errors import ParameterError, PeerError
from secagg.pairwise import graph, merkle, messages, transcript
from secagg.pairwise.config import RoundConfig, Suite
from secagg.pairwise.keys import KeySchedule
from secagg.pairwise.parameters import Demand
from secagg.pairwise.phases import ThreatModel
from secagg.primitives import agreement, masking, secret_sharing, signing, suites
from secagg.testing.chain_replay import ChainReplay
from secagg.testing.intermediate import Intermediate
from secagg.testing.replay import Mismatch, Replay, expect

Test: TypeAlias = Mapping[str, Any]
Content: TypeAlias = Mapping[str, Any]

PROTOCOL: Final = "secagg"
_X25519: Final = Suite.AES_128
"""A suite that agrees by X25519: vectors of the agreement alone name none."""
_MASK_SUITES: Final = {suite.key_bytes: suite for suite in (Suite.AES_128, Suite.AES_256)}
"""By bytes of the key: vectors of a mask name no suite either, and all of them are AES-CTR's."""


@dataclass(frozen=True, slots=True)
class VectorResult:
    """What came of one test.

    Attributes:
        id: the test's.
        ok: whether the library does what the test says.
        detail: when it does not: what was expected and what was met.
    """

    id: str
    ok: bool
    detail: str = ""


def check_file(path: str | os.PathLike[str]) -> list[VectorResult]:
    """Replay every test of a file.

    Raises ParameterError when the file holds no vectors of this version; OSError when it cannot be read.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        met = (content["protocol"], content["version"])
        check, tests = _CHECKS[content["kind"]], [(test["id"], test) for test in content["tests"]]
    except (ValueError, KeyError, TypeError, RecursionError) as wrong:
        raise ParameterError(
            f"{os.fspath(path)}: not a file of test vectors that this version knows ({type(wrong).__name__}: {wrong})"
        ) from None
    if met not in [(PROTOCOL, version) for version in transcript.VERSIONS]:
        raise ParameterError(
            f"{os.fspath(path)}: vectors of {met[0]} version {met[1]}; this library speaks {PROTOCOL} of the versions "
            f"{transcript.known_versions()}"
        )
    return [_result(name, check, test, content) for name, test in tests]


def _result(name: str, check: Callable[[Test, Content], None], test: Test, content: Content) -> VectorResult:
    try:
        check(test, content)
    except Mismatch as difference:
        return VectorResult(name, False, str(difference))
    except Exception as bug:  # whatever it is, it is not what the test says
        return VectorResult(name, False, f"{type(bug).__name__}: {bug}")
    return VectorResult(name, True)


# One function a kind of file.


def _check_hash(test: Test, content: Content) -> None:
    name = test["function"]
    if name not in _HASHES:
        raise Mismatch(f"there is no labelled function {name!r}")
    arguments = [_argument(key, value) for key, value in test["arguments"].items()]
    function = transcript.cohort_digest if name == "cohort_digest" else getattr(_labels(content), name)
    output: bytes = function(*arguments)
    expect("output", output.hex(), test["output"])


_HASHES: Final = frozenset(
    {
        "config_digest",
        "cohort_digest",
        "round_id",
        "session_id",
        "join_token",
        "leaf",
        "empty_leaf",
        "node",
        "roster_digest",
        "graph_key",
        "signed_advertisement",
        "signed_survivors",
        "complaint_digest",
        "signed_complaint",
        "signed_answer",
        "channel_info",
        "pairwise_mask_info",
        "self_mask_info",
        "seed_commitment_info",
        "share_randomness_info",
        "sealed_shares_context",
        "share_commitment",
        "sum_digest",
        "signed_certificate",
        "certificate_digest",
        "signed_silence",
        "envelope_polynomials",
        "x25519_key_info",
        "ml_kem_key_info",
        "pair_secrets_info",
        "pair_secret_info",
        "pair_secret_seal_info",
        "sealed_pair_secret_context",
        "pair_secret_commitment",
        "signed_receipt",
    }
)


def _labels(content: Content) -> transcript.Labels:
    """Those of the version that a file is of."""
    return transcript.labels(content["version"])


def _argument(name: str, value: Any) -> Any:
    if name == "purpose":
        return bytes.fromhex(value).decode()
    if isinstance(value, list):
        return [bytes.fromhex(item) for item in value]
    return bytes.fromhex(value) if isinstance(value, str) else value


def _check_key(test: Test, content: Content) -> None:
    _KEYS[test["function"]](test, content)


def _check_agreement(test: Test, content: Content) -> None:
    public = bytes.fromhex(test["public"])
    met = ""
    try:
        agreement.agree(_X25519, bytes.fromhex(test["private"]), public)
    except suites.CryptoError:
        met = "low-order"
    expect("error", met, test.get("error", ""))
    expect("low order", agreement.has_low_order(_X25519, public), not test["ok"])


def _check_signature(test: Test, content: Content) -> None:
    met = ""
    try:
        signing.verify(_bytes(test, "key"), _bytes(test, "signed"), _bytes(test, "signature"))
    except suites.CryptoError:
        met = "bad-signature"
    expect("error", met, test.get("error", ""))


def _check_pair_key(test: Test, content: Content) -> None:
    suite, lower, higher = Suite(test["suite"]), test["lower"], test["higher"]
    private, other = bytes.fromhex(test["lower_private"]), bytes.fromhex(test["higher_private"])
    own, public = agreement.public_key(suite, private), agreement.public_key(suite, other)
    agreed = agreement.agree(suite, private, public)
    expect("agreed", agreed.hex(), test["agreed"])
    expect("agreed, from the other end", agreement.agree(suite, other, own), agreed)
    keys = KeySchedule(suite, _bytes(test, "session"), _labels(content))
    if test["function"] == "channel":
        _, key = keys.channels(agreed, lower, higher, own, public)
        expect("key, for one direction", keys.channel(agreed, higher, lower, public, own), key)
    else:
        key = keys.pairwise_mask(agreed, lower, higher, own, public)
        expect("key, from the other end", keys.pairwise_mask(agreed, higher, lower, public, own), key)
    expect("key", key.hex(), test["key"])


def _check_seed(test: Test, content: Content) -> None:
    seed, index = _bytes(test, "seed"), test["index"]
    keys = KeySchedule(Suite(test["suite"]), _bytes(test, "session"), _labels(content))
    expect("mask_key", keys.self_mask(seed, index).hex(), test["mask_key"])
    expect("commitment", keys.seed_commitment(seed, index).hex(), test["commitment"])


def _check_share_randomness(test: Test, content: Content) -> None:
    secret, index = _bytes(test, "share_secret"), test["index"]
    keys = KeySchedule(Suite(test["suite"]), _bytes(test, "session"), _labels(content))
    for purpose, derive in (("seed", keys.seed), ("coefficients", keys.coefficients), ("salts", keys.salts)):
        expect(purpose, derive(secret, index).hex(), test[purpose])


_KEYS: Final[Mapping[str, Callable[[Test, Content], None]]] = {
    "agree": _check_agreement,
    "verify": _check_signature,
    "pairwise_mask": _check_pair_key,
    "channel": _check_pair_key,
    "seed": _check_seed,
    "share_randomness": _check_share_randomness,
}


def _check_mask(test: Test, content: Content) -> None:
    modulus = Modulus(int(test["modulus"]))
    key = _bytes(test, "key")
    elements = masking.expand(_MASK_SUITES[len(key)], key, test["start"], test["stop"], modulus)
    expect("elements", [str(element) for element in elements.tolist()], test["elements"])


def _check_packing(test: Test, content: Content) -> None:
    modulus, packed = Modulus(int(test["modulus"])), _bytes(test, "packed")
    try:
        unpacked = arithmetic.unpack(packed, modulus, test["length"])
    except arithmetic.PackedError as refused:
        expect("error", _PACKED_ERRORS[type(refused)], test.get("error"))
        return
    expect("accepted", True, test["ok"])
    expect("vector", [str(element) for element in unpacked.tolist()], test["vector"])
    vector = np.array([int(element) for element in test["vector"]], dtype=modulus.dtype)
    expect("packed", arithmetic.pack(vector, modulus).hex(), test["packed"])


_PACKED_ERRORS: Final[Mapping[type[arithmetic.PackedError], str]] = {
    arithmetic.PackedLengthError: "wrong-length",
    arithmetic.PackedPaddingError: "padding",
    arithmetic.PackedElementError: "element-range",
}


def _check_envelope(test: Test, content: Content) -> None:
    parameters = find(test["clients"], int(test["length"]), test["element_bits"])
    for name in ("degree", "slots"):
        expect(name, getattr(parameters, name), test[name])
    expect("primes", [*parameters.primes], test["primes"])
    if "seeds" not in test:
        return
    key, seeds = _bytes(test, "key"), [bytes.fromhex(seed) for seed in test["seeds"]]
    public = scheme.PublicPolynomials(_MASK_SUITES[len(key)], key, parameters)
    total, secrets = scheme.empty_sum(parameters), np.zeros(parameters.degree, dtype=np.int64)
    for place, seed in enumerate(seeds):
        randomness = EnvelopeRandomness(seed)
        secret = randomness.secret(parameters.degree)
        secrets += secret
        if test["ok"]:
            vector = np.array([int(element) for element in test["vectors"][place]], dtype=np.uint64)
            made = scheme.encrypt(parameters, public, secret, vector, randomness.errors)
            expect("envelope", made.hex(), test["envelopes"][place])
            ring = Modulus.ring(parameters.key_bits)
            packed = arithmetic.pack((secret + parameters.secret_bound).astype(ring.dtype), ring)
            expect("secret", hashlib.sha256(packed).hexdigest(), test["secrets"][place])
    try:
        for envelope in map(bytes.fromhex, test["envelopes"]):
            if len(envelope) != parameters.envelope_bytes:
                expect("error", "wrong-length", test.get("error"))
                return
            scheme.add_envelope(parameters, total, envelope)
        opened = scheme.open_sum(parameters, public, total, secrets)
    except scheme.NoiseError:
        expect("error", "bad-envelope", test.get("error"))
    except scheme.EnvelopeError:
        expect("error", "element-range", test.get("error"))
    else:
        expect("sum", [str(element) for element in opened.tolist()], test.get("sum"))


def _check_sharing(test: Test, content: Content) -> None:
    if "share" in test:
        bad = bool(secret_sharing.bad_shares(_bytes(test, "share"))[0])
        expect("error", "range" if bad else None, test.get("error"))
        return
    threshold, answering = test["threshold"], test["answering"]
    if test["ok"]:
        coefficients = np.array([[int(c) for c in row] for row in test["coefficients"]], dtype=np.uint64)
        holders = [int(holder) for holder in test["shares"]]
        dealt = secret_sharing.share(_bytes(test, "secret"), holders, threshold, coefficients.reshape(5, -1))
        expect("shares", [secret_sharing.encode_shares(row).hex() for row in dealt], [*test["shares"].values()])
    shares = secret_sharing.decode_shares(b"".join(bytes.fromhex(test["shares"][str(holder)]) for holder in answering))
    reconstructor = secret_sharing.Reconstructor(threshold, shares)
    reconstructor.add(answering, range(len(answering)))
    (secret,) = reconstructor.secrets()
    if secret is None:
        expect("error", "bad-dealer", test.get("error"))
    else:
        expect("secret", secret.hex(), test.get("secret"))


def _check_graph(test: Test, content: Content) -> None:
    key = _labels(content).graph_key(_bytes(test, "roster_digest"), _bytes(test, "session"))
    drawn = graph.NeighbourGraph(test["clients"], test["neighbours"], key)
    for member, neighbours in test["neighbours_of"].items():
        expect(f"neighbours of {member}", drawn.neighbours_of(int(member)).tolist(), neighbours)


def _check_parameters(test: Test, content: Content) -> None:
    try:
        found = Demand(
            clients=test["clients"],
            colluders=test["colluders"],
            dropouts=test["dropouts"],
            threat_model=ThreatModel(test["threat_model"]),
            sigma=test["sigma"],
            grinding_bits=0,  # they are among sigma's in these files
            eta=test["eta"],
        ).choose()
    except ParameterError:
        expect("error", "infeasible", test.get("error"))
    else:
        expect(
            "degree and threshold", (found.neighbours, found.threshold), (test.get("neighbours"), test.get("threshold"))
        )


def _check_config(test: Test, content: Content) -> None:
    received = _bytes(test, "received" if "received" in test else "encoded")
    try:
        config = RoundConfig.from_bytes(received)
    except ParameterError:
        expect("error", "config-unsound", test.get("error"))
        return
    expect("accepted", True, test["ok"])
    expect("encoded", config.to_bytes().hex(), test["encoded"])
    expect("digest", config.digest.hex(), test["digest"])
    for name, value in test["config"].items():
        expect(name, _config_value(config, name), value)


def _config_value(config: RoundConfig, name: str) -> Any:
    ring = config.modulus.is_ring
    if name == "prime":
        return "0" if ring else str(config.modulus.value)
    if name == "ring_bits":
        return config.modulus.bits if ring else 0
    value = config.carrier.number if name == "carrier" else getattr(config, name)
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if name == "input_max" else value


def _check_proof(test: Test, content: Content) -> None:
    leaves = {int(index): bytes.fromhex(leaf) for index, leaf in test["leaves"].items()}
    root = merkle.root_from(leaves, test["clients"], _bytes(test, "proof"), _labels(content).node)
    if root is not None and root.hex() == test["root"]:
        expect("accepted", True, test["ok"])
    else:
        expect("error", "roster-path", test.get("error"))


def _check_message(test: Test, content: Content) -> None:
    if "limits" in test:
        config = RoundConfig.from_bytes(_bytes(test, "config"))
        for name, limit in test["limits"].items():
            expect(name, messages.max_bytes(config, _message_kind(name, config.version, config.suite)), limit)
        return
    if "bitmap" in test:
        expect("bitmap", messages.encode_bitmap(test["members"], test["clients"]).hex(), test["bitmap"])
        expect("members", list(messages.decode_bitmap(_bytes(test, "bitmap"), test["clients"])), test["members"])
        expect("ids", messages.encode_ids(test["members"]).hex(), test["ids"])
        expect("members", list(messages.decode_ids(_bytes(test, "ids"))), test["members"])
        return
    version, suite, encoded = content["version"], Suite(test.get("suite", _X25519)), _bytes(test, "encoded")
    kind = _message_kind(test["message"], version, suite)
    if not test["ok"]:
        try:
            _decoded(kind, encoded, version, suite)
        except PeerError as refused:
            expect("error", refused.code.value, test["error"])
            return
        raise Mismatch(f"it should be refused with {test['error']!r}, and was not")
    if "zeros" in test:
        values: list[Any] = [memoryview(bytes(test["zeros"]))]
        encoded += bytes(test["zeros"])
    else:
        values = [_field(value) for value in test["fields"].values()]
    made = kind(version, _bytes(test, "session"), *values)
    expect("encoded", messages.encode(made).hex(), encoded.hex())
    received = _bytes(test, "received") if "received" in test else encoded
    expect("encoded again", messages.encode(_decoded(kind, received, version, suite)).hex(), encoded.hex())


def _field(value: Any) -> Any:
    return bytes.fromhex(value) if isinstance(value, str) else value


_HYBRID_KINDS: Final[Mapping[str, type[Any]]] = {
    "Advertise": messages.HybridAdvertise,
    "Roster": messages.HybridRoster,
    "Share": messages.ShareWithSecrets,
    "Shares": messages.SharesWithSecrets,
}


def _message_kind(name: str, version: int, suite: Suite) -> type[Any]:
    if suite.is_hybrid and name in _HYBRID_KINDS:
        return _HYBRID_KINDS[name]
    kind: type[Any] = getattr(messages, name)
    return messages.UnmaskWithAttachment if kind is messages.Unmask and version > 1 else kind


def _decoded(kind: type[Any], encoded: bytes, version: int, suite: Suite) -> Any:
    if kind is messages.Invitation:
        return messages.invitation.decode(encoded, messages.MAX_INVITATION_BYTES, version)
    from_client = issubclass(kind, tuple(exchange.answer for exchange in messages.EXCHANGES.values()))
    decoder = messages.to_server if from_client else messages.to_client
    return decoder.decode(encoded, len(encoded), version, suite.agreement)


def _check_round(test: Test, content: Content) -> None:
    Replay(test).run(test["operations"])
    for name, value in Intermediate(test).of(test["intermediate"]).items():
        expect(name, value, test["intermediate"][name])


def _check_refusal(test: Test, content: Content) -> None:
    setup = content["setups"][test["setup"]]
    replay = Replay({**setup, "messages": {**setup["messages"], **test["messages"]}})
    replay.run(setup["operations"][: test["after"]])
    replay.run(test["operations"])


def _check_chain(test: Test, content: Content) -> None:
    setup = content["setups"][test["setup"]]
    replay = ChainReplay({**setup, "messages": {**setup["messages"], **test["messages"]}})
    replay.run(setup["operations"][: test["after"]])
    replay.run(test["operations"])


_CHECKS: Final[Mapping[str, Callable[[Test, Content], None]]] = {
    "hashes": _check_hash,
    "keys": _check_key,
    "masks": _check_mask,
    "packing": _check_packing,
    "envelopes": _check_envelope,
    "sharing": _check_sharing,
    "graphs": _check_graph,
    "parameters": _check_parameters,
    "configs": _check_config,
    "proofs": _check_proof,
    "messages": _check_message,
    "rounds": _check_round,
    "client-refusals": _check_refusal,
    "server-refusals": _check_refusal,
    "chains": _check_chain,
}
KINDS: Final = tuple(_CHECKS)
"""The kinds of files that can be checked."""


def _bytes(test: Test, name: str) -> bytes:
    return bytes.fromhex(test[name])
