"""Certificates that a reader takes or refuses, and what a member that keeps a chain asks of the next round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import inf, nan
from typing import Any

from reference import primitives, wire
from reference.chain import NONE, Certificate, Chain

from .cases import INDEX, flipped, put, swapped
from .chained_rounds import ChainCase, ChainedCohort
from .common import File, Test, file, labelled
from .groups import grouped_active
from .rounds import small_active, sparse_active

FLAGS = {
    "CERTIFICATE": "a certificate that contradicts itself, and is taken for a round's outcome",
    "FAKE_ABORT": "a sum that is opened, said to be none, and asked for again without one client",
    "FORM": "two byte strings, and two digests, for one certificate",
    "HISTORY": "a round that is left out of the history, or two histories for two clients",
    "LATE_ANSWER": "a round that is opened after all that were told of its abort have gone on",
    "RECEIPT": "a member that signs for a total that it was not handed, or for two of one round",
    "SIGNATURE": "a history of the server's making that nobody could hold against it",
}
MISSING = 3
"""The member of the sparse cohort that deals no shares."""


def chains() -> File:
    """The file."""
    cohorts = {"chain": _three_rounds(), "sparse": _sparse(), "groups": _groups()}
    tests = [*_read(cohorts), *_joined(cohorts), *_settled(cohorts), *_answered(cohorts), *_receipts(cohorts)]
    about = "Certificates and receipts, and a member of a cohort that keeps the chain of its rounds."
    setups = {name: cohort.setup() for name, cohort in cohorts.items()}
    return file("chains", about, FLAGS, tests, version=2, setups=setups)


def _three_rounds() -> ChainedCohort:
    active = small_active(clients=5, neighbours=4, colluders=1, dropouts=1, min_survivors=4)
    cohort = ChainedCohort("chains", active)
    cohort.play(NONE)
    first = cohort.certificate(0)
    cohort.play(first.digest, [first.to_bytes()], {0: "ADVERTISE"})
    second = cohort.certificate(1, first)
    cohort.play(second.digest, [first.to_bytes(), second.to_bytes()])
    cohort.chain = Chain(cohort.server_key)
    cohort.twin = cohort.aside(NONE)
    return cohort


def _sparse() -> ChainedCohort:
    cohort = ChainedCohort("chains-sparse", sparse_active())
    cohort.play(NONE, (), {MISSING: "ADVERTISE"})
    return cohort


def _groups() -> ChainedCohort:
    cohort = ChainedCohort("chains-groups", grouped_active())
    cohort.play(NONE)
    return cohort


# Certificates, and who reads them.


def _read(cohorts: dict[str, ChainedCohort]) -> Iterator[Test]:
    cohort, groups = cohorts["chain"], cohorts["groups"]
    first, grouped = cohort.certificate(0), groups.certificate(0)
    second = cohort.certificate(1, first)
    third = cohort.certificate(2, second)
    spent = [0.5, 1e-6]
    for comment, chain in {
        "the certificate of a round": [first],
        "three certificates in a chain": [first, second, third],
        "a round without a sum": [cohort.aborted()],
        "a round without a sum that members state": [cohort.aborted(silent=(0, 1, 4))],
        "a round that ended before its roster": [_without_roster(cohort)],
        "a round in semi_honest": [
            cohort.resigned(first, encoded=_semi_honest(first.config), signers=b"", signatures=b"")
        ],
        "a round that took privacy": [cohort.resigned(first, spent=spent)],
        "a round that took none, or all": [cohort.resigned(first, spent=[0.0, 1.0])],
        "a round whose privacy never fails": [cohort.resigned(first, spent=[0.5, 0.0])],
        "faults, and a name beyond ASCII": [
            cohort.resigned(first, faults=[[4, "UNMASK", "bad-share"], [0, "DONE", "conflict"]], name="r\u00e9seau")
        ],
        "a name of 64 characters": [cohort.resigned(first, name="\u00e9" * 64)],
        "two certificates of one second": [first, cohort.resigned(second, time=first.time)],
        "a certificate without a time behind one with it": [first, cohort.resigned(second, time=0)],
    }.items():
        yield _reading("chain", cohort, "CHAIN-1 CHAIN-3 CHAIN-4 CHAIN-5", comment, "", chain)
    yield _reading("groups", groups, "CHAIN-5", "a round with groups", "", [grouped])
    one = groups.resigned(grouped, sums=grouped.sums[1:])
    yield _reading("groups", groups, "CHAIN-5", "one group of two has a sum", "", [one])
    for comment, data in _other_forms(cohort, first).items():
        case = ChainCase("chain", cohort, 0)
        case.read([data])
        yield case.test("CHAIN-1", comment, "FORM", "invalid")
    for requirement, comment, flag, bad in _unsound(cohort, first, second):
        yield _reading("chain", cohort, requirement, comment, flag, [bad], "invalid")
    for comment, bad in _unsound_groups(groups, grouped).items():
        yield _reading("groups", groups, "CHAIN-5", comment, "CERTIFICATE", [bad], "invalid")
    for comment, chain in _unlinked(cohorts, first, second, third).items():
        yield _reading("chain", cohort, "CHAIN-4", comment, "HISTORY", chain, "invalid")
    twice = cohort.resigned(first, encoded=_unchained(first.config), **_ended())
    again = cohort.resigned(twice, number=1, previous=twice.digest)
    yield _reading("chain", cohort, "CHAIN-5", "a round twice", "HISTORY", [twice, again], "invalid")


def _reading(
    setup: str,
    cohort: ChainedCohort,
    requirements: str,
    comment: str,
    flag: str,
    chain: list[Certificate],
    error: str = "",
) -> Test:
    case = ChainCase(setup, cohort, 0)
    case.read([certificate.to_bytes() for certificate in chain])
    return case.test(requirements, comment, flag, error)


def _without_roster(cohort: ChainedCohort) -> Certificate:
    empty = dict.fromkeys(("roster", "advertised", "dealers", "survivors", "signers", "signatures"), b"")
    ended = ["ADVERTISE", 3, cohort.set([0, 1]), cohort.set([4])]
    return cohort.aborted(**{**empty, "ended": ended, "lost": [["ADVERTISE", cohort.set([0, 1])]]})


def _other_forms(cohort: ChainedCohort, first: Certificate) -> dict[str, bytes]:
    """Bytes that are no certificate, although their server signed what they decode to."""
    data, body = first.to_bytes(), wire.unpack(first.to_bytes(), depth=3)
    place = 3 + len(wire.pack(body[:2])) - 1  # of the number, behind a header of three bytes
    negative = replace(first, signature=bytes(64)).to_bytes().replace(wire.pack_one(first.time), b"\xff", 1)
    signature = primitives.sign(cohort.server_seed, first.config.labels.signed_certificate(negative))

    def signed(**changes: Any) -> bytes:
        return cohort.resigned(first, **changes).to_bytes()

    return {
        "a longer header": b"\xdd" + len(body).to_bytes(4, "big") + data[3:],
        "a number in two bytes": data[:place] + b"\xcc\x00" + data[place + 1 :],
        "a byte behind the end": data + b"\x00",
        "the end cut off": data[:-1],
        "an element too many": wire.pack([*body, 0]),
        "an element too few": wire.pack(body[:-1]),
        "no bytes": b"",
        "another form": signed(form=2),
        "a number that is bytes": signed(number=b"\x00"),
        "a negative time": negative[:-64] + signature,
        "a time that is too large": signed(time=2**53 + 1),
        "a name of 65 characters": signed(name="e" * 65),
        "a name that is bytes": signed(name=b"round 0"),
        "a config that is text": signed(encoded="config"),
        "a nonce of 31 bytes": signed(nonce=bytes(31)),
        "sums that are no array": signed(sums=b""),
        "a sum without its members": signed(sums=[[0, first.sums[0][2]]]),
        "a sum that is no array": signed(sums=[0]),
        "an end of three elements": signed(ended=["UNMASK", 3, b""], sums=[], transcript=b""),
        "an end that is no array": signed(ended=0, sums=[], transcript=b""),
        "privacy in whole numbers": signed(spent=[1, 0]),
        "one number for the privacy": signed(spent=[1.0]),
        "a server's key of 33 bytes": wire.pack([*body[:21], body[21] + b"\x00", body[22]]),
        "a signature of 65 bytes": wire.pack([*body[:22], body[22] + b"\x00"]),
    }


def _unsound(
    cohort: ChainedCohort, first: Certificate, second: Certificate
) -> Iterator[tuple[str, str, str, Certificate]]:
    """Each rule of one certificate is broken once."""
    bits, config = cohort.set, cohort.rounds[0].config
    stranger = labelled("another server", 32)
    yield (
        "CHAIN-3",
        "another server's signature",
        "SIGNATURE",
        replace(first, signature=primitives.sign(stranger, first.signed())),
    )
    yield "CHAIN-3", "a bit of the signature", "SIGNATURE", replace(first, signature=flipped(first.signature, 0))
    yield "CHAIN-3", "another name under the signature", "SIGNATURE", replace(first, name="round 1")
    yield "CHAIN-3", "a key that is no canonical one", "SIGNATURE", replace(first, server=b"\xff" * 32)
    [[number, members, digest]] = first.sums
    ended, no_sum = ["UNMASK", 3, b"", b""], {"sums": [], "transcript": b""}
    three, unsigned = bits([0, 1, 2]), {"encoded": _semi_honest(config), "signers": b"", "signatures": b""}
    lost = [["MASK", bits([3])]]
    four = {"survivors": bits([0, 1, 2, 4]), "sums": [[0, bits([0, 1, 2, 4]), digest]], "lost": lost}
    silent = cohort.silence(0, [0, 1, 4])
    signed = cohort.rounds[0].server.labels.signed_survivors(first.session, bits([0, 1, 2, 4]))
    confirmed = b"".join(primitives.sign(seed, signed) for seed in cohort.seeds)
    cases: dict[str, dict[str, Any]] = {
        "an unsound config": {"encoded": replace(config, quorum=3).to_bytes()},
        "a config in a longer form": {"encoded": b"\xdd\x00\x00" + config.to_bytes()[1:]},
        "a config with another chain": {"encoded": replace(config, chain=first.digest).to_bytes(), **_ended()},
        "number 0 behind another": {"previous": bytes([1]) * 32, "encoded": _unchained(config), **_ended()},
        "number 1 behind none": {"number": 1},
        "a roster's digest without members": {"advertised": b"", "dealers": b"", "survivors": b"", **no_sum}
        | {"ended": ended, "signers": b"", "signatures": b"", "lost": []},
        "members without a roster's digest": {"roster": b"", **no_sum, "ended": ended},
        "half a roster's digest": {"roster": bytes(16)},
        "a dealer outside of the roster": {"advertised": bits([0, 1, 2, 3])},
        "a survivor that did not deal": {"dealers": bits([0, 1, 2, 4])},
        "a member that the cohort has not": {"advertised": b"\x3f"},
        "a set of two bytes": {"advertised": b"\x1f\x00"},
        "a confirmation of who is no survivor": {**four, "signers": bits(range(5)), "signatures": confirmed},
        "a signature too few": {"signatures": first.signatures[64:]},
        "fewer confirmations than the quorum": {"signers": bits([0, 1, 2]), "signatures": first.signatures[:192]},
        "confirmations of nobody": {"signatures": bytes(len(first.signatures))},
        "two confirmations exchanged": {"signatures": swapped(first.signatures, 64)},
        "too few survivors": {**unsigned, "survivors": three, "sums": [[0, three, digest]]}
        | {"lost": [["MASK", bits([3, 4])]]},
        "neither a sum nor an end": {"sums": []},
        "a sum and an end": {"ended": ended, "transcript": b""},
        "a sum without a transcript": {"transcript": b""},
        "half a transcript": {"transcript": bytes(16)},
        "a transcript without a sum": {"sums": [], "ended": ended},
        "the sum of some survivors": {"sums": [[number, bits([0, 1, 2, 3]), digest]]},
        "two sums without groups": {"sums": [[0, members, digest], [1, members, digest]]},
        "a sum of group 1 without groups": {"sums": [[1, members, digest]]},
        "an end in no phase": {**no_sum, "ended": ["LUNCH", 3, b"", b""]},
        "an end with no code": {**no_sum, "ended": ["UNMASK", len(wire.ABORTS), b"", b""]},
        "an end that waited for a stranger": {**no_sum, "ended": ["UNMASK", 3, b"\x20", b""]},
        "an end that blames a stranger": {**no_sum, "ended": ["UNMASK", 3, b"", b"\x20"]},
        "a survivor that was lost": {"lost": [["SHARE", bits([3])]]},
        "a loss that is not told": {**four, "lost": [], "signers": bits([0, 1, 2, 4])}
        | {"signatures": _without(first.signatures, 3)},
        "a loss in no phase": {"lost": [["LUNCH", bits([3])]]},
        "a loss of nobody": {"lost": [["CONFIRM", b""]]},
        "a loss twice": {"lost": [["CONFIRM", bits([3])], ["UNMASK", bits([3])]]},
        "losses out of their order": {"lost": [["UNMASK", bits([3])], ["CONFIRM", bits([4])]]},
        "a fault of a stranger": {"faults": [[5, "MASK", "padding"]]},
        "a fault in no phase": {"faults": [[4, "LUNCH", "padding"]]},
        "a fault against no rule": {"faults": [[4, "MASK", "hunger"]]},
        "an epsilon below 0": {"spent": [-0.5, 0.0]},
        "an epsilon without end": {"spent": [inf, 0.0]},
        "an epsilon that is no number": {"spent": [nan, 0.0]},
        "a delta below 0": {"spent": [0.5, -0.5]},
        "a delta above 1": {"spent": [0.5, 1.5]},
    }
    for comment, changes in cases.items():
        yield "CHAIN-5", comment, "CERTIFICATE", cohort.resigned(first, **changes)
    for comment, changes in {
        "a statement of who is in the sum": silent,
        "a statement too few": {**no_sum, "ended": ended, **silent, "statements": silent["statements"][64:]},
        "a statement of nobody": {**no_sum, "ended": ended, **silent, "statements": bytes(192)},
        "two statements exchanged": {
            **no_sum,
            "ended": ended,
            **silent,
            "statements": swapped(silent["statements"], 64),
        },
    }.items():
        yield "CHAIN-13", comment, "FAKE_ABORT", cohort.resigned(first, **changes)
    gone, nothing = _without_roster(cohort), first.config.labels.signed_silence(b"")
    about_nothing = b"".join(primitives.sign(cohort.seeds[member], nothing) for member in (0, 1, 4))
    yield (
        "CHAIN-13",
        "statements about no roster",
        "FAKE_ABORT",
        cohort.resigned(gone, silent=silent["silent"], statements=about_nothing),
    )
    yield (
        "CHAIN-13",
        "statements in semi_honest",
        "FAKE_ABORT",
        cohort.resigned(
            first, encoded=_semi_honest(config), **no_sum, ended=ended, signers=b"", signatures=b"", **silent
        ),
    )
    yield (
        "CHAIN-5",
        "confirmations in semi_honest",
        "CERTIFICATE",
        cohort.resigned(first, encoded=_semi_honest(config), **no_sum, ended=ended),
    )


def _without(signatures: bytes, place: int) -> bytes:
    return signatures[: 64 * place] + signatures[64 * (place + 1) :]


def _unchained(config: Any) -> bytes:
    made: bytes = replace(config, chain=b"").to_bytes()
    return made


def _semi_honest(config: Any) -> bytes:
    other = {"threat_model": "semi_honest", "chain": b"", "cohort": b"", "quorum": 0, "grinding_bits": 0}
    made: bytes = replace(config, **other).to_bytes()
    return made


def _unsound_groups(groups: ChainedCohort, grouped: Certificate) -> dict[str, Certificate]:
    [[_, left, one], [_, right, other]] = grouped.sums
    mine = groups.rounds[0].server.included(1)
    signers = grouped.members(grouped.signers)
    few = [member for member in signers if member not in mine[:2]]
    signatures = b"".join(grouped.signatures[64 * signers.index(m) : 64 * signers.index(m) + 64] for m in few)
    changes: dict[str, dict[str, Any]] = {
        "the sums in another order": {"sums": [[1, right, other], [0, left, one]]},
        "the sum of a group twice": {"sums": [[1, left, one], [1, right, other]]},
        "the sum of a group that is not": {"sums": [[0, left, one], [2, right, other]]},
        "a member in two sums": {"sums": [[0, left, one], [1, left, other]]},
        "the sum of fewer than min_group": {"sums": [[0, left, one], [1, groups.set(mine[:2]), other]]},
        "the sum of fewer than min_group in semi_honest": {
            "encoded": _semi_honest(grouped.config),
            "signers": b"",
            "signatures": b"",
            "sums": [[0, left, one], [1, groups.set(mine[:2]), other]],
        },
        "a sum that fewer than the quorum confirmed": {"signers": groups.set(few), "signatures": signatures},
    }
    return {comment: groups.resigned(grouped, **change) for comment, change in changes.items()}


def _unlinked(
    cohorts: dict[str, ChainedCohort], first: Certificate, second: Certificate, third: Certificate
) -> dict[str, list[Certificate]]:
    cohort, sparse = cohorts["chain"], cohorts["sparse"]
    stranger = labelled("another server", 32)
    elsewhere = sparse.certificate(0)
    other = cohort.resigned(
        elsewhere, number=1, previous=first.digest, encoded=_unchained(elsewhere.config), **_ended()
    )
    return {
        "no certificate": [],
        "the first left out": [second, third],
        "one left out": [first, third],
        "one twice": [first, second, second],
        "a number left out": [first, cohort.resigned(second, number=2)],
        "another one before it": [first, _astray(cohort, second)],
        "a certificate made before the one before it": [first, cohort.resigned(second, time=first.time - 1)],
        "a certificate of another cohort": [first, other],
        "a certificate of another server": [first, second.signed_by(stranger)],
        "a chain of another server": [first.signed_by(stranger)],
    }


def _astray(cohort: ChainedCohort, second: Certificate) -> Certificate:
    """Behind a certificate that nobody has."""
    return cohort.resigned(second, previous=bytes([1]) * 32, encoded=_unchained(second.config), **_ended())


def _ended() -> dict[str, Any]:
    """What turns a certificate with a sum into one without, in which nobody signed."""
    without = {"sums": [], "transcript": b"", "signers": b"", "signatures": b""}
    return {**without, "ended": ["UNMASK", 3, b"", b""]}


# What a member asks before it joins.


def _joined(cohorts: dict[str, ChainedCohort]) -> Iterator[Test]:
    cohort = cohorts["chain"]
    first = cohort.certificate(0)
    second = cohort.certificate(1, first)
    third = cohort.certificate(2, second)
    played = sum(operation["round"] == 0 for operation in cohort.operations)

    case = ChainCase("chain", cohort)
    case.join(cohort.behind(first, second, third))
    yield case.test("CHAIN-7 CHAIN-9 CHAIN-10", "three rounds behind one another, and one more")
    case = ChainCase("chain", cohort)
    case.join(cohort.behind(third))
    yield case.test("CHAIN-7 CHAIN-9", "the last certificate alone, which is all that is new")
    for comment, after, invited in (
        ("a member without a head takes what it is given", 0, cohort.invitation(third.digest, [])),
        ("a member without a head is brought certificates", 0, cohort.behind(second, third)),
        ("a member without a head takes a round that is not chained", 0, cohort.invitation(b"", [])),
    ):
        case = ChainCase("chain", cohort, after)
        case.join(invited)
        yield case.test("CHAIN-9", comment)

    def refused(requirement: str, comment: str, flag: str, error: str, data: bytes, **given: Any) -> Test:
        case = ChainCase("chain", cohort, played)
        case.join(data, **given)
        return case.test(f"{requirement} CONFIG-14", comment, flag, error)

    asked = {"require_chain": True}
    case = ChainCase("chain", cohort, 0)
    case.join(cohort.invitation(b"", []), policy=asked)
    yield case.test("CHAIN-6 CONFIG-14", "a round outside of the chain that a policy asks for", "HISTORY", BELOW)
    case = ChainCase("chain", cohort, 0)
    case.join(cohort.invitation(NONE, []), policy=asked)
    yield case.test("CHAIN-6", "the chain that a policy asks for")

    broken = "chain-broken"
    yield refused("CHAIN-9", "a round outside of the chain", "HISTORY", broken, cohort.invitation(b"", []))
    yield refused("CHAIN-9", "no certificate", "HISTORY", broken, cohort.invitation(first.digest, []))
    strange = cohort.resigned(third, previous=second.digest)
    for comment, brought in {
        "one certificate left out": [first, third],
        "the first that is new left out": [second, third],
        "the certificates in another order": [second, first],
        "a certificate before the first that is new": [strange, first],
    }.items():
        data = cohort.invitation(brought[-1].digest, [made.to_bytes() for made in brought])
        yield refused("CHAIN-9", comment, "HISTORY", broken, data)
    yield refused("CHAIN-9", "another one before it", "HISTORY", broken, cohort.behind(first, _astray(cohort, second)))
    case = ChainCase("chain", cohort, 0)
    case.join(cohort.invitation(b"", [first.to_bytes()]))
    comment = "certificates for a round that is not chained"
    yield case.test("CHAIN-9 CONFIG-14", comment, "HISTORY", broken)
    data = cohort.invitation(second.digest, [first.to_bytes()])
    yield refused("CHAIN-9", "another certificate than the last", "HISTORY", broken, data)
    late = cohort.resigned(second, time=first.time - 1)
    yield refused(
        "CHAIN-9", "a certificate made before the one before it", "HISTORY", broken, cohort.behind(first, late)
    )
    skipped = cohort.resigned(second, number=2)
    yield refused("CHAIN-9", "a number left out", "HISTORY", broken, cohort.behind(first, skipped))

    bad = "chain-certificate"
    stranger, elsewhere = labelled("another server", 32), cohorts["sparse"].certificate(0)
    for comment, certificate in {
        "a certificate of another server": first.signed_by(stranger),
        "a certificate of another cohort": cohort.resigned(elsewhere),
        "a certificate whose name is another": replace(first, name="round 1"),
        "a certificate with a sum and an end": cohort.resigned(first, ended=["UNMASK", 3, b"", b""]),
    }.items():
        data = cohort.invitation(certificate.digest, [certificate.to_bytes()])
        yield refused("CHAIN-8", comment, "SIGNATURE", bad, data)
    data = cohort.invitation(first.digest, [first.to_bytes() + b"\x00"])
    yield refused("CHAIN-8", "bytes that are no certificate", "SIGNATURE", bad, data)
    unsettled = cohort.resigned(first, encoded=_unchained(first.config), **_ended())
    again = cohort.resigned(unsettled, number=1, previous=unsettled.digest)
    yield refused("CHAIN-8", "a round that is certified twice", "HISTORY", bad, cohort.behind(unsettled, again))
    case = ChainCase("chain", cohort, played)
    case.join(cohort.behind(cohort.resigned(first, signatures=bytes(len(first.signatures)))))
    yield case.test("CHAIN-8", "confirmations that nobody made: a client need not verify them")
    yield _of_version_1(cohort, first)
    case = ChainCase("chain", cohort, played)
    wrong = wire.unpack(cohort.behind(first), depth=2)
    case.join(wire.pack([*wrong[:5], [0]]))
    yield case.test("CHAIN-7 CONFIG-14", "a certificate that is a number", "FORM", "malformed")
    case = ChainCase("chain", cohort, played)
    case.join(wire.pack([*wrong[:5], first.to_bytes()]))
    yield case.test("CHAIN-7 CONFIG-14", "certificates that are no array", "FORM", "malformed")


BELOW = "config-below-policy"


def _of_version_1(cohort: ChainedCohort, first: Certificate) -> Test:
    """Its Invitation has no field for certificates."""
    case = ChainCase("chain", cohort, 0)
    _, _, *rest = wire.unpack(cohort.behind(first), depth=2)
    case.join(wire.pack([1, 1, *rest]))
    return case.test("CHAIN-7 CONFIG-14", "certificates in an Invitation of version 1", "FORM", "malformed")


def _settled(cohorts: dict[str, ChainedCohort]) -> Iterator[Test]:
    """R-CHAIN-10: what became of the round that the member answered in."""
    cohort, sparse, groups = cohorts["chain"], cohorts["sparse"], cohorts["groups"]
    played = sum(operation["round"] == 0 for operation in cohort.operations)
    near = sorted({*sparse.rounds[0].clients[INDEX].peers} & {*sparse.rounds[0].server.shared})
    (far,) = {*range(6)} - {*sparse.rounds[0].clients[INDEX].neighbours, INDEX}
    mine = sparse.aborted
    own = next(group for group in (0, 1) if INDEX in groups.rounds[0].server.included(group))
    fellows = [member for member in groups.rounds[0].server.included(own) if member != INDEX]
    grouped = groups.certificate(0)
    others = [opened for opened in grouped.sums if opened[0] != own]
    first = cohort.certificate(0)
    fewer = cohort.set([0, 1, 2, 4])

    def case(
        setup: str, certificate: Certificate, comment: str, error: str = "", requirement: str = "CHAIN-10"
    ) -> Test:
        made = ChainCase(setup, cohorts[setup], played if setup == "chain" else None)
        made.join(cohorts[setup].behind(certificate))
        end = " CONFIG-14" if error else ""
        return made.test(requirement + end, comment, "FAKE_ABORT" if error else "", error)

    refused = "chain-unsettled"
    silent = ChainCase("chain", cohort, played)
    silent.join(cohort.invitation(NONE, []))
    yield silent.test("CHAIN-10 CONFIG-14", "not a word of the round", "FAKE_ABORT", refused)
    yield case("chain", first, "a sum with the member in it")
    unchained = cohort.resigned(first, nonce=labelled("another round", 32), encoded=_unchained(first.config))
    yield case("chain", unchained, "the certificate of another round", refused)
    four = cohort.resigned(
        first,
        survivors=fewer,
        sums=[[0, fewer, first.sums[0][2]]],
        lost=[["MASK", cohort.set([3])]],
        signers=fewer,
        signatures=_without(first.signatures, 3),
    )
    yield case("chain", four, "a sum of other survivors", refused)
    yield case("chain", cohort.aborted(), "an abort that nobody states", refused)
    yield case("chain", cohort.aborted(silent=(0, 1)), "an abort that t - 1 neighbours state", refused)
    yield case("chain", cohort.aborted(silent=(0, 1, 4)), "an abort that t neighbours state")
    yield case("chain", cohort.aborted(silent=(0, 1, 3, 4)), "an abort that all neighbours state")
    early = {"survivors": b"", "signers": b"", "signatures": b"", "ended": ["MASK", 3, b"", b""]}
    yield case("chain", cohort.aborted(silent=(0, 1, 4), **early), "an abort that is said to be from before S")
    yield case("chain", cohort.aborted(silent=(0, 1, 2)), "the member's own statement does not count", refused)
    forged = cohort.aborted(silent=(0, 1, 4))
    wrong = cohort.resigned(forged, statements=put(forged.statements, 64, 1, bytes(64)))
    yield case("chain", wrong, "a statement that nobody made", refused)
    wrong = cohort.resigned(forged, statements=swapped(forged.statements, 64))
    yield case("chain", wrong, "two statements exchanged", refused)
    yield case("sparse", mine(silent=near), "an abort that t neighbours state, on a ring")
    yield case("sparse", mine(silent=[*near[:2], far]), "a statement of no neighbour", refused)
    yield case("sparse", mine(silent=[*near[:2], MISSING]), "a statement of who dealt no shares", refused)
    more, place = mine(silent=[*near, far]), sorted([*near, far]).index(far)
    wrong = sparse.resigned(more, statements=put(more.statements, 64, place, bytes(64)))
    yield case("sparse", wrong, "the statement of no neighbour is not looked at")
    yield case("groups", grouped, "a sum of the member's group")
    lost = groups.resigned(grouped, sums=others)
    yield case("groups", lost, "a sum of another group alone", refused)
    stated = groups.resigned(grouped, sums=others, **groups.silence(0, fellows))
    yield case("groups", stated, "a sum of another group, and its own group states that it did not answer")
    gone = next(member for member in grouped.members(others[0][1]))
    rest = [member for member in range(8) if member != gone]
    signers = [member for member in grouped.members(grouped.signers) if member != gone]
    confirmed = dict(groups.rounds[0].server.confirmations)
    smaller = groups.resigned(
        stated,
        survivors=groups.set(rest),
        sums=[[others[0][0], groups.set({*grouped.members(others[0][1])} - {gone}), others[0][2]]],
        lost=[["MASK", groups.set([gone])]],
        signers=groups.set(signers),
        signatures=b"".join(confirmed[signer] for signer in signers),
    )
    yield case("groups", smaller, "statements, and other survivors than the member confirmed", refused)


# Answers and statements.


def _answered(cohorts: dict[str, ChainedCohort]) -> Iterator[Test]:
    cohort = cohorts["chain"]
    places = [place for place, operation in enumerate(cohort.operations) if operation["round"] == 0]
    done, confirmed = len(places), len(places) - 1
    confirmations = bytes.fromhex(cohort.messages[cohort.operations[confirmed]["message"]])
    unsettled, disclaimed = "chain-unsettled", "chain-disclaimed"

    case = ChainCase("chain", cohort, confirmed)
    case.suspend()
    case.resume()
    case.get(confirmations)
    yield case.test("CHAIN-11", "stored and resumed: the answer is the same")

    case = ChainCase("chain", cohort, confirmed)
    case.join(cohort.behind(cohort.aborted()), 1)
    case.get(confirmations)
    yield case.test("CHAIN-11", "it joined the next round before it answered", "LATE_ANSWER", unsettled)

    case = ChainCase("chain", cohort, 0)
    case.replay(cohort.operations[:confirmed])
    case.replay(cohort.twin[:-1])
    case.replay(cohort.operations[confirmed:done])
    case.get(bytes.fromhex(cohort.messages[cohort.twin[-1]["message"]]), cohort.twin[-1]["round"])
    yield case.test("CHAIN-11", "two rounds behind one certificate", "LATE_ANSWER", unsettled)

    case = ChainCase("chain", cohort, confirmed)
    case.suspend()
    case.disclaim()
    case.resume()
    case.get(confirmations)
    yield case.test("CHAIN-12", "it stated that it did not answer", "LATE_ANSWER", disclaimed)

    case = ChainCase("chain", cohort, 0)
    case.replay(cohort.operations[:confirmed])
    case.replay(cohort.twin[:-1])
    case.replay(cohort.operations[confirmed:done])
    case.abort(cohort.twin[-1]["round"])
    case.disclaim(cohort.twin[-1]["round"])
    yield case.test("CHAIN-12", "a statement about another round than the one that it answered in")

    case = ChainCase("chain", cohort, confirmed)
    case.abort()
    case.disclaim()
    case.disclaim()
    yield case.test("CHAIN-12", "the same statement twice")

    case = ChainCase("chain", cohort, confirmed)
    case.abort()
    case.disclaim()
    case.join(cohort.behind(cohort.aborted()), 1)
    yield case.test("CHAIN-10 CHAIN-12", "a member that did not answer goes on behind any abort")

    case = ChainCase("chain", cohort, confirmed)
    case.disclaim()
    yield case.test("CHAIN-12", "a statement in a round that goes on", "LATE_ANSWER", "state")

    case = ChainCase("chain", cohort, 2)
    case.abort()
    case.disclaim()
    yield case.test("CHAIN-12", "a statement before the roster came", "LATE_ANSWER", "state")

    case = ChainCase("chain", cohort, done)
    case.abort()
    case.disclaim()
    yield case.test("CHAIN-12", "a statement of who has answered", "FAKE_ABORT", "state")


def _receipts(cohorts: dict[str, ChainedCohort]) -> Iterator[Test]:
    cohort, groups = cohorts["chain"], cohorts["groups"]
    played = sum(operation["round"] == 0 for operation in cohort.operations)
    first, total = cohort.certificate(0), cohort.total(0)
    second = cohort.certificate(1, first)
    told = first.to_bytes()
    renamed = cohort.resigned(first, name="another")
    unsettled = "chain-unsettled"

    def at(after: int = played, setup: str = "chain") -> ChainCase:
        return ChainCase(setup, cohorts[setup], after if setup == "chain" else None)

    case = at()
    receipt = case.receipt(told, total)
    case.receipt(told, total)
    case.join(cohort.behind(first))
    yield case.test("CHAIN-14 CHAIN-15", "a receipt, the same again, and the certificate that it is for")
    case = at()
    case.receipt(told, total)
    case.receipt(renamed.to_bytes(), total)
    yield case.test("CHAIN-15", "a receipt for another certificate of the round", "RECEIPT", "state")
    case = at()
    case.receipt(told, total)
    case.join(cohort.behind(renamed))
    yield case.test("CHAIN-15 CONFIG-14", "another certificate than the receipt is for", "RECEIPT", unsettled)
    case = at()
    case.receipt(told, total)
    case.join(cohort.behind(cohort.aborted(silent=(0, 1, 4))))
    yield case.test("CHAIN-15 CONFIG-14", "an abort, after a receipt for the sum", "RECEIPT", unsettled)
    case = at(0)
    case.receipt(told, total)
    yield case.test("CHAIN-14", "a receipt of who has not answered", "RECEIPT", "state")
    another = [*total[:-1], (total[-1] + 1) % cohort.config.modulus]
    four = cohort.set([0, 1, 2, 4])
    others: dict[str, tuple[bytes, list[int], int]] = {
        "another total": (told, another, 0),
        "the total of another group": (told, total, 1),
        "no certificate": (told[:-1], total, 0),
        "a certificate of another server": (first.signed_by(labelled("another server", 32)).to_bytes(), total, 0),
        "a round without a sum": (cohort.aborted().to_bytes(), total, 0),
        "a round that the member did not answer in": (second.to_bytes(), cohort.total(1), 0),
        "a confirmation that nobody made": (
            cohort.resigned(first, signatures=put(first.signatures, 64, 1, bytes(64))).to_bytes(),
            total,
            0,
        ),
        "other survivors": (
            cohort.resigned(
                first,
                survivors=four,
                sums=[[0, four, first.sums[0][2]]],
                lost=[["MASK", cohort.set([3])]],
                signers=four,
                signatures=_without(first.signatures, 3),
            ).to_bytes(),
            total,
            0,
        ),
    }
    for comment, (certificate, handed, number) in others.items():
        case = at()
        case.receipt(certificate, handed, number)
        yield case.test("CHAIN-14", comment, "RECEIPT", "invalid")
    case = at(setup="groups")
    own = next(group for group in (0, 1) if INDEX in groups.rounds[0].server.included(group))
    case.receipt(groups.certificate(0).to_bytes(), groups.total(0, own), own)
    yield case.test("CHAIN-14", "a receipt for the total of a group")
    yield from _read_receipts(cohort, told, receipt)


def _receipt(cohort: ChainedCohort, certificate: Certificate, member: int) -> bytes:
    """A member's, for the sum of a round without groups."""
    session, [[_, _, digest]] = certificate.session, certificate.sums
    signed = certificate.config.labels.signed_receipt(session, 0, digest)
    return wire.pack([1, session, 0, digest, member, primitives.sign(cohort.seeds[member], signed)])


