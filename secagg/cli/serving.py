"""What ``secagg serve`` does: rounds from options, the service on its port, progress, the sum in a file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from secagg.adapters.net import model_files
from secagg.adapters.net.addresses import is_loopback
from secagg.adapters.net.certificates import make_demo_certificate, server_context
from secagg.adapters.net.ending import Ending
from secagg.adapters.net.hosted import HostedRound
from secagg.adapters.net.journal import Journal, JournalError
from secagg.adapters.net.layout import Layout, totals
from secagg.adapters.net.logs import configure
from secagg.adapters.net.monitor import monitor
from secagg.adapters.net.round_spec import DEFAULT_DEADLINES, PHASES, RoundSpec
from secagg.adapters.net.service import Limits, Service
from secagg.adapters.net.standing import listed
from secagg.arithmetic import unpack
from secagg.cli.options import LogFormatName
from secagg.cli.output import EXIT_FAILED, EXIT_STOPPED
from secagg.cli.rounds import SuiteName, config_for
from secagg.config import RoundConfig, ThreatModel
from secagg.errors import InputError, ParameterError
from secagg.identity import Directory, load_directory

_log = logging.getLogger("secagg.net.serve")
_FEWEST: Final = 3
"""Everybody gets the total: of two, each could take its own away from it."""


@dataclass(frozen=True, kw_only=True)
class Where:
    """Addresses, TLS and limits, as the options give them."""

    host: str
    port: int
    certificate: Path | None
    key: Path | None
    demo_certificate: Path | None
    plaintext: bool
    monitor_host: str
    monitor_port: int | None
    max_connections: int | None


@dataclass(frozen=True, slots=True)
class ServeOutcome:
    """What is printed, and the exit code."""

    summary: dict[str, Any]
    exit_code: int


def round_specs(
    *,
    dim_from: Path,
    clip: float,
    bits: int,
    max_weight: int | None,
    clients: int | None,
    directory: Path | None,
    open_seats: bool,
    threat: ThreatModel | None,
    names: Sequence[str],
    gamma: float | None,
    delta: float | None,
    min_survivors: int | None,
    neighbours: str,
    suite: SuiteName,
    deadlines: Sequence[str],
) -> list[RoundSpec]:
    """The rounds that the options ask for.  Raises ParameterError and InputError."""
    layout = Layout.of(model_files.read_shapes(dim_from), clip=clip, bits=bits, max_weight=max_weight)
    known, members, keys, digest = _cohort(directory, open_seats)
    if keys is not None and clients not in (None, len(keys)):
        raise ParameterError(f"--clients {clients}: {directory} lists {len(keys)}; leave --clients out")
    count = len(keys) if keys is not None else clients
    if count is None:
        raise ParameterError("give --clients, or a --directory")
    threat = threat or (ThreatModel.ACTIVE if keys is not None else ThreatModel.SEMI_HONEST)
    if threat is ThreatModel.ACTIVE and keys is None:
        raise ParameterError("--threat-model active needs the cohort's --directory (secagg identity directory)")
    encoder = layout.encoder()

    def config(least: int | None) -> RoundConfig:
        return config_for(count, encoder, threat, gamma, delta, neighbours, suite, min_survivors=least, cohort=digest)

    agreed = config(min_survivors)
    if min_survivors is None and agreed.min_survivors < _FEWEST:
        agreed = config(_FEWEST)
    seconds = parse_deadlines(deadlines)
    if len(set(names)) < len(names):
        raise ParameterError(f"--round: {', '.join(names)} has a name twice")
    return [
        RoundSpec(name=name, config=agreed, layout=layout, deadlines=seconds, keys=keys, names=members, directory=known)
        for name in names
    ]


def _cohort(
    directory: Path | None, open_seats: bool
) -> tuple[Directory | None, tuple[str, ...], tuple[bytes, ...] | None, bytes]:
    """The directory, its members' names and keys, and its digest."""
    if directory is None:
        if not open_seats:
            raise ParameterError(
                "give the cohort's --directory, so that only its members take part; or --open: anybody may take a seat"
            )
        return None, (), None, b""
    if open_seats:
        raise ParameterError("--open and --directory exclude each other")
    known, names, digest = load_directory(directory)
    return known, names, tuple(known.cohort(digest) or ()), digest


