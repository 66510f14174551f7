"""What ``secagg serve`` does: the service on its port, progress, the sum in a file."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from secagg.adapters.net import model_files
from secagg.adapters.net.addresses import is_loopback
from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.certificates import CERTIFICATE_FILE, KEY_FILE, make_demo_certificate, server_context
from secagg.adapters.net.journal import Journal, JournalError
from secagg.adapters.net.logs import configure
from secagg.adapters.net.monitor import monitor
from secagg.adapters.net.round_spec import RoundSpec
from secagg.adapters.net.score_keeping import ScoreFileError
from secagg.adapters.net.service import Limits, Service
from secagg.adapters.net.standing import listed
from secagg.adapters.net.tls_workers import WorkerFiles
from secagg.certificate_files import CertificateFiles
from secagg.cli.array_files import check_output
from secagg.cli.complaints import of_complaints
from secagg.cli.options import LogFormatName
from secagg.cli.output import EXIT_FAILED, EXIT_STOPPED
from secagg.cli.private_options import spent_line
from secagg.cli.serve_keepers import Keepers, open_keepers
from secagg.cli.serve_options import ServeOptions
from secagg.cli.serve_rounds import ServedLayout, layout_of, round_specs
from secagg.cli.served_sums import ServedSum, file_of, write_sum
from secagg.differencing import DifferenceLedgerError
from secagg.errors import ParameterError
from secagg.pairwise.certificate import NO_CERTIFICATE, Certificate
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.messages import MAX_CERTIFICATES_BYTES
from secagg.privacy.budget_errors import BudgetFileError
from secagg.privacy.layout_file import write_any_layout
from secagg.wording import counted

_log = logging.getLogger("secagg.net.serve")
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")
_EVERY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  (what a user writes)


@dataclass(frozen=True, slots=True)
class ServeOutcome:
    """What is printed, and the exit code."""

    summary: dict[str, Any]
    exit_code: int


def run(options: ServeOptions) -> ServeOutcome:
    """Host the rounds to their end; or write the layout alone.  Raises ParameterError, InputError and OSError."""
    options.check_ranges()
    served = layout_of(options)
    if options.write_layout is not None:
        return _write_layout(options.write_layout, served)
    specs = round_specs(options, served)
    if options.output is not None:
        _check_output(options.output, options, specs)
    tls, certificate = tls_of(options)
    allow_many_sockets()
    as_json = options.log_format is LogFormatName.JSON
    configure(sys.stderr, as_json=as_json, level=log_level())
    opened = Journal(options.journal)
    try:
        _say(served.chosen)
        with open_keepers(options) as keepers, contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
            if options.chained and keepers.certifier is not None:
                done: list[ServeOutcome] = []
                for spec in specs:
                    following = [chained_spec(spec, keepers.certifier.files)]
                    done.append(asyncio.run(_host(following, options, opened, tls, certificate, keepers)))
                return _together(done)
            return asyncio.run(_host(specs, options, opened, tls, certificate, keepers))
    except (JournalError, BudgetFileError, DifferenceLedgerError, ScoreFileError) as failure:
        typer.echo(f"secagg serve: {failure}; mend that, and run the same command to go on", err=True)
        return ServeOutcome({"ok": False, "stopped": True}, EXIT_STOPPED)
    finally:
        opened.close()
    typer.echo(f"secagg serve: stopped; {options.journal} keeps the rounds: run the same command to go on", err=True)
    return ServeOutcome({"ok": False, "stopped": True}, EXIT_STOPPED)


def chained_spec(spec: RoundSpec, files: CertificateFiles) -> RoundSpec:
    """The round behind the last certificate; one that has a certificate already stays where it is in the chain.

    Raises ParameterError for a round that cannot be chained.
    """
    if not spec.config.threat_model.confirms:
        raise ParameterError(f"--chained: a round in {spec.config.threat_model} cannot be chained; give a --directory")
    if own := files.of_round(spec.name):
        return replace(spec, config=spec.config.replace(version=2, chain=Certificate.from_bytes(own).previous))
    config = spec.config.replace(version=2, chain=files.head or NO_CERTIFICATE)
    return replace(spec, config=config, certificates=files.recent(MAX_CERTIFICATES_BYTES - 5))


def _together(outcomes: Sequence[ServeOutcome]) -> ServeOutcome:
    """One summary of services that ran one after the other: the last one's, with everybody's rounds."""
    rounds = [found for outcome in outcomes for found in outcome.summary["rounds"]]
    summary = {**outcomes[-1].summary, "ok": all(outcome.summary["ok"] for outcome in outcomes), "rounds": rounds}
    return ServeOutcome(summary, max(outcome.exit_code for outcome in outcomes))


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        typer.echo(line, err=True)


def _write_layout(file: Path, served: ServedLayout) -> ServeOutcome:
    if not file.parent.is_dir() or file.is_dir():
        raise ParameterError(f"--write-layout {file}: name a file in a directory that is there")
    layout = served.layout
    if isinstance(layout, BallotLayout):
        raise TypeError("a ballot has no layout of a file")
    write_any_layout(file, layout)
    _say(served.chosen)
    typer.echo(
        f"{file}: the layout of {counted(len(layout.arrays), 'array')} with "
        f"{counted(layout.template.size, 'value')}; members give it to secagg join --layout",
        err=True,
    )
    return ServeOutcome({"ok": True, "layout": str(file), "digest": layout.digest().hex()}, 0)


def _check_output(output: Path, options: ServeOptions, specs: Sequence[RoundSpec]) -> None:
    """Before anybody waits for a sum: it can be written where the option says."""
    if len(specs) > 1 and "{round}" not in str(output):
        raise ParameterError(f"--output {output}: several rounds need several files; put {{round}} into the name")
    for spec in specs:
        file = file_of(output, spec.name)
        check_output(file, [] if options.dim_from is None else [options.dim_from])
        if options.journal.exists() and file.exists() and file.samefile(options.journal):
            raise ParameterError(f"--output {file}: this is the journal; name another file")
        model_files.check_writable(file, {name: np.dtype(np.float64) for name, _ in spec.file_layout.arrays})


async def _host(
    specs: Sequence[RoundSpec],
    options: ServeOptions,
    journal: Journal,
    tls: ssl.SSLContext | None,
    certificate: bytes,
    keepers: Keepers,
) -> ServeOutcome:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is not None:
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
    limits = Limits(connections=options.max_connections)
    service = Service(
        specs,
        journal,
        certificate=certificate,
        limits=limits,
        privacy_budget=keepers.budget,
        certifier=keepers.certifier,
        sums_apart=keepers.apart,
        scores=keepers.scores,
    )
    async with contextlib.AsyncExitStack() as stack:
        open_monitor(service, options, stack)
        url = await open_port(service, options, stack, tls, workers_of(options, certificate))
        if keepers.budget is not None:
            _say([spent_line(keepers.budget)])
        _announce(service, options, url, certificate)
        await stack.enter_async_context(shown(service, url))
        written = [asyncio.create_task(write_sum(hosted, options.output)) for hosted in service.rounds.values()]
        await service.finished(options.linger)
        sums = await asyncio.gather(*written)
    return _outcome(service, sums, options)


def open_monitor(service: Service, options: ServeOptions, stack: contextlib.AsyncExitStack) -> None:
    """Open the pages, if there are any.  Raises ParameterError."""
    if options.monitor_port is None:
        return
    try:
        bound = stack.enter_context(monitor(service.status, options.monitor_host, options.monitor_port))
    except OSError as failure:
        raise _cannot_listen("--monitor", options.monitor_host, options.monitor_port, failure) from None
    _log.info("monitoring", extra={"fields": {"url": f"http://{options.monitor_host}:{bound}/status"}})


def workers_of(options: ServeOptions, certificate: bytes) -> WorkerFiles | None:
    """What the processes of ``--workers`` end TLS with.  Raises ParameterError."""
    if not options.workers:
        return None
    if options.demo_cert is not None:
        files = options.demo_cert / CERTIFICATE_FILE, options.demo_cert / KEY_FILE
    elif options.cert is not None and options.key is not None:
        files = options.cert, options.key
    else:
        raise ParameterError(f"--workers {options.workers}: workers end TLS; give --cert and --key, or --demo-cert DIR")
    return WorkerFiles(processes=options.workers, certificate=files[0], key=files[1], fingerprint=certificate)


async def open_port(
    service: Service,
    options: ServeOptions,
    stack: contextlib.AsyncExitStack,
    tls: ssl.SSLContext | None,
    workers: WorkerFiles | None = None,
) -> str:
    """Open the port; returns the URL that clients use, without a round's name."""
    try:
        listening = service.listen(options.host, options.port, tls, workers=workers)
        listener = await stack.enter_async_context(listening)
    except OSError as failure:
        raise _cannot_listen("-", options.host, options.port, failure) from None
    bound = next(iter(listener.sockets)).getsockname()[1]
    host = socket.gethostname() if options.public_host in _EVERY_ADDRESS else options.public_host
    return f"{'ws' if tls is None else 'wss'}://{f'[{host}]' if ':' in host else host}:{bound}"


