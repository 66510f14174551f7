"""Every way in which a lying server makes a client refuse: the lies, and the code and the phase of the refusal."""

from __future__ import annotations

from typing import Final, NamedTuple

from secagg import ErrorCode, Policy, RoundConfig, Suite, ThreatModel
from secagg.pairwise import transcript
from secagg.testing.adversary import (
    Attack,
    BadCommitment,
    BreakRoster,
    BreakSecret,
    BreakShares,
    BrokenSecret,
    ChooseNeighbours,
    ClientLie,
    DenyPresence,
    DropFromSurvivors,
    ForgeSecret,
    ForgeSignatures,
    HideDealers,
    InviteAgain,
    LeaveOut,
    Lie,
    Lose,
    OutOfPhase,
    RenameDealer,
    RenameNeighbour,
    ReorderIds,
    RepeatDealers,
    ReplaceKeys,
    Resize,
    ResumeTwice,
    Rewrite,
    SendAgain,
    ShareOutOfRange,
    ShowAgain,
    ShowOtherOwnKeys,
    ShowSurvivors,
    StaleKeys,
    Surround,
    SwapKeys,
    SwapSealed,
    TooManyNeighbours,
    TwoLeaves,
    Unopenable,
    WithholdSignatures,
    forged,
)
from tests.support.attack_stage import active, semi_honest
from tests.support.mutants import sybils

ACTIVE, SEMI_HONEST = ThreatModel.ACTIVE, ThreatModel.SEMI_HONEST
BOTH: Final = (SEMI_HONEST, ACTIVE)
COMPLETE = {SEMI_HONEST: semi_honest(7, 1, 2, threshold=4), ACTIVE: active(7, 1, 2)}
"""t = 4, and client 6 colludes; lies are told to client 0."""
RING = {
    SEMI_HONEST: semi_honest(14, 1, 2, 6, threshold=4, sigma=1, eta=1, min_survivors=5),
    ACTIVE: active(14, 1, 2, 6),
}
HYBRID = {model: config.replace(suite=Suite.HYBRID, version=2) for model, config in COMPLETE.items()}
"""Clients 2, 4 and 6 are sealers for client 0."""
PHASES = ("ADVERTISE", "SHARE", "MASK", "CONFIRM")


class Trip(NamedTuple):
    """Lies that make client 0, and perhaps others, refuse with a code in a phase."""

    code: ErrorCode
    phase: str
    lies: tuple[Lie, ...] = ()
    models: tuple[ThreatModel, ...] = BOTH
    culprit: tuple[int, ...] = ()
    client_lies: tuple[ClientLie, ...] = ()
    config: dict[ThreatModel, RoundConfig] = COMPLETE
    changes: dict[str, object] = {}  # noqa: RUF012 - never changed
    """Of the attack: what the hosts ask for, what config is sent."""


def other_context(config: RoundConfig) -> RoundConfig:
    return config.replace(context=b"another model")


