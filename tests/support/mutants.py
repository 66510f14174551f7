"""Clients with one rule taken out, each with an attack that then succeeds.

``PRIVACY`` are the rules that keep inputs shut: without them the ledger opens what it must not.  ``REST`` are those
without which a round hangs, sums wrongly, blames the wrong one, or falls over; their stories are told in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import pytest

from secagg import Client, ClientState, ErrorCode, Identity, Policy, RoundConfig, StateError, ThreatModel
from secagg.pairwise import messages, records, transcript
from secagg.pairwise.client import dealing, member
from secagg.pairwise.client.records import Confirmed, Masked
from secagg.pairwise.phases import HostCall
from secagg.pairwise.rules import client as client_rules
from secagg.pairwise.rules import server as server_rules
from secagg.pairwise.rules import wire as wire_rules
from secagg.pairwise.server import opening
from secagg.pairwise.transitions import ClientInput
from secagg.primitives.secret import Secret
from secagg.simulation import SeededRandomness
from secagg.testing.adversary import (
    Attack,
    ChooseNeighbours,
    DropFromSurvivors,
    ForgeSignatures,
    HideDealers,
    InviteAgain,
    Isolate,
    Lose,
    MixGroups,
    RepeatDealers,
    ResumeTwice,
    Seize,
    ShowAgain,
    ShowSurvivors,
    SubmitAgain,
    Surround,
    SwapKeys,
    forged,
    known_cohort,
)
from tests.support.attack_stage import active, around, ring_of

Patch = pytest.MonkeyPatch

RULE_MODULES: Final = {"wire": wire_rules, "client": client_rules, "server": server_rules}


@dataclass(frozen=True)
class Mutant:
    """A rule, how it is taken out, and an attack.

    Attributes:
        rule: its function, as ``secagg.pairwise.rules.table`` names it; for one that holds by construction, its
            requirement.
        remove: takes it out.
        attack: makes the attack.
        code: what the honest client says to it, an exception when it is its host that is told; None where the attack
            does not get anywhere without a refusal.
        opens: of how many clients' inputs the smallest thing is that opens.
    """

    rule: str
    remove: Callable[[Patch], None]
    attack: Callable[[], Attack]
    code: ErrorCode | type[Exception] | None
    opens: int


def instead_of(name: str, other: Callable[..., Any]) -> Callable[[Patch], None]:
    """Put another function in the place of a rule's."""
    module, function = name.split(".")
    return lambda patch: patch.setattr(RULE_MODULES[module], function, other)


def without(name: str) -> Callable[[Patch], None]:
    """Take a rule's function that returns nothing out."""
    return instead_of(name, lambda *given, **named: None)


# -- The invitation ----------------------------------------------------------------------------------------------------

SIX = active(6, 2, 1)
"""t = 4, Q = 5; the server has two colluders."""
SINGLED_OUT = (Isolate(victim=0, dropped=(1,)),)
LENIENT = Policy(threat_model=ThreatModel.ACTIVE)


def fewer_colluders(**options: Any) -> Attack:
    """A sound config for the same cohort that counts on no colluders: t = 3, Q = 4."""
    return Attack(SIX, SINGLED_OUT, colluders=(4, 5), sends=active(6, 0, 1), **options)


def unsound_config() -> Attack:
    """The agreed config with a threshold and a quorum that its own number of colluders rules out."""
    sends = forged(SIX, threshold=3, quorum=4, min_survivors=4)
    return Attack(SIX, SINGLED_OUT, colluders=(4, 5), sends=sends, approve=False, policy=LENIENT)


def take_any_config(patch: Patch) -> None:
    """A config is decoded without being checked."""

    def decode(data: bytes) -> RoundConfig:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(RoundConfig, "__post_init__", lambda config: None)
            return RoundConfig.from_bytes(data)

    patch.setattr(client_rules, "config_sound", lambda _, data, version: decode(data))
    patch.setattr(member, "decode_config", decode)
    patch.setattr(opening, "decode_config", decode)  # the lying server opens secrets with the library's own functions


@lru_cache(maxsize=1)
def sybils() -> tuple[dict[int, Identity], tuple[bytes, ...]]:
    """A cohort in which everybody but client 0 is the server."""
    made = {index: Identity.generate(SeededRandomness(9, f"sybil {index}")) for index in range(1, 6)}
    victim = known_cohort(6)[0][0]
    return made, (victim.public_key, *(made[index].public_key for index in range(1, 6)))


