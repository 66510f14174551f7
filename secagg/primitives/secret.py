"""A wrapper for secret bytes: nothing prints them, nothing pickles them, and they can be wiped.

Python gives no promise that no copy of a value survives somewhere in memory; wiping shortens the time that a secret
is found there, and no more is claimed.
"""

from __future__ import annotations

from typing import NoReturn, final

from secagg.wording import counted


@final
class Secret:
    """Secret bytes with a redacted repr.  ``reveal`` gives them out, ``wipe`` overwrites them with zeros."""

    __slots__ = ("_data", "_wiped")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = bytearray(data)
        self._wiped = False

    def reveal(self) -> bytes:
        """A copy of the bytes.  Raises RuntimeError once they are wiped: using them again is a bug."""
        if self._wiped:
            raise RuntimeError("this secret was wiped when its phase ended; it cannot be used again")
        return bytes(self._data)

    def wipe(self) -> None:
        """Overwrite the bytes.  Idempotent."""
        self._data[:] = bytes(len(self._data))
        self._wiped = True

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"Secret({'wiped' if self._wiped else counted(len(self._data), 'byte')})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled or copied; suspend the client instead")
