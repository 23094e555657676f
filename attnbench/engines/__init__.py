"""One policy file an inference engine."""
