"""attnbench: plan an LLM's memory, measure attention, gate regressions."""

__version__ = "0.1.0"
