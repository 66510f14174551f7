"""Rounds with groups: which groups go on, who is told what, and what stays shut in a group that is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import pytest

from secagg import AbortCode, Client, ClientState, ErrorCode, Finished, InputNeeded, PeerError, RoundConfig, Server
from secagg.errors import CertificateError, StateError
from secagg.identity import Identity, UsedTokens
from secagg.pairwise import messages
from secagg.pairwise.certificate import Certificate, signed
from secagg.pairwise.messages import Confirmations
from secagg.simulation import SeededRandomness
from secagg.simulation.driver import RoundDriver
from secagg.testing.adversary import BadShares, Coalition, CoalitionOutcome, WrongSecret, known_cohort, true_inputs

CLIENTS, GROUPS = 18, 3
ORDER = ("ADVERTISE", "SHARE", "MASK", "CONFIRM", "UNMASK")


def config_of(model: str, **options: object) -> RoundConfig:
    """Three groups of six.  semi_honest: t = 2, min_group = 4; active: t = 4, Q = 4, min_group = 5."""
    given = {"gamma": 0, "delta": 0.3, "groups": GROUPS, "min_group": 4 if model == "semi_honest" else 5, **options}
    cohort = known_cohort(CLIENTS)[2] if model == "active" else b""
    return RoundConfig.for_cohort(CLIENTS, 4, threat_model=model, version=2, cohort=cohort, **given)  # type: ignore[arg-type]


def groups_of(config: RoundConfig, seed: int = 0) -> list[list[int]]:
    """The groups that a round with this seed draws when everybody advertises."""
    driver = driver_of(config, seed)
    driver.collect()
    driver.close()
    graph = driver.server.graph
    assert graph is not None
    return [graph.members_of(number).tolist() for number in range(GROUPS)]


def driver_of(config: RoundConfig, seed: int = 0) -> RoundDriver:
    identities, directory, _ = known_cohort(CLIENTS)
    inputs = true_inputs(config, seed)
    return RoundDriver(lambda index: inputs[index, 0], config, seed=seed, identities=identities, directory=directory)


def plain_sum(outcome: CoalitionOutcome, members: tuple[int, ...], config: RoundConfig) -> list[int]:
    columns = zip(*(outcome.inputs[member, 0] for member in members), strict=True)
    return [sum(column) % config.modulus.value for column in columns]


@dataclass(frozen=True)
class LeftOut:
    """A round in which the first group loses members in one phase, and the second fewer."""

    model: str
    phase: str

    @property
    def config(self) -> RoundConfig:
        return config_of(self.model)

    @property
    def groups(self) -> list[list[int]]:
        return groups_of(self.config)

    def fates(self) -> Mapping[int, str]:
        """So many members of the first group as leave it out: they are lost before the phase's message."""
        phases = [phase for phase in ORDER if phase != "CONFIRM" or self.model == "active"]
        before = phases[phases.index(self.phase) - 1]
        first, second, _ = self.groups
        lost = 4 if (self.model, self.phase) == ("semi_honest", "UNMASK") else 3
        if self.phase in ("CONFIRM", "UNMASK") and self.model == "active":
            lost = 3
        return {**dict.fromkeys(first[:lost], before), second[0]: before}


CASES = [
    LeftOut(model, phase)
    for model in ("semi_honest", "active")
    for phase in ORDER[1:]
    if phase != "CONFIRM" or model == "active"
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.model}-{case.phase}")
def test_a_group_is_left_out_and_the_others_have_their_sums(case: LeftOut) -> None:
    """R-GROUP-4, and the ledger: of each other group its honest members' sum opens, and of this one nothing.

    What is late for UNMASK alone would open the group as a whole, and is therefore not passed on here.
    """
    config, groups = case.config, case.groups
    colluder = groups[2][5]
    outcome = Coalition(config, fates=case.fates(), liars={colluder: ()}, late=case.phase != "UNMASK").run()
    result = outcome.result
    assert result is not None
    assert outcome.client_errors == {}
    assert [group.number for group in result.groups] == [1, 2]
    for group in result.groups:
        assert set(group.included) <= set(groups[group.number])
        assert group.sum.tolist() == plain_sum(outcome, group.included, config)
    assert result.sum.tolist() == plain_sum(outcome, result.included, config)
    assert result.included == tuple(sorted(member for group in result.groups for member in group.included))
    assert list(result.failed_groups) == [0]
    assert result.failed_groups[0].phase == case.phase
    opened = sorted(sorted(opening.clients) for opening in outcome.openings)
    honest = [sorted(set(group.included) - {colluder}) for group in result.groups]
    assert opened == sorted(honest)
    assert outcome.both_kinds == frozenset()
    assert set(groups[0]) <= {client for lost in result.dropped.values() for client in lost}


