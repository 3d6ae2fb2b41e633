"""Quantiles of latencies from counts in logarithmic buckets.

Buckets can be added up, over days, workers and databases, and still give quantiles to within a
relative error that is known.

Source: Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with
relative-error guarantees", VLDB 2019.
"""

import math
from collections.abc import Mapping

RELATIVE_ERROR = 0.05
"""By so much of itself a quantile may be wrong, from 1 ns to 40 minutes."""
LAST_BUCKET = 285
SMALLEST_SECS = 1e-9
GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GROWTH = math.log(GROWTH)


def bucket_of(secs: float) -> int:
    """Return the bucket of a latency: number `i` ends at ``1 ns * growth ** i``, and includes it.

    What is shorter than a nanosecond is in the first bucket, what is too long in the last.
    """
    if secs <= SMALLEST_SECS:
        return 0
    return min(math.ceil(math.log(secs / SMALLEST_SECS) / _LOG_GROWTH), LAST_BUCKET)


def secs_of(bucket: int) -> float:
    """Return the latency that is within the relative error of everything in a bucket."""
    return SMALLEST_SECS * 2 * GROWTH**bucket / (GROWTH + 1)


def quantile_secs(counts: Mapping[int, int], q: float) -> float | None:
    """Return the smallest latency that at least a share `q` does not exceed, None of nothing.

    Parameters
    ----------
    counts : Mapping[int, int]
        How many latencies are in each bucket.
    q : float
        Between 0 and 1.
    """
    total = sum(counts.values())
    left = max(1, math.ceil(q * total))
    for bucket in sorted(counts):
        left -= counts[bucket]
        if left <= 0:
            return secs_of(bucket)
    return None
