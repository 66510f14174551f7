"""``secagg identity``: identity files, and the directory of a cohort that is made of their public halves.

An identity file is private: whoever holds it is that member.  Its public half, a ``.pub`` file beside it, is what a
directory is made of, in the order of the cohort.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Annotated, Any

import typer

from secagg.cli.options import AsJson
from secagg.cli.output import print_json, results, table, usage_errors
from secagg.credentials import load_directory, save_directory
from secagg.errors import ParameterError
from secagg.identity import IDENTITY_KEY_BYTES, Identity

app = typer.Typer(help="Make and show identities, and the directory of a cohort.", no_args_is_help=True)


@app.command("new")
def new(
    file: Annotated[Path, typer.Argument(help="Identity file to write. Its public half is written to FILE.pub.")],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the member (default: the file's name without its suffix).", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a new identity. The file is readable by its owner alone; an existing one is never overwritten."""
    with usage_errors("identity new"):
        identity = Identity.generate()
        public_file = _public_file(file)
        member = {"name": name or file.stem, "key": identity.public_key.hex()}
        if public_file.exists():
            raise ParameterError(f"{public_file}: this file exists already; name another file, or remove it")
        _write_private(file, {**member, "private_key": identity.seed().hex()})
        public_file.write_text(json.dumps(member, indent=2) + "\n", encoding="utf-8")
    if as_json:
        print_json(member)
    else:
        typer.echo(f"{member['key']}  {member['name']}")
        typer.echo(
            f"{file} is private: keep it on this machine. Give {public_file} to whoever makes the directory.", err=True
        )


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="Identity file, or the .pub file with its public half.")],
    as_json: AsJson = False,
) -> None:
    """Show a member's name and public key."""
    with usage_errors("identity show"):
        member = read_member(file)
        if "private_key" in member:
            _check_identity(file, member)
        shown = {"name": member["name"], "key": member["key"]}
    if as_json:
        print_json(shown)
    else:
        typer.echo(f"{shown['key']}  {shown['name']}")


@app.command("directory")
def directory(
    file: Annotated[Path, typer.Argument(help="Directory file to write, or to show.")],
    members: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE.pub",
            help="Public halves in the order of the cohort (default: none, and the directory is shown).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a cohort's directory out of its members' public halves, or show one."""
    with usage_errors("identity directory"):
        if members:
            _write_directory(file, members)
        known, names, digest = load_directory(file)
        keys = known.cohort(digest) or ()
    if as_json:
        listed = [{"name": name, "key": key.hex()} for name, key in zip(names, keys, strict=True)]
        print_json({"cohort": digest.hex(), "members": listed})
        return
    rows = table(f"cohort {digest.hex()}", "index", "name", "key")
    for column in rows.columns[1:]:
        column.justify, column.overflow = "left", "fold"
    for index, (name, key) in enumerate(zip(names, keys, strict=True)):
        rows.add_row(str(index), name, key.hex())
    results().print(rows)


def _write_directory(file: Path, members: list[Path]) -> None:
    if file.exists():
        raise ParameterError(f"{file}: this file exists already; name another file, or remove it")
    listed = [(member["name"], _key(path, member["key"])) for path in members for member in [read_member(path)]]
    first: dict[bytes, Path] = {}
    for path, (name, key) in zip(members, listed, strict=True):
        if first.setdefault(key, path) is not path:
            raise ParameterError(f"{path} ({name}) has the key of {first[key]}; each member is listed once")
    save_directory(file, listed)


def _public_file(file: Path) -> Path:
    return file.with_name(file.name + ".pub")


def _write_private(file: Path, content: dict[str, str]) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    except FileExistsError:
        raise ParameterError(
            f"{file}: this file exists already, and an identity is never overwritten; name another file"
        ) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(json.dumps(content, indent=2) + "\n")


def read_member(file: Path) -> dict[str, Any]:
    """What is in an identity file or a public half: name, key, and perhaps the private key.  Raises ParameterError."""
    try:
        member = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        member = None
    if not isinstance(member, dict) or not {"name", "key"} <= member.keys() <= {"name", "key", "private_key"}:
        raise ParameterError(
            f"{file}: this is neither an identity file nor a public half; make both with secagg identity new"
        )
    _key(file, member["key"])
    return member


def _key(file: Path, digits: object) -> bytes:
    try:
        key = bytes.fromhex(digits) if isinstance(digits, str) else b""
    except ValueError:
        key = b""
    if len(key) != IDENTITY_KEY_BYTES:
        raise ParameterError(f"{file}: a key is not {2 * IDENTITY_KEY_BYTES} hexadecimal digits; the file is damaged")
    return key


def _check_identity(file: Path, member: dict[str, Any]) -> None:
    if Identity(_key(file, member["private_key"])).public_key.hex() != member["key"]:
        raise ParameterError(f"{file}: its private key does not belong to its public key; the file is damaged")
    mode = stat.S_IMODE(file.stat().st_mode)
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        typer.echo(f"warning: {file} has mode {mode:04o}, so that others may read it: chmod 600 {file}", err=True)
