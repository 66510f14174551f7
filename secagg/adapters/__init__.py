"""Hosts for the protocol: each lets another system, or a network, run rounds, and comes behind an extra of its own."""
