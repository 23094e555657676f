"""Calibrated constants that GPUs of a family share, as YAML."""
