"""What ``secagg join --judge`` does: a member that tests a candidate by a command of its own, and votes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Final, final

import typer
from rich.console import Console

from secagg.adapters.net import model_files
from secagg.adapters.net.addresses import check_url
from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.logs import configure
from secagg.adapters.net.member import Member
from secagg.adapters.net.membership import MemberOptions
from secagg.adapters.net.store import ClientStore
from secagg.adapters.net.voting import DEFAULT_CANDIDATE_BYTES, BallotTotal, Judging
from secagg.cli.ballot_words import VOTES, verdict_line
from secagg.cli.difference_options import open_ledger
from secagg.cli.join_options import JoinOptions
from secagg.cli.join_run import (
    JoinOutcome,
    asking,
    ended_with,
    member_options,
    open_chain,
    progress_on,
    state_of,
    stoppable,
    to_the_end,
)
from secagg.cli.options import LogFormatName
from secagg.cli.output import EXIT_STOPPED, PhaseProgress
from secagg.credentials import ChainFileError
from secagg.differencing import DifferenceLedgerError
from secagg.errors import InputError, ParameterError
from secagg.robust.ballots import Vote

_WORDS: Final = ", ".join(Vote)


def run(options: JoinOptions) -> JoinOutcome:
    """Take part in a ballot to the end.  Raises ParameterError, InputError and OSError."""
    options.check_values()
    if options.url is None:
        raise ParameterError("URL is missing: give wss://HOST:PORT/ROUND")
    check_url(options.url, plaintext=options.insecure_plaintext)
    state = state_of(options)
    member = member_options(options, options.url, options.layout_policy(), state)
    judge = JudgeCommand(options.judge or "")
    judging = Judging(judge, options.max_candidate or DEFAULT_CANDIDATE_BYTES)
    as_json = options.log_format is LogFormatName.JSON
    level = logging.WARNING if Console(stderr=True).is_terminal else logging.INFO
    configure(sys.stderr, as_json=as_json, level=level)
    try:
        with open_ledger(options.ledger, VOTES) as ledger, open_chain(options) as chain:
            chained = replace(member, chain=chain, policy=replace(member.policy, require_chain=chain is not None))
            ended = _vote(asking(chained, options, ledger), state, judging, judge)
    except (ChainFileError, DifferenceLedgerError) as failure:
        return ended_with(f"{failure}; mend that, and run the same command to go on", EXIT_STOPPED)
    return _told(ended) if isinstance(ended, BallotTotal) else ended


def _vote(options: MemberOptions, state: Path, judging: Judging, judge: JudgeCommand) -> BallotTotal | JoinOutcome:
    """How the ballot ended, or the line and the exit code for every other end."""

    async def to_the_count(member: Member) -> BallotTotal:
        try:
            return await member.vote()
        finally:
            judge.stop()

    def work() -> BallotTotal:
        with contextlib.closing(ClientStore(state)) as store, PhaseProgress("connecting") as bar:
            member = Member(options, store, judging, on_total=lambda total: None, on_progress=progress_on(bar))
            return asyncio.run(stoppable(to_the_count(member)))

    return to_the_end(work, state)


def _told(total: BallotTotal) -> JoinOutcome:
    typer.echo(f"{verdict_line(total.verdict, total.tally)} (candidate {total.layout.candidate.hex()})", err=True)
    return JoinOutcome({"ok": True, "seat": total.seat, **total.layout.as_json(total.tally)}, 0)


@final
class JudgeCommand:
    """A command that says with its last line how to vote.  It is given to no shell, and no input."""

    def __init__(self, command: str) -> None:
        """Raises ParameterError for a command that cannot be run, before anybody waits for it."""
        try:
            self._words = shlex.split(command)
        except ValueError as wrong:
            raise ParameterError(f"--judge {command!r}: it cannot be read as a command ({wrong})") from None
        if not self._words or shutil.which(self._words[0]) is None:
            raise ParameterError(
                f"--judge {command!r}: there is no command of this name; give a program that is on the PATH, or its "
                "path, and its arguments"
            )
        self._lock = threading.Lock()
        self._running: subprocess.Popen[str] | None = None
        self._stopped = False

    def __call__(self, candidate: bytes, layout: BallotLayout) -> Vote:
        """Run it on a file with the candidate.

        Raises InputError and ParameterError for a candidate that is no file of arrays, InputError for a command that
        gives no vote, and CancelledError once it was stopped.
        """
        with tempfile.TemporaryDirectory(prefix="secagg-ballot-") as folder:
            file = Path(folder) / f"candidate{layout.suffix}"
            file.write_bytes(candidate)
            model_files.read_headers(file)
            code, said = self._run(file)
        words = [line.strip().lower() for line in said.splitlines() if line.strip()]
        if code != 0:
            raise InputError(f"the command of --judge ended with exit code {code}")
        if not words or words[-1] not in list(Vote):
            raise InputError(f"the last line of --judge must be one of {_WORDS}, and it is none of them")
        return Vote(words[-1])

    def _run(self, file: Path) -> tuple[int, str]:
        with self._lock:
            if self._stopped:
                raise asyncio.CancelledError
            # In a session of its own: Ctrl-C is for this process, which ends the command without a vote.
            try:
                self._running = running = subprocess.Popen(  # noqa: S603  (the user's own command)
                    [*self._words, str(file)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    start_new_session=True,
                )
            except OSError as failure:
                raise InputError(f"the command of --judge cannot be run ({failure.strerror})") from None
        said, _ = running.communicate()
        with self._lock:
            self._running = None
            if self._stopped:
                raise asyncio.CancelledError
        return running.returncode, said

    def stop(self) -> None:
        """End the command and what it has started: there is no vote, and the next ``join`` tests the candidate anew."""
        with self._lock:
            self._stopped = True
            if self._running is None:
                return
            if hasattr(os, "killpg"):
                os.killpg(self._running.pid, signal.SIGKILL)
            else:  # Windows
                self._running.kill()