def _cannot_listen(option: str, host: str, port: int, failure: OSError) -> ParameterError:
    why = failure.strerror or str(failure)
    return ParameterError(f"{option}-host {host}, {option}-port {port}: this machine cannot listen there ({why})")


def trust_in(demo_cert: Path | None) -> str:
    """What clients add to their command to trust a certificate that was made for them; nothing without one."""
    return "" if demo_cert is None else f" --ca {CERTIFICATE_FILE}, with a copy of {demo_cert / CERTIFICATE_FILE}"


def _announce(service: Service, options: ServeOptions, url: str, certificate: bytes) -> None:
    """What the rounds tolerate, and whom clients must reach; ``listening`` last, for programs that wait for it."""
    judge = "" if options.ballot is None else " --judge COMMAND"
    for name, hosted in service.rounds.items():
        typer.echo(f"round {name}: {_tolerates(hosted.config)}", err=True)
        typer.echo(f"round {name}: clients run secagg join {url}/{name}{judge}{trust_in(options.demo_cert)}", err=True)
        if hosted.ending is not None:
            typer.echo(
                f"round {name} is over, and is handed out again for {options.linger:g} s; for a new one give another "
                "--round or another --journal",
                err=True,
            )
    for name, hosted in service.rounds.items():
        fields = {"round": name, "port": int(url.rpartition(":")[2]), "url": f"{url}/{name}"}
        fields |= {"certificate": certificate.hex(), **_terms(hosted.config)}
        _log.info("listening", extra={"fields": fields})


