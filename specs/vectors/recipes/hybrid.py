"""Suite 3: its configs and messages, whole rounds, and what parties refuse of keys, seals and pair secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from reference import hybrid, primitives, wire
from reference.client import Client
from reference.rules import Config
from reference.server import Server
from reference.wire import Refused

from .. import ml_kem
from .cases import INDEX, Case, ClientCases, ServerCases, changed, fields, flipped, invitation, put, swapped
from .common import LOW_ORDER, Test, entry, labelled
from .intermediate import intermediate_of
from .refused_invitations import join
from .refused_states import Stored
from .rounds import LOOSE, Recorder, ring, small, small_active

MESSAGE_FLAGS = {"HYBRID": "a message of one suite that is taken in a round of another"}
CONFIG_FLAGS = {"HYBRID": "a suite in a round that has no place for what it sends"}
ROUND_FLAGS = {"HYBRID": "a pair whose two ends seal both or neither, or whose secret is lost with one of them"}
CLIENT_FLAGS = {
    "HYBRID_KEYS": "one half of a key that nobody looked at",
    "CIPHERTEXT": "a ciphertext that is not the one that was made, which decapsulation does not tell",
    "PAIR_SECRET": "a pair secret of the server's making, or one that the sealer did not commit to",
    "DEALT_ONCE": "a second Share, with other ciphertexts",
}
SERVER_FLAGS = {
    "HYBRID_KEYS": CLIENT_FLAGS["HYBRID_KEYS"],
    "PAIR_SECRETS": "pair secrets that are missing, too many, or of somebody else's pairs",
    "RECOVERY": "a wrong sum, an honest client that is named, or a record opened that is none of the server's business",
    "DEALT_ONCE": CLIENT_FLAGS["DEALT_ONCE"],
}
_BOX = wire.CIPHERTEXT[3] + wire.SEALED


def four(**changes: Any) -> Config:
    """Four clients on the complete graph, of whom one may be lost."""
    given = {"clients": 4, "neighbours": 3, "dropouts": 1, "length": 3, "version": 2, "suite": 3}
    return small(**{**given, **changes})


def four_active(**changes: Any) -> Config:
    """The same in `active`."""
    given = {"clients": 4, "neighbours": 3, "dropouts": 1, "threshold": 2, "quorum": 3, "min_survivors": 3}
    return small_active(**{**given, "version": 2, "suite": 3, **changes})


def three(**changes: Any) -> Config:
    """Three clients, who all stay; client 2 is the sealer for 0, and client 1 for 2."""
    return four(**{"clients": 3, "neighbours": 2, "dropouts": 0, **changes})


def three_active(**changes: Any) -> Config:
    """The same in `active`."""
    return four_active(**{"clients": 3, "neighbours": 2, "dropouts": 0, "quorum": 2, **changes})


def five() -> Config:
    """Five clients: the sealers of client 2 are 1 and 4."""
    return four(clients=5, neighbours=4)


# Configs.


def sound_configs() -> Iterator[tuple[str, Config]]:
    """Suite 3 with all that it goes together with."""
    yield "suite 3", four()
    yield "suite 3 in active", four_active(cohort=bytes(32))
    yield "suite 3 with attachments", four(attachment_bytes=8)
    yield "suite 3 with groups", _grouped()
    yield "suite 3 with envelopes", four(carrier=1)
    yield "suite 3 in a chained round", four_active(cohort=bytes(32), chain=bytes(32))


def unsound_configs() -> Iterator[tuple[str, str, Config]]:
    """The requirement, what is wrong, and the config."""
    yield "HYBRID-1", "suite 3 in version 1", four(version=1)
    yield "HYBRID-1", "suite 3 in version 1, in active", four_active(version=1, cohort=bytes(32))
    yield "CONFIG-3", "a suite that nobody knows", four(suite=4)


def _grouped() -> Config:
    """Six clients in two groups of three: on a ring, and yet everybody has all others of its group for neighbours."""
    sizes = {"clients": 6, "groups": 2, "neighbours": 2, "colluders": 0, "dropouts": 2}
    return four(**sizes, min_group=3, min_survivors=3, sigma=1, length=1)


# Messages.


def messages(phases: Mapping[str, str]) -> Iterator[Test]:
    """Those that have another form in suite 3, and what is malformed there or in other suites."""
    recorder = Recorder("example-hybrid", three_active(), {})
    recorder.run({})
    for kind, name in (
        ("Advertise", "advertise-0"),
        ("Roster", "roster-0"),
        ("Share", "share-0"),
        ("Shares", "shares-0"),
    ):
        data = bytes.fromhex(recorder.messages[name])
        _, _, session, *values = wire.unpack(data)
        names = [field.partition(":")[0] for field in wire.fields_of(kind, 2, 3)]
        shown = {name: value.hex() for name, value in zip(names, values, strict=True)}
        common = {"message": kind, "suite": 3, "phase": phases[kind], "session": session.hex(), "fields": shown}
        yield entry("HYBRID-2" if kind in ("Advertise", "Roster") else "HYBRID-7", "", **common, encoded=data.hex())
    both, short = [bytes(1216), bytes(1216)], [bytes(32), bytes(32)]
    for kind, suite, comment, values in (
        ("Advertise", 3, "keys of another suite", [*short, b""]),
        ("Advertise", 3, "one key of another suite", [bytes(1216), bytes(32), b""]),
        ("Advertise", 3, "a key that is a byte too long", [bytes(1216), bytes(1217), b""]),
        ("Advertise", 1, "keys of suite 3", [*both, b""]),
        ("Roster", 3, "its own keys of another suite", [bytes(32), bytes(64), b"", b"", b"", b"", b""]),
        ("Roster", 1, "its own keys of suite 3", [bytes(32), bytes(2432), b"", b"", b"", b"", b""]),
        ("Share", 3, "no pair secrets", [bytes(32), b"", b""]),
        ("Share", 3, "a field too many", [bytes(32), b"", b"", b"", b""]),
        ("Share", 3, "a number for the pair secrets", [bytes(32), b"", b"", 0]),
        ("Share", 1, "pair secrets", [bytes(32), b"", b"", b""]),
        ("Shares", 3, "no pair secrets", [b"", b"", b""]),
        ("Shares", 1, "pair secrets", [b"", b"", b"", b""]),
    ):
        data = wire.pack([wire.EVERY[kind][0], 2, bytes(32), *values])  # type: ignore[list-item]
        try:
            wire.decode(data, [kind], len(data), (2,), suite)
        except Refused as refused:
            about = "HYBRID-2" if kind in ("Advertise", "Roster") else "HYBRID-7"
            shape = {"message": kind, "suite": suite, "encoded": data.hex()}
            yield entry(about, comment, "HYBRID", error=refused.code, **shape)
        else:
            raise ValueError(f"{kind}, {comment}: it is taken")
    for config in (
        three(),
        four(),
        five(),
        four_active(),
        ring(clients=9, neighbours=6, version=2, suite=3, threshold=3, min_survivors=4, ring_bits=20),
    ):
        limits = {kind: config.max_bytes(kind) for kind in (*wire.to_server(2), *wire.to_client(2))}
        yield entry("HYBRID-16", "size limits", config=config.to_bytes().hex(), limits=limits)


# Rounds.


def rounds() -> Iterator[Test]:
    """Both threat models, the complete graph, a ring and groups; either end of a pair is lost."""
    pairs = "HYBRID-2 HYBRID-5 HYBRID-6 HYBRID-7 HYBRID-10 HYBRID-13"
    lost = f"{pairs} HYBRID-4 HYBRID-14 HYBRID-15"
    sparse = small_active(neighbours=4, dropouts=1, sigma=1, eta=1, grinding_bits=0, version=2, suite=3)
    for name, config, requirements, comment, fates in (
        (
            "hybrid",
            four(),
            lost,
            "one is lost in MASK: of its pairs it sealed one, and two were sealed for it",
            {1: "SHARE"},
        ),
        (
            "hybrid-active",
            four_active(ring_bits=0, prime=32771, input_max=8192, attachment_bytes=8),
            pairs,
            "one is lost in SHARE: neither end makes a mask of a pair with it; a prime modulus and attachments",
            {0: "ADVERTISE"},
        ),
        (
            "hybrid-ring",
            ring(clients=6, version=2, suite=3),
            lost,
            "a sparse graph: one never advertises, one is lost in MASK, and one in UNMASK",
            {0: "NONE", 4: "SHARE", 2: "MASK"},
        ),
        (
            "hybrid-ring-active",
            sparse,
            lost,
            "a sparse graph in `active`, and one that is lost in MASK",
            {5: "SHARE"},
        ),
        (
            "hybrid-groups",
            _grouped(),
            pairs,
            "groups: who seals follows from the places on the ring, although everybody is a neighbour in a group",
            {},
        ),
    ):
        recorder = Recorder(name, config, LOOSE)
        recorder.run(fates)
        between = intermediate_of(recorder.server, recorder.clients)
        yield entry(requirements, comment, "HYBRID", **recorder.setup(), intermediate=between)


# Clients.


def client_setups() -> dict[str, Recorder]:
    """Small rounds, for the messages are large."""
    made = {
        "hybrid": Recorder("refusals-hybrid", three(), LOOSE),
        "hybrid-active": Recorder("refusals-hybrid-active", three_active(), LOOSE),
        "hybrid-five": Recorder("refusals-hybrid-five", five(), LOOSE),
    }
    for recorder in made.values():
        recorder.run({})
    return made


def client_refusals(tests: ClientCases) -> None:
    """Adds the tests."""
    config = tests.setups["hybrid"].config
    join(
        *(tests, "hybrid", "config-unsound", "HYBRID-1", "VERSION", "suite 3 in version 1"),
        invitation(replace(config, version=1).to_bytes()),
    )
    comment = "a host without ML-KEM-768, which asks for other suites"
    join(tests, "hybrid", "config-below-policy", "HYBRID-1", "POLICY", comment, policy={"suites": [1, 2]})
    join(tests, "hybrid", "", "HYBRID-1", "POLICY", "a host that asks for suite 3", policy={"suites": [3]})
    _rosters(tests)
    _dealt_once(tests)
    _sealed_shares(tests)
    _pair_secrets(tests)


def _key(keys: bytes, place: int, change: Callable[[bytes], bytes]) -> bytes:
    """Keys of which the one in a place is another one: the channel key is before the masking key."""
    size = wire.PUBLIC_KEY[3]
    return put(keys, size, place, change(keys[size * place : size * (place + 1)]))


def _numbered(key: bytes, place: int, number: int) -> bytes:
    """A key in whose encapsulation key one of the 768 numbers of 12 bits is another one."""
    numbers = int.from_bytes(key[32 : 32 + 1152], "little")
    numbers += (number - (numbers >> 12 * place & 0xFFF)) << 12 * place
    return key[:32] + numbers.to_bytes(1152, "little") + key[32 + 1152 :]


def _bad_keys(other: bytes) -> dict[str, Callable[[bytes], bytes]]:
    """What makes a key unusable, and keys of which one half is another key's."""
    low = sorted(LOW_ORDER)[2]
    return {
        "an X25519 half of low order": lambda key: low + key[32:],
        "an X25519 half of zero": lambda key: bytes(32) + key[32:],
        "a first number of 3329": lambda key: _numbered(key, 0, 3329),
        "a last number of 4095": lambda key: _numbered(key, 767, 4095),
        "another's X25519 half": lambda key: other[:32] + key[32:],
        "another's encapsulation key": lambda key: key[:32] + other[32:],
    }


