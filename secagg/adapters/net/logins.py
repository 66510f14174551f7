"""Who is at the other end of a connection: a challenge, its answer, and room for those who have not answered yet."""

from __future__ import annotations

import asyncio
import os
from typing import Final, final

from secagg.adapters.net.channel import Channel
from secagg.adapters.net.clock import Clock
from secagg.adapters.net.frames import (
    CHALLENGE_BYTES,
    FRAMES_VERSION,
    Challenge,
    Login,
    Refusal,
    RefusedError,
    ToServer,
)
from secagg.pairwise import transcript
from secagg.primitives import signing, suites

_HONEST_LOGIN_SECONDS: Final = 1.0
"""An honest login takes milliseconds (``benchmarks/service_load.py --logins``).  Where logins fill all the room, one
that has taken longer than this gives way."""


@final
class Logins:
    """The connections that are logging in; ``len`` counts them."""

    def __init__(self, *, most: int, seconds: float, certificate: bytes, clock: Clock) -> None:
        """Set the bounds.

        Args:
            most: how many may log in at the same time.
            seconds: how long one may take.
            certificate: SHA-256 of the TLS certificate, which the answer signs; empty without TLS.
            clock: what ``seconds`` are counted by.
        """
        self._most, self._seconds, self._certificate, self._clock = most, seconds, certificate, clock
        self._under_way: dict[asyncio.Timeout, float] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def has_room(self) -> bool:
        """Whether one more may begin.  When there are too many, one that takes long makes room."""
        if len(self._under_way) < self._most:
            return True
        now = self._clock.monotonic()
        for patience, began in self._under_way.items():  # the oldest first
            if now - began < _HONEST_LOGIN_SECONDS:
                return False
            if not patience.expired():
                patience.reschedule(now)
                return True
        return False

    async def identity(self, round_name: str, channel: Channel[ToServer]) -> bytes:
        """The identity key that the client has proved to hold.  Raises RefusedError."""
        patience = self._clock.timeout(self._seconds)
        self._under_way[patience] = self._clock.monotonic()
        try:
            async with patience:
                return await self._challenge(round_name, channel)
        except TimeoutError:
            raise RefusedError(Refusal.TOO_SLOW, "the login took too long") from None
        finally:
            del self._under_way[patience]

    async def _challenge(self, round_name: str, channel: Channel[ToServer]) -> bytes:
        challenge = os.urandom(CHALLENGE_BYTES)
        await channel.send(Challenge(FRAMES_VERSION, challenge))
        login = await channel.receive()
        if not isinstance(login, Login):
            raise RefusedError(Refusal.MALFORMED, f"a {type(login).__name__} frame before the login")
        if login.version != FRAMES_VERSION:
            raise RefusedError(
                Refusal.WRONG_VERSION, f"frames of version {login.version}; this server speaks {FRAMES_VERSION}"
            )
        signed = transcript.signed_login(challenge, round_name, self._certificate)
        try:
            signing.verify(login.key, signed, login.signature)
        except suites.CryptoError:
            raise RefusedError(
                Refusal.BAD_LOGIN,
                "the login's signature does not hold for this server's certificate: somebody stands in between (a "
                "proxy that ends TLS, say), or the identity is damaged",
            ) from None
        return login.key
