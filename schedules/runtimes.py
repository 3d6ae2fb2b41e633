"""What the repeats of a measurement say about a latency.

What disturbs a machine only ever makes a kernel slower, and most of it is over in milliseconds: the
fastest repeats of some seconds are the same in every measurement, while their median moves with the
neighbours. Those within `FAST_GROUP` of the fastest are taken for the kernel's own.

Source: Chen, Revels, "Robust benchmarking in noisy environments", 2016, for taking the fast end of
the sample; a group of it is taken here instead of the minimum, so that the latency is one that was
seen several times and has an interval.
"""

from collections.abc import Sequence
from math import ceil, sqrt
from statistics import median

FAST_GROUP = 0.02
"""So much slower than the fastest may a repeat be that counts as undisturbed."""


def undisturbed(run_secs: Sequence[float]) -> list[float]:
    """Return the repeats that nothing seems to have disturbed, the fastest first.

    Parameters
    ----------
    run_secs : sequence of float
        Seconds per call of at least one repeat.
    """
    ordered = sorted(run_secs)
    return [secs for secs in ordered if secs <= (1 + FAST_GROUP) * ordered[0]]


def latency(run_secs: Sequence[float]) -> float:
    """Return the median of the undisturbed repeats, in seconds."""
    return median(undisturbed(run_secs))


def latency_interval(run_secs: Sequence[float]) -> tuple[float, float]:
    """Return a 95 % confidence interval of `latency`, in seconds."""
    return median_interval(undisturbed(run_secs))


def median_interval(run_secs: Sequence[float]) -> tuple[float, float]:
    """Return a 95 % confidence interval of the median, without assuming a distribution.

    Parameters
    ----------
    run_secs : sequence of float
        At least one repeat.

    Returns
    -------
    tuple of float
        Order statistics at ranks ``n/2 -+ 1.96 * sqrt(n)/2``, clipped to the sample; for fewer than
        six repeats it is the whole range and holds the median with less than 95 %.
        Source: Conover, Practical Nonparametric Statistics, section 3.2.
    """
    ordered = sorted(run_secs)
    count = len(ordered)
    half_width = 1.96 * sqrt(count) / 2
    low = max(0, int(count / 2 - half_width))
    high = min(count - 1, ceil(count / 2 + half_width))
    centre = median(ordered)
    return min(ordered[low], centre), max(ordered[high], centre)
