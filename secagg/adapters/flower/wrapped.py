"""What the wrapped strategy is, and what it tells the nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    inner: object = strategy
    while inner is not None:
        if key := getattr(inner, "weighted_by_key", None):
            return str(key)
        inner = getattr(inner, "strategy", None)
    return "num-examples"


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


def model_of(messages: Sequence[Message]) -> ArrayRecord:
    """The one model that all nodes are sent.  Raises ParameterError."""
    nodes = [message.metadata.dst_node_id for message in messages]
    if len(set(nodes)) != len(nodes):
        raise ParameterError("the strategy sends a node two messages in one round; secure aggregation takes one each")
    models: list[ArrayRecord] = []
    for content in {id(message.content): message.content for message in messages}.values():
        if len(content.array_records) != 1:
            raise ParameterError(
                f"the strategy's messages have {len(content.array_records)} array records; there must be one, the model"
            )
        models.append(next(iter(content.array_records.values())))
    if any(other is not models[0] and other != models[0] for other in models[1:]):
        raise ParameterError("the strategy sends nodes different models; their updates cannot be summed")
    return models[0]
