"""Frozen types that every layer above trusts. They are checked once, at the edge."""
