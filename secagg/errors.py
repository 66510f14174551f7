"""The exceptions that leave the library, and the codes they carry.

Two families, and nothing else, reach the embedding system: ``UsageError`` when the caller did something it must
not, ``PeerError`` when somebody at the other end of the wire did.  Any other exception that escapes is a bug.
No message ever contains a secret.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ErrorCode(StrEnum):
    """Why a peer's message, or a peer, was refused.  The number in each comment is the client check it belongs to."""

    # What every message is checked for, by both roles (check 20).
    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    WRONG_VERSION = "wrong-version"
    WRONG_SESSION = "wrong-session"
    WRONG_PHASE = "wrong-phase"
    CONFLICT = "conflict"
    PEER_ABORTED = "peer-aborted"

    # A client about the invitation.
    CONFIG_NOT_APPROVED = "config-not-approved"  # 1
    CONFIG_UNSOUND = "config-unsound"  # 2: the rules of the protocol, recomputed
    CONFIG_BELOW_POLICY = "config-below-policy"  # 2: the client's own floor
    COHORT_NOT_VOUCHED = "cohort-not-vouched"  # 3
    ALREADY_JOINED = "already-joined"  # 4

    # A client about the roster.
    ROSTER_OWN_LEAF = "roster-own-leaf"  # 5
    ROSTER_NEIGHBOURS = "roster-neighbours"  # 6: not exactly the ids that the digest draws
    ROSTER_PATH = "roster-path"  # 6: a leaf that is not in the roster
    ROSTER_SIGNATURE = "roster-signature"  # 6: keys that their identity did not sign
    ROSTER_IDS = "roster-ids"  # 7: ids out of range, repeated, or the client's own
    ROSTER_KEYS = "roster-keys"  # 7: keys repeated, or the client's own, or of low order
    ROSTER_TOO_FEW = "roster-too-few"  # 8

    # A client about the shares addressed to it.
    SHARES_DEALERS = "shares-dealers"  # 9: a dealer that is no present neighbour, or is repeated
    SHARES_UNSEALABLE = "shares-unsealable"  # 9: a share that does not open
    SHARES_RANGE = "shares-range"  # 10: an element that is not below the field's prime
    SHARES_COMMITMENT = "shares-commitment"  # 10: a share that is not the committed one
    SHARES_TOO_FEW = "shares-too-few"  # 11

    # A client about the survivors.
    SURVIVORS_SELF = "survivors-self"  # 13
    SURVIVORS_TOO_FEW = "survivors-too-few"  # 13
    SURVIVORS_NOT_SHARED = "survivors-not-shared"  # 14
    SURVIVORS_NEIGHBOURS = "survivors-neighbours"  # 15
    SURVIVORS_CHANGED = "survivors-changed"  # 16

    # A client about the confirmations.
    CONFIRM_SIGNERS = "confirm-signers"  # 17: a signer that is no survivor, or too few of them
    CONFIRM_SIGNATURE = "confirm-signature"  # 17

    # A client about its own past.
    STATE_REUSED = "state-reused"  # 21

    # The server about a client.
    UNKNOWN_SENDER = "unknown-sender"
    KEY_UNUSABLE = "key-unusable"
    KEY_REPEATED = "key-repeated"
    BAD_SIGNATURE = "bad-signature"
    WRONG_LENGTH = "wrong-length"
    ELEMENT_RANGE = "element-range"
    PADDING = "padding"
    BAD_SHARE = "bad-share"
    BAD_DEALER = "bad-dealer"
    TOO_FEW_LEFT = "too-few-left"


class AbortCode(IntEnum):
    """What an ABORT message says on the wire: deliberately coarse, so that it tells an observer nothing more."""

    UNSPECIFIED = 0
    CONFIG_REFUSED = 1
    PROTOCOL_VIOLATION = 2
    TOO_FEW_CLIENTS = 3
    EXCLUDED = 4
    INTERNAL = 5
    CANCELLED = 6


class SecAggError(Exception):
    """The base of every exception that the library raises on purpose."""


class UsageError(SecAggError):
    """The caller did something that it must not; the machine's state is as before."""


class StateError(UsageError):
    """A call that does not fit the state the machine is in."""


class ParameterError(UsageError, ValueError):
    """A parameter, or a combination of parameters, that the protocol does not allow."""


class InputError(UsageError, ValueError):
    """An input vector or update that cannot be taken as it is."""


class PeerError(SecAggError):
    """The other side misbehaved.

    Attributes:
        code: the rule that was broken.
        phase: the phase in which it was broken, by name (``"SHARE"``).
        culprit: the cohort indices to blame; empty when the server is.  A client that names a dealer (checks 9 and 10)
            names whoever dealt or carried its shares: a lying server can alter them on the way.
        reply: the ABORT message to send to the other side; empty when there is none.
    """

    def __init__(self, code: ErrorCode, message: str, *, phase: str = "", culprit: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.phase = phase
        self.culprit = culprit
        self.reply = b""

    def __reduce__(self) -> tuple[object, ...]:
        return _peer_error, (self.code, str(self), self.phase, self.culprit, self.reply)


def _peer_error(code: ErrorCode, message: str, phase: str, culprit: tuple[int, ...], reply: bytes = b"") -> PeerError:
    error = PeerError(code, message, phase=phase, culprit=culprit)
    error.reply = reply
    return error