def _read_receipts(cohort: ChainedCohort, told: bytes, receipt: bytes) -> Iterator[Test]:
    """R-CHAIN-16."""
    values = wire.unpack(receipt)

    def changed(place: int, value: Any) -> bytes:
        return wire.pack([*values[:place], value, *values[place + 1 :]])

    case = ChainCase("chain", cohort, 0)
    case.read([told], [receipt])
    yield case.test("CHAIN-16", "a receipt that holds")
    first = cohort.certificate(0)
    second = cohort.certificate(1, first)
    case = ChainCase("chain", cohort, 0)
    case.read([told, second.to_bytes()], [_receipt(cohort, second, 4)])
    yield case.test("CHAIN-16", "a receipt for the second round of a chain")
    semi_honest = cohort.resigned(first, encoded=_semi_honest(first.config), signers=b"", signatures=b"")
    case = ChainCase("chain", cohort, 0)
    case.read([semi_honest.to_bytes()], [_receipt(cohort, semi_honest, INDEX)])
    yield case.test("CHAIN-16", "a receipt for a round whose members have no keys", "RECEIPT", "invalid")
    server = cohort.rounds[0].server
    lie = labelled("another total", 32)
    lied = primitives.sign(cohort.seeds[INDEX], server.labels.signed_receipt(server.session, 0, lie))
    for comment, bad in {
        "another session": changed(1, bytes(32)),
        "another group": changed(2, 1),
        "another digest": changed(3, lie),
        "a digest that the certificate has not": wire.pack([*values[:3], lie, INDEX, lied]),
        "another member": changed(4, 1),
        "no member": changed(4, 5),
        "a bit of the signature": changed(5, flipped(values[5], 0)),
    }.items():
        case = ChainCase("chain", cohort, 0)
        case.read([told], [bad])
        yield case.test("CHAIN-16", f"a receipt with {comment}", "RECEIPT", "invalid")
    for comment, bad in {
        "another form": changed(0, 2),
        "a longer header": b"\xdc\x00\x06" + receipt[1:],
        "a byte behind the end": receipt + b"\x00",
        "an element too few": wire.pack(values[:-1]),
        "a group beyond four bytes": changed(2, 2**32),
    }.items():
        case = ChainCase("chain", cohort, 0)
        case.read([told], [bad])
        yield case.test("CHAIN-14 CHAIN-16", f"a receipt with {comment}", "FORM", "invalid")
