"""Rounds of one cohort behind one another, their certificates, and one member that keeps the chain."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reference import primitives, rules, wire
from reference.chain import NONE, Certificate, Chain, audit, sum_digest
from reference.client import Client
from reference.policy import accepted
from reference.rules import Config
from reference.server import Server
from reference.transcript import cohort_digest
from reference.wire import Refused

from .cases import INDEX, fields
from .common import Test, entry, labelled, numbers, source
from .rounds import LOOSE, Recorder


class ChainedRecorder(Recorder):
    """A round of a cohort, whose invitation brings certificates."""

    def __init__(self, cohort: ChainedCohort, config: Config, brought: Sequence[bytes]) -> None:
        super().__init__(f"{cohort.name} {len(cohort.rounds)}", config, LOOSE)
        self.seeds, self.identities, self.brought = cohort.seeds, cohort.keys, brought
        self.chains = {INDEX: cohort.chain}
        self.config = replace(config, cohort=cohort_digest(cohort.keys))

    def new_server(self) -> Server:
        """The round's server, at its beginning."""
        return Server(self.config, source(f"{self.name} server"), self.identities, self.brought)

    def new_client(self, member: int, invitation: bytes, **changes: Any) -> Client:
        """A client that has joined; one of them keeps the chain."""
        return super().new_client(member, invitation, **{"chain": self.chains.get(member), **changes})


class ChainedCohort:
    """A cohort with the identity of its server, its rounds so far, and the chain of one member."""

    def __init__(self, name: str, config: Config) -> None:
        self.name, self.config = name, replace(config, version=2)
        self.seeds = [labelled(f"{name} identity {i}", 32) for i in range(config.clients)]
        self.keys = [primitives.identity_key(seed) for seed in self.seeds]
        self.server_seed = labelled(f"{name} identity of the server", 32)
        self.server_key = primitives.identity_key(self.server_seed)
        self.chain = Chain(self.server_key)
        self.rounds: list[ChainedRecorder] = []
        self.messages: dict[str, str] = {}
        self.operations: list[dict[str, Any]] = []
        self.twin: list[dict[str, Any]] = []
        """Of a round behind the same certificate as the first."""

    def play(self, chain: bytes, brought: Sequence[bytes] = (), fates: Mapping[int, str] | None = None) -> None:
        """A round to its sum; the member's operations become the setup's."""
        self.operations += self.aside(chain, brought, fates)

    def aside(
        self, chain: bytes, brought: Sequence[bytes] = (), fates: Mapping[int, str] | None = None
    ) -> list[dict[str, Any]]:
        """A round to its sum: the member's operations, which are not the setup's."""
        recorder, operations = ChainedRecorder(self, replace(self.config, chain=chain), brought), []
        recorder.run(fates or {})
        number = len(self.rounds)
        self.rounds.append(recorder)
        for operation in recorder.of("client", INDEX):
            named = {key: f"round-{number}-{operation[key]}" for key in ("message", "out") if key in operation}
            for key, name in named.items():
                self.messages[name] = recorder.messages[operation[key]]
            operations.append({**operation, **named, "round": number})
        return operations

    def setup(self) -> dict[str, Any]:
        """What the file has of it."""
        kept = ("config", "policy", "draws", "inputs")
        return {
            "server": {"identity_seed": self.server_seed.hex(), "identity_key": self.server_key.hex()},
            "cohort": [
                {"identity_seed": seed.hex(), "identity_key": key.hex()}
                for seed, key in zip(self.seeds, self.keys, strict=True)
            ],
            "rounds": [{key: recorder.setup([])[key] for key in kept} for recorder in self.rounds],
            "messages": self.messages,
            "operations": self.operations,
        }

    def certificate(self, number: int = 0, before: Certificate | None = None, **changes: Any) -> Certificate:
        """Of a round, as an honest server would sign it, but for the changes."""
        recorder = self.rounds[number]
        server, config = recorder.server, recorder.config
        roster: bytes = fields(bytes.fromhex(recorder.messages[f"roster-{INDEX}"]))["digest"]
        gone = {"ADVERTISE": [i for i in range(config.clients) if i not in server.keys]}
        gone["SHARE"] = sorted({*server.keys} - {*server.shared})
        gone["MASK"] = sorted({*server.shared} - {*server.survivors})
        signers = sorted(server.confirmations)
        made = Certificate(
            form=1,
            previous=before.digest if before else NONE,
            number=before.number + 1 if before else 0,
            name=f"round {number}",
            time=1_700_000_000 + 100 * number,
            encoded=config.to_bytes(),
            nonce=server.nonce,
            roster=roster,
            advertised=self.set(server.keys),
            dealers=self.set(server.shared),
            survivors=self.set(server.survivors),
            signers=self.set(signers),
            signatures=b"".join(server.confirmations[signer] for signer in signers),
            sums=[],
            lost=[[phase, self.set(members)] for phase, members in gone.items() if members],
            faults=[],
            ended=None,
            silent=b"",
            statements=b"",
            transcript=labelled(f"{recorder.name} transcript", 32),
            spent=None,
            server=self.server_key,
        )
        opened = [
            [g, self.set(server.included(g)), sum_digest(made, total)] for g, total in sorted(server.sums.items())
        ]
        return self.resigned(made, **{"sums": opened, **changes})

    def resigned(self, certificate: Certificate, **changes: Any) -> Certificate:
        """The certificate with other contents, which the server signs as well, whatever they are."""
        changed = replace(certificate, **changes, server=self.server_key, signature=bytes(64))
        signed = certificate.config.labels.signed_certificate(changed.to_bytes())
        return replace(changed, signature=primitives.sign(self.server_seed, signed))

    def aborted(self, number: int = 0, silent: Iterable[int] = (), **changes: Any) -> Certificate:
        """A certificate that says of a round that it ended in UNMASK, with statements that members did not answer."""
        ended = {"ended": ["UNMASK", 3, b"", b""], "sums": [], "transcript": b"", **self.silence(number, silent)}
        return self.certificate(number, **{**ended, **changes})

    def silence(self, number: int, silent: Iterable[int]) -> dict[str, bytes]:
        """The two elements with the statements of members."""
        members = sorted(silent)
        signed = self.rounds[number].server.labels.signed_silence(self.rounds[number].server.session)
        statements = b"".join(primitives.sign(self.seeds[member], signed) for member in members)
        return {"silent": self.set(members) if members else b"", "statements": statements}

    def set(self, members: Iterable[int]) -> bytes:
        """A bitmap over the cohort."""
        return wire.bitmap(members, self.config.clients)

    def invitation(self, chain: bytes, brought: Sequence[bytes], version: int = 2) -> bytes:
        """To a round behind certificates; nobody takes part in it."""
        config = replace(self.rounds[0].config, chain=chain, version=version)
        nonce, labels = labelled("another nonce", 32), rules.LABELS[version]
        round_id = labels.round_id(config.digest, nonce)
        return wire.encode(
            "Invitation", round_id, config.to_bytes(), nonce, *([list(brought)] if brought else []), version=version
        )

    def behind(self, *certificates: Certificate) -> bytes:
        """An invitation behind certificates, all of which it brings."""
        return self.invitation(certificates[-1].digest, [made.to_bytes() for made in certificates])

    def total(self, number: int = 0, group: int = 0) -> list[int]:
        """A sum of a round."""
        return self.rounds[number].server.sums[group]


