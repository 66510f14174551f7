"""What a client must refuse to join."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reference import transcript
from reference.wire import Refused

from .cases import INDEX, Case, ClientCases, changed, flipped, invitation
from .common import labelled
from .rounds import acceptor


def refused_invitations(tests: ClientCases) -> None:
    """Adds the tests."""
    _invitations(tests)
    _policies(tests)
    _directories(tests)


def join(
    tests: ClientCases,
    setup: str,
    error: str,
    requirement: str,
    flag: str,
    comment: str,
    data: bytes = b"",
    **given: Any,
) -> None:
    """A test in which a client does not join; ``given`` is what its host gives it."""
    recorder = tests.setups[setup]
    case = Case(setup, recorder, "client", 0)
    data = data or bytes.fromhex(recorder.messages["invitation"])
    keys = given.get("directory", recorder.identities)
    shown = {**given, "directory": keys and [key.hex() for key in keys]} if "directory" in given else given
    try:
        client = recorder.new_client(
            INDEX,
            data,
            accept=acceptor({**recorder.policy, **given.get("policy", {})}, given.get("approve")),
            directory=lambda digest: keys,
            consume=lambda token: not given.get("used"),
        )
    except Refused as refusal:
        case.refused("client.join", refusal, message=case.name(data, "wrong"), **shown)
    else:
        case.note("client.join", message=case.name(data, "invitation"), **shown, state=client.state)
    tests.add(case, f"{requirement} CONFIG-14" if error else requirement, comment, flag, error)


def _invitations(tests: ClientCases) -> None:
    semi, active = tests.setups["semi_honest"].config, tests.setups["active"].config
    other = replace(semi, length=4)
    comment = "another config than the approved one"
    approved = other.digest.hex()
    join(tests, "semi_honest", "config-not-approved", "CONFIG-2", "APPROVAL", comment, approve=approved)
    for comment, bad in {
        "a threshold that the colluders reach": replace(semi, threshold=1),
        "a quorum that two survivor sets reach": replace(active, quorum=3),
        "another suite": replace(semi, suite=9),
        "a sum that may wrap": replace(semi, input_max=2**18),
    }.items():
        setup, data = "active" if bad.active else "semi_honest", invitation(bad.to_bytes())
        join(tests, setup, "config-unsound", "CONFIG-10", "UNSOUND", comment, data)
    good = bytes.fromhex(tests.setups["semi_honest"].messages["invitation"])
    for requirement, flag, error, comment, data in (
        ("WIRE-6", "SESSION", "wrong-session", "a round id of another nonce", changed(good, nonce=flipped)),
        ("WIRE-6", "SESSION", "wrong-session", "a round id of another config", changed(good, config=other.to_bytes())),
        ("WIRE-3", "MALFORMED", "malformed", "a nonce of 31 bytes", changed(good, nonce=bytes(31))),
        ("WIRE-3", "MALFORMED", "malformed", "a byte too many", good + b"\0"),
        ("WIRE-3", "MALFORMED", "malformed", "a byte too few", good[:-1]),
        ("WIRE-4", "VERSION", "wrong-version", "version 2", changed(good, version=2)),
        ("WIRE-5", "SIZE", "too-large", "more than 4096 bytes", changed(good, config=bytes(4096))),
    ):
        join(tests, "semi_honest", error, requirement, flag, comment, data)


def _policies(tests: ClientCases) -> None:
    floors: dict[str, dict[str, Any]] = {
        "fewer clients": {"min_clients": 6},
        "more clients": {"max_clients": 4},
        "semi_honest": {"threat_model": "active"},
        "another suite": {"suites": [2]},
        "less privacy": {"min_sigma": 41},
        "fewer neighbours": {"min_neighbours": 5},
        "a lower threshold": {"min_threshold": 3},
        "fewer survivors": {"min_survivors": 4},
        "a narrower modulus": {"min_modulus_bits": 20},
        "smaller inputs": {"min_input_bits": 17},
        "a shorter vector": {"min_length": 4},
        "a longer vector": {"max_length": 2},
        "another context": {"context": b"another model".hex()},
    }
    for comment, policy in floors.items():
        join(tests, "semi_honest", "config-below-policy", "CONFIG-11", "POLICY", comment, policy=policy)
    floors = {"fewer bits for grinding": {"min_grinding_bits": 65}, "a lower quorum": {"min_quorum": 5}}
    for comment, policy in floors.items():
        join(tests, "active", "config-below-policy", "CONFIG-11", "POLICY", comment, policy=policy)


def _directories(tests: ClientCases) -> None:
    active = tests.setups["active"]
    keys, stranger = active.identities, labelled("stranger", 32)
    for comment, directory in {
        "no such cohort": None,
        "another key at one index": [*keys[:-1], stranger],
        "one member more": [*keys, stranger],
        "another order": [*keys[1:], keys[0]],
    }.items():
        join(tests, "active", "cohort-not-vouched", "CONFIG-12", "DIRECTORY", comment, directory=directory)
    moved = [*keys[:2], keys[3], keys[2], *keys[4:]]
    data = invitation(replace(active.config, cohort=transcript.cohort_digest(moved)).to_bytes())
    comment = "a vouched cohort that has another member at this client's index"
    join(tests, "active", "cohort-not-vouched", "CONFIG-12", "DIRECTORY", comment, data, directory=moved)
    for comment, twice in {
        "one key at two indices": [*keys[:-1], keys[0]],
        "n distinct keys, one of them at two of n + 1 indices": [*keys, keys[0]],
    }.items():
        data = invitation(replace(active.config, cohort=transcript.cohort_digest(twice)).to_bytes())
        join(tests, "active", "cohort-not-vouched", "CONFIG-12", "DIRECTORY", comment, data, directory=twice)
    comment = "the token was used before"
    for setup in ("semi_honest", "active"):
        join(tests, setup, "already-joined", "CONFIG-13", "JOINED_TWICE", comment, used=True)
