"""Every rule that the other side could break: what the specification calls it, and the attack that it stops.

The rows stand in the order of the protocol.  Tests compare them with the specification (every requirement that names a
refusal stands here, with its codes), with the code (every function stands here, cites its requirement, and is called),
and with the adversary (every function is taken away once, and the attack then succeeds).
"""

from __future__ import annotations

from enum import Flag, auto
from typing import Final, NamedTuple

from secagg.errors import ErrorCode


class Role(Flag):
    """Who keeps a rule against the other."""

    CLIENT = auto()
    SERVER = auto()
    BOTH = CLIENT | SERVER


class Rule(NamedTuple):
    """A refusal, or what is never done because of how the role is built."""

    requirements: tuple[str, ...]
    """What it carries out, by the ids of ``specs/secagg-v1.md`` and ``specs/secagg-v2.md``."""
    role: Role
    functions: tuple[str, ...]
    """What carries it out, as ``module.function`` in this package; empty for a rule that holds by construction."""
    codes: tuple[ErrorCode, ...]
    stops: str
    """What the other side gains without it."""


_EVERY_MESSAGE: Final = (
    Rule(
        ("R-WIRE-5",),
        Role.BOTH,
        ("wire.size_allowed",),
        (ErrorCode.TOO_LARGE,),
        "memory exhausted by one large message",
    ),
    Rule(
        ("R-WIRE-1", "R-WIRE-3"),
        Role.BOTH,
        ("wire.well_formed",),
        (ErrorCode.MALFORMED,),
        "bytes that make the receiver fail",
    ),
    Rule(
        ("R-WIRE-4", "R-VERSION-2"),
        Role.BOTH,
        ("wire.version_spoken",),
        (ErrorCode.WRONG_VERSION,),
        "a message of another version of the protocol, read by the rules of this one",
    ),
    Rule(
        ("R-VERSION-3",),
        Role.CLIENT,
        ("wire.config_of_version",),
        (ErrorCode.WRONG_VERSION,),
        "a config of another version of the protocol, taken for one that is unsound",
    ),
    Rule(
        ("R-WIRE-6",),
        Role.BOTH,
        ("wire.of_session",),
        (ErrorCode.WRONG_SESSION,),
        "messages of another round, or of another session of the same cohort",
    ),
    Rule(
        ("R-WIRE-8",),
        Role.BOTH,
        ("wire.not_conflicting",),
        (ErrorCode.CONFLICT,),
        "a second decision, or a second answer, in the place of the first",
    ),
    Rule(
        ("R-STATE-1", "R-STATE-2"),
        Role.BOTH,
        ("wire.in_phase",),
        (ErrorCode.WRONG_PHASE,),
        "messages out of their place, met by a state that has no place for them",
    ),
    Rule(
        ("R-WIRE-7",),
        Role.CLIENT,
        ("wire.records_whole", "wire.ids_whole", "wire.bitmap_whole", "wire.bitmap_of_cohort"),
        (ErrorCode.MALFORMED,),
        "members that the cohort does not have, counted among the survivors; records that end too early",
    ),
)

