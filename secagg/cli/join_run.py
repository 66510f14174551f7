"""What ``secagg join`` does: a member with its file, progress, the total in a file, an exit code for every end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sqlite3
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console

from secagg.adapters.net import model_files
from secagg.adapters.net.addresses import canonical, check_url, round_of
from secagg.adapters.net.certificates import client_context
from secagg.adapters.net.frames import Progress, Refusal, RefusedError
from secagg.adapters.net.logs import configure
from secagg.adapters.net.member import Member
from secagg.adapters.net.membership import (
    AnotherInputError,
    GaveUpError,
    MaybeSummedError,
    MemberOptions,
    NotTrustedError,
    Total,
)
from secagg.adapters.net.own_input import OwnInput
from secagg.adapters.net.receipts import ContradictionError
from secagg.adapters.net.store import STATE_SUFFIX, ClientStore
from secagg.cli.array_files import check_output, write_arrays
from secagg.cli.difference_options import asks, open_ledger
from secagg.cli.identity import read_member
from secagg.cli.join_options import JoinOptions
from secagg.cli.option_words import option_words
from secagg.cli.options import LogFormatName
from secagg.cli.output import EXIT_ANOTHER_INPUT, EXIT_FAILED, EXIT_REFUSED, EXIT_STOPPED, PhaseProgress, results
from secagg.cli.own_checks import (
    OwnLoss,
    check_bounds,
    check_json,
    check_nothing_clipped,
    decimals_lost,
    lost_by,
    show_check,
)
from secagg.cli.private_options import open_budget
from secagg.cli.private_sums import (
    noisy_arrays,
    noisy_json,
    noisy_warnings,
    promise_lines,
    report_for,
    show_noisy,
)
from secagg.cli.receipt_files import check_receipts, keep_proof, show_certified, write_certified
from secagg.cli.sum_report import array_sums, show_sums, sum_json, sum_warnings
from secagg.credentials import ChainFileError, DurableChains, load_directory, load_identity
from secagg.differencing import DifferenceLedger, DifferenceLedgerError, least_difference
from secagg.encoding import LayoutPolicy
from secagg.errors import DisclosureError, ErrorCode, InputError, ParameterError, PeerError
from secagg.pairwise.client.chaining import Chain
from secagg.pairwise.config import Policy, Suite
from secagg.pairwise.phases import ServerState, default_threat_model
from secagg.pairwise.rates import count_of
from secagg.privacy.budget_errors import BudgetExceededError, BudgetFileError
from secagg.privacy.layout import PrivateLayout, PrivateSum, with_its_layout
from secagg.privacy.layout_file import read_any_layout
from secagg.privacy.terms import PrivacyTerms
from secagg.statistics.ledger import LedgerFileError
from secagg.wording import counted

_T = TypeVar("_T")
_OPTIONS: Final = {
    "config has threat_model": "--threat-model",
    "config has colluders": "--gamma",
    "config has min_survivors": "--min-survivors",
    "config has min_group": "--min-survivors",
    "config has groups": "--max-groups",
    "config has carrier": "--carrier",
    "config has suite": "--suite",
    "has clip": "--min-clip or --max-clip",
    "has bits": "--min-bits or --max-bits",
    "has max_weight": "--min-max-weight or --max-max-weight",
    ", with a clip of": "--min-clip or --max-clip",
    ", with bits": "--min-bits",
    "is not the one that was agreed": "--layout",
    "has levels": "--max-levels",
    "an epsilon of": "--epsilon",
    "a noise multiplier of": "--min-noise",
    "has no noise": "--epsilon, --private, --min-noise or --budget",
}
"""By what a refusal says: the option of the bound."""
_OPTIONS_OF_STUDIES: Final = {
    "config has threat_model": "--threat-model",
    "config has colluders": "--gamma",
}
"""Of ``secagg stats join``: the fewest organisations are the study's, and what is summed follows from it."""
_NO_FILE: Final = "ballot"
"""What the state of a voter without an identity is called after, in the folder where the command runs."""
_LISTED: Final = 12
"""Warnings of one kind: what fits on a screen."""
_LONGEST_REASON: Final = 1000
"""Characters of the server's own words that are shown."""
_PHASES: Final = frozenset(ServerState)
_ROUND_ENDED: Final = frozenset({Refusal.ROUND_ABORTED, Refusal.ROUND_BEGUN, Refusal.LEFT_OUT, Refusal.SERIES_OVER})


