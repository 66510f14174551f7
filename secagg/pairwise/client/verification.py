"""How a client checks a roster, and many signatures at once: in this thread, or on an executor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final, TypeAlias

from secagg.pairwise import records
from secagg.pairwise.client.member import Member
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.graph import NeighbourGraph
from secagg.pairwise.messages import Roster
from secagg.pairwise.records import PublicKeys
from secagg.pairwise.rules import client as rules
from secagg.wording import counted

if TYPE_CHECKING:
    from concurrent.futures import Executor

Claim: TypeAlias = tuple[bytes, bytes, bytes, int]
"""An identity key, the bytes that it signed, the signature, and whose it is."""
Verify: TypeAlias = Callable[[bytes, bytes, bytes, int], None]
_CLAIMS_PER_JOB: Final = 64  # some milliseconds: well above the cost of handing them out


@lru_cache(maxsize=8)
def _graph(clients: int, neighbours: int, key: bytes, groups: int) -> NeighbourGraph:
    """Remembered: many clients of one process are in the same round."""
    return NeighbourGraph(clients, neighbours, key, groups)


def graph_of(config: RoundConfig, digest: bytes, session: bytes) -> NeighbourGraph:
    """The graph that the roster with this digest draws."""
    key = config.labels.graph_key(digest, session)
    return _graph(config.clients, config.neighbours, key, config.groups)


def check_roster(
    member: Member,
    roster: Roster,
    own: PublicKeys,
    present: Sequence[int],
    keys: Sequence[PublicKeys],
    absent: Sequence[int],
    session: bytes,
    executor: Executor | None,
) -> None:
    """R-ROSTER-1 to R-ROSTER-8.  ``keys`` are those of ``present``, both as they came: an id may stand there twice."""
    index, config, round_ = member.index, member.config, member.round
    labels = config.labels
    rules.own_leaf(own.to_bytes(), roster.own)
    rules.ids_valid(present, index, config)
    rules.keys_usable(config.suite, own, [key for both in keys for key in both])
    if config.threat_model.signs:
        rules.neighbours_drawn(present, absent, graph_of(config, roster.digest, session).neighbours_of(index).tolist())
        leaves = {index: labels.leaf(index, *own)}
        leaves.update((absentee, labels.empty_leaf(absentee)) for absentee in absent)
        leaves.update((neighbour, labels.leaf(neighbour, *both)) for neighbour, both in zip(present, keys, strict=True))
        rules.leaves_in_roster(leaves, round_.round_id, config, roster.proof, roster.digest)
        signatures = records.cut_exactly(
            roster.signatures, records.SIGNATURE_BYTES, len(present), "the neighbours' signatures"
        )
        claims = [
            (
                member.cohort[neighbour],
                labels.signed_advertisement(config.digest, round_.nonce, neighbour, *both),
                signature,
                neighbour,
            )
            for neighbour, both, signature in zip(present, keys, signatures, strict=True)
        ]
        verify_each(rules.keys_signed, claims, executor)
    else:
        rules.nothing_signed(roster.absent, roster.signatures, roster.proof, config.threat_model)
    rules.neighbours_enough(present, config.threshold)


def verify_each(check: Verify, claims: Sequence[Claim], executor: Executor | None) -> None:
    """Run a check on each (identity key, signed bytes, signature, signer); the first that fails is raised."""
    if executor is None or len(claims) <= _CLAIMS_PER_JOB:
        _verify_some(check, claims)
        return
    parts = [claims[start : start + _CLAIMS_PER_JOB] for start in range(0, len(claims), _CLAIMS_PER_JOB)]
    verified = sum(executor.map(partial(_verify_some, check), parts))
    if verified != len(claims):  # an executor that loses jobs must not let a signature through
        raise RuntimeError(
            f"the executor verified {counted(verified, 'signature')} of {len(claims)}: its map() drops jobs"
        )


def _verify_some(check: Verify, claims: Sequence[Claim]) -> int:
    for claim in claims:
        check(*claim)
    return len(claims)