def test_a_group_that_never_advertised_enough_is_left_out_with_the_others_told() -> None:
    config = config_of("semi_honest")
    driver = driver_of(config)
    lost = range(9)
    outgoing = driver.server.outgoing()
    for index in set(range(CLIENTS)) - set(lost):
        driver.exchange("ADVERTISE", index, outgoing.to(index) or b"")
    driver.close()
    graph = driver.server.graph
    assert graph is not None
    present = [len(set(graph.members_of(number).tolist()) - set(lost)) for number in range(GROUPS)]
    asked = {graph.group_of(client) for client in driver.server.missing}
    assert asked == {number for number in range(GROUPS) if present[number] >= config.min_group}
    for client in set(range(CLIENTS)) - set(lost):
        message = messages.to_client.decode(driver.server.outgoing().to(client) or b"", 10_000, 2)
        out = graph.group_of(client) not in asked
        assert isinstance(message, messages.Abort) == out
        if isinstance(message, messages.Abort):
            assert message.code == AbortCode.EXCLUDED


@pytest.mark.parametrize("model", ["semi_honest", "active"])
def test_members_of_a_group_that_is_left_out_wipe_everything(model: str) -> None:
    """They are told to leave at the close of MASK, with their vectors sent: no share of theirs ever leaves them."""
    case = LeftOut(model, "MASK")
    config, fates, first = case.config, case.fates(), case.groups[0]
    driver = driver_of(config)
    sent: dict[int, list[str]] = {}
    while not driver.server.ready_to_compute:
        phase = driver.server.phase.value
        outgoing = driver.server.outgoing()
        for index in outgoing.recipients:
            answers = driver.answers_to(phase, index, outgoing.to(index) or b"")
            sent.setdefault(index, []).extend(phase for _ in answers)
            for answer in answers:
                if ORDER.index(fates.get(index, "UNMASK")) >= ORDER.index(phase):
                    driver.hand_in(phase, index, answer)
        driver.close()
    for index in first:
        assert driver.clients[index].state is ClientState.ABORTED
        assert sent[index] == ["ADVERTISE", "SHARE", "MASK"]
        with pytest.raises(StateError):
            driver.clients[index].suspend()


def test_everybody_gets_the_confirmations_of_its_own_group() -> None:
    """R-GROUP-7."""
    config, groups = config_of("active"), groups_of(config_of("active"))
    driver = driver_of(config)
    while driver.server.phase != "UNMASK":
        driver.collect()
        driver.close()
    outgoing = driver.server.outgoing()
    for members in groups:
        shown = {outgoing.to(member) for member in members}
        assert len(shown) == 1
        message = messages.to_client.decode(shown.pop() or b"", 10_000, 2)
        assert isinstance(message, Confirmations)
        assert list(messages.decode_bitmap(message.signers, CLIENTS)) == members[: config.quorum]


def test_a_host_is_told_the_survivors_of_its_own_group() -> None:
    """R-GROUP-10."""
    for model in ("semi_honest", "active"):
        config, groups = config_of(model), groups_of(config_of(model))
        driver = driver_of(config)
        while driver.server.phase != "UNMASK":
            driver.collect()
            driver.close()
        outgoing = driver.server.outgoing()
        for members in groups:
            step = driver.step("UNMASK", members[0], outgoing.to(members[0]) or b"")
            assert isinstance(step.event, Finished)
            assert step.event.survivors == tuple(members)


