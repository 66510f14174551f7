"""Vectors that bind one rule of a client's each: everything else about the message, or the invitation, is in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reference import transcript, wire
from reference.wire import Refused, encode

from .cases import INDEX, Case, ClientCases, changed, invitation, swapped
from .common import labelled
from .configs import base_config
from .refused_invitations import join
from .rounds import Recorder, acceptor


def client_rules(tests: ClientCases) -> None:
    """Adds the tests."""
    _before_the_start(tests)
    _rates(tests)
    _indices(tests)
    _directories(tests)
    _tokens(tests)
    _out_of_place(tests)
    wrong = tests.rule("large", "Roster", "roster-neighbours", "ROSTER-4", "NEIGHBOURS")
    wrong("the absent neighbours in descending order", lambda m, c: changed(m, absent=lambda ids: swapped(ids, 4)))


def _before_the_start(tests: ClientCases) -> None:
    """A client that joined and has not started yet gets something: an ABORT of the real server's may well come then."""
    roster = bytes.fromhex(tests.setups["semi_honest"].messages[f"roster-{INDEX}"])
    for requirements, flags, error, comment, make in (
        ("STATE-1 ABORT-3", "ABORT", "state", "an ABORT before the start", lambda c: encode("Abort", c.round_id, 3)),
        ("STATE-1 WIRE-9", "ORDER", "wrong-phase", "a roster before the start", lambda c: roster),
        (
            "WIRE-6",
            "SESSION",
            "wrong-session",
            "another round's ABORT before it",
            lambda c: encode("Abort", bytes(32), 3),
        ),
    ):
        case, client, _ = tests.at("semi_honest", "client.start")
        tests.get(case, client, make(client), "message")
        case.note("client.start", error="state", state=client.state)
        tests.add(case, requirements, comment, flags, error)


def _rates(tests: ClientCases) -> None:
    """A policy's gamma is an exact number, and its share of the cohort is rounded down."""
    for gamma, clients, colluders, holds in (
        ("0.29", 100, 29, True),
        ("0.29", 100, 28, False),
        ("0.289999999999999", 100, 28, True),
        ("1/3", 99, 33, True),
        ("1/3", 99, 32, False),
        ("1/3", 98, 32, True),
    ):
        config = base_config(
            clients=clients,
            colluders=colluders,
            neighbours=clients - 1,
            threshold=clients // 2,
            min_survivors=clients // 2 + 1,
            ring_bits=32,
        )
        comment = f"a policy that counts on {gamma} of {clients} clients, and a config that counts on {colluders}"
        error = "" if holds else "config-below-policy"
        data = invitation(config.to_bytes())
        join(tests, "semi_honest", error, "CONFIG-11 CONFIG-15", "RATE", comment, data, policy={"gamma": gamma})


def _indices(tests: ClientCases) -> None:
    """A cohort index is the host's own: one that the cohort does not have is its mistake, and nothing is sent."""
    for setup in ("semi_honest", "active"):
        recorder = tests.setups[setup]
        for index in (recorder.config.clients, 2**32):
            case = Case(setup, recorder, "client", 0)
            data = bytes.fromhex(recorder.messages["invitation"])
            try:
                recorder.new_client(INDEX, data, index=index)
            except ValueError:
                case.note("client.join", client=index, message=case.name(data, "wrong"), error="index")
            tests.add(case, "JOIN-1", f"index {index} of {recorder.config.clients} clients", "INDEX", "index")


def _directories(tests: ClientCases) -> None:
    """The list has the cohort's digest, and is refused for what stands in it."""
    active = tests.setups["active"]
    keys, edge = active.identities, 2**255 - 19
    split = [*keys[:-2], keys[-2][:31], keys[-2][31:] + keys[-1]]
    cases: dict[str, tuple[list[bytes], str]] = {
        "keys of 31 and of 33 bytes, which joined are those of the cohort": (split, "cohort-not-vouched"),
        "n + 1 distinct keys": ([*keys, labelled("one more", 32)], "cohort-not-vouched"),
    }
    for number, error in ((edge - 1, ""), (edge, "cohort-not-vouched"), (2**255 - 1, "cohort-not-vouched")):
        for sign, about in ((0, ""), (2**255, ", the highest bit set")):
            odd = (number + sign).to_bytes(32, "little")
            cases[f"a member's key is 2^255 - {2**255 - number}{about}"] = ([*keys[:-1], odd], error)
    for comment, (listed, error) in cases.items():
        digest = transcript.digest("cohort", len(listed), b"".join(listed))
        data = invitation(replace(active.config, cohort=digest).to_bytes())
        join(tests, "active", error, "CONFIG-12 SIGN-2", "DIRECTORY", comment, data, directory=listed)


def _tokens(tests: ClientCases) -> None:
    """An invitation that is refused for another reason leaves its token unused."""
    for setup, other in (("semi_honest", {"approve": "00" * 32}), ("active", {"directory": None})):
        case, used = Case(setup, tests.setups[setup], "client", 0), set[bytes]()
        for given in ({"policy": {"min_sigma": 41}}, other, {}, {}):
            _attempt(tests.setups[setup], case, used, given)
        comment = "an invitation that was refused twice is taken, once, when the host agrees"
        tests.add(case, "JOIN-2 CONFIG-13", comment, "JOINED_TWICE", "config-below-policy")


def _attempt(recorder: Recorder, case: Case, used: set[bytes], given: Mapping[str, Any]) -> None:
    """One attempt to join, by a host that remembers the tokens."""

    def consume(token: bytes) -> bool:
        fresh = token not in used
        used.add(token)
        return fresh

    data, keys = bytes.fromhex(recorder.messages["invitation"]), given.get("directory", recorder.identities)
    accept = acceptor({**recorder.policy, **given.get("policy", {})}, given.get("approve"))
    try:
        client = recorder.new_client(INDEX, data, accept=accept, directory=lambda digest: keys, consume=consume)
    except Refused as refusal:
        case.refused("client.join", refusal, message=case.name(data, "invitation"), **given)
    else:
        case.note("client.join", message=case.name(data, "invitation"), **given, state=client.state)


def _out_of_place(tests: ClientCases) -> None:
    confirmations = lambda m, c: encode("Confirmations", c.session, b"\x1f", bytes(5 * 64))  # noqa: E731
    wrong = tests.rule("semi_honest", "done", "wrong-phase", "STATE-1", "ORDER")
    wrong("confirmations in semi_honest, in DONE", confirmations)
    for setup in ("semi_honest", "active"):
        wrong = tests.rule(setup, "done", "wrong-session", "STATE-3 WIRE-6", "SESSION")
        wrong("an ABORT of another round after the last answer", lambda m, c: encode("Abort", bytes(32), 3))
    two = wire.bitmap([0, 1], 5)
    wrong = tests.rule("active", "Survivors", "malformed", "WIRE-9 WIRE-7", "TWO_FAULTS")
    wrong("a spare bit is set, and two survive: spare bits come first", lambda m, c: changed(m, survivors=b"\x23"))
    wrong = tests.rule("active", "Confirmations", "malformed", "WIRE-9 WIRE-7", "TWO_FAULTS")
    wrong("a spare bit is set, and two confirm", lambda m, c: changed(m, signers=b"\x23", signatures=bytes(2 * 64)))
    wrong("two bytes of signers, and two confirm", lambda m, c: changed(m, signers=two + b"\0", signatures=bytes(128)))