class ChainCase:
    """The member after some operations of its setup, and what it does then."""

    def __init__(self, setup: str, cohort: ChainedCohort, after: int | None = None) -> None:
        self.setup, self.cohort = setup, cohort
        self.after = len(cohort.operations) if after is None else after
        self.chain = Chain(cohort.server_key)
        self.clients: dict[int, Client] = {}
        self.stored: dict[str, Client] = {}
        self.messages: dict[str, str] = {}
        self.operations: list[dict[str, Any]] = []
        for operation in cohort.operations[: self.after]:
            self._again(operation)

    def _again(self, operation: Mapping[str, Any]) -> None:
        number, data = operation["round"], bytes.fromhex(self.cohort.messages.get(operation.get("message", ""), ""))
        recorder = self.cohort.rounds[number]
        match operation["op"]:
            case "client.join":
                self.clients[number] = recorder.new_client(INDEX, data, chain=self.chain)
            case "client.start":
                self.clients[number].start()
            case "client.receive":
                self.clients[number].receive(data)
            case "client.submit":
                self.clients[number].submit(recorder.vector(INDEX))

    def name(self, data: bytes, name: str) -> str:
        """The name of some bytes, which is new unless they were met before."""
        for known, met in {**self.cohort.messages, **self.messages}.items():
            if met == data.hex():
                return known
        if name in self.messages:
            name = f"{name}-{len(self.messages) + 1}"
        self.messages[name] = data.hex()
        return name

    def note(self, operation: str, **rest: Any) -> None:
        """Write down an operation; one with an error is one that is refused."""
        self.operations.append({"op": operation, "ok": "error" not in rest, **rest})

    # What a member does.

    def join(self, data: bytes, number: int = 0, **given: Any) -> None:
        """It is invited; the round's number says which draws it has."""
        recorder = self.cohort.rounds[number]
        rest = {"round": number, "client": INDEX, "message": self.name(data, "invitation"), **given}
        policy = {**recorder.policy, **given.get("policy", {})}
        try:
            client = recorder.new_client(INDEX, data, chain=self.chain, accept=lambda config: accepted(config, policy))
        except Refused as refused:
            self.note("client.join", **rest, error=refused.code, out=self.name(refused.reply, "abort"))
            return
        self.clients[number] = client
        self.note("client.join", **rest, state=client.state)

    def replay(self, operations: Iterable[Mapping[str, Any]]) -> None:
        """The member does what the setup has it do."""
        for operation in operations:
            self._again(operation)
            self.operations.append({**operation})

    def get(self, data: bytes, number: int = 0) -> None:
        """It gets a message."""
        client = self.clients[number]
        rest = {"round": number, "client": INDEX, "message": self.name(data, "message")}
        try:
            answer = client.receive(data)
        except Refused as refused:
            reply = self.name(refused.reply, "abort")
            self.note("client.receive", **rest, error=refused.code, out=reply, state=client.state)
            return
        out = {} if answer is None else {"out": self.name(answer, "answer")}
        self.note("client.receive", **rest, **out, state=client.state)

    def suspend(self, number: int = 0) -> None:
        """It is stored, and its first copy goes on no more."""
        client = self.clients[number]
        self.stored["stored"] = copy.deepcopy(client)
        client.state = "ABORTED"
        self._note_stored("client.suspend", number)

    def resume(self, number: int = 0) -> None:
        """Its host brings it back."""
        self.clients[number] = copy.deepcopy(self.stored["stored"])
        self._note_stored("client.resume", number)

    def _note_stored(self, operation: str, number: int) -> None:
        token, state = labelled("token of a chained client", 32).hex(), self.clients[number].state
        self.note(operation, round=number, client=INDEX, saved="stored", token=token, state=state)

    def abort(self, number: int = 0) -> None:
        """Its host leaves the round."""
        client = self.clients[number]
        client.state = "ABORTED"
        out = self.name(wire.abort(client.round_id, "cancelled", 2), "abort")
        self.note("client.abort", round=number, client=INDEX, out=out, state=client.state)

    def disclaim(self, number: int = 0) -> None:
        """It states that it did not answer."""
        try:
            out = self.clients[number].disclaim()
        except ValueError:
            self.note("client.disclaim", round=number, client=INDEX, error="state")
        else:
            self.note("client.disclaim", round=number, client=INDEX, out=self.name(out, "statement"))

    def receipt(self, certificate: bytes, total: Sequence[int], group: int = 0) -> bytes:
        """It is handed a total with a certificate."""
        rest = {"client": INDEX, "message": self.name(certificate, "certificate"), "sum": numbers(total)}
        rest |= {"number": group}
        try:
            made = self.chain.receive(certificate, total, group, self.cohort.keys, self.cohort.seeds[INDEX])
        except Refused as refused:
            self.note("client.receipt", **rest, error=refused.code)
        except ValueError:
            self.note("client.receipt", **rest, error="state")
        else:
            self.note("client.receipt", **rest, out=self.name(made, "receipt"))
            return made
        return b""

    def read(self, certificates: Iterable[bytes], receipts: Iterable[bytes] = ()) -> None:
        """Somebody reads a chain, with receipts."""
        chain, signed = list(certificates), list(receipts)
        named = {
            "certificates": [self.name(data, "certificate") for data in chain],
            "receipts": [self.name(data, "receipt") for data in signed],
        }
        try:
            audit(chain, signed, self.cohort.server_key, self.cohort.keys)
        except Refused:
            self.note("reader.read", **named, error="invalid")
        else:
            self.note("reader.read", **named)

    def test(self, requirements: str, comment: str, flags: str = "", error: str = "") -> Test:
        """The test, whose outcome is checked here: that of the first operation that is refused."""
        met = next((operation["error"] for operation in self.operations if not operation["ok"]), "")
        if met != error:
            raise ValueError(f"{comment}: {met}, not {error}")
        made = entry(requirements, comment, flags, error=error)
        where = {"setup": self.setup, "after": self.after}
        return {**made, **where, "messages": self.messages, "operations": self.operations}
