"""The client's side: what answers the phases of a round, and the filters around the training task.

The executor answers the task ``secagg``.  The training task reaches the job's own executor: one filter takes the
protocol's message out of it on the way in, and one puts the masked vector in place of the result on the way out, so
that neither arrays nor metrics leave the site.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np
from nvflare.apis.dxo import DataKind, MetaKey, from_shareable
from nvflare.apis.executor import Executor
from nvflare.apis.filter import ContentBlockedException, Filter
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from nvflare.apis.signal import Signal

from secagg.adapters.membership import Answer, LeavesError, RefusedMessageError
from secagg.adapters.nvflare.announcement import (
    Announcement,
    Arrays,
    arrays_of,
    digest_of_model,
    digest_of_told,
    drop_what_has_no_digest,
    dxo_of,
)
from secagg.adapters.nvflare.codec import Codec
from secagg.adapters.nvflare.payload import KEY, TASK, ToServer, ToSite, for_server, for_site, in_shareable, log
from secagg.adapters.nvflare.site import WEIGHT, Folders, Site
from secagg.adapters.own_numbers import number_in, weight_in_steps
from secagg.errors import InputError, ParameterError
from secagg.pairwise.config import RoundConfig
from secagg.privacy.hosting import Submitted

_TASK_STATE: Final = "secagg.task"
"""The property of a task's context: where the filters of one task find what the others did."""
_TRAIN: Final = "train"
_WHERE: Final = "the script's result"


@final
@dataclass(slots=True)
class _Training:
    """A training task between the filter on the way in and the one on the way out.

    Attributes:
        message: the protocol's message that came with it.
        model: the arrays that the site trains from.
        answered: whether the result has been replaced already: a site's own filters and a job's may both be there.
    """

    message: bytes = field(repr=False)
    model: Arrays = field(repr=False)
    answered: bool = False


