"""Both state machines, as data.  The only place where an edge is added.

``CLIENT_WITH_COMPLAINTS`` and ``SERVER_WITH_COMPLAINTS`` are the tables of rounds with complaints (R-COMPLAIN-3).
``CLIENT[threat model][state, input]`` and ``SERVER[threat model][state, input]`` give the next state.  A client's
inputs are its host's calls (START, SUBMIT) and the types of the server's messages; a server's are its host's calls
alone (CLOSE, which is ``close_phase``, and COMPUTE).  A pair that is not in the table is refused: as StateError when
the host made the call, as a PeerError when the peer sent the message.  From every live state, a failed check, an ABORT
or an unexpected exception leads to ABORTED, and nothing leads out of it.

What the phases are for, and why they are safe, is told in ``phases``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Final, TypeAlias

from secagg.pairwise.messages import Accusations, Confirmations, Roster, Settled, Shares, Survivors, ToClient
from secagg.pairwise.phases import (
    CLIENT_ENDED,
    STATE_AFTER,
    ClientState,
    HostCall,
    Phase,
    ServerState,
    ThreatModel,
    phases,
)

ClientInput: TypeAlias = HostCall | type[ToClient]
ClientTable: TypeAlias = Mapping[tuple[ClientState, ClientInput], ClientState]
ServerTable: TypeAlias = Mapping[tuple[ServerState, HostCall], ServerState]

_TO_THE_SHARES: Final[ClientTable] = {
    (ClientState.JOINED, HostCall.START): ClientState.ADVERTISED,
    (ClientState.ADVERTISED, Roster): ClientState.SHARED,
}
_WITHOUT_COMPLAINTS: Final[ClientTable] = {
    (ClientState.SHARED, Shares): ClientState.INPUT,
}
_WITH_COMPLAINTS: Final[ClientTable] = {
    (ClientState.SHARED, Shares): ClientState.CHECKED,
    (ClientState.CHECKED, Accusations): ClientState.ANSWERED,
    (ClientState.CHECKED, Settled): ClientState.INPUT,
    (ClientState.ANSWERED, Settled): ClientState.INPUT,
}
_THE_MASKED_INPUT: Final[ClientTable] = {
    (ClientState.INPUT, HostCall.SUBMIT): ClientState.MASKED,
}
_WITHOUT_CONFIRM: Final[ClientTable] = {
    (ClientState.MASKED, Survivors): ClientState.DONE,
}
_WITH_CONFIRM: Final[ClientTable] = {
    (ClientState.MASKED, Survivors): ClientState.CONFIRMED,
    (ClientState.CONFIRMED, Confirmations): ClientState.DONE,
}


def _client(threat_model: ThreatModel, complaints: ClientTable) -> ClientTable:
    confirm = _WITH_CONFIRM if threat_model.confirms else _WITHOUT_CONFIRM
    return MappingProxyType({**_TO_THE_SHARES, **complaints, **_THE_MASKED_INPUT, **confirm})


CLIENT: Final[Mapping[ThreatModel, ClientTable]] = MappingProxyType(
    {model: _client(model, _WITHOUT_COMPLAINTS) for model in ThreatModel}
)
CLIENT_WITH_COMPLAINTS: Final[Mapping[ThreatModel, ClientTable]] = MappingProxyType(
    {model: _client(model, _WITH_COMPLAINTS) for model in ThreatModel}
)


def _server(threat_model: ThreatModel, *, complaints: bool = False) -> ServerTable:
    """A server goes through the phases one by one, and then computes."""
    states = [*(ServerState(phase.value) for phase in phases(threat_model, complaints=complaints)), ServerState.COMPUTE]
    closes = {(state, HostCall.CLOSE): following for state, following in pairwise(states)}
    return MappingProxyType({**closes, (ServerState.COMPUTE, HostCall.COMPUTE): ServerState.DONE})


SERVER: Final[Mapping[ThreatModel, ServerTable]] = MappingProxyType({model: _server(model) for model in ThreatModel})
SERVER_WITH_COMPLAINTS: Final[Mapping[ThreatModel, ServerTable]] = MappingProxyType(
    {model: _server(model, complaints=True) for model in ThreatModel}
)


def client_table(threat_model: ThreatModel, *, complaints: bool) -> ClientTable:
    """A client's table in a round with complaints, or without."""
    return (CLIENT_WITH_COMPLAINTS if complaints else CLIENT)[threat_model]


def server_table(threat_model: ThreatModel, *, complaints: bool) -> ServerTable:
    """A server's table in a round with complaints, or without."""
    return (SERVER_WITH_COMPLAINTS if complaints else SERVER)[threat_model]


_SENT_IN: Final = MappingProxyType({state: phase for phase, state in STATE_AFTER.items()})


def input_name(given: ClientInput) -> str:
    """An input as the specification's tables name it: a call, or a message's type."""
    return given.value if isinstance(given, HostCall) else given.__name__


def next_answer(threat_model: ThreatModel, state: ClientState, *, complaints: bool = False) -> Phase | None:
    """The phase of the next message that a client in this state sends; None where it sends no more.

    In rounds with complaints a client that has checked its shares may be asked for an answer first, or not.
    """
    for (before, _), after in client_table(threat_model, complaints=complaints).items():
        if before is state:
            return _SENT_IN[after] if after in _SENT_IN else next_answer(threat_model, after, complaints=complaints)
    return None


def phase_of(threat_model: ThreatModel, state: ClientState, *, complaints: bool = False) -> Phase | None:
    """The phase that a client in this state is in; None once it has ended.

    It is the phase of the message that it sent last, or, where it waits for its host, of the one that it sends next.
    """
    if state in CLIENT_ENDED:
        return None
    return _SENT_IN[state] if state in _SENT_IN else next_answer(threat_model, state, complaints=complaints)
