"""Messages with two faults at once: the order of R-WIRE-9 says which one they are refused for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from reference import primitives, wire
from reference.client import Client
from reference.wire import encode

from .cases import INDEX, ClientCases, ServerCases, changed, fields, flipped, invitation, put, swapped
from .common import LOW_ORDER, labelled
from .refused_invitations import join

Change = Callable[[bytes], bytes]


def both(*changes: Callable[[bytes], bytes]) -> Callable[[bytes, Client], bytes]:
    """Several changes of one message."""

    def change(message: bytes, client: Client) -> bytes:
        for one in changes:
            message = one(message)
        return message

    return change


def altered(**changes: Any) -> Change:
    """A change of some fields."""
    return lambda message: changed(message, **changes)


def client_faults(tests: ClientCases) -> None:
    """Adds the tests of clients."""
    _invitations(tests)
    _every_message(tests)
    _rosters(tests)
    _shares(tests)
    _survivors(tests)
    _confirmations(tests)


def _invitations(tests: ClientCases) -> None:
    semi, active = tests.setups["semi_honest"].config, tests.setups["active"].config
    good = {name: bytes.fromhex(tests.setups[name].messages["invitation"]) for name in ("semi_honest", "active")}
    unsound = replace(semi, threshold=1).to_bytes()
    low: dict[str, Any] = {"policy": {"min_sigma": 41}}
    approve: dict[str, Any] = {"approve": "00" * 32}
    unknown: dict[str, Any] = {"directory": None}
    cases: list[tuple[str, str, str, bytes, dict[str, Any]]] = [
        ("semi_honest", "too-large", "too large, and no message", bytes(4097), {}),
        (
            "semi_honest",
            "wrong-version",
            "another version, and an unsound config",
            changed(good["semi_honest"], version=2, config=unsound),
            {},
        ),
        (
            "semi_honest",
            "config-unsound",
            "an unsound config, and another's round id",
            changed(good["semi_honest"], config=unsound),
            {},
        ),
        (
            "semi_honest",
            "wrong-session",
            "another's round id, and not approved",
            changed(good["semi_honest"], nonce=flipped),
            approve,
        ),
        (
            "semi_honest",
            "config-not-approved",
            "not approved, and below the policy",
            good["semi_honest"],
            {**approve, **low},
        ),
        ("active", "config-below-policy", "below the policy, and no such cohort", good["active"], {**low, **unknown}),
        (
            "active",
            "cohort-not-vouched",
            "no such cohort, and joined before",
            good["active"],
            {**unknown, "used": True},
        ),
        ("active", "config-below-policy", "below the policy, and joined before", good["active"], {**low, "used": True}),
        (
            "active",
            "config-unsound",
            "an unsound config, and joined before",
            invitation(replace(active, quorum=3).to_bytes()),
            {"used": True},
        ),
    ]
    for setup, error, comment, data, given in cases:
        join(tests, setup, error, "WIRE-9", "TWO_FAULTS", comment, data, **given)


def _every_message(tests: ClientCases) -> None:
    limit = max(map(tests.setups["active"].config.max_bytes, wire.TO_CLIENT))
    early = bytes.fromhex(tests.setups["active"].messages["confirmations"])
    for error, comment, make in (
        ("too-large", "too large, and no message", lambda m: bytes(limit + 1)),
        ("too-large", "too large, and of another version", lambda m: changed(m, version=2, survivors=bytes(limit))),
        ("malformed", "another type of field, and another session", altered(survivors=0, session=bytes(32))),
        ("wrong-version", "another version, and another session", altered(version=2, session=bytes(32))),
        ("wrong-version", "another version, and another type of field", altered(version=2, survivors=0)),
        ("wrong-phase", "too early, and another session", lambda m: changed(early, session=bytes(32))),
        ("wrong-session", "another session, and a spare bit", altered(session=bytes(32), survivors=b"\xff")),
        ("malformed", "a message for servers, and another session", lambda m: encode("Confirm", bytes(32), bytes(64))),
    ):
        wrong = tests.rule("active", "Survivors", error, "WIRE-9", "TWO_FAULTS")
        wrong(comment, both(make))
    comment = "another survivor set the second time, with a spare bit and under another session"
    two = lambda m, c: [m, changed(m, survivors=b"\xff", session=bytes(32))]  # noqa: E731
    tests.sequence("active", "Survivors", "WIRE-9", "TWO_FAULTS", comment, two, "survivors-changed")
    comment = "another roster the second time, after it was answered, of another version"
    two = lambda m, c: [m, changed(m, digest=flipped, version=2)]  # noqa: E731
    tests.sequence("active", "Roster", "WIRE-9", "TWO_FAULTS", comment, two, "wrong-version")


def _rosters(tests: ClientCases) -> None:
    own, ids = altered(own=flipped), altered(present=lambda ids: swapped(ids, 4))
    low_keys = altered(keys=lambda keys: put(keys, 32, 0, LOW_ORDER[0]))
    other_keys = altered(keys=lambda keys: put(keys, 32, 0, labelled("a key", 32)))
    fewer = altered(present=lambda ids: ids[4:], keys=lambda keys: keys[64:], signatures=lambda s: s[64:])
    digest, proof, short = altered(digest=flipped), altered(proof=flipped), altered(signatures=lambda s: s[:-64])
    signature = altered(signatures=flipped)
    cases: list[tuple[str, str, str, tuple[Change, ...]]] = [
        ("sparse", "malformed", "the keys' length, and other keys of its own", (altered(keys=lambda k: k[:-1]), own)),
        ("sparse", "malformed", "a part of an absent id, and other keys of its own", (altered(absent=b"\0"), own)),
        (
            "sparse",
            "malformed",
            "a part of a present id, and other keys of its own",
            (altered(present=lambda ids: ids[:-1]), own),
        ),
        ("sparse", "roster-own-leaf", "other keys of its own, and ids out of order", (own, ids)),
        ("sparse", "roster-ids", "ids out of order, and a key of low order", (ids, low_keys)),
        (
            "sparse",
            "roster-keys",
            "a key of low order, and a neighbour less",
            (low_keys, altered(absent=wire.ids([INDEX]))),
        ),
        ("sparse", "roster-neighbours", "a neighbour less, and another proof", (fewer, proof)),
        ("sparse", "roster-path", "another key, whose proof and signature are wrong", (other_keys,)),
        ("sparse", "roster-path", "another proof, and a signature too few", (proof, short)),
        ("active", "roster-path", "another digest, and a signature too few", (digest, short)),
        ("active", "malformed", "a signature too few, and another signature", (short, signature)),
    ]
    for setup, error, comment, changes in cases:
        wrong = tests.rule(setup, "Roster", error, "WIRE-9", "TWO_FAULTS")
        wrong(comment, both(*changes))
    extra = altered(absent=wire.ids([1]))
    one = altered(present=wire.ids([4]), keys=lambda keys: keys[-64:])
    for error, comment, changes in (
        ("roster-keys", "a key of low order, and an absent neighbour in semi_honest", (low_keys, extra)),
        ("malformed", "an absent neighbour in semi_honest, and t - 1 neighbours", (extra, one)),
    ):
        wrong = tests.rule("semi_honest", "Roster", error, "WIRE-9", "TWO_FAULTS")
        wrong(comment, both(*changes))


def _shares(tests: ClientCases) -> None:
    descending, one = altered(dealers=wire.ids([4])), altered(dealers=lambda ids: ids[:4])
    stranger = altered(dealers=wire.ids([INDEX]))
    length, sealed = altered(sealed=lambda s: s[:-1]), altered(sealed=flipped)
    commitment = altered(commitments=flipped)
    for error, comment, changes in (
        ("malformed", "a part of an id, and shares of another length", (altered(dealers=lambda ids: ids[:-1]), length)),
        ("shares-dealers", "a dealer that is no neighbour, alone", (stranger,)),
        ("shares-too-few", "one dealer, and shares of four", (one,)),
        ("shares-too-few", "another dealer, and shares of another length", (descending, length)),
        ("malformed", "shares of another length, and another commitment", (length, commitment)),
        ("malformed", "commitments of another length, and shares that do not open", (altered(commitments=b""), sealed)),
        ("shares-unsealable", "shares that do not open, and another commitment", (sealed, commitment)),
    ):
        wrong = tests.rule("semi_honest", "Shares", error, "WIRE-9", "TWO_FAULTS")
        wrong(comment, both(*changes))


def _survivors(tests: ClientCases) -> None:
    def bits(*members: int) -> Callable[[bytes, Client], bytes]:
        return lambda message, client: changed(message, survivors=wire.bitmap(members, client.config.clients))

    wrong = tests.rule("large", "Survivors", "survivors-self", "WIRE-9", "TWO_FAULTS")
    wrong("this client is missing, and most others are", bits(0, 1))
    wrong = tests.rule("large", "Survivors", "survivors-too-few", "WIRE-9", "TWO_FAULTS")
    wrong("few, and one of them an absent neighbour", bits(0, 2, 3))
    wrong = tests.rule("large", "Survivors", "survivors-not-shared", "WIRE-9", "TWO_FAULTS")
    wrong("six, most of whom did not share", bits(0, 1, 2, 3, 6, 4))
    ring = lambda m, c: changed(  # noqa: E731
        m, survivors=wire.bitmap([member for member in range(7) if member not in c.neighbours], 7)
    )
    wrong = tests.rule("ring", "Survivors", "survivors-neighbours", "WIRE-9", "TWO_FAULTS")
    wrong("no neighbour at all, and enough others", ring)


def _confirmations(tests: ClientCases) -> None:
    seeds = tests.setups["large"].seeds

    def confirmed(signers: list[int], count: int, bad: bool) -> Callable[[bytes, Client], bytes]:
        def change(message: bytes, client: Client) -> bytes:
            made = b"".join(primitives.sign(seeds[signer], client.signed) for signer in signers)[: 64 * count]
            signatures = flipped(made) if bad else made
            return encode("Confirmations", client.session, wire.bitmap(signers, 10), signatures)

        return change

    for error, comment, change in (
        ("confirm-signers", "too few signers, and a signature too few", confirmed([0, 1, 2], 2, False)),
        (
            "confirm-signers",
            "a signer that is no survivor, and a bad signature",
            confirmed([0, 1, 2, 4, 5, 9], 6, True),
        ),
        ("malformed", "a signature too few, and a bad one", confirmed([0, 1, 2, 4, 5, 7], 5, True)),
    ):
        wrong = tests.rule("large", "Confirmations", error, "WIRE-9", "TWO_FAULTS")
        wrong(comment, change)


def server_faults(tests: ServerCases) -> None:
    """Adds the tests of servers."""
    active = tests.setups["active"]
    limit = max(map(active.config.max_bytes, wire.TO_SERVER))
    share, advert = (tests.message("active", f"{name}-{INDEX}") for name in ("share", "advertise"))
    unmask, masked = (tests.message("active", f"{name}-{INDEX}") for name in ("unmask", "masked-input"))
    left = wire.abort(active.server.round_id, "cancelled")
    lists: list[tuple[str, str, list[tuple[int, bytes]]]] = [
        (
            "SHARE",
            "a stranger's message that is too large, and then one that is none",
            [(5, bytes(limit + 1)), (5, b"")],
        ),
        ("SHARE", "too large, and no message", [(INDEX, bytes(limit + 1))]),
        ("SHARE", "as large as can be, and no message", [(INDEX, bytes(limit))]),
        ("SHARE", "another version, and another session", [(INDEX, changed(share, version=2, session=bytes(32)))]),
        ("SHARE", "another session, and another length", [(INDEX, changed(share, session=bytes(32), sealed=b""))]),
        ("SHARE", "another session, of an earlier phase that was taken", [(INDEX, changed(advert, session=bytes(32)))]),
        ("SHARE", "another session, of a later phase", [(INDEX, changed(unmask, session=bytes(32)))]),
        ("SHARE", "other keys than were taken, in the next phase", [(INDEX, changed(advert, masking_key=flipped))]),
        (
            "SHARE",
            "the same keys, of a client that left",
            [(INDEX, left), (INDEX, advert), (INDEX, changed(advert, masking_key=flipped))],
        ),
        ("SHARE", "a later phase's message of a client that left", [(INDEX, left), (INDEX, masked)]),
        ("SHARE", "another length, of a client that left", [(INDEX, left), (INDEX, changed(share, sealed=b""))]),
        (
            "SHARE",
            "another round's ABORT, of a client that left",
            [(INDEX, left), (INDEX, wire.abort(bytes(32), "cancelled"))],
        ),
    ]
    for phase, comment, messages in lists:
        tests.sequence("active", phase, "WIRE-9", "TWO_FAULTS", comment, lambda s, messages=messages: messages)  # type: ignore[misc]
    low, first = LOW_ORDER[0], fields(tests.message("active", "advertise-0"))["masking_key"]
    for error, comment, change in (
        ("malformed", "a short signature, and a key of low order", altered(signature=b"", channel_key=low)),
        ("key-unusable", "the same key of low order twice", altered(channel_key=low, masking_key=low)),
        ("key-unusable", "a key of low order, and a bad signature", altered(channel_key=low)),
        (
            "key-repeated",
            "one key for both, and a bad signature",
            lambda m: changed(m, channel_key=fields(m)["masking_key"]),
        ),
    ):
        wrong = tests.rule("active", "advertise", error, "WIRE-9 ADVERTISE-4", "TWO_FAULTS")
        wrong(comment, change)
    stolen = [(0, tests.message("active", "advertise-0")), (INDEX, changed(advert, masking_key=first))]
    comment = "another's key, and so a bad signature"
    tests.sequence("active", "ADVERTISE", "WIRE-9 ADVERTISE-4", "TWO_FAULTS", comment, lambda s: stolen)
