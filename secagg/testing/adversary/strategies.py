"""Hypothesis strategies for lies and whole attacks.  Needs the extra ``testing``.

Attacks shrink towards fewer lies, told to fewer clients, about the clients with the lowest indices.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from secagg.pairwise.config import RoundConfig
from secagg.pairwise.messages import EXCHANGES
from secagg.pairwise.phases import Phase
from secagg.testing.adversary.attack import Attack
from secagg.testing.adversary.client import ClientLie
from secagg.testing.adversary.lies.clients import (
    BadCommitment,
    BadShares,
    DirtyPadding,
    FalseSignature,
    FirstElement,
    Garbage,
    InconsistentPolynomial,
    Leaves,
    LimbOutOfRange,
    OtherKind,
    SecondVector,
    ShareOutOfRange,
    Unopenable,
    WeakKeys,
    WrongLength,
    WrongSecret,
)
from secagg.testing.adversary.lies.confirmations import ForgeSignatures, WithholdSignatures
from secagg.testing.adversary.lies.hosts import InviteAgain, ResumeTwice, SubmitAgain
from secagg.testing.adversary.lies.invitation import OtherNonce
from secagg.testing.adversary.lies.lie import Lie
from secagg.testing.adversary.lies.roster import (
    BreakRoster,
    ChooseNeighbours,
    DenyPresence,
    Equivocate,
    LeaveOut,
    RenameNeighbour,
    ReorderIds,
    ReplaceKeys,
    ShowOtherOwnKeys,
    Surround,
    SwapKeys,
    TwoLeaves,
)
from secagg.testing.adversary.lies.shares import BreakShares, HideDealers, RenameDealer, RepeatDealers, SwapSealed
from secagg.testing.adversary.lies.survivors import DropFromSurvivors, Isolate, ShowAgain, ShowSurvivors
from secagg.testing.adversary.lies.wire import FlipBit, Lose, OutOfPhase, Resize, SendAgain
from secagg.testing.adversary.world import Ids

_CLOSED_WITH_A_MESSAGE = tuple(phase for phase, exchange in EXCHANGES.items() if exchange.closing is not None)


def ids(config: RoundConfig, *, max_size: int | None = None) -> st.SearchStrategy[Ids]:
    """Some members, ascending."""
    return st.sets(st.integers(0, config.clients - 1), max_size=max_size).map(lambda members: tuple(sorted(members)))


def roster_lies(config: RoundConfig) -> st.SearchStrategy[Lie]:
    """About the config's round and its roster."""
    member, some, to = st.integers(0, config.clients - 1), ids(config), ids(config)
    few = ids(config, max_size=max(1, config.clients - config.min_survivors))
    return st.one_of(
        st.builds(LeaveOut, few),
        st.builds(SwapKeys, few),
        st.builds(DenyPresence, few, to),
        st.builds(lambda first, hidden: Equivocate((first,), (hidden,)), some, few),
        st.builds(TwoLeaves, member, member),
        st.builds(Surround, st.just(64)),
        st.builds(lambda clique: ChooseNeighbours((clique,)), some),
        st.builds(ShowOtherOwnKeys, to),
        st.builds(ReorderIds, to),
        st.builds(RenameNeighbour, st.sampled_from(("repeated", "itself", "beyond")), to),
        st.builds(ReplaceKeys, st.sampled_from(("low order", "another's", "its own")), to),
        st.builds(BreakRoster, st.sampled_from(("digest", "proof", "signature")), to),
        st.builds(OtherNonce, some.filter(bool)),
    )


def round_lies(config: RoundConfig) -> st.SearchStrategy[Lie]:
    """About who shared, survived and confirmed."""
    member, some, to = st.integers(0, config.clients - 1), ids(config), ids(config)
    few = ids(config, max_size=max(1, config.clients - config.min_survivors))
    return st.one_of(
        st.builds(Isolate, member, few),
        st.builds(HideDealers, few, to),
        st.builds(HideDealers, some, member.map(lambda one: (one,))),
        st.builds(DropFromSurvivors, few, to),
        st.builds(DropFromSurvivors, few, some),
        st.builds(ShowSurvivors, some, to),
        st.builds(
            ShowAgain,
            st.lists(some, min_size=1, max_size=2).map(tuple),
            to,
            st.sampled_from((Phase.MASK, Phase.CONFIRM)),
        ),
        st.builds(WithholdSignatures, some, to),
        st.builds(ForgeSignatures, some, to),
        st.builds(RepeatDealers, some.filter(bool), to),
        st.builds(RenameDealer, member, member, to),
        st.builds(SwapSealed, member, member, to),
        st.builds(BreakShares, member, st.booleans(), to),
    )


def other_lies(config: RoundConfig) -> st.SearchStrategy[Lie]:
    """About hosts, and about single messages."""
    to, phase = ids(config), st.sampled_from(_CLOSED_WITH_A_MESSAGE)
    return st.one_of(
        st.builds(Lose, ids(config, max_size=config.dropouts + 1), phase),
        st.builds(SendAgain, phase, st.booleans(), to),
        st.builds(FlipBit, phase, st.integers(0, 2**16), to),
        st.builds(Resize, phase, st.integers(-64, 64), to),
        st.builds(OutOfPhase, phase, to),
        st.builds(InviteAgain, to),
        st.builds(ResumeTwice, to),
        st.builds(SubmitAgain, to),
    )


def client_lies(config: RoundConfig) -> st.SearchStrategy[ClientLie]:
    """How colluders deal."""
    kind, some = st.integers(0, 1), ids(config)
    return st.one_of(
        st.builds(WrongSecret, kind),
        st.builds(InconsistentPolynomial, kind),
        st.builds(LimbOutOfRange, kind),
        st.builds(ShareOutOfRange, some, kind),
        st.builds(BadCommitment, some),
        st.builds(Unopenable, some),
    )


def wire_lies(config: RoundConfig) -> st.SearchStrategy[ClientLie]:
    """What a malicious client sends an honest server, other than how it deals."""
    some, phase = ids(config), st.sampled_from(Phase)
    return st.one_of(
        st.builds(BadShares, some, st.booleans()),
        st.just(OtherKind()),
        st.just(FirstElement()),
        st.just(DirtyPadding()),
        st.just(SecondVector()),
        st.builds(WeakKeys, st.booleans(), st.booleans()),
        st.builds(
            WrongLength, st.sampled_from((Phase.SHARE, Phase.MASK, Phase.UNMASK)), st.sampled_from((-72, -1, 1, 64))
        ),
        st.builds(FalseSignature, st.sampled_from((Phase.ADVERTISE, Phase.CONFIRM))),
        st.builds(Garbage, phase, st.binary(max_size=80), st.booleans()),
        st.builds(Leaves, phase),
    )


@st.composite
def attacks(draw: st.DrawFn, configs: Sequence[RoundConfig], *, max_lies: int = 6) -> Attack:
    """Attacks on one of these configs, by as many colluders as it bears or fewer."""
    config = draw(st.sampled_from(configs))
    colluders = draw(st.sets(st.integers(0, config.clients - 1), max_size=config.colluders))
    lie = st.one_of(round_lies(config), round_lies(config), roster_lies(config), other_lies(config))
    return Attack(
        config,
        lies=tuple(draw(st.lists(lie, max_size=max_lies))),
        colluders=tuple(sorted(colluders)),
        client_lies=tuple(draw(st.lists(client_lies(config), max_size=1))),
        seed=draw(st.integers(0, 2**16)),
    )
