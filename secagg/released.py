"""Which inputs may be in a sum already: what keeps a client from giving one away twice (R-JOIN-5)."""

from __future__ import annotations

from typing import final


@final
class ReleasedInputs:
    """The digests of inputs that may be in a sum, in memory.

    A server can open a round's sum, tell its clients that the round was aborted, and invite them again without one of
    them: the difference of the two sums is that client's vector.  No client can tell such an abort from a true one, but
    each knows whether it has answered UNMASK.  So a host

    - adds the input's digest (``Encoder.input_digest``) before the UNMASK message leaves, durably when the host
      survives a restart;
    - joins no other round with an input whose digest is here, unless its operator says so, knowing the risk.

    ``digest in released`` and ``released.add(digest)`` are all that a host needs; ``DurableTokens.released`` has both,
    and keeps the digests in a file.
    """

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests

    def __len__(self) -> int:
        return len(self._digests)

    def __repr__(self) -> str:
        return f"<ReleasedInputs: {len(self._digests)} of them>"

    def add(self, digest: bytes) -> bool:
        """The input may be in a sum from now on.  True when it was not there yet."""
        is_new = digest not in self._digests
        self._digests.add(digest)
        return is_new
