"""The measurement protocol: how often a kernel is called, and how long.

Version 1. The cache is warm: every timed call follows another call on the same buffers. A trial
has one untimed call, one that shows its rough latency, then `TRIAL_REPEATS` repeats of at least
`TRIAL_REPEAT_SECS` each; one that is over `HOPELESS` times the incumbent gets
`TRIAL_CALLS_AT_LEAST` single calls instead. A final has up to `FINAL_ROUNDS` rounds; in each round
every candidate has one repeat of at least `FINAL_REPEAT_SECS`, so that what disturbs the machine
disturbs all of them alike.

The reference kernel has `REFERENCE_REPEATS` short repeats; the first `REFERENCE_WARM_UP` of them,
while clocks and caches settle, are not reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from statistics import median

TRIAL_REPEATS = 5
TRIAL_REPEAT_SECS = 0.01
TRIAL_CALLS_AT_LEAST = 2
TRIAL_SECS = 1.0
HOPELESS = 3.0

FINAL_ROUNDS = 15
FINAL_ROUNDS_AT_LEAST = 3
FINAL_REPEAT_SECS = 0.02
FINAL_SECS = 3.0

REFERENCE_REPEATS = 240
REFERENCE_REPEAT_SECS = 0.004
REFERENCE_WARM_UP = 40
REFERENCE_CALLS_AT_MOST = 64


@dataclass(frozen=True, kw_only=True)
class RepeatPlan:
    """How to time a kernel once its rough latency is known.

    Attributes
    ----------
    calls : int
        Calls per repeat; a repeat's value is their mean.
    repeats : int
        Number of repeats.
    """

    calls: int
    repeats: int


def trial_plan(first_secs: float, incumbent_secs: float | None) -> RepeatPlan:
    """Plan a trial from the seconds of its first call."""
    if incumbent_secs is not None and first_secs > HOPELESS * incumbent_secs:
        return RepeatPlan(calls=1, repeats=TRIAL_CALLS_AT_LEAST)
    calls = max(1, ceil(TRIAL_REPEAT_SECS / max(first_secs, 1e-9)))
    affordable = int(TRIAL_SECS / max(calls * first_secs, 1e-9))
    return RepeatPlan(
        calls=calls, repeats=min(TRIAL_REPEATS, max(TRIAL_CALLS_AT_LEAST, affordable))
    )


def final_plan(first_secs: float) -> RepeatPlan:
    """Plan a final: one repeat in each of so many rounds."""
    calls = max(1, ceil(FINAL_REPEAT_SECS / max(first_secs, 1e-9)))
    affordable = int(FINAL_SECS / max(calls * first_secs, 1e-9))
    return RepeatPlan(
        calls=calls, repeats=min(FINAL_ROUNDS, max(FINAL_ROUNDS_AT_LEAST, affordable))
    )


def reference_plan(first_secs: float) -> RepeatPlan:
    """Plan the reference kernel: many short repeats, so that some fall between disturbances."""
    calls = ceil(REFERENCE_REPEAT_SECS / max(first_secs, 1e-9))
    return RepeatPlan(calls=min(calls, REFERENCE_CALLS_AT_MOST), repeats=REFERENCE_REPEATS)


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
