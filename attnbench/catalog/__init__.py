"""Reads profiles, configurations and checkpoints into spec types; one adapter a model family."""
