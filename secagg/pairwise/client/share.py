"""SHARE: the roster shows a client its neighbours; it deals each of them a share of both its secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secagg.events import ClientStep
from secagg.pairwise import messages, records
from secagg.pairwise.client import dealing, verification
from secagg.pairwise.client.member import Member
from secagg.pairwise.client.records import Advertised, Shared
from secagg.pairwise.messages import Roster, Share
from secagg.pairwise.records import PublicKeys
from secagg.primitives.secret import Secret

if TYPE_CHECKING:
    from concurrent.futures import Executor


def take_roster(
    member: Member, record: Advertised, roster: Roster, executor: Executor | None
) -> tuple[Shared, ClientStep]:
    """Check the roster, draw the self-mask seed, and deal shares of it and of the masking key."""
    config = member.config
    present = messages.decode_ids(roster.present)
    absent = messages.decode_ids(roster.absent)
    keys = records.public_keys(roster.keys, len(present), "the neighbours' keys")
    session = config.labels.session_id(config.digest, member.round.nonce, roster.digest)
    own = PublicKeys(record.channel_key, record.masking_key)
    verification.check_roster(member, roster, own, present, keys, absent, session, executor)
    dealt = dealing.deal(
        config,
        session,
        member.index,
        own,
        record.channel_private.reveal(),
        record.masking_private.reveal(),
        record.share_secret.reveal(),
        dict(zip(present, keys, strict=True)),
    )
    shared = Shared(
        session=session,
        neighbours=tuple(sorted((*present, *absent))),
        present=present,
        masking_key=record.masking_key,
        masking_keys=tuple(both.masking for both in keys),
        masking_private=record.masking_private,
        seed=Secret(dealt.seed),
        receive_keys=Secret(dealt.receive_keys),
    )
    answer = Share(config.version, session, dealt.seed_commitment, dealt.sealed, dealt.commitments)  # R-SHARE-7
    return shared, ClientStep((messages.encode(answer),))
