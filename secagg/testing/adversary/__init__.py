"""A malicious server and malicious clients, what they can be told to do, and an account of what they learn by it.

    attack = Attack(config, lies=(Isolate(victim=3, dropped=(0, 1)),), colluders=(5,))
    spoils = attack.run()
    spoils.broken       # the promises that were broken: none, while every check is in place
    spoils.refusals     # (client, PeerError) of every refusal
    spoils.openings     # what the adversary computed: at most one sum

``Attack`` is a malicious server against honest clients.  ``Coalition`` is an honest server among honest clients and
others, which lie (``ClientLie``) or are merely curious.  In both, a ``Ledger`` holds every share and key that the
adversary has got, and opens what they open.  ``ChainedCohort`` is a server that lies over several rounds to clients
that keep a chain of them (``CertificateLie``).  ``secagg.testing.adversary.strategies`` draws attacks with Hypothesis.
"""

from secagg.testing.adversary.attack import Attack, Spoils, known_cohort, true_inputs
from secagg.testing.adversary.chained import ChainedCohort
from secagg.testing.adversary.client import ClientLie, MaliciousClient
from secagg.testing.adversary.coalition import Coalition, CoalitionOutcome
from secagg.testing.adversary.ledger import Ledger, Opening, View
from secagg.testing.adversary.lies.certificates import (
    CertificateLie,
    FakeAbort,
    LeaveOutSums,
    OtherKey,
    OtherSurvivors,
    OtherTotal,
)
from secagg.testing.adversary.lies.clients import (
    AnswersWrongly,
    BadCommitment,
    BadShares,
    BrokenSecret,
    ComplainsFalsely,
    DirtyPadding,
    FalseSignature,
    FirstElement,
    FlipsSealed,
    Garbage,
    InconsistentPolynomial,
    KeysOf,
    Leaves,
    LimbOutOfRange,
    OtherKind,
    OtherSecret,
    SecondVector,
    ShareOutOfRange,
    Unopenable,
    WeakKeys,
    WrongLength,
    WrongSecret,
)
from secagg.testing.adversary.lies.confirmations import ForgeSignatures, MixGroups, WithholdSignatures
from secagg.testing.adversary.lies.hosts import InviteAgain, ResumeTwice, SubmitAgain
from secagg.testing.adversary.lies.invitation import ForgeConfig, OtherNonce, forged
from secagg.testing.adversary.lies.lie import Lie
from secagg.testing.adversary.lies.memory import Seize
from secagg.testing.adversary.lies.roster import (
    BreakRoster,
    ChooseNeighbours,
    DenyPresence,
    Equivocate,
    LeaveOut,
    RenameNeighbour,
    ReorderIds,
    ReplaceKeys,
    ShowOtherOwnKeys,
    StaleKeys,
    Surround,
    SwapKeys,
    TooManyNeighbours,
    TwoLeaves,
)
from secagg.testing.adversary.lies.shares import (
    BreakSecret,
    BreakShares,
    ForgeSecret,
    HideDealers,
    RenameDealer,
    RepeatDealers,
    SwapSealed,
)
from secagg.testing.adversary.lies.survivors import DropFromSurvivors, Isolate, ShowAgain, ShowSurvivors
from secagg.testing.adversary.lies.wire import FlipBit, Lose, OutOfPhase, Replay, Resize, Rewrite, SendAgain
from secagg.testing.adversary.server import MaliciousServer

__all__ = [
    "AnswersWrongly",
    "Attack",
    "BadCommitment",
    "BadShares",
    "BreakRoster",
    "BreakSecret",
    "BreakShares",
    "BrokenSecret",
    "CertificateLie",
    "ChainedCohort",
    "ChooseNeighbours",
    "ClientLie",
    "Coalition",
    "CoalitionOutcome",
    "ComplainsFalsely",
    "DenyPresence",
    "DirtyPadding",
    "DropFromSurvivors",
    "Equivocate",
    "FakeAbort",
    "FalseSignature",
    "FirstElement",
    "FlipBit",
    "FlipsSealed",
    "ForgeConfig",
    "ForgeSecret",
    "ForgeSignatures",
    "Garbage",
    "HideDealers",
    "InconsistentPolynomial",
    "InviteAgain",
    "Isolate",
    "KeysOf",
    "LeaveOut",
    "LeaveOutSums",
    "Leaves",
    "Ledger",
    "Lie",
    "LimbOutOfRange",
    "Lose",
    "MaliciousClient",
    "MaliciousServer",
    "MixGroups",
    "Opening",
    "OtherKey",
    "OtherKind",
    "OtherNonce",
    "OtherSecret",
    "OtherSurvivors",
    "OtherTotal",
    "OutOfPhase",
    "RenameDealer",
    "RenameNeighbour",
    "ReorderIds",
    "RepeatDealers",
    "ReplaceKeys",
    "Replay",
    "Resize",
    "ResumeTwice",
    "Rewrite",
    "SecondVector",
    "Seize",
    "SendAgain",
    "ShareOutOfRange",
    "ShowAgain",
    "ShowOtherOwnKeys",
    "ShowSurvivors",
    "Spoils",
    "StaleKeys",
    "SubmitAgain",
    "Surround",
    "SwapKeys",
    "SwapSealed",
    "TooManyNeighbours",
    "TwoLeaves",
    "Unopenable",
    "View",
    "WeakKeys",
    "WithholdSignatures",
    "WrongLength",
    "WrongSecret",
    "forged",
    "known_cohort",
    "true_inputs",
]
