"""Identity files and directories."""

from __future__ import annotations

import json
import stat

import pytest

from secagg import Identity, ParameterError, load_directory, load_identity
from secagg.primitives.signing import verify


@pytest.fixture
def members(invoke, tmp_path):
    """Three identity files."""
    files = [tmp_path / f"{name}.identity" for name in ("ada", "bob", "cleo")]
    for file in files:
        assert invoke("identity", "new", file).exit_code == 0
    return files


def public_half(file):
    return file.with_name(file.name + ".pub")


def test_new_keeps_the_private_key_private(invoke, tmp_path):
    file = tmp_path / "ada.identity"
    made = invoke("identity", "new", file)
    stored = json.loads(file.read_text())
    assert made.exit_code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made.stdout == f"{stored['key']}  ada\n"
    assert stored["private_key"] not in made.output + made.stderr + public_half(file).read_text()
    assert json.loads(public_half(file).read_text()) == {"name": "ada", "key": stored["key"]}


def test_the_file_holds_a_working_identity(members):
    stored = json.loads(members[0].read_text())
    identity = Identity(bytes.fromhex(stored["private_key"]))
    assert identity.public_key.hex() == stored["key"]
    verify(bytes.fromhex(stored["key"]), b"message", identity.sign(b"message"))


def test_identities_differ(members):
    assert len({json.loads(file.read_text())["private_key"] for file in members}) == 3


def test_a_file_that_is_no_directory_is_not_shown(invoke, tmp_path):
    """An identity given by mistake: the message had the bytes of the file in it."""
    file = tmp_path / "key.bin"
    file.write_bytes(b"\xff private private private")
    for arguments in (("directory", file), ("show", file)):
        refused = invoke("identity", *arguments)
        assert refused.exit_code == 2
        assert str(file) in refused.stderr
        assert "private private" not in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_new_never_overwrites(invoke, members):
    before = members[0].read_bytes()
    again = invoke("identity", "new", members[0])
    assert again.exit_code == 2
    assert members[0].name in again.stderr
    public_half(members[0]).unlink()
    again = invoke("identity", "new", members[0])
    assert again.exit_code == 2
    assert "never overwritten" in again.stderr
    assert members[0].read_bytes() == before
    assert not public_half(members[0]).exists()


def test_name_and_json(invoke, tmp_path):
    made = invoke("identity", "new", tmp_path / "x", "--name", "Ada", "--json")
    assert json.loads(made.stdout) == json.loads((tmp_path / "x.pub").read_text())
    assert json.loads(made.stdout)["name"] == "Ada"


def test_show_shows_the_public_half_of_either_file(invoke, members):
    stored = json.loads(members[1].read_text())
    for file in (members[1], public_half(members[1])):
        shown = invoke("identity", "show", file)
        assert (shown.exit_code, shown.stdout, shown.stderr) == (0, f"{stored['key']}  bob\n", "")
        shown = invoke("identity", "show", file, "--json")
        assert json.loads(shown.stdout) == {"name": "bob", "key": stored["key"]}


def test_show_warns_when_others_may_read(invoke, members):
    members[0].chmod(0o640)
    shown = invoke("identity", "show", members[0])
    assert shown.exit_code == 0
    assert "0640" in shown.stderr
    assert f"chmod 600 {members[0]}" in shown.stderr


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"name": "x"}', '{"name": "x", "key": "00"}', '{"name": "x", "key": 5}', "\udcff", "[" * 100_000],
)
def test_show_refuses_what_is_no_identity(invoke, tmp_path, content):
    file = tmp_path / "broken"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    shown = invoke("identity", "show", file)
    assert shown.exit_code == 2
    assert str(file) in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_show_refuses_halves_that_do_not_match(invoke, members):
    one, other = (json.loads(file.read_text()) for file in members[:2])
    members[0].write_text(json.dumps({**one, "private_key": other["private_key"]}))
    shown = invoke("identity", "show", members[0])
    assert shown.exit_code == 2
    assert "does not belong" in shown.stderr
    assert other["private_key"] not in shown.stderr


def test_a_missing_file_is_named(invoke, tmp_path):
    shown = invoke("identity", "show", tmp_path / "nowhere")
    assert shown.exit_code == 2
    assert str(tmp_path / "nowhere") in shown.stderr
    made = invoke("identity", "new", tmp_path / "no" / "where")
    assert made.exit_code == 2
    assert str(tmp_path / "no" / "where") in made.stderr


def test_directory_lists_the_members_in_order(invoke, members, tmp_path):
    file = tmp_path / "cohort.json"
    made = invoke("identity", "directory", file, *map(public_half, members), "--json")
    directory, names, digest = load_directory(file)
    keys = [json.loads(member.read_text())["key"] for member in members]
    assert made.exit_code == 0
    assert names == ("ada", "bob", "cleo")
    assert [key.hex() for key in directory.cohort(digest)] == keys
    assert json.loads(made.stdout) == {
        "cohort": digest.hex(),
        "members": [{"name": name, "key": key} for name, key in zip(names, keys, strict=True)],
    }
    shown = invoke("identity", "directory", file)
    assert shown.exit_code == 0
    assert digest.hex() in shown.stdout.replace("\n", "")
    for name in names:
        assert name in shown.stdout


def test_directory_holds_no_private_key(invoke, members, tmp_path):
    """Even when the identity files themselves are given."""
    file = tmp_path / "cohort.json"
    made = invoke("identity", "directory", file, *members)
    assert made.exit_code == 0
    for member in members:
        assert json.loads(member.read_text())["private_key"] not in file.read_text() + made.stdout


def test_directory_refuses_a_member_twice(invoke, members, tmp_path):
    file = tmp_path / "cohort.json"
    made = invoke("identity", "directory", file, members[0], members[1], public_half(members[0]))
    assert made.exit_code == 2
    assert str(public_half(members[0])) in made.stderr
    assert not file.exists()


def test_directory_is_not_overwritten(invoke, members, tmp_path):
    file = tmp_path / "cohort.json"
    invoke("identity", "directory", file, *members)
    before = file.read_bytes()
    again = invoke("identity", "directory", file, members[0])
    assert again.exit_code == 2
    assert str(file) in again.stderr
    assert file.read_bytes() == before


def test_directory_refuses_a_damaged_one(invoke, tmp_path):
    file = tmp_path / "cohort.json"
    file.write_text('{"members": [{"name": "ada"}]}')
    shown = invoke("identity", "directory", file)
    assert shown.exit_code == 2
    assert str(file) in shown.stderr


def test_a_host_loads_the_identity(members):
    stored = json.loads(members[0].read_text())
    assert load_identity(members[0]).public_key.hex() == stored["key"]


@pytest.mark.parametrize("damage", ["", "[]", '{"key": 3}', None])
def test_a_damaged_identity_is_refused_without_its_content(members, damage):
    stored = json.loads(members[0].read_text())
    if damage is None:
        damage = json.dumps({**stored, "key": "00" * 32})
    members[0].write_text(damage)
    with pytest.raises(ParameterError, match="not an identity file") as refused:
        load_identity(members[0])
    assert stored["private_key"] not in str(refused.value)
