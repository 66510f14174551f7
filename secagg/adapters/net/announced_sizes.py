"""How many bytes the server may announce: asked before any of them is read, so that they take no more memory."""

from __future__ import annotations

from secagg.adapters.net.frames import Message, Refusal, RefusedError, Sum
from secagg.adapters.net.round_spec import PHASES
from secagg.pairwise import messages
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import Phase
from secagg.pairwise.transcript import VERSION
from secagg.wording import counted


def largest_message(config: RoundConfig | None, phase: str) -> int:
    """The most bytes of the server's message that begins a phase; before there is a config, of an invitation."""
    kinds = messages.beginnings(Phase(phase))
    if config is None or not kinds:
        is_version_1 = config is not None and config.version == VERSION
        return messages.MAX_INVITATION_BYTES if is_version_1 else messages.MAX_CHAINED_INVITATION_BYTES
    return max(messages.max_bytes(config, kind) for kind in kinds)


def check_message(frame: Message, config: RoundConfig | None) -> None:
    """Raise RefusedError for a message of no phase, of no bytes, or of more than its phase has in this round."""
    if frame.phase not in PHASES:
        raise RefusedError(Refusal.MALFORMED, "the server sent a message of no phase of the protocol")
    if frame.size == 0:
        raise RefusedError(Refusal.MALFORMED, f"the server announced a {frame.phase} message of no bytes")
    allowed = largest_message(config, frame.phase)
    if frame.size > allowed:
        raise _wrong_size(Refusal.TOO_LARGE, f"{frame.phase} message", frame.size, f"at most {allowed:,}")


def check_sum(frame: Sum, config: RoundConfig) -> None:
    """Raise RefusedError for a sum that is not exactly as long as this round's, or does not say who is in it."""
    if len(frame.included) != (config.clients + 7) // 8:
        raise RefusedError(Refusal.MALFORMED, "the server's sum does not say who is in it")
    exactly = config.modulus.packed_bytes(config.length)
    if frame.size != exactly:
        code = Refusal.TOO_LARGE if frame.size > exactly else Refusal.MALFORMED
        raise _wrong_size(code, "sum", frame.size, f"{exactly:,}")


def _wrong_size(code: Refusal, what: str, size: int, allowed: str) -> RefusedError:
    return RefusedError(code, f"the server announced a {what} of {counted(size, 'byte')}; this round's has {allowed}")