@pytest.mark.parametrize("model", ["semi_honest", "active"])
def test_a_bad_dealer_costs_its_own_group(model: str) -> None:
    """R-GROUP-8: it is found when the secrets are put together, named, and the other groups have their sums."""
    config, groups = config_of(model), groups_of(config_of(model))
    bad = groups[1][0]
    outcome = Coalition(config, liars={bad: (WrongSecret(),)}).run()
    assert outcome.result is not None
    assert [group.number for group in outcome.result.groups] == [0, 2]
    failure = outcome.result.failed_groups[1]
    assert (failure.phase, failure.culprit, failure.code) == ("COMPUTE", (bad,), AbortCode.PROTOCOL_VIOLATION)
    assert [(entry.sender, entry.code) for entry in outcome.result.blame] == [(bad, ErrorCode.BAD_DEALER)]
    assert outcome.result.sum.tolist() == plain_sum(outcome, outcome.result.included, config)


def test_a_bad_dealer_in_every_group_ends_the_round() -> None:
    config, groups = config_of("semi_honest"), groups_of(config_of("semi_honest"))
    outcome = Coalition(config, liars={members[0]: (WrongSecret(),) for members in groups}).run()
    assert outcome.result is None
    assert outcome.failure is not None
    assert outcome.failure.code is AbortCode.PROTOCOL_VIOLATION
    assert {entry.sender for entry in outcome.blame} == {members[0] for members in groups}


def test_bad_shares_leave_a_group_out_and_name_who_returned_them() -> None:
    config, groups = config_of("semi_honest"), groups_of(config_of("semi_honest"))
    outcome = Coalition(config, liars={member: (BadShares(tuple(groups[2])),) for member in groups[2][:5]}).run()
    assert outcome.result is not None
    assert [group.number for group in outcome.result.groups] == [0, 1]
    assert "good share" in outcome.result.failed_groups[2].reason
    assert {entry.sender for entry in outcome.blame} == set(groups[2][:5])


@pytest.mark.parametrize("model", ["semi_honest", "active"])
@pytest.mark.parametrize("phase", ORDER)
def test_a_server_and_its_clients_come_back_in_every_phase(model: str, phase: str) -> None:
    """The server is restored, and every client resumed, before the phase: the same messages, and the same result."""
    if phase == "CONFIRM" and model == "semi_honest":
        phase = "UNMASK"
    case = LeftOut(model, "MASK")
    outcomes = []
    for again in (False, True):
        driver = driver_of(case.config)
        first = list(case.fates())
        while not driver.server.ready_to_compute:
            current = driver.server.phase.value
            if again and current == phase:
                _suspended_and_restored(driver)
            outgoing = driver.server.outgoing()
            for index in outgoing.recipients:
                if index not in first or current in ("ADVERTISE", "SHARE"):
                    driver.exchange(current, index, outgoing.to(index) or b"")
            driver.close()
        if again:
            driver.server = Server.restore(driver.server.snapshot(), directory=driver.directory)
        outcomes.append(driver.server.compute())
    plain, restored = outcomes
    assert plain.transcript_digest == restored.transcript_digest
    assert plain.sum.tolist() == restored.sum.tolist()
    assert [group.included for group in plain.groups] == [group.included for group in restored.groups]
    assert plain.failed_groups == restored.failed_groups
    assert list(plain.failed_groups) == [0]


def _suspended_and_restored(driver: RoundDriver) -> None:
    driver.server = Server.restore(driver.server.snapshot(), directory=driver.directory)
    for index, client in list(driver.clients.items()):
        if not client.done:
            identity = driver.identities[index] if driver.config.is_active else None
            randomness = SeededRandomness(index, "resumed")
            driver.clients[index] = Client.resume(
                client.suspend(), UsedTokens(), identity=identity, directory=driver.directory, randomness=randomness
            )


