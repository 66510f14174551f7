"""What the library refuses, in the words of the command line."""

from __future__ import annotations

import pytest

from secagg import ParameterError
from secagg.cli.option_words import in_options, option_words


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        (
            "clients = 2: must be a whole number from 3 to 9",
            "--clients 2: must be a whole number from 3 to 9",
        ),
        ("neighbours = 5: it must be even", "--neighbours 5: it must be even"),
        (
            "gamma + 2 delta = 1 with gamma = 0.2, delta = 0.4: lower delta to at most 0.35, or gamma",
            "--gamma + 2 --delta = 1 with --gamma = 0.2, --delta = 0.4: lower --delta to at most 0.35, or --gamma",
        ),
        ("min_survivors 9: too many", "--min-survivors 9: too many"),
        ("gamma = 2.0: a rate with 0 <= gamma < 1", "--gamma = 2.0: a rate with 0 <= gamma < 1"),
        ("length = 0: must be a whole number", "--dim 0: must be a whole number"),
        (
            "groups = 4: with 2 attackers, 2^-20 is asked for (robust_bits)",
            "--groups 4: with 2 attackers, 2^-20 is asked for (--robust-bits)",
        ),
        (
            "complaints = 7: it must be from 7, the colluders, to 6; lower gamma if there is no such number",
            "--complaints, which is 7 in this round: it must be from 7, the colluders, to 6; lower --gamma if there is "
            "no such number",
        ),
        ("lower --gamma, or digamma", "lower --gamma, or digamma"),
    ],
)
def test_parameters_become_options(message: str, wanted: str) -> None:
    assert in_options(message) == wanted
    with pytest.raises(ParameterError) as refused, option_words():
        raise ParameterError(message)
    assert str(refused.value) == wanted
