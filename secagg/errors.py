"""The exceptions that leave the library, and the codes they carry.

Two families, and nothing else, reach the embedding system: ``UsageError`` when the caller did something it must
not, ``PeerError`` when somebody at the other end of the wire did.  Any other exception that escapes is a bug.
No message ever contains a secret.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ErrorCode(StrEnum):
    """Why a peer's message, or a peer, was refused.

    The comments name the requirement of ``specs/secagg-v1.md`` that was broken; ``secagg.pairwise.rules`` carries them
    out.
    """

    # What every message is held to, by both roles.
    MALFORMED = "malformed"  # R-WIRE-1, R-WIRE-3, R-WIRE-7; a client: R-ROSTER-7; a server: R-ADVERTISE-4
    TOO_LARGE = "too-large"  # R-WIRE-5
    WRONG_VERSION = "wrong-version"  # R-WIRE-4
    WRONG_SESSION = "wrong-session"  # R-WIRE-6
    WRONG_PHASE = "wrong-phase"  # R-STATE-1, R-STATE-2
    CONFLICT = "conflict"  # R-WIRE-8
    PEER_ABORTED = "peer-aborted"  # for hosts that turn an ABORT into an error

    # A client about the invitation.
    CONFIG_NOT_APPROVED = "config-not-approved"  # R-CONFIG-2
    CONFIG_UNSOUND = "config-unsound"  # R-CONFIG-10: the rules of the protocol, recomputed
    CONFIG_BELOW_POLICY = "config-below-policy"  # R-CONFIG-11: the client's own floor
    COHORT_NOT_VOUCHED = "cohort-not-vouched"  # R-CONFIG-12, R-SIGN-2
    ALREADY_JOINED = "already-joined"  # R-CONFIG-13

    # A client about the roster.
    ROSTER_OWN_LEAF = "roster-own-leaf"  # R-ROSTER-1
    ROSTER_NEIGHBOURS = "roster-neighbours"  # R-ROSTER-4: not exactly the ids that the digest draws
    ROSTER_PATH = "roster-path"  # R-ROSTER-5: a leaf that is not in the roster
    ROSTER_SIGNATURE = "roster-signature"  # R-ROSTER-6: keys that their identity did not sign
    ROSTER_IDS = "roster-ids"  # R-ROSTER-2: ids out of range, repeated, or the client's own
    ROSTER_KEYS = "roster-keys"  # R-ROSTER-3: keys repeated, or the client's own, or of low order
    ROSTER_TOO_FEW = "roster-too-few"  # R-ROSTER-8

    # A client about the shares addressed to it.
    SHARES_DEALERS = "shares-dealers"  # R-SHARES-1: a dealer that is no present neighbour, or is repeated
    SHARES_UNSEALABLE = "shares-unsealable"  # R-SHARES-3: a share that does not open
    SHARES_RANGE = "shares-range"  # R-SHARES-4: an element that is not below the field's prime
    SHARES_COMMITMENT = "shares-commitment"  # R-SHARES-5: a share that is not the committed one
    SHARES_TOO_FEW = "shares-too-few"  # R-SHARES-2
    SECRET_UNSEALABLE = "secret-unsealable"  # noqa: S105  R-HYBRID-11: a pair secret that does not open
    SECRET_COMMITMENT = "secret-commitment"  # noqa: S105  R-HYBRID-12: a pair secret that is not the committed one

    # A client about complaints (version 2).
    ACCUSATION_HOLDERS = "accusation-holders"  # R-COMPLAIN-6
    ACCUSATION_SIGNATURE = "accusation-signature"  # R-COMPLAIN-7
    ANSWER_SIGNATURE = "answer-signature"  # R-COMPLAIN-11
    SETTLED_DEALERS = "settled-dealers"  # R-COMPLAIN-12

    # A client about the survivors.
    SURVIVORS_SELF = "survivors-self"  # R-SURVIVORS-2
    SURVIVORS_TOO_FEW = "survivors-too-few"  # R-SURVIVORS-3
    SURVIVORS_NOT_SHARED = "survivors-not-shared"  # R-SURVIVORS-4
    SURVIVORS_NEIGHBOURS = "survivors-neighbours"  # R-SURVIVORS-5
    SURVIVORS_CHANGED = "survivors-changed"  # R-SURVIVORS-6

    # A client about the confirmations.
    CONFIRM_SIGNERS = "confirm-signers"  # R-CONFIRM-5: a signer that is no survivor, or too few of them
    CONFIRM_SIGNATURE = "confirm-signature"  # R-CONFIRM-6

    # A client about the chain of its cohort's rounds.
    CHAIN_CERTIFICATE = "chain-certificate"  # R-CHAIN-8
    CHAIN_BROKEN = "chain-broken"  # R-CHAIN-9
    CHAIN_UNSETTLED = "chain-unsettled"  # R-CHAIN-10, R-CHAIN-11
    CHAIN_DISCLAIMED = "chain-disclaimed"  # R-CHAIN-12

    # A client about its own past.
    STATE_REUSED = "state-reused"  # R-STATE-4

    # The server about a client.
    UNKNOWN_SENDER = "unknown-sender"  # R-WIRE-10
    KEY_UNUSABLE = "key-unusable"  # R-ADVERTISE-4
    KEY_REPEATED = "key-repeated"  # R-ADVERTISE-4
    BAD_SIGNATURE = "bad-signature"  # R-ADVERTISE-4, R-CONFIRM-2
    WRONG_LENGTH = "wrong-length"  # R-SHARE-8, R-MASK-6, R-UNMASK-4, R-HYBRID-9
    COMPLAINT_DEALERS = "complaint-dealers"  # R-COMPLAIN-5
    BAD_ANSWER = "bad-answer"  # R-COMPLAIN-9
    DISPUTED = "disputed"  # R-COMPLAIN-10
    ELEMENT_RANGE = "element-range"  # R-MASK-6
    PADDING = "padding"  # R-MASK-6
    BAD_SHARE = "bad-share"  # R-UNMASK-4
    BAD_DEALER = "bad-dealer"  # R-UNMASK-7, R-HYBRID-4, R-HYBRID-14
    BAD_ENVELOPE = "bad-envelope"  # R-ENV-8
    TOO_FEW_LEFT = "too-few-left"  # reserved


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


class DisclosureError(SecAggError):
    """A member's own rules refuse a study, its few records, or a sum over this set of members.

    Nothing was given away.  The message is for the member itself: it may tell of its data.
    """


class CertificateError(SecAggError):
    """A certificate, or a chain of them, does not hold: the message says which of its claims is wrong."""


class PeerError(SecAggError):
    """The other side misbehaved.

    Attributes:
        code: the rule that was broken.
        phase: the phase in which it was broken, by name (``"SHARE"``).
        culprit: the cohort indices to blame; empty when the server is.  A client that names a dealer (R-SHARES-3 to
            R-SHARES-5) names whoever dealt or carried its shares: a lying server can alter them on the way.
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
