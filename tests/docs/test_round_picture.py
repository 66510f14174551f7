"""The picture of a round is the one that its script draws, and its numbers are those of the protocol."""

import re

import generate_round_picture as picture
import pytest


def test_the_committed_pictures_are_those_of_the_script() -> None:
    for path, colours in picture.PICTURES.items():
        assert path.read_text(encoding="utf-8") == picture.picture(colours), "run python docs/generate_round_picture.py"


def test_the_numbers_in_the_picture_add_up() -> None:
    """Worked out by hand, as a reader would: A and B share 873, D and A share 205, and C is lost."""
    drawn = re.findall(r">([^<>]+)</text>", picture.picture(picture.LIGHT))
    a, b, d = 31 + 412 + 873 - 205 - 1000, 45 + 77 - 873 + 264 + 1000, 62 + 305 - 618 + 205 + 1000
    assert [f"{sent} \u2193" for sent in (a, b, d)] == [words for words in drawn if re.fullmatch(r"\d+ \u2193", words)]
    left = (a + b + d) % 1000
    assert f"{left} (modulo 1000)" in drawn
    assert left - 412 - 77 - 305 - 264 + 618 == 31 + 45 + 62 == picture.total()
    assert str(picture.total()) in drawn


@pytest.mark.parametrize("kind", ["own", *picture.PAIRS])
def test_every_mask_has_a_colour_of_its_own_in_both_pictures(kind: str) -> None:
    for colours in (picture.LIGHT, picture.DARK):
        assert sum(colours[other] == colours[kind] for other in ["own", *picture.PAIRS]) == 1
