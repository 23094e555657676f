"""Corpora that `attnbench validate` reads where none is named: facts, each with its source."""