@dataclass(frozen=True, slots=True)
class JoinOutcome:
    """What is printed, and the exit code."""

    summary: dict[str, Any] = field(repr=False)  # it tells of this client's own data
    exit_code: int


def run(options: JoinOptions) -> JoinOutcome:
    """Take part to the end; or say what that would send.  Raises ParameterError, InputError and OSError."""
    options.check_values()
    policy = options.layout_policy()
    if options.check:
        return _check(options, policy)
    if options.url is None:
        raise ParameterError("URL is missing: give wss://HOST:PORT/ROUND")
    if options.output is None:
        raise ParameterError("--output is missing: give the file for the total")
    check_url(options.url, plaintext=options.insecure_plaintext)
    check_receipts(options.receipts)
    state = state_of(options)
    _check_output(options.output, options, state)
    member = member_options(options, options.url, policy, state)
    own = _own_input(options)  # before there is a state
    _check_writable(options.output, own, as_mean=options.mean)
    loss = _before_connecting(options, policy, own)
    if loss is not None and member.agreed_layout is not None:
        _warn(loss.warnings(member.agreed_layout))
    on_terminal = Console(stderr=True).is_terminal
    as_json = options.log_format is LogFormatName.JSON
    configure(sys.stderr, as_json=as_json, level=logging.WARNING if on_terminal else logging.INFO)
    output = options.output

    def write(total: Total) -> None:
        if options.receipts is not None and total.certified is not None:
            write_certified(options.receipts, total.certified)
        write_arrays(output, _written(total, as_mean=options.mean))

    try:
        with (
            open_budget(options.budget, options.epsilon, options.delta) as budget,
            open_ledger(options.ledger) as ledger,
            open_chain(options) as chain,
        ):
            chained = replace(member.policy, require_chain=chain is not None)
            asked = asking(replace(member, privacy_budget=budget, chain=chain, policy=chained), options, ledger)
            ended = _take_part(asked, state, own, write)
    except ContradictionError as lie:
        return ended_with(f"{lie}{keep_proof(options.receipts, lie)}", EXIT_REFUSED)
    except (BudgetFileError, ChainFileError, DifferenceLedgerError) as failure:
        return ended_with(f"{failure}; mend that, and run the same command to go on", EXIT_STOPPED)
    return _told(ended, own, options, warned=loss is not None) if isinstance(ended, Total) else ended


def _own_input(options: JoinOptions) -> OwnInput:
    """The file, checked as far as no server has a say.  Raises InputError, which names it."""
    try:
        own = OwnInput(model_files.read_arrays(options.own_file), options.weight)
    except InputError as refused:
        raise InputError(_named(str(refused), options.own_file)) from None
    check_bounds(own, options.refuse_above or ())
    return own


def _named(message: str, file: Path) -> str:
    return message if str(file) in message else f"{file}: {message}"


def _before_connecting(options: JoinOptions, policy: LayoutPolicy, own: OwnInput) -> OwnLoss | None:
    """What the agreed layout makes of the file; None without one.  Raises ParameterError and InputError."""
    if options.layout is None:
        return None
    layout = read_any_layout(options.layout)
    try:
        layout.check_policy(policy if options.budget is None else replace(policy, private=True))
    except PeerError as refused:
        said = str(refused).replace("the server's layout", f"--layout {options.layout}")
        raise ParameterError(f"{said}; {_option_for(refused, 'join')}") from None
    try:
        loss = lost_by(layout, own)
    except InputError as refused:
        raise InputError(f"{options.own_file}: {refused} (--layout {options.layout})") from None
    if options.refuse_clipped:
        check_nothing_clipped(loss)
    return loss