def _rosters(tests: ClientCases) -> None:
    wrong = tests.rule("hybrid", "Roster", "roster-keys", "HYBRID-3 ROSTER-3", "HYBRID_KEYS")
    neighbour = tests.setups["hybrid"].clients[1]
    for comment, change in _bad_keys(neighbour.channel_key).items():
        wrong(comment, lambda m, c, change=change: changed(m, keys=lambda k: _key(k, 1, change)))  # type: ignore[misc]
    comment = "its own encapsulation key, shown as a neighbour's"
    wrong(comment, lambda m, c: changed(m, keys=lambda k: _key(k, 3, lambda key: key[:32] + c.channel_key[32:])))
    comment = "one encapsulation key for both of a neighbour's"
    wrong(
        comment, lambda m, c: changed(m, keys=lambda k: _key(k, 3, lambda key: key[:32] + k[2 * 1216 + 32 : 3 * 1216]))
    )
    wrong = tests.rule("hybrid", "Roster", "roster-own-leaf", "HYBRID-2 ROSTER-1", "HYBRID_KEYS")
    wrong("another encapsulation key of its own", lambda m, c: changed(m, own=flipped))
    wrong = tests.rule("hybrid-active", "Roster", "roster-path", "HYBRID-2 ROSTER-5", "HYBRID_KEYS")
    wrong("another encapsulation key of a neighbour", lambda m, c: changed(m, keys=flipped))
    wrong = tests.rule("hybrid-active", "Roster", "roster-signature", "HYBRID-2 ROSTER-6", "HYBRID_KEYS")
    wrong("an encapsulation key of the server's, in a roster of its own", lambda m, c: _own_roster(tests, m, c))
    wrong = tests.rule("hybrid", "Roster", "malformed", "HYBRID-2", "HYBRID_KEYS")
    wrong("keys of fewer neighbours", lambda m, c: changed(m, keys=lambda keys: keys[:-2432]))
    wrong("a byte of a key too few", lambda m, c: changed(m, keys=lambda keys: keys[:-1]))


