"""What a client refuses: every rule that a server could break, one function each, in the order of the protocol.

``CHECKS`` lists them with the attack that each one stops.  A function raises PeerError, or returns what it established;
the client calls each by name at its place, so that the tests can take one away and show the attack that then succeeds.
Rules that no message can break because of how the client is built (12, 18, 19) have no function here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from secagg.errors import ErrorCode, ParameterError, PeerError
from secagg.pairwise import config_wire, merkle, transcript
from secagg.primitives import aead, agreement, signing, suites
from secagg.primitives.suites import Suite
from secagg.wording import counted

if TYPE_CHECKING:
    from secagg.identity import Directory, Identity
    from secagg.pairwise.config import Policy, RoundConfig

Approve: TypeAlias = bytes | Callable[["RoundConfig"], bool]
Consume: TypeAlias = Callable[[bytes], bool]


class Check(NamedTuple):
    """One refusal: its number, the functions that carry it out, and what it is for."""

    number: int
    functions: tuple[str, ...]
    codes: tuple[ErrorCode, ...]
    stops: str


CHECKS: Final = (
    Check(1, ("config_approved",), (ErrorCode.CONFIG_NOT_APPROVED,), "a round that the host never agreed to"),
    Check(
        2,
        ("config_sound", "config_within_policy"),
        (ErrorCode.CONFIG_UNSOUND, ErrorCode.CONFIG_BELOW_POLICY),
        "a threshold, quorum or cohort so small that the server and its colluders open a client",
    ),
    Check(
        3, ("cohort_vouched",), (ErrorCode.COHORT_NOT_VOUCHED,), "a cohort of the server's own making (Sybil clients)"
    ),
    Check(
        4,
        ("not_joined_before",),
        (ErrorCode.ALREADY_JOINED,),
        "two vectors of one client in one round's sums: their difference opens",
    ),
    Check(5, ("own_leaf",), (ErrorCode.ROSTER_OWN_LEAF,), "the client's own keys replaced in what its neighbours see"),
    Check(
        6,
        ("neighbours_drawn", "leaves_in_roster", "keys_signed"),
        (ErrorCode.ROSTER_NEIGHBOURS, ErrorCode.ROSTER_PATH, ErrorCode.ROSTER_SIGNATURE),
        "neighbours chosen by the server, or its own keys in their place",
    ),
    Check(
        7,
        ("ids_valid", "keys_usable"),
        (ErrorCode.ROSTER_IDS, ErrorCode.ROSTER_KEYS),
        "one party counted as several neighbours; a key agreement whose outcome everybody knows",
    ),
    Check(8, ("neighbours_enough",), (ErrorCode.ROSTER_TOO_FEW,), "a client surrounded by too few others"),
    Check(
        9,
        ("dealers_known", "share_opens"),
        (ErrorCode.SHARES_DEALERS, ErrorCode.SHARES_UNSEALABLE),
        "shares replayed, misdirected or invented; a mask that only one side makes",
    ),
    Check(
        10,
        ("share_committed",),
        (ErrorCode.SHARES_RANGE, ErrorCode.SHARES_COMMITMENT),
        "a dealer whose bad share would be blamed on its holder",
    ),
    Check(11, ("dealers_enough",), (ErrorCode.SHARES_TOO_FEW,), "a client masked by too few pairwise masks"),
    Check(12, (), (), "two inputs under the same masks (by construction: the state is left when the input is masked)"),
    Check(
        13,
        ("survivors_include_self", "survivors_enough"),
        (ErrorCode.SURVIVORS_SELF, ErrorCode.SURVIVORS_TOO_FEW),
        "a client told that it is gone while its vector is in the sum; a sum of very few",
    ),
    Check(
        14,
        ("survivors_shared",),
        (ErrorCode.SURVIVORS_NOT_SHARED,),
        "a mask left in the sum, or a share asked for twice",
    ),
    Check(
        15,
        ("survivors_near",),
        (ErrorCode.SURVIVORS_NEIGHBOURS,),
        "a round that cannot be finished, found out only when the shares are spent",
    ),
    Check(
        16,
        ("survivors_once",),
        (ErrorCode.SURVIVORS_CHANGED,),
        "two quorums for two survivor sets, or both kinds of share of one client, one after the other",
    ),
    Check(
        17,
        ("signers_enough", "signatures_valid"),
        (ErrorCode.CONFIRM_SIGNERS, ErrorCode.CONFIRM_SIGNATURE),
        "different survivors shown to different clients: several small sums opened",
    ),
    Check(18, (), (), "both kinds of share in one request (by construction: no list of requests is taken from anyone)"),
    Check(19, (), (), "a second answer (by construction: the shares are wiped with the state)"),
    Check(
        20,
        ("of_session", "in_phase", "not_conflicting"),
        (
            ErrorCode.MALFORMED,
            ErrorCode.TOO_LARGE,
            ErrorCode.WRONG_VERSION,
            ErrorCode.WRONG_SESSION,
            ErrorCode.WRONG_PHASE,
            ErrorCode.CONFLICT,
        ),
        "messages of another round, another version, or out of their place; memory exhausted by a large one",
    ),
    Check(21, ("state_unused",), (ErrorCode.STATE_REUSED,), "a client rolled back to answer again"),
)


# The invitation.


def config_approved(config: RoundConfig, approve: Approve | None) -> None:
    """1: the host approved this very config, by its digest or by looking at it."""
    if approve is None:
        return
    approved = config.digest == approve if isinstance(approve, bytes) else approve(config) is True
    if not approved:
        raise PeerError(
            ErrorCode.CONFIG_NOT_APPROVED,
            f"the server's config has digest {config.digest.hex()}, which this client's host did not approve",
        )


def invitation_of_its_version(version: int, config: bytes) -> None:
    """20: a config of another version is not looked at; what version 1 says of one is part of check 2."""
    named = config_wire.version_of(config)
    if version != 1 and named not in (version, None):
        raise PeerError(
            ErrorCode.WRONG_VERSION, f"an invitation of protocol version {version} with a config of version {named}"
        )


def config_sound(decode: Callable[[bytes], RoundConfig], data: bytes, version: int) -> RoundConfig:
    """2: the rules of the protocol, recomputed from the config's numbers; of the version that invited to it."""
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


