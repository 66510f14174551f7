"""What ``secagg join`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from secagg.cli.command_options import check_no_others, check_range
from secagg.cli.difference_options import LedgerFile, MinDifference, check_ledger
from secagg.cli.options import AsJson, LogFormat, LogFormatName
from secagg.cli.private_options import BudgetFile
from secagg.cli.promise_options import PANEL, need_extra
from secagg.cli.rounds import SuiteName
from secagg.encoding import LayoutPolicy
from secagg.encoding.limits import FEWEST_BITS, LARGEST_WEIGHT, MOST_BITS
from secagg.errors import ParameterError
from secagg.pairwise.phases import ThreatModel
from secagg.privacy.removal import MOST_LEVELS

_NETWORK: Final = "Network"
_TRUST: Final = "What this client insists on"
_OWN: Final = "Before it connects"
_BALLOT: Final = "Ballot"
_NOT_OF_A_BALLOT: Final = (
    *("inputs", "output", "mean", "weight", "layout", "check", "refuse_above", "refuse_clipped", "min_clip"),
    *("max_clip", "min_bits", "max_bits", "min_max_weight", "max_max_weight", "epsilon", "delta", "private"),
    *("min_noise", "max_levels", "budget", "receipts"),
)
"""Options of what files hold, and of noise, which a count has not."""


@dataclass(frozen=True, kw_only=True, repr=False)  # the weight is this client's own
class JoinOptions:
    """The options, as they were given."""

    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL",
            help="wss://HOST:PORT/ROUND, the address of the round. Only --check needs none.",
            show_default=False,
        ),
    ] = None
    inputs: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="File with this client's arrays, .npz or .safetensors. It does not leave this machine. Only --judge "
            "needs none.",
            show_default=False,
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File to write the total to, .npz or .safetensors. Only --check and --judge need none.",
            show_default=False,
        ),
    ] = None
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Take part in a ballot of serve --ballot: COMMAND is run with the candidate's file as its last "
            "argument, tests it on your data, and ends with exit code 0 and accept, object or abstain as its last "
            "line. If it does anything else, you abstain.",
            show_default=False,
            rich_help_panel=_BALLOT,
        ),
    ] = None
    max_candidate: Annotated[
        int | None,
        typer.Option(
            help="With --judge: longest candidate to take, in bytes (default: 268435456).",
            show_default=False,
            rich_help_panel=_BALLOT,
        ),
    ] = None
    mean: Annotated[
        bool,
        typer.Option(
            help="Write the (weighted) mean in the types of the input, instead of the sum in float64 and, for exact "
            "arrays of whole numbers, int64."
        ),
    ] = False
    weight: Annotated[
        int | None,
        typer.Option(
            help="Weight of this client's file, such as its number of examples. A weight above the server's "
            "--max-weight is reduced to it. Leave the option out where the server has no weights.",
            show_default=False,
        ),
    ] = None
    again: Annotated[
        bool,
        typer.Option(
            help="Take part although your file may be in a sum already, or although an earlier round with this state "
            "is not over. The risk: a server can open a sum in secret, say that the round was aborted, and invite "
            "everybody again but one member; the difference of the two sums is that member's file. Give this option "
            "only when you know that nobody has a sum with your file, or when two of them do no harm."
        ),
    ] = False
    layout: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Layout file that the members agreed on, which secagg serve --write-layout makes. A server with "
            "another layout is refused, and what will be clipped is said before the client connects (default: the "
            "server sets the layout, within the bounds below).",
            show_default=False,
            rich_help_panel=_OWN,
        ),
    ] = None
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Say what would be sent, clipped and lost with the layout of --layout, and connect to nothing.",
            rich_help_panel=_OWN,
        ),
    ] = False
    refuse_above: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[ARRAY=]VALUE",
            help="Refuse to take part, before the client connects, when your file has an absolute value above VALUE. "
            "ARRAY is a name or a pattern, and the value then holds for these arrays alone. The option may be "
            "repeated.",
            show_default=False,
            rich_help_panel=_OWN,
        ),
    ] = None
    refuse_clipped: Annotated[
        bool,
        typer.Option(
            help="Refuse to take part, before the client connects, when the layout of --layout clips a value of your "
            "file, or your weight.",
            rich_help_panel=_OWN,
        ),
    ] = False
    identity: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Identity file of this member (default: a fresh identity for this state).",
            show_default=False,
            rich_help_panel=_TRUST,
        ),
    ] = None
    directory: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="This member's own copy of the cohort's directory. The threat model active needs it.",
            show_default=False,
            rich_help_panel=_TRUST,
        ),
    ] = None
    threat: Annotated[
        ThreatModel | None,
        typer.Option(
            "--threat-model",
            help="Weakest threat model to accept (default: active with a directory, semi_honest without one).",
            show_default=False,
            rich_help_panel=_TRUST,
        ),
    ] = None
    min_survivors: Annotated[
        int,
        typer.Option(
            help="Smallest number of clients in a sum to accept. In a round with groups this is the sum of this "
            "client's own group.",
            rich_help_panel=_TRUST,
        ),
    ] = 3
    max_groups: Annotated[
        int,
        typer.Option(
            help="Largest number of groups to accept that the cohort is drawn into. Each group has a sum of its own, "
            "which says more about its members than the sum over everybody.",
            rich_help_panel=_TRUST,
        ),
    ] = 1
    suite: Annotated[
        SuiteName | None,
        typer.Option(
            help="Only suite to accept. With hybrid, a round is refused that a quantum computer could open later "
            "(default: any).",
            show_default=False,
            rich_help_panel=_TRUST,
        ),
    ] = None
    gamma: Annotated[
        float,
        typer.Option(
            help="Share of the clients that the round must withstand when they collude with the server.",
            rich_help_panel=_TRUST,
        ),
    ] = 0.2
    min_clip: Annotated[
        float | None,
        typer.Option(
            help="Smallest --clip of the server to accept. Values beyond the server's --clip are clipped, so that "
            "little is left of your file if it is too small (default: any).",
            show_default=False,
            rich_help_panel=_TRUST,
        ),
    ] = None
    max_clip: Annotated[
        float | None,
        typer.Option(
            help="Largest --clip of the server to accept. The larger it is, the more coarsely values are rounded "
            "(default: any).",
            show_default=False,
            rich_help_panel=_TRUST,
        ),
    ] = None
    min_bits: Annotated[int, typer.Option(help="Smallest --bits of the server to accept.", rich_help_panel=_TRUST)] = (
        FEWEST_BITS
    )
    max_bits: Annotated[int, typer.Option(help="Largest --bits of the server to accept.", rich_help_panel=_TRUST)] = (
        MOST_BITS
    )
    min_max_weight: Annotated[
        int | None,
        typer.Option(
            help="Smallest --max-weight of the server to accept. A weight of yours that is above the server's "
            "--max-weight is reduced to it (default: any).",
            show_default=False,
            rich_help_panel=_TRUST,
        ),
    ] = None
    max_max_weight: Annotated[
        int | None,
        typer.Option(
            help="Largest --max-weight of the server to accept. The larger it is, the less exact is the sum "
            "(default: any).",
            show_default=False,
            rich_help_panel=_TRUST,
        ),
    ] = None
    epsilon: Annotated[
        float | None,
        typer.Option(
            help="Largest epsilon to accept, over all the rounds that the server announces. A round that costs more, "
            "or that is not private, is refused before anything is sent. This client works the number out itself "
            "(default: rounds with and without noise are accepted).",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None
    delta: Annotated[
        float | None,
        typer.Option(
            help="Probability with which the promise of --epsilon may fail, such as 1e-6.",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None
    private: Annotated[
        bool,
        typer.Option("--private", help="Refuse rounds without noise, whatever the noise is.", rich_help_panel=PANEL),
    ] = False
    min_noise: Annotated[
        float | None,
        typer.Option(
            help="Smallest noise in the sum to accept, as a multiple of the clip. It needs no further package, and "
            "--epsilon does.",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None
    max_levels: Annotated[
        int,
        typer.Option(
            help="Largest --levels of the server to accept; 0 keeps all noise in the sum, however few are lost.",
            rich_help_panel=PANEL,
        ),
    ] = MOST_LEVELS
    budget: BudgetFile = None
    ledger: LedgerFile = None
    min_difference: MinDifference = None
    chain: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File that keeps what this client knows of its cohorts' chains; it is made if it is not there. Rounds "
            "that are not chained, or that hide what became of the last one, are refused (default: none is kept).",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None
    server: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.pub",
            help="Public half of the server's identity, which signs the certificates of --chain.",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None
    receipts: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Directory that gets, with the total, the certificate of the round and this member's receipt for the "
            "total, which secagg audit --receipts reads; it is made if it is not there. It belongs to --chain "
            "(default: neither is written).",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="PEM file of trusted CA certificates (default: the system's).",
            show_default=False,
            rich_help_panel=_NETWORK,
        ),
    ] = None
    insecure_plaintext: Annotated[
        bool,
        typer.Option(
            help="Allow a URL that begins with ws://, which has no TLS, to a server on this machine.",
            rich_help_panel=_NETWORK,
        ),
    ] = False
    give_up_after: Annotated[
        float,
        typer.Option(
            help="Number of seconds that the round may go without progress, beyond the server's deadlines, before "
            "this client stops. Its state is kept, so that the same command goes on later.",
            rich_help_panel=_NETWORK,
        ),
    ] = 600.0
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File that a restart goes on from; its name ends with .state (default: "
            "IDENTITY.HOST-PORT.ROUND.state, or INPUT.HOST-PORT.ROUND.state without an identity).",
            show_default=False,
        ),
    ] = None
    log_format: LogFormat = LogFormatName.PAIRS
    as_json: AsJson = False

    @property
    def own_file(self) -> Path:
        """The file of ``--input``.  Raises ParameterError without one."""
        if self.inputs is None:
            raise ParameterError("--input is missing: give the file with this client's arrays, or --judge for a ballot")
        return self.inputs

    def check_values(self) -> None:
        """Raises ParameterError for a number that no client can use, and for an option that another one needs."""
        check_ledger(self.ledger, self.min_difference, self.directory)
        if self.judge is not None:
            check_no_others(self, "--judge", "it votes on a candidate, and brings no file", _NOT_OF_A_BALLOT)
        elif self.max_candidate is not None:
            raise ParameterError(
                f"--max-candidate {self.max_candidate}: it bounds the candidate of a ballot; give --judge"
            )
        check_range("--max-candidate", self.max_candidate, 1)
        if (self.chain is None) != (self.server is None) or (self.chain is not None and self.directory is None):
            raise ParameterError(
                "--chain, --server and --directory go together: a chain is that of a cohort's rounds, signed by a "
                "server whose key this client knows"
            )
        if self.receipts is not None and self.chain is None:
            raise ParameterError("--receipts: a receipt is for a total of a chained round; give --chain, and --server")
        check_range("--weight", self.weight, 1, LARGEST_WEIGHT)
        check_range("--min-survivors", self.min_survivors, 2)
        check_range("--max-groups", self.max_groups, 1)
        check_range("--min-bits", self.min_bits, FEWEST_BITS, MOST_BITS)
        check_range("--max-bits", self.max_bits, FEWEST_BITS, MOST_BITS)
        check_range("--min-max-weight", self.min_max_weight, 1, LARGEST_WEIGHT)
        check_range("--max-max-weight", self.max_max_weight, 1, LARGEST_WEIGHT)
        check_range("--max-levels", self.max_levels, 0, MOST_LEVELS)
        check_range("--give-up-after", self.give_up_after, 1, 1e9)
        if (self.epsilon is None) != (self.delta is None):
            given, missing = ("--epsilon", "--delta") if self.delta is None else ("--delta", "--epsilon")
            raise ParameterError(
                f"{missing} is missing: an epsilon says nothing without its delta; give it with {given}"
            )
        if self.epsilon is not None:
            need_extra()
        if self.refuse_clipped and self.layout is None:
            raise ParameterError("--refuse-clipped: give the --layout that says what is clipped")

    def layout_policy(self) -> LayoutPolicy:
        """The bounds that are given; the others are the library's.  Raises ParameterError for bounds without room."""
        bounds: dict[str, Any] = {
            "min_clip": self.min_clip,
            "max_clip": self.max_clip,
            "min_bits": self.min_bits,
            "max_bits": self.max_bits,
            "min_max_weight": self.min_max_weight,
            "max_max_weight": self.max_max_weight,
            "private": self.private,
            "max_epsilon": self.epsilon,
            "max_delta": self.delta,
            "min_noise_multiplier": self.min_noise,
            "max_levels": self.max_levels,
        }
        given = {name: value for name, value in bounds.items() if value is not None}
        for name in ("clip", "bits", "max_weight"):
            low, high = given.get(f"min_{name}"), given.get(f"max_{name}")
            if low is not None and high is not None and not low <= high:
                option = name.replace("_", "-")
                raise ParameterError(f"--min-{option} {low:g}, --max-{option} {high:g}: this allows nothing")
        try:
            return LayoutPolicy(**given)
        except ParameterError as wrong:
            raise ParameterError(f"{_in_options(str(wrong))}") from None


def _in_options(refused: str) -> str:
    """What ``LayoutPolicy`` says, with the options' names for its own."""
    names = {"max_epsilon": "--epsilon", "max_delta": "--delta", "min_noise_multiplier": "--min-noise"}
    for name, option in names.items():
        if name in refused:
            return refused.replace("a layout policy with ", "").replace(name, option)
    return f"--min-clip, --max-clip: {refused}"
