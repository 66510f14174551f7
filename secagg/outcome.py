"""What a round comes to, as the server tells its host: the sum or a failure, who is to blame, what to send."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

from secagg.arithmetic.modulus import Modulus
from secagg.errors import AbortCode, ErrorCode
from secagg.wording import counted

MakeMessage: TypeAlias = Callable[[int], bytes]
"""Makes the message for one client, given by its index."""


@final
@dataclass(frozen=True, slots=True)
class Blame:
    """Who broke which rule; ``sender`` is the one to blame."""

    sender: int
    phase: str
    code: ErrorCode
    detail: str


@final
@dataclass(frozen=True, slots=True)
class Failure:
    """Why the round, or one of its groups, ended without a sum.

    Attributes:
        phase: the phase in which it ended.
        reason: for a person.
        code: what the clients are told.
        missing: whom the server waited for in vain, when it was too many of them.
        culprit: who is to blame, when somebody is.
    """

    phase: str
    reason: str
    code: AbortCode
    missing: tuple[int, ...] = ()
    culprit: tuple[int, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Merged:
    """What a partial sum brought, when it was merged.

    Attributes:
        counted: whose masked inputs came with it and are in the sum now, ascending.
        awaited: who had been admitted to it and is not in it: their messages are needed again, ascending.
    """

    counted: tuple[int, ...]
    awaited: tuple[int, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Security:
    """What held in this round.

    Attributes:
        threat: the threat model.
        colluders: A.
        honest_members: the fewest honest clients in the sum, |S| - A; with groups, in the smallest group's sum, of
            which A_g may collude.
        sigma: bits of privacy asked for.
        privacy_log2, connectivity_log2, correctness_log2: the bounds reached, of ``parameters.Bounds``.
    """

    threat: str
    colluders: int
    honest_members: int
    sigma: int
    privacy_log2: float
    connectivity_log2: float
    correctness_log2: float


@final
@dataclass(frozen=True, slots=True, eq=False)
class GroupSum:
    """The sum of one group.

    Attributes:
        number: of the group, 0 .. G - 1.
        included: whose vectors are in the sum, ascending.
        sum: shape (length,), dtype ``modulus.dtype``, read-only: the sum of their vectors modulo ``modulus``.
    """

    number: int
    included: tuple[int, ...]
    sum: npt.NDArray[np.unsignedinteger[Any]]

    def __repr__(self) -> str:
        return f"<GroupSum {self.number}: of {counted(len(self.included), 'vector')}>"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The outcome of a round.

    Attributes:
        sum: shape (length,), dtype ``modulus.dtype``, read-only: the sum of the included vectors modulo ``modulus``.
        modulus: the modulus of the sum's elements.
        included: whose vectors are in the sum, ascending.
        min_survivors: the fewest that the config allows in a sum; with groups, in the sum of one (``min_group``).
        dropped: by phase, who was lost in it.  Those of CONFIRM and UNMASK are in the sum all the same, unless their
            group was left out: ``included`` decides.
        blame: who broke which rule; none of it changed the sum.
        security: what held.
        session: the session id.
        transcript_digest: covers what the server accepted and decided, without the masked vectors.
        attachments: by client, what its host attached to its vector, ``config.attachment_bytes`` each, for those that
            answered in UNMASK; empty in a round without attachments.
        groups: the sum of each group that was opened, by ascending number; in a round without groups one entry, whose
            sum is ``sum``.
        failed_groups: by number, why a group has no sum; empty in a round without groups.
    """

    sum: npt.NDArray[np.unsignedinteger[Any]]
    modulus: Modulus
    included: tuple[int, ...]
    min_survivors: int
    dropped: Mapping[str, tuple[int, ...]]
    blame: tuple[Blame, ...]
    security: Security
    session: bytes
    transcript_digest: bytes
    attachments: Mapping[int, bytes] = field(default_factory=dict)
    groups: tuple[GroupSum, ...] = ()
    failed_groups: Mapping[int, Failure] = field(default_factory=dict)

    def __repr__(self) -> str:
        vectors, elements = counted(len(self.included), "vector"), counted(len(self.sum), "element")
        return f"<Result: sum of {vectors} of {elements} modulo {self.modulus}>"


@final
class Outgoing:
    """The messages of a phase's close: (index, bytes) pairs, made while it is iterated, as often as it is iterated."""

    __slots__ = ("_make", "_recipients")

    def __init__(self, recipients: Sequence[int], make: MakeMessage) -> None:
        self._recipients = dict.fromkeys(recipients)
        self._make = make

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return ((index, self._make(index)) for index in self._recipients)

    def __len__(self) -> int:
        return len(self._recipients)

    @property
    def recipients(self) -> tuple[int, ...]:
        """Who gets a message."""
        return tuple(self._recipients)

    def to(self, index: int) -> bytes | None:
        """The message for one client, or None: for hosts whose clients fetch their messages."""
        return self._make(index) if index in self._recipients else None
