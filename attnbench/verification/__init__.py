"""Proves each variant on the device at hand: what `attnbench verify` runs."""
