"""What the owner of a node decides: its files and its policies, from the mod's options and the node's own config.

The server writes the run's config and the messages; it writes none of what is read here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeAlias, final

from flwr.app import Context

from secagg.adapters.flower.lora import LoraRank, with_rank
from secagg.adapters.flower.memory import Memory, Releases
from secagg.credentials import DurableTokens, load_directory, load_identity
from secagg.differencing import DifferenceLedger, DifferenceLedgerError, least_difference
from secagg.encoding import LayoutPolicy
from secagg.errors import DisclosureError, ParameterError
from secagg.identity import Identity, MemoryDirectory
from secagg.pairwise.carrier import ANY_CARRIER, Carrier
from secagg.pairwise.client.machine import Client
from secagg.pairwise.config import Policy, RoundConfig
from secagg.pairwise.rules.client import Consume
from secagg.pairwise.values import as_suite
from secagg.privacy.noisy_sum import NoisySum

FilePath: TypeAlias = str | os.PathLike[str]
PathOf: TypeAlias = FilePath | Callable[[Context], FilePath | None] | None
"""A path, or what gives a node's path, or none, from its context."""

_FRACTIONS: Final = frozenset({"min_max_weight", "max_max_weight"})
"""The fields of a LayoutPolicy that are whole numbers by default, and may be fractions."""
_ACTIVE_GAMMA: Final = 0.2
"""In ``active`` a client must bound the colluders itself; this is ``RoundConfig``'s default too."""


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
class Node:
    """The node that a message has reached: its credentials, its policies, and what it remembers.

    ``names`` are those of its directory's members, by index; empty without a directory.
    """

    def __init__(self, options: NodeOptions, context: Context, memory: Memory, cleanup: ExitStack) -> None:
        """Read the node's files.  Raises OSError or ParameterError for what cannot be used."""
        paths = {name: _path(name, given, context) for name, given in options.paths.items()}
        self.identity: Identity | None = load_identity(paths["identity"]) if paths["identity"] else None
        self.directory: MemoryDirectory | None = None
        self.names: tuple[str, ...] = ()
        self._members: tuple[bytes, ...] = ()
        if paths["directory"]:
            self.directory, self.names, digest = load_directory(paths["directory"])
            self._members = tuple(self.directory.cohort(digest) or ())
        if self.identity is not None and not paths["tokens"]:
            raise ParameterError(
                "this client has an identity and no file of used tokens: give secagg-tokens in the node's config; "
                "a context alone does not keep a server from having one state used twice"
            )
        self.joins: Consume = memory.join
        self._states: Consume = lambda token: True  # Memory.take hands out a state once
        self._releases: list[Releases] = [memory]
        if paths["tokens"]:
            durable = DurableTokens(paths["tokens"])
            cleanup.callback(durable.close)
            self.joins = self._states = durable
            self._releases.append(durable)
        self._again = _flag("again", context) or False
        self.policy = _policy(options.policy, context, active=self.identity is not None)
        self.layout_policy = _layout_policy(options.layout_policy, context)
        self.lora = lora_of(options, context)
        self._sums = paths.get("sums")
        self._least = _min_difference(context)
        if self._sums is not None and (self.identity is None or not self.names):
            raise ParameterError(
                "a ledger of sums needs to know who the members are: give secagg-identity and secagg-directory with "
                "secagg-sums"
            )
        self._budget = paths["budget"]
        if self._budget is not None:
            self.layout_policy = replace(self.layout_policy, private=True)

    @property
    def has_budget(self) -> bool:
        """Whether the node's owner has named a budget."""
        return self._budget is not None

    def charge(self, round_name: bytes, noisy_sum: NoisySum) -> None:
        """Charge the node's budget, where it has one; durable when it returns.

        A new file is made with the epsilon and the delta of the node's policy.  Raises ParameterError for a round that
        is charged already or a file that is none, BudgetExceededError, BudgetFileError, OSError.
        """
        if self._budget is None:
            return
        from secagg.privacy.budget import Budget

        policy = self.layout_policy
        with closing(Budget(self._budget, epsilon=policy.max_epsilon, delta=policy.max_delta)) as budget:
            budget.charge(round_name, noisy_sum)

    def why_withheld(self, survivors: Sequence[int], config: RoundConfig, data_name: str = "updates") -> str:
        """Record a sum over these members; why it must not be opened, where it must not, or cannot be recorded.

        ``data_name`` is what the ledger calls the values that are summed: it looks at no sums of others.
        Two more than the colluders of a sum must be in and out of all sums together, if the node says no other number.
        Raises ParameterError and OSError for a file that is no ledger, or cannot be made.
        """
        if self._sums is None:
            return ""
        least = least_difference(config.colluders_in_group) if self._least is None else self._least
        try:
            with closing(DifferenceLedger(self._sums, data_name)) as ledger:
                ledger.record([[self.names[index] for index in survivors]], least)
        except (DisclosureError, DifferenceLedgerError) as refused:
            return str(refused)
        return ""

    def resume(self, state: bytes) -> Client:
        """The suspended client.  Raises PeerError(STATE_REUSED) when it answered from that state before."""
        return Client.resume(state, self._states, identity=self.identity, directory=self.directory)

    def own_index(self) -> int:
        """In ``active`` the client knows its index itself.  Raises ParameterError."""
        if self.identity is None or self.identity.public_key not in self._members:
            raise ParameterError("this client's identity is not in its directory: add it, or name another directory")
        return self._members.index(self.identity.public_key)

    def may_sum(self, digest: bytes) -> bool:
        """Whether the input with this digest is in no sum yet, or the node's owner lets it be in another."""
        return self._again or not any(remembered.is_released(digest) for remembered in self._releases)

    def release(self, digest: bytes) -> bool:
        """Remember that the input may be in a sum from now on; False when it must not be in this one.

        The file decides at once for all processes of the node, so that of two rounds that run at the same time one
        alone goes on.
        """
        new = [remembered.release(digest) for remembered in self._releases]
        return self._again or all(new)