def config_within_policy(config: RoundConfig, policy: Policy, *, identified: bool) -> None:
    """2: nothing is below what this client accepts; whoever brings an identity is not talked down from ``active``."""
    policy.check(config, identified=identified)


def cohort_vouched(config: RoundConfig, index: int, identity: Identity, directory: Directory) -> Sequence[bytes]:
    """3: the directory stands behind the cohort, and this client is at its own index.  Returns the identity keys."""
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
    """4: the first time that this client joins this config and nonce."""
    if consume is not None and consume(token) is not True:
        raise PeerError(
            ErrorCode.ALREADY_JOINED,
            "this client joined this round before; ask the server for a new round (a new nonce)",
        )


# The roster.


def own_leaf(own: bytes, shown: bytes) -> None:
    """5: the keys shown for this client are the ones that it advertised."""
    if shown != own:
        raise PeerError(ErrorCode.ROSTER_OWN_LEAF, "the roster shows other keys for this client than it advertised")


def ids_valid(ids: Sequence[int], index: int, config: RoundConfig) -> None:
    """7: ids distinct, in range, not this client's, and no more than it has neighbours."""
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
    """7: keys pairwise distinct, none of them this client's own, none of low order."""
    if len({*own, *keys}) != len(own) + len(keys):
        raise PeerError(ErrorCode.ROSTER_KEYS, "the roster shows one public key in two places")
    if any(agreement.has_low_order(suite, key) for key in keys):
        raise PeerError(
            ErrorCode.ROSTER_KEYS, "the roster shows a public key of low order: its agreements are all zero"
        )


def neighbours_drawn(present: Sequence[int], absent: Sequence[int], drawn: Sequence[int]) -> None:
    """6: exactly the neighbours that the roster's digest draws, the absent ones in ascending order too."""
    if sorted((*present, *absent)) != list(drawn) or list(absent) != sorted(absent):
        raise PeerError(ErrorCode.ROSTER_NEIGHBOURS, "the roster's neighbours are not those that its digest draws")


def leaves_in_roster(
    leaves: Mapping[int, bytes], round_: bytes, config: RoundConfig, proof: bytes, digest: bytes
) -> None:
    """6: every leaf stands in the roster with this digest, each at its own index."""
    root = merkle.root_from(leaves, config.clients, proof, config.labels.node)
    if root is None or config.labels.roster_digest(round_, config.clients, root) != digest:
        raise PeerError(ErrorCode.ROSTER_PATH, "the roster's Merkle proof does not lead from its leaves to its digest")


def keys_signed(identity_key: bytes, signed: bytes, signature: bytes, neighbour: int) -> None:
    """6: the neighbour's keys are signed by the identity of its index."""
    try:
        signing.verify(identity_key, signed, signature)
    except suites.CryptoError:
        raise PeerError(
            ErrorCode.ROSTER_SIGNATURE, f"the keys shown for client {neighbour} are not signed by its identity"
        ) from None


def neighbours_enough(present: Sequence[int], threshold: int) -> None:
    """8: enough neighbours to reconstruct what this client shares."""
    if len(present) < threshold:
        raise PeerError(
            ErrorCode.ROSTER_TOO_FEW, f"{counted(len(present), 'neighbour')} present; {threshold} are needed"
        )


# The shares.


def dealers_known(dealers: Sequence[int], present: Collection[int]) -> None:
    """9: dealers are present neighbours, ascending, each once."""
    if any(later <= earlier for earlier, later in itertools.pairwise(dealers)):
        raise PeerError(ErrorCode.SHARES_DEALERS, "the dealers are not in ascending order, each once")
    if strangers := set(dealers) - set(present):
        raise PeerError(ErrorCode.SHARES_DEALERS, f"shares from client {min(strangers)}, which is no present neighbour")


