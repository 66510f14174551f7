"""How rounds end, and that everybody who was there hears it, with the names of those that it was about."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from secagg import Identity, MemoryDirectory, Policy, Server, ThreatModel
from secagg.adapters.net.frames import ABORT, Ack, Message, Refusal, Refused, RefusedError, Submission, Sum, encode
from secagg.adapters.net.monitor import _ServiceCollector
from secagg.adapters.net.round_spec import RoundSpec
from secagg.adapters.net.store import ClientStore
from secagg.errors import AbortCode
from secagg.pairwise import messages
from tests.support.hosting import Hosting, check_total, hosting, spec_of
from tests.support.moved_clock import eventually, nap, run
from tests.support.raw_connections import RefusedLoginError, binary, logged_in, more, read_to_the_end, write

NAMES = ("ada", "ben", "cy", "dee", "eve")
TRUSTING = Policy(threat_model=ThreatModel.SEMI_HONEST, gamma=0.0, min_survivors=3)


def named_spec(identities: list[Identity], *, seconds: float = 20.0, **options: Any) -> RoundSpec:
    """A round of a directory."""
    spec = spec_of(len(identities), identities=identities, seconds=seconds, **options)
    return replace(spec, names=NAMES[: len(identities)])


async def members(host: Hosting, identities: list[Identity], numbers: range) -> list[Any]:
    """Honest members to the end of the round."""
    running = (host.member(n, identity=identities[n], policy=TRUSTING).run() for n in numbers)
    return await asyncio.gather(*running, return_exceptions=True)


def test_who_was_left_out_hears_it_and_why_also_of_a_restarted_server(tmp_path: Path, tls_folder: Path) -> None:
    """One sends nonsense, one comes too late; both are told at once, and again, as often as they ask."""
    identities = [Identity.generate() for _ in range(5)]
    spec = named_spec(identities, delta=0.4, gamma=0.0, min_survivors=3)

    async def why(host: Hosting, number: int) -> str:
        async with logged_in(host, identities[number]) as asking:
            last = (await read_to_the_end(asking))[-1]
        assert isinstance(last, Refused)
        assert last.code == Refusal.LEFT_OUT
        return last.message

    async def test() -> None:
        async with hosting([spec], tmp_path, tls_folder) as host:
            running = asyncio.create_task(members(host, identities, range(3)))
            async with logged_in(host, identities[3]) as bad:
                await bad.send(Submission(1, "ADVERTISE", 5), b"wrong")
                reading = asyncio.create_task(read_to_the_end(bad))
                await host.until("ADVERTISE", arrived=3)
                await eventually(lambda: host.hosted().standing.records)
                host.end_phase()
                last = (await reading)[-1]
                assert isinstance(last, Refused)
                assert last.code == Refusal.LEFT_OUT, last.message
                assert "ADVERTISE refused (malformed)" in last.message
            assert "its ADVERTISE message did not come in time" in await why(host, 4)
            for total in await running:
                check_total(total, range(3))
            assert host.hosted().to_inform == {0, 1, 2, 3, 4}
            await host.service.finished(20)
            assert host.hosted().informed == {0, 1, 2, 3, 4}
        async with hosting([spec], tmp_path, tls_folder) as host:
            assert "ADVERTISE refused (malformed)" in await why(host, 3)
            assert "its ADVERTISE message did not come in time" in await why(host, 4)
            status = host.service.status()["rounds"][0]
            assert status["lost"] == {"ADVERTISE": ["dee", "eve"]}
            assert status["refusals"] == [
                {"client": "dee", "phase": "ADVERTISE", "code": "malformed", "by_client": False}
            ]

    run(test)


def test_the_server_lingers_for_everybody_that_logged_in(tmp_path: Path, tls_folder: Path) -> None:
    """One was there, went away before the round was aborted, and comes back."""
    identities = [Identity.generate() for _ in range(3)]

    async def test() -> None:
        async with hosting([named_spec(identities)], tmp_path, tls_folder) as host:
            async with logged_in(host, identities[2]):
                pass
            running = asyncio.create_task(members(host, identities, range(2)))
            await host.until("ADVERTISE", arrived=2)
            host.end_phase()
            ends = await running
            assert all(isinstance(end, RefusedError) and end.code is Refusal.ROUND_ABORTED for end in ends)
            lingering = asyncio.create_task(host.service.finished(600))
            await nap()
            host.clock.move(599.0)
            await nap()
            assert not lingering.done(), "one that logged in has not heard it"
            with pytest.raises(
                RefusedError, match="no ADVERTISE message came from cy before the deadline of 20 s"
            ) as refused:
                await host.member(2, identity=identities[2]).run()
            assert refused.value.code is Refusal.ROUND_ABORTED
            await lingering

    run(test)


def test_the_reason_names_who_was_turned_away_and_who_did_not_come(tmp_path: Path, tls_folder: Path) -> None:
    """Not "0 advertised" alone, when two did and one was turned away."""
    identities = [Identity.generate() for _ in range(4)]

    async def test() -> None:
        async with hosting([named_spec(identities)], tmp_path, tls_folder) as host:
            running = asyncio.create_task(members(host, identities, range(2)))
            async with logged_in(host, identities[2]) as bad:
                await bad.send(Submission(1, "ADVERTISE", 5), b"wrong")
                await eventually(lambda: host.hosted().standing.records)
                await host.until("ADVERTISE", arrived=2)
                host.end_phase()
                await read_to_the_end(bad)
            await running
            failure = host.hosted().ending.failure
            assert "no ADVERTISE message came from dee before the deadline of 20 s" in failure
            assert "cy: ADVERTISE refused (malformed)" in failure
            assert "--deadline ADVERTISE=SECONDS gives clients more time" in failure
            assert "a lower --min-survivors (now 3 of 4) or more invited clients let a sum do without some" in failure

    run(test)


def test_a_client_s_own_refusal_is_told_by_its_code(tmp_path: Path, tls_folder: Path) -> None:
    identities = [Identity.generate() for _ in range(4)]
    spec = named_spec(identities, delta=0.25, gamma=0.0)

    async def test() -> None:
        async with hosting([spec], tmp_path, tls_folder) as host:
            async with logged_in(host, identities[3]) as leaving:
                invitation = await leaving.receive()
                assert isinstance(invitation, Message)
                await leaving.payload(invitation.size)
                data = messages.encode_abort(1, host.hosted()._server._round.round_id, AbortCode.CONFIG_REFUSED)
                await leaving.send(Submission(1, ABORT, len(data)), data)
                await eventually(lambda: host.hosted().standing.departed == {3})
            assert host.service.status()["rounds"][0]["refusals"] == [
                {"client": "dee", "phase": "ADVERTISE", "code": "CONFIG_REFUSED", "by_client": True}
            ]
            for total in await members(host, identities, range(3)):
                check_total(total, range(3))
            assert 3 not in host.hosted().to_inform, "who left waits for nothing"

    run(test)


def test_status_and_metrics_have_names(tmp_path: Path, tls_folder: Path) -> None:
    identities = [Identity.generate() for _ in range(3)]

    async def test() -> None:
        async with hosting([named_spec(identities)], tmp_path, tls_folder) as host:
            running = asyncio.create_task(members(host, identities, range(1)))
            await eventually(lambda: host.hosted().progress().arrived == 1)
            stranger = Identity.generate()
            with pytest.raises(RefusedLoginError, match=stranger.public_key.hex()):
                await logged_in(host, stranger).__aenter__()
            status = host.service.status()
            (shown,) = status["rounds"]
            assert shown["awaited"] == ["ben", "cy"]
            assert (shown["seated"], shown["offered"], shown["threat_model"]) == (3, 0, "semi_honest")
            assert (shown["may_be_lost"], shown["min_survivors"]) == (0, 3)
            (found,) = status["strangers"]
            assert found["key"] == stranger.public_key.hex()
            assert found["address"] in ("127.0.0.1", "::1")
            registry = CollectorRegistry()
            registry.register(_ServiceCollector(host.service.status))
            label = {"round": "default", "client": "ben"}
            assert registry.get_sample_value("secagg_client_awaited", label) == 1
            assert registry.get_sample_value("secagg_round_offered", {"round": "default"}) == 0
            running.cancel()

    run(test)


def test_what_comes_again_while_the_sum_is_computed_is_no_trouble(
    tmp_path: Path, tls_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No phase is open then, and none has time left: who comes back with an unacknowledged message is not too slow."""
    identities = [Identity.generate() for _ in range(3)]
    go_on, compute = threading.Event(), Server.compute

    def slowly(*arguments: Any) -> Any:
        go_on.wait(30)
        return compute(*arguments)

    async def test() -> None:
        monkeypatch.setattr(Server, "compute", slowly)
        async with hosting([named_spec(identities)], tmp_path, tls_folder) as host:
            running = asyncio.create_task(members(host, identities, range(3)))
            await eventually(lambda: host.hosted().phase == "COMPUTE")
            async with logged_in(host, identities[0]) as again:
                for number in range(3):
                    write(again.connection, [binary(encode(Submission(number, "MASK", 100)), fin=False)])
                    await nap()  # the bytes come a little later, as over any line
                    write(again.connection, [more(bytes(100), fin=True)])
                verdicts: list[str] = []
                while len(verdicts) < 3:
                    frame = await again.receive()
                    if isinstance(frame, Ack):
                        verdicts.append(frame.verdict)
                assert set(verdicts) == {"duplicate"}
                go_on.set()
                while not isinstance(frame := await again.receive(), Sum):
                    pass
                await again.payload(frame.size)
            await running

    run(test)


