"""SIGKILL at every phase, of the server and of clients: every round ends with the right sum or a clean abort.

Real processes, TLS over loopback, two rounds in flight in one server.  The seeds are printed when a test fails;
SECAGG_CRASH_RUNS asks for more of them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.support.rounds_of_processes import Stage, Start

RUNS = int(os.environ.get("SECAGG_CRASH_RUNS", "1"))
PHASES = {
    "semi_honest": ["ADVERTISE", "SHARE", "MASK", "UNMASK"],
    "active": ["ADVERTISE", "SHARE", "MASK", "CONFIRM", "UNMASK"],
}
SCENARIOS_FOR_ALL_PHASES = 8


@pytest.mark.parametrize("threat", PHASES)
def test_a_server_that_is_killed_in_every_phase_loses_nothing(
    start: Start, tmp_path: Path, tls_folder: Path, threat: str
) -> None:
    """No client is lost, so everybody must be in every sum, however often the server dies."""
    met: set[str] = set()
    scenario = 0
    while scenario < RUNS or (met < set(PHASES[threat]) and scenario < SCENARIOS_FOR_ALL_PHASES):
        folder = tmp_path / str(scenario)
        folder.mkdir()
        seed = random.randrange(2**32) if RUNS > 1 else scenario
        print(f"scenario {scenario}: seed {seed}")
        met |= kill_the_server(start, folder, tls_folder, threat, random.Random(seed))
        scenario += 1
    assert met >= set(PHASES[threat])


def kill_the_server(start: Start, folder: Path, tls: Path, threat: str, rng: random.Random) -> set[str]:
    """Kill it once or twice a phase; returns the phases that a round was in when it died."""
    stage = Stage(start, folder, tls, members=4, rounds=("one", "two"), threat=threat, delta=0.0, deadline=30)
    met: set[str] = set()
    server = stage.serve()
    for name in stage.rounds:
        for member in range(stage.members):
            stage.join(name, member)
    for phase in PHASES[threat]:
        stop_in(phase, stage, rng)
        for _ in range(rng.choice((1, 2))):
            time.sleep(rng.uniform(0, 0.1))
            if not server.kill():
                break
            met |= set(stage.phases_in_the_journal().values())
            server = stage.serve()
        for client in stage.clients.values():
            client.signal(signal.SIGCONT)
    stage.check_the_end(complete=True)
    return met


@pytest.mark.parametrize("threat", PHASES)
def test_clients_that_are_killed_in_every_phase_lose_nothing(
    start: Start, tmp_path: Path, tls_folder: Path, threat: str
) -> None:
    """They come back at once: everybody must be in every sum, and nobody answers a phase twice with other bytes."""
    for scenario in range(RUNS):
        folder = tmp_path / str(scenario)
        folder.mkdir()
        seed = random.randrange(2**32) if RUNS > 1 else scenario
        print(f"scenario {scenario}: seed {seed}")
        rng = random.Random(seed)
        stage = Stage(
            start, folder, tls_folder, members=4, rounds=("one", "two"), threat=threat, delta=0.0, deadline=30
        )
        stage.serve()
        for name in stage.rounds:
            for member in range(stage.members):
                stage.join(name, member)
        killed = 0
        for phase in PHASES[threat]:
            stop_in(phase, stage, rng)
            time.sleep(rng.uniform(0, 0.02))
            for key in rng.sample(sorted(stage.clients), 4):
                if stage.clients[key].kill():
                    killed += 1
                    stage.join(*key)
            for client in stage.clients.values():
                client.signal(signal.SIGCONT)
        stage.check_the_end(complete=True)
        assert killed >= 2 * len(PHASES[threat])


def stop_in(phase: str, stage: Stage, rng: random.Random) -> None:
    """Let half of a round's clients stand still as soon as it is in a phase, so that it stays there."""
    server, waiting = stage.servers[-1], set(stage.rounds)
    later = PHASES[stage.threat][PHASES[stage.threat].index(phase) :]
    while waiting and server.poll() is None:
        lines = [json.loads(line) for line in server.errors().splitlines() if line.startswith("{") and line[-1] == "}"]
        for name in sorted(waiting):
            if any(phase_of(line) in (*later, "OVER") for line in lines if line.get("round") == name):
                waiting.remove(name)
                for member in rng.sample(range(stage.members), 2):
                    stage.clients[name, member].signal(signal.SIGSTOP)


def phase_of(line: dict[str, str]) -> str:
    """The phase that a line of the server's log says that its round is in."""
    match line["event"]:
        case "listening":
            return "ADVERTISE"  # or a later one, of which it then tells before
        case "resumed":
            return line["phase"]
        case "phase-closed":
            return line["next"]
    return "OVER" if line["event"] == "round-over" else ""


@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("threat", PHASES)
def test_clients_and_server_killed_at_random(
    start: Start, tmp_path: Path, tls_folder: Path, threat: str, run: int
) -> None:
    """Some clients come back, some never; the server always does."""
    seed = random.randrange(2**32) if RUNS > 1 else run
    print(f"seed {seed}")
    rng = random.Random(seed)
    stage = Stage(start, tmp_path, tls_folder, members=5, rounds=("one", "two"), threat=threat, delta=0.2, deadline=1.0)
    stage.serve()
    everybody = [(name, member) for name in stage.rounds for member in range(stage.members)]
    for name, member in everybody:
        stage.join(name, member)
    for _ in range(rng.randint(3, 10)):
        time.sleep(rng.expovariate(8))
        if rng.random() < 0.3:
            stage.servers[-1].kill()
            stage.serve()
            continue
        victim = rng.choice(everybody)
        if victim in stage.gone or not stage.clients[victim].kill():
            continue
        if rng.random() < 0.75:
            stage.join(*victim)
        else:
            stage.gone.add(victim)
    print(stage.check_the_end())