def _check(options: JoinOptions, policy: LayoutPolicy) -> JoinOutcome:
    """``--check``: nothing is connected, and no state is made."""
    own = _own_input(options)
    loss = _before_connecting(options, policy, own)
    layout = None if options.layout is None else read_any_layout(options.layout)
    if options.output is not None:
        _check_output(options.output, options, options.state)
        _check_writable(options.output, own, as_mean=options.mean)
    if loss is not None and layout is not None:
        _warn(loss.warnings(layout))
    if not options.as_json:
        show_check(own, layout, loss, results())
    return JoinOutcome(check_json(own, layout, loss), 0)


def _warn(warnings: Iterable[str]) -> None:
    found = list(warnings)
    for warning in found[:_LISTED]:
        typer.echo(f"Warning: {warning}.", err=True)
    if len(found) > _LISTED:
        typer.echo(f"Not shown: {counted(len(found) - _LISTED, 'more warning')} of this kind.", err=True)


def _check_writable(output: Path, own: OwnInput, *, as_mean: bool) -> None:
    float64 = np.dtype(np.float64)
    model_files.check_writable(
        output, {name: array.dtype if as_mean else float64 for name, array in own.arrays.items()}
    )


def member_options(options: JoinOptions, url: str, policy: LayoutPolicy, state: Path) -> MemberOptions:
    """How this client takes part.  Raises ParameterError, and OSError for files that cannot be read."""
    identity, directory = options.identity, options.directory
    threat = options.threat or default_threat_model(identified=directory is not None)
    if threat.signs and (identity is None or directory is None):
        raise ParameterError(f"--threat-model {threat} needs --identity and --directory")
    with option_words():
        least = Policy(
            threat_model=threat,
            min_survivors=options.min_survivors,
            gamma=options.gamma,
            max_groups=options.max_groups,
            carrier=options.carrier.accepted,
            max_complaints=None,  # an honest dealer opens pairs of liars alone, however many the config allows
            suites=frozenset(Suite) if options.suite is None else frozenset({options.suite.suite}),
        )
    return MemberOptions(
        url=url,
        tls=client_context(options.ca) if url.startswith("wss") else None,
        weight=options.weight,
        policy=least,
        layout_policy=policy,
        agreed_layout=None if options.layout is None else read_any_layout(options.layout),
        identity=load_identity(identity) if identity is not None else None,
        directory=load_directory(directory)[0] if threat.signs and directory is not None else None,
        give_up_seconds=options.give_up_after,
        again=options.again,
        other_states=_folders_of(
            [state, *(() if options.inputs is None else (options.inputs,)), *(() if identity is None else (identity,))]
        ),
    )


@contextlib.contextmanager
def open_chain(options: JoinOptions) -> Iterator[Chain | None]:
    """What this client knows of its cohort's chain, for as long as the block lasts; None without one."""
    if options.chain is None or options.server is None:
        yield None
        return
    key = bytes.fromhex(read_member(options.server)["key"])
    with contextlib.closing(DurableChains(options.chain)) as store:
        yield Chain(key, store)


def asking(member: MemberOptions, options: JoinOptions, ledger: DifferenceLedger | None) -> MemberOptions:
    """The same member, whose ledger is asked before its last answer leaves."""
    if ledger is None or options.directory is None:
        return member
    names = load_directory(options.directory)[1]
    least = options.min_difference
    if least is None:
        least = least_difference(count_of(len(names), "gamma", options.gamma))
    return replace(member, may_reveal=asks(ledger, names, least))


