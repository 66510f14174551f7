"""A thousand clients on one service, over loopback and TLS, a tenth of which vanish, while others abuse it.

    python benchmarks/service_load.py [--clients 1000] [--length 10000] [--vanish 0.1] [--workers N] [--json FILE]

The server is ``secagg serve`` in a process of its own.  The clients are real ones (``secagg.adapters.net.member``),
each with its own identity, connection and state file, as tasks of a few processes.  Those that vanish deal their
shares and are gone before their vector.  Meanwhile strangers and members abuse the service in every way that
``service_abuse.Abuser`` knows, again and again, until the round is over.

Printed: wall time, the server's CPU time and peak memory (Linux), bytes, and whether the sum is the plain one.  With
``--workers`` the main process's own CPU time stands beside that of all its processes: it is what bounds a server.

    python benchmarks/service_load.py --logins [--seconds 5] [--connections 8] [--json FILE]

prints how long an honest login takes while each abuse goes on alone, over several connections at a time and as fast as
it can.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, machine, save, size, table
from service_abuse import CERTIFICATES, Abuser, Attempt, seed_of
from websockets.exceptions import InvalidStatus

from secagg import Identity, Policy, save_directory
from secagg.adapters.net.certificates import client_context
from secagg.adapters.net.member import Member
from secagg.adapters.net.membership import MemberOptions
from secagg.adapters.net.store import ClientStore
from secagg.encoding.layout import totals
from secagg.errors import SecAggError
from secagg.pairwise.config import ThreatModel
from secagg.pairwise.phases import Phase

CLIP, BITS = 1.0, 16
EARLY = frozenset({"OPENING", Phase.ADVERTISE, Phase.SHARE})


class VanishedError(Exception):
    """The client is gone."""


class VanishingStore(ClientStore):  # type: ignore[misc]
    """Of a client that is gone when it should send its vector."""

    def push(self, phase: str, data: bytes | memoryview) -> None:
        if phase == Phase.MASK:
            raise VanishedError
        super().push(phase, data)


def vector_of(client: int, length: int) -> np.ndarray[Any, Any]:
    """A client's values, the same in every process."""
    return np.random.default_rng(client).uniform(-1, 1, length).astype(np.float32)


# Clients.


def client_process(url: str, folder: str, members: list[int], vanishing: list[int], length: int, outcomes: Any) -> None:
    """Many clients in one process; reports (client, what became of it, whose sum, its largest deviation)."""
    asyncio.run(_clients(url, Path(folder), members, set(vanishing), length, outcomes))


async def _clients(url: str, folder: Path, members: list[int], vanishing: set[int], length: int, outcomes: Any) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    tls = client_context(folder / CERTIFICATES / "server.pem")

    @cache
    def plain_sum(included: tuple[int, ...]) -> np.ndarray[Any, Any]:
        return np.sum([vector_of(client, length) for client in included], axis=0, dtype=np.float64)

    async def run(client: int) -> None:
        made = VanishingStore if client in vanishing else ClientStore
        store = made(folder / f"client{client}.state")
        options = MemberOptions(
            url=url,
            tls=tls,
            identity=Identity(seed_of(client)),
            policy=Policy(threat_model=ThreatModel.SEMI_HONEST, gamma=0.2, min_survivors=3),
            give_up_seconds=300,
        )
        member = Member(options, store, {"values": vector_of(client, length)}, on_total=lambda total: None)
        try:
            total = await member.run()
            deviation = np.abs(totals(total.mean, total.layout)["values"] - plain_sum(total.included)).max()
            allowed = total.encoder.error_bound(total.mean.count, total.mean.weight) * total.mean.weight
            outcomes.put((client, "right sum" if deviation <= allowed else "WRONG SUM", total.included))
        except VanishedError:
            outcomes.put((client, "vanished", ()))
        except SecAggError as failure:
            outcomes.put((client, f"{type(failure).__name__}: {failure}", ()))
        finally:
            store.close()

    await asyncio.gather(*(run(client) for client in members))


