"""The server of a round.

``machine`` is what a host calls.  Each phase is a module (``advertise``, ``share``, ``mask``, ``confirm``, ``unmask``)
that takes the phase's messages, closes it, and makes what is sent then; ``compute`` is the step after the last.  What a
phase collects, and the frozen record that it is closed with, are in ``records``; ``dispatch`` finds the module for the
phase that is open, and ``secagg.pairwise.transitions`` says which phase follows.
"""

from secagg.pairwise.server.machine import Server

__all__ = ["Server"]
