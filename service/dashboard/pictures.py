"""The charts of the pages."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import log2

from schedules.records import Purpose
from service.dashboard import charts, figures
from service.dashboard.charts import Bar, Chart, Key, Line, Mark, Segment
from service.dashboard.curves import Improvement, Part, Published, Trial, improvements
from service.db.lines import ActivityLine
from service.db.values import Check, CheckKind

_FAILED_AT = charts.HEIGHT - 5.0
"""Where failures are marked, which have no latency."""
_KINDS = {
    "ok": "trial",
    "same": "same code as an earlier trial",
    "slow": "given up, at least this slow",
    "failed": "failed",
    "final": "final",
}
_SPAN = 30.0
"""How many times the smallest latency the axis of latencies reaches."""
DRIFT = 0.05
"""How far a reference kernel may move; see `tuner.measure.health`."""


def progress(
    trials: Sequence[Trial],
    *,
    by_time: bool,
    log: bool,
    earlier: Sequence[Improvement] = (),
    default_secs: float | None = None,
    ended_secs: float | None = None,
) -> Chart | None:
    """Draw a job's trials and its best-so-far curve.

    Parameters
    ----------
    by_time : bool
        Against time rather than against trials.
    log : bool
        Whether the latency's axis is logarithmic.
    earlier : sequence of Improvement
        The curve of the job before it.
    default_secs : float or None
        Latency of the compiler's default.
    ended_secs : float or None
        How long the job took; None for one that runs.
    """
    curve = improvements(trials)
    levels = [secs for trial in trials if (secs := trial.secs)]
    levels += [step.secs for step in earlier] + ([default_secs] if default_secs else [])
    if not trials:
        return None
    low = min(levels, default=1e-3)
    # Beyond it lie only the default and hopeless candidates, which would squeeze all that matters.
    high = min(max(levels, default=low), _SPAN * low)

    def at(step: Trial | Improvement) -> float:
        return step.elapsed_secs if by_time else float(step.number)

    ends = [*map(at, trials), *map(at, earlier), (ended_secs or 0.0) if by_time else 0.0]
    x = charts.across(0.0, max(ends))
    y = charts.down(0.9 * low if log else 0.0, high, log=log)
    last = max(map(at, trials))
    lines = []
    if default_secs and default_secs <= high:
        lines.append(Line(kind="default", path=charts.level(default_secs, y)))
    if earlier:
        points = [(at(step), step.secs) for step in earlier]
        lines.append(Line(kind="earlier", path=charts.steps(points, x, y, max(ends))))
    if curve:
        points = [(at(step), step.secs) for step in curve]
        lines.append(Line(kind="best", path=charts.steps(points, x, y, last)))
    write_x = figures.duration if by_time else figures.count
    reached = f"the best is {figures.latency(curve[-1].secs)}" if curve else "none succeeded"
    return Chart(
        chart_id="by-time" if by_time else "by-trials",
        title="Latency against time" if by_time else "Latency against trials",
        summary=f"{len(trials)} trials and finals and their best so far; {reached}.",
        x_title="since the job started" if by_time else "trials",
        y_title="latency",
        x_ticks=charts.ticks(x, write_x, whole=True, clock=by_time),
        y_ticks=charts.ticks(y, figures.round_latency) if levels else (),
        lines=lines,
        marks=[_trial_mark(trial, charts.percent_across(x, at(trial)), y) for trial in trials],
        keys=_progress_keys(trials, default_secs, earlier=bool(earlier), high=high),
    )


def _trial_mark(trial: Trial, across: float, y: charts.Scale) -> Mark:
    line = trial.line
    what = figures.latency(trial.secs)
    if line.failure is not None:
        what = figures.words(line.failure)
    elif line.latency_secs is None:
        what = f"over {what}"
    name = "final" if line.purpose is Purpose.FINAL else f"trial {trial.number}"
    return Mark(
        kind=trial.kind,
        across=across,
        down=_FAILED_AT if trial.secs is None else round(y.place(trial.secs), 1),
        tip=f"{name}: {what}",
        record_id=line.record_id,
    )


def _progress_keys(
    trials: Sequence[Trial], default_secs: float | None, *, earlier: bool, high: float
) -> list[Key]:
    keys = [Key(kind="best", shape="line", label="best so far")]
    if earlier:
        keys.append(Key(kind="earlier", shape="line", label="job before"))
    if default_secs:
        where = "" if default_secs <= high else ", further up"
        label = f"compiler's default, {figures.latency(default_secs)}{where}"
        keys.append(Key(kind="default", shape="line", label=label))
    there = {trial.kind for trial in trials}
    return keys + [
        Key(kind=kind, shape="mark", label=label) for kind, label in _KINDS.items() if kind in there
    ]


def predictions(trials: Sequence[Trial]) -> Chart | None:
    """Draw what the cost model said of trials against what was measured."""
    shown = [
        (trial, trial.line.predicted_score, trial.line.latency_secs)
        for trial in trials
        if trial.line.predicted_score is not None and trial.line.latency_secs
    ]
    if len(shown) < 2:
        return None
    fastest = min(secs for _, _, secs in shown if secs)
    pairs = [(trial, score or 0.0, log2(fastest / (secs or 1.0))) for trial, score, secs in shown]
    x = charts.across(min(p[1] for p in pairs), max(p[1] for p in pairs))
    y = charts.down(min(p[2] for p in pairs), 0.0)
    return Chart(
        chart_id="predictions",
        title="Predicted against measured",
        summary=f"{len(pairs)} trials by predicted score and measured speed.",
        x_title="predicted score, larger is faster",
        y_title="measured speed, of the fastest trial's",
        x_ticks=charts.ticks(x, figures.digits),
        y_ticks=charts.ticks(y, lambda value: figures.percent(2.0**value)),
        marks=[
            Mark(
                kind="ok",
                across=charts.percent_across(x, score),
                down=round(y.place(speed), 1),
                tip=f"trial {trial.number}: score {figures.digits(score)}, "
                f"{figures.latency(trial.secs)}",
                record_id=trial.line.record_id,
            )
            for trial, score, speed in pairs
        ],
    )


def time_bar(parts: Sequence[Part]) -> tuple[Segment, ...]:
    """Lay the parts of a job's time side by side."""
    return charts.shares([(part.name, part.name, part.secs) for part in parts], figures.duration)


