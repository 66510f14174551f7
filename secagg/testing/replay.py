"""Carry out the operations of a recorded round with this library's clients and server, and compare what they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Final, TypeAlias, final

import numpy as np

from secagg.errors import InputError, ParameterError, PeerError, StateError
from secagg.events import Accepted, AlreadyMasked, ClientAborted, ClientStep, Duplicate, Late, Misbehaved
from secagg.identity import Identity, UsedTokens
from secagg.pairwise.carrier import ANY_CARRIER
from secagg.pairwise.client.chaining import Chain
from secagg.pairwise.client.machine import Client
from secagg.pairwise.config import Policy, RoundConfig, Suite
from secagg.pairwise.phases import ThreatModel
from secagg.pairwise.server import Server
from secagg.pairwise.values import MAX_ATTACHMENT_BYTES
from secagg.primitives.suites import CryptoError
from secagg.testing.sealed_shares import Receivers, is_share

Operation: TypeAlias = Mapping[str, Any]
Setup: TypeAlias = Mapping[str, Any]

_EVENTS: Final[Mapping[type[object], str]] = {
    Accepted: "accepted",
    Duplicate: "duplicate",
    AlreadyMasked: "already-masked",
    Late: "late",
    ClientAborted: "client-aborted",
}
_HOST_ERRORS: Final[Mapping[str, type[Exception]]] = {
    "state": StateError,
    "input": InputError,
    "index": ParameterError,
}
"""What a vector calls the errors of a host, which are no peer's fault."""


class Mismatch(Exception):  # noqa: N818
    """What was met is not what a vector says."""


def carry_out_each(operations: Sequence[Operation], carry_out: Callable[[Operation], None]) -> None:
    """Carry out operations; raises Mismatch, which names the operation, at the first that goes otherwise."""
    for number, operation in enumerate(operations):
        try:
            carry_out(operation)
        except Mismatch as difference:
            who = f" {operation['client']}" if "client" in operation else ""
            raise Mismatch(f"operation {number} ({operation['op']}{who}): {difference}") from None


def expect(what: str, met: object, expected: object) -> None:
    """Raises Mismatch unless the two are equal."""
    if met != expected:
        raise Mismatch(f"{what}: {_short(met)}, not {_short(expected)}")


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 200 else f"{shown[:100]} ... {shown[-90:]}"


@final
class FixedDirectory:
    """Gives the same keys, or none, whatever it is asked for."""

    def __init__(self, keys: Sequence[bytes] | None) -> None:
        self._keys = keys

    def cohort(self, digest: bytes) -> Sequence[bytes] | None:
        return self._keys


@final
class _Draws:
    """Randomness that was recorded: the draws in their order."""

    def __init__(self, recorded: Sequence[str]) -> None:
        self._rest = list(recorded)

    def put_first(self, draw: str) -> None:
        """What is drawn next, before the rest."""
        self._rest.insert(0, draw)

    def __call__(self, length: int) -> bytes:
        drawn = bytes.fromhex(self._rest.pop(0)) if self._rest else b""
        expect("bytes drawn", length, len(drawn))
        return drawn


