"""Who a client is in its round, and what is asked before it becomes that: the rules about invitation and cohort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from secagg.errors import AbortCode, ParameterError, PeerError
from secagg.events import InputNeeded
from secagg.identity import Directory, Identity
from secagg.pairwise import config_wire, messages, transcript
from secagg.pairwise.client.chaining import Chain
from secagg.pairwise.client.records import Round
from secagg.pairwise.config import Policy, RoundConfig, decode_config
from secagg.pairwise.phases import Phase
from secagg.pairwise.rules import client as rules
from secagg.pairwise.rules import wire as wire_rules
from secagg.pairwise.rules.client import Approve, Consume
from secagg.primitives import kem


@final
@dataclass(frozen=True, slots=True)
class Member:
    """What stays the same from first to last: the round, and who takes part in it."""

    round: Round
    config: RoundConfig
    identity: Identity | None
    """This client's own, where the threat model signs."""
    cohort: Sequence[bytes]
    """Everybody's identity key, by index; empty where nothing is signed."""
    chain: Chain | None = None
    """What this client knows of the cohort's chain, if it keeps one."""

    @property
    def index(self) -> int:
        """The cohort index."""
        return self.round.index

    def input_needed(self) -> InputNeeded:
        """What the client asks its host for, when it is settled whose masks it makes."""
        config = self.config
        return InputNeeded(config.length, config.modulus.value, config.input_max, config.attachment_bytes)


def invited_member(
    invitation: bytes,
    index: int,
    approve: Approve | None,
    policy: Policy | None,
    identity: Identity | None,
    directory: Directory | None,
    consume: Consume | None,
    chain: Chain | None,
) -> Member:
    """Take an invitation; arguments and errors are those of ``Client.join``."""
    version, round_id = transcript.VERSION, bytes(transcript.DIGEST_BYTES)
    try:
        invite, certificates = messages.decode_invitation(invitation)
        wire_rules.config_of_version(config_wire.shown_version(invite.config), invite.version)
        version, round_id = invite.version, invite.session
        config = rules.config_sound(decode_config, invite.config, version)
        wire_rules.of_session(invite.session, config.labels.round_id(config.digest, invite.nonce))
        rules.config_approved(config, approve)
        identified = identity is not None or directory is not None
        (policy or Policy()).check(config, identified=identified)
        kem.require(config.suite)  # R-HYBRID-1
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < config.clients:  # R-JOIN-1
            raise ParameterError(f"index {index!r}: this round's clients are 0 to {config.clients - 1}")
        cohort = _vouched_cohort(config, index, identity, directory)
        if config.threat_model.signs and consume is None:
            raise ParameterError(
                f"{config.threat_model}: give consume, which keeps this client from joining a round twice"
            )
        chain = chain if config.threat_model.confirms else None
        move_head = None if chain is None else chain.admit(config, index, certificates, cohort)
        rules.not_joined_before(consume, config.labels.join_token(round_id, index))  # last, as R-JOIN-2 has it
    except PeerError as refused:
        refused.phase = Phase.ADVERTISE
        refused.reply = messages.encode_abort(version, round_id, AbortCode.CONFIG_REFUSED)  # R-CONFIG-14
        raise
    if move_head is not None:
        move_head()
    return Member(Round(config.to_bytes(), invite.nonce, round_id, index), config, identity, cohort, chain)


def resumed_member(
    round_: Round, identity: Identity | None, directory: Directory | None, chain: Chain | None
) -> Member:
    """The member that was suspended in this round.  Raises ParameterError for a damaged index."""
    config = decode_config(round_.config)
    kem.require(config.suite)
    if not 0 <= round_.index < config.clients:
        raise ParameterError(f"this suspended client is number {round_.index} of {config.clients}: damaged bytes")
    return Member(round_, config, identity, _vouched_cohort(config, round_.index, identity, directory), chain)


def _vouched_cohort(
    config: RoundConfig, index: int, identity: Identity | None, directory: Directory | None
) -> Sequence[bytes]:
    """R-CONFIG-12, and what signing needs of the host."""
    if not config.threat_model.signs:
        return ()
    if identity is None or directory is None:
        raise ParameterError(
            f"{config.threat_model}: give this client's identity and the directory that vouches for its cohort"
        )
    return rules.cohort_vouched(config, index, identity, directory)
