"""What version 2 changes: its labels, its configs' extensions, and the attachment of UNMASK."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from reference import wire
from reference.client import Client
from reference.rules import Config, is_sound
from reference.wire import Refused

from . import complaints, envelopes, groups, hybrid, hybrid_complaints
from .cases import INDEX, ClientCases, ServerCases, changed, fields, flipped, invitation
from .chains import chains
from .common import File, Test, entry, file
from .configs import base_config
from .intermediate import intermediate_of
from .messages import PHASES
from .primitives import hashes
from .refused_invitations import join
from .rounds import Recorder, small, small_active

SIZE = 24
"""Of the attachments."""


def version_2_files() -> list[File]:
    """The files of version 2; what they leave out is as in version 1."""
    return [
        hashes(2),
        envelopes.envelope_file(),
        _configs(),
        _messages(),
        _rounds(),
        _client_refusals(),
        _server_refusals(),
        chains(),
    ]


def second(config: Config, **changes: Any) -> Config:
    """A config in version 2, with attachments."""
    return replace(config, **{"version": 2, "attachment_bytes": SIZE, **changes})


# Configs.


def _configs() -> File:
    tests = [
        _sound("no extension", second(base_config(), attachment_bytes=0)),
        _sound("an attachment of one byte", second(base_config(), attachment_bytes=1)),
        _sound("the largest attachment", second(base_config(), attachment_bytes=1024)),
        *(_sound(comment, config, "EXTENSION-1 GROUP-1 GROUP-3") for comment, config in groups.sound_configs()),
    ]
    elements = wire.unpack(second(base_config()).to_bytes(), depth=2)
    body = wire.pack(elements[:-1])[3:]
    for comment, longer in {
        "a number of the extension in two bytes": b"\x92\xcc\x01\x18",
        "a value in nine bytes": b"\x92\x01\xcf" + SIZE.to_bytes(8, "big"),
        "a longer header of the extensions": b"\xdc\x00\x02\x01\x18",
    }.items():
        received = b"\xdc\x00\x14" + body + longer
        tests.append({**_sound(f"{comment}", second(base_config())), "received": received.hex()})
    for comment, config in envelopes.sound_configs():
        tests.append(_sound(comment, config, "ENV-1 ENV-2"))
    for requirement, comment, bad in envelopes.unsound_configs():
        tests.append(_refused(requirement, comment, "ENVELOPES", bad))
    for comment, extensions in {
        "the default written": [1, 0],
        "a number without a value": [1],
        "an extension that nobody knows": [99, 5],
        "the default of groups written": [2, 1],
        "the default of min_group written": [3, 0],
        "groups that are bytes": [2, b"\2"],
        "a min_group that is bytes": [3, b"\3"],
        "an extension 0": [0, 5],
        "a number that is bytes": [b"\1", 5],
        "a value that is bytes": [1, b"\x18"],
        "an attachment that is too large": [1, 1025],
        "an extension twice": [1, 5, 1, 5],
        "a known extension and an unknown one": [1, 5, 99, 5],
        "known extensions in another order": [3, 3, 2, 2],
        "an extension in an array of its own": [[1, 5]],
        "a number in an array of its own": [[1], 5],
    }.items():
        bad = wire.pack([*elements[:-1], extensions])
        tests.append(_refused("EXTENSION-2", comment, "EXTENSIONS", bad))
    for comment, bad in {
        "no array of extensions": wire.pack(elements[:-1]),
        "an element too many": wire.pack([*elements, []]),
        "a number for the extensions": wire.pack([*elements[:-1], 0]),
        "extensions in version 1": wire.pack([1, *elements[1:]]),
        "an empty map for the extensions": wire.pack([*elements[:-1], []])[:-1] + b"\x80",
        "an attachment of -1": wire.pack([*elements[:-1], []])[:-1] + b"\x92\x01\xff",
    }.items():
        tests.append(_refused("EXTENSION-1", comment, "EXTENSIONS", bad))
    for requirement, comment, unsound in groups.unsound_configs():
        tests.append(_refused(requirement, comment, "GROUPS", unsound.to_bytes()))
    tests += [_sound(comment, config, "COMPLAIN-1") for comment, config in complaints.sound_configs()]
    for comment, unsound in complaints.unsound_configs():
        tests.append(_refused("COMPLAIN-1", comment, "COMPLAINTS", unsound.to_bytes()))
    chained = second(small_active(), attachment_bytes=0, chain=bytes(range(32)))
    tests.append(_sound("a chained round", chained))
    in_active = wire.unpack(chained.to_bytes(), depth=2)[:-1]
    for comment, bad in {
        "a chain of 31 bytes": [*in_active, [4, bytes(31)]],
        "a chain of 33 bytes": [*in_active, [4, bytes(33)]],
        "a chain of no bytes": [*in_active, [4, b""]],
        "a chain that is a number": [*in_active, [4, 32]],
        "a chain in semi_honest": [*elements[:-1], [4, bytes(32)]],
    }.items():
        tests.append(_refused("CHAIN-6", comment, "EXTENSIONS", wire.pack(bad)))
    for version in (0, 3):
        bad = wire.pack([version, *elements[1:]])
        tests.append(_refused("EXTENSION-1", f"version {version}", "VERSION", bad))
        bad = wire.pack([version, *elements[1:-1]])
        tests.append(_refused("EXTENSION-1", f"version {version}, without extensions", "VERSION", bad))
    tests += [_sound(comment, config, "HYBRID-1") for comment, config in hybrid.sound_configs()]
    for requirement, comment, unsound in hybrid.unsound_configs():
        tests.append(_refused(requirement, comment, "HYBRID", unsound.to_bytes()))
    tests += [_sound(comment, config, "COMPLAIN-1") for comment, config in hybrid_complaints.sound_configs()]
    flags = {
        **hybrid.CONFIG_FLAGS,
        "EXTENSIONS": "two lists of extensions for one config, or an extension that some members do not know",
        "GROUPS": "groups in which a few colluders are enough, or whose sums are of too few",
        "VERSION": "a config of a version that nobody speaks",
        "ENVELOPES": "a carrier that some members do not know, or envelopes in which the sum has no room",
        "COMPLAINTS": "complaints by which honest clients are named, or so many pairs opened that they are a secret",
    }
    return file("configs", "Configs of version 2, and their extensions.", flags, tests, version=2)


def _sound(comment: str, config: Config, requirements: str = "EXTENSION-1") -> Test:
    if not is_sound(config):
        raise ValueError(f"{comment}: this config is not sound")
    shown = {
        name: value.hex() if isinstance(value, bytes) else str(value) if name in ("prime", "input_max") else value
        for name, value in asdict(config).items()
    }
    return entry(requirements, comment, config=shown, encoded=config.to_bytes().hex(), digest=config.digest.hex())


def _refused(requirement: str, comment: str, flag: str, encoded: bytes) -> Test:
    return entry(requirement, comment, flag, error="config-unsound", encoded=encoded.hex())


# Messages.


def _messages() -> File:
    recorder = Recorder(
        "example-2",
        second(small_active(clients=4, neighbours=3, dropouts=1, threshold=2, quorum=3, min_survivors=3)),
        {},
    )
    recorder.run({3: "SHARE"})
    tests: list[Test] = []
    examples = dict(_one_of_each(recorder))
    examples |= {kind: data for kind, data in _one_of_each(complaints.example()) if kind in wire.SINCE_2}
    for kind, data in examples.items():
        _, _, session, *values = wire.unpack(data)
        names = [field.partition(":")[0] for field in wire.fields_of(kind, 2)]
        shown = {
            name: value.hex() if isinstance(value, bytes) else value for name, value in zip(names, values, strict=True)
        }
        common = {"message": kind, "phase": PHASES[kind], "session": session.hex(), "fields": shown}
        about = {"Unmask": "VERSION-1 ATTACH-2", **dict.fromkeys(wire.SINCE_2, "COMPLAIN-13")}.get(kind, "VERSION-1")
        tests.append(entry(about, "", **common, encoded=data.hex()))
    head, openings, attachment = [10, 2, bytes(32)], b"", bytes(SIZE)
    for comment, elements in {
        "no attachment": [*head, openings],
        "a field too many": [*head, openings, attachment, b""],
        "a number for the attachment": [*head, openings, 0],
        "a string for the attachment": [*head, openings, "a" * SIZE],
        "an array for the attachment": [*head, openings, [attachment]],
    }.items():
        tests.append(_malformed("ATTACH-2", comment, "SHAPE", "Unmask", wire.pack(elements)))
    for kind, data in examples.items():
        tests.append(_malformed("VERSION-2", "version 1", "VERSION", kind, changed(data, version=1)))
        tests.append(_malformed("VERSION-2", "version 3", "VERSION", kind, data[:2] + b"\3" + data[3:]))
    for config in (second(small()), second(small(), attachment_bytes=0), second(small_active(), attachment_bytes=1024)):
        limits = {kind: config.max_bytes(kind) for kind in (*wire.to_server(2), *wire.to_client(2))}
        tests.append(entry("ATTACH-6", "size limits", config=config.to_bytes().hex(), limits=limits))
    for config in (complaints.complaining(), complaints.complaining_active()):
        limits = {kind: config.max_bytes(kind) for kind in (*wire.to_server(2), *wire.to_client(2))}
        tests.append(entry("COMPLAIN-13", "size limits", config=config.to_bytes().hex(), limits=limits))
    tests += hybrid.messages(PHASES)
    tests += hybrid_complaints.messages()
    elements = [*wire.unpack(examples["Abort"]), [b""]]
    tests.append(_malformed("CHAIN-7", "certificates behind another message", "SHAPE", "Abort", wire.pack(elements)))
    flags = {
        **hybrid.MESSAGE_FLAGS,
        "SHAPE": "a message of another number of fields, or another type of one",
        "VERSION": "a message of another version than its round's",
    }
    return file("messages", "Messages of version 2.", flags, tests, version=2)


def _one_of_each(recorder: Recorder) -> Iterator[tuple[str, bytes]]:
    seen = set()
    for data in map(bytes.fromhex, recorder.messages.values()):
        kind = next(kind for kind, (number, _) in wire.EVERY.items() if number == wire.unpack(data)[0])
        if kind not in seen:
            seen.add(kind)
            yield kind, data


def _malformed(requirement: str, comment: str, flag: str, kind: str, data: bytes) -> Test:
    try:
        wire.decode(data, [kind], len(data), (2,))
    except Refused as refused:
        return entry(requirement, comment, flag, error=refused.code, message=kind, encoded=data.hex())
    raise ValueError(f"{kind}: {data.hex()} is taken")


# Rounds.


def _rounds() -> File:
    tests = []
    active = second(small_active(), suite=2)
    for name, config, requirements, flags, comment, fates in (
        ("two-plain", second(small(), attachment_bytes=0), "VERSION-1", "", "no attachments", {}),
        ("two-nobody", second(small()), "VERSION-1 ATTACH-2", "", "nobody is lost: the first value", {}),
        ("two-one", second(small()), "ATTACH-2", "LOSSES", "one is lost in MASK: the second value", {1: "SHARE"}),
        (
            "two-most",
            second(small()),
            "ATTACH-2",
            "LOSSES",
            "one never advertises and one is lost in SHARE: the last value",
            {0: "NONE", 4: "ADVERTISE"},
        ),
        (
            "two-active",
            active,
            "VERSION-1 ATTACH-2 ATTACH-4",
            "LOSSES SILENT",
            "one is lost in MASK, and one is silent in UNMASK: it counts as no loss, and attaches nothing",
            {5: "SHARE", 0: "CONFIRM"},
        ),
        (
            "two-unconfirmed",
            active,
            "ATTACH-2 ATTACH-4",
            "SILENT",
            "one does not confirm: it is in the sum, and counts as no loss",
            {3: "MASK"},
        ),
        (
            "two-envelopes",
            second(envelopes.four_active(), attachment_bytes=0),
            "ENV-7 ENV-8 ENV-10",
            "ENVELOPES",
            "envelopes, and one client that is lost in MASK",
            {3: "SHARE"},
        ),
    ):
        recorder = Recorder(name, config, {})
        recorder.run(fates)
        between = intermediate_of(recorder.server, recorder.clients)
        tests.append(entry(requirements, comment, flags, **recorder.setup(), intermediate=between))
    tests += groups.rounds_with_groups()
    tests += complaints.rounds()
    tests += hybrid.rounds()
    tests += hybrid_complaints.rounds()
    flags = {
        **hybrid.ROUND_FLAGS,
        **complaints.ROUND_FLAGS,
        **groups.ROUND_FLAGS,
        "LOSSES": "a value for another number of losses than there were",
        "SILENT": "losses that are counted after the survivors are settled",
        "ENVELOPES": "an envelope of another vector or secret, or a sum that is opened with another",
    }
    return file("rounds", "Whole rounds of version 2.", flags, tests, version=2)


# Refusals.


def _setups() -> dict[str, Recorder]:
    recorders = {
        "semi_honest": Recorder("refusals-2", second(small(length=3)), {}),
        "active": Recorder("refusals-2-active", second(small_active()), {}),
        "plain": Recorder("refusals-2-plain", second(small(length=3), attachment_bytes=0), {}),
    }
    for name, recorder in recorders.items():
        recorder.run({} if name == "plain" else {4: "SHARE"})
    return recorders


def _client_refusals() -> File:
    extra = {"envelopes": envelopes.setup(), **complaints.setups(), **hybrid.client_setups()}
    extra |= hybrid_complaints.client_setups()
    tests = ClientCases({**_setups(), **groups.group_setups(), **extra})
    _invitations(tests)
    _attachments(tests)
    groups.client_refusals(tests)
    envelopes.client_refusals(tests)
    complaints.client_refusals(tests)
    for stage in ("Roster", "Shares", "Survivors", "Confirmations"):
        wrong = tests.rule("active", stage, "wrong-version", "VERSION-2", "VERSION")
        wrong("version 1", lambda m, c: changed(m, version=1))
        wrong("version 3", lambda m, c: m[:2] + b"\3" + m[3:])
    wrong = tests.rule("active", "Survivors", "wrong-session", "VERSION-1", "VERSION")
    wrong("the session of version 1", lambda m, c: changed(m, session=_session_of_version_1(c)))
    wrong = tests.rule("active", "Confirmations", "confirm-signature", "ATTACH-3", "CONFIRMED")
    wrong("a confirmation that is none: nothing is revealed", lambda m, c: changed(m, signatures=flipped))
    hybrid.client_refusals(tests)
    hybrid_complaints.client_refusals(tests)
    comment = "a host that asks for no chain"
    join(tests, "semi_honest", "", "CHAIN-6", "POLICY", comment, policy={"require_chain": False})
    flags = {
        **hybrid.CLIENT_FLAGS,
        "VERSION": "a party that takes one version for another",
        "POLICY": "a round that the client's host did not mean to take part in",
        "ATTACHMENT": "an attachment that does not fit, or that does not say what to reveal for some losses",
        **groups.CLIENT_FLAGS,
        "ENVELOPE": "a second vector under one secret",
        **complaints.CLIENT_FLAGS,
        "CONFIRMED": "an attachment that is revealed before the survivors are confirmed",
    }
    setups = {name: recorder.setup(recorder.of("client", INDEX)) for name, recorder in tests.setups.items()}
    about = "Clients of version 2 that get something wrong."
    return file("client-refusals", about, flags, tests.tests, version=2, setups=setups)


def _session_of_version_1(client: Client) -> bytes:
    first = replace(client.config, version=1, attachment_bytes=0)
    return first.labels.session_id(client.config.digest, client.nonce, bytes(32))


def _invitations(tests: ClientCases) -> None:
    config = tests.setups["semi_honest"].config
    good, first = (
        bytes.fromhex(tests.setups["semi_honest"].messages["invitation"]),
        replace(config, version=1, attachment_bytes=0),
    )
    for error, requirement, comment, data in (
        ("wrong-version", "VERSION-3", "a config of version 1", invitation(first.to_bytes(), 2)),
        ("wrong-version", "VERSION-3", "a config of version 3", invitation(b"\xdc\0\x14\3" + bytes(16), 2)),
        ("wrong-version", "VERSION-3", "a config of version 1 in a longer array", invitation(b"\xdd\0\0\0\x13\1", 2)),
        ("wrong-version", "VERSION-3", "a short array of version 1", invitation(b"\x92\1\0", 2)),
        ("config-unsound", "VERSION-3", "a config whose version does not show", invitation(b"\xdc\0\x14\xcc\1", 2)),
        ("config-unsound", "VERSION-3", "no config", invitation(b"", 2)),
        ("wrong-version", "VERSION-3", "an array of nothing, and version 1 behind it", invitation(b"\x90\1", 2)),
        ("wrong-version", "VERSION-3", "an array of 15 of version 1", invitation(b"\x9f\1", 2)),
        ("config-unsound", "VERSION-3", "a map in the place of an array", invitation(b"\x8f\1", 2)),
        ("config-unsound", "VERSION-3", "a string in the place of an array", invitation(b"\xa0\1", 2)),
        ("config-unsound", "VERSION-3", "a byte that is no version", invitation(b"\xdc\0\x14\x80", 2)),
        (
            "config-unsound",
            "VERSION-3",
            "a config of version 2 in an invitation of version 1",
            invitation(config.to_bytes()),
        ),
        ("wrong-version", "VERSION-2", "version 3", good[:2] + b"\3" + good[3:]),
        (
            "wrong-session",
            "VERSION-1",
            "the round id of version 1",
            changed(good, session=_round_id_of_version_1(good)),
        ),
    ):
        join(tests, "semi_honest", error, requirement, "VERSION", comment, data)
    for error, comment, policy in (
        ("config-below-policy", "a later version", {"min_version": 3}),
        ("", "this version", {"min_version": 2}),
    ):
        join(tests, "semi_honest", error, "VERSION-4", "POLICY", comment, policy=policy)
    for error, comment, policy in (
        ("config-below-policy", "a host that attaches nothing", {"max_attachment_bytes": 0}),
        ("config-below-policy", "a smaller attachment", {"max_attachment_bytes": SIZE - 1}),
        ("", "an attachment of this size", {"max_attachment_bytes": SIZE}),
    ):
        join(tests, "semi_honest", error, "ATTACH-5", "POLICY", comment, policy=policy)
    enveloped = invitation(replace(tests.setups["plain"].config, carrier=1).to_bytes(), 2)
    for error, comment, data, policy in (
        ("config-below-policy", "a host that takes masks alone", enveloped, {"carrier": "masks"}),
        ("", "a host that takes envelopes", enveloped, {"carrier": "lattice"}),
        ("", "a host that takes either", enveloped, {"carrier": "any"}),
        ("config-below-policy", "a host that takes envelopes alone", b"", {"carrier": "lattice"}),
    ):
        join(tests, "plain", error, "ENV-9", "POLICY", comment, data, policy=policy)


def _round_id_of_version_1(invited: bytes) -> bytes:
    values = fields(invited)
    first = replace(base_config()).labels
    return first.round_id(first.config_digest(values["config"]), values["nonce"])


def _attachments(tests: ClientCases) -> None:
    config = tests.setups["semi_honest"].config
    most, value = config.clients - config.min_survivors, bytes(range(SIZE))
    for comment, attachment in {
        "none": [],
        "a byte too few": [(most, value[:-1])],
        "a byte too many": [(most, value + b"\0")],
        "a last value of another length": [(0, value), (most, value[:-1])],
        "no value for the most losses": [(0, value), (most - 1, value)],
        "losses that fall": [(most, value), (0, value)],
        "losses twice": [(most, value), (most, value)],
    }.items():
        case, client, _ = tests.at("semi_honest", "client.submit")
        given = [[losses, shown.hex()] for losses, shown in attachment]
        case.note("client.submit", attachment=given, error="input", state=client.state)
        _submit(tests, case, client, "ATTACH-1", comment, error="input")
    case, client, _ = tests.at("plain", "client.submit")
    case.note("client.submit", attachment=[[most, ""]], error="input", state=client.state)
    _submit(tests, case, client, "ATTACH-1", "an attachment in a round without", error="input")
    for comment, attachment in {
        "a value for exactly so many losses": [(0, bytes(SIZE)), (1, value)],
        "a value for more losses": [(0, bytes(SIZE)), (most, value)],
        "a value for more losses than clients": [(0, bytes(SIZE)), (100, value)],
        "one value": [(most, value)],
    }.items():
        case, client, _ = tests.at("semi_honest", "client.submit")
        padded = attachment if attachment[-1][0] >= most else [*attachment, (most, bytes(SIZE))]
        given = [[losses, shown.hex()] for losses, shown in padded]
        masked = client.submit(tests.setups["semi_honest"].vector(INDEX), padded)
        case.note("client.submit", attachment=given, out=case.name(masked, "masked"), state=client.state)
        shown = bytes.fromhex(tests.setups["semi_honest"].messages["survivors"])
        tests.get(case, client, shown, "survivors")
        tests.add(case, "ATTACH-2", f"one loss, and {comment}", "ATTACHMENT", "")


def _submit(tests: ClientCases, case: Any, client: Client, requirement: str, comment: str, *, error: str) -> None:
    """After a refused attachment the right one is taken: the client is as it was."""
    recorder = tests.setups[case.setup]
    masked = client.submit(recorder.vector(INDEX), recorder.attachment(INDEX))
    case.note("client.submit", out=case.name(masked, "masked"), state=client.state)
    tests.add(case, requirement, comment, "ATTACHMENT", error)


def _server_refusals() -> File:
    tests = ServerCases({**_setups(), "envelopes": envelopes.setup(), **hybrid.server_setups()})
    wrong = tests.rule("active", "unmask", "wrong-length", "ATTACH-4", "LENGTH")
    wrong("an attachment of a byte less", lambda m: changed(m, attachment=lambda old: old[:-1]))
    wrong("an attachment of a byte more", lambda m: changed(m, attachment=lambda old: old + b"\0"))
    wrong("no attachment", lambda m: changed(m, attachment=b""))
    wrong = tests.rule("plain", "unmask", "wrong-length", "ATTACH-4", "LENGTH")
    wrong("an attachment in a round without", lambda m: changed(m, attachment=b"\0"))
    wrong = tests.rule("semi_honest", "unmask", "malformed", "ATTACH-2", "LENGTH")
    wrong("no field for the attachment", lambda m: wire.pack(wire.unpack(m)[:-1]))
    for name in ("advertise", "share", "masked-input", "confirm", "unmask"):
        wrong = tests.rule("active", name, "wrong-version", "VERSION-2", "VERSION")
        wrong("version 1", lambda m: changed(m, version=1))
    _second_answers(tests)
    groups.bad_dealers(tests)
    envelopes.server_refusals(tests)
    complaints.server_refusals(tests)
    hybrid.server_refusals(tests)
    hybrid_complaints.server_refusals(tests)
    flags = {
        **hybrid.SERVER_FLAGS,
        "ENVELOPE": "an envelope that makes the server fail, or a sum that is opened although it is spoilt",
        **complaints.SERVER_FLAGS,
        "BAD_DEALER": "a dealer that spoils other sums than its own group's",
        "LENGTH": "attachments that say more than the config does, or less",
        "VERSION": "a party that takes one version for another",
        "AGAIN": "a second attachment in the place of the first",
        "BAD_SHARE": "an attachment that is lost with a share that it stood beside",
    }
    setups = {name: recorder.setup(recorder.of("server")) for name, recorder in tests.setups.items()}
    about = "Servers of version 2 that get something wrong."
    return file("server-refusals", about, flags, tests.tests, version=2, setups=setups)


def _second_answers(tests: ServerCases) -> None:
    for setup in ("semi_honest", "active"):
        answer = tests.message(setup, f"unmask-{INDEX}")
        other = changed(answer, attachment=flipped)
        comment = "another attachment the second time"
        tests.sequence(
            setup, "UNMASK", "ATTACH-4", "AGAIN", comment, lambda s, a=answer, o=other: [(INDEX, a), (INDEX, o)]
        )
        case, server = tests.at(setup, "UNMASK")
        recorder = tests.setups[setup]
        for sender in server.recipients:
            data = tests.message(setup, f"unmask-{sender}")
            tests.get(case, server, sender, changed(data, openings=flipped) if sender == INDEX else data)
        tests.close(case, server)
        total = server.compute()
        attached = {str(i): value.hex() for i, value in sorted(server.attachments.items())}
        included, shown = server.included(), [str(element) for element in total]
        case.note("server.compute", sum=shown, included=included, attachments=attached, state="DONE")
        if total != recorder.plain_sum(included):
            raise ValueError("the sum is wrong")
        tests.tests.append(case.test("ATTACH-4", "an attachment beside a bad share counts", "BAD_SHARE"))