def abuse_process(url: str, monitor: int, folder: str, members: list[int], counts: Any) -> None:
    """Everything that a stranger, or a bad member, may try; until it is terminated."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it sends to connections that were closed on it
    asyncio.run(_abuse(Abuser(url, Path(folder), members), monitor, counts))


async def _abuse(abuser: Abuser, monitor: int, counts: Any) -> None:
    async def again(name: str, attempt: Attempt, *, as_member: bool) -> None:
        while as_member and (await asyncio.to_thread(read_status, monitor))["rounds"][0]["phase"] in EARLY:
            await asyncio.sleep(0.5)
        await asyncio.sleep(10 if as_member else 0)  # they log in as those that vanish in MASK, when these are gone
        await abuser.repeat(name, attempt, counts, pause=0.5)

    by_members = abuser.by_members()
    async with asyncio.TaskGroup() as tasks:
        for name, attempt in {**abuser.by_strangers(), **by_members}.items():
            tasks.create_task(again(name, attempt, as_member=name in by_members))


# How long an honest login takes meanwhile.


def one_abuse_process(url: str, folder: str, members: list[int], name: str, counts: Any) -> None:
    """One kind of abuse, over several connections at a time, as fast as it can; until it is terminated."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    asyncio.run(_one_abuse(url, Path(folder), members, name, counts))


async def _one_abuse(url: str, folder: Path, members: list[int], name: str, counts: Any) -> None:
    async with asyncio.TaskGroup() as tasks:
        for member in members:
            abuser = Abuser(url, folder, [member])
            attempt = {**abuser.by_strangers(), **abuser.by_members()}[name]
            tasks.create_task(abuser.repeat(name, attempt, counts, pause=0.0))


async def honest_logins(url: str, folder: Path, members: range, seconds: float) -> list[float]:
    """The seconds of each login, from the first packet to the layout, one after the other."""
    took: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        honest = Abuser(url, folder, [members[len(took) % len(members)]])
        started = time.perf_counter()
        while True:
            try:
                async with asyncio.timeout(60), honest.connection() as connection:
                    await honest.log_in(connection)
                    took.append(time.perf_counter() - started)
                break
            except InvalidStatus:  # the server is busy: a client tries again
                await asyncio.sleep(0.1)
    return took


