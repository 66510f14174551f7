"""What the wrapped strategy is, and what it tells the nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from flwr.app import ArrayRecord, Message
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

from secagg.adapters.flower.announcement import digest_of_told
from secagg.adapters.flower.records import log
from secagg.errors import ParameterError

_NEED_EACH_REPLY: Final = tuple(
    getattr(flower, name)
    for name in (
        "DifferentialPrivacyClientSideAdaptiveClipping",
        "DifferentialPrivacyServerSideAdaptiveClipping",
        "DifferentialPrivacyServerSideFixedClipping",
        "FedXgbBagging",
        "FedXgbCyclic",
        "QFedAvg",
    )
    if hasattr(flower, name)
)
"""They look at every client's own reply, which nobody sees here."""
_ARRAYS: Final = "arrays"
"""Where Flower's strategies send the model, unless they are told otherwise."""
_ROBUST: Final = tuple(
    getattr(flower, name)
    for name in ("Bulyan", "FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum")
    if hasattr(flower, name)
)
"""They need several replies, and take those of groups for those of clients."""


def check_strategy(strategy: Strategy, wrapper: type[Strategy], *, grouped: bool) -> None:
    """Raises ParameterError for what is no strategy, or cannot be wrapped: one that needs single replies, a wrapper.

    ``grouped`` says that the strategy is handed a reply for each group.
    """
    if not isinstance(strategy, Strategy):
        raise ParameterError(f"{strategy!r} is no flwr.serverapp.strategy.Strategy")
    inner: object = strategy
    while isinstance(inner, Strategy):
        if isinstance(inner, (wrapper, *_NEED_EACH_REPLY)):
            raise ParameterError(
                f"{type(inner).__name__} looks at every client's own reply; secure aggregation gives the mean alone: "
                "use a strategy that averages, such as FedAvg, FedAvgM, FedProx, FedAdagrad, FedAdam or FedYogi"
            )
        if isinstance(inner, _ROBUST) and not grouped:
            raise ParameterError(
                f"{type(inner).__name__} compares replies, and secure aggregation gives it one, the mean: give "
                "SecAggStrategy groups=..., so that there is one reply for each group, or wrap a strategy that averages"
            )
        if getattr(inner, "accountant", None) is not None:
            raise ParameterError(
                f"{type(inner).__name__} with an accountant needs every client's own reply, to count them; leave the "
                "accountant out, and do the accounting for the clients in strategy.reports"
            )
        inner = getattr(inner, "strategy", None)
    if type(strategy).start is not Strategy.start:
        log.warning("secagg: %s.start is not called: the wrapper has the ordinary start", type(strategy).__name__)


def weight_key(strategy: Strategy) -> str:
    """The metric by which the strategy weighs replies."""
    return str(inner_attribute(strategy, "weighted_by_key") or "num-examples")


def inner_attribute(strategy: Strategy, name: str) -> object:
    """An attribute of the strategy, or of what it wraps; None where none of them has it."""
    inner: object = strategy
    while inner is not None:
        if value := getattr(inner, name, None):
            return value
        inner = getattr(inner, "strategy", None)
    return None


def told_by(messages: Sequence[Message], run_config: Mapping[str, object] | None) -> bytes:
    """The digest of what all nodes are told beside the model.  Raises ParameterError when it is not the same."""
    kinds = {(id(message.content), message.metadata.message_type): message for message in messages}
    digests = {digest_of_told(message.content, message.metadata.message_type, run_config) for message in kinds.values()}
    if len(digests) != 1:
        raise ParameterError(
            "the strategy tells nodes different things beside the model (configs, metrics, the message's type); "
            "clients train on what all are told"
        )
    return digests.pop()


def model_of(messages: Sequence[Message]) -> dict[str, ArrayRecord]:
    """The array records that all nodes are sent, by name: one model.  Raises ParameterError."""
    nodes = [message.metadata.dst_node_id for message in messages]
    if len(set(nodes)) != len(nodes):
        raise ParameterError("the strategy sends a node two messages in one round; secure aggregation takes one each")
    contents = {id(message.content): message.content for message in messages}.values()
    models = [dict(content.array_records) for content in contents]
    if not all(models):
        raise ParameterError("the strategy's messages have 0 array records; there must be one at least, the model")
    if any(_differ(models[0], other) for other in models[1:]):
        raise ParameterError("the strategy sends nodes different models; their updates cannot be summed")
    return models[0]


def main_record(strategy: Strategy, records: Iterable[str]) -> str:
    """The record that the arrays which ``aggregate_train`` returns go out in: the one that there is, or the model's."""
    names = list(records)
    return names[0] if len(names) == 1 else str(inner_attribute(strategy, "arrayrecord_key") or _ARRAYS)


def _differ(model: Mapping[str, ArrayRecord], other: Mapping[str, ArrayRecord]) -> bool:
    return model.keys() != other.keys() or any(
        other[name] is not record and other[name] != record for name, record in model.items()
    )
