"""Delays that differ from process to process, so that a fleet does not come back all at once."""

import random

# The operating system's source, not Python's shared generator: a library must not draw from what a
# program may have seeded, and processes forked from one parent must not wait alike.
_SOURCE = random.SystemRandom()


def jitter(low: float, high: float) -> float:
    """Return a number between two bounds, to multiply a delay by or to wait for in seconds."""
    return _SOURCE.uniform(low, high)