@final
class Replay:
    """The parties of one recorded round."""

    def __init__(self, setup: Setup, chains: Mapping[int, Chain] = MappingProxyType({})) -> None:
        """``chains``: of the members that keep one, by cohort index."""
        self._chains = chains
        self._config = RoundConfig.from_bytes(bytes.fromhex(setup["config"]))
        self._policy: Mapping[str, Any] = setup["policy"]
        self._seeds = [bytes.fromhex(member["identity_seed"]) for member in setup["cohort"]]
        self._keys = [bytes.fromhex(member["identity_key"]) for member in setup["cohort"]]
        self._server_draws = _Draws(setup["draws"]["server"])
        self._client_draws = [_Draws(recorded) for recorded in setup["draws"]["clients"]]
        self._inputs: Sequence[Sequence[str]] = setup["inputs"]
        self._attachments: Mapping[str, Sequence[tuple[int, str]]] = setup.get("attachments", {})
        self._messages: Mapping[str, str] = setup["messages"]
        drawn = [[bytes.fromhex(draw) for draw in draws] for draws in setup["draws"]["clients"]]
        self._receivers = Receivers(self._config, drawn)
        self._clients: dict[int, Client] = {}
        self._stored: dict[str, bytes] = {}
        self._joined, self._resumed = UsedTokens(), UsedTokens()
        self._server: Server | None = None

    def run(self, operations: Sequence[Operation]) -> None:
        """Carry out operations; raises Mismatch at the first that goes otherwise."""
        carry_out_each(operations, self.carry_out)

    def carry_out(self, operation: Operation) -> None:
        """Carry out one operation; raises Mismatch when it goes otherwise."""
        _OPERATIONS[operation["op"]](self, operation)

    # A client's operations.

    def _join(self, operation: Operation) -> None:
        index = operation["client"]
        keys = self._keys
        if "directory" in operation:
            given = operation["directory"]
            keys = given and [bytes.fromhex(key) for key in given]
        policy = {
            "threat_model": self._config.threat_model,
            "max_attachment_bytes": MAX_ATTACHMENT_BYTES,
            "max_groups": None,
            "carrier": ANY_CARRIER,
            "max_complaints": None,
            **self._policy,
            **operation.get("policy", {}),
        }
        try:
            client = Client.join(
                bytes.fromhex(self._messages[operation["message"]]),
                index,
                approve=bytes.fromhex(operation["approve"]) if "approve" in operation else None,
                policy=_policy(policy),
                identity=self._identity(index),
                directory=FixedDirectory(keys) if self._config.threat_model.signs else None,
                consume=lambda token: self._joined(token) and not operation.get("used", False),
                chain=self._chains.get(index),
                randomness=self._client_draws[index] if index < len(self._client_draws) else _Draws(()),
            )
        except PeerError as refused:
            self._expect_refusal(refused, operation)
            return
        except ParameterError as misuse:
            expect("error", type(misuse), _HOST_ERRORS.get(operation.get("error", "")))
            return
        expect_success(operation)
        self._clients[index] = client
        self._expect_state(client, operation)

    def _start(self, operation: Operation) -> None:
        client = self._clients[operation["client"]]
        self._step(client, operation, lambda: ClientStep((client.start(),)))

    def _receive(self, operation: Operation) -> None:
        client = self._clients[operation["client"]]
        message = bytes.fromhex(self._messages[operation["message"]])
        self._step(client, operation, lambda: client.receive(message))

    def _submit(self, operation: Operation) -> None:
        client = self._clients[operation["client"]]
        elements = operation.get("input", self._inputs[operation["client"]])
        signed = any(element.startswith("-") for element in elements)
        vector = np.array([int(element) for element in elements], dtype=np.int64 if signed else np.uint64)
        attachment = self._attachment(operation)
        self._step(client, operation, lambda: client.submit(vector, attachment))

    def _attachment(self, operation: Operation) -> list[tuple[int, bytes]] | None:
        """Of version 2: what the operation attaches, or else what the setup gives the client."""
        given = operation.get("attachment", self._attachments.get(str(operation["client"])))
        return None if given is None else [(losses, bytes.fromhex(value)) for losses, value in given]

    def _abort(self, operation: Operation) -> None:
        client = self._clients[operation["client"]]
        self._expect_message(client.abort(), operation)
        self._expect_state(client, operation)

    def _disclaim(self, operation: Operation) -> None:
        client = self._clients[operation["client"]]
        try:
            statement = client.disclaim()
        except StateError as misuse:
            expect("error", type(misuse), _HOST_ERRORS.get(operation.get("error", "")))
        else:
            expect_success(operation)
            self._expect_message(statement, operation)

    def _suspend(self, operation: Operation) -> None:
        index = operation["client"]
        self._client_draws[index].put_first(operation["token"])
        self._stored[operation["saved"]] = self._clients[index].suspend()
        expect_success(operation)
        self._expect_state(self._clients[index], operation)

    def _resume(self, operation: Operation) -> None:
        index = operation["client"]

        def consume(token: bytes) -> bool:
            expect("token", token.hex(), operation["token"])
            return self._resumed(token)

        try:
            self._clients[index] = Client.resume(
                self._stored[operation["saved"]],
                consume,
                identity=self._identity(index),
                directory=FixedDirectory(self._keys) if self._config.threat_model.signs else None,
                chain=self._chains.get(index),
                randomness=self._client_draws[index],
            )
        except PeerError as refused:
            self._expect_refusal(refused, operation)
        else:
            expect_success(operation)
        self._expect_state(self._clients[index], operation)

    def _identity(self, index: int) -> Identity | None:
        return Identity(self._seeds[index % len(self._seeds)]) if self._config.threat_model.signs else None

    def _step(self, client: Client, operation: Operation, action: Callable[[], ClientStep]) -> None:
        expected = _HOST_ERRORS.get(operation.get("error", ""))
        try:
            step = action()
        except PeerError as refused:
            self._expect_refusal(refused, operation)
        except (StateError, InputError) as misuse:
            expect("error", type(misuse), expected)
        else:
            expect_success(operation)
            self._expect_message(b"".join(step.outgoing), operation)
        self._expect_state(client, operation)

    def _expect_refusal(self, refused: PeerError, operation: Operation) -> None:
        expect("error", refused.code.value, operation.get("error"))
        expect("culprits", list(refused.culprit), operation.get("culprits", []))
        self._expect_message(refused.reply, operation)

    def _expect_message(self, met: bytes, operation: Operation) -> None:
        expected = bytes.fromhex(self._messages[operation["out"]]) if "out" in operation else b""
        if is_share(self._config, met) and is_share(self._config, expected):
            self._expect_share(met, expected, operation)
        else:
            expect("message to send", met.hex(), expected.hex())

    def _expect_share(self, met: bytes, expected: bytes, operation: Operation) -> None:
        """A Share of a hybrid suite, by what its receivers get of it."""
        roster = bytes.fromhex(self._messages[operation["message"]])
        try:
            sent, recorded = (self._receivers.opened(operation["client"], roster, share) for share in (met, expected))
        except (CryptoError, ValueError) as unsealable:
            raise Mismatch(f"a Share that its receivers cannot open: {unsealable}") from None
        alike = sent.independent_of_encapsulation() == recorded.independent_of_encapsulation()
        expect("whether the receivers of the Share get the same", alike, True)
        expect("bytes of the Share", len(met), len(expected))

    def _expect_state(self, client: Client, operation: Operation) -> None:
        if "state" in operation:
            expect("state", client.state.value, operation["state"])

    # The server's.

    @property
    def _opened(self) -> Server:
        if self._server is None:
            raise Mismatch("no server was opened")
        return self._server

    def _open(self, operation: Operation) -> None:
        directory = FixedDirectory(self._keys) if self._config.threat_model.signs else None
        self._server = Server(self._config, directory=directory, randomness=self._server_draws)
        self._expect_message(self._server.invitation(), operation)

    def _server_receive(self, operation: Operation) -> None:
        message = bytes.fromhex(self._messages[operation["message"]])
        event = self._opened.receive(operation["client"], message).event
        if isinstance(event, Misbehaved):
            expect("error", event.code.value, operation.get("error"))
        else:
            expect("event", _EVENTS[type(event)], operation.get("event"))

    def _close(self, operation: Operation) -> None:
        server = self._opened
        expect("phase", server.phase.value, operation["phase"])
        outgoing = {str(index): data.hex() for index, data in server.close_phase()}
        if "out" in operation:
            expected = {index: self._messages[name] for index, name in operation["out"].items()}
            expect("receivers", sorted(outgoing), sorted(expected))
            for index, data in expected.items():
                expect(f"message to {index}", outgoing[index], data)
        expect("state", server.phase.value, operation["state"])

    def _compute(self, operation: Operation) -> None:
        server = self._opened
        try:
            result = server.compute()
        except PeerError as refused:
            expect("error", refused.code.value, operation.get("error"))
            expect("culprits", list(refused.culprit), operation["culprits"])
        else:
            expect_success(operation)
            expect("sum", [str(element) for element in result.sum.tolist()], operation["sum"])
            expect("included", list(result.included), operation["included"])
            if server.config.groups > 1:
                sums = {
                    str(group.number): {
                        "sum": [str(element) for element in group.sum.tolist()],
                        "included": list(group.included),
                    }
                    for group in result.groups
                }
                expect("groups", sums, operation["groups"])
            attached = {str(index): value.hex() for index, value in result.attachments.items()}
            expect("attachments", attached, operation.get("attachments", {}))
        expect("state", server.phase.value, operation["state"])


