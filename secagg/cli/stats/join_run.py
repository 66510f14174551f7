"""What ``secagg stats join`` does: the data checked, the study in words, a question, and round after round."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from secagg.adapters.net.addresses import check_url
from secagg.adapters.net.logs import configure
from secagg.adapters.net.membership import MemberOptions
from secagg.adapters.net.store import STATE_SUFFIX
from secagg.adapters.net.study_member import StudyMember
from secagg.cli.join_options import JoinOptions
from secagg.cli.join_run import JoinOutcome, default_state, member_options, progress_on, stoppable, to_the_end
from secagg.cli.options import LogFormatName
from secagg.cli.output import EXIT_FAILED, EXIT_REFUSED, EXIT_STOPPED, PhaseProgress
from secagg.cli.private_options import spent_line
from secagg.cli.stats.budget_options import opened_budget
from secagg.cli.stats.check import dataset_of, show_methods
from secagg.cli.stats.check_options import CheckOptions
from secagg.cli.stats.join_options import JoinStudyOptions
from secagg.cli.stats.show import check_report, report
from secagg.credentials import load_directory
from secagg.encoding import LayoutPolicy
from secagg.errors import DisclosureError, InputError, ParameterError
from secagg.privacy.budget_errors import BudgetExceededError, BudgetFileError
from secagg.statistics import Dataset, Ledger, Site, SitePolicy, Study, StudyResult, load_policy

if TYPE_CHECKING:
    from secagg.privacy.budget import Budget


def run(options: JoinStudyOptions) -> int:
    """Take part to the end; returns the exit code.  Raises ParameterError and OSError."""
    check_url(options.url, plaintext=options.insecure_plaintext)
    given = _as_joined(options)
    given.check_values()
    kept = (options.data, options.study, options.policy, options.ledger, options.identity, options.directory)
    check_report(options.output, (*kept, options.ca, options.budget))
    study = Study.load(options.study)
    folder = default_state(options.url, options.identity or options.data).with_suffix(".study")
    member = member_options(given, options.url, LayoutPolicy(), folder)
    dataset = dataset_of(_as_checked(options), study)
    if dataset is None:
        raise RuntimeError("a site without data")
    try:
        with opened_budget(options) as budget:
            # A member that goes on has paid for rounds already; each further one is asked for as it comes.
            goes_on = any(folder.glob(f"*{STATE_SUFFIX}"))
            site = _approved_site(options, study, dataset, None if goes_on else budget)
            if not isinstance(site, Site):
                return site
            return _take_part(options, site, replace(member, privacy_budget=budget), folder)
    except BudgetFileError as failure:
        typer.echo(f"secagg stats join: {failure}; mend that, and run the same command to go on", err=True)
        return EXIT_STOPPED


def _approved_site(options: JoinStudyOptions, study: Study, dataset: Dataset, budget: Budget | None) -> Site | int:
    """The site whose data fit, and which a person lets take part; or the exit code.  Nothing is sent."""
    policy = None if options.policy is None else load_policy(options.policy)
    try:
        site = Site(study, dataset, policy=policy, budget=budget)
        checked = site.check()
    except DisclosureError as refused:
        typer.echo(f"secagg stats join: your rules refuse the study, and nothing was sent: {refused}", err=True)
        return EXIT_REFUSED
    except BudgetExceededError as refused:
        typer.echo(f"secagg stats join: nothing was sent: {refused}", err=True)
        return EXIT_REFUSED
    except InputError as misfit:
        typer.echo(f"secagg stats join: the data do not fit the study, and nothing was sent: {misfit}", err=True)
        return EXIT_FAILED
    show_methods(study, checked, Console(stderr=True))
    if policy is not None:
        typer.echo(f"The policy {options.policy} allows the study.", err=True)
    if not _approved(options, study, policy):
        typer.echo("secagg stats join: nothing was sent", err=True)
        return EXIT_STOPPED
    return site


def _take_part(options: JoinStudyOptions, site: Site, member: MemberOptions, folder: Path) -> int:
    names = () if options.directory is None else load_directory(options.directory)[1]
    as_json, on_terminal = options.log_format is LogFormatName.JSON, Console(stderr=True).is_terminal
    configure(sys.stderr, as_json=as_json, level=logging.WARNING if on_terminal else logging.INFO)

    def work() -> StudyResult:
        data = options.data.resolve()
        opened = Ledger(options.ledger or data.with_name(f"{data.name}.ledger"), data.name)
        with closing(opened) as ledger, PhaseProgress("connecting") as bar:
            sites = StudyMember(site, member, folder, names=names, ledger=ledger, on_progress=progress_on(bar))
            return asyncio.run(stoppable(sites.run()))

    ended = to_the_end(work, folder, "stats join")
    if isinstance(ended, JoinOutcome):
        return ended.exit_code
    report(ended, options.output, as_json=options.as_json)
    if member.privacy_budget is not None:
        typer.echo(spent_line(member.privacy_budget), err=True)
    return 0


def _approved(options: JoinStudyOptions, study: Study, policy: SitePolicy | None) -> bool:
    """A person says so, or has said so.  Raises ParameterError where nobody can be asked."""
    if options.yes or (policy is not None and study.digest.hex() in policy.approved):
        return True
    if not sys.stdin.isatty():
        raise ParameterError(
            "there is no terminal to ask at: read the study, and give --yes to take part, or a --policy that lists "
            "the digest of the study in approved"
        )
    return typer.confirm("Take part in this study?", err=True)


def _as_joined(options: JoinStudyOptions) -> JoinOptions:
    """What ``secagg join`` would be told of the server and of trust."""
    return JoinOptions(
        url=options.url,
        inputs=options.data,
        identity=options.identity,
        directory=options.directory,
        threat=options.threat,
        gamma=options.gamma,
        ca=options.ca,
        insecure_plaintext=options.insecure_plaintext,
        give_up_after=options.give_up_after,
    )


def _as_checked(options: JoinStudyOptions) -> CheckOptions:
    """What ``secagg stats check`` would be told of the data."""
    return CheckOptions(
        study=options.study,
        data=options.data,
        separator=options.separator,
        encoding=options.encoding,
        decimal=options.decimal,
        thousands=options.thousands,
        missing=options.missing,
    )
