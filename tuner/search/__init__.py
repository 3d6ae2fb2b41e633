"""Search: which candidates to measure next."""

from tuner.search.protocol import SearchStrategy, Trial

__all__ = ["SearchStrategy", "Trial"]
