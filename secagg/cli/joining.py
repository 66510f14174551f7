"""What ``secagg join`` does: a member with its file, progress, the total in a file, an exit code for every end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console

from secagg.adapters.net import model_files
from secagg.adapters.net.certificates import client_context
from secagg.adapters.net.frames import Progress, Refusal, RefusedError
from secagg.adapters.net.hosted import PHASES
from secagg.adapters.net.layout import totals
from secagg.adapters.net.logs import configure
from secagg.adapters.net.member import (
    GaveUpError,
    Member,
    MemberOptions,
    NotTrustedError,
    Total,
    check_url,
)
from secagg.adapters.net.store import ClientStore
from secagg.cli.options import LogFormatName
from secagg.cli.output import EXIT_FAILED, EXIT_REFUSED, EXIT_STOPPED, PhaseProgress
from secagg.config import Policy, ThreatModel
from secagg.errors import ParameterError, PeerError
from secagg.identity import load_directory, load_identity

_LONGEST_REASON: Final = 1000
_PHASES: Final = frozenset({*PHASES, "COMPUTE", "DONE", "ABORTED"})
_ROUND_ENDED: Final = frozenset({Refusal.ROUND_ABORTED, Refusal.ROUND_BEGUN, Refusal.LEFT_OUT})


@dataclass(frozen=True, slots=True)
class JoinOutcome:
    """What is printed, and the exit code."""

    summary: dict[str, Any]
    exit_code: int


def run(
    *,
    url: str,
    inputs: Path,
    output: Path,
    mean: bool,
    weight: int,
    identity: Path | None,
    directory: Path | None,
    threat: ThreatModel | None,
    min_survivors: int,
    gamma: float,
    ca: Path | None,
    plaintext: bool,
    give_up_after: float,
    state: Path,
    log_format: LogFormatName,
) -> JoinOutcome:
    """Take part to the end."""
    check_url(url, plaintext=plaintext)
    model_files.kind_of(output)
    if not os.access(output.parent, os.W_OK):
        raise ParameterError(f"{output}: {output.parent} is no directory that can be written")
    threat = threat or (ThreatModel.ACTIVE if directory is not None else ThreatModel.SEMI_HONEST)
    active = threat is ThreatModel.ACTIVE
    if active and (identity is None or directory is None):
        raise ParameterError("--threat-model active needs --identity and --directory")
    options = MemberOptions(
        url=url,
        tls=client_context(ca) if url.startswith("wss") else None,
        weight=weight,
        policy=Policy(threat_model=threat, min_survivors=min_survivors, gamma=gamma),
        identity=load_identity(identity) if identity is not None else None,
        directory=load_directory(directory)[0] if active and directory is not None else None,
        give_up_seconds=give_up_after,
    )
    arrays = model_files.read_arrays(inputs)
    on_terminal = Console(stderr=True).is_terminal
    configure(
        sys.stderr, as_json=log_format is LogFormatName.JSON, level=logging.ERROR if on_terminal else logging.INFO
    )

    def write(total: Total) -> None:
        model_files.write_arrays(output, total.mean_as_input() if mean else totals(total.mean))

    store = ClientStore(state)
    try:
        with PhaseProgress("connecting") as bar:

            def show(progress: Progress) -> None:
                phase = progress.phase if progress.phase in _PHASES else "?"  # what the server says is no markup
                bar(phase, progress.arrived, progress.expected or 1)

            member = Member(options, store, arrays, on_total=write, on_progress=show)
            total = asyncio.run(_stoppable(member))
    except RefusedError as refused:
        return _no(f"{refused} ({refused.code})", EXIT_FAILED if refused.code in _ROUND_ENDED else EXIT_REFUSED)
    except PeerError as refused:
        return _no(f"refused what the server sent: {refused} ({refused.code})", EXIT_REFUSED)
    except NotTrustedError as refused:
        return _no(str(refused), EXIT_REFUSED)
    except GaveUpError as gave_up:
        return _no(str(gave_up), EXIT_STOPPED)
    except sqlite3.Error as failure:
        return _no(
            f"{state}: cannot be written ({failure}); make room, and run the same command to go on", EXIT_STOPPED
        )
    except (asyncio.CancelledError, KeyboardInterrupt):
        return _no(f"stopped; {state} keeps the state: run the same command to go on", EXIT_STOPPED)
    finally:
        store.close()
    return _told(total, output, "mean" if mean else "sum")


async def _stoppable(member: Member) -> Total:
    task = asyncio.current_task()
    if task is not None:
        with contextlib.suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await member.run()


def _told(total: Total, output: Path, what: str) -> JoinOutcome:
    for name, count in total.clipped.items():
        typer.echo(f"warning: {count} values of {name} were beyond the clip, and were cut off", err=True)
    count, weight = total.mean.count, total.mean.weight
    typer.echo(f"{output}: the {what} of {count} clients, total weight {weight}", err=True)
    summary = {
        "ok": True,
        "seat": total.seat,
        "included": list(total.included),
        "weight": weight,
        "output": str(output),
        "clipped": dict(total.clipped),
        "error_bound": total.encoder.error_bound(count, weight) * (weight if what == "sum" else 1),
    }
    return JoinOutcome(summary, 0)


def _no(reason: str, exit_code: int) -> JoinOutcome:
    """One line; some of it may be the server's words, which must not steer a terminal."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(reason.split())[:_LONGEST_REASON])
    typer.echo(f"secagg join: {line}", err=True)
    return JoinOutcome({"ok": False, "reason": line}, exit_code)