def parse_deadlines(given: Sequence[str]) -> dict[str, float]:
    """``60`` for all phases but those that are named, as in ``SHARE=60``.  Raises ParameterError."""
    found, named = dict(DEFAULT_DEADLINES), {}
    for text in given:
        phase, equals, number = text.rpartition("=")
        try:
            seconds = float(number)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < 1e9 or (equals and phase.upper() not in PHASES):
            raise ParameterError(f"--deadline {text!r}: give SECONDS, or PHASE=SECONDS with one of {', '.join(PHASES)}")
        if equals:
            named[phase.upper()] = seconds
        else:
            found = dict.fromkeys(PHASES, seconds)
    return {**found, **named}


def run(
    specs: Sequence[RoundSpec],
    where: Where,
    *,
    journal: Path,
    output: Path | None,
    linger: float,
    log_format: LogFormatName,
) -> ServeOutcome:
    """Host the rounds to their end."""
    if output is not None:
        model_files.kind_of(output)
        if len(specs) > 1 and "{round}" not in str(output):
            raise ParameterError(f"--output {output}: several rounds need several files; put {{round}} into the name")
    tls, certificate = _tls(where)
    _allow_many_sockets()
    configure(sys.stderr, as_json=log_format is LogFormatName.JSON, level=_level())
    opened = Journal(journal)
    try:
        with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
            return asyncio.run(_host(specs, where, opened, tls, certificate, output, linger))
    except JournalError as failure:
        typer.echo(f"secagg serve: {failure}; mend that, and run the same command to go on", err=True)
        return ServeOutcome({"ok": False, "stopped": True}, EXIT_STOPPED)
    finally:
        opened.close()
    typer.echo(f"secagg serve: stopped; {journal} keeps the rounds: run the same command to go on", err=True)
    return ServeOutcome({"ok": False, "stopped": True}, EXIT_STOPPED)


async def _host(
    specs: Sequence[RoundSpec],
    where: Where,
    journal: Journal,
    tls: ssl.SSLContext | None,
    certificate: bytes,
    output: Path | None,
    linger: float,
) -> ServeOutcome:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is not None:
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
    service = Service(specs, journal, certificate=certificate, limits=Limits(connections=where.max_connections))
    async with contextlib.AsyncExitStack() as stack:
        if where.monitor_port is not None:
            bound = stack.enter_context(monitor(service.status, where.monitor_host, where.monitor_port))
            _log.info("monitoring", extra={"fields": {"url": f"http://{where.monitor_host}:{bound}/status"}})
        listener = await stack.enter_async_context(service.listen(where.host, where.port, tls))
        bound = next(iter(listener.sockets)).getsockname()[1]
        scheme = "ws" if tls is None else "wss"
        for name, hosted in service.rounds.items():
            fields = {"url": f"{scheme}://{where.host}:{bound}/{name}", "certificate": certificate.hex()}
            _log.info("listening", extra={"fields": {"round": name, "port": bound, **fields, **_terms(hosted.config)}})
            typer.echo(f"round {name}: {_tolerates(hosted.config)}", err=True)
        for name in (name for name, hosted in service.rounds.items() if hosted.ending is not None):
            typer.echo(
                f"round {name} is over, and is handed out again for {linger:g} s; for a new one give another --round "
                "or another --journal",
                err=True,
            )
        await stack.enter_async_context(_shown(service, f"{scheme}://{where.host}:{bound}"))
        written = [asyncio.create_task(_write_sum(hosted, output)) for hosted in service.rounds.values()]
        await service.finished(linger)
        unusable = await asyncio.gather(*written)
    status = service.status()
    rounds = status["rounds"]
    for found, why in zip(rounds, unusable, strict=True):
        found["failure"] = found["failure"] or why
        told = f"no sum: {found['failure']}" if found["failure"] else f"the sum of {found['included']} clients"
        typer.echo(f"round {found['name']}: {told}{_who_was_lost(found)}", err=True)
    ok = all(not found["failure"] for found in rounds)
    return ServeOutcome({"ok": ok, **status}, 0 if ok else EXIT_FAILED)


def _terms(config: RoundConfig) -> dict[str, Any]:
    return {
        "threat_model": config.threat_model.value,
        "clients": config.clients,
        "colluders": config.colluders,
        "dropouts": config.dropouts,
        "threshold": config.threshold,
        "min_survivors": config.min_survivors,
    }