@final
class SecAggExecutor(Executor):
    """Answers the task ``secagg``: every phase of a round but the one in which the site trains.

    A site decides whether to join before it trains, from what the server has announced and from its own
    ``local/secagg.json``.
    """

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Answer one phase.

        Raises OSError, ParameterError or SiteFileError for files of the site's that cannot be used: NVFlare answers the
        server with an error code then, and the text stays in the site's own log.
        """
        if task_name != TASK:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        with _site_of(fl_ctx) as site:
            try:
                answer = _answer(site, for_site(shareable))
            except RefusedMessageError as refusal:
                log.error("secagg: %s", refusal)
                return in_shareable(ToServer(refused=str(refusal)))
        return in_shareable(ToServer(answer.message, answer.index))


@final
class SecAggDataFilter(Filter):
    """On the way in: takes the protocol's message out of a training task, and stops one that is not as announced.

    Give it to a job's training task, or to all tasks of a site (``local/privacy.json``): it then also stops whatever
    would leave the site in clear.
    """

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """The task as the job's own executor takes it.

        Raises ContentBlockedException for a task that this site does not carry out; NVFlare tells the server so, and
        the reason stays in the site's own log.  Raises OSError, ParameterError or SiteFileError for the site's files.
        """
        name = _task_name(fl_ctx)
        if isinstance(fl_ctx.get_prop(_TASK_STATE), _Training):
            return shareable
        payload = for_site(shareable)
        if name == TASK:
            if payload is None:
                raise _blocked(f"a task {TASK!r} without a message of this protocol")
            for key in shareable.keys() - {ReservedHeaderKey.HEADERS, KEY}:
                del shareable[key]
            return shareable
        with _site_of(fl_ctx) as site:
            if payload is None:
                if name == _TRAIN or not site.may_evaluate:
                    raise _blocked(
                        f"a task {name!r} without secure aggregation: this site sends no plain update, and no metrics "
                        "in clear unless local/secagg.json has evaluate"
                    )
                return shareable
            announcement = site.memory.announcement()
            if announcement is None:
                raise _blocked("a training task of a round that this site is not in: it is over, or its file is gone")
            announced, _ = site.part(announcement)
        try:
            model = arrays_of(dxo_of(shareable).data)
            told = digest_of_told(shareable, name)
        except InputError as wrong:
            raise _blocked(f"the server's model cannot be summed: {wrong}") from None
        if (digest_of_model(model), told) != (announced.model, announced.told):
            raise _blocked("the model, or what came beside it, is not what this round was announced for")
        drop_what_has_no_digest(shareable)
        # Scripts may train in place, and the change is against what was sent.
        kept = {name: values.copy() for name, values in model.items()}
        fl_ctx.set_prop(_TASK_STATE, _Training(payload.message, kept), private=True, sticky=False)
        return shareable


@final
class SecAggResultFilter(Filter):
    """On the way out: the masked vector in place of what the training script returned."""

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """What leaves the site.

        Raises ContentBlockedException for a result that must not leave; NVFlare tells the server so, and the reason
        stays in the site's own log.  Raises OSError, ParameterError or SiteFileError for the site's files.
        """
        if (code := shareable.get_return_code()) != ReturnCode.OK and _task_name(fl_ctx) != _TRAIN:
            return make_reply(code)  # an error, and nothing that came with it
        if _task_name(fl_ctx) == TASK:
            answer_of_phase = for_server(shareable)
            if answer_of_phase is None:
                raise _blocked(f"a task {TASK!r} that another executor than SecAggExecutor has answered")
            return in_shareable(answer_of_phase)
        training = fl_ctx.get_prop(_TASK_STATE)
        with _site_of(fl_ctx) as site:
            if not isinstance(training, _Training):
                if _task_name(fl_ctx) != _TRAIN and site.may_evaluate and _holds_metrics_alone(shareable):
                    return shareable
                raise _blocked("a result without secure aggregation: this site sends no plain update")
            if training.answered:
                return shareable
            suspended = site.memory.take()
            if suspended is None:
                raise _blocked("the result of a round that this site is not in any more")
            announced, part = site.part(suspended.announcement)

            def train(config: RoundConfig) -> Submitted:
                return _vector(announced, training.model, shareable, config)

            try:
                answer = part.go_on(suspended.state, training.message, train)
            except RefusedMessageError as refusal:
                log.error("secagg: %s", refusal)
                return in_shareable(ToServer(refused=str(refusal)))
        training.answered = True
        return in_shareable(ToServer(answer.message))


def _answer(site: Site, payload: ToSite | None) -> Answer:
    """Of a phase in which nothing is trained.  Raises RefusedMessageError."""
    if payload is None:
        raise RefusedMessageError("a task of secure aggregation without its message: the versions must be the same")
    suspended = site.memory.take()  # with an invitation, what the server gave up
    if payload.invitation:
        return site.part(payload.announcement)[1].join(payload.invitation, payload.index)
    if suspended is None:
        raise RefusedMessageError("a message of a round that this site is not in: it is over, or its file is gone")
    return site.part(suspended.announcement)[1].go_on(suspended.state, payload.message, _no_training)


def _no_training(config: RoundConfig) -> Submitted:
    raise LeavesError("the server asks for the vector in a task that trains nothing")


def _vector(announced: Announcement, model: Arrays, result: Shareable, config: RoundConfig) -> Submitted:
    """The script's result as the vector of a round.

    Raises LeavesError for a script that failed or whose result cannot be summed, which is the one thing about a site's
    data that shows.
    """
    if (code := result.get_return_code()) != ReturnCode.OK:
        raise LeavesError(f"the job's own executor answered {code}")
    try:
        codec = Codec(model, announced)
        codec.bind(config)
    except (ParameterError, InputError) as wrong:
        raise LeavesError(f"the server's model or layout cannot be encoded: {wrong}") from None
    try:
        dxo, terms = dxo_of(result), announced.terms
        changes, numbers = dxo.data_kind == DataKind.WEIGHT_DIFF, _numbers(dxo.meta)
        weight = 1 if terms.max_weight is None else _weight(numbers)
        metrics = {name: number_in(numbers, name, _WHERE) for name in terms.metrics}
        return Submitted(codec.encode(arrays_of(dxo.data), weight, metrics, changes=changes), None)
    except InputError as unfit:
        raise LeavesError(unfit) from None


def _weight(numbers: Mapping[str, object]) -> int:
    """The weight; 1 where it is not given, as in NVFlare."""
    if numbers.get(WEIGHT) is None:
        log.warning("secagg: the script's FLModel has no meta %r: this site's update has the weight 1", WEIGHT)
        return 1
    value = number_in(numbers, WEIGHT, _WHERE)
    weight = weight_in_steps(value)
    if weight != value:
        log.warning("secagg: %r is %r; a weight is a whole number from 0 up: %d counts", WEIGHT, value, weight)
    if weight == 0:
        log.warning("secagg: this site has weight 0, so that its update adds nothing; without data, do not join")
    return weight


def _numbers(meta: Mapping[str, Any]) -> dict[str, object]:
    """The numbers beside a result by name: its meta, and its metrics."""
    numbers = dict(meta)
    metrics = numbers.get(MetaKey.INITIAL_METRICS)
    if isinstance(metrics, Mapping):
        numbers |= metrics
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in numbers.items()}


def _holds_metrics_alone(shareable: Shareable) -> bool:
    """Whether a result has no arrays, as the answer to a task of evaluation has none."""
    try:
        return bool(from_shareable(shareable).data_kind == DataKind.METRICS) and _is_plain(shareable)
    except (ValueError, TypeError, KeyError, AssertionError):
        return False


def _is_plain(value: object) -> bool:
    """Whether it is a number or a text, or made of such."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | np.number)


@contextmanager
def _site_of(fl_ctx: FLContext) -> Iterator[Site]:
    with ExitStack() as cleanup:
        yield Site(Folders.of(fl_ctx), cleanup)


def _task_name(fl_ctx: FLContext) -> str:
    return str(fl_ctx.get_prop(FLContextKey.TASK_NAME))


def _blocked(reason: str) -> ContentBlockedException:
    log.error("secagg: %s", reason)
    return ContentBlockedException(reason)
