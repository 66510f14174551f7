"""A private training, on the server: what each round promises, what it reached, the budget, and the clip that moves."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, final

import msgspec
from flwr.app import ArrayRecord

from secagg.adapters.flower.announcement import UpdateTerms, described
from secagg.adapters.flower.array_values import is_float
from secagg.adapters.flower.codec import MeanUpdate
from secagg.adapters.flower.records import log
from secagg.encoding import Template
from secagg.errors import InputError, ParameterError
from secagg.pairwise.config import RoundConfig
from secagg.privacy.adaptive_clipping import ClipState
from secagg.privacy.ask import Privacy
from secagg.privacy.budget_errors import BudgetFileError
from secagg.privacy.encoder import PrivateEncoder
from secagg.privacy.private_mean import LIKELY_SHARE, PrivateMean
from secagg.privacy.terms import PrivacyTerms

if TYPE_CHECKING:
    from secagg.privacy.budget import Budget
    from secagg.privacy.report import PrivacyReport

_LISTED: Final = 4
"""Arrays named in one line of the log."""


@final
class PrivateTraining:
    """What ``SecAggStrategy(privacy=...)`` carries from round to round.

    Attributes:
        clip_state: where an adaptive clip stands; None for a clip that stays.
    """

    def __init__(self, privacy: Privacy) -> None:
        """Raises ModuleNotFoundError without the extra ``privacy``, and what ``Budget`` raises."""
        import_module("secagg.privacy.calibration")
        self._privacy = privacy
        self.clip_state = privacy.first_clip()
        self._budget: Budget | None = None
        if privacy.budget is not None:
            from secagg.privacy.budget import Budget

            self._budget = Budget(privacy.budget, epsilon=privacy.epsilon, delta=privacy.delta)
        self._told = False

    def terms_for(self, model: ArrayRecord, terms: UpdateTerms, cohort: RoundConfig) -> UpdateTerms:
        """The terms of this round: calibrated for the fewest honest clients of its cohort.

        Raises InfeasibleError when no noise keeps the promise; it names what would do.  Raises InputError for a model
        without any float.
        """
        part = [one for one in described(model) if one[0] not in (terms.left_out or ())]
        shapes = {name: shape for name, dtype, shape in part if is_float(dtype)}
        if not shapes:
            raise InputError(
                f"the model has no array of floats (it has {', '.join(model) or 'no array'}): in a private round those "
                "alone are summed; give counts as floats if they are to be part of the one clip"
            )
        coordinates = PrivateEncoder.coordinates(Template.from_shapes(shapes), terms.max_weight)
        privacy = self._privacy.terms(coordinates, cohort, state=self.clip_state)
        self._tell(privacy, [name for name, *_ in part if name not in shapes])
        return msgspec.structs.replace(terms, clip=privacy.update_clip, bits=privacy.bits, privacy=privacy)

    def charge(self, invitation: bytes, terms: PrivacyTerms) -> None:
        """Before the invitation leaves.  Raises BudgetExceededError, BudgetFileError: nobody is invited then."""
        if self._budget is not None:
            self._budget.charge(hashlib.sha256(invitation).digest(), terms.sum)

    def give_back(self, invitation: bytes) -> None:
        """The round has ended without a sum.  What the file cannot take stays charged, and is logged."""
        if self._budget is None:
            return
        try:
            self._budget.give_back(hashlib.sha256(invitation).digest())
        except BudgetFileError as failure:
            log.warning("secagg: the round stays charged: %s", failure)

    def learn(self, mean: MeanUpdate, terms: PrivacyTerms) -> None:
        """Move an adaptive clip by what the sum says."""
        if terms.adaptive is None or self.clip_state is None or mean.indicator is None:
            return
        before = self.clip_state
        self.clip_state = terms.adaptive.rule.next_state(before, mean.indicator, mean.contributors)
        log.info(
            "secagg: a share of about %.2f of the norms was within the clip of %.4g; the next clip is %.4g",
            self.clip_state.within,
            before.clip,
            self.clip_state.clip,
        )

    def _tell(self, terms: PrivacyTerms, whole: list[str]) -> None:
        if self._told:
            return
        self._told = True
        promise = terms.promise()
        log.info(
            "secagg: private: epsilon %.4g at delta %g over %d rounds, at the client level, with %d honest clients or "
            "more in each sum; noise of %.4g times the clip of %.4g (L2 norm of a whole update); modulus 2^%d",
            promise.epsilon_to_server,
            terms.delta,
            terms.rounds,
            terms.honest,
            terms.noise_multiplier,
            terms.update_clip,
            terms.bits,
        )
        if terms.levels:
            log.info(
                "secagg: the noise is in %d levels: what the losses do not ask for is taken off again, which in "
                "semi_honest trusts the server to say truly who survived",
                terms.levels,
            )
        if whole:
            listed = ", ".join(map(repr, whole[:_LISTED])) + (", ..." if len(whole) > _LISTED else "")
            log.warning(
                "secagg: arrays of whole numbers are not summed in a private round, and stay as the server has them: "
                "%s; give a count as a float if it is to be part of the one clip",
                listed,
            )


def checked_privacy(privacy: Privacy, given: Mapping[str, object]) -> Privacy:
    """``privacy``, beside options of the strategy that are None where they were not given.

    Raises ParameterError for one that a private round has no use for.
    """
    reasons = {
        "clip": "the clip of a private round is the norm of a whole update: Privacy(clip=...)",
        "bits": "the bits of a private round are those of its modulus: Privacy(bits=...)",
        "clips": "a private round has one clip for all arrays, the norm of a whole update",
        "array_bits": "a private round has one number of bits for all arrays",
        "class_weights": "what is summed beside the update would take its part of the clip from it",
        "weight_scale": "the weights of a private round are whole numbers: scale them in the app",
        "metrics": "what is summed beside the update would take its part of the clip from it; measure on data of the "
        "server's own, or in rounds of their own with a budget of their own",
    }
    if not isinstance(privacy, Privacy):
        raise ParameterError(f"privacy is {privacy!r}: give secagg.privacy.Privacy(epsilon=..., delta=..., clip=...)")
    for name, reason in reasons.items():
        if given[name]:
            raise ParameterError(f"{name} is {given[name]!r}, with privacy: {reason}; leave it out")
    if privacy.adaptive is not None and given["max_weight"] is not None:
        raise ParameterError(
            f"max_weight is {given['max_weight']!r}, and the clip is adaptive: how many norms are within the clip "
            "cannot be counted in a weighted sum; leave max_weight out"
        )
    return privacy


def figures_of(report: PrivacyReport, mean: PrivateMean, state: ClipState | None) -> dict[str, Any]:
    """What a ``RoundReport`` has of a private round."""
    return {"privacy": report, "noise": mean.noise, "error_bound": math.inf, "clip_state": state}


def log_report(report: PrivacyReport) -> None:
    """In the server's log: what was reached, and what went wrong."""
    for line in report.explain().splitlines():
        log.info("secagg: %s", line)
    if report.wrapped_share is not None and report.wrapped_share > LIKELY_SHARE:
        log.warning(
            "secagg: a share of %.2g of the sum has probably wrapped around the modulus, so that the mean is of no "
            "use: ask for more bits, Privacy(bits=...)",
            report.wrapped_share,
        )