_CLIENTS: Final = (
    Rule(
        ("R-CONFIG-10", "R-EXTENSION-2", "R-GROUP-1", "R-GROUP-3", "R-HYBRID-1", "R-ENV-1", "R-ENV-2", "R-COMPLAIN-1"),
        Role.CLIENT,
        ("client.config_sound",),
        (ErrorCode.CONFIG_UNSOUND,),
        "a threshold, a quorum or a cohort so small that the server and its colluders open a client",
    ),
    Rule(
        ("R-CONFIG-2",),
        Role.CLIENT,
        ("client.config_approved",),
        (ErrorCode.CONFIG_NOT_APPROVED,),
        "a round that the host never agreed to",
    ),
    Rule(
        ("R-CONFIG-11", "R-VERSION-4", "R-ATTACH-5", "R-GROUP-9", "R-CHAIN-6", "R-ENV-9", "R-COMPLAIN-2"),
        Role.CLIENT,
        ("client.within_policy",),
        (ErrorCode.CONFIG_BELOW_POLICY,),
        "a sound config that counts on fewer colluders than the client does, or protects it less in another way",
    ),
    Rule(
        ("R-CONFIG-12", "R-SIGN-2"),
        Role.CLIENT,
        ("client.cohort_vouched",),
        (ErrorCode.COHORT_NOT_VOUCHED,),
        "a cohort of the server's own making (Sybil clients)",
    ),
    Rule(
        ("R-CHAIN-8",),
        Role.CLIENT,
        ("client.chain_certificate", "client.certified_once"),
        (ErrorCode.CHAIN_CERTIFICATE,),
        "a history of the server's making that nobody could hold against it",
    ),
    Rule(
        ("R-CHAIN-9",),
        Role.CLIENT,
        ("client.chain_linked",),
        (ErrorCode.CHAIN_BROKEN,),
        "a round that is left out of the history, or two histories for two clients",
    ),
    Rule(
        ("R-CHAIN-10",),
        Role.CLIENT,
        ("client.round_settled", "client.silent_enough", "client.silence_signed"),
        (ErrorCode.CHAIN_UNSETTLED,),
        "a fake abort: a sum is opened, said to be none, and asked for again without one client",
    ),
    Rule(
        ("R-CHAIN-15",),
        Role.CLIENT,
        ("client.one_certificate",),
        (ErrorCode.CHAIN_UNSETTLED,),
        "two totals for one round: some members are handed one, and another one is certified for the rest",
    ),
    Rule(
        ("R-CONFIG-13",),
        Role.CLIENT,
        ("client.not_joined_before",),
        (ErrorCode.ALREADY_JOINED,),
        "two vectors of one client in one round's sums: their difference opens",
    ),
    Rule(
        ("R-ROSTER-1",),
        Role.CLIENT,
        ("client.own_leaf",),
        (ErrorCode.ROSTER_OWN_LEAF,),
        "the client's own keys replaced in what its neighbours see",
    ),
    Rule(
        ("R-ROSTER-2",),
        Role.CLIENT,
        ("client.ids_valid",),
        (ErrorCode.ROSTER_IDS,),
        "one party counted as several neighbours; shares that reach the wrong ones",
    ),
    Rule(
        ("R-ROSTER-3",),
        Role.CLIENT,
        ("client.keys_usable",),
        (ErrorCode.ROSTER_KEYS,),
        "one party counted as several neighbours; a key agreement whose outcome everybody knows",
    ),
    Rule(
        ("R-ROSTER-4",),
        Role.CLIENT,
        ("client.neighbours_drawn",),
        (ErrorCode.ROSTER_NEIGHBOURS,),
        "neighbours chosen by the server",
    ),
    Rule(
        ("R-ROSTER-5",),
        Role.CLIENT,
        ("client.leaves_in_roster",),
        (ErrorCode.ROSTER_PATH,),
        "a digest that the server tried until it drew its colluders around a victim",
    ),
    Rule(
        ("R-ROSTER-6",),
        Role.CLIENT,
        ("client.keys_signed",),
        (ErrorCode.ROSTER_SIGNATURE,),
        "the server's own keys in the place of a neighbour's",
    ),
    Rule(
        ("R-ROSTER-7",),
        Role.CLIENT,
        ("client.nothing_signed",),
        (ErrorCode.MALFORMED,),
        "neighbours that nothing vouches for, found out only when the vector has left",
    ),
    Rule(
        ("R-ROSTER-8",),
        Role.CLIENT,
        ("client.neighbours_enough",),
        (ErrorCode.ROSTER_TOO_FEW,),
        "a client surrounded by too few others",
    ),
    Rule(
        ("R-SHARES-1",),
        Role.CLIENT,
        ("client.dealers_known",),
        (ErrorCode.SHARES_DEALERS,),
        "one dealer counted several times; shares that nobody dealt",
    ),
    Rule(
        ("R-SHARES-2",),
        Role.CLIENT,
        ("client.dealers_enough",),
        (ErrorCode.SHARES_TOO_FEW,),
        "a client masked by too few pairwise masks",
    ),
    Rule(
        ("R-SHARES-3",),
        Role.CLIENT,
        ("client.share_opens",),
        (ErrorCode.SHARES_UNSEALABLE,),
        "shares replayed, misdirected or invented; a mask that only one side makes",
    ),
    Rule(
        ("R-SHARES-4",),
        Role.CLIENT,
        ("client.share_in_range",),
        (ErrorCode.SHARES_RANGE,),
        "a dealer whose unusable share would be blamed on its holder",
    ),
    Rule(
        ("R-SHARES-5",),
        Role.CLIENT,
        ("client.share_committed",),
        (ErrorCode.SHARES_COMMITMENT,),
        "a dealer whose bad share would be blamed on its holder",
    ),
    Rule(
        ("R-HYBRID-11",),
        Role.CLIENT,
        ("client.secret_opens",),
        (ErrorCode.SECRET_UNSEALABLE,),
        "a pair secret of the server's own: a mask that falls with X25519; a mask that only one side makes",
    ),
    Rule(
        ("R-HYBRID-12",),
        Role.CLIENT,
        ("client.secret_committed",),
        (ErrorCode.SECRET_COMMITMENT,),
        "a pair secret that the server cannot recover, found out only when the round depends on it",
    ),
    Rule(
        ("R-HYBRID-8",),
        Role.CLIENT,
        (),
        (),
        "two messages of shares in one session (by construction: the state is left when the shares are dealt)",
    ),
    Rule(
        ("R-MASK-5",),
        Role.CLIENT,
        (),
        (),
        "two inputs under the same masks (by construction: the state is left when the input is masked)",
    ),
    Rule(
        ("R-COMPLAIN-6",),
        Role.CLIENT,
        ("client.accusers_few",),
        (ErrorCode.ACCUSATION_HOLDERS,),
        "so many pairs of a dealer opened that it need not be told apart from one that colludes",
    ),
    Rule(
        ("R-COMPLAIN-7",),
        Role.CLIENT,
        ("client.accusation_signed",),
        (ErrorCode.ACCUSATION_SIGNATURE,),
        "both kinds of share of honest holders, opened for complaints that the server made up or provoked",
    ),
    Rule(
        ("R-COMPLAIN-11",),
        Role.CLIENT,
        ("client.answer_signed",),
        (ErrorCode.ANSWER_SIGNATURE,),
        "shares of the server's making in the place of a dealer's",
    ),
    Rule(
        ("R-COMPLAIN-12",),
        Role.CLIENT,
        ("client.settled_dealers",),
        (ErrorCode.SETTLED_DEALERS,),
        "dealers that never dealt, counted among those that a client masks against",
    ),
    Rule(
        ("R-ENV-10",),
        Role.CLIENT,
        (),
        (),
        "two inputs under the same secret (by construction: its seed is drawn with the input, and is in no record)",
    ),
    Rule(
        ("R-SURVIVORS-2",),
        Role.CLIENT,
        ("client.survivors_include_self",),
        (ErrorCode.SURVIVORS_SELF,),
        "a client told that it is gone while its vector is in the sum",
    ),
    Rule(
        ("R-SURVIVORS-3",),
        Role.CLIENT,
        ("client.survivors_enough",),
        (ErrorCode.SURVIVORS_TOO_FEW,),
        "a sum of very few",
    ),
    Rule(
        ("R-GROUP-5",),
        Role.CLIENT,
        ("client.group_survivors_enough",),
        (ErrorCode.SURVIVORS_TOO_FEW,),
        "the sum of a group of very few, behind a cohort in which enough survived",
    ),
    Rule(
        ("R-SURVIVORS-4",),
        Role.CLIENT,
        ("client.survivors_shared",),
        (ErrorCode.SURVIVORS_NOT_SHARED,),
        "a mask left in the sum, or a share asked for twice",
    ),
    Rule(
        ("R-SURVIVORS-5",),
        Role.CLIENT,
        ("client.survivors_near",),
        (ErrorCode.SURVIVORS_NEIGHBOURS,),
        "a round that cannot be finished, found out only when the shares are spent",
    ),
    Rule(
        ("R-SURVIVORS-6",),
        Role.CLIENT,
        ("client.survivors_once",),
        (ErrorCode.SURVIVORS_CHANGED,),
        "two quorums for two survivor sets, or both kinds of share of one client, one after the other",
    ),
    Rule(
        ("R-CONFIRM-5",),
        Role.CLIENT,
        ("client.signers_enough",),
        (ErrorCode.CONFIRM_SIGNERS,),
        "different survivors shown to different clients: several small sums opened",
    ),
    Rule(
        ("R-GROUP-6",),
        Role.CLIENT,
        ("client.signers_of_group",),
        (ErrorCode.CONFIRM_SIGNERS,),
        "different survivors shown to the members of one group, confirmed by members of others",
    ),
    Rule(
        ("R-CONFIRM-6",),
        Role.CLIENT,
        ("client.signatures_valid",),
        (ErrorCode.CONFIRM_SIGNATURE,),
        "confirmations that nobody made: several small sums opened",
    ),
    Rule(
        ("R-CHAIN-11",),
        Role.CLIENT,
        ("client.answered_in_turn",),
        (ErrorCode.CHAIN_UNSETTLED,),
        "a second round answered beside the one that is certified, or after it was said to be aborted",
    ),
    Rule(
        ("R-CHAIN-12",),
        Role.CLIENT,
        ("client.not_disclaimed",),
        (ErrorCode.CHAIN_DISCLAIMED,),
        "a round that is aborted for the next one, and opened afterwards",
    ),
    Rule(
        ("R-UNMASK-2",),
        Role.CLIENT,
        (),
        (),
        "both kinds of share in one request (by construction: no list of requests is taken from anyone)",
    ),
    Rule(
        ("R-UNMASK-3",),
        Role.CLIENT,
        (),
        (),
        "a second answer (by construction: the shares are wiped with the state)",
    ),
    Rule(
        ("R-ATTACH-2",),
        Role.CLIENT,
        (),
        (),
        "an attachment that is for another number of losses (by construction: the survivors' number picks it)",
    ),
    Rule(
        ("R-ATTACH-3",),
        Role.CLIENT,
        (),
        (),
        "the attachments for all numbers of losses (by construction: they are wiped with the state)",
    ),
    Rule(
        ("R-STATE-4",),
        Role.CLIENT,
        ("client.state_unused",),
        (ErrorCode.STATE_REUSED,),
        "a client rolled back to answer again",
    ),
)