def measure_logins(seconds: float, connections: int, names: list[str]) -> list[dict[str, Any]]:
    """Honest login times, alone and under each abuse."""
    cohort = 50 + connections
    context = multiprocessing.get_context("spawn")
    rows = []
    for name in ["nothing", *names]:
        with tempfile.TemporaryDirectory(prefix="secagg-logins-") as made, context.Manager() as shared:
            folder, counts = Path(made), shared.dict()
            port, monitor = free_port(), free_port()
            prepare(folder, cohort, 100_000)
            server = start_server(folder, port, monitor, 0.1)
            url = f"wss://localhost:{port}/default"
            arguments = (url, str(folder), list(range(50, cohort)), name, counts)
            abuser = context.Process(target=one_abuse_process, args=arguments, daemon=True)
            try:
                if name != "nothing":
                    abuser.start()
                    while not counts:
                        time.sleep(0.05)
                    time.sleep(0.5)
                before = cpu_seconds(server.pid)
                took = asyncio.run(honest_logins(url, folder, range(50), seconds))
                used = cpu_seconds(server.pid) - before
            finally:
                if abuser.is_alive():
                    abuser.kill()
                    abuser.join()
                server.kill()
                server.wait()
            rows.append(
                {
                    "abuse": name,
                    "attempts": sum(counts.values()),
                    "logins": len(took),
                    "median_ms": round(1000 * float(np.median(took)), 1),
                    "largest_ms": round(1000 * max(took), 1),
                    "server_cpu": round(used / seconds, 2),
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def show_logins(rows: list[dict[str, Any]]) -> None:
    """The table for the documentation."""
    titles = ["abuse", "attempts", "honest logins", "median", "slowest", "server's CPU"]
    print(
        table(
            titles,
            [
                [
                    *(row["abuse"], f"{row['attempts']:,}", f"{row['logins']:,}"),
                    *(f"{row['median_ms']:.0f} ms", f"{row['largest_ms']:.0f} ms", f"{row['server_cpu']:.0%}"),
                ]
                for row in rows
            ],
        )
    )
    print(describe(machine("websockets")))


# The measurement.


def measure(clients: int, length: int, vanish: float, processes: int, abused: bool, workers: int = 0) -> dict[str, Any]:
    """Run the round; returns what is to be told of it."""
    vanishing = random.Random(1).sample(range(clients), int(vanish * clients))
    with tempfile.TemporaryDirectory(prefix="secagg-load-") as name:
        folder = Path(name)
        prepare(folder, clients, length)
        port, monitor = free_port(), free_port()
        server = start_server(folder, port, monitor, vanish, workers)
        try:
            return run_round(folder, port, monitor, server, clients, length, vanishing, processes, abused)
        finally:
            if server.returncode is None:
                server.kill()


def prepare(folder: Path, clients: int, length: int) -> None:
    """The layout's file, and the cohort's directory."""
    np.savez(folder / "layout.npz", values=np.zeros(length, np.float32))
    members = [(f"client{index}", Identity(seed_of(index)).public_key) for index in range(clients)]
    save_directory(folder / "cohort.json", members)


def start_server(folder: Path, port: int, monitor: int, vanish: float, workers: int = 0) -> subprocess.Popen[bytes]:
    """``secagg serve``, when it listens."""
    command = [
        *(
            sys.executable,
            "-m",
            "secagg",
            "serve",
            "--dim-from",
            "layout.npz",
            "--clip",
            str(CLIP),
            "--bits",
            str(BITS),
        ),
        *("--directory", "cohort.json", "--threat-model", "semi_honest", "--delta", str(vanish), "--gamma", "0.2"),
        *("--demo-cert", CERTIFICATES, "--port", str(port), "--monitor-port", str(monitor), "--linger", "20"),
        "--json",
        *("--deadline", "120", "--deadline", "MASK=30", "--workers", str(workers)),
    ]
    with (folder / "server.log").open("wb") as log, (folder / "summary.json").open("wb") as summary:
        server = subprocess.Popen(command, cwd=folder, stderr=log, stdout=summary)
    for _ in range(300):
        time.sleep(0.1)
        if "listening" in (folder / "server.log").read_text():
            return server
    raise SystemExit((folder / "server.log").read_text())


def run_round(
    folder: Path,
    port: int,
    monitor: int,
    server: subprocess.Popen[bytes],
    clients: int,
    length: int,
    vanishing: list[int],
    processes: int,
    abused: bool,
) -> dict[str, Any]:
    url = f"wss://localhost:{port}/default"
    context = multiprocessing.get_context("spawn")
    outcomes = context.Queue()
    idle = peak_bytes(server.pid)
    with context.Manager() as shared:
        counts = shared.dict()
        abuse = (url, monitor, str(folder), vanishing[:3], counts)
        abuser = context.Process(target=abuse_process, args=abuse, daemon=True)
        started = time.perf_counter()
        workers = [
            context.Process(
                target=client_process,
                args=(url, str(folder), list(range(first, clients, processes)), vanishing, length, outcomes),
                daemon=True,
            )
            for first in range(processes)
        ]
        for process in [*workers, *([abuser] if abused else [])]:
            process.start()
        got = [outcomes.get(timeout=600) for _ in range(clients)]
        wall = time.perf_counter() - started
        main_process = cpu_seconds(server.pid)
        _, _, used = os.wait4(server.pid, 0)  # it lingers for those that vanished, which have not heard the end
        server.returncode = 0
        if abused:
            abuser.terminate()
            abuser.join()
        for worker in workers:
            worker.join()
        attempts = dict(counts)
    status = json.loads((folder / "summary.json").read_text())
    return {**report(got, status, used, idle, wall, attempts, clients, length), "main_cpu_s": round(main_process, 1)}


def report(
    got: list[tuple[int, str, tuple[int, ...]]],
    status: dict[str, Any],
    used: resource.struct_rusage,
    idle: int,
    wall: float,
    attempts: dict[str, int],
    clients: int,
    length: int,
) -> dict[str, Any]:
    """The figures."""
    hosted = status["rounds"][0]
    packed = 4 * length  # what the elements would take as 32-bit numbers
    return {
        "clients": clients,
        "length": length,
        "outcomes": dict(Counter(what for _, what, _ in got)),
        "in the sum": sorted({len(included) for _, _, included in got if included}),
        "wall_s": round(wall, 1),
        "phase_s": hosted["phase_seconds"],
        "server_cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "server_idle_bytes": idle,
        "server_peak_bytes": used.ru_maxrss * 1024,
        "received_bytes": status["received_bytes"],
        "bytes_per_client": round(status["received_bytes"] / clients),
        "vector_as_float32_bytes": packed,
        "journal_commits": status["journal_commits"],
        "logins": status["logins"],
        "refused": status["refused"],
        "misbehaved": hosted["refused"],
        "attempts_of_abuse": attempts,
        "machine": machine("websockets"),
    }


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def read_status(monitor: int) -> dict[str, Any]:
    """The service's own view."""
    with urllib.request.urlopen(f"http://localhost:{monitor}/status.json") as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def peak_bytes(process: int) -> int:
    """The most resident memory so far; Linux."""
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def cpu_seconds(process: int) -> float:
    """The CPU time that a process has used so far; Linux."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(found: dict[str, Any]) -> None:
    """The figures as a table, for the documentation."""
    rows = [
        ["clients; elements of a vector", f"{found['clients']:,}; {found['length']:,}"],
        ["what became of the clients", ", ".join(f"{count} {what}" for what, count in found["outcomes"].items())],
        ["vectors in the sum", ", ".join(map(str, found["in the sum"]))],
        ["wall time", f"{found['wall_s']:.0f} s"],
        *([f"of it {phase}", f"{seconds:.1f} s"] for phase, seconds in found["phase_s"].items()),
        ["server's CPU time", f"{found['server_cpu_s']:.1f} s, {found['main_cpu_s']:.1f} s of it the main process's"],
        ["server's peak memory", f"{size(found['server_peak_bytes'])} ({size(found['server_idle_bytes'])} when idle)"],
        ["received, a client", size(found["bytes_per_client"])],
        ["commits of the journal", f"{found['journal_commits']:,}"],
        ["refused", ", ".join(f"{code} {count}" for code, count in found["refused"].items()) or "nobody"],
        [
            "attempts of abuse",
            ", ".join(f"{what} {count}" for what, count in found["attempts_of_abuse"].items()) or "0",
        ],
    ]
    print(table(["what", "measured"], rows))
    print(describe(found["machine"]))


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--length", type=int, default=10_000)
    parser.add_argument("--vanish", type=float, default=0.1)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--no-abuse", action="store_true")
    parser.add_argument("--workers", type=int, default=0, help="of secagg serve")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--logins", action="store_true", help="only measure honest logins under each abuse")
    parser.add_argument("--seconds", type=float, default=5.0, help="with --logins, for each abuse")
    parser.add_argument("--only", nargs="*", choices=Abuser.names(), help="with --logins, these kinds of abuse")
    parser.add_argument("--connections", type=int, default=8, help="with --logins, of the abuse at a time")
    options = parser.parse_args()
    if options.logins:
        rows = measure_logins(options.seconds, options.connections, options.only or Abuser.names())
        show_logins(rows)
        if options.json is not None:
            save(options.json, {"logins": rows, "machine": machine("websockets")})
        return
    found = measure(
        options.clients, options.length, options.vanish, options.processes, not options.no_abuse, options.workers
    )
    show(found)
    if options.json is not None:
        save(options.json, found)
    if set(found["outcomes"]) - {"right sum", "vanished"}:
        sys.exit(1)


if __name__ == "__main__":
    main()
