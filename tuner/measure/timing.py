"""The measurement protocol: how often a kernel is called, how long, and under which conditions.

Version 7. All of it holds for one process per candidate, TVM's threads on the target's cores, each
of them on its own, and buffers with guard zones around them.

What disturbs a machine comes and goes, so repeats are short, spread over time, and count where the
cores were at their best before and after (`tuner.measure.watch`): candidates take turns, one repeat
each, and all but the one that is timed are stopped (`tuner.measure.race`). A latency is what the
fastest repeats agree on (`schedules.runtimes`). On a CPU every repeat of small buffers has buffers
of its own: where they lie in memory makes a kernel faster or slower by some percent, differently in
every process.

A trial is a race against the incumbent, the fastest trial so far. One call warms up and one shows
the rough latency; then repeats of at least `TRIAL_REPEAT_SECS` follow. A candidate that is over
`HOPELESS_AT_ONCE` times the incumbent after a call, or over `HOPELESS` times after two repeats, is
given up: what is stored is a bound, the fastest that was seen. Of a call, the time that its threads
waited for a core does not count, and a warm-up counts only if it takes over `WARM_UP_SECS`, as
starting threads and touching pages do not. On a GPU the call that warms up is the second, as the
first one loads the code, and the rough latency is that of several calls in a row, as a call alone
is timed with its start by the host. A trial ends when `TRIAL_AGREEING` repeats agree, or after
`TRIAL_REPEATS` or `TRIAL_SECS`; that of a contender, within `CONTENDER` times the incumbent, when
`CONTENDER_AGREEING` agree or after `CONTENDER_REPEATS`.

A final has repeats of at least `FINAL_REPEAT_SECS`. After `FINAL_ROUNDS_AT_LEAST` rounds one that
is clearly slower than the fastest ends; the others go on until `FINAL_AGREEING` repeats agree and
their interval is within `FINAL_NARROW`, or until `FINAL_ROUNDS` or `FINAL_SECS`. As long as none of
them is within `SLOW_SPELL` of the fastest trial, the machine is slower than what is remembered of
its cores can tell: they go on, with `SLOW_SPELL_PAUSE_SECS` between rounds while there is patience.
Whoever is over `HOPELESS_AT_ONCE` times slower than the fastest needs no calm cores to lose.

The cache is ``warm`` where nothing else is asked for: every timed call follows another one on the
same buffers. A workload whose program has the attribute `CACHE_ATTRIBUTE` with the value ``cold``
has its caches flushed before every timed call, and then a repeat is one call.

The reference kernel has `REFERENCE_REPEATS` short repeats; the first `REFERENCE_WARM_UP` of them,
while clocks and caches settle, are not reported.
"""

from collections.abc import Mapping, Sequence
from math import ceil

from schedules.runtimes import latency, latency_interval, undisturbed

TRIAL_REPEAT_SECS = 0.004
TRIAL_REPEATS = 8
TRIAL_AGREEING = 3
TRIAL_SECS = 1.0
WARM_UP_SECS = 0.02
HOPELESS_AT_ONCE = 4.0
HOPELESS = 2.0
CONTENDER = 1.25
CONTENDER_REPEATS = 10
CONTENDER_AGREEING = 4

FINAL_ROUNDS = 40
FINAL_ROUNDS_AT_LEAST = 3
FINAL_AGREEING = 7
FINAL_REPEAT_SECS = 0.01
FINAL_SECS = 1.2
FINAL_NARROW = 0.01
SLOW_SPELL = 0.03
SLOW_SPELL_PAUSE_SECS = 0.2

REFERENCE_REPEATS = 240
REFERENCE_REPEAT_SECS = 0.004
REFERENCE_WARM_UP = 40
REFERENCE_PATIENCE_SECS = 5.0

CACHE_ATTRIBUTE = "tunesmith.cache"


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


