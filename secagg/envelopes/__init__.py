"""Lattice envelopes: a long vector, encrypted once under a short secret that adds up as the vectors do.

Version 2 of the wire, section 11 (specs/secagg-v2.md), says what is computed, and why that is safe.
"""
