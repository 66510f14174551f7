"""One round of the protocol for a host that asks its clients phase by phase: whose message is whose, and who is next.

The host carries the messages.  It tells a client by a name of its own, such as a node's number; the protocol tells it
by its cohort index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from logging import Logger
from typing import Generic, TypeAlias, TypeVar, final

from secagg.errors import PeerError
from secagg.events import Accepted, ClientAborted, Misbehaved
from secagg.machines import ServerMachine
from secagg.pairwise import messages
from secagg.pairwise.messages import Advertise
from secagg.pairwise.phases import Phase, ServerState
from secagg.primitives import signing, suites

Name = TypeVar("Name", int, str)
"""By which a host tells its clients."""
Pending: TypeAlias = dict[Name, bytes]
"""What each client is sent next."""


@final
class HostedRound(Generic[Name]):
    """Hands a Server what clients answer, and says what goes to whom next.

    In ``semi_honest`` the host gives each client its cohort index; in ``active`` each says which member of the
    directory it is, and its signature proves it.

    Attributes:
        server: the machine.
        name_of: by cohort index, the clients that have joined.
        heard: whether anybody has answered with a message of the protocol.
    """

    def __init__(
        self,
        server: ServerMachine,
        log: Logger,
        noun: str,
        members: Sequence[bytes] = (),
        why_not: Callable[[list[Name]], str] = lambda survivors: "",
    ) -> None:
        """A round that has not begun.

        Args:
            server: a new one.
            log: the host's.
            noun: what the host calls a client, such as "node".
            members: ``active``: the directory's identity keys, by cohort index.
            why_not: why the sum over these clients must not be opened, asked before anybody hears of the survivors;
                empty when it may be.
        """
        self.server = server
        self.name_of: dict[int, Name] = {}
        self.heard = False
        self._log, self._noun, self._members = log, noun, members
        self._why_not: Callable[[list[Name]], str] = why_not
        self._nonce = messages.invitation.decode(server.invitation(), messages.MAX_INVITATION_BYTES, None).nonce
        self._index_of: dict[Name, int] = {}
        self._answered: set[Name] = set()
        """The clients that answered in this phase, so that somebody is there to be told of the round's end."""

    def indices(self, invited: Sequence[Name]) -> dict[Name, int | None]:
        """The cohort index that goes with each invitation; None in ``active``, where clients know their own."""
        given: dict[Name, int | None] = dict.fromkeys(sorted(invited))
        if not self.server.config.threat_model.signs:
            for index, name in enumerate(given):
                given[name] = index
                self._bind(index, name)
        return given

    def lost(self, name: Name, reason: str) -> None:
        """Say in the log why a client gives no answer; the server counts it as lost when the phase is closed."""
        self._log.info("secagg: %s: %s %s is lost: %s", self.server.phase.value, self._noun, name, reason)

    def take(self, name: Name, data: bytes, index: int | None) -> None:
        """Hand one answer to the server; ``index`` is the one that the client says.  Nothing that it sends raises."""
        phase = self.server.phase.value
        self.heard = True
        known = self._index_of.get(name)
        if known is None:
            if index is None or not self._is_member(index, data):
                self._log.warning(
                    "secagg: %s: %s %s did not join, or is not who it says: see its own log", phase, self._noun, name
                )
                return
            known = index
        event = self.server.receive(known, data).event
        match event:
            case Accepted():
                self._answered.add(name)
                self._bind(known, name)
            case Misbehaved():
                self._log.warning(
                    "secagg: %s: %s %s is refused (%s): %s", phase, self._noun, name, event.code, event.detail
                )
            case ClientAborted():
                self._log.warning(
                    "secagg: %s: %s %s left (%s): its own log says why", phase, self._noun, name, event.code.name
                )
            case _:
                self._log.info("secagg: %s: %s %s: %s", phase, self._noun, name, type(event).__name__)

    def close(self, say_goodbye: Callable[[Mapping[Name, bytes]], None]) -> Pending[Name]:
        """Close the phase: what goes out next, or nothing when the round has failed or is ready to be computed.

        ``say_goodbye`` is called when it has failed, with what tells those that just answered to wipe their states.
        """
        phase = self.server.phase.value
        outgoing = self.server.close_phase()
        if phase == Phase.MASK and self.server.failure is None and (why := self._why_not(self._survivors())):
            outgoing = self.server.abort(why)
        if self.server.failure is not None:
            names = ((self.name_of.get(index), data) for index, data in outgoing)
            if last := {name: data for name, data in names if name is not None and name in self._answered}:
                say_goodbye(last)
            return {}
        if lost := self.server.dropped.get(phase):
            self._log.info("secagg: %s: lost %d of %d clients", phase, len(lost), self.server.config.clients)
        self._answered.clear()
        # Whoever was lost is told nothing: waiting for its answer would take the whole timeout.
        return {self.name_of[index]: outgoing.to(index) or b"" for index in self.server.missing}

    def _survivors(self) -> list[Name]:
        """The clients whose vectors are in the sum, once MASK is closed."""
        lost = {index for members in self.server.dropped.values() for index in members}
        return [self.name_of[index] for index in range(self.server.config.clients) if index not in lost]

    def _is_member(self, index: int, data: bytes) -> bool:
        """Whether a client that says it is member ``index`` has that member's signature.

        The server believes whoever hands it messages, so that a claim must be proved before it can count for or against
        the member.  An ABORT proves nothing, and is nobody's.
        """
        config = self.server.config
        if self.server.phase is not ServerState.ADVERTISE or not 0 <= index < len(self._members):
            return False
        try:
            limit = config.max_message_bytes(Phase.ADVERTISE)
            message = messages.to_server.decode(data, limit, config.version, config.suite.agreement)
            if not isinstance(message, Advertise):
                return False
            signed = config.labels.signed_advertisement(
                config.digest, self._nonce, index, message.channel_key, message.masking_key
            )
            signing.verify(self._members[index], signed, message.signature)
        except (PeerError, suites.CryptoError):
            return False
        return True

    def _bind(self, index: int, name: Name) -> None:
        self._index_of.setdefault(name, index)
        self.name_of.setdefault(index, name)
