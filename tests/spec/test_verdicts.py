"""Messages with several faults at once: the library and the reference give one verdict, and are in one state."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import client as reference_client
from reference import server as reference_server
from reference import wire
from reference.rules import read_config
from reference.wire import Refused

from secagg import Client, PeerError, RoundConfig, Server, UsedTokens
from secagg.events import Misbehaved
from secagg.identity import Identity
from tests.support.reference_parties import EVENTS, LOOSE, SPECS

Setup = dict[str, Any]

SETUPS: dict[str, Setup] = json.loads((SPECS / "vectors" / "v1" / "client-refusals.json").read_text())["setups"]
ROUNDS: list[Setup] = json.loads((SPECS / "vectors" / "v1" / "rounds.json").read_text())["tests"]
INDEX = 2


class Keys:
    """A directory of one cohort."""

    def __init__(self, setup: Setup) -> None:
        self.keys = [bytes.fromhex(member["identity_key"]) for member in setup["cohort"]]

    def cohort(self, digest: bytes) -> list[bytes]:
        return self.keys


def recorded(draws: list[str]) -> Callable[[int], bytes]:
    rest = iter(draws)
    return lambda length: bytes.fromhex(next(rest))


def damaged(draw: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """A message of which one to three elements are others."""
    elements = wire.unpack(data)
    for _ in range(draw.randint(1, 3)):
        place = draw.choice([*range(3, len(elements))] * 6 + [0, 1, 2])
        value = elements[place]
        elements[place] = draw.randrange(12) if isinstance(value, int) else _other_bytes(draw, value, others)
    return wire.pack(elements)


def _other_bytes(draw: random.Random, value: bytes, others: list[bytes]) -> bytes:
    size = draw.choice((1, 4, 32, 40, 64, 160))
    records = [value[at : at + size] for at in range(0, len(value), size)]
    if not records:
        return draw.choice((bytes(size), draw.choice(others)))
    one, other = draw.randrange(len(records)), draw.randrange(len(records))
    changes: list[Callable[[], bytes | None]] = [
        lambda: records.pop(),
        lambda: records.pop(one),
        lambda: records.append(draw.randbytes(size)),
        lambda: records.insert(one, records[other]),
        lambda: records.__setitem__(one, records[other]),
        lambda: records.__setitem__(slice(None), records[one:] + records[:one]),
        lambda: records.__setitem__(one, bytes([records[one][0] ^ 1 << draw.randrange(8)]) + records[one][1:]),
        lambda: records.__setitem__(slice(None), [draw.choice(others)]),
    ]
    draw.choice(changes)()
    return b"".join(records)


def fields(setup: Setup) -> list[bytes]:
    """All byte strings of a round's messages."""
    messages = [wire.unpack(bytes.fromhex(data)) for data in setup["messages"].values()]
    return [element for message in messages for element in message if isinstance(element, bytes)]


def joined(setup: Setup, invitation: bytes) -> tuple[Client, reference_client.Client]:
    """The same client twice."""
    active, draws = bool(setup["cohort"]), setup["draws"]["clients"][INDEX]
    seed = bytes.fromhex(setup["cohort"][INDEX]["identity_seed"]) if active else b""
    ours = Client.join(
        invitation,
        INDEX,
        policy=LOOSE,
        identity=Identity(seed) if active else None,
        directory=Keys(setup) if active else None,
        consume=UsedTokens(),
        randomness=recorded(draws),
    )
    theirs = reference_client.Client(
        invitation, INDEX, recorded(draws), identity=seed, directory=lambda digest: Keys(setup).keys
    )
    return ours, theirs


def verdict(act: Callable[[], object]) -> tuple[object, ...]:
    """What a party does: the answer, or the refusal's code, culprits and reply."""
    try:
        return (act(),)
    except PeerError as refused:
        return refused.code.value, refused.culprit, refused.reply
    except Refused as refused:
        return refused.code, refused.culprits, refused.reply


@given(st.sampled_from(sorted(SETUPS)), st.integers(0, 2**32))
@settings(max_examples=2 * settings().max_examples)
def test_a_client_gives_one_verdict(name: str, seed: int) -> None:
    setup, draw = SETUPS[name], random.Random(seed)
    messages = {message: bytes.fromhex(data) for message, data in setup["messages"].items()}
    stages = [place for place, operation in enumerate(setup["operations"]) if operation["op"] == "client.receive"]
    stage = draw.choice(stages)
    ours, theirs = joined(setup, messages[setup["operations"][0]["message"]])
    for operation in setup["operations"][1 : stage + 1]:
        if operation["op"] == "client.start":
            assert ours.start() == theirs.start()
        elif operation["op"] == "client.submit":
            vector = [int(element) for element in setup["inputs"][INDEX]]
            assert ours.submit(np.array(vector, dtype=np.uint64)).outgoing == (theirs.submit(vector),)
        else:
            data = messages[operation["message"]]
            if operation is setup["operations"][stage]:
                data = damaged(draw, data, fields(setup))
            met = verdict(lambda data=data: b"".join(ours.receive(data).outgoing))  # type: ignore[misc]
            assert met == verdict(lambda data=data: theirs.receive(data) or b"")  # type: ignore[misc]
            assert ours.state.value == theirs.state


@given(st.sampled_from(range(len(ROUNDS))), st.integers(0, 2**32))
@settings(max_examples=2 * settings().max_examples)
def test_a_server_gives_one_verdict(number: int, seed: int) -> None:
    setup, draw = ROUNDS[number], random.Random(seed)
    config, others = bytes.fromhex(setup["config"]), fields(setup)
    keys, draws = Keys(setup), setup["draws"]["server"]
    directory = keys if setup["cohort"] else None
    ours = Server(RoundConfig.from_bytes(config), directory=directory, randomness=recorded(draws))
    theirs = reference_server.Server(read_config(config), recorded(draws), keys.keys)

    def give(sender: int, data: bytes) -> None:
        event = ours.receive(sender, data).event
        met = event.code.value if isinstance(event, Misbehaved) else EVENTS[type(event)]
        assert met == theirs.receive(sender, data)

    for operation in setup["operations"]:
        if operation["op"] == "server.receive":
            sender, data = operation["client"], bytes.fromhex(setup["messages"][operation["message"]])
            if draw.random() < 0.5:
                give(draw.choice((sender, sender, draw.randrange(-1, 8))), damaged(draw, data, others))
            give(sender, data)
        elif operation["op"] == "server.close" and ours.phase.value == operation["phase"]:
            assert dict(ours.close_phase()) == theirs.close_phase()
            assert ours.phase.value == theirs.phase
    if ours.ready_to_compute:
        # Of several bad dealers either may be named.
        assert verdict(lambda: ours.compute().sum.tolist())[0] == verdict(theirs.compute)[0]
