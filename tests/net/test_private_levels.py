"""Noise in levels over sockets: what the losses do not ask for is taken off, and nothing else is."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from secagg import Identity, LayoutPolicy, PeerError, Policy, RoundConfig, Server, ThreatModel
from secagg.adapters.net.ending import Ending, Outbound
from secagg.adapters.net.frames import Refusal, RefusedError, Sum, decode_layout
from secagg.adapters.net.hosted import HostedRound
from secagg.adapters.net.membership import Total
from secagg.adapters.net.round_spec import RoundSpec
from secagg.adapters.net.store import ClientStore
from secagg.encoding.layout import Layout
from secagg.privacy import Privacy, PrivacyTerms, PrivateLayout
from tests.support.hosting import LAYOUT as WITHOUT_NOISE
from tests.support.hosting import Hosting, hosting, spec_of
from tests.support.lying_service import Line, hear, log_in, lying_server, say
from tests.support.moved_clock import run

VALUES = 2**16
"""So many that a variance is measured to 0.6%."""
SHAPES = {"w": (VALUES,)}
CLIENTS = 6
SIX = RoundConfig.for_cohort(CLIENTS, 1, delta=0.34)
ASK = Privacy(epsilon=8.0, delta=1e-5, clip=4.0, rounds=2, levels=4)
TERMS = ASK.terms(VALUES, SIX)
LEVELS = PrivateLayout.of(SHAPES, TERMS)
SMALL = {"w": (4, 3), "b": (5,)}
POLICY = Policy(threat_model=ThreatModel.SEMI_HONEST, gamma=0.1, min_survivors=4)


def spec_with(*, active: bool = False, identities: Sequence[Identity] | None = None) -> RoundSpec:
    rates = {"delta": 0.17 if active else 0.34}
    return spec_of(CLIENTS, layout=LEVELS, active=active, identities=identities, **rates)


def nothing() -> dict[str, Any]:
    """So that the sum is the noise."""
    return {"w": np.zeros(VALUES, np.float32)}


class KilledError(Exception):
    """The process of the client is gone."""


class CutOff(ClientStore):  # type: ignore[misc]
    """Stores its last answer, and is gone before that leaves."""

    def unsent(self, after: int) -> list[tuple[int, str, bytes]]:
        waiting: list[tuple[int, str, bytes]] = super().unsent(after)
        if any(phase == "UNMASK" for _, phase, _ in waiting):
            raise KilledError
        return waiting


async def killed_before_its_last_answer(host: Hosting, number: int, folder: Path) -> None:
    store = CutOff(folder / f"default{number}.state")
    with pytest.raises(KilledError):
        await host.member(number, arrays=nothing(), store=store, policy=POLICY).run()
    store.close()


def check(total: Total, *, lost: int, answered: int) -> None:
    """The noise is that of the level, as it is stated and as it is measured, and what was promised is kept."""
    count, mean = CLIENTS - lost, total.mean
    assert (len(total.included), total.config.version, total.config.attachment_bytes) == (count, 2, 32)
    levels, scale = total.encoder.noise_levels, float(TERMS.mechanism.scale)  # type: ignore[union-attr]
    assert levels is not None
    assert levels.losses == (0, 1, 2)
    target, left = 3 * TERMS.variance, levels.variances[levels.level(lost)]
    assert target <= (count - 1) * left <= target * 1.0001, "of the honest ones, whoever is lost"
    variance = answered * left + (count - answered) * TERMS.variance
    assert mean.noise * mean.count * scale == pytest.approx(math.sqrt(variance))  # type: ignore[union-attr]
    measured = float(np.mean((total.sums()["w"] * scale) ** 2))
    assert measured == pytest.approx(variance + count / 4, rel=0.03), "with what the rounding adds, at the most"
    report = TERMS.report(total.config, count)
    assert report.is_kept
    assert report.reached_sigma**2 == pytest.approx(report.promised_sigma**2, rel=1e-4)
    assert 0.999 * report.promised_epsilon < report.reached_epsilon <= report.promised_epsilon <= 8.0


@pytest.mark.parametrize("active", [False, True], ids=["semi_honest", "active"])
@pytest.mark.parametrize("lost", [0, 1])
def test_what_the_losses_do_not_ask_for_is_taken_off(tmp_path: Path, tls_folder: Path, active: bool, lost: int) -> None:
    identities = [Identity.generate() for _ in range(CLIENTS)] if active else None
    spec = spec_with(active=active, identities=identities)
    policy = replace(POLICY, threat_model=ThreatModel.ACTIVE if active else ThreatModel.SEMI_HONEST)

    async def test() -> None:
        async with hosting([spec], tmp_path, tls_folder) as host:
            running = [
                asyncio.create_task(
                    host.member(
                        number,
                        arrays=nothing(),
                        policy=policy,
                        identity=None if identities is None else identities[number],
                        directory=spec.directory if active else None,
                        layout_policy=LayoutPolicy(max_epsilon=8.0, max_delta=1e-5),
                    ).run()
                )
                for number in range(CLIENTS - lost)
            ]
            if lost:
                await host.until("ADVERTISE", arrived=CLIENTS - lost)
                host.end_phase()
            totals = await asyncio.gather(*running)
            check(totals[0], lost=lost, answered=CLIENTS - lost)
            assert all(np.array_equal(total.vector, totals[0].vector) for total in totals)

    run(test)


def test_when_all_are_lost_that_may_be_all_noise_stays(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([spec_with()], tmp_path, tls_folder) as host:
            members = [host.member(number, arrays=nothing(), policy=POLICY) for number in range(4)]
            running = [asyncio.create_task(member.run()) for member in members]
            await host.until("ADVERTISE", arrived=4)
            host.end_phase()
            check((await asyncio.gather(*running))[0], lost=2, answered=4)

    run(test)


def test_one_that_is_silent_in_the_end_leaves_its_surplus_in_the_sum(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([spec_with()], tmp_path, tls_folder) as host:
            members = [host.member(number, arrays=nothing(), policy=POLICY) for number in range(5)]
            running = [asyncio.create_task(member.run()) for member in members]
            await killed_before_its_last_answer(host, 5, tmp_path)
            await host.until("UNMASK", arrived=5)
            host.end_phase()
            check((await asyncio.gather(*running))[0], lost=0, answered=5)

    run(test)


def test_a_server_that_is_started_again_takes_off_the_same(tmp_path: Path, tls_folder: Path) -> None:
    """Five keys come before it stops and one after, and the sum is handed out again when all of it is over."""
    spec, totals = spec_with(), []

    async def test() -> None:
        async with hosting([spec], tmp_path, tls_folder) as host:
            port = host.port
            members = [host.member(number, arrays=nothing(), policy=POLICY) for number in range(5)]
            running = [asyncio.create_task(member.run()) for member in members]
            await killed_before_its_last_answer(host, 5, tmp_path)
            await host.until("UNMASK", arrived=5)
        async with hosting([spec], tmp_path, tls_folder, port=port) as host:
            last = asyncio.create_task(host.member(5, arrays=nothing(), policy=POLICY).run())
            totals.extend(await asyncio.gather(*running, last))
        async with hosting([spec], tmp_path, tls_folder, port=port) as host:
            totals.append(await host.member(1, arrays=nothing(), policy=POLICY).run())

    run(test)
    for total in (totals[0], totals[-1]):
        check(total, lost=0, answered=CLIENTS)
    assert np.array_equal(totals[0].vector, totals[-1].vector)


def test_the_journal_of_a_round_without_levels_reads_as_before() -> None:
    older = msgspec.msgpack.encode(["", [0, 1], b"", {}, "ab"])
    assert Ending.of(older, b"sum") == Ending("", (0, 1), b"sum", {}, "ab", 0)


# Servers that lie.


def small_layout(**changes: object) -> PrivateLayout:
    data = replace(ASK, levels=2).terms(17, SIX).to_data()
    return PrivateLayout.of(SMALL, PrivacyTerms.from_data(data | changes))


LAYOUT = small_layout()
PLAIN = small_layout(levels=0)


def config_with(layout: PrivateLayout = LAYOUT, **changes: Any) -> RoundConfig:
    encoder = layout.encoder()
    agreed = RoundConfig.for_cohort(
        CLIENTS,
        encoder.length,
        delta=0.34,
        modulus=encoder.modulus_for(CLIENTS),
        context=layout.digest(),
        version=2,
        attachment_bytes=encoder.attachment_bytes,
    )
    return agreed.replace(**changes)


def refused(
    tmp_path: Path,
    tls_folder: Path,
    layout: PrivateLayout,
    config: RoundConfig | None,
    says: str,
    **options: Any,
) -> None:
    """A client of this server refuses, and sends nothing but its login."""
    heard: list[Any] = []

    async def behave(line: Line) -> None:
        await log_in(line, layout, clients=CLIENTS)
        if config is not None:
            await say(line, "ADVERTISE", Server(config).invitation())
        with suppress(ConnectionClosed):
            while True:
                heard.append(await hear(line))

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(PeerError, match=says):
                await member(**{"policy": POLICY, **options}).run()

    run(test)
    assert heard == []


@pytest.mark.parametrize(
    ("layout", "config", "options", "says"),
    [
        (
            LAYOUT,
            config_with(version=1, attachment_bytes=0),
            {},
            "attachment_bytes = 0, and this encoder needs 32: .* version=2",
        ),
        (LAYOUT, config_with(attachment_bytes=64), {}, "attachment_bytes = 64; .*at most 32"),
        (LAYOUT, config_with(attachment_bytes=16), {}, "attachment_bytes = 16, and this encoder needs 32"),
        (PLAIN, config_with(PLAIN, attachment_bytes=32), {}, "attachment_bytes = 32; .*at most 0"),
        (LAYOUT, config_with(small_layout(levels=1)), {}, "context"),
        (LAYOUT, config_with(PLAIN, attachment_bytes=32), {}, "context"),
        (PLAIN, config_with(PLAIN, version=1), {"policy": replace(POLICY, min_version=2)}, "version = 1; .*at least 2"),
        (
            LAYOUT,
            None,
            {"layout_policy": LayoutPolicy(max_levels=1)},
            "levels 2; this client.s policy allows 0 to 1",
        ),
        (
            LAYOUT,
            None,
            {"layout_policy": LayoutPolicy(max_levels=0)},
            "levels 2; this client.s policy allows 0 to 0",
        ),
        (LAYOUT, None, {"agreed_layout": PLAIN}, "levels 0 was agreed, and it is 2$"),
        (PLAIN, None, {"agreed_layout": LAYOUT}, "levels 2 was agreed, and it is 0$"),
    ],
    ids=[
        "version 1",
        "long",
        "short",
        "for nothing",
        "fewer",
        "none",
        "old",
        "one too many",
        "any",
        "agreed",
        "without",
    ],
)
def test_a_round_whose_levels_are_not_those_of_its_terms_is_refused(
    tmp_path: Path,
    tls_folder: Path,
    layout: PrivateLayout,
    config: RoundConfig | None,
    options: dict[str, Any],
    says: str,
) -> None:
    refused(tmp_path, tls_folder, layout, config, says, **options)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"levels": 65}, "levels is 65: must be a whole number from 0 to 64"),
        ({"levels": -1}, "levels is -1: must be a whole number from 0 to 64"),
        ({"levels": 2**40}, "must be a whole number from 0 to 64"),
        ({"noise": "discrete-gaussian"}, "levels is 2 and noise 'discrete-gaussian': only 'skellam' noise"),
        ({"levels": 1.5}, "Expected `int`"),
    ],
)
def test_levels_that_nobody_can_have_do_not_decode(changes: dict[str, Any], says: str) -> None:
    data = msgspec.msgpack.encode(["private", LAYOUT.arrays, None, LAYOUT.terms.to_data() | changes])
    with pytest.raises(RefusedError, match=says):
        decode_layout(data)


@pytest.mark.parametrize(
    ("layout", "answered", "most"),
    [(LAYOUT, CLIENTS + 1, CLIENTS), (PLAIN, 1, 0), (WITHOUT_NOISE, 1, 0)],
    ids=["levels", "no levels", "no noise"],
)
def test_a_sum_of_more_answers_than_there_can_be_is_refused(
    tmp_path: Path,
    tls_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    layout: PrivateLayout | Layout,
    answered: int,
    most: int,
) -> None:
    honest = HostedRound._farewell

    def lie(self: HostedRound, index: int, ending: Ending) -> Outbound:
        told = honest(self, index, ending)
        assert isinstance(told.frame, Sum)
        return Outbound(msgspec.structs.replace(told.frame, answered=answered), told.payload)

    async def test() -> None:
        monkeypatch.setattr(HostedRound, "_farewell", lie)
        async with hosting([spec_of(CLIENTS, layout=layout, delta=0.34)], tmp_path, tls_folder) as host:
            ends = await asyncio.gather(
                *(host.member(number, policy=POLICY).run() for number in range(CLIENTS)), return_exceptions=True
            )
            for end in ends:
                assert isinstance(end, RefusedError)
                assert end.code is Refusal.MALFORMED
                assert f"there are {most} of whom it could" in str(end)

    run(test)


@pytest.mark.parametrize("changes", [{"version": 1, "attachment_bytes": 0}, {"attachment_bytes": 16}])
def test_a_server_hosts_no_round_that_carries_no_keys(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="and this encoder needs 32"):
        RoundSpec(name="default", config=config_with(**changes), layout=LAYOUT)
