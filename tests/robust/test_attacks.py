"""What attackers send, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from secagg import InputError, ParameterError
from secagg.robust import AttackName, attacks

OWN = np.array([[1.0, -2.0, 0.0], [3.0, 0.0, 2.0]])


def test_a_flipped_sign() -> None:
    assert attacks.sign_flipped(OWN, 2.0).tolist() == [[-2.0, 4.0, 0.0], [-6.0, 0.0, -4.0]]


def test_boosting_is_one_update_that_replaces_the_model() -> None:
    """With k of n clients and a strength of n / k, the mean of all is what the attackers want, if others send 0."""
    sent = attacks.boosted(OWN, 5.0)
    assert sent.tolist() == [[-10.0, 5.0, -5.0]] * 2
    assert np.vstack([sent, np.zeros((8, 3))]).mean(axis=0).tolist() == (-OWN.mean(axis=0)).tolist()


def test_flipped_labels() -> None:
    assert attacks.labels_flipped([0, 9, 3], 10).tolist() == [9, 0, 6]
    for labels in ([10], [-1], [0.5]):
        with pytest.raises(InputError, match="whole numbers from 0 to 9"):
            attacks.labels_flipped(labels, 10)


def test_a_little_is_so_many_deviations_against_the_mean() -> None:
    known = np.random.default_rng(0).normal(0.3, 1.0, (20, 5))
    sent = attacks.a_little(known, 3, 1.5)
    assert sent.shape == (3, 5)
    away = (sent[0] - known.mean(axis=0)) / known.std(axis=0)
    assert np.abs(away) == pytest.approx(np.full(5, 1.5))
    assert (away * known.mean(axis=0) < 0).all()


@pytest.mark.parametrize("strength", [0, -1.0, np.nan, np.inf])
def test_a_strength_is_above_zero(strength: float) -> None:
    for call in (attacks.sign_flipped, attacks.boosted, lambda own, value: attacks.a_little(own, 1, value)):
        with pytest.raises(ParameterError, match="must be finite and above 0"):
            call(OWN, strength)


def test_bad_updates_are_named() -> None:
    for updates in ([1.0, 2.0], [[np.nan]], np.zeros((0, 2))):
        with pytest.raises(InputError, match="one row for each client"):
            attacks.boosted(updates, 2.0)
    with pytest.raises(ParameterError, match="attackers is 0"):
        attacks.a_little(OWN, 0, 1.5)


def test_the_names() -> None:
    assert [str(name) for name in AttackName] == ["sign", "boost", "labels", "little"]
