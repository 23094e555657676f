"""Inputs, timers, rounds, the sweep, its journal, the environment, accuracy."""
