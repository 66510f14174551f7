"""What ``secagg join`` does: a member with its file, progress, the total in a file, an exit code for every end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
import typer
from rich.console import Console

from secagg.adapters.net import model_files
from secagg.adapters.net.addresses import canonical, check_url, round_of
from secagg.adapters.net.certificates import client_context
from secagg.adapters.net.frames import Progress, Refusal, RefusedError
from secagg.adapters.net.layout import totals
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
from secagg.adapters.net.round_spec import PHASES
from secagg.adapters.net.store import ClientStore
from secagg.cli.options import LogFormatName
from secagg.cli.output import EXIT_ANOTHER_INPUT, EXIT_FAILED, EXIT_REFUSED, EXIT_STOPPED, PhaseProgress
from secagg.config import Policy, ThreatModel
from secagg.encoding import LayoutPolicy
from secagg.errors import ErrorCode, ParameterError, PeerError
from secagg.identity import load_directory, load_identity

_HINT: Final = "see 'What this client insists on' in secagg join --help for the options that set what it accepts"
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
    weight: int | None,
    identity: Path | None,
    directory: Path | None,
    threat: ThreatModel | None,
    min_survivors: int,
    gamma: float,
    ca: Path | None,
    plaintext: bool,
    give_up_after: float,
    state: Path | None,
    again: bool,
    layout_policy: LayoutPolicy,
    log_format: LogFormatName,
) -> JoinOutcome:
    """Take part to the end."""
    check_url(url, plaintext=plaintext)
    state = state or default_state(url, identity or inputs)
    read = {"--input": inputs, "--identity": identity, "--directory": directory, "--ca": ca, "--state": state}
    _check_output(output, read)
    threat = threat or (ThreatModel.ACTIVE if directory is not None else ThreatModel.SEMI_HONEST)
    active = threat is ThreatModel.ACTIVE
    if active and (identity is None or directory is None):
        raise ParameterError("--threat-model active needs --identity and --directory")
    options = MemberOptions(
        url=url,
        tls=client_context(ca) if url.startswith("wss") else None,
        weight=weight,
        policy=Policy(threat_model=threat, min_survivors=min_survivors, gamma=gamma),
        layout_policy=layout_policy,
        identity=load_identity(identity) if identity is not None else None,
        directory=load_directory(directory)[0] if active and directory is not None else None,
        give_up_seconds=give_up_after,
        again=again,
        other_states=_other_states(state, [identity or inputs, inputs]),
    )
    arrays = model_files.read_arrays(inputs)
    model_files.check_writable(
        output, {name: array.dtype if mean else np.dtype(np.float64) for name, array in arrays.items()}
    )
    own = OwnInput(arrays, weight)  # before there is a state
    on_terminal = Console(stderr=True).is_terminal
    configure(
        sys.stderr, as_json=log_format is LogFormatName.JSON, level=logging.WARNING if on_terminal else logging.INFO
    )

    def write(total: Total) -> None:
        model_files.write_arrays(output, total.mean_as_input() if mean else totals(total.mean))

    ended = _take_part(options, state, own, write)
    return _told(ended, output, "mean" if mean else "sum") if isinstance(ended, Total) else ended


def _take_part(
    options: MemberOptions, state: Path, own: OwnInput, write: Callable[[Total], None]
) -> Total | JoinOutcome:
    """The total, or the line and the exit code for every other end."""
    store = ClientStore(state)
    try:
        with PhaseProgress("connecting") as bar:

            def show(progress: Progress) -> None:
                phase = progress.phase if progress.phase in _PHASES else "?"  # what the server says is no markup
                bar(phase, progress.arrived, progress.expected or 1)

            member = Member(options, store, own, on_total=write, on_progress=show)
            return asyncio.run(_stoppable(member))
    except RefusedError as refused:
        return _no(f"{refused} ({refused.code})", EXIT_FAILED if refused.code in _ROUND_ENDED else EXIT_REFUSED)
    except PeerError as refused:
        hint = f"; {_HINT}" if refused.code is ErrorCode.CONFIG_BELOW_POLICY else ""
        return _no(f"refused what the server sent: {refused}{hint} ({refused.code})", EXIT_REFUSED)
    except NotTrustedError as refused:
        return _no(str(refused), EXIT_REFUSED)
    except (AnotherInputError, MaybeSummedError) as refused:
        return _no(str(refused), EXIT_ANOTHER_INPUT)
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


def layout_policy(
    *,
    min_clip: float | None,
    max_clip: float | None,
    min_bits: int,
    max_bits: int,
    min_max_weight: int | None,
    max_max_weight: int | None,
) -> LayoutPolicy:
    """The bounds that are given; the others are the library's.  Raises ParameterError for bounds that allow nothing."""
    given = {
        "min_clip": min_clip,
        "max_clip": max_clip,
        "min_max_weight": min_max_weight,
        "max_max_weight": max_max_weight,
    }
    named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return LayoutPolicy(min_bits=min_bits, max_bits=max_bits, **named)


