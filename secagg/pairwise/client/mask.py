"""MASK: a client gets the shares that were dealt to it, and its vector from its host; it sends the vector masked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from secagg import arithmetic
from secagg.envelopes.randomness import SEED_BYTES
from secagg.errors import InputError
from secagg.events import ClientStep
from secagg.pairwise import carrier as carriers
from secagg.pairwise import messages, records
from secagg.pairwise.client import complain, dealing
from secagg.pairwise.client.attachment import Attached
from secagg.pairwise.client.complain import Came
from secagg.pairwise.client.member import Member
from secagg.pairwise.client.records import Checked, HasInput, Masked, Shared
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.hybrid import KeyPair, PairSecrets
from secagg.pairwise.keys import KeySchedule
from secagg.pairwise.messages import MaskedInput, Shares
from secagg.pairwise.rules import client as rules
from secagg.primitives import masking
from secagg.primitives.secret import Secret


def take_shares(member: Member, record: Shared, message: Shares) -> tuple[HasInput | Checked, ClientStep]:
    """R-SHARES-6: unseal and check the shares, all of them; agree on a pairwise mask with everybody that dealt one.

    In rounds with complaints it says whose shares are bad, and masks when it is settled whose count.
    """
    config, session, suite = member.config, record.session, member.config.suite
    dealers = messages.decode_ids(message.dealers)
    rules.dealers_known(dealers, record.present)
    rules.dealers_enough(dealers, config.threshold)
    size = records.sealed_bytes(suite)
    sealed = records.cut_exactly(message.sealed, size, len(dealers), "the sealed shares")
    commitments = records.cut_exactly(message.commitments, records.COMMITMENTS_BYTES, len(dealers), "the commitments")
    sealers = [dealer for dealer in dealers if dealer in record.sealers]
    boxes = records.cut_exactly(
        messages.pair_secrets_of(message), records.SEALED_SECRET_BYTES, len(sealers), "the pair secrets"
    )
    position_of = {neighbour: position for position, neighbour in enumerate(record.present)}
    positions = [position_of[dealer] for dealer in dealers]
    receive_keys = _receive_keys(member, record, dealers, positions, sealed)
    shares = [box[suite.ciphertext_bytes :] for box in sealed]
    pair = KeyPair(config, member.round.round_id, member.index, record.masking_private.reveal(), "masking")
    secrets = PairSecrets(config, session, member.index, pair, record.masking_key)
    masking_keys = [record.masking_keys[position] for position in positions]
    sealed_secrets = dict(zip(sealers, boxes, strict=True))

    def take(chosen: slice) -> tuple[bytes, dict[int, bytes]]:
        """R-SHARES-3 to R-SHARES-5, R-HYBRID-11, R-HYBRID-12: of some of the dealers."""
        ends = config, session, member.index, dealers[chosen]
        pairs = dealing.unseal_pairs(*ends, receive_keys[chosen], shares[chosen], commitments[chosen])
        sealed_here = [dealer for dealer in dealers[chosen] if dealer in sealed_secrets]
        return pairs, dealing.open_secrets(
            config,
            secrets,
            member.index,
            {sealer: record.masking_keys[position_of[sealer]] for sealer in sealed_here},
            [sealed_secrets[sealer] for sealer in sealed_here],
        )

    if config.complaints:
        pairs, opened, bad = complain.take_or_complain(take, dealers, sealed_secrets, config.complaints)
    else:
        pairs, opened = take(slice(None))
    mask_keys = dealing.pairwise_keys(config, secrets, dealers, masking_keys, opened)
    has_input = HasInput(
        session=session,
        neighbours=record.neighbours,
        dealers=dealers,
        seed=record.seed,
        mask_keys=Secret(b"".join(mask_keys)),
        pairs=Secret(pairs),
    )
    if config.complaints:
        came = {
            dealer: Came(sealed[place], commitments[place], sealed_secrets.get(dealer, b""))
            for place, dealer in enumerate(dealers)
            if dealer in bad
        }
        return complain.complain(member, record, has_input, came)
    return has_input, ClientStep(event=member.input_needed())


def _receive_keys(
    member: Member, record: Shared, dealers: Sequence[int], positions: Sequence[int], sealed: Sequence[bytes]
) -> list[bytes]:
    """The keys that open what each dealer sealed; in a hybrid suite they take the ciphertexts that stand before it."""
    config, suite = member.config, member.config.suite
    kept = records.cut(record.receive_keys.reveal(), suite.key_bytes)  # as long as what X25519 agrees on, 32 bytes
    chosen = [kept[position] for position in positions]
    if not suite.is_hybrid:
        return chosen
    channel = KeyPair(config, member.round.round_id, member.index, record.channel_root.reveal(), "channel")
    return dealing.receive_keys(
        KeySchedule(suite, record.session, config.labels),
        member.index,
        channel,
        record.channel_key,
        dealers,
        [record.channel_keys[position] for position in positions],
        chosen,
        [box[: suite.ciphertext_bytes] for box in sealed],
    )


def lanes_of(vector: npt.ArrayLike, config: RoundConfig) -> npt.NDArray[np.unsignedinteger]:
    """R-MASK-1: a fresh lane array of the input.  Messages name no element's value: it is somebody's data.

    Raises InputError for a vector that the round does not take.
    """
    given = np.asarray(vector)
    if given.dtype.kind not in "ui":
        raise InputError(
            f"the input vector has dtype {given.dtype}; it must be of integers (see secagg.Encoder for floats)"
        )
    if given.shape != (config.length,):
        raise InputError(f"the input vector has shape {given.shape}; this round's is ({config.length},)")
    low = int(given.min()) if given.dtype.kind == "i" else 0
    if low < 0 or int(given.max()) > config.input_max:
        raise InputError(f"the input vector has an element outside 0 .. {config.input_max}, this round's input_max")
    return given.astype(config.modulus.dtype, order="C", copy=True)


def mask_input(
    member: Member,
    record: HasInput,
    lanes: npt.NDArray[np.unsignedinteger],
    attached: Attached,
    randomness: Callable[[int], bytes],
) -> tuple[Masked, ClientStep]:
    """R-MASK-2, R-MASK-3: add this client's own mask and all pairwise ones to the lanes of its input, which change.

    R-ENV-7: with envelopes, to the secret of the one that the input is put in, of a seed that is drawn here.
    """
    config, suite = member.config, member.config.suite
    pairwise = records.cut(record.mask_keys.reveal(), suite.key_bytes)
    lower = sum(dealer < member.index for dealer in record.dealers)  # dealers are ascending
    self_mask = KeySchedule(suite, record.session, config.labels).self_mask(record.seed.reveal(), member.index)
    envelope = bytearray()
    if (parameters := config.envelope) is not None:
        seed = randomness(SEED_BYTES)
        key, envelope = carriers.seal(config, parameters, record.session, seed, lanes)
        lanes[:] = 0
        lanes = key
    masking.apply_masks(suite, lanes, [self_mask, *pairwise[lower:]], pairwise[:lower], config.masked_modulus)
    packed = arithmetic.pack_in_place(lanes, config.masked_modulus)
    if envelope:
        packed = memoryview(b"".join((packed, envelope)))
        del envelope  # it is as long as the message, of which the encoding makes one more copy
    # R-MASK-5: the keys of the masks are in no later record.
    masked = Masked(
        session=record.session,
        neighbours=record.neighbours,
        dealers=record.dealers,
        pairs=record.pairs,
        attachment_losses=attached.losses,
        attachment=attached.values,
    )
    return masked, ClientStep((messages.encode(MaskedInput(config.version, record.session, packed)),))