def _take_part(
    options: MemberOptions, state: Path, own: OwnInput, write: Callable[[Total], None]
) -> Total | JoinOutcome:
    """The total, or the line and the exit code for every other end."""

    def work() -> Total:
        store = ClientStore(state)
        with contextlib.closing(store), PhaseProgress("connecting") as bar:
            member = Member(options, store, own, on_total=write, on_progress=progress_on(bar), on_terms=_say_promise)
            return asyncio.run(stoppable(member.run()))

    return to_the_end(work, state)


def progress_on(bar: PhaseProgress) -> Callable[[Progress], None]:
    """Shows where the round stands."""

    def show(progress: Progress) -> None:
        phase = progress.phase if progress.phase in _PHASES else "?"  # what the server says is no markup
        bar(phase, progress.arrived, progress.expected or 1)

    return show


def to_the_end(work: Callable[[], _T], state: Path, command: str = "join") -> _T | JoinOutcome:
    """What the work of a member comes to; or the line, and the exit code, for every other end."""
    try:
        return work()
    except RefusedError as refused:
        return ended_with(
            f"{refused} ({refused.code})", EXIT_FAILED if refused.code in _ROUND_ENDED else EXIT_REFUSED, command
        )
    except PeerError as refused:
        hint = f"; {_option_for(refused, command)}" if refused.code is ErrorCode.CONFIG_BELOW_POLICY else ""
        return ended_with(f"refused what the server sent: {refused}{hint} ({refused.code})", EXIT_REFUSED, command)
    except NotTrustedError as refused:
        return ended_with(str(refused), EXIT_REFUSED, command)
    except BudgetExceededError as refused:
        return ended_with(f"{refused}; nothing of this round was sent", EXIT_REFUSED, command)
    except DisclosureError as withheld:
        return ended_with(str(withheld), EXIT_REFUSED, command)
    except (LedgerFileError, DifferenceLedgerError) as failure:
        return ended_with(f"{failure}; mend that, and run the same command to go on", EXIT_STOPPED, command)
    except (AnotherInputError, MaybeSummedError) as refused:
        return ended_with(str(refused), EXIT_ANOTHER_INPUT, command)
    except GaveUpError as gave_up:
        return ended_with(str(gave_up), EXIT_STOPPED, command)
    except sqlite3.Error as failure:
        return ended_with(
            f"{state}: cannot be written ({failure}); make room, and run the same command to go on",
            EXIT_STOPPED,
            command,
        )
    except (asyncio.CancelledError, KeyboardInterrupt):
        return ended_with(f"stopped; {state} keeps the state: run the same command to go on", EXIT_STOPPED, command)


def _say_promise(terms: PrivacyTerms) -> None:
    """Before anything of the round is sent."""
    for line in promise_lines(terms):
        typer.echo(line, err=True)


def _option_for(refused: PeerError, command: str) -> str:
    """Which option of the command sets what this client asks for."""
    known = _OPTIONS if command == "join" else _OPTIONS_OF_STUDIES
    found = [option for met, option in known.items() if met in str(refused)]
    if not found:
        return f"no option of secagg {command} changes that"
    return f"{found[0]} of secagg {command} sets what it accepts"


def default_state(url: str, beside: Path) -> Path:
    """Beside the identity, or else the input: whatever the output is called, a member's rounds are remembered.

    What is behind a symbolic link counts, so that the file is the same one by whichever name it is given.
    """
    beside = beside.resolve() if beside.is_symlink() else beside
    address = urlsplit(canonical(url))
    return beside.with_name(_plain(f"{beside.name}.{address.hostname}-{address.port}.{round_of(url)}{STATE_SUFFIX}"))


def state_of(options: JoinOptions) -> Path:
    """The state file.  Raises ParameterError for a new one that other rounds would not find."""
    state = options.state or default_state(options.url or "", options.identity or options.inputs or Path(_NO_FILE))
    if state.suffix != STATE_SUFFIX and not state.exists():
        raise ParameterError(
            f"--state {state}: a state's name must end with {STATE_SUFFIX}, by which other rounds find what it "
            f"remembers; give {state.name}{STATE_SUFFIX}, say"
        )
    return state


