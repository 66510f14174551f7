"""The ends of a member's chains, in a file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from secagg import DurableTokens, Identity, ParameterError
from secagg.credentials import DurableChains
from secagg.pairwise.client.chaining import Chain
from secagg.testing.adversary import ChainedCohort

COHORT = bytes(range(32))


def test_what_is_stored_is_there_for_every_process_that_opens_the_file(tmp_path: Path) -> None:
    one, other = DurableChains(tmp_path / "chains"), DurableChains(tmp_path / "chains")
    assert one.load(COHORT) == b""
    assert one.swap(COHORT, b"", b"first")
    assert not other.swap(COHORT, b"", b"second")
    assert other.swap(COHORT, b"first", b"second")
    assert one.load(COHORT) == b"second"
    assert one.load(bytes(32)) == b""
    for chains in (one, other):
        chains.close()
    assert stat.S_IMODE((tmp_path / "chains").stat().st_mode) == 0o600


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    DurableTokens(tmp_path / "tokens").close()
    (tmp_path / "text").write_text("no database at all, but long enough to look like one" * 20)
    for name in ("tokens", "text"):
        with pytest.raises(ParameterError, match=name):
            DurableChains(tmp_path / name)


def test_a_client_that_starts_again_remembers_that_it_answered(tmp_path: Path) -> None:
    cohort = ChainedCohort()
    cohort.chains[0] = Chain(cohort.server.public_key, DurableChains(tmp_path / "chains"))
    server = cohort.open()
    cohort.play(server, cohort.join(server, range(6)))
    again = Chain(cohort.server.public_key, DurableChains(tmp_path / "chains"))
    assert again.is_unsettled(cohort.digest)
    assert again.head(cohort.digest) == server.config.chain


def test_a_repr_tells_whose_chain_it_is() -> None:
    key = Identity.generate().public_key
    assert repr(Chain(key)) == f"<Chain of the server {key.hex()}>"
