"""Active rounds over Flower: who joins, who does not, and who is believed to be whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

import secagg
from secagg import AbortCode
from secagg.adapters.flower import SecAggMod, secagg_mod
from secagg.adapters.flower.records import RECORD
from secagg.pairwise import messages
from tests.support.flower_grid import App, model
from tests.support.flower_setup import ODD, assert_mean, make, one_round, others, secure, with_node_config


def test_active_paths_from_the_node_config(tmp_path: Path) -> None:
    strategy, grid = make("active", tmp_path)
    grid.app = App(secagg_mod).app
    for node in grid.nodes:
        with_node_config(
            grid,
            node,
            identity=str(tmp_path / f"{node}.json"),
            directory=str(tmp_path / "cohort.json"),
            tokens=str(tmp_path / f"{node}.sqlite"),
        )
    assert_mean(strategy, one_round(strategy, grid, model()), model(), grid.nodes)


def test_active_in_the_draft_of_the_next_version(tmp_path: Path) -> None:
    """Who advertises is verified in the version that the round names."""
    strategy, grid = make("active", tmp_path, version=2)
    assert_mean(strategy, one_round(strategy, grid, model()), model(), grid.nodes)


def test_active_needs_used_tokens(tmp_path: Path) -> None:
    strategy, grid = make("active", tmp_path)
    grid.app = App(SecAggMod(identity=lambda c: tmp_path / f"{c.node_id}.json", directory=tmp_path / "cohort.json")).app
    assert one_round(strategy, grid, model()) is None
    assert all("secagg-tokens" in reply.error.reason for _, reply in grid.replies)


def test_a_client_with_an_identity_is_not_talked_down(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, grid = make("active", tmp_path)
    strategy = secure(gamma=0.2, delta=0.25)
    assert one_round(strategy, grid, model()) is None
    assert "threat_model = semi_honest" in caplog.text
    assert "left (CONFIG_REFUSED)" in caplog.text  # in semi_honest the server knows which index that was


def test_a_client_asks_active_rounds_for_a_fifth_of_colluders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    strategy, grid = make("active", tmp_path, nodes=10, delta=0.2, gamma=0.1)
    assert one_round(strategy, grid, model()) is None
    assert "colluders = 1; this client's policy asks for at least 2" in caplog.text
    assert "node 101 did not join" in caplog.text


def test_a_client_without_an_identity_does_not_join_active(tmp_path: Path) -> None:
    strategy, grid = make("active", tmp_path)
    identified = grid.app

    def mixed(message: Message, context: Any) -> Message:
        return (App(secagg_mod).app if context.node_id == ODD else identified)(message, context)

    grid.app = mixed  # type: ignore[assignment]
    assert_mean(strategy, one_round(strategy, grid, model()), model(), others(grid))
    odd = next(reply for _, reply in grid.replies if reply.metadata.src_node_id == ODD)
    assert "no identity" in odd.error.reason


VICTIM = 5
"""The cohort index of node 103: the directory lists the nodes backwards."""

CLAIMS: dict[str, Callable[[bytes], bytes]] = {
    "its own advertisement": lambda own: own,
    "rubbish": lambda own: b"rubbish",
    "an abort": lambda own: messages.encode_abort(
        1, messages.to_server.decode(own, 10**6, 1).session, AbortCode.CANCELLED
    ),
    "a flipped bit": lambda own: own[:-1] + bytes([own[-1] ^ 1]),
    "nothing": lambda own: b"",
}


@pytest.mark.parametrize("what", CLAIMS)
@pytest.mark.parametrize("claimed", [VICTIM, -1, 8, 2**40])
def test_a_node_that_claims_to_be_another_member_harms_itself_alone(what: str, claimed: int, tmp_path: Path) -> None:
    """Node 108, which answers first, says that it is node 103; nothing of it counts for or against that one."""

    def claims(phase: str, reply: Message) -> Message:
        if phase == "ADVERTISE" and reply.metadata.src_node_id == 108:
            own = reply.content.config_records[RECORD]["message"]
            reply.content = RecordDict({RECORD: ConfigRecord({"message": CLAIMS[what](own), "index": claimed})})
        return reply

    strategy, grid = make("active", tmp_path)
    grid.tamper_out = claims
    assert_mean(strategy, one_round(strategy, grid, model()), model(), [node for node in grid.nodes if node != 108])
    assert strategy.reports[1].blame == ()


def test_strangers_are_in_no_cohort(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    strategy, grid = make("active", tmp_path)
    stranger = secagg.Identity.generate()
    document = {"private_key": stranger.seed().hex(), "key": stranger.public_key.hex()}
    (tmp_path / f"{ODD}.json").write_text(json.dumps(document), encoding="utf-8")
    assert_mean(strategy, one_round(strategy, grid, model()), model(), others(grid))
    odd = next(reply for _, reply in grid.replies if reply.metadata.src_node_id == ODD)
    assert "not in its directory" in odd.error.reason


def test_two_nodes_with_one_identity_are_one_member(tmp_path: Path) -> None:
    """The first one counts; what the other sends later is nobody's."""
    strategy, grid = make("active", tmp_path)
    (tmp_path / "101.json").write_text((tmp_path / "102.json").read_text(encoding="utf-8"), encoding="utf-8")
    assert_mean(strategy, one_round(strategy, grid, model()), model(), [node for node in grid.nodes if node != 101])


def test_members_that_are_not_sampled_count_as_lost(tmp_path: Path) -> None:
    strategy, grid = make("active", tmp_path, nodes=12, delta=0.2)
    grid.nodes = grid.nodes[:10]
    assert_mean(strategy, one_round(strategy, grid, model()), model(), grid.nodes)
    assert len(strategy.reports[1].dropped["ADVERTISE"]) == 2