def is_bound(run_secs: Sequence[float], incumbent_secs: float | None) -> bool:
    """Whether a trial was given up before its repeats agreed: they only bound its latency."""
    agreed = len(undisturbed(run_secs)) >= TRIAL_AGREEING
    return bool(run_secs) and not agreed and is_given_up(min(run_secs), incumbent_secs)


def trial_round(
    run_secs: Mapping[int, Sequence[float]],
    spent_secs: Mapping[int, float],
    incumbent_secs: float | None,
) -> list[int]:
    """Return which trials need another repeat.

    Parameters
    ----------
    run_secs : Mapping[int, sequence of float]
        Repeats of every trial that is under way, by any number.
    spent_secs : Mapping[int, float]
        What timing each of them has taken.
    incumbent_secs : float or None
        The fastest trial that has ended.
    """
    best_secs = fastest_seen(run_secs, incumbent_secs)
    return [
        place for place, secs in run_secs.items() if _goes_on(secs, spent_secs[place], best_secs)
    ]


def fastest_seen(
    run_secs: Mapping[int, Sequence[float]], incumbent_secs: float | None
) -> float | None:
    """Return the fastest of the incumbent and all repeats; None where there is neither."""
    seen = [secs for repeats in run_secs.values() for secs in repeats]
    return min(seen if incumbent_secs is None else [*seen, incumbent_secs], default=None)


def _goes_on(run_secs: Sequence[float], spent_secs: float, best_secs: float | None) -> bool:
    if best_secs is None or len(run_secs) < 2:
        return True
    fastest = min(run_secs)
    if is_given_up(fastest, best_secs) or spent_secs > TRIAL_SECS:
        return False
    contends = fastest <= CONTENDER * best_secs
    agreeing = CONTENDER_AGREEING if contends else TRIAL_AGREEING
    most = CONTENDER_REPEATS if contends else TRIAL_REPEATS
    return len(undisturbed(run_secs)) < agreeing and len(run_secs) < most


def is_slow_spell(run_secs: Mapping[int, Sequence[float]], expected_secs: float | None) -> bool:
    """Whether all finalists are slower than a trial has shown that one of them can be.

    Parameters
    ----------
    run_secs : Mapping[int, sequence of float]
        Repeats of every finalist, by any number.
    expected_secs : float or None
        The fastest trial, if there is one.
    """
    latencies = [latency(secs) for secs in run_secs.values() if secs]
    return (
        expected_secs is not None
        and bool(latencies)
        and min(latencies) > (1 + SLOW_SPELL) * expected_secs
    )


def final_round(
    run_secs: Mapping[int, Sequence[float]],
    spent_secs: Mapping[int, float],
    expected_secs: float | None,
) -> list[int]:
    """Return which finalists need another round; takes what `trial_round` takes."""
    young = [place for place, secs in run_secs.items() if len(secs) < FINAL_ROUNDS_AT_LEAST]
    if young:
        return young
    intervals = {place: latency_interval(secs) for place, secs in run_secs.items()}
    fastest = min(intervals, key=lambda place: latency(run_secs[place]), default=None)
    slow_spell = is_slow_spell(run_secs, expected_secs)
    return [
        place
        for place, secs in run_secs.items()
        if len(secs) < FINAL_ROUNDS
        and spent_secs[place] < FINAL_SECS
        and fastest is not None
        and intervals[place][0] <= intervals[fastest][1]
        and (slow_spell or not _is_certain(secs))
    ]


def _is_certain(run_secs: Sequence[float]) -> bool:
    low, high = latency_interval(run_secs)
    agreeing = len(undisturbed(run_secs))
    return agreeing >= FINAL_AGREEING and (high - low) / low <= FINAL_NARROW


def reference_round(
    run_secs: Mapping[int, Sequence[float]], spent_secs: Mapping[int, float]
) -> list[int]:
    """Return whether the reference kernel needs another repeat; takes what `trial_round` takes."""
    return [place for place, secs in run_secs.items() if len(secs) < REFERENCE_REPEATS]
