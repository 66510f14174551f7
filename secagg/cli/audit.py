"""``secagg audit``: check the certificates of a history of rounds, offline, and print them for an auditor."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from secagg.audit import AuditedRound, History, policy_of
from secagg.audit import audit as audit_history
from secagg.certificate_files import RECEIPT_SUFFIX, read_certificates, read_receipts
from secagg.cli.identity import read_member
from secagg.cli.options import AsJson
from secagg.cli.output import EXIT_FAILED, fact_table, print_json, results, table, usage_errors
from secagg.credentials import load_directory
from secagg.errors import CertificateError, ParameterError
from secagg.identity import Directory
from secagg.wording import counted

_LISTED = 6
"""Names in one cell of a table; --json has all of them."""


def audit(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES",
            help="Files with one certificate each, in the order of the rounds, or directories of them. Files "
            "*.receipt among them are members' receipts.",
        ),
    ],
    directory: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Directory file of the cohort, which active rounds need: the members' signatures are checked with it "
            "(default: members are shown by number).",
            show_default=False,
        ),
    ] = None,
    server: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.pub",
            help="Public half of the server's identity, which must have signed every certificate (default: the same "
            "identity must have signed all of them).",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="DIGEST",
            help="Digest of the last certificate, as a member of the cohort knows it. A history that ends earlier is "
            "refused (default: any end is taken).",
            show_default=False,
        ),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take a history whose first certificates are missing.")
    ] = False,
    receipts: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Receipt of a member, or a directory of them, such as secagg join --receipts makes; certificates in "
            "it are left aside. The option may be repeated (default: the receipts among FILES).",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the certificates of a cohort's rounds, and print the history for an auditor.

    The command checks every signature, the quorum of every active round, the chain, that each certificate agrees with
    itself, and that members' receipts are for the certified totals. It needs no network and no server.

    Exit code 0: the history holds. 1: a certificate, a receipt or the chain does not hold; the reason is on standard
    error. 2: the command cannot be carried out.
    """
    with usage_errors("audit"):
        known, names = _directory(directory)
        signer = None if server is None else bytes.fromhex(read_member(server)["key"])
        last = None if head is None else _digest(head)
        certificates, signed = read_certificates(files), read_receipts(files)
        signed += _receipts_at(receipts or ())
    try:
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            history = audit_history(
                certificates,
                directory=known,
                server=signer,
                head=last,
                partial=partial,
                executor=threads,
                receipts=signed,
            )
    except CertificateError as wrong:
        typer.echo(f"secagg audit: {wrong}", err=True)
        if as_json:
            print_json({"ok": False, "reason": str(wrong)})
        raise typer.Exit(EXIT_FAILED) from None
    if as_json:
        print_json({"ok": True, "members": list(names), **history.as_json()})
    else:
        _show(history, names)


def _directory(file: Path | None) -> tuple[Directory | None, Sequence[str]]:
    if file is None:
        return None, ()
    known, names, _ = load_directory(file)
    return known, names


def _receipts_at(paths: Sequence[Path]) -> list[bytes]:
    """Raises ParameterError for a path without a receipt, which would be left out in silence, and OSError."""
    found: list[bytes] = []
    for path in paths:
        here = read_receipts([path])
        if not here:
            raise ParameterError(
                f"--receipts {path}: there is no receipt; give a file whose name ends in {RECEIPT_SUFFIX}, or a "
                "directory with such files"
            )
        found += here
    return found