def _own_roster(tests: ClientCases, message: bytes, client: Client) -> bytes:
    """A roster whose digest fits the key that the server shows for its first neighbour."""
    keys = _key(fields(message)["keys"], 1, lambda key: _numbered(key, 0, 5))
    members = [*wire.records(keys, 2432, 2), fields(message)["own"]]
    leaves = [client.labels.leaf(member, both[:1216], both[1216:]) for member, both in enumerate(members)]
    root = client.labels.node(client.labels.node(leaves[0], leaves[1]), leaves[2])
    return changed(message, keys=keys, digest=client.labels.roster_digest(client.round_id, 3, root))


def _dealt_once(tests: ClientCases) -> None:
    comment = "the same roster twice: it deals once, for it could not make the same Share again"
    tests.sequence("hybrid", "Roster", "HYBRID-8", "DEALT_ONCE", comment, lambda m, c: [m, m])
    host = Stored(tests, "hybrid-five", "Shares")
    host.suspend("state-1")
    host.resume("state-1")
    host.get()
    client, recorder = host.client, tests.setups["hybrid-five"]
    masked = client.submit(recorder.vector(INDEX), recorder.attachment(INDEX))
    host.case.note("client.submit", out=host.case.name(masked, "masked"), state=client.state)
    comment = "suspended after it dealt, and resumed: it opens what was sealed for it, and masks"
    tests.add(host.case, "HYBRID-5 HYBRID-8 HYBRID-13 STATE-4", comment, "DEALT_ONCE", "")


