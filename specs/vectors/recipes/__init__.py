"""What the test vectors are made of: each module gives files, by name, as what JSON will hold."""

from __future__ import annotations

import re
from pathlib import Path

from .client_refusals import client_refusals
from .common import File, dump
from .configs import configs, graphs, parameters, proofs
from .messages import annotated_examples, messages
from .primitives import hashes, keys, masks, packing, sharing
from .private import private_files
from .rounds import rounds
from .server_refusals import server_refusals
from .version_2 import version_2_files

__all__ = ["all_files", "generated", "generated_for_version_2", "with_examples"]

_MAKERS = (
    *(hashes, keys, masks, packing, sharing, graphs, parameters, configs, proofs),
    *(messages, rounds, client_refusals, server_refusals),
)


def all_files() -> dict[str, File]:
    """Every file, by name."""
    return {file["kind"]: file for file in (make() for make in _MAKERS)}


def generated(specs: Path) -> dict[Path, str]:
    """Every generated file below a ``specs`` directory but version 2's, and what it must hold."""
    files = {specs / "vectors" / "v1" / f"{name}.json": dump(content) for name, content in all_files().items()}
    private = {specs / "vectors" / "private-v1" / f"{name}.json": dump(made) for name, made in private_files().items()}
    text = specs / "secagg-v1.md"
    return {**files, **private, text: with_examples(text.read_text(encoding="utf-8"))}


def generated_for_version_2(specs: Path) -> dict[Path, str]:
    """The files of version 2, and what they must hold."""
    return {specs / "vectors" / "v2" / f"{made['kind']}.json": dump(made) for made in version_2_files()}


def with_examples(text: str) -> str:
    """The specification with its examples as they are now."""
    examples = annotated_examples()
    return re.sub(
        r"(<!-- example: (\w+) -->\n```text\n).*?(```\n)",
        lambda found: f"{found[1]}{examples[found[2]]}\n{found[3]}",
        text,
        flags=re.DOTALL,
    )
