"""A client's own statement that it did not answer, once its server says that the round is aborted (R-CHAIN-12)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from secagg.adapters.net.frames import STATEMENT
from secagg.adapters.net.membership import MemberOptions
from secagg.adapters.net.store import ClientStore
from secagg.errors import StateError
from secagg.identity import Identity
from secagg.pairwise.client.machine import Client

STATED: Final = "the server aborted the round, and this client has stated that it did not answer"


def state_silence(store: ClientStore, options: MemberOptions, login: Identity) -> bool:
    """Make the statement, and store it to be sent, in place of the client's state; whether there is one.

    There is none of a client that keeps no chain, that has answered (its state is gone then), that has left the round,
    or that never saw the roster.  The chain has it, durably, that this client will never answer before the store has
    the statement, and the store has it before it leaves.  A client that is killed in between makes the same one again.
    Raises ChainFileError and ParameterError for a chain's file that cannot be used.
    """
    try:
        with store.step():
            part = store.load()
            if part is not None and part.over == STATED:
                return True
            if part is None or part.over is not None or part.state is None or options.chain is None:
                return False
            with Client.resume(
                part.state, store.consume, identity=login, directory=options.directory, chain=options.chain
            ) as client:
                client.abort()
                statement = client.disclaim()
            store.drop_outgoing()
            store.push(STATEMENT, statement)
            store.save(replace(part, state=None, over=STATED))
            return True
    except StateError:  # its chain says that it has answered, or there is no session yet: the step is undone
        return False
