"""What a client refuses of what a server shows it, in the order of the protocol.

Rules that no message can break because of how the client is built (R-MASK-5, R-UNMASK-2, R-UNMASK-3) have no function
here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from secagg.errors import CertificateError, ErrorCode, ParameterError, PeerError
from secagg.pairwise import merkle, transcript
from secagg.pairwise.phases import Phase
from secagg.primitives import aead, agreement, kem, signing, suites
from secagg.primitives.suites import Suite
from secagg.wording import counted

if TYPE_CHECKING:
    from secagg.identity import Directory, Identity
    from secagg.pairwise.certificate import Certificate
    from secagg.pairwise.config import RoundConfig

Approve: TypeAlias = bytes | Callable[["RoundConfig"], bool]
Consume: TypeAlias = Callable[[bytes], bool]


# The invitation.


def config_approved(config: RoundConfig, approve: Approve | None) -> None:
    """R-CONFIG-2: the host approved this very config, by its digest or by looking at it."""
    if approve is None:
        return
    approved = config.digest == approve if isinstance(approve, bytes) else approve(config) is True
    if not approved:
        raise PeerError(
            ErrorCode.CONFIG_NOT_APPROVED,
            f"the server's config has digest {config.digest.hex()}, which this client's host did not approve",
        )


def config_sound(decode: Callable[[bytes], RoundConfig], data: bytes, version: int) -> RoundConfig:
    """R-CONFIG-10, R-EXTENSION-2, R-GROUP-1, R-GROUP-3, R-HYBRID-1, R-ENV-1, R-ENV-2, R-COMPLAIN-1: it is sound.

    It is of the ``version`` that invited to it (R-CONFIG-3).  Returns the
    config.
    """
    try:
        config = decode(data)
    except ParameterError as unsound:
        raise PeerError(
            ErrorCode.CONFIG_UNSOUND, f"the server's config breaks the protocol's rules: {unsound}"
        ) from None
    if config.version != version:
        raise PeerError(
            ErrorCode.CONFIG_UNSOUND,
            f"a config of protocol version {config.version} in an invitation of version {version}",
        )
    return config


def within_policy(kept: bool, name: str, met: object, allowed: str) -> None:
    """R-CONFIG-11, R-VERSION-4, R-ATTACH-5, R-GROUP-9, R-CHAIN-6, R-ENV-9, R-COMPLAIN-2: the policy allows a value."""
    if not kept:
        raise PeerError(
            ErrorCode.CONFIG_BELOW_POLICY,
            f"the server's config has {name} = {met}; this client's policy asks for {allowed}",
            phase=Phase.ADVERTISE,
        )


def cohort_vouched(config: RoundConfig, index: int, identity: Identity, directory: Directory) -> Sequence[bytes]:
    """R-CONFIG-12, R-SIGN-2: the directory vouches for the cohort, and this client is at its own index in it.

    Returns the identity keys by index.
    """
    keys = directory.cohort(config.cohort)
    if (
        keys is None
        or transcript.cohort_digest(keys) != config.cohort
        or not all(map(signing.is_signing_key, keys))
        or not (len(keys) == len(set(keys)) == config.clients)
    ):
        raise PeerError(
            ErrorCode.COHORT_NOT_VOUCHED,
            f"the directory does not vouch for a cohort of {config.clients} with digest {config.cohort.hex()}",
        )
    if keys[index] != identity.public_key:
        raise PeerError(
            ErrorCode.COHORT_NOT_VOUCHED, f"index {index} of the cohort has another identity key than this client"
        )
    return keys


def not_joined_before(consume: Consume | None, token: bytes) -> None:
    """R-CONFIG-13: this client joins this config and nonce for the first time."""
    if consume is not None and consume(token) is not True:
        raise PeerError(
            ErrorCode.ALREADY_JOINED,
            "this client joined this round before; ask the server for a new round (a new nonce)",
        )


# The chain of the cohort's rounds.


def chain_certificate(decode: Callable[[bytes], Certificate], data: bytes, server: bytes, cohort: bytes) -> Certificate:
    """R-CHAIN-8: the certificate is valid, of this cohort, and signed by the server that the client knows.

    Returns it.
    """
    try:
        certificate = decode(data)
    except CertificateError as wrong:
        raise PeerError(ErrorCode.CHAIN_CERTIFICATE, f"the invitation's certificate does not hold: {wrong}") from None
    if certificate.server != server:
        raise PeerError(
            ErrorCode.CHAIN_CERTIFICATE,
            f"the invitation brings a certificate of the server {certificate.server.hex()}; this client's is "
            f"{server.hex()}",
        )
    if certificate.round_config.cohort != cohort:
        raise PeerError(ErrorCode.CHAIN_CERTIFICATE, "the invitation brings a certificate of another cohort")
    return certificate


def certified_once(rounds: Sequence[tuple[bytes, bytes]]) -> None:
    """R-CHAIN-8: no round, told by its config and nonce, has two certificates: each could be read as its outcome."""
    if len(set(rounds)) < len(rounds):
        raise PeerError(ErrorCode.CHAIN_CERTIFICATE, "the invitation brings two certificates of one round")


def chain_linked(gap: str, head: bytes, chain: bytes) -> None:
    """R-CHAIN-9: certificates lead from the last one that the client knows to the round's chain.

    ``gap`` says why they do not; it is empty where they do.
    """
    if gap:
        raise PeerError(
            ErrorCode.CHAIN_BROKEN,
            f"the invitation does not lead from {head.hex() or 'nothing'}, the last certificate that this client "
            f"knows, to the round's chain, {chain.hex() or 'which it has not'}: {gap}",
        )


def round_settled(certified: bool, agrees: bool) -> None:
    """R-CHAIN-10: the round that the client answered in has its certificate, with the survivors that it confirmed."""
    if not (certified and agrees):
        what = "a certificate with other survivors" if certified else "no certificate"
        raise PeerError(
            ErrorCode.CHAIN_UNSETTLED,
            f"this client revealed its shares in a round of which the invitation brings {what}: its vector may be in a "
            "sum that nobody tells of",
        )


def one_certificate(received: bytes, brought: bytes) -> None:
    """R-CHAIN-15: the certificate that settles a round is the one that the client signed a receipt for, if it did."""
    if received not in (b"", brought):
        raise PeerError(
            ErrorCode.CHAIN_UNSETTLED,
            "the invitation brings another certificate of this client's last round than the one that came with its "
            "total: where their sums differ, the two of them prove that the server lied",
        )


def silent_enough(silent: int, threshold: int) -> None:
    """R-CHAIN-10: of a round that ended without a sum, t neighbours state that they did not answer."""
    if silent < threshold:
        raise PeerError(
            ErrorCode.CHAIN_UNSETTLED,
            f"{counted(silent, 'neighbour')} stated that they did not answer in the round that is said to be aborted; "
            f"{threshold} are needed",
        )


def silence_signed(identity_key: bytes, signed: bytes, signature: bytes, member: int) -> None:
    """R-CHAIN-10: a neighbour's statement that it did not answer is its own."""
    try:
        signing.verify(identity_key, signed, signature)
    except suites.CryptoError:
        raise PeerError(
            ErrorCode.CHAIN_UNSETTLED, f"the statement of member {member} that it did not answer is not its signature"
        ) from None


