"""Replay test vectors with the executable reference: what a file says is all that is looked at.

``failures(content)`` gives the tests of a file that the reference does not keep, with what was met instead.  It is how
the vectors are shown to bind the reference, and what ``specs/mutate.py`` runs on each changed reference.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any

from reference import arithmetic, envelopes, policy, primitives, rules, transcript, wire
from reference.chain import Chain, audit
from reference.client import Client
from reference.server import Server
from reference.wire import Refused

from . import ml_kem
from .recipes.configs import choose
from .recipes.intermediate import intermediate_of

Test = Mapping[str, Any]

_HOST_ERRORS = {"not now": "state", "not this input": "input", "this round has no such client": "index"}


class Mismatch(Exception):  # noqa: N818
    """What was met is not what a vector says."""


def expect(what: str, met: object, expected: object) -> None:
    """Raises Mismatch unless the two are equal."""
    if met != expected:
        raise Mismatch(f"{what}: {str(met)[:100]}, not {str(expected)[:100]}")


def failures(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Id and difference of each test of a file that the reference does not keep."""
    for test in content["tests"]:
        try:
            _KINDS[content["kind"]](test, content)
        except Exception as difference:  # whatever it is, it is not what the test says
            yield test["id"], f"{type(difference).__name__}: {difference}"


def unhex(test: Test, *names: str) -> list[bytes]:
    """Some values of a test, as bytes."""
    return [bytes.fromhex(test[name]) for name in names]


def refusal(act: Callable[[], object]) -> str:
    """The code with which something is refused, or nothing."""
    try:
        act()
    except Refused as refused:
        return refused.code
    return ""


# Vectors of single functions.


def _hashes(test: Test, content: Test) -> None:
    arguments = [
        [bytes.fromhex(item) for item in value] if isinstance(value, list) else _argument(value)
        for value in test["arguments"].values()
    ]
    extra = (b"SHARE",) if test["function"] in ("sealed_shares_context", "sealed_pair_secret_context") else ()
    made = transcript.cohort_digest
    if test["function"] != "cohort_digest":
        made = getattr(rules.LABELS[content["version"]], test["function"])
    expect("output", made(*arguments, *extra).hex(), test["output"])


def _argument(value: str | int) -> bytes | int:
    return bytes.fromhex(value) if isinstance(value, str) else value


def _keys(test: Test, content: Test) -> None:
    function = test["function"]
    if function == "agree":
        private, public = unhex(test, "private", "public")
        expect("low order", primitives.has_low_order(public), not test["ok"])
        return
    if function == "verify":
        expect("verifies", primitives.verifies(*unhex(test, "key", "signed", "signature")), test["ok"])
        return
    (session,), suite, labels = unhex(test, "session"), test["suite"], rules.LABELS[content["version"]]
    size = primitives.KEY_BYTES[suite]
    if function in ("pairwise_mask", "channel"):
        private, other = unhex(test, "lower_private", "higher_private")
        own, public = map(primitives.public_key, (private, other))
        agreed = primitives.agree(private, public)
        expect("agreed", agreed.hex(), test["agreed"])
        lower, higher = test["lower"], test["higher"]
        info = labels.channel_info(suite, higher, lower, public, own)
        if function == "pairwise_mask":
            info = labels.pairwise_mask_info(suite, lower, higher, own, public)
        expect("key", primitives.derive(agreed, session, info, size).hex(), test["key"])
        return
    index = test["index"]
    if function == "seed":
        (secret,) = unhex(test, "seed")
        infos = {
            "mask_key": (labels.self_mask_info(suite, index), size),
            "commitment": (labels.seed_commitment_info(suite, index), 32),
        }
    else:
        (secret,) = unhex(test, "share_secret")
        infos = {
            purpose: (labels.share_randomness_info(suite, index, purpose.encode()), length)
            for purpose, length in (("seed", 32), ("coefficients", size), ("salts", size))
        }
    for name, (info, length) in infos.items():
        expect(name, primitives.derive(secret, session, info, length).hex(), test[name])


