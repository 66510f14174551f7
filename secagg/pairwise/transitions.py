"""Both state machines, as data.  The only place where an edge is added.

What the protocol does
======================

n clients, the cohort, each hold a vector.  The server is to learn the sum, and nothing else about anyone's vector.

Each client i draws a self-mask seed b_i, and shares a key s_ij with each of its neighbours j.  It sends

    y_i = x_i + PRG(b_i) + sum over neighbours j > i of PRG(s_ij) - sum over neighbours j < i of PRG(s_ij).

Added up, the pairwise masks cancel, and what is left are the self masks.  Clients vanish, though: a client that is
gone before it sends y_i leaves the pairwise masks that its neighbours made against it.  So everybody first hands out
Shamir shares of two secrets among its neighbours: of its seed, and of the private key behind its pairwise masks.  For
a client in the sum the neighbours reveal shares of the seed; for one that vanished, shares of the private key.  Never
both, or y_i could be opened: that one rule is what most of the checks protect.

Five phases, each closed by the server's host when it has waited long enough:

    ADVERTISE   a client sends two public keys; gets its neighbours' keys and the roster's digest
    SHARE       it sends each neighbour, sealed, a share of each secret; gets the shares meant for it
    MASK        it sends its masked vector; gets the survivors, the set of clients whose vectors arrived
    CONFIRM     (active) it signs that set, once; gets a quorum of signatures over the very same set
    UNMASK      it sends one share a neighbour: of the seed for a survivor, of the key for a client that vanished

Then the server reconstructs, expands and subtracts.

Why it is safe against a server that lies (active)
==================================================

Every key in the roster is signed by an identity known beforehand, and the graph of neighbours follows from the
roster's digest, so the server chooses neither.  A share is answered for once, according to one survivor set.  If two
clients were shown different sets, one victim could be a survivor to some neighbours and a dropout to others: the
threshold (2t > k + t1) leaves too few shares of both kinds for that.  A server could still open the sums of several
small groups, each shown its own set.  CONFIRM stops that: nobody answers before Q > (n + A) / 2 members signed the
set that it was shown, two such quorums share an honest client, and an honest client signs once.

How to read the tables
======================

``CLIENT[threat model][state, input]`` and ``SERVER[threat model][state, input]`` give the next state.  A client's
inputs are its host's calls (``start``, ``submit``) and the server's messages; a server's are ``close`` (close_phase)
and ``compute``.  A pair that is not in the table is refused: as StateError when the host made the call, as a PeerError
when the peer sent the message.  From every live state, a failed check, an ABORT or an unexpected exception leads to
ABORTED, and nothing leads out of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from secagg.pairwise.config import ThreatModel


class ClientState(StrEnum):
    """What a client has done last."""

    JOINED = "JOINED"
    ADVERTISED = "ADVERTISED"
    SHARED = "SHARED"
    INPUT = "INPUT"  # waiting for its own host, as in JOINED
    MASKED = "MASKED"
    CONFIRMED = "CONFIRMED"
    DONE = "DONE"
    ABORTED = "ABORTED"


class ServerState(StrEnum):
    """The phase whose messages a server collects."""

    ADVERTISE = "ADVERTISE"
    SHARE = "SHARE"
    MASK = "MASK"
    CONFIRM = "CONFIRM"
    UNMASK = "UNMASK"
    COMPUTE = "COMPUTE"
    DONE = "DONE"
    ABORTED = "ABORTED"


ClientTable: TypeAlias = Mapping[tuple[ClientState, str], ClientState]
ServerTable: TypeAlias = Mapping[tuple[ServerState, str], ServerState]

_CLIENT_COMMON: Final = {
    (ClientState.JOINED, "start"): ClientState.ADVERTISED,
    (ClientState.ADVERTISED, "Roster"): ClientState.SHARED,
    (ClientState.SHARED, "Shares"): ClientState.INPUT,
    (ClientState.INPUT, "submit"): ClientState.MASKED,
}

CLIENT: Final[Mapping[ThreatModel, ClientTable]] = MappingProxyType(
    {
        ThreatModel.SEMI_HONEST: MappingProxyType(
            {
                **_CLIENT_COMMON,
                (ClientState.MASKED, "Survivors"): ClientState.DONE,
            }
        ),
        ThreatModel.ACTIVE: MappingProxyType(
            {
                **_CLIENT_COMMON,
                (ClientState.MASKED, "Survivors"): ClientState.CONFIRMED,
                (ClientState.CONFIRMED, "Confirmations"): ClientState.DONE,
            }
        ),
    }
)

_SERVER_COMMON: Final = {
    (ServerState.ADVERTISE, "close"): ServerState.SHARE,
    (ServerState.SHARE, "close"): ServerState.MASK,
    (ServerState.UNMASK, "close"): ServerState.COMPUTE,
    (ServerState.COMPUTE, "compute"): ServerState.DONE,
}

SERVER: Final[Mapping[ThreatModel, ServerTable]] = MappingProxyType(
    {
        ThreatModel.SEMI_HONEST: MappingProxyType(
            {
                **_SERVER_COMMON,
                (ServerState.MASK, "close"): ServerState.UNMASK,
            }
        ),
        ThreatModel.ACTIVE: MappingProxyType(
            {
                **_SERVER_COMMON,
                (ServerState.MASK, "close"): ServerState.CONFIRM,
                (ServerState.CONFIRM, "close"): ServerState.UNMASK,
            }
        ),
    }
)

CLIENT_ENDED: Final = frozenset({ClientState.DONE, ClientState.ABORTED})
SERVER_ENDED: Final = frozenset({ServerState.DONE, ServerState.ABORTED})
SERVER_COLLECTS: Final = (
    ServerState.ADVERTISE,
    ServerState.SHARE,
    ServerState.MASK,
    ServerState.CONFIRM,
    ServerState.UNMASK,
)
"""The states in which a server takes messages, in order."""
