"""A thousand clients on one service, over loopback and TLS, a tenth of which vanish, while others abuse it.

    python benchmarks/service_load.py [--clients 1000] [--length 10000] [--vanish 0.1] [--json FILE]

The server is ``secagg serve`` in a process of its own.  The clients are real ones (``secagg.adapters.net.member``),
each with its own identity, connection and state file, as tasks of a few processes.  Those that vanish deal their
shares and
are gone before their vector.  Meanwhile these connect, again and again, until the round is over:

- slow loris: one that never finishes its TLS handshake, one that sends a byte of its HTTP request a second, and one
  that logs in as a member and sends a byte of a message a second;
- garbage: random bytes instead of TLS, instead of a login, and, logged in, instead of a frame and of a message;
- 100 MB: before the login in one frame, and as a member, in one frame and in fragments.

Printed: wall time, the server's CPU time and peak memory (Linux), bytes, and whether the sum is the plain one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import random
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, machine, save, size, table
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from secagg import Identity, Policy, save_directory
from secagg.adapters.net.certificates import client_context, seen_certificate
from secagg.adapters.net.channel import Channel
from secagg.adapters.net.frames import FRAMES_VERSION, Challenge, Login, Submission, decode_to_client, encode
from secagg.adapters.net.layout import totals
from secagg.adapters.net.member import Member
from secagg.adapters.net.membership import MemberOptions
from secagg.adapters.net.store import ClientStore
from secagg.config import ThreatModel
from secagg.errors import SecAggError
from secagg.transcript import signed_login

CLIP, BITS = 1.0, 16
HUNDRED_MB = 100_000_000
CERTIFICATES = "tls"
EARLY = frozenset({"OPENING", "ADVERTISE", "SHARE"})


class VanishedError(Exception):
    """The client is gone."""


class VanishingStore(ClientStore):  # type: ignore[misc]
    """Of a client that is gone when it should send its vector."""

    def push(self, phase: str, data: bytes | memoryview) -> None:
        if phase == "MASK":
            raise VanishedError
        super().push(phase, data)


def vector_of(client: int, length: int) -> np.ndarray[Any, Any]:
    """A client's values, the same in every process."""
    return np.random.default_rng(client).uniform(-1, 1, length).astype(np.float32)


def seed_of(client: int) -> bytes:
    """A client's identity, the same in every process: this is no secret."""
    return client.to_bytes(32, "little")


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
            deviation = np.abs(totals(total.mean)["values"] - plain_sum(total.included)).max()
            allowed = total.encoder.error_bound(total.mean.count, total.mean.weight) * total.mean.weight
            outcomes.put((client, "right sum" if deviation <= allowed else "WRONG SUM", total.included))
        except VanishedError:
            outcomes.put((client, "vanished", ()))
        except SecAggError as failure:
            outcomes.put((client, f"{type(failure).__name__}: {failure}", ()))
        finally:
            store.close()

    await asyncio.gather(*(run(client) for client in members))


# Abuse.


