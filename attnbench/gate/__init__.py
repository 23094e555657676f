"""Pairing, statistics, verdicts."""