def dealers_enough(dealers: Sequence[int], threshold: int) -> None:
    """11: at least t dealers."""
    if len(dealers) < threshold:
        raise PeerError(
            ErrorCode.SHARES_TOO_FEW, f"shares from {counted(len(dealers), 'neighbour')}; {threshold} are needed"
        )


def share_opens(suite: Suite, key: bytes, sealed: bytes, context: bytes, dealer: int) -> bytes:
    """9: the sealed shares open under (session, dealer, this client, SHARE).  Returns the plaintext."""
    try:
        return aead.unseal(suite, key, sealed, context)
    except suites.CryptoError:
        raise PeerError(
            ErrorCode.SHARES_UNSEALABLE, f"the shares from client {dealer} do not open", culprit=(dealer,)
        ) from None


def share_committed(canonical: bool, commitment: bytes, expected: bytes, dealer: int) -> None:
    """10: the share is canonical and is the one that its dealer committed to."""
    if not canonical:
        raise PeerError(
            ErrorCode.SHARES_RANGE,
            f"a share from client {dealer} has an element at or above 2^61 - 1",
            culprit=(dealer,),
        )
    if commitment != expected:
        raise PeerError(
            ErrorCode.SHARES_COMMITMENT,
            f"a share from client {dealer} does not match its commitment",
            culprit=(dealer,),
        )


# The survivors.


def survivors_include_self(survivors: Collection[int], index: int) -> None:
    """13: this client is in it."""
    if index not in survivors:
        raise PeerError(ErrorCode.SURVIVORS_SELF, f"the survivors do not include client {index}, which sent its vector")


def survivors_enough(survivors: Collection[int], config: RoundConfig) -> None:
    """13: at least min_survivors, and the quorum in ``active`` (min_survivors is never below it)."""
    least = max(config.min_survivors, config.quorum)
    if len(survivors) < least:
        raise PeerError(
            ErrorCode.SURVIVORS_TOO_FEW, f"{counted(len(survivors), 'survivor')}; the config asks for {least}"
        )


def survivors_shared(survivors: Collection[int], neighbours: Sequence[int], dealers: Collection[int]) -> None:
    """14: every neighbour among them has shared with this client."""
    if strangers := (set(neighbours) & set(survivors)) - set(dealers):
        raise PeerError(
            ErrorCode.SURVIVORS_NOT_SHARED, f"client {min(strangers)} is a survivor, but its shares never came"
        )


def survivors_near(survivors: Collection[int], neighbours: Sequence[int], threshold: int) -> None:
    """15: at least t neighbours among them."""
    near = len(set(neighbours) & set(survivors))
    if near < threshold:
        raise PeerError(
            ErrorCode.SURVIVORS_NEIGHBOURS, f"{counted(near, 'neighbour')} survived; {threshold} are needed"
        )


def survivors_once(seen: bytes, digest: bytes) -> None:
    """16: one set, ever."""
    if seen != digest:
        raise PeerError(ErrorCode.SURVIVORS_CHANGED, "the server showed a second survivor set")


# The confirmations.


def signers_enough(signers: Collection[int], survivors: Collection[int], quorum: int) -> None:
    """17: at least Q distinct members of the survivors."""
    if strangers := set(signers) - set(survivors):
        raise PeerError(ErrorCode.CONFIRM_SIGNERS, f"a confirmation by client {min(strangers)}, which is no survivor")
    if len(signers) < quorum:
        raise PeerError(ErrorCode.CONFIRM_SIGNERS, f"{counted(len(signers), 'confirmation')}; {quorum} are needed")


def signatures_valid(identity_key: bytes, signed: bytes, signature: bytes, signer: int) -> None:
    """17: the signer's identity signed exactly the bytes that this client signed."""
    try:
        signing.verify(identity_key, signed, signature)
    except suites.CryptoError:
        raise PeerError(
            ErrorCode.CONFIRM_SIGNATURE,
            f"the confirmation of client {signer} is not its signature over these survivors",
        ) from None


# Every message.


def of_session(met: bytes, expected: bytes) -> None:
    """20: the message belongs to this session."""
    if met != expected:
        raise PeerError(ErrorCode.WRONG_SESSION, f"a message of session {met.hex()}; this one is {expected.hex()}")


def in_phase(allowed: bool, kind: str, state: str) -> None:
    """20: the message has its place here."""
    if not allowed:
        raise PeerError(ErrorCode.WRONG_PHASE, f"a {kind} message has no place in state {state}")


def not_conflicting(seen: bytes, digest: bytes, kind: str) -> None:
    """20: a message that came before comes again only as it was."""
    if seen != digest:
        raise PeerError(ErrorCode.CONFLICT, f"a second {kind} message that differs from the first")


def state_unused(consume: Consume, token: bytes) -> None:
    """21: the suspended state was not resumed before."""
    if consume(token) is not True:
        raise PeerError(
            ErrorCode.STATE_REUSED,
            "this suspended state was resumed before; a state is resumed once, by its newest copy",
        )
