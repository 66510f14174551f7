"""secagg.testing.contracts: the library's own parts keep them, and parts that do not are found out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from secagg import DurableTokens, MemoryDirectory, ReleasedInputs, UsedTokens
from secagg.testing.contracts import DirectoryContract, ReleasedContract, TokensContract, TransportContract


class TestDurableTokens(TokensContract):
    def open_tokens(self, folder: Path) -> DurableTokens:
        return DurableTokens(folder / "tokens")


class TestReleasedInFile(ReleasedContract):
    def open_released(self, folder: Path) -> Any:
        return DurableTokens(folder / "tokens").released


class TestMemoryDirectory(DirectoryContract):
    def make_directory(self, keys: Sequence[bytes]) -> MemoryDirectory:
        return MemoryDirectory(keys)


class Forgetful(TokensContract):
    def open_tokens(self, folder: Path) -> UsedTokens:
        return UsedTokens()


class AlwaysNew(TokensContract):
    def open_tokens(self, folder: Path) -> Callable[[bytes], bool]:
        return lambda token: True


class ForgetfulReleased(ReleasedContract):
    def open_released(self, folder: Path) -> ReleasedInputs:
        return ReleasedInputs()


class Credulous(DirectoryContract):
    """Vouches for whatever it is asked for."""

    def make_directory(self, keys: Sequence[bytes]) -> Any:
        class Directory:
            def cohort(self, digest: bytes) -> Sequence[bytes]:
                return keys

        return Directory()


class Careless(TransportContract):
    """One mailbox for all: it believes whoever says who it is, and cuts at 64 kB."""

    def connect(self, clients: int, folder: Path) -> Any:
        return self

    def __enter__(self) -> Careless:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def up(self, client: int, data: bytes) -> tuple[int, bytes]:
        return client, data[:65_536]

    def down(self, client: int, data: bytes) -> bytes:
        return data[:65_536]

    def forged(self, client: int, victim: int, data: bytes) -> tuple[int, bytes]:
        return victim, data

    def overheard(self, client: int, victim: int, data: bytes) -> bytes:
        return data


@pytest.mark.parametrize(
    ("contract", "test"),
    [
        (AlwaysNew, "test_a_token_is_new_once"),
        (Forgetful, "test_tokens_outlive_a_restart"),
        (Forgetful, "test_one_of_many_gets_a_token"),
        (ForgetfulReleased, "test_released_inputs_outlive_a_restart"),
        (ForgetfulReleased, "test_one_of_many_rounds_releases_an_input"),
        (Careless, "test_messages_arrive_whole"),
        (Careless, "test_nobody_sends_as_another"),
        (Careless, "test_nobody_gets_what_is_for_another"),
    ],
)
def test_a_part_that_breaks_its_contract_is_found_out(contract: type, test: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"met .* and wanted"):
        getattr(contract(), test)(tmp_path)


def test_a_directory_that_vouches_for_anybody_is_found_out() -> None:
    Credulous().test_a_cohort_is_found_by_its_digest()
    with pytest.raises(AssertionError, match="and wanted None"):
        Credulous().test_another_cohort_is_not_vouched_for()
