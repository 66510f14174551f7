"""What malicious clients of training do, to try a rule on: sign flipping, boosting, flipped labels, a little is enough.

Each function makes what the attackers send in place of their own updates, before the encoder clips it.  Updates are
flat: shape (a, m) for a attackers, or (n, m) for whoever they know of.  Clients that work together all send the same,
which makes their groups resemble one another: the harder case for rules that look for agreement.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt

from secagg.errors import InputError, ParameterError
from secagg.robust.blocks import Floats


class AttackName(StrEnum):
    """The attacks that the demo knows."""

    SIGN = "sign"
    BOOST = "boost"
    LABELS = "labels"
    LITTLE = "little"


def sign_flipped(updates: npt.ArrayLike, strength: float) -> Floats:
    """Each attacker's own update, turned round and multiplied; shape (a, m).

    Li, Xu, Chen, Giannakis and Ling, "RSA: Byzantine-Robust Stochastic Aggregation Methods" (AAAI 2019).

    Raises InputError for updates that are not finite numbers of two dimensions, ParameterError unless strength > 0.
    """
    return -_positive("strength", strength) * _checked(updates)


def boosted(updates: npt.ArrayLike, strength: float) -> Floats:
    """The way to one model that all attackers want, multiplied so that it outweighs the honest; shape (a, m).

    Model replacement: Bagdasaryan, Veit, Hua, Estrin and Shmatikov, "How To Backdoor Federated Learning" (AISTATS
    2020), with the mean of the attackers' own updates turned round as what they want: the model forgets
    what their data teach.

    Raises InputError and ParameterError as ``sign_flipped`` does.
    """
    own = _checked(updates)
    wanted = -_positive("strength", strength) * own.mean(axis=0)
    return np.tile(wanted, (len(own), 1))


def labels_flipped(labels: npt.ArrayLike, classes: int) -> npt.NDArray[np.int64]:
    """Every label l as classes - 1 - l; shape as given.  Training on them makes the poisoned update.

    Fang, Cao, Jia and Gong, "Local Model Poisoning Attacks to Byzantine-Robust Federated Learning" (USENIX Security
    2020).

    Raises InputError for labels that are not whole numbers from 0 to classes - 1.
    """
    found = np.asarray(labels)
    if found.dtype.kind not in "iu" or (found.size and not 0 <= found.min() <= found.max() < classes):
        raise InputError(f"the labels must be whole numbers from 0 to {classes - 1}")
    return (classes - 1 - found).astype(np.int64)


def a_little(updates: npt.ArrayLike, attackers: int, deviations: float) -> Floats:
    """Away from the mean of what others send, against its direction, by some standard deviations; shape (attackers, m).

    Baruch, Baruch and Goldberg, "A Little Is Enough: Circumventing Defenses For Distributed Learning" (NeurIPS 2019),
    by attackers that know everybody's update.  At a deviation or two it hides among honest updates that differ much
    from one another.

    Raises InputError as ``sign_flipped`` does, and ParameterError unless there is an attacker and deviations > 0.
    """
    known = _checked(updates)
    if attackers < 1:
        raise ParameterError(f"attackers is {attackers!r}: there must be at least one")
    mean = known.mean(axis=0)
    sent = mean - _positive("deviations", deviations) * known.std(axis=0) * np.sign(mean)
    return np.tile(sent, (attackers, 1))


def _checked(updates: npt.ArrayLike) -> Floats:
    found = np.asarray(updates, dtype=np.float64)
    if found.ndim != 2 or not found.size or not np.isfinite(found).all():
        raise InputError(
            f"the updates have shape {found.shape}: they must be finite numbers, one row for each client and at least "
            "one row and column"
        )
    return found


def _positive(name: str, value: float) -> float:
    if not (np.isfinite(value) and value > 0):
        raise ParameterError(f"{name} is {value!r}: it must be finite and above 0")
    return float(value)
