"""Federated digits, with secure aggregation."""
