"""The client of a round: a machine, a frozen record per state, and one module per phase.

``machine`` is what a host calls.  ``member`` says who the client is in its round, and takes the invitation.  Each phase
is a module (``advertise``, ``share``, ``mask``, ``confirm``, ``unmask``) that takes the server's message and makes the
client's answer; what a client knows in between is a frozen record of ``records``, which ``suspension`` turns into bytes
and back.  ``dealing`` is its side of the secret sharing, ``verification`` its checks of rosters and of many signatures.
"""

from secagg.pairwise.client.machine import Client

__all__ = ["Client"]
