"""The measurement protocol: how often a kernel is called, how long, and under which conditions.

Version 5. All of it holds for one process per candidate, TVM's threads on the target's cores, each
of them on its own, and buffers with guard zones around them.

A trial is a race against the incumbent, the fastest trial so far. One call warms up and one shows
the rough latency; then repeats of at least `TRIAL_REPEAT_SECS` follow. A candidate that is over
`HOPELESS_AT_ONCE` times the incumbent after a call, or over `HOPELESS` times after the first
repeats, is given up: what is stored is a bound, the fastest call that was seen. Of a call, the time
that its threads waited for a core does not count, and a warm-up counts only if it takes
over `WARM_UP_SECS`, as starting threads and touching pages do not. On a GPU the call that warms up
is the second, as the first one loads the code, and the rough latency is that of several calls in a
row, as a call alone is timed with its start by the host. One that is no contender, as it
is over `CONTENDER` times the incumbent, ends after `TRIAL_REPEATS_AT_LEAST` repeats. A contender
gets more, until the interval of its median is within `TRIAL_NARROW` of it, or after `TRIAL_REPEATS`
repeats or `TRIAL_SECS`.

A final goes in rounds; in each round every candidate has one repeat of at least
`FINAL_REPEAT_SECS`, so that what disturbs the machine disturbs all of them alike; all but the one
that is timed are stopped. On a CPU every repeat has buffers of its own: where they lie in memory
makes a kernel faster or slower by some percent, differently in every process. After
`FINAL_ROUNDS_AT_LEAST` rounds a candidate that is clearly slower than the fastest ends; the others
have `CONTENDER_ROUNDS_AT_LEAST` and go on until their intervals are within `FINAL_NARROW`, or until
`FINAL_ROUNDS` or `FINAL_SECS`.

The cache is ``warm`` where nothing else is asked for: every timed call follows another one on the
same buffers. A workload whose program has the attribute `CACHE_ATTRIBUTE` with the value ``cold``
has its caches flushed before every timed call, and then a repeat is one call.

A repeat of which the kernel's threads waited for a core, for over `WAITED_SHARE` of its time, is
timed again, unless that happens all the time or the repeat takes over `PREEMPTED_REPEAT_SECS`; see
also `tuner.measure.watch`.

The reference kernel has `REFERENCE_REPEATS` short repeats; the first `REFERENCE_WARM_UP` of them,
while clocks and caches settle, are not reported. Those after which the machine was disturbed,
`REFERENCE_CHUNK` at a time, are timed again, for `REFERENCE_PATIENCE_SECS` at most.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from math import ceil, sqrt
from statistics import median

TRIAL_REPEATS_AT_LEAST = 4
TRIAL_REPEATS = 12
TRIAL_REPEAT_SECS = 0.004
TRIAL_SECS = 1.0
TRIAL_NARROW = 0.02
WARM_UP_SECS = 0.02
HOPELESS_AT_ONCE = 4.0
HOPELESS = 2.0
CONTENDER = 1.25

FINAL_ROUNDS = 40
FINAL_ROUNDS_AT_LEAST = 3
CONTENDER_ROUNDS_AT_LEAST = 7
FINAL_REPEAT_SECS = 0.01
FINAL_SECS = 1.2
FINAL_NARROW = 0.01

PREEMPTED_AT_MOST = 6
PREEMPTED_REPEAT_SECS = 0.05
WAITED_SHARE = 0.005

REFERENCE_REPEATS = 240
REFERENCE_REPEAT_SECS = 0.004
REFERENCE_WARM_UP = 40
REFERENCE_CHUNK = 20
REFERENCE_PATIENCE_SECS = 5.0
REFERENCE_CALLS_AT_MOST = 64

CACHE_ATTRIBUTE = "tunesmith.cache"


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


class Verdict(Enum):
    """How a trial goes on."""

    MORE = auto()
    ENOUGH = auto()
    GIVEN_UP = auto()


def calls_per_repeat(first_secs: float, repeat_secs: float) -> int:
    """Return how many calls fill a repeat, from the seconds of one call."""
    return max(1, ceil(repeat_secs / max(first_secs, 1e-9)))


def is_hopeless(call_secs: float, incumbent_secs: float | None, *, waited_secs: float) -> bool:
    """Whether one call is so slow that no other is needed.

    Parameters
    ----------
    call_secs, incumbent_secs : float
        Of the call, and of the fastest trial so far, if there is one.
    waited_secs : float
        What its threads waited for a core meanwhile, together.
    """
    own_secs = call_secs - waited_secs
    return incumbent_secs is not None and own_secs > HOPELESS_AT_ONCE * incumbent_secs


def is_given_up(bound_secs: float, incumbent_secs: float | None) -> bool:
    """Whether a candidate no call of which took less is clearly slower than the incumbent."""
    return incumbent_secs is not None and bound_secs > HOPELESS * incumbent_secs


def judge_trial(
    run_secs: Sequence[float], incumbent_secs: float | None, spent_secs: float
) -> Verdict:
    """Decide how a trial goes on after some repeats.

    Parameters
    ----------
    run_secs : sequence of float
        At least one repeat.
    incumbent_secs : float or None
        The fastest trial so far.
    spent_secs : float
        What timing this candidate has taken.
    """
    fastest = min(run_secs)
    if len(run_secs) > 1 and is_given_up(fastest, incumbent_secs):
        return Verdict.GIVEN_UP
    if len(run_secs) > 1 and spent_secs > TRIAL_SECS:
        return Verdict.ENOUGH
    if len(run_secs) < TRIAL_REPEATS_AT_LEAST:
        return Verdict.MORE
    contends = incumbent_secs is None or fastest <= CONTENDER * incumbent_secs
    wide = interval_width(run_secs) > TRIAL_NARROW
    return Verdict.MORE if contends and wide and len(run_secs) < TRIAL_REPEATS else Verdict.ENOUGH


def final_round(
    run_secs: Mapping[int, Sequence[float]], spent_secs: Mapping[int, float]
) -> list[int]:
    """Return which finalists need another round.

    Parameters
    ----------
    run_secs : Mapping[int, sequence of float]
        Repeats of every finalist that has not failed, by any number.
    spent_secs : Mapping[int, float]
        What timing each of them has taken.
    """
    young = [place for place, secs in run_secs.items() if len(secs) < FINAL_ROUNDS_AT_LEAST]
    if young:
        return young
    intervals = {place: median_interval(secs) for place, secs in run_secs.items()}
    fastest = min(intervals, key=lambda place: median(run_secs[place]), default=None)
    return [
        place
        for place, secs in run_secs.items()
        if len(secs) < FINAL_ROUNDS
        and spent_secs[place] < FINAL_SECS
        and fastest is not None
        and intervals[place][0] <= intervals[fastest][1]
        and (len(secs) < CONTENDER_ROUNDS_AT_LEAST or interval_width(secs) > FINAL_NARROW)
    ]


def interval_width(run_secs: Sequence[float]) -> float:
    """Return the width of `median_interval` as a fraction of the median."""
    low, high = median_interval(run_secs)
    return (high - low) / median(run_secs)


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
