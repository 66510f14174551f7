"""Rounds with groups: their configs, rounds in which groups are left out in every phase, and what clients refuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from reference import primitives, wire
from reference.client import Client
from reference.rules import Config, quantile
from reference.wire import Refused, encode

from .cases import INDEX, Case, ClientCases, ServerCases, changed
from .common import Test, entry
from .intermediate import intermediate_of
from .refused_invitations import join
from .rounds import LOOSE, Recorder, small, small_active
from .server_refusals import OtherSeed

ROUND_FLAGS = {
    "GROUPS": "members of one group in the graph, the sum or the confirmations of another",
    "LEFT_OUT": "a group that goes on with too few, or a round that ends because one group does",
}
CLIENT_FLAGS = {
    "SMALL_GROUP": "a sum of few members of a group, behind a cohort in which enough survived",
    "STRANGERS": "confirmations by members of another group",
}


def grouped(**changes: Any) -> Config:
    """Eight clients in two groups of four, with hardly any security asked for."""
    given = {"version": 2, "clients": 8, "groups": 2, "neighbours": 3, "colluders": 1, "threshold": 2, "sigma": 1}
    return small(**{**given, "min_group": 3, "length": 2, **changes})


def grouped_active(**changes: Any) -> Config:
    """The same in `active`, where nobody colludes."""
    given = {"version": 2, "clients": 8, "groups": 2, "neighbours": 3, "threshold": 2, "quorum": 3, "sigma": 1}
    given |= {"min_survivors": 3, "min_group": 3, "grinding_bits": 0, "length": 2, "dropouts": 2}
    return small_active(**{**given, **changes})


# Configs.


def sound_configs() -> Iterator[tuple[str, Config]]:
    """Groups at the edges of what R-GROUP-1 and R-GROUP-3 allow."""
    yield "two groups", grouped()
    yield "two groups in active", grouped_active(cohort=bytes(32))
    yield "groups of three and of four", grouped(clients=7)
    yield "as many groups as there can be", grouped(groups=2, clients=6, neighbours=2, colluders=0)
    yield "a min_group as large as the smallest group", grouped(clients=7, min_group=3)
    yield "a sum of as many as may be left", grouped(min_survivors=6)
    yield "the largest threshold", grouped(threshold=3, min_group=4, min_survivors=4)
    hundred = many()
    most = colluding(hundred)
    yield "the smallest threshold and min_group", hundred
    yield "as many bits as its threshold withstands", replace(hundred, sigma=5)
    yield "a larger min_group", replace(hundred, min_group=25, min_survivors=25)
    active = many_active()
    yield "the smallest threshold, quorum and min_group in active", active
    yield "a larger quorum", replace(active, quorum=active.quorum + 1, min_group=active.quorum + 1)
    yield "fewer colluders in a group than in the cohort", replace(hundred, colluders=most + 1)


def many(**changes: Any) -> Config:
    """A hundred clients in four groups, ten of whom collude."""
    config = grouped(clients=100, groups=4, neighbours=24, colluders=10, sigma=4, ring_bits=23, **changes)
    most = colluding(config)
    return replace(config, threshold=most + 1, min_group=most + 2, min_survivors=most + 2)


def many_active(**changes: Any) -> Config:
    """The same in `active`."""
    given = {"clients": 100, "groups": 4, "neighbours": 24, "colluders": 10, "sigma": 2, "grinding_bits": 2}
    config = grouped_active(**given, ring_bits=23, cohort=bytes(32), **changes)
    most = colluding(config)
    quorum, threshold = (25 + most) // 2 + 1, (24 + most) // 2 + 1
    least = max(quorum, threshold + 1, most + 2)
    return replace(config, threshold=threshold, quorum=quorum, min_group=least, min_survivors=least)


def colluding(config: Config) -> int:
    """A_g."""
    largest = -(-config.clients // config.groups)
    return quantile(config.clients, config.colluders, largest, config.groups << config.sigma + config.grinding_bits + 1)


def unsound_configs() -> Iterator[tuple[str, str, Config]]:
    """By requirement, groups that break one rule."""
    two, hundred, active = grouped(), many(), many_active()
    for comment, config in {
        "one neighbour too few": replace(two, neighbours=2),
        "the complete graph": replace(two, neighbours=7),
        "a group of two": grouped(clients=8, groups=3, neighbours=2, colluders=0, min_group=2, min_survivors=3),
        "no group": replace(two, groups=0),
        "no min_group": replace(two, min_group=0),
        "a min_group without groups": replace(two, groups=1, neighbours=7),
        "an attachment": replace(two, attachment_bytes=1),
    }.items():
        yield "GROUP-1", comment, config
    most = colluding(hundred)
    for comment, config in {
        "a threshold that the colluders of a group reach": replace(hundred, threshold=most),
        "a threshold of 1": grouped(colluders=0, threshold=1),
        "a threshold that a whole group does not reach": replace(two, threshold=4, min_group=5, min_survivors=5),
        "a threshold that the smallest group does not reach": grouped(clients=7, threshold=3, min_group=4),
        "a threshold one too low in active": replace(active, threshold=active.threshold - 1),
        "a quorum of half a group": grouped_active(quorum=2, cohort=bytes(32)),
        "a quorum one too low": replace(active, quorum=active.quorum - 1),
        "a min_group of t": replace(two, threshold=3, min_group=3),
        "a min_group with one honest member": replace(
            hundred, threshold=2, colluders=2, min_group=3, min_survivors=3, sigma=20
        ),
        "a min_group below the quorum": replace(active, quorum=active.min_group + 1),
        "a min_group above the smallest group": grouped(clients=7, min_group=4, min_survivors=4),
        "a min_group above the largest group": replace(two, min_group=5, min_survivors=5),
        "min_survivors below min_group": replace(two, min_survivors=2),
        "more survivors than may be left": replace(two, min_survivors=7),
        "too many losses": grouped(colluders=0, dropouts=8, min_survivors=3),
        "nine tenths and one": replace(hundred, dropouts=81),
    }.items():
        yield "GROUP-3", comment, config


# Rounds.


def rounds_with_groups() -> Iterator[Test]:
    """Both threat models, losses in every phase, and a group left out in each."""
    yield _round("groups-all", grouped(), "GROUP-2 GROUP-8", "GROUPS", "nobody is lost", {})
    uneven = grouped_active(clients=7, suite=2)
    yield _round("groups-uneven", uneven, "GROUP-2 GROUP-7", "GROUPS", "groups of three and of four", {})
    phases = {"semi_honest": ("SHARE", "MASK", "UNMASK"), "active": ("SHARE", "MASK", "CONFIRM", "UNMASK")}
    before = {"SHARE": "ADVERTISE", "MASK": "SHARE", "CONFIRM": "MASK"}
    for config in (grouped(), grouped_active()):
        model = config.threat_model
        yield _left_out_in_advertise(config)
        for phase in phases[model]:
            name, last = f"groups-{model}-{phase.lower()}", before.get(phase, phases[model][-2])
            first, second = _groups(name, config)
            fates = dict.fromkeys(first[:2], last)
            comment = f"the first group is left out in {phase}, and the second loses one of its members in it"
            needed = "GROUP-4 GROUP-8" if model == "semi_honest" else "GROUP-4 GROUP-7 GROUP-8"
            yield _round(name, config, needed, "LEFT_OUT", comment, {**fates, second[1]: last}, opened=[1])
        name = f"groups-{model}-none"
        fates = {member: "ADVERTISE" for group in _groups(name, config) for member in group[:2]}
        yield _round(name, config, "GROUP-4", "LEFT_OUT", "no group is left", fates, ends="ABORTED")
    name, config = "groups-few", grouped(min_survivors=6)
    fates = dict.fromkeys(_groups(name, config)[0][:2], "SHARE")
    comment = "a group is left out, and the other has fewer than min_survivors"
    yield _round(name, config, "GROUP-4", "LEFT_OUT", comment, fates, ends="ABORTED")


def _groups(name: str, config: Config) -> list[list[int]]:
    """The groups that a round of this name draws when everybody advertises."""
    recorder = Recorder(name, config, LOOSE)
    recorder.run({}, compute=False)
    return recorder.server.groups


def _round(
    name: str,
    config: Config,
    requirements: str,
    flags: str,
    comment: str,
    fates: Mapping[int, str],
    *,
    ends: str = "DONE",
    opened: Sequence[int] = (0, 1),
) -> Test:
    recorder = Recorder(name, config, LOOSE)
    recorder.run(fates)
    if recorder.server.phase != ends or (ends == "DONE" and recorder.server.open != list(opened)):
        raise ValueError(f"{name} ends {recorder.server.phase} with the groups {recorder.server.open}")
    between = intermediate_of(recorder.server, recorder.clients)
    return entry(requirements, comment, flags, **recorder.setup(), intermediate=between)


def _left_out_in_advertise(config: Config) -> Test:
    """Who advertises decides the groups: the first two whose absence leaves their own group out."""
    name = f"groups-{config.threat_model}-advertise"
    for pair in combinations(range(config.clients), 2):
        recorder = Recorder(name, config, LOOSE)
        recorder.run(dict.fromkeys(pair, "NONE"))
        if recorder.server.phase == "DONE" and len(recorder.server.open) == 1:
            comment = "two of a group never advertise: it is left out, and its other members are told so"
            opened = recorder.server.open
            return _round(name, config, "GROUP-4", "LEFT_OUT", comment, dict.fromkeys(pair, "NONE"), opened=opened)
    raise ValueError(f"{name}: no two members leave their group out")


# Refusals.


def group_setups() -> dict[str, Recorder]:
    """Rounds in which every group must be whole, so that one member less is a fault of its own."""
    made = {
        "groups": Recorder("refusals-groups", grouped(min_group=4, min_survivors=6), LOOSE),
        "groups-active": Recorder("refusals-groups-active", grouped_active(min_group=4, min_survivors=6), LOOSE),
    }
    for recorder in made.values():
        recorder.run({})
    return made


def client_refusals(tests: ClientCases) -> None:
    """Adds the tests."""
    for setup in ("groups", "groups-active"):
        wrong = tests.rule(setup, "Survivors", "survivors-too-few", "GROUP-5", "SMALL_GROUP")
        wrong("one member of its group is missing", lambda m, c: changed(m, survivors=_bits(c, _near(c)[1:])))
    recorder = tests.setups["groups-active"]

    def confirmed(client: Client, signers: Sequence[int]) -> bytes:
        bits = bytes.fromhex(recorder.messages["survivors"])
        signed = client.labels.signed_survivors(client.session, wire.unpack(bits)[3])
        signatures = b"".join(primitives.sign(recorder.seeds[signer], signed) for signer in sorted(signers))
        return encode("Confirmations", client.session, wire.bitmap(signers, 8), signatures, version=2)

    wrong = tests.rule("groups-active", "Confirmations", "confirm-signers", "GROUP-6", "STRANGERS")
    wrong("a quorum of another group", lambda m, c: confirmed(c, _others(c)[:3]))
    wrong("Q - 1 of its own, and one of another", lambda m, c: confirmed(c, [*_near(c)[:2], _others(c)[0]]))
    wrong("a quorum of its own, and one of another", lambda m, c: confirmed(c, [*_near(c), _others(c)[0]]))
    case, client, _ = tests.at("groups-active", "Confirmations")
    tests.get(case, client, confirmed(client, _near(client)), "confirmations")
    tests.add(case, "GROUP-6", "a quorum of its own group", "STRANGERS", "")
    for error, comment, policy in (
        ("config-below-policy", "a host that knows of no groups", {"max_groups": 1}),
        ("", "as many groups", {"max_groups": 2}),
        ("config-below-policy", "more than min_group, and fewer than min_survivors", {"min_survivors": 5}),
        ("", "as many as min_group", {"min_survivors": 4}),
    ):
        join(tests, "groups", error, "GROUP-9", "POLICY", comment, policy=policy)


def bad_dealers(tests: ServerCases) -> None:
    """Members of some groups commit to other seeds than they share."""
    _bad_dealer(tests, "groups-bad-dealer", [0], "a bad dealer costs its own group, and no other")
    _bad_dealer(tests, "groups-bad-dealers", [0, 1], "a bad dealer in every group: there is no sum")


def _bad_dealer(tests: ServerCases, name: str, numbers: Sequence[int], comment: str) -> None:
    groups = _groups(name, grouped())
    recorder = Recorder(name, grouped(), LOOSE, {groups[number][0]: OtherSeed for number in numbers})
    recorder.run({}, compute=len(numbers) < len(groups))
    tests.setups[name] = recorder
    operations = recorder.of("server")
    case = Case(name, recorder, "server", len(operations))
    if len(numbers) < len(groups):
        case.after -= 1
        case.operations.append(operations[-1])
    else:
        try:
            recorder.server.compute()
        except Refused as refused:
            case.note("server.compute", error=refused.code, culprits=[*refused.culprits], state="ABORTED")
    tests.tests.append(case.test("GROUP-8", comment, "BAD_DEALER"))


def _near(client: Client) -> list[int]:
    return sorted(client.neighbours)


def _others(client: Client) -> list[int]:
    return sorted({*range(8)} - client.neighbours - {INDEX})


def _bits(client: Client, near: Sequence[int]) -> bytes:
    """Its group as far as ``near`` says, and all of the other group."""
    return wire.bitmap([INDEX, *near, *_others(client)], 8)
