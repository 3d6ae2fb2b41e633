"""What the next batch of a search is expected to gain."""

from collections.abc import Sequence

import numpy as np

RECENT = 48
"""So many of the latest trials show how far the model errs."""
LEAST = 32
"""Fewer say too little of that."""
DRAWS = 512


def expected_gain(
    scores: Sequence[float], errors: Sequence[float], random: np.random.Generator
) -> float | None:
    """Return by which share of its latency the best is expected to be undercut.

    Each candidate is taken to be as fast as the model says, but for an error that the model has
    made of late, drawn at random: the expected improvement of a batch, without the assumption that
    errors are normal.
    Source: Ginsbourger, Le Riche and Carraro, "Kriging Is Well-Suited to Parallelize Optimization",
    2010, for the improvement that is expected of several at once.

    Parameters
    ----------
    scores : sequence of float
        Predicted logarithms, to base 2, of the speed of a batch's candidates over the best's.
    errors : sequence of float
        By how much recent trials were faster than predicted, as such logarithms; minus infinity for
        those that failed.
    random : numpy.random.Generator
        Advanced by the call.

    Returns
    -------
    float or None
        From 0 to 1; None where too few errors are known.
    """
    if len(errors) < LEAST or not scores:
        return None
    drawn = random.choice(np.asarray(errors), size=(DRAWS, len(scores)))
    gained = np.maximum((np.asarray(scores) + drawn).max(axis=1), 0.0)
    return float(1.0 - np.exp2(-gained).mean())