def may_evaluate(options: NodeOptions, context: Context) -> bool:
    """Whether evaluation messages and queries reach the app.  Raises ParameterError for a node config that is no bool.

    Their answers leave in clear, and any number of them may be asked for: that is for a server that is trusted not to.
    """
    allowed = _flag("evaluate", context)
    if allowed is None:
        allowed = options.evaluate
    if allowed is not None:
        return allowed
    named = (_path(name, options.paths[name], context) for name in ("identity", "budget"))
    return all(path is None for path in named) and not _layout_policy(options.layout_policy, context).asks_for_noise


def lora_of(options: NodeOptions, context: Context) -> LoraRank | None:
    """The rank of the node's own adapters, None without any.  Raises ParameterError for a config that is no rank."""
    rank, most = (_whole(name, context) for name in ("lora-rank", "max-lora-rank"))
    return with_rank(options.lora, rank, most)


def _whole(name: str, context: Context) -> int | None:
    value = context.node_config.get(f"secagg-{name}")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ParameterError(f"node config secagg-{name} is {value!r}: a whole number")
    return value


def _path(name: str, given: PathOf, context: Context) -> FilePath | None:
    path = given(context) if callable(given) else given
    if path is not None:
        return path
    value = context.node_config.get(f"secagg-{name}")
    if value is not None and not isinstance(value, str):
        raise ParameterError(f"node config secagg-{name} is {value!r}: give the path of a file")
    return value


def _flag(name: str, context: Context) -> bool | None:
    value = context.node_config.get(f"secagg-{name}")
    if value is not None and not isinstance(value, bool):
        raise ParameterError(f"node config secagg-{name} is {value!r}: give true or false")
    return value


def _min_difference(context: Context) -> int | None:
    value = context.node_config.get("secagg-min-difference")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 2):
        raise ParameterError(f"node config secagg-min-difference is {value!r}: a whole number from 2 on")
    return value


def _policy(policy: Policy | None, context: Context, *, active: bool) -> Policy:
    if policy is None:
        # An honest dealer opens the shares of liars alone, however many complaints the config allows.
        policy = Policy(gamma=_ACTIVE_GAMMA if active else 0.0, max_complaints=None)
    names = ("gamma", "min-survivors", "max-groups", "suite", "carrier")
    gamma, survivors, groups, suite, carrier = (context.node_config.get(f"secagg-{name}") for name in names)
    if gamma is not None:
        if isinstance(gamma, str | bool) or not 0 <= gamma < 1:
            raise ParameterError(f"node config secagg-gamma is {gamma!r}: a number from 0 to 1")
        policy = replace(policy, gamma=float(gamma))
    if survivors is not None:
        if isinstance(survivors, bool) or not isinstance(survivors, int):
            raise ParameterError(f"node config secagg-min-survivors is {survivors!r}: a whole number")
        policy = replace(policy, min_survivors=survivors)
    if groups is not None:
        if isinstance(groups, bool) or not isinstance(groups, int):
            raise ParameterError(f"node config secagg-max-groups is {groups!r}: a whole number")
        policy = replace(policy, max_groups=groups)
    if suite is not None:
        if not isinstance(suite, str):
            raise ParameterError(f"node config secagg-suite is {suite!r}: the name of a suite, such as 'hybrid'")
        policy = replace(policy, suites=frozenset({as_suite(suite)}))
    if carrier is not None:
        if carrier not in (*Carrier, ANY_CARRIER):
            allowed = ", ".join((*Carrier, ANY_CARRIER))
            raise ParameterError(f"node config secagg-carrier is {carrier!r}: must be one of {allowed}")
        policy = replace(policy, carrier="any" if carrier == ANY_CARRIER else Carrier(str(carrier)))
    return policy


def _layout_policy(policy: LayoutPolicy, context: Context) -> LayoutPolicy:
    """The policy with the node config's values: ``secagg-min-clip`` is ``min_clip``, and so on."""
    given: dict[str, Any] = {}
    for each in fields(policy):
        key = f"secagg-{each.name.replace('_', '-')}"
        if (value := context.node_config.get(key)) is not None:
            present = getattr(policy, each.name)
            given[each.name] = _like(float(present) if each.name in _FRACTIONS else present, key, value)
    return replace(policy, **given) if given else policy


def _like(present: object, key: str, value: object) -> object:
    """A value of a node's config as the field that now holds ``present`` takes it."""
    if isinstance(present, bool):
        if isinstance(value, bool):
            return value
        wanted = "true or false"
    elif isinstance(present, frozenset):
        if isinstance(value, str):
            return frozenset(name.strip() for name in value.split(",") if name.strip())
        wanted = "names or patterns with commas between them"
    elif isinstance(present, float) or present is None:  # None stands for a bound of floats that is not set
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        wanted = "a number"
    else:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        wanted = "a whole number"
    raise ParameterError(f"node config {key} is {value!r}: give {wanted}")