def activity(lines: Iterable[ActivityLine], last_minute: int, *, minutes: int = 60) -> Chart:
    """Draw how many records were reported in each minute, and how many of them failed."""
    good, bad = [0] * minutes, [0] * minutes
    for line in lines:
        place = line.minute - (last_minute - minutes + 1)
        if 0 <= place < minutes:
            (good if line.failure is None else bad)[place] += line.records
    most = max(1, *(g + b for g, b in zip(good, bad, strict=True)))
    y = charts.Scale(low=0, high=most, begin=120.0, end=10.0)
    width, bars = 100 / minutes, []
    for place in range(minutes):
        told = _minute_tip(last_minute - minutes + 1 + place, good[place], bad[place])
        bottom = 0
        for kind, number in (("good", good[place]), ("bad", bad[place])):
            if number:
                top = y.place(bottom + number)
                bars.append(
                    Bar(
                        kind=kind,
                        across=round(place * width + 0.15, 2),
                        width=round(width - 0.3, 2),
                        down=round(top, 1),
                        height=round(y.place(bottom) - top, 1),
                        tip=told,
                    )
                )
            bottom += number
    total, failed = sum(good) + sum(bad), sum(bad)
    return Chart(
        chart_id="activity",
        title="Trials a minute",
        summary=f"{total} trials in the last {minutes} minutes, {failed} of them failed.",
        x_title="minutes ago",
        y_title="trials",
        height=122.0,
        x_ticks=[
            charts.Tick(place=round(100 - (ago + 0.5) * width, 2), label=str(ago) if ago else "now")
            for ago in range(minutes - 10, -1, -10)
        ],
        y_ticks=charts.ticks(y, figures.count, about=3, whole=True),
        bars=bars,
        keys=[
            Key(kind="good", shape="bar", label="measured"),
            Key(kind="bad", shape="bar", label="failed"),
        ],
    )


def _minute_tip(minute: int, good: int, bad: int) -> str:
    at = f"{datetime.fromtimestamp(60 * minute, UTC):%H:%M}"
    return f"{at} UTC: {good + bad} trials" + (f", {bad} failed" if bad else "")