def answered_in_turn(unsettled: bool, in_turn: bool) -> None:
    """R-CHAIN-11: no other answer is unsettled, and the round is the one behind the client's head (``in_turn``)."""
    if unsettled or not in_turn:
        why = "answered in another round of the cohort, whose certificate it has not seen"
        late = "has joined a round behind later certificates: this round was said to be over"
        raise PeerError(ErrorCode.CHAIN_UNSETTLED, f"this client {why if unsettled else late}")


def not_disclaimed(disclaimed: Collection[bytes], session: bytes) -> None:
    """R-CHAIN-12: the client has not stated that it does not answer in this round."""
    if session in disclaimed:
        raise PeerError(
            ErrorCode.CHAIN_DISCLAIMED, "this client stated that it does not answer in this round, which was aborted"
        )


# The roster.


def own_leaf(own: bytes, shown: bytes) -> None:
    """R-ROSTER-1: the keys shown for this client are the ones that it advertised."""
    if shown != own:
        raise PeerError(ErrorCode.ROSTER_OWN_LEAF, "the roster shows other keys for this client than it advertised")


def ids_valid(ids: Sequence[int], index: int, config: RoundConfig) -> None:
    """R-ROSTER-2: the present ids are ascending, in range, not this client's, and no more than it has neighbours."""
    if len(ids) > config.neighbours:
        raise PeerError(
            ErrorCode.ROSTER_IDS, f"a roster of {counted(len(ids), 'neighbour')}; there are {config.neighbours}"
        )
    if len(set(ids)) != len(ids):
        raise PeerError(ErrorCode.ROSTER_IDS, "the roster lists a neighbour twice")
    if index in ids:
        raise PeerError(ErrorCode.ROSTER_IDS, f"the roster lists client {index} as its own neighbour")
    if ids and max(ids) >= config.clients:
        raise PeerError(ErrorCode.ROSTER_IDS, f"the roster lists id {max(ids)}; ids are below {config.clients}")
    if list(ids) != sorted(ids):
        raise PeerError(ErrorCode.ROSTER_IDS, "the roster's ids are not in ascending order")