def sybil_cohort() -> Attack:
    identities, keys = sybils()
    config = active(6, 1, 1)
    sends = config.replace(cohort=transcript.cohort_digest(keys))
    return Attack(config, colluders=(1, 2, 3, 4, 5), identities=identities, sends=sends, approve=False, policy=LENIENT)


def vouch_for_anything(patch: Patch) -> None:
    """The cohort is taken from the server."""
    patch.setattr(client_rules, "cohort_vouched", lambda *given: sybils()[1])


def joined_twice() -> Attack:
    """Hosts lose their clients and join anew; of the second round's survivors one is left out."""
    return Attack(active(5, 1, 1), (InviteAgain(), DropFromSurvivors((0,), rejoined=True)), colluders=(4,))


# -- The roster --------------------------------------------------------------------------------------------------------

RING = active(14, 1, 2, 6)
"""t = 4, Q = 8, on a ring of fourteen with three neighbours on each side."""
TOY = active(30, 4, 0, 4, sigma=1, grinding_bits=0)
"""t = 4 of 4 neighbours: that four colluders surround somebody has probability 2^-9, and that is counted on."""


def two_cliques() -> Attack:
    return Attack(RING, (ChooseNeighbours((tuple(range(7)), tuple(range(7, 14)))),), colluders=(13,))


def surrounded() -> Attack:
    return Attack(TOY, (Surround(),), colluders=(0, 1, 2, 3))


@lru_cache(maxsize=1)
def swapped_keys() -> Attack:
    """The first seed with which four of five stolen places, or the colluder, are neighbours of one victim."""
    stolen, colluder = (8, 9, 10, 11, 12), 13
    for seed in range(64):
        attack = Attack(RING, (SwapKeys(stolen),), colluders=(colluder,), seed=seed)
        neighbours = attack.scout().neighbours
        for victim in range(8):
            if len({*stolen, colluder} & set(neighbours[victim])) >= RING.threshold:
                return Attack(RING, (SwapKeys(stolen), Isolate(victim, ())), colluders=(colluder,), seed=seed)
    raise AssertionError("no such seed")


# -- Shares and survivors ----------------------------------------------------------------------------------------------

SEVEN = active(7, 1, 2)
"""t = 4, Q = 5."""
EIGHT = active(8, 1, 1, min_survivors=7)
"""t = 5, Q = 5, and a sum of seven at least."""


def cut_off() -> Attack:
    return Attack(SEVEN, (HideDealers((1, 2, 3, 4, 5), to=(0,)),), colluders=(6,))


def one_dealer_many_times() -> Attack:
    return Attack(SEVEN, (RepeatDealers((6,), to=(0,)),), colluders=(6,))


def told_that_they_are_gone() -> Attack:
    """Four neighbours of the victim are dropped, and answer all the same."""
    plain = Attack(RING, colluders=(13,))
    ring = ring_of(plain)
    (victim,) = around(ring, 13, -1)
    return Attack(RING, (Isolate(victim, around(ring, victim, -3, -2, 2, 3)),), colluders=(13,))


def few_survivors() -> Attack:
    return Attack(EIGHT, (Lose((0, 1), "SHARE"),), colluders=(7,))


def masked_with_a_part() -> Attack:
    """Five clients hear nothing of two others, who are in the sum all the same."""
    return Attack(EIGHT, (HideDealers((5, 6), to=(0, 1, 2, 3, 4)),), colluders=(7,))


TWO_GROUPS = active(20, 1, 2, "auto", version=2, groups=2, min_group=9, sigma=1, grinding_bits=0)
"""Two groups of ten, t = 6, Q = 6, and a group's sum of nine at least: one colluder, whichever group it is in."""
PAIR_OF_SEVEN = active(14, 0, 2, "auto", version=2, groups=2, sigma=1, grinding_bits=0)
"""Two groups of seven, t = 4, Q = 4, a group's sum of five at least; nobody colludes."""


def group_around(attack: Attack, member: int) -> tuple[int, ...]:
    """The group that a member is drawn into in this attack, ascending."""
    return tuple(sorted(attack.scout().in_one_sum(member)))


