"""Checks attnbench against corpora of what others measured: engines' logs, real models."""
