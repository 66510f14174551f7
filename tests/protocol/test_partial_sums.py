"""MASK on more workers than one: who adds which vector makes no difference, and no vector counts twice."""

from __future__ import annotations

import hashlib
import pickle
import random
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import (
    AbortCode,
    Accepted,
    Admitted,
    AlreadyMasked,
    ErrorCode,
    InHand,
    Late,
    Merged,
    Misbehaved,
    Modulus,
    ParameterError,
    PartialSum,
    RoundConfig,
    Server,
    StateError,
    ThreatModel,
    UsageError,
)
from secagg.pairwise import messages
from secagg.pairwise.messages import MaskedInput
from secagg.pairwise.partial import most_bytes
from secagg.testing.strategies import LENGTHS, MODULI
from tests.support.envelopes import packed, polynomial_sizes
from tests.support.sharded import offer, shared_out, take
from tests.support.staging import MODELS, Stage, active, semi_honest

SESSION = hashlib.sha256(b"a session").digest()
GROUPED = {"clients": 12, "version": 2, "groups": 2, "min_group": 4, "neighbours": "auto"}
ENVELOPES = {"clients": 6, "version": 2, "carrier": "lattice", "length": 70, "modulus": None, "input_max": 1000}
KINDS: dict[str, Callable[[], RoundConfig]] = {
    "semi_honest": lambda: semi_honest(6),
    "active": lambda: active(6),
    "prime": lambda: semi_honest(6, modulus=Modulus(2**19 + 21)),
    "groups": lambda: semi_honest(**GROUPED),
    "envelopes": lambda: semi_honest(**ENVELOPES),
    "groups of envelopes": lambda: semi_honest(**{**ENVELOPES, **GROUPED}),
}


# Any split, any order: held against Python integers.


class Parts:
    """Some messages, spread over partial sums that are merged in a drawn order, some of them by way of their bytes."""

    def __init__(self, config: RoundConfig, data: st.DataObject, vectors: list[bytes]) -> None:
        self.config, self.data = config, data
        places = st.lists(st.integers(0, 4), min_size=len(vectors), max_size=len(vectors))
        self.place_of = data.draw(places, label="who takes whose")
        self.partials = [PartialSum(config, SESSION, f"number {place}") for place in range(5)]
        order = data.draw(st.permutations(range(len(vectors))), label="arrival")
        for sender in order:
            message = messages.encode(MaskedInput(config.version, SESSION, memoryview(vectors[sender])))
            assert self.partials[self.place_of[sender]].add(sender, message) == Accepted(sender, "MASK")

    def merged(self) -> PartialSum:
        left = list(self.partials)
        while len(left) > 1:
            one = left.pop(self.data.draw(st.integers(0, len(left) - 1), label="one"))
            other = left.pop(self.data.draw(st.integers(0, len(left) - 1), label="other"))
            if self.data.draw(st.booleans(), label="as bytes"):
                other = PartialSum.from_bytes(other.to_bytes())
            one.merge(other)
            left.append(one)
        return PartialSum.from_bytes(left[0].to_bytes())