def small_group() -> Attack:
    """Three members of a group are lost; the other group is whole, so that the cohort has survivors enough."""
    plain = Attack(TWO_GROUPS, colluders=(19,))
    lost = [member for member in group_around(plain, 19) if member != 19][:3]
    return Attack(TWO_GROUPS, (Lose(tuple(lost), "SHARE"),), colluders=(19,))


def confirmed_by_strangers() -> Attack:
    """As ``different_survivors``, in a group of seven: what its own quorum lacks, members of the other group sign."""
    plain = Attack(PAIR_OF_SEVEN)
    group = group_around(plain, 0)
    others = [member for member in range(14) if member not in group]
    shown = {}
    for place, dropped in DROPPED.items():
        survivors = tuple(sorted(set(range(14)) - {group[gone] for gone in dropped}))
        shown |= {group[place]: survivors, others[place]: survivors}
    return Attack(
        PAIR_OF_SEVEN, (*(ShowSurvivors(ids, to=(index,)) for index, ids in shown.items()), MixGroups(to=group))
    )


UNITED = active(7, 0, 2)
"""t = 4, Q = 4, a sum of five at least; nobody colludes."""
DROPPED = {0: (4, 5), 1: (5, 6), 2: (4, 6), 3: (4, 5), 4: (5, 6), 5: (4, 6), 6: (4, 5)}
SHOWN = {index: tuple(sorted(set(range(7)) - set(dropped))) for index, dropped in DROPPED.items()}
"""To each client another set: every one of 4, 5 and 6 is dropped in four of them, and 0 to 3 never."""


def different_survivors() -> Attack:
    return Attack(UNITED, tuple(ShowSurvivors(shown, to=(index,)) for index, shown in SHOWN.items()))


def forged_confirmations() -> Attack:
    forgeries = tuple(ForgeSignatures(shown, to=(index,)) for index, shown in SHOWN.items())
    return Attack(UNITED, (*different_survivors().lies, *forgeries))


def signed_again_and_again() -> Attack:
    """Everybody signs every set that it is in, and its own last."""
    sets = sorted(set(SHOWN.values()))
    lies = []
    for index, own in SHOWN.items():
        first, *further = *(shown for shown in sets if index in shown and shown != own), own
        lies += [ShowSurvivors(first, to=(index,)), ShowAgain(tuple(further), to=(index,))]
    return Attack(UNITED, tuple(lies))


# -- Rules by construction ---------------------------------------------------------------------------------------------


def copied(record: Any) -> Any:
    """A record with secrets of its own, which outlive the wiping of the first."""
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    return type(record)(**{name: Secret(v.reveal()) if isinstance(v, Secret) else v for name, v in values.items()})


def mask_again_and_again(patch: Patch) -> None:
    """R-MASK-5: the state is kept when the input is masked."""
    advance = Client._advance

    def kept(self: Client, given: ClientInput, record: Any) -> None:
        unmasked = copied(self._record) if given is HostCall.SUBMIT else None
        advance(self, given, record)
        if unmasked is not None:
            self._record, self._state = unmasked, ClientState.INPUT

    patch.setattr(Client, "_advance", kept)


def sign_again_and_again(patch: Patch) -> None:
    """R-SURVIVORS-6: another set of survivors is signed as well."""
    before: dict[int, Masked] = {}
    advance, receive = Client._advance, Client._receive

    def remembered(self: Client, given: ClientInput, record: Any) -> None:
        if given is messages.Survivors:
            before[id(self)] = copied(self._in(Masked))
        advance(self, given, record)

    def anew(self: Client, data: Any, *given: Any) -> Any:
        if isinstance(self._record, Confirmed) and isinstance(
            messages.to_client.decode(data, len(data), self.config.version), messages.Survivors
        ):
            self._record, self._state = copied(before[id(self)]), ClientState.MASKED
            self._seen.pop("Survivors")
        return receive(self, data, *given)

    patch.setattr(Client, "_advance", remembered)
    patch.setattr(Client, "_receive", anew)
    patch.setattr(client_rules, "survivors_once", lambda *given: None)


def reveal_both_kinds(patch: Patch) -> None:
    """R-UNMASK-2: whatever is asked for is revealed."""
    reveal, everybody = dealing.reveal, frozenset(range(SEVEN.clients))

    def both(pairs: bytes, dealers: Sequence[int], survivors: frozenset[int]) -> bytes:
        kinds = (reveal(pairs, dealers, asked_for) for asked_for in (everybody, frozenset()))
        by_dealer = zip(*(records.cut(kind, records.OPENING_BYTES) for kind in kinds), strict=True)
        return b"".join(opening for openings in by_dealer for opening in openings)

    patch.setattr(dealing, "reveal", both)


