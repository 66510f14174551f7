"""NVFlare's FedAvg, with the sites' updates summed by the protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from nvflare.apis.fl_constant import FLContextKey, ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.app_common.workflows.model_controller import ModelController

from secagg.adapters.nvflare.announcement import Arrays
from secagg.adapters.nvflare.payload import log
from secagg.adapters.nvflare.rounds import RoundReport, SecureRounds, Settings
from secagg.adapters.nvflare.site import WEIGHT
from secagg.adapters.nvflare.tasks import Exchange
from secagg.encoding.libraries import Origin, origin_of, restored
from secagg.errors import ParameterError, SecAggError
from secagg.pairwise.values import as_threat_model

_MEAN: Final = "secagg-mean"
"""Stands where NVFlare names the client of a result."""
_DEFAULT_TIMEOUT_S: Final = 120.0


class RoundFailedError(SecAggError):
    """A round of secure aggregation gave no mean, and the job was not told to go on without one."""


class SecuredController(ModelController):
    """What a controller inherits first, so that its training rounds are secure: see ``SecAggFedAvg``.

        class SecAggFedOpt(SecuredController, FedOpt): ...

    It takes the place of the two calls by which NVFlare's controllers send a model and get results: the controller gets
    one result, the mean.  One that compares or weighs single results cannot be secured.  A controller of yours sets
    ``secagg_settings`` before it runs.

    Attributes:
        secagg_settings: how rounds are run.
        secured_task: the name of the training task; other tasks are sent as ever.
        failed_rounds: how many rounds may give no mean before the job ends; the model stays as it is in each.
        reports: by NVFlare's round, what became of it.
    """

    secagg_settings: Settings
    secured_task: str = AppConstants.TASK_TRAIN
    failed_rounds: int = 0
    reports: dict[int, RoundReport]
    _rounds: SecureRounds | None = None

    def send_model(
        self,
        task_name: str = AppConstants.TASK_TRAIN,
        data: FLModel = None,
        targets: list[str] | None = None,
        min_responses: int | None = None,
        timeout: int = 0,
        callback: Callable[[FLModel], Any] | None = None,
    ) -> None:
        """A secure round in place of a training task: it calls ``callback`` with the mean, and returns then.

        Arguments are NVFlare's.  ``min_responses`` does not count: how many sites a sum needs is one of the protocol's
        parameters (``round_options={"min_survivors": ...}``).  Raises RoundFailedError when there is no mean,
        JobAbortedError, and ParameterError or InputError for a model or settings that do not fit.
        """
        if task_name != self.secured_task:
            super().send_model(task_name, data, targets, min_responses, timeout, callback)
        elif callback is not None:
            callback(self._mean_of(data, task_name, targets, timeout))

    def send_model_and_wait(
        self,
        task_name: str = AppConstants.TASK_TRAIN,
        data: FLModel = None,
        targets: list[str] | None = None,
        min_responses: int | None = None,
        timeout: int = 0,
    ) -> list[FLModel]:
        """A secure round in place of a training task: the one result is the mean; see ``send_model``."""
        if task_name != self.secured_task:
            results: list[FLModel] = super().send_model_and_wait(task_name, data, targets, min_responses, timeout)
            return results
        return [self._mean_of(data, task_name, targets, timeout)]

    def _connected(self) -> list[str]:
        return [client.name for client in self.engine.get_clients()]

    def _mean_of(self, data: FLModel, task_name: str, targets: list[str] | None, timeout: int) -> FLModel:
        self.set_fl_context(data)
        if self._rounds is None:
            self._rounds = SecureRounds(self.secagg_settings, train_timeout=timeout or None)
            self.reports = {}
        number = int(data.current_round or 0)
        # A site that has been gone for a while would cost a phase's timeout in every round.
        sites = targets or self._connected()
        there = [site for site in sites if not self.get_client_disconnect_time(site)]
        mean, report = self._rounds.run(
            number,
            task_name,
            lambda: self._build_shareable(data),
            there,
            Exchange(self, self.fl_ctx, self.abort_signal),
            before_sent=self._prepare_task_data,
        )
        self.reports[number] = report
        if mean is None:
            return self._without_mean(data, report)
        log.info(
            "secagg: round %d: the mean of %d sites, %d of them with a weight; total weight %g; lost by phase: %s",
            number,
            len(report.included),
            report.contributors,
            report.total_weight,
            dict(report.dropped) or "nobody",
        )
        if report.clipped:
            log.warning(
                "secagg: round %d: %d values were clipped over all sites: raise clip or max_weight to keep them",
                number,
                report.clipped,
            )
        found = FLModel(
            params_type=ParamsType.FULL,
            params=_as_given(mean.arrays, data.params),
            metrics=dict(mean.metrics) or None,
            current_round=number,
            meta={WEIGHT: mean.weight, "client_name": _MEAN},
        )
        self._show(found)
        return found

    def _without_mean(self, data: FLModel, report: RoundReport) -> FLModel:
        """The model as it was, as often as that is allowed.  Raises RoundFailedError."""
        failed = sum(bool(one.failure) for one in self.reports.values())
        said = f"round {report.number} gives no mean: {report.failure}"
        log.error("secagg: %s", said)
        if failed > self.failed_rounds:
            raise RoundFailedError(f"{said}; failed_rounds={self.failed_rounds} allows no further round without one")
        return FLModel(
            params_type=ParamsType.FULL,
            params=data.params,
            current_round=data.current_round,
            meta={WEIGHT: 1.0, "client_name": _MEAN},
        )

    def _show(self, mean: FLModel) -> None:
        """Fire the events of a contribution, by which NVFlare's widgets choose the best model."""
        shareable = FLModelUtils.to_shareable(mean)
        shareable.add_cookie(AppConstants.CONTRIBUTION_ROUND, mean.current_round)
        peer = FLContext()
        peer.set_prop(FLContextKey.SHAREABLE, shareable, private=True)
        peer.set_prop(ReservedKey.IDENTITY_NAME, _MEAN, private=True)
        with self.engine.new_context() as fl_ctx:
            fl_ctx.set_peer_context(peer)
            fl_ctx.set_prop(AppConstants.CURRENT_ROUND, mean.current_round, private=True, sticky=True)
            fl_ctx.set_prop(AppConstants.TRAINING_RESULT, shareable, private=True, sticky=False)
            self.fire_event(AppEventType.BEFORE_CONTRIBUTION_ACCEPT, fl_ctx)
            fl_ctx.set_prop(AppConstants.AGGREGATION_ACCEPTED, True, private=True, sticky=False)
            self.fire_event(AppEventType.AFTER_CONTRIBUTION_ACCEPT, fl_ctx)


