"""A client's input and the duties of its host: what is checked before it joins, and remembered before it answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, final

import numpy.typing as npt

from secagg.errors import InputError, ParameterError
from secagg.events import Finished, InputNeeded
from secagg.machines import ClientMachine
from secagg.pairwise.config import RoundConfig
from secagg.wording import counted


class RoundEncoder(Protocol):
    """What a contribution needs of the encoder of one round."""

    def encode(self, update: object, weight: int = 1) -> npt.ArrayLike:
        """The vector to submit."""


class InputEncoder(Protocol):
    """What a contribution needs of an ``Encoder`` or a ``PrivateEncoder``."""

    def input_digest(self, update: object) -> bytes:
        """A digest of the update's values."""

    def for_round(self, config: RoundConfig, /) -> RoundEncoder:
        """The encoder of a round.  Raises UsageError when the round's vectors are not this encoder's."""


class Released(Protocol):
    """Which inputs may be in a sum: ``ReleasedInputs``, or ``DurableTokens.released`` in a file."""

    def __contains__(self, digest: bytes, /) -> bool:
        """Whether the input with this digest may be in a sum."""

    def add(self, digest: bytes, /) -> bool:
        """Remember, durably, that it may be.  False when another round released it first."""


@final
class Contribution:
    """What one client brings to one round, and what its host must do with it (R-JOIN-3 to R-JOIN-6).

    ``start`` and ``answer`` take the client, so that a host may suspend it between two messages and resume it in
    another process, where it makes the contribution again.
    """

    def __init__(
        self,
        encoder: InputEncoder,
        update: object,
        *,
        released: Released,
        weight: int = 1,
        input_digest: bytes | None = None,
        accept_survivors: Callable[[tuple[int, ...]], bool] | None = None,
    ) -> None:
        """Bring an update.

        Args:
            encoder: turns the update into the round's vector.
            update: the update, or a function without arguments that returns it when the vector is asked for.
            released: the inputs of this client that may be in a sum.
            weight: how often the update counts in the mean.
            input_digest: of what the update will be made from; needed where ``update`` is a function.
            accept_survivors: judges the cohort indices of those whose sum the last message would help to open; False
                withholds that message.

        Raises ParameterError for a function without a digest.
        """
        if input_digest is None:
            if callable(update):
                raise ParameterError(
                    "update is a function and input_digest is not given; give a digest of what it will be made from"
                )
            input_digest = encoder.input_digest(update)
        self._encoder, self._update, self._weight = encoder, update, weight
        self._digest, self._released = input_digest, released
        self._accept_survivors = accept_survivors

    def __repr__(self) -> str:
        return f"<Contribution of weight {self._weight}>"

    def check_unreleased(self) -> None:
        """Call it before ``Client.join``.

        Raises InputError when the input may be in a sum already: the difference of two sums could be its vector.
        """
        if self._digest in self._released:
            raise InputError(
                "this input may be in a sum already, and the difference of two sums could be this client's vector; "
                "bring another input"
            )

    def start(self, client: ClientMachine) -> bytes:
        """The first message of a client that has joined, after the last checks that may keep it from the round.

        Raises what ``check_unreleased`` raises, what the encoder's ``for_round`` raises for a round whose vectors are
        not its own, and ParameterError for a round with attachments.  The client is then closed, and nothing was sent.
        """
        try:
            self.check_unreleased()
            if client.config.attachment_bytes:
                raise ParameterError(
                    f"the round asks for {counted(client.config.attachment_bytes, 'byte')} beside the vector, which a "
                    "contribution does not have; call client.submit(vector, attachment) in its place"
                )
            self._encoder.for_round(client.config)
        except Exception:
            client.close()
            raise
        return client.start()

    def answer(self, client: ClientMachine, data: bytes | bytearray | memoryview) -> tuple[bytes, ...]:
        """Take one message of the server's; returns what to send, in order.

        It submits the vector when that is asked for, and remembers that the input may be in a sum before it returns the
        last message.  It returns an ABORT message in the place of the last message when ``accept_survivors`` says no,
        or when another round released the input first.

        Raises PeerError when a rule was broken: send its ``reply``; the round is over for the client.  Raises what the
        update's function raises, and InputError for an update that cannot be encoded; the client's secrets are wiped
        then, and ``client.abort()`` gives the message that tells the server to wait no longer.
        """
        step = client.receive(data)
        if isinstance(step.event, InputNeeded):
            try:
                update = self._update() if callable(self._update) else self._update
                step = client.submit(self._encoder.for_round(client.config).encode(update, weight=self._weight))
            except Exception:
                client.close()
                raise
        if isinstance(step.event, Finished) and not self._may_finish(step.event.survivors):
            return (client.abort(),)
        return step.outgoing

    def _may_finish(self, survivors: tuple[int, ...]) -> bool:
        if self._accept_survivors is not None and not self._accept_survivors(survivors):
            return False
        return self._released.add(self._digest)