def _masks(test: Test, content: Test) -> None:
    elements = arithmetic.mask(*unhex(test, "key"), test["start"], test["stop"], int(test["modulus"]))
    expect("elements", list(map(str, elements)), test["elements"])


def _packing(test: Test, content: Test) -> None:
    (packed,), modulus = unhex(test, "packed"), int(test["modulus"])
    if not test["ok"]:
        met = refusal(lambda: arithmetic.unpack_vector(packed, test["length"], modulus))
        expect("error", met, test["error"])
        return
    vector = list(map(int, test["vector"]))
    expect("vector", arithmetic.unpack_vector(packed, test["length"], modulus), vector)
    expect("packed", arithmetic.pack_vector(vector, modulus), packed)


def _envelopes(test: Test, content: Test) -> None:
    found = envelopes.find(test["clients"], int(test["length"]), test["element_bits"])
    expect("parameters", (found.degree, found.slots, [*found.primes]), (test["degree"], test["slots"], test["primes"]))
    if "seeds" not in test:
        return
    (key,), seeds = unhex(test, "key"), map(bytes.fromhex, test["seeds"])
    given = [bytes.fromhex(envelope) for envelope in test["envelopes"]]
    vectors = [[*map(int, vector)] for vector in test.get("vectors", [[0] * found.length] * len(given))]
    made = [envelopes.seal(found, key, seed, vector) for seed, vector in zip(seeds, vectors, strict=True)]
    if test["ok"]:
        expect("envelopes", [envelope for _, envelope in made], given)
        packed = [arithmetic.pack_vector(secret, found.key_modulus) for secret, _ in made]
        expect("secrets", [sha256(secret).hexdigest() for secret in packed], test["secrets"])

    def opened() -> list[int]:
        total = envelopes.read(found, given[0])
        for envelope in given[1:]:
            total = envelopes.add(found, total, envelopes.read(found, envelope))
        keys = [sum(column) for column in zip(*(secret for secret, _ in made), strict=True)]
        return envelopes.open_sum(found, key, total, keys, len(given))

    expect("error", refusal(opened), test.get("error", ""))
    if test["ok"]:
        expect("sum", [*map(str, opened())], test["sum"])


def _sharing(test: Test, content: Test) -> None:
    if "share" in test:
        expect("in range", arithmetic.read_share(*unhex(test, "share")) is not None, test["ok"])
        return
    if test["ok"]:
        rows = [list(map(int, row)) for row in test["coefficients"]]
        dealt = {holder: arithmetic.share(*unhex(test, "secret"), rows, int(holder)).hex() for holder in test["shares"]}
        expect("shares", dealt, test["shares"])
    shares = {holder: arithmetic.read_share(bytes.fromhex(test["shares"][str(holder)])) for holder in test["answering"]}
    expect("secret", arithmetic.reconstruct(shares).hex(), test.get("secret", ""))  # type: ignore[arg-type]


def _graphs(test: Test, content: Test) -> None:
    config = _sized(test)
    for member, neighbours in test["neighbours_of"].items():
        met = rules.neighbours_of(int(member), config, *unhex(test, "roster_digest", "session"))
        expect(f"neighbours of {member}", met, neighbours)


def _sized(test: Test) -> rules.Config:
    """A config of which a test gives some numbers."""
    empty = {name: b"" if kind == "bytes" else 0 for name, kind in rules.Config.__annotations__.items()}
    given = {name: test[name] for name in rules.Config.__annotations__ if name in test}
    return rules.Config(**{**empty, "threat_model": "semi_honest", "version": 1, "groups": 1, **given})  # type: ignore[arg-type]


def _parameters(test: Test, content: Test) -> None:
    found = choose(_sized({name: test[name] for name in test if name not in ("neighbours", "threshold")}))
    expect("degree and threshold", found, (test["neighbours"], test["threshold"]) if test["ok"] else None)


