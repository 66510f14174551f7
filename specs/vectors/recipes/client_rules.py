"""Vectors that bind one rule of a client's each: everything else about the message, or the invitation, is in order."""

from __future__ import annotations

from reference.wire import encode

from .cases import INDEX, Case, ClientCases, changed, invitation, swapped
from .configs import base_config
from .refused_invitations import join


def client_rules(tests: ClientCases) -> None:
    """Adds the tests."""
    _before_the_start(tests)
    _rates(tests)
    _indices(tests)
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