def test_the_transcript_says_whose_sums_were_opened() -> None:
    """A group that fails after the survivors are settled changes what the server keeps of the round."""
    case = LeftOut("active", "CONFIRM")
    whole = Coalition(case.config).run().result
    less = Coalition(case.config, fates=case.fates()).run().result
    assert whole is not None
    assert less is not None
    assert whole.session == less.session
    assert whole.transcript_digest != less.transcript_digest
    assert len(whole.groups) == 3
    assert whole.security.honest_members == 6


def test_a_round_without_groups_has_one_group_and_its_sum_is_the_same_array() -> None:
    config = config_of("semi_honest", groups=1, min_group=None)
    result = Coalition(config).run().result
    assert result is not None
    (only,) = result.groups
    assert only.sum is result.sum
    assert (only.number, only.included) == (0, result.included)
    assert result.failed_groups == {}


def test_a_client_that_knows_of_no_groups_takes_no_part() -> None:
    server = Server(config_of("semi_honest"))
    with pytest.raises(PeerError, match="groups = 3; this client's policy asks for at most 1") as refused:
        Client.join(server.invitation(), 0)
    assert refused.value.code is ErrorCode.CONFIG_BELOW_POLICY


def test_no_input_is_asked_of_a_client_whose_group_is_out() -> None:
    case = LeftOut("semi_honest", "SHARE")
    driver, fates = driver_of(case.config), case.fates()
    for phase in ("ADVERTISE", "SHARE"):
        outgoing = driver.server.outgoing()
        for index in outgoing.recipients:
            if phase == "ADVERTISE" or index not in fates:
                driver.exchange(phase, index, outgoing.to(index) or b"")
        driver.close()
    outgoing = driver.server.outgoing()
    for index in case.groups[0]:
        step = driver.clients[index].receive(outgoing.to(index) or b"") if outgoing.to(index) else None
        assert step is None or not isinstance(step.event, InputNeeded)


@pytest.mark.parametrize("phase", ["MASK", "UNMASK"])
def test_a_certificate_has_the_sum_of_each_group_that_was_opened(phase: str) -> None:
    """R-CHAIN-5 with groups; any of its sums moved to another group, or taken out of S, is refused."""
    case, identity = LeftOut("active", phase), Identity.generate(SeededRandomness(7, "server"))
    driver, fates = driver_of(case.config), case.fates()
    while not driver.server.ready_to_compute:
        current = driver.server.phase.value
        outgoing = driver.server.outgoing()
        for index in outgoing.recipients:
            if ORDER.index(fates.get(index, "UNMASK")) >= ORDER.index(current):
                driver.exchange(current, index, outgoing.to(index) or b"")
        driver.close()
    result = driver.server.compute()
    server = driver.server
    assert isinstance(server, Server)
    read = Certificate.from_bytes(server.certificate(identity))
    assert [(entry.number, read.members(entry.members)) for entry in read.sums] == [
        (group.number, group.included) for group in result.groups
    ]
    first, second = read.sums
    for sums, told in (
        ((second, first), "their numbers ascend"),
        ((first, msgspec.structs.replace(second, number=3)), "are below 3"),
        ((first, msgspec.structs.replace(second, members=first.members)), "in no other sum"),
        ((msgspec.structs.replace(first, members=_fewer(first.members, 2)), second), "the config asks for 5"),
    ):
        changed = signed(msgspec.structs.replace(read, sums=sums), identity)
        with pytest.raises(CertificateError, match=told):
            Certificate.from_bytes(changed.to_bytes())
    few = _fewer(read.signers, CLIENTS - 10)
    unconfirmed = msgspec.structs.replace(
        read, signers=few, signatures=read.signatures[: 64 * len(messages.decode_bitmap(few, CLIENTS))]
    )
    with pytest.raises(CertificateError, match="confirmed the survivors; 4 are needed"):
        Certificate.from_bytes(signed(unconfirmed, identity).to_bytes())


def _fewer(bitmap: bytes, gone: int) -> bytes:
    return messages.encode_bitmap(messages.decode_bitmap(bitmap, CLIENTS)[:-gone], CLIENTS)