def keys_usable(suite: Suite, own: Sequence[bytes], keys: Sequence[bytes]) -> None:
    """R-ROSTER-3: the keys are pairwise distinct, none of them is this client's own, and none has low order."""
    if len(set(map(agreement.x25519_half, (*own, *keys)))) != len(own) + len(keys):
        raise PeerError(ErrorCode.ROSTER_KEYS, "the roster shows one public key in two places")
    if any(agreement.has_low_order(suite, key) for key in keys):
        raise PeerError(
            ErrorCode.ROSTER_KEYS, "the roster shows a public key of low order: its agreements are all zero"
        )
    if suite.is_hybrid:
        _encapsulation_keys_usable(own, keys)


def _encapsulation_keys_usable(own: Sequence[bytes], keys: Sequence[bytes]) -> None:
    """R-HYBRID-3 for the ML-KEM halves, behind the X25519 ones."""
    halves = [key[agreement.PUBLIC_KEY_BYTES :] for key in (*own, *keys)]
    if len(set(halves)) != len(halves):
        raise PeerError(ErrorCode.ROSTER_KEYS, "the roster shows one ML-KEM key in two places")
    if not kem.are_encapsulation_keys(halves):
        raise PeerError(ErrorCode.ROSTER_KEYS, "the roster shows bytes that are no ML-KEM-768 encapsulation key")


def neighbours_drawn(present: Sequence[int], absent: Sequence[int], drawn: Sequence[int]) -> None:
    """R-ROSTER-4: these are exactly the neighbours that the roster's digest draws; the absent ones ascend too."""
    if sorted((*present, *absent)) != list(drawn) or list(absent) != sorted(absent):
        raise PeerError(ErrorCode.ROSTER_NEIGHBOURS, "the roster's neighbours are not those that its digest draws")


def leaves_in_roster(
    leaves: Mapping[int, bytes], round_: bytes, config: RoundConfig, proof: bytes, digest: bytes
) -> None:
    """R-ROSTER-5: every leaf stands in the roster with this digest, each at its own index."""
    root = merkle.root_from(leaves, config.clients, proof, config.labels.node)
    if root is None or config.labels.roster_digest(round_, config.clients, root) != digest:
        raise PeerError(ErrorCode.ROSTER_PATH, "the roster's Merkle proof does not lead from its leaves to its digest")


def keys_signed(identity_key: bytes, signed: bytes, signature: bytes, neighbour: int) -> None:
    """R-ROSTER-6: the neighbour's keys are signed by the identity at its index."""
    try:
        signing.verify(identity_key, signed, signature)
    except suites.CryptoError:
        raise PeerError(
            ErrorCode.ROSTER_SIGNATURE, f"the keys shown for client {neighbour} are not signed by its identity"
        ) from None


def nothing_signed(absent: bytes, signatures: bytes, proof: bytes, threat_model: str) -> None:
    """R-ROSTER-7: where nothing is signed, the fields that carry signatures and what they cover are empty."""
    if absent or signatures or proof:
        raise PeerError(ErrorCode.MALFORMED, f"a {threat_model} roster has no absent ids, signatures or proof")


def neighbours_enough(present: Sequence[int], threshold: int) -> None:
    """R-ROSTER-8: enough neighbours are present to reconstruct what this client shares."""
    if len(present) < threshold:
        raise PeerError(
            ErrorCode.ROSTER_TOO_FEW, f"{counted(len(present), 'neighbour')} present; {threshold} are needed"
        )


# The shares.


