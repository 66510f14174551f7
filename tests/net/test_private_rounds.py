"""Private rounds over sockets: the sum has its noise, and clients refuse what a round cannot keep."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from secagg import (
    Client,
    Identity,
    LayoutPolicy,
    Modulus,
    ParameterError,
    PeerError,
    Policy,
    RoundConfig,
    Server,
    ThreatModel,
)
from secagg.adapters.net.frames import RefusedError, decode_layout, encode_layout
from secagg.adapters.net.membership import MemberOptions, Total
from secagg.adapters.net.round_spec import RoundSpec
from secagg.adapters.net.service import Service
from secagg.adapters.net.store import ClientStore
from secagg.encoding.layout import Layout
from secagg.privacy import Privacy, PrivacyTerms, PrivateLayout
from secagg.privacy.budget import Budget, BudgetExceededError, BudgetFileError
from secagg.privacy.report import report_of
from tests.support.hosting import LAYOUT, SHAPES, arrays_of, hosting, spec_of
from tests.support.lying_service import Line, hear, log_in, lying_server, say
from tests.support.moved_clock import passing, run

ASK = Privacy(epsilon=8.0, delta=1e-5, clip=4.0, rounds=2)
FOUR = RoundConfig.for_cohort(4, 1, delta=0.25, min_survivors=3)
PRIVATE = PrivateLayout.of(SHAPES, ASK.terms(17, FOUR))
TERMS = PRIVATE.terms
ASKING = LayoutPolicy(max_epsilon=8.0, max_delta=1e-5)


def spec_with(layout: PrivateLayout = PRIVATE, **options: Any) -> RoundSpec:
    return spec_of(4, layout=layout, **{"delta": 0.25, "min_survivors": 3, **options})


SPEC = spec_with()


@pytest.fixture
def budget() -> Iterator[Budget]:
    """A member's, for as many rounds as the server announces."""
    with closing(Budget(":memory:", epsilon=8.0, delta=1e-5)) as made:
        yield made


def clipped(number: int) -> dict[str, Any]:
    """A member's arrays as they count: the norm of all is cut to the clip."""
    arrays = arrays_of(number)
    norm = math.hypot(*(float(np.linalg.norm(values)) for values in arrays.values()))
    return {name: values * min(1.0, 4.0 / norm) for name, values in arrays.items()}


def check_noisy(total: Total, members: range) -> None:
    """The sum of what counts, off by the noise that its encoder states and no more than six times that."""
    noise = total.mean.noise * len(members)  # type: ignore[union-attr]
    assert 0.5 * math.sqrt(len(members)) * TERMS.promise().sigma < math.sqrt(TERMS.honest) * noise
    off = [
        values - sum(clipped(member)[name].astype(np.float64) for member in members)
        for name, values in total.sums().items()
    ]
    together = np.concatenate([array.reshape(-1) for array in off])
    assert np.abs(together).max() < 6 * noise
    assert 0.4 < np.std(together) / noise < 1.8, "17 values with noise of their own"


# What works.


@pytest.mark.parametrize("active", [False, True])
def test_everybody_gets_the_sum_with_the_noise_that_was_promised(
    tmp_path: Path, tls_folder: Path, active: bool
) -> None:
    identities = [Identity.generate() for _ in range(4)] if active else None
    spec = spec_with(identities=identities, active=active, gamma=0.25, delta=0.0 if active else 0.25)
    policy = Policy(threat_model=ThreatModel.ACTIVE if active else ThreatModel.SEMI_HONEST, gamma=0.25, min_survivors=3)
    budgets = [Budget(":memory:", epsilon=8.0, delta=1e-5) for _ in range(5)]
    told: list[PrivacyTerms] = []

    async def test() -> None:
        async with hosting([spec], tmp_path, tls_folder, privacy_budget=budgets[4]) as host:
            members = [
                host.member(
                    number,
                    policy=policy,
                    identity=None if identities is None else identities[number],
                    directory=spec.directory if active else None,
                    layout_policy=ASKING,
                    privacy_budget=budgets[number],
                    on_terms=told.append,
                )
                for number in range(4)
            ]
            totals = await asyncio.gather(*(member.run() for member in members))
            for total in totals:
                check_noisy(total, range(4))
                assert np.array_equal(total.vector, totals[0].vector)
                report = report_of(TERMS.promise(), contributors=total.mean.count, colluders=total.config.colluders)
                assert report.is_kept
                assert report.reached_epsilon < report.promised_epsilon <= 8.0

    run(test)
    assert told == [TERMS] * 4
    one_round = TERMS.promise().epsilon
    for one in budgets:
        spent = one.spent()
        assert spent.rounds == 1
        assert 0 < spent.epsilon < one_round
        assert one.rounds_left(TERMS.sum) == 1
        one.close()