def _digest(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise ParameterError(f"--head {digits!r}: give the digest in hexadecimal digits") from None


# For a person.


def _show(history: History, names: Sequence[str]) -> None:
    console = results()
    console.print(_overview(history))
    for number, (digest, rounds) in enumerate(_by_policy(history).items(), 1):
        console.print(_policy(f"Policy {number}", digest, rounds))
    listed = table("Rounds", "round", "made (UTC)", "invited", "took part", "in the sum", "outcome", "epsilon")
    for audited in history.rounds:
        listed.add_row(*(Text(cell) for cell in _cells(audited)))
    console.print(listed)
    events = fact_table("Who was lost, who was refused, and why there is no sum")
    for audited in history.rounds:
        for event in _events(audited, names):
            events.add_row(Text(_name(audited)), Text(event))  # names are text, whatever is in them
    if events.row_count:
        console.print(events)


def _overview(history: History) -> object:
    facts = fact_table(f"A history of {counted(len(history.rounds), 'round')} that holds")
    sums = sum(audited.outcome == "sum" for audited in history.rounds)
    facts.add_row("signed by the server", history.server.hex())
    facts.add_row("last certificate", history.head.hex())
    facts.add_row("rounds with a sum", f"{sums:,}")
    facts.add_row("rounds without one", f"{len(history.rounds) - sums:,}")
    facts.add_row("receipts of members", f"{sum(len(audited.receipts) for audited in history.rounds):,}")
    promised = any(audited.epsilon is not None for audited in history.rounds)
    spent = f"epsilon {history.epsilon:.6g}, delta {history.delta:.3g}" if promised else "no privacy was promised"
    facts.add_row("privacy of all rounds", spent)
    return facts


def _by_policy(history: History) -> dict[str, list[AuditedRound]]:
    """The rounds by what their configs ask for; a chained round's config differs from the next one's in its link."""
    found: dict[str, list[AuditedRound]] = {}
    for audited in history.rounds:
        asked = {name: value for name, value in policy_of(audited.config).items() if name != "config"}
        found.setdefault(repr(asked), []).append(audited)
    return found


def _policy(title: str, key: str, rounds: Sequence[AuditedRound]) -> object:
    config = rounds[0].config
    facts = fact_table(f"{title}, of {counted(len(rounds), 'round')}")
    facts.add_row("invited", counted(config.clients, "client"))
    facts.add_row("threat model", config.threat_model.value)
    facts.add_row("may collude with the server", f"{config.colluders:,}")
    facts.add_row("fewest in a sum", f"{config.min_survivors:,}")
    facts.add_row("confirmations asked for", f"{config.quorum:,}")
    facts.add_row("shares that open a secret", f"{config.threshold:,}")
    facts.add_row("values in a vector", f"{config.length:,}")
    facts.add_row("cohort", config.cohort.hex() or "not vouched for")
    facts.add_row("tied to", config.context.hex() or "nothing")
    return facts


def _name(audited: AuditedRound) -> str:
    return f"{audited.number} {audited.name}".rstrip()


def _cells(audited: AuditedRound) -> list[str]:
    made = datetime.datetime.fromtimestamp(audited.time, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    return [
        _name(audited),
        made if audited.time else "",
        f"{audited.config.clients:,}",
        f"{len(audited.advertised):,}",
        f"{len(audited.included):,}",
        audited.outcome,
        "" if audited.epsilon is None else f"{audited.epsilon:.4g}",
    ]


def _events(audited: AuditedRound, names: Sequence[str]) -> Iterator[str]:
    for phase, members in audited.lost.items():
        yield f"lost in {phase}: {_listed(members, names)}"
    for member, phase, code in audited.faults:
        yield f"refused in {phase}: {_listed([member], names)} ({code})"
    if audited.outcome != "sum":
        missing = f"; did not answer: {_listed(audited.missing, names)}" if audited.missing else ""
        culprits = f"; to blame: {_listed(audited.culprits, names)}" if audited.culprits else ""
        yield f"no sum, ended in {audited.ended_in}: {audited.outcome}{missing}{culprits}"


def _listed(members: Sequence[int], names: Sequence[str]) -> str:
    said = [names[member] if member < len(names) else f"member {member}" for member in members[:_LISTED]]
    more = f" and {len(members) - _LISTED:,} more" if len(members) > _LISTED else ""
    return f"{', '.join(said)}{more}"