def _outcome(service: Service, sums: Sequence[ServedSum], options: ServeOptions) -> ServeOutcome:
    """Say how the rounds ended."""
    status = service.status()
    for found, ended in zip(status["rounds"], sums, strict=True):
        found["failure"] = found["failure"] or ended.unusable
        told = ended.headline or f"the sum of {counted(found['included'], 'client')}"
        if found["failure"]:
            told = f"no sum: {found['failure']}"
        found |= ended.summary
        typer.echo(f"round {found['name']}: {told}{ended.told}{_who_was_lost(found)}", err=True)
        _say([*ended.lines, *(f"Warning: {warning}." for warning in ended.warnings)])
        if not options.as_json:
            ended.show(f"The sum of round {found['name']}")
    ok = all(not found["failure"] for found in status["rounds"]) and all(ended.is_good for ended in sums)
    return ServeOutcome({"ok": ok, **status}, 0 if ok else EXIT_FAILED)


def _terms(config: RoundConfig) -> dict[str, Any]:
    return {
        "threat_model": config.threat_model.value,
        "clients": config.clients,
        "colluders": config.colluders,
        "dropouts": config.dropouts,
        "threshold": config.threshold,
        "min_survivors": config.min_survivors,
        "groups": config.groups,
        "min_group": config.min_group,
        "complaints": config.complaints,
    }


def _tolerates(config: RoundConfig) -> str:
    """What the round can stand, for whoever starts the server."""
    lost, colluders = config.dropouts, config.colluders
    losses = f"up to {lost} of the clients may be lost" if lost > 1 else "1 client may be lost"
    if lost == 0:
        losses = "no client may be lost: if one is late there is no sum; invite more clients, or give other rates"
    needs = f"A sum needs {config.min_survivors} of them"
    if config.groups > 1:
        needs = f"Each of {config.groups} groups has a sum, which needs {config.min_group} of them"
    return (
        f"{counted(config.clients, 'client')}, threat model {config.threat_model.value}. {needs}, and {losses}. Up to "
        f"{colluders} may collude with the server.{of_complaints(config)}"
    )


def _who_was_lost(found: dict[str, Any]) -> str:
    """By phase, the names of those that the round lost, with what is known of why."""
    lost = [f"{listed(names)} in {phase}" for phase, names in found["lost"].items()]
    refused = [f"{one['client']} ({one['code']})" for one in found["refusals"]]
    parts = [f"lost {', '.join(lost)}" if lost else "", f"refused or left: {listed(refused)}" if refused else ""]
    return "".join(f"; {part}" for part in parts if part)


def tls_of(options: ServeOptions) -> tuple[ssl.SSLContext | None, bytes]:
    """What the service speaks, and SHA-256 of its certificate.  Raises ParameterError and OSError."""
    given = [options.cert is not None, options.demo_cert is not None, options.insecure_plaintext]
    if sum(given) != 1:
        raise ParameterError("give --cert and --key; or --demo-cert DIR; or --insecure-plaintext on a loopback address")
    if options.demo_name and options.demo_cert is None:
        raise ParameterError(f"--demo-name {options.demo_name[0]}: this is for --demo-cert; give --demo-cert DIR too")
    if options.insecure_plaintext:
        if not is_loopback(options.host):
            raise ParameterError(f"--insecure-plaintext on {options.host}: without TLS, listen on localhost only")
        return None, b""
    if options.demo_cert is not None:
        hosts = [] if options.host in _EVERY_ADDRESS else [("--host", options.host)]
        named = [*hosts, *(("--demo-name", name) for name in options.demo_name or ())]
        for option, name in named:
            if not (_HOST_NAME.fullmatch(name) or _is_address(name)):
                raise ParameterError(f"{option} {name!r}: give a host name or an address, without wss:// and a port")
        return server_context(*make_demo_certificate(options.demo_cert, [name for _, name in named]))
    if options.cert is None or options.key is None:
        raise ParameterError("--key is missing: give the private key of --cert")
    return server_context(options.cert, options.key)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def allow_many_sockets() -> None:
    """Each client is an open file, and the usual limit is for interactive use."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def log_level() -> int:
    """On a terminal the table says what happens."""
    return logging.WARNING if Console(stderr=True).is_terminal else logging.INFO


@contextlib.asynccontextmanager
async def shown(service: Service, url: str) -> AsyncIterator[None]:
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
        ended = (found["ballot"] or {}).get("verdict") or str(found["included"])
        outcome = found["failure"] or (ended if found["included"] else "")
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
