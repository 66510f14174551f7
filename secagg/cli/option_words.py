"""What the library refuses, in the words of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from secagg.errors import ParameterError

_NAMED: Final = re.compile(r"^(clients|neighbours|bits|length|groups|attackers) = ")
_ANYWHERE: Final = re.compile(
    r"(?<![-\w])(?<!<= )(gamma|delta|min_survivors|min_group|max_weight|robust_bits)(?![-\w])"
)
_OTHER_NAMES: Final = {"length": "dim"}
_COMPLAINTS: Final = re.compile(r"^complaints = (\d+): ")
"""``--complaints`` takes no value: the library has chosen the number."""


@contextmanager
def option_words() -> Iterator[None]:
    """Around the making of a config: a ParameterError comes out with ``--clients`` and the like for the parameters.

    It is for messages about numbers alone: an array that is called ``gamma`` is no option.
    """
    try:
        yield
    except ParameterError as refused:
        raise ParameterError(in_options(str(refused))) from None


def in_options(message: str) -> str:
    """The message with the options' names for the parameters'."""
    message = _COMPLAINTS.sub(r"--complaints, which is \1 in this round: ", message)
    named = _NAMED.sub(lambda found: f"--{_OTHER_NAMES.get(found[1], found[1])} ", message)
    return _ANYWHERE.sub(lambda found: "--" + found[1].replace("_", "-"), named)