@settings(max_examples=40)
@given(st.data())
def test_any_split_merged_in_any_order_is_the_plain_sum(data: st.DataObject) -> None:
    modulus, length = data.draw(st.sampled_from(MODULI)), data.draw(st.sampled_from(LENGTHS))
    clients = data.draw(st.integers(3, 9))
    config = RoundConfig.for_cohort(clients, length, gamma=0, delta=0, neighbours="complete", modulus=modulus)
    edges = st.sampled_from((0, modulus.value - 1, modulus.value // 2)) | st.integers(0, modulus.value - 1)
    vectors = data.draw(st.lists(st.lists(edges, min_size=length, max_size=length), min_size=clients, max_size=clients))
    parts = Parts(config, data, [packed(vector, modulus.bits) for vector in vectors])
    whole = parts.merged()
    expected = [sum(column) % modulus.value for column in zip(*vectors, strict=True)]
    assert [lane % modulus.value for lane in whole.sums.total.tolist()] == expected
    assert whole.members == tuple(range(clients))
    assert {name: sorted(members) for name, members in whole.parts.items()} == {
        f"number {place}": [sender for sender in range(clients) if parts.place_of[sender] == place]
        for place in range(5)
    }


@settings(max_examples=5)
@given(st.data())
def test_any_split_of_envelopes_is_the_sum_modulo_every_prime(data: st.DataObject) -> None:
    config = KINDS["envelopes"]()
    parameters = config.envelope
    assert parameters is not None
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    widths = [
        (prime, sent)
        for sent in polynomial_sizes(parameters)
        for prime in parameters.primes  # type: ignore[arg-type]
    ]
    keys = [[rng.randrange(config.masked_modulus.value) for _ in range(parameters.degree)] for _ in range(5)]
    residues = [[[rng.randrange(prime) for _ in range(sent)] for prime, sent in widths] for _ in range(5)]
    vectors = [
        packed(key, config.masked_modulus.bits)
        + b"".join(packed(part, prime.bit_length()) for part, (prime, _) in zip(envelope, widths, strict=True))
        for key, envelope in zip(keys, residues, strict=True)
    ]
    sums = Parts(config, data, vectors).merged().sums
    mask = config.masked_modulus.value - 1
    assert [lane & mask for lane in sums.total.tolist()] == [sum(column) & mask for column in zip(*keys, strict=True)]
    expected = [
        sum(column) % prime
        for place, (prime, _) in enumerate(widths)
        for column in zip(*(envelope[place] for envelope in residues), strict=True)
    ]
    assert sums.envelopes.tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_whose_vectors_were_taken_apart_has_the_plain_sum(kind: str) -> None:
    """Some come to the server itself, some to partial sums; one is merged as bytes, and one into another one before."""
    config = KINDS[kind]()
    stage = Stage(config).play("MASK")
    server, answers = stage.server, stage.answers()
    own, *split = shared_out(answers, lambda sender: sender % 4, 4)
    first, second, third = take(server, split)
    stage.deliver(own)
    assert set(server.missing) == set(server.in_hand) == set(answers) - set(own)
    assert server.merge(first.to_bytes()) == Merged(first.members)
    second.merge(third)
    assert server.merge(second) == Merged(second.members)
    assert not server.missing
    assert not server.in_hand
    stage.close()
    result = stage.finish()
    assert result.included == tuple(sorted(answers))
    assert result.sum.tolist() == stage.plain_sum(result.included)
    alone = Stage(config).finish()
    assert result.transcript_digest == alone.transcript_digest


# Who is in is decided once.


@pytest.fixture
def stage() -> Stage:
    """Five clients of whom two may be lost, before their masked inputs."""
    return Stage(semi_honest(5, delta=0.4)).play("MASK")


def test_an_input_is_in_one_hand_at_a_time(stage: Stage) -> None:
    server, answers = stage.server, stage.answers()
    one, other = server.open_partial(), server.open_partial()
    assert offer(server, one, 1, answers[1]) == Accepted(1, "MASK")
    in_hand = InHand(1, one.name)
    assert offer(server, other, 1, answers[1]) == in_hand
    assert offer(server, one, 1, answers[1]) == in_hand
    assert server.receive(1, answers[1]).event == in_hand
    assert server.receive(2, answers[2]).event == Accepted(2, "MASK")
    assert offer(server, one, 2, answers[2]) == AlreadyMasked(2)
    assert server.merge(one) == Merged((1,))
    assert server.receive(1, answers[1]).event == offer(server, other, 1, answers[1]) == AlreadyMasked(1)
    assert one.add(1, answers[1]) == AlreadyMasked(1)


def test_a_damaged_message_takes_no_input_out_of_a_partial_sum(stage: Stage) -> None:
    """Otherwise one client could have a whole partial sum refused, after its own input went into it."""
    server, answers = stage.server, stage.answers()
    (partial,) = take(server, [{0: answers[0], 1: answers[1]}])
    assert isinstance(offer(server, partial, 1, answers[1][:-1] + b"\xc1"), Misbehaved | InHand)
    assert isinstance(offer(server, partial, 1, b"\xc1"), Misbehaved)
    assert {blame.sender for blame in server.blame} == {1}
    assert server.merge(partial) == Merged((0, 1))


def test_a_partial_sum_counts_once(stage: Stage) -> None:
    server, answers = stage.server, stage.answers()
    (partial,) = take(server, [{0: answers[0], 1: answers[1]}])
    copy = pickle.loads(pickle.dumps(partial))
    server.merge(partial)
    before = server.snapshot()
    for again in (partial, copy, partial.to_bytes()):
        with pytest.raises(ParameterError, match=f"no partial sum '{partial.name}' is open: it was merged or dropped"):
            server.merge(again)
    assert server.snapshot() == before


def test_partial_sums_that_overlap_are_not_merged(stage: Stage) -> None:
    server, answers = stage.server, stage.answers()
    one, other = take(server, [{0: answers[0]}, {1: answers[1]}])
    other.add(0, answers[0])  # without being asked
    before = one.to_bytes(), other.to_bytes(), server.snapshot()
    with pytest.raises(ParameterError, match="both hold the input of client 0"):
        one.merge(other)
    with pytest.raises(ParameterError, match=f"both hold the partial sum {one.name}"):
        one.merge(pickle.loads(pickle.dumps(one)))
    with pytest.raises(ParameterError, match=f"client 0 is in the partial sum {other.name}, and was not admitted"):
        server.merge(other)
    assert (one.to_bytes(), other.to_bytes(), server.snapshot()) == before


def test_partial_sums_of_other_rounds_are_not_merged(stage: Stage) -> None:
    server = stage.server
    partial = server.open_partial()
    strangers = [
        Stage(stage.config, seed=2).play("MASK").server.open_partial(),
        PartialSum(stage.config.replace(eta=41), partial.session, partial.name),
    ]
    for stranger in strangers:
        for merge in (server.merge, partial.merge):
            with pytest.raises(ParameterError, match="partial sums of one round"):
                merge(stranger)


# What is lost with a worker.


def test_the_clients_of_a_dropped_partial_sum_are_awaited_again(stage: Stage) -> None:
    server, answers = stage.server, stage.answers()
    gone, other = take(server, [{0: answers[0], 1: answers[1]}, {2: answers[2]}])
    assert server.drop_partial(gone.name) == (0, 1)
    assert set(server.missing) == set(answers)
    assert dict(server.in_hand) == {2: other.name}
    assert offer(server, other, 0, answers[0]) == Accepted(0, "MASK")  # the host had kept the message
    with pytest.raises(ParameterError, match="dropped"):
        server.merge(gone)  # its worker was alive after all
    with pytest.raises(ParameterError, match="dropped"):
        server.drop_partial(gone.name)
    with pytest.raises(ParameterError, match="dropped"):
        server.admit(1, answers[1], gone.name)
    assert server.merge(other) == Merged((0, 2))
    stage.deliver({3: answers[3]})
    stage.close()
    result = stage.finish()
    assert result.included == (0, 2, 3)
    assert result.dropped == {"MASK": (1, 4)}
    assert result.sum.tolist() == stage.plain_sum((0, 2, 3))


def test_who_was_admitted_and_is_not_in_the_sum_is_awaited_again(stage: Stage) -> None:
    server, answers = stage.server, stage.answers()
    (partial,) = take(server, [{0: answers[0]}])
    assert server.admit(3, answers[3], partial.name).event == Admitted(3, partial.name)
    assert server.merge(partial) == Merged((0,), awaited=(3,))
    assert set(server.missing) == {1, 2, 3, 4}
    assert server.receive(3, answers[3]).event == Accepted(3, "MASK")


def test_what_did_not_arrive_before_the_close_is_lost_and_said_to_be(stage: Stage) -> None:
    server, answers = stage.server, stage.answers()
    (late,) = take(server, [{0: answers[0], 1: answers[1]}])
    stage.deliver({2: answers[2], 3: answers[3], 4: answers[4]})
    assert set(server.missing) == {0, 1}
    stage.close()
    assert server.dropped == {"MASK": (0, 1)}
    for call in (lambda: server.merge(late), lambda: server.drop_partial(late.name), server.open_partial):
        with pytest.raises(StateError, match="not possible in state UNMASK"):
            call()
    assert server.admit(0, answers[0], late.name).event == Late(0, "MASK")
    result = stage.finish()
    assert result.sum.tolist() == stage.plain_sum((2, 3, 4))


def test_a_round_that_ends_for_it_says_why(stage: Stage) -> None:
    server, answers = stage.server, stage.answers()
    take(server, [{0: answers[0], 1: answers[1], 2: answers[2]}])
    stage.deliver({3: answers[3]})
    stage.close()
    assert server.failure is not None
    assert server.failure.reason.startswith(
        "1 client sent its masked vector (3 were in partial sums that did not arrive, 1 did not answer)"
    )
    assert not server.in_hand


def test_a_client_that_leaves_behind_its_input_is_in_the_sum(stage: Stage) -> None:
    """R-MASK-9: it was admitted before it left, and nobody can take it out of a sum again."""
    server, answers = stage.server, stage.answers()
    (partial,) = take(server, [{0: answers[0]}])
    server.receive(0, stage.clients[0].abort(AbortCode.CANCELLED))
    stage.deliver({index: answers[index] for index in (1, 2, 3, 4)})
    assert server.merge(partial) == Merged((0,))
    stage.close()
    assert server.phase == "UNMASK"
    result = stage.finish()
    assert result.included == (0, 1, 2, 3, 4)
    assert result.sum.tolist() == stage.plain_sum(range(5))


# What a worker refuses.


def test_a_client_whose_input_was_refused_may_send_the_right_one(stage: Stage) -> None:
    server, answers = stage.server, stage.answers()
    one, other = server.open_partial(), server.open_partial()
    bad = messages.encode(MaskedInput(1, one.session, memoryview(bytes(3))))
    event = offer(server, one, 1, bad)
    assert isinstance(event, Misbehaved)
    assert (event.sender, event.phase, event.code) == (1, "MASK", ErrorCode.WRONG_LENGTH)
    assert [(entry.sender, entry.code) for entry in server.blame] == [(1, ErrorCode.WRONG_LENGTH)]
    assert not one.members
    assert offer(server, other, 1, answers[1]) == Accepted(1, "MASK")
    server.refuse(event, one.name)  # once more, and late: the input is another worker's now
    assert dict(server.in_hand) == {1: other.name}
    assert len(server.blame) == 1


def test_a_bad_envelope_is_refused_and_leaves_the_sums_as_they_were() -> None:
    """R-ENV-7, at a worker."""
    stage = Stage(KINDS["envelopes"]()).play("MASK")
    answers = stage.answers()
    (partial,) = take(stage.server, [{0: answers[0]}])
    before = partial.to_bytes()
    event = offer(stage.server, partial, 1, answers[1][:-200] + b"\xff" * 200)
    assert isinstance(event, Misbehaved)
    assert event.code is ErrorCode.ELEMENT_RANGE
    assert partial.to_bytes() == before


@pytest.mark.parametrize("sender", [-1, 5, True, None])
def test_a_worker_knows_no_strangers(stage: Stage, sender: Any) -> None:
    partial, answers = stage.server.open_partial(), stage.answers()
    event = offer(stage.server, partial, sender, answers[1])
    assert event == stage.server.receive(sender, answers[1]).event == partial.add(sender, answers[1])
    assert isinstance(event, Misbehaved)
    assert event.code is ErrorCode.UNKNOWN_SENDER
    assert stage.server.blame == ()


def test_a_header_is_small_and_brings_other_messages_whole(stage: Stage) -> None:
    partial, answers = stage.server.open_partial(), stage.answers()
    header = partial.header(0, answers[0])
    assert isinstance(header, bytes)
    assert len(header) <= 40
    abort = stage.clients[1].abort(AbortCode.CANCELLED)
    assert partial.header(1, abort) == abort
    with pytest.raises(ParameterError, match="a message Abort, and no masked input"):
        partial.add(1, abort)


def test_what_a_host_gives_wrongly_is_refused(stage: Stage) -> None:
    server = stage.server
    with pytest.raises(ParameterError, match="no partial sum 'another' is open"):
        server.admit(0, b"", "another")
    with pytest.raises(UsageError, match="admit: data is str"):
        server.admit(0, "text", server.open_partial().name)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="refuse: Accepted"):
        server.refuse(Accepted(0, "MASK"), "")  # type: ignore[arg-type]


@pytest.mark.parametrize("phase", ["ADVERTISE", "SHARE", "UNMASK", "COMPUTE"])
def test_partial_sums_are_for_mask(phase: str) -> None:
    server = Stage(semi_honest(4)).play(phase).server
    before = server.snapshot()
    with pytest.raises(StateError, match=f"open_partial: not possible in state {phase}"):
        server.open_partial()
    assert server.snapshot() == before


# Snapshots and bytes.


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_a_restored_server_merges_what_was_open(threat_model: ThreatModel) -> None:
    stage = Stage(MODELS[threat_model](6)).play("MASK")
    answers = stage.answers()
    first, second, third = take(stage.server, shared_out(answers, lambda sender: sender % 3, 3))
    stage.server.merge(first)
    stage.server = Server.restore(stage.server.snapshot(), **stage.trust)
    assert set(stage.server.in_hand) == {1, 2, 4, 5}
    stage.server.merge(PartialSum.from_bytes(second.to_bytes()))
    stage.server = Server.restore(stage.server.snapshot(), **stage.trust)
    stage.server.merge(third)
    stage.close()
    assert stage.finish().sum.tolist() == stage.plain_sum(range(6))


def test_what_was_opened_after_the_snapshot_is_not_merged(stage: Stage) -> None:
    """Its clients are taken again, from the journal or from themselves, under another name."""
    answers, snapshot = stage.answers(), stage.server.snapshot()
    (partial,) = take(stage.server, [{0: answers[0]}])
    restored = Server.restore(snapshot)
    restored.open_partial()
    with pytest.raises(ParameterError, match="opened after the snapshot"):
        restored.merge(partial)
    assert set(restored.missing) == set(answers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_partial_sum_goes_on_from_its_bytes(kind: str) -> None:
    stage = Stage(KINDS[kind]()).play("MASK")
    answers = stage.answers()
    (partial,) = take(stage.server, [answers])
    empty = PartialSum(partial.config, partial.session, partial.name, partial.group_numbers)
    for sender, message in answers.items():
        empty = PartialSum.from_bytes(empty.to_bytes())
        assert empty.add(sender, message) == Accepted(sender, "MASK")
    assert empty.to_bytes() == partial.to_bytes()
    assert len(partial.to_bytes()) <= most_bytes(partial.config)
    assert stage.server.merge(empty) == Merged(tuple(sorted(answers)))


def test_the_bytes_of_nobody_are_few(stage: Stage) -> None:
    """A server opens a partial sum for a worker elsewhere without sending it a vector of zeros."""
    long = PartialSum(stage.config.replace(length=10**6), SESSION, "a name")
    assert len(long.to_bytes()) < 1000


def resigned(data: bytes) -> bytes:
    return hashlib.sha256(data).digest() + data


def changed(partial: PartialSum, **fields: Any) -> bytes:
    values = msgspec.msgpack.decode(partial.to_bytes()[32:])
    for name, value in fields.items():
        values[int(name.removeprefix("field_"))] = value
    return resigned(msgspec.msgpack.encode(values))


@pytest.fixture
def pair() -> PartialSum:
    """The partial sum of two clients."""
    stage = Stage(semi_honest(4, modulus=Modulus(2**19 + 21))).play("MASK")
    (partial,) = take(stage.server, [stage.answers((0, 1))])
    return partial


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"field_0": 2}, "of version 2"),
        ({"field_1": b"no config"}, "config"),
        ({"field_3": []}, "0 names"),
        ({"field_3": [["a", b"\x00\x00\x00\x00"], ["a", b"\x01\x00\x00\x00"]]}, "twice"),
        ({"field_3": [["a", b"\x00\x00\x00\x00\x00\x00\x00\x00"]]}, "twice"),
        ({"field_3": [["a", b"\x04\x00\x00\x00"]]}, "client 4 is in them"),
        ({"field_3": [["a", b"\x00"]]}, "buffer size"),
        ({"field_5": b""}, "other groups"),
        ({"field_6": []}, "0 bytes of a sum; 20 are needed"),
        ({"field_6": [bytes(20), b""]}, "more sums follow"),
        ({"field_6": [b"\xff" * 20]}, "an element of a sum is 4294967295: it must be below"),
        ({"field_6": [bytes(100_000)]}, "too many"),
    ],
    ids=str,
)
def test_bytes_of_another_form_are_refused(pair: PartialSum, fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ParameterError, match=f"these bytes are no partial sum: .*{why}"):
        PartialSum.from_bytes(changed(pair, **fields))


@given(st.data())
def test_damaged_bytes_are_refused(data: st.DataObject) -> None:
    whole = bytes(PartialSum(semi_honest(4), SESSION, "a name").to_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    for damaged in (flipped, whole[:place], whole + b"\x00", resigned(whole[32 : 33 + place][:-1])):
        with pytest.raises(ParameterError, match="these bytes are no partial sum"):
            PartialSum.from_bytes(damaged)


def test_no_vector_shows(pair: PartialSum) -> None:
    assert repr(pair) == f"<PartialSum {pair.name[:8]}: of 2 clients>"
    assert repr(pair.sums) == "<MaskedSums of 2>"
    assert np.any(pair.sums.total)