def dealers_known(dealers: Sequence[int], present: Collection[int]) -> None:
    """R-SHARES-1: the dealers are present neighbours, ascending, each once."""
    if any(later <= earlier for earlier, later in itertools.pairwise(dealers)):
        raise PeerError(ErrorCode.SHARES_DEALERS, "the dealers are not in ascending order, each once")
    if strangers := set(dealers) - set(present):
        raise PeerError(ErrorCode.SHARES_DEALERS, f"shares from client {min(strangers)}, which is no present neighbour")


def dealers_enough(dealers: Sequence[int], threshold: int) -> None:
    """R-SHARES-2: there are at least t dealers."""
    if len(dealers) < threshold:
        raise PeerError(
            ErrorCode.SHARES_TOO_FEW, f"shares from {counted(len(dealers), 'neighbour')}; {threshold} are needed"
        )


def share_opens(suite: Suite, key: bytes, sealed: bytes, context: bytes, dealer: int) -> bytes:
    """R-SHARES-3: the sealed shares open under (session, dealer, this client, SHARE).  Returns the plaintext."""
    try:
        return aead.unseal(suite, key, sealed, context)
    except suites.CryptoError:
        raise PeerError(
            ErrorCode.SHARES_UNSEALABLE, f"the shares from client {dealer} do not open", culprit=(dealer,)
        ) from None


def share_in_range(canonical: bool, dealer: int) -> None:
    """R-SHARES-4: every element of the dealer's shares is below the field's prime (``canonical``)."""
    if not canonical:
        raise PeerError(
            ErrorCode.SHARES_RANGE,
            f"a share from client {dealer} has an element at or above 2^61 - 1",
            culprit=(dealer,),
        )


def share_committed(commitments: bytes, expected: bytes, dealer: int) -> None:
    """R-SHARES-5: the shares are those that their dealer committed to."""
    if commitments != expected:
        raise PeerError(
            ErrorCode.SHARES_COMMITMENT,
            f"a share from client {dealer} does not match its commitment",
            culprit=(dealer,),
        )


def secret_opens(suite: Suite, key: bytes, sealed: bytes, context: bytes, dealer: int) -> bytes:
    """R-HYBRID-11: the sealed pair secret opens under (session, dealer, this client, SHARE).  Returns it."""
    try:
        return aead.unseal(suite, key, sealed, context)
    except suites.CryptoError:
        raise PeerError(
            ErrorCode.SECRET_UNSEALABLE, f"the pair secret from client {dealer} does not open", culprit=(dealer,)
        ) from None


def secret_committed(commitment: bytes, expected: bytes, dealer: int) -> None:
    """R-HYBRID-12: the pair secret is the one that its dealer committed to."""
    if commitment != expected:
        raise PeerError(
            ErrorCode.SECRET_COMMITMENT,
            f"the pair secret from client {dealer} does not match its commitment",
            culprit=(dealer,),
        )


# Complaints.


def accusers_few(holders: Sequence[int], present: Collection[int], most: int) -> None:
    """R-COMPLAIN-6: the complaints are of 1 to r present neighbours, ascending, each once."""
    ascending = all(earlier < later for earlier, later in itertools.pairwise(holders))
    if not ascending or not 0 < len(holders) <= most or not set(holders) <= set(present):
        raise PeerError(
            ErrorCode.ACCUSATION_HOLDERS,
            f"complaints of {counted(len(holders), 'holder')}; they must be 1 to {most} present neighbours, ascending",
        )


def accusation_signed(identity_key: bytes, signed: bytes, signature: bytes, holder: int) -> None:
    """R-COMPLAIN-7: the holder signed its complaint, over the very bytes that this client sent it."""
    try:
        signing.verify(identity_key, signed, signature)
    except suites.CryptoError:
        raise PeerError(
            ErrorCode.ACCUSATION_SIGNATURE,
            f"client {holder} did not sign a complaint about what this client sent it",
        ) from None


def answer_signed(identity_key: bytes, signed: bytes, signature: bytes, dealer: int) -> None:
    """R-COMPLAIN-11: the dealer signed the pair that is opened for this client."""
    try:
        signing.verify(identity_key, signed, signature)
    except suites.CryptoError:
        raise PeerError(
            ErrorCode.ANSWER_SIGNATURE, f"the opened shares of client {dealer} are not signed by it", culprit=(dealer,)
        ) from None