class SecAggFedAvg(SecuredController, FedAvg):
    """``FedAvg`` whose sites' updates are summed by the protocol: the server sees their weighted mean alone.

    ``secure`` makes one of the FedAvg in a recipe.  Its own sites answer with ``SecAggExecutor`` and the two filters.
    """

    def __init__(
        self,
        *args: Any,
        clip: float,
        max_weight: int | None,
        bits: int = 16,
        clips: dict[str, float] | None = None,
        array_bits: dict[str, int] | None = None,
        metrics: dict[str, float] | None = None,
        difference: bool = True,
        threat_model: str = "semi_honest",
        directory: str | None = None,
        timeout: float | None = _DEFAULT_TIMEOUT_S,
        train_timeout: float | None = None,
        failed_rounds: int = 0,
        round_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """FedAvg's own arguments, and these; all of them are plain values, since a job's config holds them.

        Args:
            clip: the largest change of a value that counts; larger ones are clipped.
            max_weight: the largest number of steps that counts (``NUM_STEPS_CURRENT_ROUND``); a larger one is clamped
                to it.  None weighs all sites alike.
            bits: of an encoded value; see ``Encoder``.
            clips: other clips for some arrays, by name or pattern.  Arrays of whole numbers that no pattern matches get
                a wide one: 2^24, or what their type holds when that is less.
            array_bits: other bits for some arrays, by name or pattern; 32 for arrays of whole numbers.
            metrics: the largest absolute value of each metric of training that is summed beside the model, by name.
                A site whose result lacks one leaves the round.
            difference: sum the change of the model; False sums the arrays themselves, which ``clip`` then bounds, and
                which sites refuse unless their own config has ``whole_model``.
            threat_model: "semi_honest" or "active".
            directory: ``active``: the file of the members' keys on the server's machine.  All members are in every
                round's cohort; whoever is not connected counts as lost.
            timeout: seconds to wait for a phase's answers; None waits for ever.
            train_timeout: the same for the phase in which sites train.
            failed_rounds: how many rounds may give no mean before the job ends; the model stays as it is in each.
            round_options: further arguments of ``RoundConfig.for_cohort``, by name: ``gamma``, ``delta``,
                ``min_survivors``, ``neighbours``, ``suite``, ...

        Raises ParameterError for arguments that cannot work, such as an aggregator of one's own, which needs each
        site's result.
        """
        super().__init__(*args, **kwargs)
        for name, given in (("aggregator", self.aggregator), ("aggregation_weights", self.aggregation_weights)):
            if given:
                raise ParameterError(f"{name}: it needs each site's own result, and secure aggregation gives the mean")
        if isinstance(failed_rounds, bool) or not isinstance(failed_rounds, int) or failed_rounds < 0:
            raise ParameterError(f"failed_rounds = {failed_rounds!r}: a whole number from 0 on")
        self.clip, self.max_weight, self.bits = clip, max_weight, bits
        self.clips, self.array_bits, self.metrics = clips, array_bits, metrics
        self.difference, self.threat_model, self.directory = difference, threat_model, directory
        self.timeout, self.train_timeout = timeout, train_timeout
        self.failed_rounds, self.round_options = failed_rounds, round_options
        self.secagg_settings = Settings(
            clip=clip,
            max_weight=max_weight,
            bits=bits,
            clips=clips or {},
            array_bits=array_bits or {},
            metrics=metrics or {},
            difference=difference,
            threat_model=as_threat_model(threat_model),
            directory=directory,
            timeout=timeout,
            train_timeout=train_timeout,
            round_options=round_options or {},
        )
        self.secured_task = self.task_name
        self.reports = {}


def _as_given(mean: Arrays, given: Mapping[str, Any]) -> dict[str, Any]:
    """The mean's arrays as tensors where the model has tensors: NVFlare's PyTorch persistor may take nothing else.

    The mean of whole numbers stays float64, whatever their tensor's type is.
    """
    found: dict[str, Any] = {}
    for name, values in mean.items():
        origin = origin_of(given[name])
        if origin is not None and values.dtype == np.float64:
            origin = Origin(origin.library, None)
        found[name] = values if origin is None else restored(values, origin)
    return found