def drift(checks: Sequence[Check]) -> Chart | None:
    """Draw the reference kernel's time over its baseline, check by check."""
    shown = [
        (check, check.latency_secs / check.baseline_secs)
        for check in sorted(checks, key=lambda check: check.checked_at)
        if check.kind is CheckKind.REFERENCE and check.latency_secs and check.baseline_secs
    ]
    if not shown:
        return None
    times = [check.checked_at.timestamp() for check, _ in shown]
    x = charts.across(min(times), max(times))
    moved = [share for _, share in shown]
    y = charts.down(min(1 - 1.6 * DRIFT, *moved), max(1 + 1.6 * DRIFT, *moved), height=160.0)
    return Chart(
        chart_id="drift",
        title="Reference kernel",
        summary=f"{len(shown)} runs, from {figures.percent(min(moved) - 1)} to "
        f"{figures.percent(max(moved) - 1)} away from the baseline.",
        x_title="time (UTC)",
        y_title="time over the baseline's",
        height=160.0,
        x_ticks=_time_ticks(x),
        y_ticks=charts.ticks(
            y, lambda value: f"{round(100 * (value - 1)) or 0:+d} %".replace("+0 ", "0 ")
        ),
        lines=[
            Line(kind="limit", path=charts.level(1 + DRIFT, y)),
            Line(kind="limit", path=charts.level(1 - DRIFT, y)),
            Line(kind="best", path=charts.joined(zip(times, moved, strict=True), x, y)),
        ],
        marks=[
            Mark(
                kind="ok" if check.problem is None else "failed",
                across=charts.percent_across(x, at),
                down=round(y.place(share), 1),
                tip=f"{figures.clock(check.checked_at)} UTC: {figures.latency(check.latency_secs)}"
                f" ({100 * (share - 1):+.1f} %)",
            )
            for (check, share), at in zip(shown, times, strict=True)
        ],
        keys=[
            Key(kind="best", shape="line", label="latency of a check"),
            Key(kind="limit", shape="line", label="5 % off the baseline"),
        ],
    )


def history(published: Sequence[Published]) -> Chart | None:
    """Draw the bests of a workload on a target, job by job."""
    if not published:
        return None
    times = [one.created_at.timestamp() for one in published]
    x = charts.across(min(times), max(times))
    levels = [secs for one in published for secs in (one.latency_secs, *one.interval_secs)]
    y = charts.down(0.95 * min(levels), max(levels), height=160.0)
    points = [(at, one.latency_secs) for at, one in zip(times, published, strict=True)]
    return Chart(
        chart_id="history",
        title="History of bests",
        summary=f"{len(published)} jobs; the newest came to "
        f"{figures.latency(published[-1].latency_secs)}.",
        x_title="time (UTC)",
        y_title="latency",
        height=160.0,
        x_ticks=_time_ticks(x),
        y_ticks=charts.ticks(y, figures.round_latency, about=4),
        lines=[Line(kind="best", path=charts.steps(points, x, y, max(times)))],
        marks=[
            Mark(
                kind="final",
                across=charts.percent_across(x, at),
                down=round(y.place(one.latency_secs), 1),
                tip=f"{figures.clock(one.created_at)} UTC: {figures.latency(one.latency_secs)}, "
                f"95 %: {figures.latency(one.interval_secs[0])} to "
                f"{figures.latency(one.interval_secs[1])}",
            )
            for at, one in zip(times, published, strict=True)
        ],
    )


def _time_ticks(x: charts.Scale) -> list[charts.Tick]:
    """Label both ends and the middle; more would run into each other on a phone."""
    pattern = "%H:%M" if x.high - x.low < 86400 else "%m-%d %H:%M"
    middle = (x.low + x.high) / 2
    moments = (x.low, middle, x.high) if x.high - x.low > 120 else (middle,)
    return [
        charts.Tick(
            place=round(x.place(moment), 2),
            label=f"{datetime.fromtimestamp(moment, UTC):{pattern}}",
        )
        for moment in moments
    ]


def overlay(named: Sequence[tuple[str, Sequence[Trial]]], *, log: bool = True) -> Chart | None:
    """Draw the best-so-far curves of several jobs against trials."""
    curves = [(name, improvements(trials), trials) for name, trials in named]
    levels = [step.secs for _, curve, _ in curves for step in curve]
    if not levels:
        return None
    x = charts.across(0.0, float(max(trial.number for _, _, trials in curves for trial in trials)))
    y = charts.down(0.9 * min(levels) if log else 0.0, max(levels), log=log)
    lines, keys = [], []
    for place, (name, curve, trials) in enumerate(curves):
        if curve:
            kind = ("best", "earlier")[place % 2]
            points = [(float(step.number), step.secs) for step in curve]
            last = float(max(trial.number for trial in trials))
            lines.append(Line(kind=kind, path=charts.steps(points, x, y, last)))
            keys.append(Key(kind=kind, shape="line", label=name))
    return Chart(
        chart_id="overlay",
        title="Best so far",
        summary="Best-so-far curves of two jobs against trials.",
        x_title="trials",
        y_title="latency",
        x_ticks=charts.ticks(x, figures.count, whole=True),
        y_ticks=charts.ticks(y, figures.round_latency),
        lines=lines,
        keys=keys,
    )