def _configs(test: Test, content: Test) -> None:
    (received,) = unhex(test, "received" if "received" in test else "encoded")
    expect("error", refusal(lambda: rules.read_config(received)), test.get("error", ""))
    if test["ok"]:
        config = rules.read_config(received)
        expect("encoded", config.to_bytes().hex(), test["encoded"])
        expect("digest", config.digest.hex(), test["digest"])
        shown = {name: _shown(name, getattr(config, name)) for name in test["config"]}
        expect("config", shown, test["config"])


def _shown(name: str, value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if name in ("prime", "input_max") else value


def _proofs(test: Test, content: Test) -> None:
    leaves = {int(index): bytes.fromhex(leaf) for index, leaf in test["leaves"].items()}
    root, proof = unhex(test, "root", "proof")
    try:
        holds = rules.proved_root(leaves, test["clients"], proof, rules.LABELS[content["version"]].node) == root
    except Refused:
        holds = False
    expect("leads to the root", holds, test["ok"])


def _messages(test: Test, content: Test) -> None:
    if "limits" in test:
        config = rules.read_config(*unhex(test, "config"))
        expect("limits", {name: config.max_bytes(name) for name in test["limits"]}, test["limits"])
    elif "bitmap" in test:
        bitmap, ids = unhex(test, "bitmap", "ids")
        members, clients = test["members"], test["clients"]
        expect("bitmap", (wire.bitmap(members, clients), wire.read_bitmap(bitmap, clients)), (bitmap, members))
        expect("ids", (wire.ids(members), wire.read_ids(ids)), (ids, members))
    else:
        _message(test, content["version"])


def _message(test: Test, version: int) -> None:
    encoded, name = bytes.fromhex(test["encoded"]) + bytes(test.get("zeros", 0)), test["message"]
    received = bytes.fromhex(test["received"]) if "received" in test else encoded
    given = received, [name], len(received), (version,), test.get("suite", 1)
    expect("error", refusal(lambda: wire.decode(*given)), test.get("error", ""))
    if test["ok"]:
        _, session, fields = wire.decode(*given)
        expect("session", session.hex(), test["session"])
        if "zeros" not in test:
            expect("fields", [_shown("", value) for value in fields], [*test["fields"].values()])
        expect("encoded", wire.encode(name, session, *fields, version=version), encoded)


# Rounds, and parties in the middle of one.


class Parties:
    """The parties of one setup, and the operations that they carry out."""

    def __init__(self, setup: Test, chains: Mapping[int, Chain] | None = None) -> None:
        self.setup, self.messages, self.chains = setup, setup["messages"], chains or {}
        self.config = rules.read_config(*unhex(setup, "config"))
        self.cohort = [bytes.fromhex(member["identity_key"]) for member in setup["cohort"]]
        self.clients: dict[int, Client] = {}
        self.stored: dict[str, Client] = {}
        self.tokens = {"joined": set[bytes](), "resumed": set[bytes]()}

    def run(self, operations: list[Test]) -> None:
        """Carry out operations; raises Mismatch at the first that goes otherwise."""
        for number, operation in enumerate(operations):
            try:
                self.carry_out(operation)
            except Mismatch as difference:
                raise Mismatch(f"operation {number} ({operation['op']}): {difference}") from None

    def message(self, operation: Test) -> bytes:
        """What an operation receives."""
        return bytes.fromhex(self.messages[operation["message"]])

    def carry_out(self, operation: Test) -> None:
        """Carry out one operation."""
        party, _, name = operation["op"].partition(".")
        if party == "client":
            self._client(name, operation)
        else:
            getattr(self, f"_{name}")(operation)

    def _client(self, name: str, operation: Test) -> None:
        met: dict[str, Any] = {"error": "", "culprits": [], "out": b""}
        try:
            met["out"] = getattr(self, f"_client_{name}")(operation) or b""
        except Refused as refused:
            met = {"error": refused.code, "culprits": [*refused.culprits], "out": refused.reply}
        except ValueError as misuse:
            met["error"] = _HOST_ERRORS.get(str(misuse), f"{type(misuse).__name__}: {misuse}")
        out = bytes.fromhex(self.messages[operation["out"]]) if "out" in operation else b""
        expect(
            "outcome", met, {"error": operation.get("error", ""), "culprits": operation.get("culprits", []), "out": out}
        )
        if "state" in operation:
            expect("state", self.clients[operation["client"]].state, operation["state"])

    def _client_join(self, operation: Test) -> None:
        index, listed = operation["client"], self.cohort
        if "directory" in operation:
            listed = operation["directory"] and [bytes.fromhex(key) for key in operation["directory"]]
        asked = {**self.setup["policy"], **operation.get("policy", {})}
        seeds = [bytes.fromhex(member["identity_seed"]) for member in self.setup["cohort"]]
        self.clients[index] = Client(
            self.message(operation),
            index,
            recorded(self.setup["draws"]["clients"][index % self.config.clients]),
            accept=lambda config: policy.accepted(config, asked, operation.get("approve")),
            identity=seeds[index % len(seeds)] if seeds else b"",
            directory=lambda digest: listed,
            consume=lambda token: self._used("joined", token) and not operation.get("used", False),
            chain=self.chains.get(index),
            encapsulate=ml_kem.encapsulator(recorded(self._encapsulations(index))),
        )

    def _encapsulations(self, index: int) -> list[str]:
        """What the encapsulations of a client draw, in suite 3."""
        made: list[list[str]] = self.setup["draws"].get("encapsulations", [])
        return made[index] if index < len(made) else []

    def _used(self, ledger: str, token: bytes) -> bool:
        fresh = token not in self.tokens[ledger]
        self.tokens[ledger].add(token)
        return fresh

    def _client_start(self, operation: Test) -> bytes:
        return self.clients[operation["client"]].start()

    def _client_receive(self, operation: Test) -> bytes | None:
        return self.clients[operation["client"]].receive(self.message(operation))

    def _client_submit(self, operation: Test) -> bytes:
        vector = operation.get("input", self.setup["inputs"][operation["client"]])
        given = operation.get("attachment", self.setup.get("attachments", {}).get(str(operation["client"]), []))
        attachment = [(losses, bytes.fromhex(value)) for losses, value in given]
        return self.clients[operation["client"]].submit(list(map(int, vector)), attachment)

    def _client_abort(self, operation: Test) -> bytes:
        client = self.clients[operation["client"]]
        client.state = "ABORTED"
        return wire.abort(client.round_id, "cancelled", client.config.version)

    def _client_disclaim(self, operation: Test) -> bytes:
        return self.clients[operation["client"]].disclaim()

    def _client_suspend(self, operation: Test) -> None:
        client = self.clients[operation["client"]]
        self.stored[operation["saved"]] = copy.deepcopy(client)
        client.state = "ABORTED"

    def _client_resume(self, operation: Test) -> None:
        wire.require(self._used("resumed", bytes.fromhex(operation["token"])), "state-reused")
        self.clients[operation["client"]] = copy.deepcopy(self.stored[operation["saved"]])

    def _open(self, operation: Test) -> None:
        self.server = Server(self.config, recorded(self.setup["draws"]["server"]), self.cohort)
        expect("invitation", self.server.invitation().hex(), self.messages[operation["out"]])

    def _receive(self, operation: Test) -> None:
        met = self.server.receive(operation["client"], self.message(operation))
        expect("event", met, operation.get("event", operation.get("error")))

    def _close(self, operation: Test) -> None:
        expect("phase", self.server.phase, operation["phase"])
        out = {str(index): data.hex() for index, data in self.server.close_phase().items()}
        if "out" in operation:
            expect("out", out, {index: self.messages[name] for index, name in operation["out"].items()})
        expect("state", self.server.phase, operation["state"])

    def _compute(self, operation: Test) -> None:
        try:
            total = [str(element) for element in self.server.compute()]
        except Refused as refused:
            expect("error", (refused.code, [*refused.culprits]), (operation.get("error"), operation.get("culprits")))
        else:
            expect("sum", (total, self.server.included()), (operation.get("sum"), operation.get("included")))
            if self.server.config.groups > 1:
                sums = {
                    str(number): {"sum": [str(element) for element in found], "included": self.server.included(number)}
                    for number, found in sorted(self.server.sums.items())
                }
                expect("groups", sums, operation.get("groups"))
            attached = {str(index): value.hex() for index, value in self.server.attachments.items() if value}
            expect("attachments", attached, operation.get("attachments", {}))


class Chained:
    """The rounds of one cohort, members that keep the chain of them, and somebody who reads it."""

    def __init__(self, setup: Test) -> None:
        self.messages = setup["messages"]
        self.cohort = [bytes.fromhex(member["identity_key"]) for member in setup["cohort"]]
        self.seeds = [bytes.fromhex(member["identity_seed"]) for member in setup["cohort"]]
        self.server = bytes.fromhex(setup["server"]["identity_key"])
        self.chains = {member: Chain(self.server) for member in range(len(self.cohort))}
        common = {"cohort": setup["cohort"], "messages": self.messages}
        self.rounds = [Parties({**played, **common}, self.chains) for played in setup["rounds"]]

    def run(self, operations: list[Test]) -> None:
        """Carry out operations; raises Mismatch at the first that goes otherwise."""
        for number, operation in enumerate(operations):
            try:
                self._carry_out(operation)
            except Mismatch as difference:
                raise Mismatch(f"operation {number} ({operation['op']}): {difference}") from None

    def _carry_out(self, operation: Test) -> None:
        if "round" in operation:
            self.rounds[operation["round"]].carry_out(operation)
            return
        met = {"error": "", "out": ""}
        try:
            met["out"] = getattr(self, "_" + operation["op"].partition(".")[2])(operation).hex()
        except Refused as refused:
            met["error"] = refused.code
        except ValueError as misuse:
            met["error"] = _HOST_ERRORS.get(str(misuse), f"{type(misuse).__name__}: {misuse}")
        out = self.messages[operation["out"]] if "out" in operation else ""
        expect("outcome", met, {"error": operation.get("error", ""), "out": out})

    def _receipt(self, operation: Test) -> bytes:
        member, total = operation["client"], list(map(int, operation["sum"]))
        certificate = bytes.fromhex(self.messages[operation["message"]])
        chain, seed = self.chains[member], self.seeds[member]
        return chain.receive(certificate, total, operation["number"], self.cohort, seed)

    def _read(self, operation: Test) -> bytes:
        certificates, receipts = (
            [bytes.fromhex(self.messages[name]) for name in operation[kind]] for kind in ("certificates", "receipts")
        )
        audit(certificates, receipts, self.server, self.cohort)
        return b""


def recorded(draws: list[str]) -> Callable[[int], bytes]:
    """Randomness that was recorded: the draws in their order."""
    rest = iter(draws)
    return lambda length: bytes.fromhex(next(rest))


def _rounds(test: Test, content: Test) -> None:
    parties = Parties(test)
    parties.run(test["operations"])
    expect("intermediate values", intermediate_of(parties.server, parties.clients), test["intermediate"])


def _refusals(test: Test, content: Test) -> None:
    setup = content["setups"][test["setup"]]
    parties = Parties({**setup, "messages": {**setup["messages"], **test["messages"]}})
    parties.run(setup["operations"][: test["after"]])
    parties.run(test["operations"])


def _chains(test: Test, content: Test) -> None:
    setup = content["setups"][test["setup"]]
    chained = Chained({**setup, "messages": {**setup["messages"], **test["messages"]}})
    chained.run(setup["operations"][: test["after"]])
    chained.run(test["operations"])


_KINDS: Mapping[str, Callable[[Test, Test], None]] = {
    "hashes": _hashes,
    "keys": _keys,
    "masks": _masks,
    "packing": _packing,
    "envelopes": _envelopes,
    "sharing": _sharing,
    "graphs": _graphs,
    "parameters": _parameters,
    "configs": _configs,
    "proofs": _proofs,
    "messages": _messages,
    "rounds": _rounds,
    "client-refusals": _refusals,
    "server-refusals": _refusals,
    "chains": _chains,
}
