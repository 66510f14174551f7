"""A private round that a command agrees on: calibrated for its cohort, and what was asked for beside what it costs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from rich.console import Console
from rich.markup import escape

from secagg.cli.output import fact_table, print_json, size
from secagg.cli.promise_options import need_extra
from secagg.encoding import Template
from secagg.pairwise.config import RoundConfig
from secagg.privacy import Privacy, PrivateEncoder
from secagg.privacy.cohort import private_cohort
from secagg.privacy.removal import NoiseLevels, noise_left
from secagg.wording import counted

if TYPE_CHECKING:
    from secagg.privacy.calibration import Calibration
    from secagg.privacy.report import PrivacyReport

_SHARES_LOST: Final = (0.0, 0.1, 0.3)
_LISTED: Final = 8
"""Levels in a row of the table."""


@final
@dataclass(frozen=True, kw_only=True)
class PrivateRound:
    """What everybody in the round agrees on.

    Attributes:
        ask: what was asked for.
        calibration: what keeps it.
        encoder: of no round yet; see ``PrivateEncoder.for_round``.
        config: of the round.
    """

    ask: Privacy
    calibration: Calibration
    encoder: PrivateEncoder
    config: RoundConfig

    def report(self, contributors: int, wrapped_share: float | None = None) -> PrivacyReport:
        """What a sum of so many clients keeps; see ``report_of``."""
        from secagg.privacy.report import report_of

        return report_of(
            self.calibration.promise,
            contributors=contributors,
            colluders=self.config.colluders,
            remaining=noise_left(self.calibration.mechanism, self.config, self.ask.levels, contributors),
            wrapped_share=wrapped_share,
        )


def private_round(
    ask: Privacy, template: Template, cohort: RoundConfig, randomness: Callable[[int], bytes] = os.urandom
) -> PrivateRound:
    """The private round of a cohort.

    Args:
        ask: what to promise.
        template: the layout of an update.
        cohort: a config for the same clients; its length, modulus, input_max and context are replaced.
        randomness: of the noise; see ``PrivateEncoder``.

    Raises ParameterError, also without the extra ``privacy``, and InfeasibleError as ``Privacy.terms`` does.
    """
    cohort = private_cohort(cohort)
    need_extra()
    calibration = ask.calibrated(PrivateEncoder.coordinates(template), cohort)
    encoder = PrivateEncoder(template, calibration.mechanism, levels=ask.levels, randomness=randomness)
    config = cohort.replace(
        length=encoder.length,
        modulus=encoder.modulus_for(cohort.clients),
        input_max=encoder.input_max,
        context=encoder.layout_digest(),
        version=max(cohort.version, encoder.wire_version),
        attachment_bytes=encoder.attachment_bytes,
    )
    return PrivateRound(ask=ask, calibration=calibration, encoder=encoder, config=config)


def privacy_facts(planned: PrivateRound, plain: RoundConfig) -> dict[str, Any]:
    """The calibration for ``--json``; ``plain`` is the config of the same round without noise."""
    promise, mechanism, config = planned.calibration.promise, planned.calibration.mechanism, planned.config
    return {
        "asked_epsilon": planned.ask.epsilon,
        "promised_epsilon": promise.epsilon,
        "epsilon_to_server": promise.epsilon_to_server,
        "delta": promise.delta,
        "rounds": promise.rounds,
        "noise": mechanism.noise.value,
        "clip": mechanism.clip,
        "honest": promise.honest,
        "min_survivors": config.min_survivors,
        "bits": mechanism.bits,
        "step": 1 / float(mechanism.scale),
        "steps_in_clip": float(mechanism.scale) * mechanism.clip,
        "client_sigma": math.sqrt(mechanism.variance) / float(mechanism.scale),
        "client_sigma_steps": math.sqrt(mechanism.variance),
        "sum_sigma": promise.sigma,
        "noise_multiplier": promise.noise_multiplier,
        "central_multiplier": planned.calibration.central_multiplier,
        "excess": planned.calibration.excess,
        "wrapped_share": planned.calibration.wrapped_share,
        "padded_length": config.length,
        "vector_bytes": config.modulus.packed_bytes(config.length),
        "plain_vector_bytes": plain.modulus.packed_bytes(plain.length),
        "levels": _levels_of(planned),
        "lost": [_after_losses(planned, share) for share in _SHARES_LOST],
    }


def show_privacy(found: dict[str, Any], plain: RoundConfig, console: Console) -> None:
    """Print the same for a person."""
    rows = fact_table("What is promised to each client")
    rows.add_row(
        "promise",
        f"epsilon {found['promised_epsilon']:.4g} (asked: {found['asked_epsilon']:g}) at delta {found['delta']:g}, "
        f"over {counted(found['rounds'], 'round')}, at the client level",
    )
    rows.add_row("delta", "is the probability with which the promise may fail; the share of dropouts is --max-dropout")
    rows.add_row("to the server", f"epsilon {found['epsilon_to_server']:.4g}: it sees who takes part in which round")
    rows.add_row(
        "sized for",
        f"{counted(found['honest'], 'honest client')}: a sum has at least {found['min_survivors']:,}, of which all "
        "that may collude are taken off",
    )
    if found["levels"] is not None:
        rows.add_row("levels", _removed(found["levels"], found["padded_length"]))
    for loss in found["lost"]:
        rows.add_row(f"{loss['share']:.0%} lost", _reached(loss, found["min_survivors"]))
    console.print(rows)
    rows = fact_table("What keeps it")
    rows.add_row(
        "noise of a client",
        f"{escape(found['noise'])}, standard deviation {found['client_sigma']:.4g} on each value "
        f"({found['client_sigma_steps']:.4g} steps)",
    )
    rows.add_row(
        "noise of the sum",
        f"{found['sum_sigma']:.4g} for a clip of {found['clip']:g} (L2 norm of an update), that is "
        f"{found['noise_multiplier']:.4g} times the clip; a trusted server would add {found['central_multiplier']:.4g} "
        "times",
    )
    rows.add_row("error beside it", f"{found['excess']:+.2%} of variance beside the trusted server, with rounding")
    rows.add_row("steps", f"{found['steps_in_clip']:.4g} in the clip: one is {found['step']:.3g}")
    rows.add_row(
        "modulus",
        f"2^{found['bits']}: {counted(found['padded_length'], 'value')} after padding need "
        f"{size(found['vector_bytes'])}; without privacy, {plain.length:,} of {plain.modulus.bits} bits need "
        f"{size(found['plain_vector_bytes'])}",
    )
    rows.add_row("wrap-around", f"{found['wrapped_share']:.2g} of the values at most, if all clients agree")
    console.print(rows)


def _levels_of(planned: PrivateRound) -> dict[str, Any] | None:
    """Where the noise is in levels: for how many losses each is, and how many values of noise are drawn."""
    config, mechanism = planned.config, planned.calibration.mechanism
    if not planned.ask.levels:
        return None
    levels = NoiseLevels.of(mechanism, config, planned.ask.levels)
    return {
        "asked": planned.ask.levels,
        "losses": list(levels.losses),
        "client_draws": levels.client_draws(mechanism),
        "server_draws": levels.server_draws(mechanism, config.clients, config.clients),
    }


def _removed(levels: dict[str, Any], length: int) -> str:
    losses = [f"{lost:,}" for lost in levels["losses"]]
    shown = losses if len(losses) <= _LISTED else [*losses[: _LISTED - 1], "...", losses[-1]]
    return (
        f"for up to {', '.join(shown)} lost: the noise that these do not ask for is taken off the sum. A client draws "
        f"{counted(levels['client_draws'], 'value')} of noise in place of {length:,}, and the server at most "
        f"{levels['server_draws']:,}. In semi_honest this trusts the server to say truly who survived"
    )


def _after_losses(planned: PrivateRound, share: float) -> dict[str, Any]:
    """What a sum without this share of the clients keeps; no epsilon where it is never opened."""
    config = planned.config
    contributors = config.clients - math.floor(share * config.clients)
    opened = contributors >= config.min_survivors
    report = planned.report(contributors)
    return {
        "share": share,
        "contributors": contributors,
        "epsilon": report.reached_epsilon if opened else None,
        "sum_sigma": report.reached_sigma if opened else None,
    }


def _reached(loss: dict[str, Any], fewest: int) -> str:
    if loss["epsilon"] is None:
        return f"no sum: {counted(loss['contributors'], 'client')} are left, and it takes {fewest:,}"
    return (
        f"epsilon {loss['epsilon']:.4g} if all rounds are like that: {counted(loss['contributors'], 'client')} in the "
        f"sum, noise {loss['sum_sigma']:.4g}"
    )


@contextmanager
def infeasible_as_json(as_json: bool) -> Iterator[None]:
    """Print an object with what would do, where no noise keeps a promise; the error goes on either way.

    Raises ParameterError without the extra ``privacy``.
    """
    need_extra()
    from secagg.privacy.calibration import InfeasibleError

    try:
        yield
    except InfeasibleError as refused:
        if as_json:
            print_json(
                {
                    "infeasible": {
                        "reason": str(refused),
                        "smallest_bits": refused.smallest_bits,
                        "smallest_epsilon": refused.smallest_epsilon,
                        "largest_cohort": refused.largest_cohort,
                    }
                }
            )
        raise
