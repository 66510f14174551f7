"""What ``secagg stats serve`` does: a study's rounds on one port, and its report."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import sys
from typing import TYPE_CHECKING, Any, Final

import typer

from secagg.adapters.net.journal import Journal, JournalError
from secagg.adapters.net.logs import configure
from secagg.adapters.net.service import Service
from secagg.adapters.net.study_session import StudyRounds, StudySession
from secagg.cli.join_run import stoppable
from secagg.cli.options import LogFormatName
from secagg.cli.output import EXIT_FAILED, EXIT_STOPPED
from secagg.cli.private_options import spent_line
from secagg.cli.serve_options import ServeOptions
from secagg.cli.serve_rounds import invited_by, parse_deadlines
from secagg.cli.serve_run import allow_many_sockets, log_level, open_port, shown, tls_of, trust_in
from secagg.cli.stats.budget_options import opened_budget
from secagg.cli.stats.serve_options import ServeStudyOptions
from secagg.cli.stats.show import check_report, report
from secagg.privacy.budget_errors import BudgetFileError
from secagg.statistics import Study, StudyResult
from secagg.statistics.noise import check_room

if TYPE_CHECKING:
    from secagg.privacy.budget import Budget

_log: Final = logging.getLogger("secagg.net.serve")


def run(options: ServeStudyOptions) -> int:
    """Host the study to its end; returns the exit code.  Raises ParameterError, InputError and OSError."""
    served = _as_served(options)
    served.check_ranges()
    kept = (options.directory, options.journal, options.cert, options.key, options.study, options.budget)
    check_report(options.output, kept)
    study, rounds = Study.load(options.study), _rounds(options, served)
    tls, certificate = tls_of(served)
    allow_many_sockets()
    configure(sys.stderr, as_json=options.log_format is LogFormatName.JSON, level=log_level())
    try:
        with (
            contextlib.closing(Journal(options.journal)) as journal,
            contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt),
        ):
            session = StudySession(study, rounds, journal=journal)
            with opened_budget(options) as budget:
                if budget is not None and study.noise is not None and journal.load(session.first.name) is None:
                    check_room(budget, study.noise, study.noisy_rounds)
                result = asyncio.run(stoppable(_host(session, options, served, journal, tls, certificate, budget)))
                if budget is not None:
                    typer.echo(spent_line(budget), err=True)
            report(result, options.output, as_json=options.as_json)
            if not session.is_whole:
                typer.echo("secagg stats serve: the study ended early; unfinished methods say why", err=True)
            return 0 if session.is_whole else EXIT_FAILED
    except (JournalError, BudgetFileError) as failure:
        typer.echo(f"secagg stats serve: {failure}; mend that, and run the same command to go on", err=True)
        return EXIT_STOPPED
    typer.echo(
        f"secagg stats serve: stopped; {options.journal} keeps the study: run the same command to go on", err=True
    )
    return EXIT_STOPPED


def _as_served(options: ServeStudyOptions) -> ServeOptions:
    """What ``secagg serve`` would be told of port, certificate and cohort."""
    return ServeOptions(
        dim_from=options.study,
        clients=options.clients,
        directory=options.directory,
        open_seats=options.open_seats,
        threat=options.threat,
        gamma=options.gamma,
        host=options.host,
        port=options.port,
        cert=options.cert,
        key=options.key,
        demo_cert=options.demo_cert,
        insecure_plaintext=options.insecure_plaintext,
        linger=options.linger,
    )


def _rounds(options: ServeStudyOptions, served: ServeOptions) -> StudyRounds:
    invited = invited_by(served)
    config: dict[str, Any] = {"threat_model": invited.threat, "gamma": options.gamma}
    if invited.threat.signs:
        config["cohort"] = invited.digest
    return StudyRounds(
        name=options.name,
        clients=invited.clients,
        deadlines=parse_deadlines(options.deadline or []),
        keys=invited.keys,
        names=invited.names,
        directory=invited.directory,
        config=config,
    )


async def _host(
    session: StudySession,
    options: ServeStudyOptions,
    served: ServeOptions,
    journal: Journal,
    tls: ssl.SSLContext | None,
    certificate: bytes,
    budget: Budget | None,
) -> StudyResult:
    service = Service([session.first], journal, certificate=certificate, privacy_budget=budget)
    async with contextlib.AsyncExitStack() as stack:
        url = await open_port(service, served, stack, tls)
        typer.echo(f"organisations run secagg stats join {url}/{options.name}{trust_in(options.demo_cert)}", err=True)
        _log.info("listening", extra={"fields": {"study": options.name, "url": f"{url}/{options.name}"}})
        await stack.enter_async_context(shown(service, url))
        result = await session.run(service)
        await service.finished(options.linger)
    return result