def _fresh(client: Client, public: bytes) -> tuple[bytes, bytes]:
    """Somebody else's encapsulation."""
    return ml_kem.encapsulate(public[32:], labelled("somebody else's encapsulation", 32))


def _sealed_shares(tests: ClientCases) -> None:
    wrong = tests.rule("hybrid-five", "Shares", "shares-unsealable", "HYBRID-5 SHARES-3", "CIPHERTEXT")
    wrong("a bit of a ciphertext changed", lambda m, c: changed(m, sealed=lambda s: flipped(s, 2 * _BOX)))
    wrong("a bit of what is sealed changed", lambda m, c: changed(m, sealed=lambda s: flipped(s, _BOX + 1088)))
    wrong("boxes of two dealers exchanged", lambda m, c: changed(m, sealed=lambda s: swapped(s, _BOX)))
    wrong("ciphertexts of two dealers exchanged", lambda m, c: changed(m, sealed=_other_ciphertexts))
    comment = "a ciphertext of the server's"
    wrong(comment, lambda m, c: changed(m, sealed=lambda s: _fresh(c, c.channel_key)[1] + s[1088:]))
    wrong = tests.rule("hybrid-five", "Shares", "malformed", "HYBRID-5 WIRE-7", "CIPHERTEXT")
    wrong("a box without its ciphertext", lambda m, c: changed(m, sealed=lambda s: s[1088:]))


