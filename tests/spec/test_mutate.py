"""Each check of the reference is bound by a vector: a sample here, all of them by ``python specs/mutate.py``."""

from __future__ import annotations

import subprocess
import sys

import mutate
import pytest

from tests.support.reference_parties import SPECS

ALL = {mutant.name: mutant for mutant in mutate.mutants()}
KNOWN = mutate.survivors()
SAMPLE = (
    "chain.check: without require(config.chain in (b'', c.previous), 'invalid')",
    "chain.Chain._settled: without require(len(near) >= answered.threshold, 'chain-unsettled')",
    "client.Client.__init__: without require(all(map(primitives.is_well_formed, self.cohort)), 'cohort-not-vouched')",
    "client.Client._take_roster: without require(own == self.channel_key + self.masking_key, 'roster-own-leaf')",
    "client.Client._take_survivors: without require(near <= {*self.pairs}, 'survivors-not-shared')",
    "server.Server._close_confirm: without require(len(signed) >= self.config.quorum, 'too-few-clients')",
    "server.Server._take_unmask: without require(len(attachment) == self.config.attachment_bytes, 'wrong-length')",
    "rules.is_sound: 10 * losses < 9 * c.clients for 10 * losses <= 9 * c.clients",
    "private.levels_of: honest for honest - lost",
    "wire.read_bitmap: without not bits >> clients, beside len(data) == (clients + 7) // 8",
)


def test_names_are_unique_and_changes_compile() -> None:
    assert len(ALL) == len(mutate.mutants()) > 400
    for mutant in list(ALL.values())[::7]:
        compile(mutant.tree(), mutant.module, "exec")


def test_every_module_with_a_check_is_changed() -> None:
    modules = {path.stem for path in (SPECS / "reference").glob("*.py")}
    assert {mutant.module for mutant in ALL.values()} == modules - {"__init__", "transcript"}


def test_known_survivors_are_changes_with_a_reason() -> None:
    assert set(KNOWN) <= set(ALL)
    assert all(len(why) > 20 for why in KNOWN.values())
    assert len(KNOWN) < len(ALL) / 8


@pytest.mark.parametrize("name", SAMPLE)
def test_a_vector_fails_without_a_check(name: str) -> None:
    ((_, verdict),) = mutate.verdicts([ALL[name]], jobs=1)
    assert verdict
    assert name not in KNOWN


def test_a_change_that_no_vector_shows_survives() -> None:
    """One that is listed: else the run would find everything, whatever it looked at."""
    name = "wire.unpack.array: without require(count <= len(data), 'malformed')"
    ((_, verdict),) = mutate.verdicts([ALL[name]], jobs=1)
    assert verdict == ""
    assert name in KNOWN


def test_the_command_lists_and_judges() -> None:
    command = [sys.executable, str(SPECS / "mutate.py")]
    shown = subprocess.run([*command, "--list", "own-leaf"], capture_output=True, text=True, check=True)
    assert "roster-own-leaf" in shown.stdout
    judged = subprocess.run([*command, "without require", "own-leaf"], capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout
    assert "1 changes" in judged.stdout