_SERVERS: Final = (
    Rule(
        ("R-WIRE-10",),
        Role.SERVER,
        ("server.sender_invited",),
        (ErrorCode.UNKNOWN_SENDER,),
        "memory filled by senders that nobody invited",
    ),
    Rule(
        ("R-ADVERTISE-4",),
        Role.SERVER,
        (
            "server.signature_sized",
            "server.advertised_keys_usable",
            "server.advertised_keys_new",
            "server.advertisement_signed",
        ),
        (ErrorCode.MALFORMED, ErrorCode.KEY_UNUSABLE, ErrorCode.KEY_REPEATED, ErrorCode.BAD_SIGNATURE),
        "one client that makes all its neighbours leave, for they refuse a roster with such keys in it",
    ),
    Rule(
        ("R-SHARE-8", "R-HYBRID-9"),
        Role.SERVER,
        ("server.shares_sized",),
        (ErrorCode.WRONG_LENGTH,),
        "a client whose shares make the server fail",
    ),
    Rule(
        ("R-COMPLAIN-5",),
        Role.SERVER,
        ("server.complaint_sized", "server.complaint_signed"),
        (ErrorCode.COMPLAINT_DEALERS, ErrorCode.WRONG_LENGTH, ErrorCode.BAD_SIGNATURE),
        "one client because of which honest dealers leave, or open more pairs than they may",
    ),
    Rule(
        ("R-COMPLAIN-9",),
        Role.SERVER,
        ("server.answer_sized", "server.answer_committed", "server.answer_signed"),
        (ErrorCode.WRONG_LENGTH, ErrorCode.BAD_ANSWER, ErrorCode.BAD_SIGNATURE),
        "a dealer whose answer makes the holder leave that complained about it",
    ),
    Rule(
        ("R-COMPLAIN-10",),
        Role.SERVER,
        ("server.conflicts_few",),
        (ErrorCode.DISPUTED,),
        "a dealer that is accused by all its neighbours, and goes on unnamed",
    ),
    Rule(
        ("R-MASK-6",),
        Role.SERVER,
        ("server.vector_added",),
        (ErrorCode.WRONG_LENGTH, ErrorCode.PADDING, ErrorCode.ELEMENT_RANGE),
        "a client whose vector makes the server fail, or changes the sum otherwise than by its own input",
    ),
    Rule(
        ("R-ENV-7",),
        Role.SERVER,
        ("server.masked_input_sized", "server.envelope_added"),
        (ErrorCode.WRONG_LENGTH, ErrorCode.ELEMENT_RANGE),
        "a client whose envelope makes the server fail, or changes the sum otherwise than by its own input",
    ),
    Rule(
        ("R-CONFIRM-2",),
        Role.SERVER,
        ("server.confirmation_signed",),
        (ErrorCode.BAD_SIGNATURE,),
        "one client because of which every other one refuses the confirmations",
    ),
    Rule(
        ("R-UNMASK-4",),
        Role.SERVER,
        ("server.openings_sized", "server.openings_committed", "server.bad_openings"),
        (ErrorCode.WRONG_LENGTH, ErrorCode.BAD_SHARE),
        "bad shares that spoil the sum, for which their dealer would be blamed",
    ),
    Rule(
        ("R-ATTACH-4",),
        Role.SERVER,
        ("server.attachment_sized",),
        (ErrorCode.WRONG_LENGTH,),
        "memory filled by what nobody asked for; attachments that no host can read",
    ),
    Rule(
        ("R-UNMASK-7", "R-HYBRID-4", "R-HYBRID-14"),
        Role.SERVER,
        (
            "server.secret_in_range",
            "server.seed_committed",
            "server.masking_key_advertised",
            "server.secret_recovered",
            "server.secret_committed",
        ),
        (ErrorCode.BAD_DEALER,),
        "a dealer that shares something else than what its masks are made of: a wrong sum",
    ),
    Rule(
        ("R-ENV-8",),
        Role.SERVER,
        ("server.envelopes_opened",),
        (ErrorCode.BAD_ENVELOPE,),
        "a client whose envelope holds more noise than the sum has room for: random elements, taken for the sum",
    ),
)

RULES: Final = (*_EVERY_MESSAGE, *_CLIENTS, *_SERVERS)
