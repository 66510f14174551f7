"""What ``secagg serve`` keeps beyond its rounds: a budget, a chain of certificates, a ledger of sums, and scores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from secagg.adapters.net.certifying import Certifier
from secagg.adapters.net.keeping_apart import SumsApart
from secagg.adapters.net.score_keeping import ScoreKeeper
from secagg.certificate_files import CertificateFiles
from secagg.cli.ballot_words import VOTES
from secagg.cli.difference_options import open_ledger
from secagg.cli.private_options import open_budget
from secagg.cli.serve_options import ServeOptions
from secagg.credentials import load_identity
from secagg.errors import CertificateError, ParameterError
from secagg.pairwise.certificate import Certificate

if TYPE_CHECKING:
    from secagg.privacy.budget import Budget


@dataclass(frozen=True, slots=True)
class Keepers:
    """As far as the options ask for them."""

    budget: Budget | None
    certifier: Certifier | None
    apart: SumsApart | None
    scores: ScoreKeeper | None


@contextlib.contextmanager
def open_keepers(options: ServeOptions) -> Iterator[Keepers]:
    """Their files, for the length of the block.

    Raises ParameterError, OSError, BudgetFileError, DifferenceLedgerError and ScoreFileError.
    """
    summed = "data" if options.ballot is None else VOTES
    with (
        open_budget(options.budget, options.epsilon, options.delta) as budget,
        open_ledger(options.ledger, summed) as ledger,
        _open_scores(options.scores) as scores,
    ):
        apart = None if ledger is None else SumsApart(ledger, options.min_difference)
        yield Keepers(budget, _certifier(options), apart, scores)


@contextlib.contextmanager
def _open_scores(file: Path | None) -> Iterator[ScoreKeeper | None]:
    if file is None:
        yield None
        return
    with contextlib.closing(ScoreKeeper(file, file.with_name(f"{file.name}.html"))) as scores:
        yield scores


def _certifier(options: ServeOptions) -> Certifier | None:
    """Who signs the certificates, and the chain that they continue.  Raises ParameterError and OSError."""
    if (options.identity is None) != (options.certificates is None):
        raise ParameterError(
            "--identity and --certificates go together: the identity signs what the directory gets; make one with "
            "secagg identity new"
        )
    if options.identity is None or options.certificates is None:
        return None
    identity = load_identity(options.identity)
    try:
        files = CertificateFiles(options.certificates)
    except CertificateError as wrong:
        raise ParameterError(f"--certificates: {wrong}; give another directory") from None
    if files.last and (signer := Certificate.from_bytes(files.last).server) != identity.public_key:
        raise ParameterError(
            f"--certificates {options.certificates}: holds the chain of the server {signer.hex()}, and --identity "
            f"{options.identity} is {identity.public_key.hex()}; give the identity or the directory that belongs to "
            "the other"
        )
    return Certifier(identity, files)