def settled_dealers(dealers: Sequence[int], known: Collection[int]) -> None:
    """R-COMPLAIN-12: the dealers that count are some of those whose shares came, ascending, each once."""
    ascending = all(earlier < later for earlier, later in itertools.pairwise(dealers))
    if not ascending or not set(dealers) <= set(known):
        raise PeerError(ErrorCode.SETTLED_DEALERS, "dealers are settled that did not deal, or not in ascending order")


# The survivors.


def survivors_include_self(survivors: Collection[int], index: int) -> None:
    """R-SURVIVORS-2: this client is among the survivors."""
    if index not in survivors:
        raise PeerError(ErrorCode.SURVIVORS_SELF, f"the survivors do not include client {index}, which sent its vector")


def survivors_enough(survivors: Collection[int], config: RoundConfig) -> None:
    """R-SURVIVORS-3: there are at least min_survivors, and a quorum (min_survivors is never below it)."""
    least = max(config.min_survivors, config.quorum)
    if len(survivors) < least:
        raise PeerError(
            ErrorCode.SURVIVORS_TOO_FEW, f"{counted(len(survivors), 'survivor')}; the config asks for {least}"
        )


def group_survivors_enough(survivors: Collection[int], config: RoundConfig) -> None:
    """R-GROUP-5: at least min_group members of this client's own group are among the survivors."""
    if len(survivors) < config.min_group:
        raise PeerError(
            ErrorCode.SURVIVORS_TOO_FEW,
            f"{counted(len(survivors), 'survivor')} of this client's group; the config asks for {config.min_group}",
        )


def survivors_shared(survivors: Collection[int], neighbours: Sequence[int], dealers: Collection[int]) -> None:
    """R-SURVIVORS-4: every neighbour among the survivors has shared with this client."""
    if strangers := (set(neighbours) & set(survivors)) - set(dealers):
        raise PeerError(
            ErrorCode.SURVIVORS_NOT_SHARED, f"client {min(strangers)} is a survivor, but its shares never came"
        )


def survivors_near(survivors: Collection[int], neighbours: Sequence[int], threshold: int) -> None:
    """R-SURVIVORS-5: at least t neighbours are among the survivors."""
    near = len(set(neighbours) & set(survivors))
    if near < threshold:
        raise PeerError(
            ErrorCode.SURVIVORS_NEIGHBOURS, f"{counted(near, 'neighbour')} survived; {threshold} are needed"
        )


def survivors_once(seen: bytes, digest: bytes) -> None:
    """R-SURVIVORS-6: a client is shown one set of survivors, ever."""
    if seen != digest:
        raise PeerError(ErrorCode.SURVIVORS_CHANGED, "the server showed a second survivor set")


# The confirmations.


def signers_enough(signers: Collection[int], survivors: Collection[int], quorum: int) -> None:
    """R-CONFIRM-5: at least Q have signed, all of them survivors."""
    if strangers := set(signers) - set(survivors):
        raise PeerError(ErrorCode.CONFIRM_SIGNERS, f"a confirmation by client {min(strangers)}, which is no survivor")
    if len(signers) < quorum:
        raise PeerError(ErrorCode.CONFIRM_SIGNERS, f"{counted(len(signers), 'confirmation')}; {quorum} are needed")


def signers_of_group(signers: Collection[int], group: Collection[int]) -> None:
    """R-GROUP-6: all signers are members of this client's own group."""
    if strangers := set(signers) - set(group):
        raise PeerError(
            ErrorCode.CONFIRM_SIGNERS, f"a confirmation by client {min(strangers)}, which is of another group"
        )


def signatures_valid(identity_key: bytes, signed: bytes, signature: bytes, signer: int) -> None:
    """R-CONFIRM-6: the signer's identity signed exactly the bytes that this client signed."""
    try:
        signing.verify(identity_key, signed, signature)
    except suites.CryptoError:
        raise PeerError(
            ErrorCode.CONFIRM_SIGNATURE,
            f"the confirmation of client {signer} is not its signature over these survivors",
        ) from None


# The client's own past.


def state_unused(consume: Consume, token: bytes) -> None:
    """R-STATE-4: the suspended state was not resumed before."""
    if consume(token) is not True:
        raise PeerError(
            ErrorCode.STATE_REUSED,
            "this suspended state was resumed before; a state is resumed once, by its newest copy",
        )
