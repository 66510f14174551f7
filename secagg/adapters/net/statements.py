"""After a chained round was aborted in UNMASK: its members' statements that they did not answer.

A member that answered joins no further round of the cohort until t of its neighbours have signed that they did not
answer in the one that was aborted (R-CHAIN-10).  So the server asks for these signatures before it signs the round's
certificate, which brings them to everybody with the next invitation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, final

from secagg.adapters.net.frames import STATEMENT
from secagg.adapters.net.inbox import Submitted
from secagg.adapters.net.verdicts import UNDECIDED
from secagg.errors import AbortCode, CertificateError, ErrorCode
from secagg.machines import ServerMachine
from secagg.pairwise.phases import Phase, ServerState
from secagg.pairwise.records import SIGNATURE_BYTES

_SOMEBODY_MAY_HAVE_ANSWERED: Final = frozenset({Phase.UNMASK.value, ServerState.COMPUTE.value})
"""Before UNMASK nobody was shown what makes a client answer."""
_ACCEPTED: Final = "accepted"


def asked_for_statements(server: ServerMachine, departed: Collection[int]) -> frozenset[int]:
    """Who is asked to state that it did not answer, in a round that was aborted; nobody where that helps nobody.

    These are the members whose answer the server lacks, for those that were lost before the sum hold no vector that
    could be opened, and have been told to go.  ``departed`` left by themselves, and hear nothing more.  A member that
    answered needs t statements, so that fewer members than t are not asked at all.
    """
    failure, config = server.failure, server.config
    if failure is None or not config.chain or failure.phase not in _SOMEBODY_MAY_HAVE_ANSWERED:
        return frozenset()
    lost = {phase: set(server.dropped.get(phase, ())) for phase in Phase}
    if failure.code is AbortCode.CANCELLED:  # the phase was not closed: it is known of nobody that it did not answer
        before = set[int]().union(*(lost[phase] for phase in Phase if not phase.has_sum))
        asked = set(range(config.clients)) - before
    else:
        asked = lost[Phase.CONFIRM] | lost[Phase.UNMASK]
    asked -= set(departed)
    return frozenset(asked) if len(asked) >= config.threshold else frozenset()


@final
class Statements:
    """What the members of one round that were asked have said so far.

    Attributes:
        asked: who was.
    """

    def __init__(self, asked: frozenset[int]) -> None:
        """Nobody has said anything yet."""
        self.asked = asked
        self._awaited = set(asked)
        self._taken: dict[int, bytes] = {}

    @property
    def awaited(self) -> tuple[int, ...]:
        """Who has said nothing yet, ascending."""
        return tuple(sorted(self._awaited))

    @property
    def taken(self) -> Mapping[int, bytes]:
        """The statements by member."""
        return self._taken

    def in_advance(self, index: int, phase: str) -> str:
        """The verdict on a submission by sender and phase alone; UNDECIDED when its bytes are needed for it."""
        if phase == STATEMENT and index in self._taken:
            return "duplicate"
        return UNDECIDED if phase == STATEMENT and index in self._awaited else "late"

    def judge(self, server: ServerMachine, batch: Sequence[Submitted]) -> tuple[list[str], dict[int, bytes]]:
        """The verdicts on a batch, and the statements in it that hold; nothing is taken yet.

        A submission without bytes says that its sender makes no statement.  R-CHAIN-13: a statement that does not
        verify is refused.
        """
        verdicts: list[str] = []
        new: dict[int, bytes] = {}
        for item in batch:
            verdict = self.in_advance(item.index, item.phase)
            if verdict == UNDECIDED and item.index in new:
                verdict = "duplicate"
            elif verdict == UNDECIDED and item.data:
                verdict = _verdict_on(server, item.index, bytes(item.data))
                if verdict == _ACCEPTED:
                    new[item.index] = bytes(item.data)
            verdicts.append(verdict or _ACCEPTED)
        return verdicts, new

    def take(self, index: int, statement: bytes) -> None:
        """A statement that holds, and is in the journal; no bytes: the member makes none."""
        self._awaited.discard(index)
        if statement:
            self._taken[index] = statement


def _verdict_on(server: ServerMachine, index: int, statement: bytes) -> str:
    if len(statement) != SIGNATURE_BYTES:
        return ErrorCode.WRONG_LENGTH.value
    try:
        server.check_statement(index, statement)
    except CertificateError:
        return ErrorCode.BAD_SIGNATURE.value
    return _ACCEPTED
