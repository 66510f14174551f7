"""The phases of a round and the threat models: what everything else is named after.  It imports nothing.

What the protocol does
======================

n clients, the cohort, each hold a vector.  The server is to learn the sum, and nothing else about anyone's vector.

Each client i draws a self-mask seed b_i, and shares a key s_ij with each of its neighbours j.  It sends

    y_i = x_i + PRG(b_i) + sum over neighbours j > i of PRG(s_ij) - sum over neighbours j < i of PRG(s_ij).

Added up, the pairwise masks cancel, and what is left are the self masks.  Clients vanish, though: a client that is
gone before it sends y_i leaves the pairwise masks that its neighbours made against it.  So everybody first hands out
Shamir shares of two secrets among its neighbours: of its seed, and of the private key behind its pairwise masks.  For
a client in the sum the neighbours reveal shares of the seed; for one that vanished, shares of the private key.  Never
both, or x_i could be computed from y_i: that one rule is what most of the others protect.

Five phases, or seven with complaints, each closed by the server's host when it has waited long enough:

    ADVERTISE   a client sends two public keys; gets its neighbours' keys and the roster's digest
    SHARE       it sends each neighbour, sealed, a share of each secret; gets the shares meant for it
    COMPLAIN    (rounds with complaints) it says whose shares do not open; gets the complaints about its own
    ANSWER      (the same) it opens the shares that it dealt to them; gets the dealers whose shares count
    MASK        it sends its masked vector; gets the survivors, the set of clients whose vectors arrived
    CONFIRM     (active) it signs that set, once; gets a quorum of signatures over the very same set
    UNMASK      it sends one share a neighbour: of the seed for a survivor, of the key for a client that vanished

Then the server reconstructs, expands and subtracts.

Why it is safe against a server that lies (active)
==================================================

Every key in the roster is signed by an identity known beforehand, and the graph of neighbours follows from the
roster's digest, so the server chooses neither.  A share is answered for once, according to one survivor set.  If two
clients were shown different sets, one victim could be a survivor to some neighbours and a dropout to others: the
threshold (2t > k + t1) leaves too few shares of both kinds for that.  A server could still unmask the sums of several
small groups, each shown its own set.  CONFIRM stops that: nobody answers before Q > (n + A) / 2 members signed the
set that it was shown, two such quorums share an honest client, and an honest client signs once.

How to use this module
======================

``phases`` is the one list of the phases of a round: whatever needs them in order asks it, with the threat model.  What
a threat model changes is asked by the name of the capability (``signs``, ``confirms``, ``adversarial_drops``), so that
a new threat model answers these questions here and changes nothing elsewhere.  Which messages belong to a phase is in
``messages``; what leads from one state of a machine to the next, in ``transitions``.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Final


class Phase(StrEnum):
    """A phase of a round.  The members stand in the order in which the phases follow each other."""

    ADVERTISE = "ADVERTISE"
    SHARE = "SHARE"
    COMPLAIN = "COMPLAIN"
    ANSWER = "ANSWER"
    MASK = "MASK"
    CONFIRM = "CONFIRM"
    UNMASK = "UNMASK"

    def __repr__(self) -> str:
        """As the string that it is: a phase that a host prints, in whatever it is held, reads ``'SHARE'``."""
        return repr(self.value)

    @property
    def place(self) -> int:
        """How many phases can come before it.  Compare places: as strings, phases would follow the alphabet."""
        return _PLACES[self]

    @property
    def has_sum(self) -> bool:
        """Whether the vectors are added up when it begins: whoever is lost in it is in the sum all the same."""
        return self.place > Phase.MASK.place


_PLACES: Final = MappingProxyType({phase: place for place, phase in enumerate(Phase)})


class ThreatModel(StrEnum):
    """What the server may do; in both, up to A clients pool what they know with it.

    No capability has a default: a new threat model answers for itself, and the type checker names the answers that are
    missing.
    """

    SEMI_HONEST = "semi_honest"
    """It follows the protocol."""
    ACTIVE = "active"
    """It does anything; identity keys are known beforehand."""

    @property
    def signs(self) -> bool:
        """Whether the keys in the roster are signed.

        Each client then has an identity, a directory vouches for the cohort's, and the server can put no key of its own
        into the roster, nor choose who is whose neighbour.
        """
        match self:
            case ThreatModel.SEMI_HONEST:
                return False
            case ThreatModel.ACTIVE:
                return True

    @property
    def confirms(self) -> bool:
        """Whether there is a CONFIRM phase: a quorum signs the survivors before anybody reveals a share."""
        match self:
            case ThreatModel.SEMI_HONEST:
                return False
            case ThreatModel.ACTIVE:
                return True

    @property
    def adversarial_drops(self) -> bool:
        """Whether the adversary chooses who drops out, so that the bounds count it so.

        It can then tell some neighbours of a client that it survived and others that it vanished, and try many graphs
        by leaving clients out of the roster.
        """
        match self:
            case ThreatModel.SEMI_HONEST:
                return False
            case ThreatModel.ACTIVE:
                return True

    def covers(self, other: ThreatModel) -> bool:
        """Whether a round in this threat model has every protection that a round in the other one has."""
        return (
            self.signs >= other.signs
            and self.confirms >= other.confirms
            and self.adversarial_drops >= other.adversarial_drops
        )


def default_threat_model(*, identified: bool) -> ThreatModel:
    """The threat model of whoever names none: the one that protects most, if identities that are known allow it."""
    return ThreatModel.ACTIVE if identified else ThreatModel.SEMI_HONEST


OF_COMPLAINTS: Final = frozenset({Phase.COMPLAIN, Phase.ANSWER})
"""The phases of rounds with complaints alone (R-COMPLAIN-3)."""
WITHOUT_COMPLAINTS: Final = tuple(phase for phase in Phase if phase not in OF_COMPLAINTS)
"""The phases of all other rounds, in any threat model."""


def phases(threat_model: ThreatModel, *, complaints: bool = False) -> tuple[Phase, ...]:
    """The phases of a round in this threat model, in order; those of complaints where the config asks for them."""
    left_out = frozenset() if complaints else OF_COMPLAINTS
    if not threat_model.confirms:
        left_out |= {Phase.CONFIRM}
    return tuple(phase for phase in Phase if phase not in left_out)


class ClientState(StrEnum):
    """What a client has done last."""

    JOINED = "JOINED"
    ADVERTISED = "ADVERTISED"
    SHARED = "SHARED"
    CHECKED = "CHECKED"  # in rounds with complaints, as the next one
    ANSWERED = "ANSWERED"
    INPUT = "INPUT"  # waiting for its own host, as in JOINED
    MASKED = "MASKED"
    CONFIRMED = "CONFIRMED"
    DONE = "DONE"
    ABORTED = "ABORTED"


class ServerState(StrEnum):
    """The phase whose messages a server collects."""

    ADVERTISE = Phase.ADVERTISE.value
    SHARE = Phase.SHARE.value
    COMPLAIN = Phase.COMPLAIN.value
    ANSWER = Phase.ANSWER.value
    MASK = Phase.MASK.value
    CONFIRM = Phase.CONFIRM.value
    UNMASK = Phase.UNMASK.value
    COMPUTE = "COMPUTE"
    DONE = "DONE"
    ABORTED = "ABORTED"


class HostCall(Enum):
    """A call by which a machine's host moves it on.  The values are the names in the specification's tables."""

    START = "start"
    SUBMIT = "submit"
    CLOSE = "close"
    COMPUTE = "compute"


CLIENT_ENDED: Final = frozenset({ClientState.DONE, ClientState.ABORTED})
SERVER_ENDED: Final = frozenset({ServerState.DONE, ServerState.ABORTED})

STATE_AFTER: Final = MappingProxyType(
    {
        Phase.ADVERTISE: ClientState.ADVERTISED,
        Phase.SHARE: ClientState.SHARED,
        Phase.COMPLAIN: ClientState.CHECKED,
        Phase.ANSWER: ClientState.ANSWERED,
        Phase.MASK: ClientState.MASKED,
        Phase.CONFIRM: ClientState.CONFIRMED,
        Phase.UNMASK: ClientState.DONE,
    }
)
"""The state of a client that has sent its message of a phase."""

_COLLECTED: Final = MappingProxyType({ServerState(phase.value): phase for phase in Phase})


def collected_in(state: ServerState) -> Phase | None:
    """The phase whose messages a server in this state collects; None where it collects none."""
    return _COLLECTED.get(state)