def default_state(url: str, beside: Path) -> Path:
    """Beside the identity, or else the input: whatever the output is called, a member's rounds are remembered."""
    address = urlsplit(canonical(url))
    return beside.with_name(_plain(f"{beside.name}.{address.hostname}-{address.port}.{round_of(url)}.state"))


def _other_states(state: Path, beside: Sequence[Path]) -> tuple[Path, ...]:
    """The states of this member's other rounds, in which the same file may be."""
    found = {found for path in beside for found in path.parent.glob(f"{_plain(path.name)}.*.state")}
    return tuple(sorted(path for path in found if path.resolve() != state.resolve()))


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)


def _check_output(output: Path, read: Mapping[str, Path | None]) -> None:
    model_files.kind_of(output)
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise ParameterError(f"--output {output}: {output.parent} is no directory that can be written")
    if output.is_dir():
        raise ParameterError(f"--output {output}: a directory; name a file in it")
    for option, path in read.items():
        if path is not None and (output == path or (output.exists() and path.exists() and output.samefile(path))):
            raise ParameterError(f"--output {output}: the total would replace the file of {option}; name another one")


async def _stoppable(member: Member) -> Total:
    task = asyncio.current_task()
    if task is not None:
        with contextlib.suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await member.run()


def _told(total: Total, output: Path, what: str) -> JoinOutcome:
    for name, cut in total.clipped.items():
        typer.echo(f"warning: {cut} of your values of {name} were beyond the clip, and were cut off", err=True)
    for name, found in total.coarse.items():
        typer.echo(
            f"warning: {name} is hardly in the sum: the largest of your values is {found.largest:.3g}, the clip "
            f"{found.clip:.3g}, and the rounding {found.rounding:.3g}; ask who runs the server for another --clip, or "
            "for more --bits",
            err=True,
        )
    if total.weight_clamped:
        largest = total.encoder.max_weight
        typer.echo(f"warning: your weight is above the server's --max-weight, and counted as {largest}", err=True)
    count, weight = total.mean.count, total.mean.weight
    if total.mean.clipped:
        typer.echo(f"warning: of all clients together, {total.mean.clipped} values were cut off or clamped", err=True)
    typer.echo(f"{output}: the {what} of {count} clients, total weight {weight}", err=True)
    summary = {
        "ok": True,
        "seat": total.seat,
        "included": list(total.included),
        "contributors": total.mean.contributors,
        "weight": weight,
        "output": str(output),
        "clipped": dict(total.clipped),
        "weight_clamped": total.weight_clamped,
        "clipped_by_all": total.mean.clipped,
        "error_bound": total.encoder.error_bound(count, weight) * (weight if what == "sum" else 1),
    }
    return JoinOutcome(summary, 0)


def _no(reason: str, exit_code: int) -> JoinOutcome:
    """One line; some of it may be the server's words, which must not steer a terminal."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(reason.split())[:_LONGEST_REASON])
    typer.echo(f"secagg join: {line}", err=True)
    return JoinOutcome({"ok": False, "reason": line}, exit_code)
