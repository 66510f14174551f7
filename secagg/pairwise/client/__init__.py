"""The client: a machine, a frozen record for each of its phases, and what it deals and verifies."""

from secagg.pairwise.client.machine import Client

__all__ = ["Client"]