def _other_ciphertexts(sealed: bytes) -> bytes:
    first, second = sealed[:1088], sealed[_BOX : _BOX + 1088]
    return second + sealed[1088:_BOX] + first + sealed[_BOX + 1088 :]


def _pair_secrets(tests: ClientCases) -> None:
    size, setup = wire.PAIR_SECRET, "hybrid-five"
    wrong = tests.rule(setup, "Shares", "malformed", "HYBRID-10 WIRE-7", "PAIR_SECRET")
    wrong("no pair secrets", lambda m, c: changed(m, pair_secrets=b""))
    wrong("a record too few", lambda m, c: changed(m, pair_secrets=lambda s: s[:size]))
    wrong("a record too many", lambda m, c: changed(m, pair_secrets=lambda s: s + s[:size]))
    comment = "a byte too many, and shares that do not open"
    wrong(comment, lambda m, c: changed(m, pair_secrets=lambda s: s + b"\0", sealed=flipped))

    wrong = tests.rule(setup, "Shares", "secret-unsealable", "HYBRID-11", "PAIR_SECRET")
    wrong("a bit of the first ciphertext changed", lambda m, c: changed(m, pair_secrets=lambda s: flipped(s, 0)))
    wrong(
        "a bit of the second pair secret changed",
        lambda m, c: changed(m, pair_secrets=lambda s: flipped(s, size + 1088)),
    )
    wrong("records of two sealers exchanged", lambda m, c: changed(m, pair_secrets=lambda s: swapped(s, size)))
    wrong("a pair secret of the server's, sealed without X25519", lambda m, c: changed(m, pair_secrets=_forged(c)))
    other = tests.setups[setup].server.pair_secrets[1][4]
    wrong("what the sealer sealed for another", lambda m, c: changed(m, pair_secrets=lambda s: put(s, size, 0, other)))
    comment = "the first does not match its commitment, and the second does not open"
    wrong(comment, lambda m, c: changed(m, pair_secrets=lambda s: flipped(flipped(s, size - 1), size)))
    wrong("none opens", lambda m, c: changed(m, pair_secrets=lambda s: flipped(flipped(s, 0), size)))

    wrong = tests.rule(setup, "Shares", "secret-commitment", "HYBRID-12", "PAIR_SECRET")
    wrong("another commitment of the first", lambda m, c: changed(m, pair_secrets=lambda s: flipped(s, size - 1)))
    wrong("another commitment of the second", lambda m, c: changed(m, pair_secrets=flipped))
    wrong("none matches", lambda m, c: changed(m, pair_secrets=lambda s: flipped(flipped(s, size - 1))))
    sealer = tests.setups[setup].clients[1]
    comment = "a pair secret that the sealer did not commit to, and sealed as it should"
    wrong(comment, lambda m, c: changed(m, pair_secrets=lambda s: put(s, size, 0, _uncommitted(sealer, c))))

    wrong = tests.rule(setup, "Shares", "shares-commitment", "HYBRID-11 SHARES-5", "PAIR_SECRET")
    comment = "a share that does not match its commitment, and a pair secret that does not open"
    wrong(comment, lambda m, c: changed(m, commitments=flipped, pair_secrets=lambda s: flipped(s, 0)))

    wrong = tests.rule(setup, "Shares", "wrong-phase", "COMPLAIN-1 STATE-1", "PAIR_SECRET")
    comment = "accusations in a round that has no phase for them"
    wrong(comment, lambda m, c: wire.encode("Accusations", c.session, b"", b"", version=2))


def _forged(client: Client) -> Callable[[bytes], bytes]:
    """The first record in the server's version: sealed and committed to, but nobody agreed on anything by X25519."""
    sealer_key, ends = client.peers[1][1216:], (1, client.index)
    shared, ciphertext = _fresh(client, client.masking_key)
    keys = (sealer_key, client.masking_key)
    key = hybrid.sealing_key(client.config, client.session, shared, ends, keys, ciphertext)
    return lambda records: put(
        records, wire.PAIR_SECRET, 0, _record(client, ends, key, ciphertext, bytes(32), bytes(32))
    )