_OPERATIONS: Final[Mapping[str, Callable[[Replay, Operation], None]]] = {
    "client.join": Replay._join,
    "client.start": Replay._start,
    "client.receive": Replay._receive,
    "client.submit": Replay._submit,
    "client.abort": Replay._abort,
    "client.disclaim": Replay._disclaim,
    "client.suspend": Replay._suspend,
    "client.resume": Replay._resume,
    "server.open": Replay._open,
    "server.receive": Replay._server_receive,
    "server.close": Replay._close,
    "server.compute": Replay._compute,
}


def expect_success(operation: Operation) -> None:
    """Raises Mismatch when an operation went well that should be refused."""
    if not operation["ok"]:
        raise Mismatch(f"it should be refused with {operation['error']!r}, and was not")


def _policy(values: Mapping[str, Any]) -> Policy:
    given = dict(values)
    if "suites" in given:
        given["suites"] = frozenset(Suite(suite) for suite in given["suites"])
    if "context" in given:
        given["context"] = bytes.fromhex(given["context"])
    if "gamma" in given:
        given["gamma"] = _rate(given["gamma"])
    given["threat_model"] = ThreatModel(given["threat_model"])
    return Policy(**given)


def _rate(written: str) -> float:
    """The float that a host would give: its floor must be that of the exact number."""
    return float(Fraction(written))
