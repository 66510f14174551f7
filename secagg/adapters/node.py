"""A client between a host's messages: its credentials, its policies, and what it remembers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Protocol, final

from secagg.adapters.own_config import FilePath, OwnConfig
from secagg.credentials import DurableTokens, load_directory, load_identity
from secagg.differencing import DifferenceLedger, DifferenceLedgerError, least_difference
from secagg.encoding import LayoutPolicy
from secagg.errors import DisclosureError, ParameterError
from secagg.identity import Identity, MemoryDirectory
from secagg.pairwise.client.machine import Client
from secagg.pairwise.config import Policy, RoundConfig
from secagg.pairwise.rules.client import Consume
from secagg.privacy.noisy_sum import NoisySum


class Releases(Protocol):
    """Which models this client's input may have been summed for; see ``ReleasedInputs``."""

    def is_released(self, digest: bytes) -> bool:
        """Whether ``release`` was called with this digest."""
        ...

    def release(self, digest: bytes) -> bool:
        """Remember it.  True the first time."""
        ...


class ClientMemory(Releases, Protocol):
    """What a host keeps for a client between two messages: one suspended round, and what it has joined and released."""

    def keep(self, suspended: Suspended) -> None:
        """Keep it for the next message; there is one round at a time."""

    def join(self, token: bytes) -> bool:
        """Mark an invitation as accepted; True the first time."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Suspended:
    """What a client keeps of its round between two messages.

    Attributes:
        state: the suspended client; it holds secrets.
        announcement: what the server announced with the invitation.
    """

    state: bytes = field(repr=False)
    announcement: bytes = field(repr=False)


class Node:
    """The client that a message has reached: its credentials, its policies, and what it remembers.

    ``config`` is what its owner has written; ``names`` are those of its directory's members, by index, and empty where
    there is no directory.
    """

    def __init__(
        self,
        config: OwnConfig,
        memory: ClientMemory,
        cleanup: ExitStack,
        *,
        paths: Mapping[str, FilePath | None],
        policy: Policy | None,
        layout_policy: LayoutPolicy,
    ) -> None:
        """Read the client's files.  Raises OSError or ParameterError for what cannot be used."""
        self.config = config
        self.identity: Identity | None = None
        self.directory: MemoryDirectory | None = None
        self.names: tuple[str, ...] = ()
        self._members: tuple[bytes, ...] = ()
        if (path := paths.get("identity")) is not None:
            self.identity = load_identity(path)
        if (path := paths.get("directory")) is not None:
            self.directory, self.names, digest = load_directory(path)
            self._members = tuple(self.directory.cohort(digest) or ())
        tokens = paths.get("tokens")
        if self.identity is not None and tokens is None:
            raise ParameterError(
                f"this client has an identity and no file of used tokens: give {config.key('tokens')} in the "
                f"{config.where}; what a host keeps alone does not keep a server from having one state used twice"
            )
        self.joins: Consume = memory.join
        self._states: Consume = lambda token: True  # the host's memory hands out a state once
        self._releases: list[Releases] = [memory]
        if tokens is not None:
            durable = DurableTokens(tokens)
            cleanup.callback(durable.close)
            self.joins = self._states = durable
            self._releases.append(durable)
        self._again = config.flag("again") or False
        self.policy = config.policy(policy, active=self.identity is not None)
        self.layout_policy = config.layout_policy(layout_policy)
        self._sums = paths.get("sums")
        self._least = config.min_difference()
        if self._sums is not None and (self.identity is None or not self.names):
            raise ParameterError(
                f"a ledger of sums needs to know who the members are: give {config.key('identity')} and "
                f"{config.key('directory')} with {config.key('sums')}"
            )
        self._budget = paths.get("budget")
        if self._budget is not None:
            self.layout_policy = replace(self.layout_policy, private=True)

    @property
    def has_budget(self) -> bool:
        """Whether the client's owner has named a budget."""
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