def abuse_process(url: str, monitor: int, folder: str, members: list[int], counts: Any) -> None:
    """Everything that a stranger, or a bad member, may try; until it is terminated."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it sends to connections that were closed on it
    asyncio.run(_abuse(url, monitor, Path(folder), members, counts))


async def _abuse(url: str, monitor: int, folder: Path, members: list[int], counts: Any) -> None:
    port = int(url.split(":")[2].split("/")[0])
    tls = client_context(folder / CERTIFICATES / "server.pem")
    loris, garbage, large = members

    async def logged_in(client: int, do: Callable[[ClientConnection], Awaitable[None]]) -> None:
        async with connect(url, ssl=tls, compression=None, proxy=None, max_size=None) as connection:
            channel = Channel(connection, decode_to_client)
            challenge = await channel.receive()
            assert isinstance(challenge, Challenge)
            identity = Identity(seed_of(client))
            seen = seen_certificate(connection.transport.get_extra_info("ssl_object"))
            signature = identity.sign(signed_login(challenge.challenge, "default", seen))
            await channel.send(Login(FRAMES_VERSION, identity.public_key, signature))
            await do(connection)
            await connection.wait_closed()

    async def slow_message(connection: ClientConnection) -> None:
        async def drip() -> Any:
            yield encode(Submission(1, "MASK", 30_000))
            while True:
                yield b"x"
                await asyncio.sleep(1)

        await connection.send(drip())

    async def slow_request() -> None:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=tls)
        for byte in b"GET /default HTTP/1.1\r\nHost: localhost\r\n" * 100:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(1)
            if reader.at_eof():
                return

    async def slow_handshake() -> None:
        reader, writer = await asyncio.open_connection("localhost", port)
        await reader.read()
        writer.close()

    async def no_tls() -> None:
        reader, writer = await asyncio.open_connection("localhost", port)
        writer.write(os.urandom(100_000))
        await reader.read()
        writer.close()
        await asyncio.sleep(0.2)

    async def no_login() -> None:
        async with connect(url, ssl=tls, compression=None, proxy=None) as connection:
            await connection.send(os.urandom(500))
            await connection.wait_closed()
        await asyncio.sleep(0.2)

    async def no_frame(connection: ClientConnection) -> None:
        await connection.send(os.urandom(1000))
        await asyncio.sleep(0.2)

    async def no_message(connection: ClientConnection) -> None:
        noise = os.urandom(2000)
        for number in range(10):
            await connection.send([encode(Submission(number, "MASK", len(noise))), noise])
        await asyncio.sleep(0.2)

    async def large_before_login() -> None:
        async with connect(url, ssl=tls, compression=None, proxy=None, ping_interval=None) as connection:
            await connection.send(bytes(HUNDRED_MB))
            await connection.wait_closed()

    async def large_frame(connection: ClientConnection) -> None:
        await connection.send(bytes(HUNDRED_MB))

    async def large_message(connection: ClientConnection) -> None:
        part = bytes(60_000)
        await connection.send([encode(Submission(1, "MASK", 30_000)), *[part] * (HUNDRED_MB // len(part))])

    async def again(name: str, attempt: Callable[[], Awaitable[None]], *, as_member: bool) -> None:
        while as_member and (await asyncio.to_thread(read_status, monitor))["rounds"][0]["phase"] in EARLY:
            await asyncio.sleep(0.5)
        await asyncio.sleep(10 if as_member else 0)  # they log in as those that vanish in MASK, when these are gone
        while True:
            counts[name] = counts.get(name, 0) + 1
            with contextlib.suppress(OSError, WebSocketException, TimeoutError, ssl.SSLError, EOFError):
                await attempt()
            await asyncio.sleep(0.5)

    by_strangers = {
        "slow TLS handshake": slow_handshake,
        "slow HTTP request": slow_request,
        "garbage for TLS": no_tls,
        "garbage for a login": no_login,
        "100 MB before the login": large_before_login,
    }
    by_members = {
        "slow message": lambda: logged_in(loris, slow_message),
        "garbage for a frame": lambda: logged_in(garbage, no_frame),
        "garbage for a message": lambda: logged_in(garbage, no_message),
        "100 MB in a frame": lambda: logged_in(large, large_frame),
        "100 MB in fragments": lambda: logged_in(large, large_message),
    }
    async with asyncio.TaskGroup() as tasks:
        for name, attempt in {**by_strangers, **by_members}.items():
            tasks.create_task(again(name, attempt, as_member=name in by_members))


# The measurement.


def measure(clients: int, length: int, vanish: float, processes: int, abused: bool) -> dict[str, Any]:
    """Run the round; returns what is to be told of it."""
    vanishing = random.Random(1).sample(range(clients), int(vanish * clients))
    with tempfile.TemporaryDirectory(prefix="secagg-load-") as name:
        folder = Path(name)
        np.savez(folder / "layout.npz", values=np.zeros(length, np.float32))
        members = [(f"client{index}", Identity(seed_of(index)).public_key) for index in range(clients)]
        save_directory(folder / "cohort.json", members)
        port, monitor = free_port(), free_port()
        server = start_server(folder, port, monitor, vanish)
        try:
            return run_round(folder, port, monitor, server, clients, length, vanishing, processes, abused)
        finally:
            if server.returncode is None:
                server.kill()


def start_server(folder: Path, port: int, monitor: int, vanish: float) -> subprocess.Popen[bytes]:
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
        *("--demo-cert", CERTIFICATES, "--port", str(port), "--monitor-port", str(monitor), "--linger", "600"),
        "--json",
        *("--deadline", "120", "--deadline", "MASK=30"),
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
        _, _, used = os.wait4(server.pid, 0)  # it ends when all that stayed have the sum
        server.returncode = 0
        if abused:
            abuser.terminate()
            abuser.join()
        for worker in workers:
            worker.join()
        attempts = dict(counts)
    status = json.loads((folder / "summary.json").read_text())
    return report(got, status, used, idle, wall, attempts, clients, length)


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


def show(found: dict[str, Any]) -> None:
    """The figures as a table, for the documentation."""
    rows = [
        ["clients; elements of a vector", f"{found['clients']:,}; {found['length']:,}"],
        ["what became of the clients", ", ".join(f"{count} {what}" for what, count in found["outcomes"].items())],
        ["vectors in the sum", ", ".join(map(str, found["in the sum"]))],
        ["wall time", f"{found['wall_s']:.0f} s"],
        *([f"of it {phase}", f"{seconds:.1f} s"] for phase, seconds in found["phase_s"].items()),
        ["server's CPU time", f"{found['server_cpu_s']:.0f} s"],
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
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.clients, options.length, options.vanish, options.processes, not options.no_abuse)
    show(found)
    if options.json is not None:
        save(options.json, found)
    if set(found["outcomes"]) - {"right sum", "vanished"}:
        sys.exit(1)


if __name__ == "__main__":
    main()
