"""Secure aggregation: a server learns the sum of its clients' vectors, and nothing else about any of them.

``Client`` and ``Server`` are state machines without input or output, ``RoundConfig`` is what they agree on, ``Encoder``
turns model updates into vectors and sums into means.  ``secagg.simulation`` runs whole rounds in memory.
"""

from typing import TYPE_CHECKING, Any

from secagg.arithmetic.modulus import Modulus
from secagg.credentials import DurableTokens, load_directory, load_identity, save_directory
from secagg.errors import (
    AbortCode,
    ErrorCode,
    InputError,
    ParameterError,
    PeerError,
    SecAggError,
    StateError,
    UsageError,
)
from secagg.events import (
    Accepted,
    Admitted,
    AlreadyMasked,
    ClientAborted,
    ClientEvent,
    ClientStep,
    Duplicate,
    Event,
    Finished,
    InHand,
    InputNeeded,
    Late,
    Misbehaved,
    RoundAborted,
    ServerEvent,
    ServerStep,
    Step,
)
from secagg.hosting import Contribution, Coordinator
from secagg.identity import Directory, Identity, MemoryDirectory, UsedTokens
from secagg.machines import ClientMachine, ServerMachine
from secagg.outcome import Blame, Failure, GroupSum, Merged, Outgoing, Result, Security
from secagg.pairwise.client.machine import Client
from secagg.pairwise.config import Policy, RoundConfig, Suite
from secagg.pairwise.partial import PartialSum
from secagg.pairwise.phases import ClientState, ServerState, ThreatModel
from secagg.pairwise.server import Server
from secagg.released import ReleasedInputs

if TYPE_CHECKING:
    from secagg import encoding as encoding
    from secagg.encoding import Encoder, Exact, LayoutPolicy

__version__ = "0.3.0"

__all__ = [
    "AbortCode",
    "Accepted",
    "Admitted",
    "AlreadyMasked",
    "Blame",
    "Client",
    "ClientAborted",
    "ClientEvent",
    "ClientMachine",
    "ClientState",
    "ClientStep",
    "Contribution",
    "Coordinator",
    "Directory",
    "Duplicate",
    "DurableTokens",
    "Encoder",
    "ErrorCode",
    "Event",
    "Exact",
    "Failure",
    "Finished",
    "GroupSum",
    "Identity",
    "InHand",
    "InputError",
    "InputNeeded",
    "Late",
    "LayoutPolicy",
    "MemoryDirectory",
    "Merged",
    "Misbehaved",
    "Modulus",
    "Outgoing",
    "ParameterError",
    "PartialSum",
    "PeerError",
    "Policy",
    "ReleasedInputs",
    "Result",
    "RoundAborted",
    "RoundConfig",
    "SecAggError",
    "Security",
    "Server",
    "ServerEvent",
    "ServerMachine",
    "ServerState",
    "ServerStep",
    "StateError",
    "Step",
    "Suite",
    "ThreatModel",
    "UsageError",
    "UsedTokens",
    "load_directory",
    "load_identity",
    "save_directory",
]


def __getattr__(name: str) -> Any:
    """The encoding at its first use: the protocol does without it, and it takes a fifth of the time of the import."""
    if name not in ("Encoder", "Exact", "LayoutPolicy", "encoding"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import secagg.encoding as encoding

    return encoding if name == "encoding" else getattr(encoding, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