def keep_the_shares(patch: Patch) -> None:
    """R-UNMASK-3: the shares are not wiped."""
    advance = Client._advance

    def kept(self: Client, given: ClientInput, record: Any) -> None:
        shares = copied(self._record) if record.state is ClientState.DONE else None
        advance(self, given, record)
        self._record = record if shares is None else shares

    patch.setattr(Client, "_advance", kept)


PRIVACY = (
    Mutant(
        "client.config_approved", without("client.config_approved"), fewer_colluders, ErrorCode.CONFIG_NOT_APPROVED, 1
    ),
    Mutant("client.config_sound", take_any_config, unsound_config, ErrorCode.CONFIG_UNSOUND, 1),
    Mutant(
        "client.within_policy",
        without("client.within_policy"),
        lambda: fewer_colluders(approve=False, policy=Policy(threat_model=ThreatModel.ACTIVE, gamma=1 / 3)),
        ErrorCode.CONFIG_BELOW_POLICY,
        1,
    ),
    Mutant("client.cohort_vouched", vouch_for_anything, sybil_cohort, ErrorCode.COHORT_NOT_VOUCHED, 1),
    Mutant("client.not_joined_before", without("client.not_joined_before"), joined_twice, ErrorCode.ALREADY_JOINED, 1),
    Mutant("client.neighbours_drawn", without("client.neighbours_drawn"), two_cliques, ErrorCode.ROSTER_NEIGHBOURS, 6),
    Mutant("client.leaves_in_roster", without("client.leaves_in_roster"), surrounded, ErrorCode.ROSTER_PATH, 1),
    Mutant("client.keys_signed", without("client.keys_signed"), swapped_keys, ErrorCode.ROSTER_SIGNATURE, 1),
    Mutant("client.dealers_known", without("client.dealers_known"), one_dealer_many_times, ErrorCode.SHARES_DEALERS, 1),
    Mutant("client.dealers_enough", without("client.dealers_enough"), cut_off, ErrorCode.SHARES_TOO_FEW, 1),
    Mutant("R-MASK-5", mask_again_and_again, lambda: Attack(SEVEN, (SubmitAgain((0,)),)), StateError, 1),
    Mutant(
        "client.survivors_include_self",
        without("client.survivors_include_self"),
        told_that_they_are_gone,
        ErrorCode.SURVIVORS_SELF,
        1,
    ),
    Mutant(
        "client.survivors_enough", without("client.survivors_enough"), few_survivors, ErrorCode.SURVIVORS_TOO_FEW, 5
    ),
    Mutant(
        "client.survivors_shared",
        without("client.survivors_shared"),
        masked_with_a_part,
        ErrorCode.SURVIVORS_NOT_SHARED,
        5,
    ),
    Mutant(
        "client.group_survivors_enough",
        without("client.group_survivors_enough"),
        small_group,
        ErrorCode.SURVIVORS_TOO_FEW,
        6,
    ),
    Mutant(
        "client.signers_of_group",
        without("client.signers_of_group"),
        confirmed_by_strangers,
        ErrorCode.CONFIRM_SIGNERS,
        4,
    ),
    Mutant("client.survivors_once", sign_again_and_again, signed_again_and_again, ErrorCode.SURVIVORS_CHANGED, 4),
    Mutant(
        "client.signers_enough", without("client.signers_enough"), different_survivors, ErrorCode.CONFIRM_SIGNERS, 4
    ),
    Mutant(
        "client.signatures_valid",
        without("client.signatures_valid"),
        forged_confirmations,
        ErrorCode.CONFIRM_SIGNATURE,
        4,
    ),
    Mutant("R-UNMASK-2", reveal_both_kinds, lambda: Attack(SEVEN, colluders=(6,)), None, 1),
    Mutant("R-UNMASK-3", keep_the_shares, lambda: Attack(SEVEN, (Seize((0, 1, 2, 3, 4, 5)),), colluders=(6,)), None, 1),
    Mutant(
        "client.state_unused",
        without("client.state_unused"),
        lambda: Attack(SEVEN, (ResumeTwice((0,)),)),
        ErrorCode.STATE_REUSED,
        1,
    ),
)
