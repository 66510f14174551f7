"""What the owner of a node decides: its files and its policies, from the mod's options and the node's own config.

The server writes the run's config and the messages; it writes none of what is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeAlias, final

from flwr.app import Context

from secagg.adapters import node
from secagg.adapters.flower.lora import LoraRank, with_rank
from secagg.adapters.flower.memory import Memory
from secagg.adapters.own_config import FilePath, OwnConfig
from secagg.encoding import LayoutPolicy
from secagg.pairwise.config import Policy

PathOf: TypeAlias = FilePath | Callable[[Context], FilePath | None] | None
"""A path, or what gives a node's path, or none, from its context."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class NodeOptions:
    """What ``SecAggMod`` was given.  The node's config goes before all of it but the paths."""

    policy: Policy | None
    layout_policy: LayoutPolicy
    evaluate: bool | None
    paths: Mapping[str, PathOf]
    lora: LoraRank | None = None


@final
class Node(node.Node):
    """The node that a message has reached.  ``lora`` is the rank of its own adapters; None without any."""

    def __init__(self, options: NodeOptions, context: Context, memory: Memory, cleanup: ExitStack) -> None:
        """Read the node's files.  Raises OSError or ParameterError for what cannot be used."""
        config = config_of(context)
        super().__init__(
            config,
            memory,
            cleanup,
            paths={name: _path(name, given, context, config) for name, given in options.paths.items()},
            policy=options.policy,
            layout_policy=options.layout_policy,
        )
        self.lora = lora_of(options, context)


def config_of(context: Context) -> OwnConfig:
    """The node's config: ``min_clip`` is ``secagg-min-clip`` there, and so on."""
    return OwnConfig(values=context.node_config, where="node config", prefix="secagg-", joint="-")


def may_evaluate(options: NodeOptions, context: Context) -> bool:
    """Whether evaluation messages and queries reach the app.  Raises ParameterError for a node config that is no bool.

    Their answers leave in clear, and any number of them may be asked for: that is for a server that is trusted not to.
    """
    config = config_of(context)
    allowed = config.flag("evaluate")
    if allowed is None:
        allowed = options.evaluate
    if allowed is not None:
        return allowed
    named = (_path(name, options.paths[name], context, config) for name in ("identity", "budget"))
    return all(path is None for path in named) and not config.layout_policy(options.layout_policy).asks_for_noise


def lora_of(options: NodeOptions, context: Context) -> LoraRank | None:
    """The rank of the node's own adapters, None without any.  Raises ParameterError for a config that is no rank."""
    config = config_of(context)
    return with_rank(options.lora, config.whole("lora_rank"), config.whole("max_lora_rank"))


def _path(name: str, given: PathOf, context: Context, config: OwnConfig) -> FilePath | None:
    path = given(context) if callable(given) else given
    return config.path(name) if path is None else path
