"""SHARE: the roster shows a client its neighbours; it deals each of them a share of both its secrets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from secagg.events import ClientStep
from secagg.pairwise import messages, records
from secagg.pairwise.client import dealing, verification
from secagg.pairwise.client.dealing import Dealt
from secagg.pairwise.client.member import Member
from secagg.pairwise.client.records import Advertised, Shared
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.hybrid import KeyPair, PairSecrets, complaint_digest
from secagg.pairwise.messages import Roster
from secagg.pairwise.records import PAIR_SECRET_BYTES, PublicKeys
from secagg.primitives.secret import Secret

if TYPE_CHECKING:
    from concurrent.futures import Executor


def take_roster(
    member: Member, record: Advertised, roster: Roster, executor: Executor | None
) -> tuple[Shared, ClientStep]:
    """Check the roster, draw the self-mask seed, and deal shares of it and of the masking key.

    R-HYBRID-8: in a hybrid suite the same message is never made twice, and the state that could make one is left.
    """
    config = member.config
    present = messages.decode_ids(roster.present)
    absent = messages.decode_ids(roster.absent)
    keys = records.public_keys(roster.keys, len(present), "the neighbours' keys", config.suite)
    session = config.labels.session_id(config.digest, member.round.nonce, roster.digest)
    own = PublicKeys(record.channel_key, record.masking_key)
    verification.check_roster(member, roster, own, present, keys, absent, session, executor)
    neighbours = dict(zip(present, keys, strict=True))
    round_id, masking_private = member.round.round_id, record.masking_private.reveal()
    channel = KeyPair(config, round_id, member.index, record.channel_private.reveal(), "channel")
    dealt = dealing.deal(
        config, session, member.index, own, channel, masking_private, record.share_secret.reveal(), neighbours
    )
    sealed_secrets, hidden, sealers = [b""] * len(present), [b""] * len(present), tuple[int, ...]()
    if config.suite.is_hybrid:
        sealing = verification.graph_of(config, roster.digest, session).seals_for(member.index, present).tolist()
        masking = KeyPair(config, round_id, member.index, masking_private, "masking")
        secrets = PairSecrets(config, session, member.index, masking, own.masking)
        sealed_secrets = dealing.seal_secrets(secrets, neighbours, sealing)
        hidden = [
            secrets.derived(neighbour) if seals else bytes(PAIR_SECRET_BYTES)
            for neighbour, seals in zip(present, sealing, strict=True)
        ]
        sealers = tuple(neighbour for neighbour, seals in zip(present, sealing, strict=True) if not seals)
    shared = Shared(
        session=session,
        neighbours=tuple(sorted((*present, *absent))),
        present=present,
        masking_key=record.masking_key,
        masking_keys=tuple(both.masking for both in keys),
        masking_private=record.masking_private,
        seed=Secret(dealt.seed),
        receive_keys=Secret(dealt.receive_keys),
        channel_root=record.channel_private if config.suite.is_hybrid else Secret(b""),
        channel_key=record.channel_key if config.suite.is_hybrid else b"",
        channel_keys=tuple(both.channel for both in keys) if config.suite.is_hybrid else (),
        sealers=sealers,
        **(_kept(config, dealt, sealed_secrets, hidden) if config.complaints else {}),
    )
    answer = messages.share(  # R-SHARE-7
        config.suite,
        config.version,
        session,
        dealt.seed_commitment,
        dealt.sealed,
        dealt.commitments,
        pair_secrets=b"".join(sealed_secrets),
    )
    return shared, ClientStep((messages.encode(answer),))


def _kept(
    config: RoundConfig, dealt: Dealt, sealed_secrets: Sequence[bytes], hidden: Sequence[bytes]
) -> dict[str, Any]:
    """What a dealer needs to answer complaints: what it would open of each pair, and the digests of what it sends.

    By neighbour, and empty outside of a hybrid suite: the sealed pair secrets, and what is in them.
    """
    pairs = records.cut(dealt.pairs, records.PAIR_BYTES)
    opened = [pair + secret for pair, secret in zip(pairs, hidden, strict=True)]
    sealed = records.cut(dealt.sealed, records.sealed_bytes(config.suite))
    commitments = records.cut(dealt.commitments, records.COMMITMENTS_BYTES)
    sent = zip(sealed, commitments, sealed_secrets, strict=True)
    return {
        "dealt": Secret(b"".join(opened)),
        "sent": b"".join(complaint_digest(config, *parts) for parts in sent),
    }