TO = (0,)
TRIPS = [
    # What every message is held to, in each of its phases.
    *(Trip(ErrorCode.MALFORMED, phase, (Resize(phase, -1, TO),)) for phase in PHASES[:3]),
    Trip(ErrorCode.MALFORMED, "CONFIRM", (Resize("CONFIRM", -1, TO),), (ACTIVE,)),
    *(Trip(ErrorCode.MALFORMED, phase, (Resize(phase, 1, TO),)) for phase in PHASES[:3]),
    Trip(ErrorCode.MALFORMED, "MASK", (Rewrite("MASK", (("survivors", b"\xff"),), TO),)),
    Trip(ErrorCode.MALFORMED, "MASK", (Rewrite("MASK", (("survivors", b"\x7f\0"),), TO),)),
    Trip(ErrorCode.MALFORMED, "ADVERTISE", (Rewrite("ADVERTISE", (("proof", b"\0"),), TO),), (SEMI_HONEST,)),
    Trip(ErrorCode.MALFORMED, "ADVERTISE", (Rewrite("ADVERTISE", (("keys", b""),), TO),)),
    Trip(ErrorCode.MALFORMED, "ADVERTISE", (Rewrite("ADVERTISE", (("present", b"\0"),), TO),)),
    Trip(ErrorCode.MALFORMED, "SHARE", (Rewrite("SHARE", (("sealed", b""),), TO),)),
    Trip(ErrorCode.MALFORMED, "CONFIRM", (Rewrite("CONFIRM", (("signatures", b""),), TO),), (ACTIVE,)),
    *(Trip(ErrorCode.TOO_LARGE, phase, (Resize(phase, 1 << 16, TO),)) for phase in PHASES[:3]),
    *(Trip(ErrorCode.WRONG_VERSION, phase, (Rewrite(phase, (("version", 2),), TO),)) for phase in PHASES[:3]),
    *(Trip(ErrorCode.WRONG_SESSION, phase, (Rewrite(phase, (("session", bytes(32)),), TO),)) for phase in PHASES[:3]),
    Trip(ErrorCode.WRONG_SESSION, "CONFIRM", (Rewrite("CONFIRM", (("session", bytes(32)),), TO),), (ACTIVE,)),
    Trip(ErrorCode.WRONG_PHASE, "ADVERTISE", (OutOfPhase("ADVERTISE", TO),)),
    Trip(ErrorCode.WRONG_PHASE, "SHARE", (OutOfPhase("SHARE", TO),)),
    Trip(ErrorCode.CONFLICT, "SHARE", (SendAgain("ADVERTISE", changed=True, to=TO), Lose(TO, "SHARE"))),
    Trip(ErrorCode.CONFLICT, "MASK", (SendAgain("SHARE", changed=True, to=TO),)),
    Trip(ErrorCode.CONFLICT, "DONE", (SendAgain("CONFIRM", changed=True, to=TO),), (ACTIVE,)),
    # The invitation.
    Trip(ErrorCode.CONFIG_NOT_APPROVED, "ADVERTISE", changes={"sends": other_context}),
    Trip(
        ErrorCode.CONFIG_UNSOUND,
        "ADVERTISE",
        changes={"sends": lambda config: forged(config, threshold=1), "approve": False},
    ),
    Trip(
        ErrorCode.CONFIG_BELOW_POLICY,
        "ADVERTISE",
        changes={"approve": False, "policy": Policy(min_sigma=1, min_grinding_bits=0, min_clients=8)},
    ),
    Trip(
        ErrorCode.CONFIG_BELOW_POLICY,
        "ADVERTISE",
        models=(ACTIVE,),
        changes={
            "sends": lambda config: COMPLETE[SEMI_HONEST],
            "approve": False,
            "policy": Policy(threat_model=ACTIVE),
        },
    ),
    Trip(
        ErrorCode.COHORT_NOT_VOUCHED,
        "ADVERTISE",
        models=(ACTIVE,),
        changes={
            "sends": lambda config: config.replace(cohort=transcript.cohort_digest(sybils()[1])),
            "approve": False,
        },
    ),
    Trip(ErrorCode.ALREADY_JOINED, "ADVERTISE", (InviteAgain(TO),)),
    # The roster.
    Trip(ErrorCode.ROSTER_OWN_LEAF, "ADVERTISE", (ShowOtherOwnKeys(TO),)),
    Trip(ErrorCode.ROSTER_OWN_LEAF, "ADVERTISE", (StaleKeys(TO),)),
    Trip(
        ErrorCode.ROSTER_NEIGHBOURS,
        "ADVERTISE",
        (ChooseNeighbours((tuple(range(7)), tuple(range(7, 14)))),),
        (ACTIVE,),
        config=RING,
    ),
    Trip(ErrorCode.ROSTER_PATH, "ADVERTISE", (BreakRoster("proof", TO),), (ACTIVE,)),
    Trip(ErrorCode.ROSTER_PATH, "ADVERTISE", (BreakRoster("proof", TO),), (ACTIVE,), config=RING),
    Trip(ErrorCode.ROSTER_PATH, "ADVERTISE", (BreakRoster("digest", TO),), (ACTIVE,)),
    Trip(ErrorCode.ROSTER_PATH, "ADVERTISE", (Surround(1),), (ACTIVE,)),
    Trip(ErrorCode.ROSTER_PATH, "ADVERTISE", (DenyPresence((1,), TO),), (ACTIVE,)),
    Trip(ErrorCode.ROSTER_SIGNATURE, "ADVERTISE", (BreakRoster("signature", TO),), (ACTIVE,)),
    Trip(ErrorCode.ROSTER_SIGNATURE, "ADVERTISE", (SwapKeys((1,)),), (ACTIVE,)),
    Trip(ErrorCode.ROSTER_SIGNATURE, "ADVERTISE", (StaleKeys((1,)),), (ACTIVE,)),
    *(
        Trip(ErrorCode.ROSTER_IDS, "ADVERTISE", (RenameNeighbour(name, TO),))
        for name in ("repeated", "itself", "beyond")
    ),
    Trip(ErrorCode.ROSTER_IDS, "ADVERTISE", (ReorderIds(TO),)),
    Trip(ErrorCode.ROSTER_IDS, "ADVERTISE", (TooManyNeighbours(TO),)),
    *(Trip(ErrorCode.ROSTER_KEYS, "ADVERTISE", (ReplaceKeys(by, TO),)) for by in ("low order", "another's", "its own")),
    Trip(ErrorCode.ROSTER_KEYS, "ADVERTISE", (TwoLeaves(6, 5),)),
    Trip(ErrorCode.ROSTER_TOO_FEW, "ADVERTISE", (LeaveOut((1, 2, 3)),)),
    Trip(ErrorCode.ROSTER_TOO_FEW, "ADVERTISE", (DenyPresence((1, 2, 3), TO),), (SEMI_HONEST,)),
    # The shares.
    Trip(ErrorCode.SHARES_DEALERS, "SHARE", (RepeatDealers((6,), TO),)),
    Trip(ErrorCode.SHARES_DEALERS, "SHARE", (RenameDealer(1, 0, TO),)),
    Trip(ErrorCode.SHARES_DEALERS, "SHARE", (LeaveOut((5,)), RenameDealer(1, 5, TO))),
    Trip(ErrorCode.SHARES_UNSEALABLE, "SHARE", (BreakShares(3, to=TO),), culprit=(3,)),
    Trip(ErrorCode.SHARES_UNSEALABLE, "SHARE", (SwapSealed(3, 1, TO),), culprit=(3,)),
    Trip(ErrorCode.SHARES_UNSEALABLE, "SHARE", (RenameDealer(1, 2, TO),), culprit=(2,)),
    Trip(ErrorCode.SHARES_UNSEALABLE, "SHARE", client_lies=(Unopenable(TO),), culprit=(6,)),
    Trip(ErrorCode.SHARES_RANGE, "SHARE", client_lies=(ShareOutOfRange(TO, 0),), culprit=(6,)),
    Trip(ErrorCode.SHARES_RANGE, "SHARE", client_lies=(ShareOutOfRange(TO, 1),), culprit=(6,)),
    Trip(ErrorCode.SHARES_COMMITMENT, "SHARE", (BreakShares(3, sealed=False, to=TO),), culprit=(3,)),
    Trip(ErrorCode.SHARES_COMMITMENT, "SHARE", client_lies=(BadCommitment(TO),), culprit=(6,)),
    Trip(ErrorCode.SECRET_UNSEALABLE, "SHARE", (BreakSecret(2, to=TO),), culprit=(2,), config=HYBRID),
    Trip(ErrorCode.SECRET_UNSEALABLE, "SHARE", (BreakSecret(2, "ciphertext", TO),), culprit=(2,), config=HYBRID),
    Trip(ErrorCode.SECRET_UNSEALABLE, "SHARE", (ForgeSecret(TO),), culprit=(2,), config=HYBRID),
    Trip(ErrorCode.SECRET_UNSEALABLE, "SHARE", client_lies=(BrokenSecret(TO),), culprit=(6,), config=HYBRID),
    Trip(ErrorCode.SECRET_COMMITMENT, "SHARE", (BreakSecret(2, "commitment", TO),), culprit=(2,), config=HYBRID),
    Trip(
        ErrorCode.SECRET_COMMITMENT,
        "SHARE",
        client_lies=(BrokenSecret(TO, "commitment"),),
        culprit=(6,),
        config=HYBRID,
    ),
    Trip(ErrorCode.ROSTER_KEYS, "ADVERTISE", (ReplaceKeys("another's ML-KEM", TO),), config=HYBRID),
    Trip(ErrorCode.ROSTER_KEYS, "ADVERTISE", (ReplaceKeys("no ML-KEM", TO),), config=HYBRID),
    Trip(ErrorCode.MALFORMED, "SHARE", (Rewrite("SHARE", (("pair_secrets", b""),), TO),), config=HYBRID),
    Trip(ErrorCode.SHARES_TOO_FEW, "SHARE", (HideDealers((1, 2, 3), TO),)),
    # The survivors.
    Trip(ErrorCode.SURVIVORS_SELF, "MASK", (DropFromSurvivors(TO, TO),)),
    Trip(ErrorCode.SURVIVORS_TOO_FEW, "MASK", (ShowSurvivors((0, 1, 2, 3), TO),)),
    Trip(ErrorCode.SURVIVORS_NOT_SHARED, "MASK", (HideDealers((1,), TO),)),
    Trip(ErrorCode.SURVIVORS_NOT_SHARED, "MASK", (LeaveOut((1,)), ShowSurvivors((0, 1, 2, 3, 4, 5, 6), TO)), (ACTIVE,)),
    Trip(ErrorCode.SURVIVORS_CHANGED, "CONFIRM", (ShowAgain(((0, 1, 2, 3, 4, 5),), TO),), (ACTIVE,)),
    Trip(ErrorCode.SURVIVORS_CHANGED, "DONE", (ShowAgain(((0, 1, 2, 3, 4, 5),), TO),), (SEMI_HONEST,)),
    Trip(ErrorCode.SURVIVORS_CHANGED, "DONE", (ShowAgain(((0, 1, 2, 3, 4, 5),), TO, "CONFIRM"),), (ACTIVE,)),
    # The confirmations.
    Trip(ErrorCode.CONFIRM_SIGNERS, "CONFIRM", (WithholdSignatures((1, 2, 3), TO),), (ACTIVE,)),
    Trip(
        ErrorCode.CONFIRM_SIGNERS,
        "CONFIRM",
        (Lose((5,), "MASK"), DropFromSurvivors((5,)), ForgeSignatures((5,), TO)),
        (ACTIVE,),
    ),
    Trip(
        ErrorCode.CONFIRM_SIGNATURE,
        "CONFIRM",
        (ShowSurvivors((0, 1, 2, 3, 4, 6), to=(1,)), ForgeSignatures((1,), TO)),
        (ACTIVE,),
    ),
    # A client's own past.
    Trip(ErrorCode.STATE_REUSED, "", (ResumeTwice(TO),)),
]
CASES = [(trip, model) for trip in TRIPS for model in trip.models]


def name_of(value: object) -> str:
    if isinstance(value, Trip):
        told = (*value.lies, *value.client_lies)
        return f"{value.code}-{'-'.join(type(lie).__name__ for lie in told) or 'config'}-{value.phase}"
    return str(value)


def attack_of(trip: Trip, model: ThreatModel) -> Attack:
    config = trip.config[model]
    changes = dict(trip.changes)
    if callable(sends := changes.get("sends")):
        changes["sends"] = sends(config)
    if model is SEMI_HONEST and config is RING[model]:
        changes["policy"] = Policy(min_sigma=1)
    return Attack(
        config,
        trip.lies,
        colluders=(config.clients - 1,),
        client_lies=trip.client_lies,
        **changes,  # type: ignore[arg-type]
    )
