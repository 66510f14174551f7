"""What the tests of the network service share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from secagg.adapters.net.certificates import make_demo_certificate
from tests.support.processes import Command, Zygote


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    running = Zygote()
    yield running
    running.close()


@pytest.fixture(scope="session")
def tls_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a demo certificate."""
    folder = tmp_path_factory.mktemp("tls")
    make_demo_certificate(folder)
    return folder


@pytest.fixture
def start(zygote: Zygote, tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Start ``secagg`` commands in an empty folder; those that still run at the end are killed."""
    started: list[Command] = []

    def start_one(name: str, *arguments: object, folder: Path = tmp_path) -> Command:
        started.append(Command(zygote, folder, name, *arguments))
        return started[-1]

    yield start_one
    for command in started:
        command.kill()
