"""Carry out the operations of a cohort's recorded rounds: members that keep a chain, and somebody who reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

import numpy as np

from secagg.audit import audit
from secagg.errors import CertificateError, StateError
from secagg.identity import Identity
from secagg.pairwise.certificate import Certificate
from secagg.pairwise.client.chaining import Chain
from secagg.testing.replay import (
    FixedDirectory,
    Operation,
    Replay,
    Setup,
    carry_out_each,
    expect,
    expect_success,
)

_ERRORS: Final[Mapping[str, type[Exception]]] = {"state": StateError, "invalid": CertificateError}
"""What a vector calls the errors of who holds a certificate or a receipt."""


@final
class ChainReplay:
    """The rounds of one cohort, of which members keep the chain."""

    def __init__(self, setup: Setup) -> None:
        self._messages: Mapping[str, str] = setup["messages"]
        self._seeds = [bytes.fromhex(member["identity_seed"]) for member in setup["cohort"]]
        self._directory = FixedDirectory([bytes.fromhex(member["identity_key"]) for member in setup["cohort"]])
        self._server = bytes.fromhex(setup["server"]["identity_key"])
        self._chains = {member: Chain(self._server) for member in range(len(self._seeds))}
        common: dict[str, Any] = {"cohort": setup["cohort"], "messages": self._messages}
        self._rounds = [Replay({**played, **common}, self._chains) for played in setup["rounds"]]

    def run(self, operations: Sequence[Operation]) -> None:
        """Carry out operations; raises Mismatch at the first that goes otherwise."""
        carry_out_each(operations, self._carry_out)

    def _carry_out(self, operation: Operation) -> None:
        if "round" in operation:
            self._rounds[operation["round"]].carry_out(operation)
            return
        try:
            met = _OPERATIONS[operation["op"]](self, operation)
        except (StateError, CertificateError) as refused:
            expect("error", type(refused), _ERRORS.get(operation.get("error", "")))
        else:
            expect_success(operation)
            expect("what is signed", met.hex(), self._messages[operation["out"]] if "out" in operation else "")

    def _receipt(self, operation: Operation) -> bytes:
        """A member is handed a total with the round's certificate."""
        member, certificate = operation["client"], self._bytes(operation["message"])
        total = np.array([int(element) for element in operation["sum"]], dtype=np.uint64)
        receipt = self._chains[member].receive(
            certificate,
            total.astype(Certificate.from_bytes(certificate).round_config.modulus.dtype),
            identity=Identity(self._seeds[member]),
            directory=self._directory,
            number=operation["number"],
        )
        return receipt.to_bytes()

    def _read(self, operation: Operation) -> bytes:
        """Somebody reads a history, and receipts of members."""
        certificates, receipts = (
            [self._bytes(name) for name in operation[kind]] for kind in ("certificates", "receipts")
        )
        audit(certificates, directory=self._directory, server=self._server, receipts=receipts)
        return b""

    def _bytes(self, name: str) -> bytes:
        return bytes.fromhex(self._messages[name])


_OPERATIONS: Final[Mapping[str, Callable[[ChainReplay, Operation], bytes]]] = {
    "client.receipt": ChainReplay._receipt,
    "reader.read": ChainReplay._read,
}