def _uncommitted(sealer: Client, holder: Client) -> bytes:
    """Another pair secret than the sealer's root gives, and the commitment to that one."""
    ends, keys = (sealer.index, holder.index), (sealer.masking_key, holder.masking_key)
    shared, ciphertext = _fresh(holder, holder.masking_key)
    agreed = shared + sealer.masking.agree(holder.masking_key)
    key = hybrid.sealing_key(holder.config, holder.session, agreed, ends, keys, ciphertext)
    derived = hybrid.pair_secret(holder.config, holder.session, sealer.masking, *ends)
    return _record(holder, ends, key, ciphertext, bytes(32), derived)


def _record(
    client: Client, ends: tuple[int, int], key: bytes, ciphertext: bytes, secret: bytes, committed: bytes
) -> bytes:
    context = client.labels.sealed_pair_secret_context(client.session, *ends, b"SHARE")
    commitment = client.labels.pair_secret_commitment(client.session, *ends, committed)
    return ciphertext + primitives.seal(key, secret, context) + commitment


# Servers.


class _OtherRoot(Client):
    """Shares another masking root than the one that it made its keys of."""

    def _deal(self) -> bytes:
        honest, self.masking_private = self.masking_private, labelled("another root", 32)
        dealt = super()._deal()
        self.masking_private = honest
        return dealt


def server_setups() -> dict[str, Recorder]:
    """A round in which client 1 is lost in MASK: it sealed for client 2, and 0 and 3 sealed for it."""
    recorder = Recorder("refusals-hybrid-server", four(), LOOSE)
    recorder.run({1: "SHARE"})
    return {"hybrid": recorder}


def server_refusals(tests: ServerCases) -> None:
    """Adds the tests."""
    _advertised(tests)
    _shared(tests)
    _recovered(tests)


def _advertised(tests: ServerCases) -> None:
    first, honest = (tests.message("hybrid", f"advertise-{index}") for index in (0, INDEX))
    for place, (comment, change) in enumerate(_bad_keys(fields(first)["channel_key"]).items()):
        field = ("channel_key", "masking_key")[place % 2]
        if "another's" not in comment:
            wrong = tests.rule("hybrid", "advertise", "key-unusable", "HYBRID-3 ADVERTISE-4", "HYBRID_KEYS")
            wrong(comment, lambda m, f=field, change=change: changed(m, **{f: change}))  # type: ignore[misc]
            continue
        shown = [(0, first), (INDEX, changed(honest, **{field: change}))]
        tests.sequence(
            *("hybrid", "ADVERTISE", "HYBRID-3 ADVERTISE-4", "HYBRID_KEYS", comment),
            lambda s, shown=shown: shown,  # type: ignore[misc]
        )
    wrong = tests.rule("hybrid", "advertise", "key-repeated", "HYBRID-3 ADVERTISE-4", "HYBRID_KEYS")
    comment = "one encapsulation key for both"
    wrong(comment, lambda m: changed(m, channel_key=lambda k: k[:32] + fields(m)["masking_key"][32:]))


