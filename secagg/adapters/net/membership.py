"""How a client takes part in a round, and how that can end."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from secagg.adapters.net.receipts import CertifiedTotal
from secagg.encoding import Encoder, LayoutPolicy
from secagg.encoding.settings import Coarse
from secagg.encoding.sums import Mean
from secagg.errors import SecAggError
from secagg.identity import Directory, Identity
from secagg.pairwise.client.chaining import Chain
from secagg.pairwise.config import Policy, RoundConfig
from secagg.privacy.encoder import PrivateEncoder
from secagg.privacy.layout import AnyLayout, check_can_judge, with_its_layout
from secagg.privacy.private_mean import PrivateMean

if TYPE_CHECKING:
    from secagg.privacy.budget import Budget


class GaveUpError(SecAggError):
    """The round has made no progress for too long."""


class NotTrustedError(SecAggError):
    """The server's TLS certificate is not to be trusted."""


class AnotherInputError(SecAggError):
    """The input is not the one that the client's state remembers."""


class MaybeSummedError(SecAggError):
    """The input may be in a sum already: a server that gets a second such sum could subtract one from the other."""


@dataclass(frozen=True, slots=True)
class Total:
    """What a client gets.  ``clipped`` to ``shortened`` are for this client's own operator: they tell of its data.

    Attributes:
        mean: the weighted mean in float64, with the total weight and the number of clients in it.
        layout: the round's.
        encoder: of this layout and of this client's own dtypes, for this round.
        config: the round's.
        vector: the sum as it came.
        included: their seats.
        seat: the client's own, which is among them.
        clipped: how many of the client's own values were cut off, by array.
        weight_clamped: whether the client's own weight was above the layout's largest, and counted as that.
        coarse: the client's own arrays that are lost in the rounding, or behind the clip; see ``Encoder.coarse``.
        shortened: in a private round, what the client's own update was multiplied by to fit the clip; 1.0 for an
            update that fits.
        certified: what this client knows of the total by the server's certificate; None for a client without a chain.
    """

    mean: Mean | PrivateMean
    layout: AnyLayout
    encoder: Encoder | PrivateEncoder
    config: RoundConfig
    vector: np.ndarray[Any, Any]
    included: tuple[int, ...]
    seat: int
    clipped: Mapping[str, int] = field(repr=False)
    weight_clamped: bool = field(repr=False)
    coarse: Mapping[str, Coarse] = field(repr=False)
    shortened: float = field(default=1.0, repr=False)
    certified: CertifiedTotal | None = None

    def sums(self) -> dict[str, npt.NDArray[Any]]:
        """The (weighted) sums by array; see ``totals``.  Those of a private round have noise, and are in float64."""
        return with_its_layout(self.layout, self.mean).by_array()

    def mean_as_input(self) -> dict[str, np.ndarray[Any, Any]]:
        """The mean in the dtypes of this client's own arrays."""
        return dict(self.encoder.decode_sum(self.vector, self.mean.count, "template").mean)


@dataclass(frozen=True, kw_only=True)
class MemberOptions:
    """How a client takes part.

    Attributes:
        url: ``wss://host:port/round``.
        tls: for ``wss``; see ``certificates.client_context``.
        weight: of its input; a weight above the layout's largest is reduced to it.  None: 1, in rounds with and without
            weights.
        policy: the least that it accepts; the layout's digest is added as the context.
        layout_policy: the layouts that it accepts.
        agreed_layout: the only layout that it accepts; None: any that the policy allows.
        identity: what it logs in with; None: one that its store makes.
        directory: ``active``: the client's own copy.
        give_up_seconds: without progress of the round; see ``patience``.
        again: take part although the input may be in a sum already, or an earlier round with this store is not over.
        other_states: state files in which the same input may be found as well, and folders whose ``*.state`` files are
            all meant, whenever they come to be there; what does not exist is ignored.
        privacy_budget: charged for each round before anything leaves that is of it; rounds without noise are refused.
        chain: what this client knows of the cohort's chain, for chained rounds; see ``Client.join``.
        may_reveal: asked before the last answer leaves, with the seats of those whose sum it would open, ascending.  It
            raises DisclosureError to withhold the answer; this client then leaves the round.  After a crash it is asked
            again about the same answer.

    Raises ModuleNotFoundError for a policy with an epsilon where the extra ``privacy`` is missing.
    """

    url: str
    tls: ssl.SSLContext | None = None
    weight: int | None = field(default=None, repr=False)
    policy: Policy = Policy()  # noqa: RUF009  (frozen)
    layout_policy: LayoutPolicy = LayoutPolicy()  # noqa: RUF009  (frozen)
    agreed_layout: AnyLayout | None = None
    identity: Identity | None = None
    directory: Directory | None = None
    give_up_seconds: float = 600.0
    again: bool = False
    other_states: tuple[Path, ...] = ()
    privacy_budget: Budget | None = None
    chain: Chain | None = None
    may_reveal: Callable[[tuple[int, ...]], None] = lambda survivors: None

    def __post_init__(self) -> None:
        check_can_judge(self.layout_policy)
