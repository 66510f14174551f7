"""``secagg audit``: a directory of certificates, checked offline."""

from __future__ import annotations

import json
from functools import partial

import pytest

from secagg import Identity, save_directory
from secagg.audit import audit
from secagg.certificate_files import CertificateFiles
from secagg.errors import CertificateError
from secagg.pairwise.certificate import Certificate, Spent
from secagg.pairwise.receipt import signed_receipt
from tests.support.certified import CertifiedCohort

NAMES = ["ada", "bob", "cleo", "dora", "emil", "fay"]


@pytest.fixture
def kept(tmp_path):
    """Two rounds in files; the directory and the server's public half beside them."""
    cohort = CertifiedCohort()
    files = CertificateFiles(tmp_path / "certificates")
    for name, fates in (("spring", {1: "ADVERTISE"}), ("summer", {0: "NONE", 2: "NONE", 4: "NONE"})):
        server = cohort.play(fates)
        spent = Spent(0.5, 1e-6) if server.failure is None else None
        files.add(server.config.to_bytes(), bytes(32), partial(made, cohort, server, name, spent))
    save_directory(tmp_path / "cohort.json", list(zip(NAMES, cohort.keys, strict=True)))
    half = {"name": "server", "key": cohort.server.public_key.hex()}
    (tmp_path / "server.pub").write_text(json.dumps(half))
    return tmp_path, cohort


def made(cohort, server, name, spent, last):
    cohort.chain.append(last)
    return server.certificate(cohort.server, previous=last, name=name, time=1_700_000_000, spent=spent)


def test_a_person_reads_who_was_there_and_who_was_lost(kept, invoke):
    folder, _ = kept
    shown = invoke(
        "audit", folder / "certificates", "--directory", folder / "cohort.json", "--server", folder / "server.pub"
    )
    assert shown.exit_code == 0, shown.stderr
    text = " ".join(shown.stdout.split())
    lost, missing = "lost in SHARE: bob", "did not answer: ada, cleo, emil"
    for said in ("2 rounds that holds", "0 spring", lost, missing, "2023-11-14", "epsilon 0.5"):
        assert said in text, said


def test_json_has_all_of_it(kept, invoke):
    folder, cohort = kept
    shown = invoke("audit", folder / "certificates", "--directory", folder / "cohort.json", "--json")
    found = json.loads(shown.stdout)
    assert (shown.exit_code, found["ok"], found["members"]) == (0, True, NAMES)
    assert found["server"] == cohort.server.public_key.hex()
    first, second = found["rounds"]
    assert (first["outcome"], first["lost"], first["privacy"]) == (
        "sum",
        {"SHARE": [1]},
        {"epsilon": 0.5, "delta": 1e-6},
    )
    assert (second["outcome"], second["ended_in"], second["missing"]) == ("too-few-clients", "ADVERTISE", [0, 2, 4])


def test_receipts_are_counted_and_checked(kept, invoke):
    folder, cohort = kept
    files = sorted((folder / "certificates").glob("*.certificate"))
    certificate = Certificate.from_bytes(files[0].read_bytes())
    given = ["audit", folder / "certificates", "--directory", folder / "cohort.json"]
    for member in (0, 3):
        receipt = signed_receipt(certificate, 0, member, cohort.identities[member])
        (folder / "certificates" / f"{member}.receipt").write_bytes(receipt.to_bytes())
    shown = invoke(*given, "--json")
    assert [audited["receipts"] for audited in json.loads(shown.stdout)["rounds"]] == [[0, 3], []]
    assert "receipts of members 2" in " ".join(invoke(*given).stdout.replace("│", " ").split())
    stranger = folder / "1.receipt"
    stranger.write_bytes(signed_receipt(certificate, 0, 1, Identity.generate()).to_bytes())
    refused = invoke(*given, stranger)
    assert refused.exit_code == 1
    assert "receipt of member 1 is not signed by it" in refused.stderr


def test_a_changed_file_is_named_with_the_reason(kept, invoke):
    folder, _ = kept
    file = folder / "certificates" / "00000001.certificate"
    data = bytearray(file.read_bytes())
    data[60] ^= 1
    file.write_bytes(data)
    for as_json in ([], ["--json"]):
        refused = invoke("audit", folder / "certificates", "--directory", folder / "cohort.json", *as_json)
        assert refused.exit_code == 1
        assert refused.stderr.startswith("secagg audit: certificate 1 of the history: ")
        assert not as_json or json.loads(refused.stdout)["ok"] is False


def test_a_history_without_its_end_is_refused_by_the_head_that_a_member_knows(kept, invoke):
    folder, _ = kept
    files = [folder / "certificates" / f"0000000{number}.certificate" for number in range(2)]
    head = Certificate.from_bytes(files[1].read_bytes()).digest.hex()
    common = ["--directory", folder / "cohort.json", "--head", head]
    assert invoke("audit", *files, *common).exit_code == 0
    assert invoke("audit", files[0], *common).exit_code == 1
    late = ["--directory", folder / "cohort.json"]
    assert invoke("audit", files[1], *late).exit_code == 1
    assert invoke("audit", files[1], *late, "--partial").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["empty"], "no file *.certificate"),
        (["nowhere"], "No such file"),
        (["certificates", "--head", "xyz"], "--head 'xyz'"),
        (["certificates", "--server", "cohort.json"], "neither an identity file"),
    ],
)
def test_what_cannot_be_carried_out_is_one_line(kept, invoke, arguments, said):
    folder, _ = kept
    (folder / "empty").mkdir()
    known = {"empty", "nowhere", "certificates", "cohort.json"}
    refused = invoke("audit", *(folder / given if given in known else given for given in arguments))
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_round_that_ends_again_after_a_crash_is_certified_once(tmp_path):
    cohort = CertifiedCohort()
    server = cohort.play()
    calls = []

    def make(last):
        calls.append(last)
        return server.certificate(cohort.server, previous=last)

    data = CertificateFiles(tmp_path).add(*names_of(server), make)
    assert CertificateFiles(tmp_path).add(*names_of(server), make) == data
    assert calls == [b""]
    assert audit([data], directory=cohort.directory).head == CertificateFiles(tmp_path).head


def names_of(server):
    return server.config.to_bytes(), Certificate.from_bytes(server.certificate(Identity(bytes(32)))).nonce


def test_files_that_make_no_chain_are_not_continued(tmp_path):
    cohort = CertifiedCohort()
    files = CertificateFiles(tmp_path)
    for _ in range(2):
        server = cohort.play()
        files.add(*names_of(server), lambda last, s=server: s.certificate(cohort.server, previous=last))
    (tmp_path / "00000000.certificate").write_bytes(CertifiedCohort().play().certificate(cohort.server))
    with pytest.raises(CertificateError, match="does not stand behind"):
        CertificateFiles(tmp_path)