def _tolerates(config: RoundConfig) -> str:
    """What the round can stand, for whoever starts the server."""
    lost, colluders = config.dropouts, config.colluders
    members = "member" if lost == 1 else "members"
    advice = "; when one is late there is no sum: invite more clients, or give other rates" if lost == 0 else ""
    return (
        f"{config.clients} clients, {config.threat_model.value}; {lost} {members} may be lost{advice}; a sum needs "
        f"{config.min_survivors}; {colluders} may collude with the server"
    )


def _who_was_lost(found: dict[str, Any]) -> str:
    """By phase, the names of those that the round lost, with what is known of why."""
    lost = [f"{listed(names)} in {phase}" for phase, names in found["lost"].items()]
    left = [f"{one['client']} ({one['code']})" for one in found["refusals"]]
    parts = [f"lost {', '.join(lost)}" if lost else "", f"refused or left: {listed(left)}" if left else ""]
    return "".join(f"; {part}" for part in parts if part)


async def _write_sum(hosted: HostedRound, output: Path | None) -> str:
    """Write the sum when it is there; returns why it is of no use, if it is of none."""
    while hosted.ending is None:
        await hosted.changed()
    if hosted.ending.failure:
        return ""
    path = None if output is None else Path(str(output).replace("{round}", hosted.name))
    return await asyncio.to_thread(_decode_and_write, hosted.spec, hosted.ending, path)


def _decode_and_write(spec: RoundSpec, ending: Ending, path: Path | None) -> str:
    config = spec.config
    vector = unpack(ending.packed, config.modulus, config.length)
    least = config.min_survivors
    try:
        mean = spec.layout.encoder().decode_sum(vector, len(ending.included), min_contributors=least)
    except InputError as wrong:  # a member that cheated, or weights of 0
        return str(wrong)
    if path is not None:
        model_files.write_arrays(path, totals(mean))
    return ""


def _tls(where: Where) -> tuple[ssl.SSLContext | None, bytes]:
    given = [where.certificate is not None, where.demo_certificate is not None, where.plaintext]
    if sum(given) != 1:
        raise ParameterError("give --cert and --key; or --demo-cert DIR; or --insecure-plaintext on a loopback address")
    if where.plaintext:
        if not is_loopback(where.host):
            raise ParameterError(f"--insecure-plaintext on {where.host}: without TLS, listen on localhost only")
        return None, b""
    if where.demo_certificate is not None:
        names = [] if where.host in ("", "0.0.0.0", "::") else [where.host]  # noqa: S104  (all interfaces)
        return server_context(*make_demo_certificate(where.demo_certificate, names))
    if where.certificate is None or where.key is None:
        raise ParameterError("--cert needs its --key")
    return server_context(where.certificate, where.key)


def _allow_many_sockets() -> None:
    """Each client is an open file, and the usual limit is for interactive use."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _level() -> int:
    """On a terminal the table says what happens."""
    return logging.WARNING if Console(stderr=True).is_terminal else logging.INFO


@contextlib.asynccontextmanager
async def _shown(service: Service, url: str) -> AsyncIterator[None]:
    """A live table on standard error; nothing without a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return

    async def refresh(live: Live) -> None:
        while True:
            live.update(_table(service, url), refresh=True)
            await asyncio.sleep(0.5)

    with Live(_table(service, url), console=console, auto_refresh=False) as live:
        refreshing = asyncio.create_task(refresh(live))
        try:
            yield
        finally:
            refreshing.cancel()
            live.update(_table(service, url), refresh=True)


def _table(service: Service, url: str) -> Table:
    status = service.status()
    made = Table(title=f"{url}   {status['logged_in']} connected", title_justify="left", title_style="bold")
    for column in ("round", "phase", "arrived", "waits for", "seconds left", "seats", "lost, refused", "sum of"):
        made.add_column(column, overflow="fold")
    for found in status["rounds"]:
        seats = f"{found['seated']} of {found['clients']}" if found["open"] else str(found["clients"])
        outcome = found["failure"] or (str(found["included"]) if found["included"] else "")
        cells = (
            f"{found['name']} ({found['threat_model']})",
            found["phase"],
            f"{found['arrived']} of {found['expected']}" if found["expected"] else "",
            listed(found["awaited"]),
            f"{found['seconds_left']:.0f}",
            seats,
            _who_was_lost(found).removeprefix("; "),
            outcome,
        )
        made.add_row(*(Text(cell) for cell in cells))  # a member's name is text, whatever is in it
    return made
