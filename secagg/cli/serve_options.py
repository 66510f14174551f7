"""What ``secagg serve`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from secagg.cli.carriers import CarrierChoice, ChosenCarrier
from secagg.cli.command_options import check_no_others, check_range
from secagg.cli.complaints import Complaints
from secagg.cli.difference_options import LedgerFile, MinDifference, check_ledger
from secagg.cli.layout_options import ArrayBitsTexts, ClipTexts, ExactTexts
from secagg.cli.options import AsJson, ChosenSuite, Groups, LogFormat, LogFormatName, MinGroup, Neighbours, RoundGamma
from secagg.cli.private_options import BudgetFile
from secagg.cli.promise_options import (
    Epsilon,
    Levels,
    MaxDropout,
    Noise,
    PrivacyOptions,
    PrivateRounds,
    RoundBits,
    delta_option,
)
from secagg.cli.rounds import SuiteName
from secagg.errors import ParameterError
from secagg.pairwise.phases import ThreatModel
from secagg.robust.ballots import Ballot

_NETWORK: Final = "Network"
_ROUND: Final = "Round"
_BALLOT: Final = "Ballot"
_RUNNING: Final = "Running it"
_LARGEST_PORT: Final = 65535
_NOT_OF_A_BALLOT: Final = (
    *("dim_from", "clip", "array_bits", "exact", "write_layout", "bits", "max_weight", "epsilon", "promised_rounds"),
    *("noise", "levels", "budget", "output", "scores"),
)
"""Options of what files hold, and of noise, which a count has not."""
_LONGEST_LINGER: Final = 1e9
_MOST_WORKERS: Final = 256
"""About thirty years: what is longer, such as infinity, is a mistake."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The options, as they were given."""

    dim_from: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the arrays to sum, .npz or .safetensors. Their names, shapes and types are read, their "
            "values are not. Only --ballot needs none.",
            show_default=False,
            rich_help_panel=_ROUND,
        ),
    ] = None
    ballot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Sum no files, and let the members vote on the candidate model FILE, .npz or .safetensors: they get "
            "it, test it on their own data with secagg join --judge, and the count alone is opened.",
            show_default=False,
            rich_help_panel=_BALLOT,
        ),
    ] = None
    objecting_share: Annotated[
        float | None,
        typer.Option(
            help="With --ballot: the candidate is dropped when more than this share of the voters object; from 0 to "
            f"below 1 (default: {Ballot().objecting_share:g}).",
            show_default=False,
            rich_help_panel=_BALLOT,
        ),
    ] = None
    fewest_voters: Annotated[
        int | None,
        typer.Option(
            help="With --ballot: with fewer votes than this, abstentions left out, the ballot decides nothing "
            f"(default: {Ballot().fewest_voters}).",
            show_default=False,
            rich_help_panel=_BALLOT,
        ),
    ] = None
    clip: ClipTexts = None
    array_bits: ArrayBitsTexts = None
    exact: ExactTexts = None
    write_layout: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the layout, which is what the options say about the arrays, to FILE, and host nothing. The "
            "members can agree on the file, and give it to secagg join --layout.",
            show_default=False,
            rich_help_panel=_ROUND,
        ),
    ] = None
    clients: Annotated[
        int | None,
        typer.Option(
            help="Number of clients to invite (default: every member of the directory).",
            show_default=False,
            rich_help_panel=_ROUND,
        ),
    ] = None
    directory: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Directory file of the cohort: only its members may log in.",
            show_default=False,
            rich_help_panel=_ROUND,
        ),
    ] = None
    open_seats: Annotated[
        bool,
        typer.Option(
            "--open",
            help="Host the round without a directory: anybody who reaches the port may take a free seat.",
            rich_help_panel=_ROUND,
        ),
    ] = False
    threat: Annotated[
        ThreatModel | None,
        typer.Option(
            "--threat-model",
            help="What the server may do: in semi_honest it follows the protocol, in active it may lie (default: "
            "active with a directory, semi_honest with --open).",
            show_default=False,
            rich_help_panel=_ROUND,
        ),
    ] = None
    rounds: Annotated[
        list[str] | None,
        typer.Option(
            "--round",
            metavar="NAME",
            help="Name of the round, which is the last part of its URL. The option may be repeated, to host several "
            "rounds at a time (default: one round named default).",
            show_default=False,
            rich_help_panel=_ROUND,
        ),
    ] = None
    bits: RoundBits = None
    max_weight: Annotated[
        int | None,
        typer.Option(
            help="Largest weight of a client. A larger weight is reduced to this one (default: the round has no "
            "weights).",
            show_default=False,
            rich_help_panel=_ROUND,
        ),
    ] = None
    gamma: RoundGamma = None
    delta: Annotated[
        float | None, delta_option("a tenth, and at least one client where --gamma and --min-survivors leave room")
    ] = None
    min_survivors: Annotated[
        int | None,
        typer.Option(
            help="Smallest number of clients in a sum (default: what --gamma asks for, and at least 3).",
            show_default=False,
        ),
    ] = None
    max_dropout: MaxDropout = None
    neighbours: Neighbours = "auto"
    groups: Groups = 1
    min_group: MinGroup = None
    carrier: ChosenCarrier = CarrierChoice.MASKS
    complaints: Complaints = False
    suite: ChosenSuite = SuiteName.AES_128
    epsilon: Epsilon = None
    promised_rounds: PrivateRounds = None
    noise: Noise = None
    levels: Levels = None
    budget: BudgetFile = None
    ledger: LedgerFile = None
    min_difference: MinDifference = None
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --groups and --directory: file that keeps the scores of clients over rounds, made when it is "
            "not there, and FILE.html, a page that shows them. A score says how far the groups of a client were from "
            "the others: over many rounds that tells how unusual a client's data are (default: no scores are kept).",
            show_default=False,
            rich_help_panel=_RUNNING,
        ),
    ] = None
    deadline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[PHASE=]SECONDS",
            help="Longest time that a phase may last, in seconds: of every phase, or of the one that is named. "
            "STATEMENTS names the wait for members' statements after a chained round was aborted in UNMASK. The "
            "option may be repeated (default: ADVERTISE=600, SHARE=120, MASK=600, CONFIRM=120, UNMASK=120, "
            "STATEMENTS=600).",
            show_default=False,
        ),
    ] = None
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Clients on other machines can connect to 0.0.0.0, which is every address of "
            "this machine.",
            rich_help_panel=_NETWORK,
        ),
    ] = "localhost"
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes any free port.", rich_help_panel=_NETWORK)] = (
        8443
    )
    cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="PEM file of the TLS certificate and its chain.",
            show_default=False,
            rich_help_panel=_NETWORK,
        ),
    ] = None
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="PEM file of the certificate's private key.",
            show_default=False,
            rich_help_panel=_NETWORK,
        ),
    ] = None
    demo_cert: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Make a self-signed certificate in the directory DIR, or use the one that is there. Clients are given "
            "the file DIR/server.pem.",
            show_default=False,
            rich_help_panel=_NETWORK,
        ),
    ] = None
    demo_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Name or address that clients connect to, for the certificate of --demo-cert. The option may be "
            "repeated (default: localhost, this machine's host name and --host).",
            show_default=False,
            rich_help_panel=_NETWORK,
        ),
    ] = None
    insecure_plaintext: Annotated[
        bool,
        typer.Option(
            help="Listen without TLS. This is allowed for clients on the same machine only.", rich_help_panel=_NETWORK
        ),
    ] = False
    workers: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Number of processes that end TLS, and of threads that take vectors in and unmask the sum; 0 is one "
            "process for all of it, which unmasks on every processor.",
            rich_help_panel=_NETWORK,
        ),
    ] = 0
    max_connections: Annotated[
        int | None,
        typer.Option(
            help="Maximum number of concurrent connections (default: 2 x seats + 64).",
            show_default=False,
            rich_help_panel=_NETWORK,
        ),
    ] = None
    monitor_port: Annotated[
        int | None,
        typer.Option(
            help="Port for the pages /metrics and /status; 0 takes any free port (default: there are no such pages).",
            show_default=False,
            rich_help_panel=_RUNNING,
        ),
    ] = None
    monitor_host: Annotated[
        str, typer.Option(help="Address to listen on for --monitor-port.", rich_help_panel=_RUNNING)
    ] = "localhost"
    journal: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="File that keeps the rounds. A server that is started again goes on from there.",
            rich_help_panel=_RUNNING,
        ),
    ] = Path("secagg-journal.sqlite")
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File to write the sum to, .npz or .safetensors. {round} in its name stands for the round's name "
            "(default: the sum is not written).",
            show_default=False,
            rich_help_panel=_RUNNING,
        ),
    ] = None
    identity: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Identity file of the server, of secagg identity new, that signs the certificates of --certificates.",
            show_default=False,
            rich_help_panel=_RUNNING,
        ),
    ] = None
    certificates: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Directory that gets a signed certificate of every round, for secagg audit; it is made if it is not "
            "there. Certificates that are there are continued (default: no certificates are made).",
            show_default=False,
            rich_help_panel=_RUNNING,
        ),
    ] = None
    chained: Annotated[
        bool,
        typer.Option(
            help="Chain the rounds: each invitation brings the certificates of the rounds before it, so that a server "
            "cannot hide what became of a round. Several rounds are hosted one after the other.",
            rich_help_panel=_RUNNING,
        ),
    ] = False
    linger: Annotated[
        float,
        typer.Option(
            help="Seconds to wait at the end for clients that logged in and do not know yet how the round ended.",
            rich_help_panel=_RUNNING,
        ),
    ] = 60.0
    log_format: LogFormat = LogFormatName.PAIRS
    as_json: AsJson = False

    @property
    def names(self) -> list[str]:
        """The names of the rounds."""
        return self.rounds or ["default"]

    @property
    def public_host(self) -> str:
        """What clients call this server, as far as the options say."""
        return self.demo_name[0] if self.demo_name else self.host

    def privacy(self, clip: float | None = None) -> PrivacyOptions:
        """What the options say of privacy, with the norm that ``--clip`` says in a private round."""
        return PrivacyOptions.of(self, rounds=self.promised_rounds, clip=clip)

    def check_ranges(self) -> None:
        """Raises ParameterError for a number that no server can use, and for an option that another one needs."""
        if self.epsilon is None and self.promised_rounds is not None:
            raise ParameterError(
                f"--rounds {self.promised_rounds}: it belongs to --epsilon; to host several rounds, give --round NAME "
                "more than once"
            )
        asked = self.privacy().ask(1)  # of its values, those that depend on nothing else
        if asked is None and self.budget is not None:
            raise ParameterError(f"--budget {self.budget}: it is charged for private rounds; give --epsilon")
        check_ledger(self.ledger, self.min_difference, self.directory)
        self._check_ballot()
        if self.scores is not None and (self.groups < 2 or self.directory is None):
            raise ParameterError(
                f"--scores {self.scores}: they compare groups of clients whose names stay the same over all rounds; "
                "give --groups and --directory"
            )
        if self.chained and self.certificates is None:
            raise ParameterError("--chained: the chain is that of the certificates; give --certificates and --identity")
        check_range("--port", self.port, 0, _LARGEST_PORT)
        check_range("--monitor-port", self.monitor_port, 0, _LARGEST_PORT)
        check_range("--max-connections", self.max_connections, 1)
        check_range("--workers", self.workers, 0, _MOST_WORKERS)
        check_range("--linger", self.linger, 0, _LONGEST_LINGER)

    def _check_ballot(self) -> None:
        if self.ballot is not None:
            check_no_others(self, f"--ballot {self.ballot}", "it sums votes, and no files", _NOT_OF_A_BALLOT)
            if len(self.names) > 1:
                raise ParameterError(
                    f"--ballot {self.ballot}: members vote on a candidate once; give one --round instead of "
                    f"{len(self.names)}"
                )
        elif self.objecting_share is not None or self.fewest_voters is not None:
            raise ParameterError("--objecting-share and --fewest-voters are rules of a ballot; give --ballot FILE")