def _shared(tests: ServerCases) -> None:
    size = wire.PAIR_SECRET
    wrong = tests.rule("hybrid", "share", "wrong-length", "HYBRID-9", "PAIR_SECRETS")
    wrong("no pair secrets", lambda m: changed(m, pair_secrets=b""))
    wrong("a byte too few", lambda m: changed(m, pair_secrets=lambda s: s[:-1]))
    wrong("a record too few", lambda m: changed(m, pair_secrets=lambda s: s[:size]))
    wrong("a byte too many", lambda m: changed(m, pair_secrets=lambda s: s + b"\0"))
    wrong = tests.rule("hybrid", "share", "wrong-length", "HYBRID-5 SHARE-8", "PAIR_SECRETS")
    wrong("a sealed pair without its ciphertext", lambda m: changed(m, sealed=lambda s: s[1088:]))
    wrong = tests.rule("hybrid", "share", "too-large", "HYBRID-16 WIRE-5", "PAIR_SECRETS")
    config = tests.setups["hybrid"].config
    room = max(map(config.max_bytes, wire.to_server(2))) - len(tests.message("hybrid", f"share-{INDEX}"))
    wrong("a byte more than the largest message", lambda m: changed(m, pair_secrets=lambda s: s + bytes(room + 1)))
    honest = tests.message("hybrid", f"share-{INDEX}")
    again = changed(honest, pair_secrets=lambda s: flipped(s, 0))
    comment = "the same Share again is nothing new, and one with another ciphertext is"
    shown = [(INDEX, honest), (INDEX, honest), (INDEX, again)]
    tests.sequence("hybrid", "SHARE", "HYBRID-8 WIRE-8", "DEALT_ONCE", comment, lambda s: shown)
    complaint = wire.encode("Complaint", tests.setups["hybrid"].server.session, b"", b"", version=2)
    comment = "a complaint in a round that has no phase for it"
    tests.sequence("hybrid", "MASK", "COMPLAIN-1 STATE-2", "PAIR_SECRETS", comment, lambda s: [(INDEX, complaint)])


def _recovered(tests: ServerCases) -> None:
    """Each time one record of a Share is another one; holders who would leave for it are not asked."""
    size = wire.PAIR_SECRET
    for dealer, record, place, comment in (
        (0, 0, 0, "the sealer's ciphertext for the lost client is another one"),
        (3, 0, 1088, "what another sealer sealed for the lost client is"),
        (0, 0, size - 1, "the sealer's commitment is"),
        (1, 0, size - 1, "the lost client's own commitment is"),
        (1, 0, 0, "the lost client's own ciphertext is, which nobody has to open"),
        (0, 1, 0, "a ciphertext between two survivors is, which nobody has to open"),
    ):
        honest = tests.message("hybrid", f"share-{dealer}")
        altered = changed(honest, pair_secrets=lambda s, at=size * record + place: flipped(s, at))  # type: ignore[misc]
        _to_the_end(tests, "hybrid", {honest: altered}, comment, "HYBRID-14 HYBRID-15")
    server, honest = tests.setups["hybrid"].server, tests.message("hybrid", "share-0")
    to_nothing = server.labels.pair_secret_commitment(server.session, 0, 1, b"")
    altered = changed(honest, pair_secrets=lambda s: flipped(s[: size - 32], 0) + to_nothing + s[size:])
    comment = "a record for the lost client that does not open, and a commitment to no secret at all"
    _to_the_end(tests, "hybrid", {honest: altered}, comment, "HYBRID-14")
    recorder = Recorder("refusals-hybrid-root", four(), LOOSE, {1: _OtherRoot})
    recorder.run({1: "SHARE"}, compute=False)
    tests.setups["hybrid-root"] = recorder
    comment = "the lost client shared another root: it is named, and not those whose records do not open with it"
    _to_the_end(tests, "hybrid-root", {}, comment, "HYBRID-4 HYBRID-14")


def _to_the_end(
    tests: ServerCases, setup: str, instead: Mapping[bytes, bytes], comment: str, requirements: str
) -> None:
    """The server's operations from SHARE on, with other messages, to a sum or to somebody's name."""
    case, server = tests.at(setup, "SHARE")
    for operation in tests.setups[setup].of("server")[case.after :]:
        if operation["op"] == "server.receive":
            data = tests.message(setup, operation["message"])
            tests.get(case, server, operation["client"], instead.get(data, data))
        elif operation["op"] == "server.close":
            phase = server.phase
            server.close_phase()
            case.note("server.close", phase=phase, state=server.phase)
    _compute(case, server)
    tests.tests.append(case.test(requirements, comment, "RECOVERY"))


def _compute(case: Case, server: Server) -> None:
    try:
        total = server.compute()
    except Refused as refused:
        case.note("server.compute", error=refused.code, culprits=[*refused.culprits], state="ABORTED")
    else:
        case.note("server.compute", sum=[str(x) for x in total], included=server.included(), state="DONE")
