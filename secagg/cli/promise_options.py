"""``--epsilon`` and what belongs to it, for ``plan``, ``simulate`` and ``serve``: what is promised to whom.

Without ``--epsilon``, ``--delta`` is the share of the clients that may drop out, as it has been from the first.  With
it, ``--delta`` is the other number of the promise, as everywhere in differential privacy, and the share has the name
``--max-dropout``, which is understood in both cases.  A delta that can only have been meant as a share is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol, TypeAlias, final

import typer

from secagg.cli.extras import advice
from secagg.errors import ParameterError
from secagg.privacy.ask import Privacy
from secagg.privacy.parameters import NoiseKind

PLAIN_BITS: Final = 16
"""Of an encoded value, where a round is not private."""
DEFAULT_EPSILON: Final = 6.0
DEFAULT_DELTA: Final = 1e-6
DEFAULT_CLIP: Final = 1.0
PANEL: Final = "Privacy of the sum"


def delta_option(default_share: str) -> Any:
    """What Typer is told of ``--delta``; ``default_share`` says which share may drop out without it."""
    return typer.Option(
        help="Largest share of the clients that may drop out. With --epsilon it is something else: the probability "
        "with which the promise may fail, below one over the number of clients, and --max-dropout is the share of "
        f"clients (default of the share: {default_share}).",
        show_default=False,
    )


MaxDropout: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Largest share of the clients that may drop out: --delta by a name that stays the same with --epsilon.",
        show_default=False,
    ),
]
Private: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--private",
        help="Make the round private: everybody adds a share of noise, which nobody can take off the sum. Without "
        f"--epsilon, the promise is epsilon {DEFAULT_EPSILON:g} at delta {DEFAULT_DELTA:g}.",
        rich_help_panel=PANEL,
    ),
]
Epsilon: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Make the round private: all sums together tell about one client at most this much (default: the round "
        "is not private).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
PrivateRounds: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--rounds",
        help="Number of sums that one client may be in, over which the promise of --epsilon holds (default: 1).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Noise: TypeAlias = Annotated[
    NoiseKind | None,
    typer.Option(
        help="Distribution of the noise of a private round (default: skellam).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Levels: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Number of levels, up to 64, in which clients add the noise of a private round. The noise that the lost "
        "clients do not ask for is then taken off the sum, by keys that the others reveal. In semi_honest this trusts "
        "the server to say truly who survived (default: no levels, so that all noise stays).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
RoundBits: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--bits",
        help="Number of bits of one encoded value, from which the ring of the sum follows. In a private round it is "
        f"the number of bits of the ring itself (default: {PLAIN_BITS}; in a private round, the fewest whose noise is "
        "within 1% of what a trusted server would add).",
        show_default=False,
    ),
]


class _OfCommand(Protocol):
    """The options of privacy that ``plan``, ``simulate`` and ``serve`` have under the same names."""

    @property
    def epsilon(self) -> float | None: ...
    @property
    def delta(self) -> float | None: ...
    @property
    def max_dropout(self) -> float | None: ...
    @property
    def noise(self) -> NoiseKind | None: ...
    @property
    def bits(self) -> int | None: ...
    @property
    def levels(self) -> int | None: ...


@final
@dataclass(frozen=True, kw_only=True)
class PrivacyOptions:
    """The options as they were given, whether the round is private or not; None for one that was not given.

    Attributes:
        private, epsilon, delta, max_dropout, rounds, noise, bits, levels: see the options.
        clip: the L2 norm that a private update is shortened to.
    """

    private: bool = False
    epsilon: float | None
    delta: float | None
    max_dropout: float | None
    rounds: int | None
    noise: NoiseKind | None
    bits: int | None
    clip: float | None
    levels: int | None

    @classmethod
    def of(
        cls, options: _OfCommand, *, rounds: int | None, clip: float | None, private: bool = False
    ) -> PrivacyOptions:
        """Those of a command; ``rounds``, ``clip`` and ``private`` have other names or forms in some of them."""
        return cls(
            private=private,
            epsilon=options.epsilon,
            delta=options.delta,
            max_dropout=options.max_dropout,
            rounds=rounds,
            noise=options.noise,
            bits=options.bits,
            clip=clip,
            levels=options.levels,
        )

    @property
    def is_private(self) -> bool:
        """Whether a promise is asked for."""
        return self.private or self.epsilon is not None

    @property
    def most_lost(self) -> float | None:
        """The largest share of the clients that may drop out; None where no option says so.

        Raises ParameterError when two do.
        """
        if self.is_private or self.delta is None:
            return self.max_dropout
        if self.max_dropout is not None:
            raise ParameterError(
                f"--delta {self.delta:g} and --max-dropout {self.max_dropout:g}: without --epsilon, both are the share "
                "of the clients that may drop out; give one of them, or give --epsilon"
            )
        return self.delta

    def ask(self, clients: int) -> Privacy | None:
        """What is promised to each of so many clients; None where the round is not private.

        Raises ParameterError for options that have no meaning without ``--epsilon``, for values out of range, and for
        a delta that can only have been meant as a share of the clients.
        """
        if not self.is_private:
            for option, value in (
                ("--rounds", self.rounds),
                ("--noise", self.noise),
                ("--clip", self.clip),
                ("--levels", self.levels),
            ):
                if value is not None:
                    raise ParameterError(f"{option} {value}: it belongs to private rounds; give --epsilon with it")
            return None
        if self.epsilon is not None and self.delta is None:
            raise ParameterError(
                "--delta is missing: an epsilon says nothing without the probability with which it may fail; give "
                "--delta 1e-6, say, well below one over the number of all clients"
            )
        delta = DEFAULT_DELTA if self.delta is None else self.delta
        if not delta * clients < 1:
            raise ParameterError(
                f"--delta {delta:g}: in a private round it is the probability with which the promise may fail, so that "
                f"it must be below 1/{clients}, one over the number of clients; the share of the clients that "
                "may drop out is --max-dropout"
            )
        return Privacy(
            epsilon=DEFAULT_EPSILON if self.epsilon is None else self.epsilon,
            delta=delta,
            rounds=1 if self.rounds is None else self.rounds,
            clip=DEFAULT_CLIP if self.clip is None else self.clip,
            noise=NoiseKind.SKELLAM if self.noise is None else self.noise,
            bits=self.bits,
            levels=0 if self.levels is None else self.levels,
        )


def need_extra() -> None:
    """Raises ParameterError, which says what to install, without the extra ``privacy``."""
    try:
        import secagg.privacy.accounting  # noqa: F401
    except ModuleNotFoundError as missing:
        raise ParameterError(advice(missing, "privacy")) from None