def test_a_client_without_a_policy_takes_part_as_ever(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([SPEC], tmp_path, tls_folder) as host:
            totals = await asyncio.gather(*(host.member(number).run() for number in range(4)))
            check_noisy(totals[0], range(4))

    run(test)


def test_one_that_is_lost_takes_its_noise_with_it_and_the_promise_holds(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([SPEC], tmp_path, tls_folder) as host:
            running = [asyncio.create_task(host.member(number).run()) for number in range(3)]
            await host.until("ADVERTISE", arrived=3)
            host.end_phase()
            total = (await asyncio.gather(*running))[0]
            check_noisy(total, range(3))
            report = report_of(TERMS.promise(), contributors=3, colluders=total.config.colluders)
            assert report.is_kept
            assert report.reached_sigma == pytest.approx(report.promised_sigma)

    run(test)


def test_weights_have_noise_as_well(tmp_path: Path, tls_folder: Path) -> None:
    asked = Privacy(epsilon=5000.0, delta=1e-5, clip=4.0)
    layout = PrivateLayout.of(SHAPES, asked.terms(18, FOUR), max_weight=10)

    async def test() -> None:
        async with hosting([spec_with(layout)], tmp_path, tls_folder) as host:
            totals = await asyncio.gather(
                *(host.member(number, weight=weight).run() for number, weight in enumerate((10, 20, 5, 8)))
            )
            assert [total.weight_clamped for total in totals] == [False, True, False, False]
            mean = totals[0].mean
            assert mean.weight == pytest.approx(33, abs=6 * mean.weight_noise)  # type: ignore[union-attr]
            assert 0 < mean.weight_noise < 1  # type: ignore[union-attr]
            assert totals[0].sums()["w"].shape == (4, 3)

    run(test)


def test_what_was_shortened_is_for_the_client_s_own_operator(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([SPEC], tmp_path, tls_folder) as host:
            small = {name: values * 1e-3 for name, values in arrays_of(3).items()}
            totals = await asyncio.gather(
                *(host.member(number).run() for number in range(3)), host.member(3, arrays=small).run()
            )
            for number, total in enumerate(totals[:3]):
                norm = math.hypot(*(float(np.linalg.norm(values)) for values in arrays_of(number).values()))
                assert total.shortened == pytest.approx(4.0 / norm)
            assert totals[3].shortened == 1.0
            assert "shortened" not in repr(totals[0])

    run(test)


def test_the_mean_comes_in_the_input_s_types(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([SPEC], tmp_path, tls_folder) as host:
            total = (await asyncio.gather(*(host.member(number).run() for number in range(4))))[0]
            mean = total.mean_as_input()
            assert {values.dtype for values in mean.values()} == {np.dtype(np.float32)}
            assert np.allclose(mean["w"], total.sums()["w"] / 4, rtol=1e-6)

    run(test)


@pytest.mark.parametrize("layout", [PRIVATE, LAYOUT])
def test_a_layout_of_either_kind_comes_back_from_its_bytes(layout: Layout | PrivateLayout) -> None:
    assert decode_layout(encode_layout(layout)) == layout


def test_a_layout_without_noise_has_the_bytes_that_it_always_had() -> None:
    """An older release reads it; a private one it refuses as malformed."""
    assert msgspec.msgpack.decode(encode_layout(LAYOUT))[0] == [["b", [5]], ["w", [4, 3]]]
    assert len(msgspec.msgpack.decode(encode_layout(LAYOUT))) == 7


# Servers that lie.


async def wait_for_ever(line: Line, heard: list[Any]) -> None:
    with suppress(ConnectionClosed):
        while True:
            heard.append(await hear(line))


def terms_with(**changes: object) -> PrivacyTerms:
    return PrivacyTerms.from_data(TERMS.to_data() | changes)


def layout_with(**changes: object) -> PrivateLayout:
    return PrivateLayout.of(SHAPES, terms_with(**changes))


def config_with(layout: PrivateLayout = PRIVATE, **changes: Any) -> RoundConfig:
    """What an honest server makes for a layout, and then something else in it."""
    encoder = layout.encoder()
    agreed = RoundConfig.for_cohort(
        4,
        encoder.length,
        delta=0.25,
        min_survivors=3,
        modulus=encoder.modulus_for(4),
        context=layout.digest(),
    )
    return agreed.replace(**changes)


WIDER = config_with(modulus=Modulus.ring(TERMS.bits + 4), input_max=2**TERMS.bits - 1)


def refused(
    tmp_path: Path,
    tls_folder: Path,
    layout: Layout | PrivateLayout,
    config: RoundConfig | None,
    error: type[Exception],
    says: str,
    **options: Any,
) -> None:
    """A client of this server refuses, and sends nothing but its login."""
    heard: list[Any] = []
    told: list[PrivacyTerms] = []

    async def behave(line: Line) -> None:
        await log_in(line, layout, clients=4)
        if config is not None:
            await say(line, "ADVERTISE", Server(config).invitation())
        await wait_for_ever(line, heard)

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(error, match=says):
                await member(**options).run()

    run(test)
    assert heard == []
    assert told == []


@pytest.mark.parametrize(
    ("layout", "config", "says"),
    [
        (
            layout_with(honest=3),
            config_with(layout_with(honest=3)),
            r"sized for 3 honest clients, and a sum of this round may have as few as 2: max\(min_survivors = 3, ",
        ),
        (
            layout_with(honest=2**31),
            config_with(layout_with(honest=2**31)),
            r"sized for 2147483648 honest clients, and a sum of this round may have as few as 2",
        ),
        (
            PRIVATE,
            config_with(modulus=Modulus.ring(TERMS.bits + 1), input_max=2 ** (TERMS.bits + 1) - 1),
            rf"modulus 2\^{TERMS.bits + 1}: a private round counts modulo 2\^{TERMS.bits} and nothing else",
        ),
        (
            PRIVATE,
            WIDER,
            rf"modulus 2\^{TERMS.bits + 4}: a private round counts modulo 2\^{TERMS.bits} and nothing else",
        ),
        (
            layout_with(honest=3),
            config_with(layout_with(honest=3), colluders=0),
            "colluders is 0: a private round must count on 1 or more",
        ),
        (PRIVATE, config_with(context=layout_with(variance=TERMS.variance - 1).digest()), "context"),
        (PRIVATE, config_with(context=PRIVATE.encoder().layout_digest()), "context"),
    ],
    ids=["honest", "very honest", "modulus", "wider modulus", "no colluders", "other terms", "no terms"],
)
@pytest.mark.parametrize("asks", [False, True], ids=["any client", "a client that asks for noise"])
def test_a_round_that_does_not_keep_its_terms_is_refused_by_every_client(
    tmp_path: Path, tls_folder: Path, layout: PrivateLayout, config: RoundConfig, says: str, asks: bool
) -> None:
    loose = LayoutPolicy(private=True, max_epsilon=1e6, max_delta=1e-5) if asks else LayoutPolicy()
    policy = Policy(threat_model=ThreatModel.SEMI_HONEST, min_survivors=3)
    refused(tmp_path, tls_folder, layout, config, PeerError, says, layout_policy=loose, policy=policy)


@pytest.mark.parametrize(
    ("layout", "policy", "says"),
    [
        (
            layout_with(variance=TERMS.variance // 4),
            {"max_epsilon": 8.0, "max_delta": 1e-5},
            r"costs an epsilon of 1[0-9]\.\d+ at delta 1e-05 over all of its rounds; this client's policy allows 8",
        ),
        (
            layout_with(rounds=20),
            {"max_epsilon": 8.0, "max_delta": 1e-5},
            r"costs an epsilon of \d\d\.\d+ at delta 1e-05 .* allows 8",
        ),
        (
            layout_with(delta=0.9),
            {"max_epsilon": 7.0, "max_delta": 1e-9},
            r"costs an epsilon of \d+\.\d+ at delta 1e-09 .* allows 7",
        ),
        (
            layout_with(sampling_rate=1e-3),
            {"max_epsilon": 4.0, "max_delta": 1e-5},
            r"costs an epsilon of 7\.\d+ at delta 1e-05 .* allows 4",
        ),
        (layout_with(variance=1), {"min_noise_multiplier": 1.0}, r"has a noise multiplier of 0\.\d+; .* allows 1 or"),
        (LAYOUT, {"private": True}, "has no noise; this client's policy allows private rounds alone"),
        (LAYOUT, {"max_epsilon": 8.0, "max_delta": 1e-5}, r"has no noise; .* \(max_epsilon = 8.0\)"),
        (layout_with(rounding_failure=0.9999), {}, "has rounding_failure 0.9999; clients allow 0 to"),
        (PRIVATE, {"max_clip": 1.0}, "has clip 4.0; this client's policy allows 1e-100 to 1.0"),
    ],
    ids=["less noise", "more rounds", "delta", "sampling", "no noise to speak of", "plain", "plain 2", "slow", "clip"],
)
def test_a_layout_below_a_client_s_policy_is_refused_by_its_own_count(
    tmp_path: Path, tls_folder: Path, layout: Layout | PrivateLayout, policy: dict[str, Any], says: str
) -> None:
    refused(tmp_path, tls_folder, layout, None, PeerError, says, layout_policy=LayoutPolicy(**policy))


def test_a_client_with_a_budget_takes_no_round_without_noise(tmp_path: Path, tls_folder: Path, budget: Budget) -> None:
    refused(tmp_path, tls_folder, LAYOUT, None, PeerError, "has no noise", privacy_budget=budget)
    assert budget.spent().rounds == 0


def test_a_client_takes_the_terms_that_were_agreed_and_no_others(tmp_path: Path, tls_folder: Path) -> None:
    agreed = layout_with(variance=TERMS.variance + 1)
    says = f"variance {TERMS.variance + 1} was agreed, and it is {TERMS.variance}$"
    refused(tmp_path / "1", tls_folder, PRIVATE, None, PeerError, says, agreed_layout=agreed)
    says = "a private round was agreed, and it has no noise"
    refused(tmp_path / "2", tls_folder, LAYOUT, None, PeerError, says, agreed_layout=agreed)
    says = "a round without noise was agreed, and it is private"
    refused(tmp_path / "3", tls_folder, PRIVATE, None, PeerError, says, agreed_layout=LAYOUT)


ADAPTIVE = {
    "clip": 4.0,
    "ratio": 0.5,
    "quantile": 0.5,
    "learning_rate": 0.2,
    "lowest": 1e-9,
    "highest": 1e9,
}


def raw(**changes: object) -> bytes:
    """The bytes of a private layout whose terms have something else in them."""
    return msgspec.msgpack.encode(["private", PRIVATE.arrays, None, TERMS.to_data() | changes])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (raw(adaptive=ADAPTIVE, length=18), "an adaptive clip is for training"),
        (raw(scale=(1, -1500)), "must have at least 2\\^-20 steps"),
        (raw(scale=(1, 10**12)), "must be an odd number below"),
        (raw(clip=float("nan")), "clip is nan"),
        (raw(honest=-1), "honest is -1"),
        (raw(bits=64), "bits is 64"),
        (raw(more=1), "unknown field `more`"),
        (msgspec.msgpack.encode(["private", PRIVATE.arrays, None]), "length"),
        (msgspec.msgpack.encode(["privat", PRIVATE.arrays, None, TERMS.to_data()]), "Expected `array`"),
        (msgspec.msgpack.encode([]), "length"),
        (msgspec.msgpack.encode({}), "Expected `array`"),
        (msgspec.msgpack.encode(["private", [["w", [4, 3]], ["b", [5]]], None, TERMS.to_data()]), "must be ascending"),
    ],
)
def test_a_layout_that_is_no_honest_one_does_not_decode(data: bytes, says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        decode_layout(data)


def test_terms_of_another_number_of_coordinates_cannot_be_used(tmp_path: Path, tls_folder: Path) -> None:
    wrong = PrivateLayout(arrays=PRIVATE.arrays, max_weight=None, terms=terms_with(length=16))
    refused(tmp_path, tls_folder, wrong, None, RefusedError, "the mechanism is for 16 coordinates, and this layout has")


# Budgets.


def test_a_server_that_asks_again_beyond_the_budget_is_refused(
    tmp_path: Path, tls_folder: Path, budget: Budget
) -> None:
    """The terms of each round say two rounds; the server opens a third under another name."""
    specs = [spec_with(name=name) for name in ("first", "second", "third")]
    own = arrays_of(0)

    async def test() -> None:
        async with hosting(specs, tmp_path, tls_folder) as host:
            for name in ("first", "second"):
                await asyncio.gather(
                    host.member(0, name=name, layout_policy=ASKING, privacy_budget=budget, again=True).run(),
                    *(host.member(number, name=name, again=True).run() for number in range(1, 4)),
                )
            assert budget.rounds_left(TERMS.sum) == 0
            with pytest.raises(BudgetExceededError, match="with this round epsilon would be") as beyond:
                await host.member(0, name="third", arrays=own, privacy_budget=budget, again=True).run()
            assert beyond.value.rounds == 2
            assert host.hosted("third").progress().arrived == 0, "nothing of it has left"

    run(test)
    assert budget.spent().rounds == 2


class KilledError(Exception):
    """The process of the client is gone."""


def test_a_client_that_dies_between_charge_and_start_has_paid_once(
    tmp_path: Path, tls_folder: Path, budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has left, and what is charged stays so: the same state goes on without paying again."""
    start, charged = Client.start, []

    def dies(client: Client) -> bytes:
        charged.append(budget.spent().rounds)
        raise KilledError

    async def test() -> None:
        async with hosting([SPEC], tmp_path, tls_folder) as host:
            monkeypatch.setattr(Client, "start", dies)
            with pytest.raises(KilledError):
                await host.member(0, layout_policy=ASKING, privacy_budget=budget).run()
            monkeypatch.setattr(Client, "start", start)
            assert charged == [1], "charged before anything of the round was made that can leave"
            assert host.hosted().progress().arrived == 0
            assert budget.spent().rounds == 1
            totals = await asyncio.gather(
                host.member(0, layout_policy=ASKING, privacy_budget=budget).run(),
                *(host.member(number).run() for number in range(1, 4)),
            )
            check_noisy(totals[0], range(4))

    run(test)
    assert budget.spent().rounds == 1


def test_a_state_that_was_deleted_does_not_come_for_free(tmp_path: Path, tls_folder: Path, budget: Budget) -> None:
    """Whoever joins the same round with another state may send a second vector, and so pays a second time."""
    heard: list[Any] = []
    invitation = Server(config_with()).invitation()

    async def behave(line: Line) -> None:
        await log_in(line, PRIVATE, clients=4)
        await say(line, "ADVERTISE", invitation)
        heard.append(await hear(line))
        await line.connection.close(1008, "round-aborted")

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            for name in ("one", "two"):
                store = ClientStore(tmp_path / f"{name}.state")
                with pytest.raises(RefusedError):
                    await member(store, privacy_budget=budget).run()

    run(test)
    assert len(heard) == 2
    assert budget.spent().rounds == 2


def test_a_budget_that_cannot_be_written_lets_nothing_leave(tmp_path: Path, tls_folder: Path, budget: Budget) -> None:
    budget.close()
    refused(tmp_path, tls_folder, PRIVATE, config_with(), BudgetFileError, "cannot be used", privacy_budget=budget)


def test_the_server_charges_before_anybody_can_log_in_and_once(tmp_path: Path, tls_folder: Path) -> None:
    budget = Budget(tmp_path / "server.budget", epsilon=8.0, delta=1e-5)

    async def test() -> None:
        for _ in range(3):  # started again and again: one round, one charge
            async with hosting([SPEC], tmp_path, tls_folder, privacy_budget=budget):
                assert budget.spent().rounds == 1
        async with hosting([SPEC], tmp_path, tls_folder, privacy_budget=budget) as host:
            await asyncio.gather(*(host.member(number).run() for number in range(4)))
        async with hosting([SPEC], tmp_path, tls_folder, privacy_budget=budget):
            assert budget.spent().rounds == 1

    run(test)
    budget.close()


def test_rounds_beyond_the_server_s_budget_are_not_opened_and_cost_nothing(tmp_path: Path, tls_folder: Path) -> None:
    budget = Budget(":memory:", epsilon=8.0, delta=1e-5)
    specs = [spec_with(name=f"round{number}") for number in range(3)]

    async def test() -> None:
        with pytest.raises(BudgetExceededError, match="2 rounds recorded so far"):
            async with hosting(specs, tmp_path, tls_folder, privacy_budget=budget):
                pytest.fail("the port is open")
        assert budget.spent().rounds == 0

    run(test)
    budget.close()


def test_a_round_without_a_sum_is_given_back(tmp_path: Path, tls_folder: Path) -> None:
    budget = Budget(":memory:", epsilon=8.0, delta=1e-5)

    async def test() -> None:
        async with hosting([SPEC], tmp_path, tls_folder, privacy_budget=budget) as host:
            assert budget.spent().rounds == 1
            host.end_phase()
            await passing(lambda: host.hosted().ending is not None)
            assert host.hosted().ending.failure
        assert budget.spent().rounds == 0

    run(test)
    budget.close()


def test_a_server_with_a_budget_hosts_no_round_without_noise(tmp_path: Path) -> None:
    budget = Budget(":memory:", epsilon=8.0, delta=1e-5)

    async def test() -> None:
        with pytest.raises(ParameterError, match="round default: it has no noise, and the privacy budget :memory:"):
            Service([spec_of(3)], None, privacy_budget=budget)  # type: ignore[arg-type]

    run(test)
    budget.close()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layout": layout_with(honest=3)}, "context must be the digest of its layout"),
        ({"layout": layout_with(honest=3), "config": config_with(layout_with(honest=3))}, "sized for 3 honest clients"),
        ({"config": config_with(colluders=0)}, "colluders is 0"),
        (
            {"config": config_with(modulus=Modulus.ring(TERMS.bits + 4), input_max=2**TERMS.bits - 1)},
            "and nothing else",
        ),
    ],
)
def test_a_server_hosts_no_round_that_breaks_its_own_promise(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        RoundSpec(**({"name": "default", "config": SPEC.config, "layout": PRIVATE} | changes))


def test_a_policy_with_an_epsilon_needs_the_accountant_before_anything_connects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import secagg.privacy.layout as module

    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"{name} is not installed", name="dp_accounting")

    monkeypatch.setattr(module, "import_module", missing)
    with pytest.raises(ModuleNotFoundError):
        MemberOptions(url="wss://x", layout_policy=ASKING)
    MemberOptions(url="wss://x", layout_policy=LayoutPolicy(private=True, min_noise_multiplier=1.0))