def test_a_survivor_that_does_not_confirm_still_gets_the_sum(tmp_path: Path, tls_folder: Path) -> None:
    """Its vector is in the sum: it is not told that it was left out."""
    identities = [Identity.generate() for _ in range(4)]
    keys = [identity.public_key for identity in identities]
    spec = named_spec(identities, active=True, delta=0.25)

    class GoneError(Exception):
        pass

    class GoesBeforeItConfirms(ClientStore):  # type: ignore[misc]
        gone = False

        def unsent(self, after: int) -> list[tuple[int, str, bytes]]:
            waiting: list[tuple[int, str, bytes]] = super().unsent(after)
            if not self.gone and any(phase == "CONFIRM" for _, phase, _ in waiting):
                self.gone = True
                raise GoneError
            return waiting

    async def test() -> None:
        async with hosting([spec], tmp_path, tls_folder) as host:

            def member(number: int, store: ClientStore | None = None) -> Any:
                return host.member(
                    number,
                    store=store,
                    identity=identities[number],
                    directory=MemoryDirectory(keys),
                    policy=Policy(threat_model=ThreatModel.ACTIVE, gamma=0.2, min_survivors=3),
                )

            others = [asyncio.create_task(member(number).run()) for number in range(3)]
            store = GoesBeforeItConfirms(tmp_path / "gone.state")
            with pytest.raises(GoneError):
                await member(3, store).run()
            await host.until("CONFIRM", arrived=3)
            host.end_phase()
            await eventually(lambda: host.hosted().phase != "CONFIRM")
            check_total(await member(3, store).run(), range(4))
            for total in await asyncio.gather(*others):
                check_total(total, range(4))

    run(test)