def _folders_of(files: Sequence[Path]) -> tuple[Path, ...]:
    """Where states of this member's other rounds may be, in which the same values may be: whatever they are called."""
    found = {path.absolute().parent for path in files} | {path.resolve().parent for path in files}
    return tuple(sorted(found))


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)


def _check_output(output: Path, options: JoinOptions, state: Path | None) -> None:
    """The total can be written, and replaces nothing that was given.  Raises ParameterError."""
    for option, path in (
        ("--input", options.inputs),
        ("--layout", options.layout),
        ("--identity", options.identity),
        ("--directory", options.directory),
        ("--ca", options.ca),
        ("--state", state),
    ):
        if path is not None and (output == path or (output.exists() and path.exists() and output.samefile(path))):
            raise ParameterError(f"--output {output}: the total would replace the file of {option}; name another one")
    check_output(output, [])


async def stoppable(work: Coroutine[Any, Any, _T]) -> _T:
    """What it comes to, unless SIGTERM cancels it."""
    task = asyncio.current_task()
    if task is not None:
        with contextlib.suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _written(total: Total, *, as_mean: bool) -> dict[str, npt.NDArray[Any]]:
    return total.mean_as_input() if as_mean else total.sums()


def _told(total: Total, own: OwnInput, options: JoinOptions, *, warned: bool) -> JoinOutcome:
    """What the output holds, and what the round made of this client's own file."""
    layout = total.layout
    loss = OwnLoss(
        layout.by_name(total.clipped),
        total.weight_clamped,
        layout.by_name(total.coarse),
        {} if isinstance(layout, PrivateLayout) else decimals_lost(layout, own),
        total.shortened,
    )
    if not warned:
        _warn(loss.warnings(layout))
    figures = _figures_of(total, options)
    receipt = show_certified(options.receipts, total.certified)
    summary = {
        "ok": True,
        "seat": total.seat,
        "included": list(total.included),
        "output": str(options.output),
        "clipped": dict(loss.clipped),
        "weight_clamped": loss.weight_clamped,
        **receipt,
        **figures,
    }
    return JoinOutcome(summary, 0)


def _figures_of(total: Total, options: JoinOptions) -> dict[str, Any]:
    """Say what the output is, and how exact; returns the same for ``--json``."""
    found, what = with_its_layout(total.layout, total.mean), "mean" if options.mean else "sum"
    written = _written(total, as_mean=options.mean)
    said = f"{options.output}: the {what} of {counted(total.mean.count, 'client')}, total weight "
    if isinstance(found, PrivateSum):
        mean, noisy = found.mean, noisy_arrays(written, found.mean, as_mean=options.mean)
        report = report_for(found.layout.terms, total.config, mean)
        _warn(noisy_warnings(mean, report))
        typer.echo(f"{said}{mean.weight:g}", err=True)
        if report is not None:
            typer.echo(report.explain(), err=True)
        if not options.as_json:
            show_noisy(f"The {what}", noisy, results())
        return {"shortened": total.shortened, **noisy_json(noisy, mean, report)}
    arrays = array_sums(written, found.mean, found.layout, as_mean=options.mean)
    _warn(sum_warnings(arrays, found.mean))
    typer.echo(f"{said}{found.mean.weight}", err=True)
    if not options.as_json:
        show_sums(f"The {what}", arrays, results())
    return {"clipped_by_all": found.mean.clipped, **sum_json(arrays, found.mean)}


def ended_with(reason: str, exit_code: int, command: str = "join") -> JoinOutcome:
    """One line; some of it may be the server's words, which must not steer a terminal."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(reason.split())[:_LONGEST_REASON])
    typer.echo(f"secagg {command}: {line}", err=True)
    return JoinOutcome({"ok": False, "reason": line}, exit_code)
