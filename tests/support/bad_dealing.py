"""A client that deals shares that do not open, and keeps the rules otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from secagg import RoundConfig
from secagg.pairwise import records
from secagg.pairwise.client import dealing


def dealing_badly(patch: pytest.MonkeyPatch, liar: int, holders: int) -> None:
    """The liar turns a bit of what it seals for its first ``holders`` neighbours, and knows what it sent them."""
    deal = dealing.deal

    def lying(config: RoundConfig, session: bytes, index: int, *arguments: Any) -> dealing.Dealt:
        dealt = deal(config, session, index, *arguments)
        boxes = records.cut(dealt.sealed, records.sealed_bytes(config.suite))
        turned = [bytes((box[0] ^ (place < holders),)) + box[1:] for place, box in enumerate(boxes)]
        return dealt._replace(sealed=b"".join(turned)) if index == liar else dealt

    patch.setattr(dealing, "deal", lying)
