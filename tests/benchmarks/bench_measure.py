"""`make bench-measure`: the measurement engine beside stock MetaSchedule's, on this machine.

Run as ``python -m tests.benchmarks.bench_measure``; what was finished is remembered, and a later
run of the same commit goes on there. QUICK=1 runs two operators with few candidates.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from schedules.records import DEFAULT_TRACE
from tests.benchmarks.measure.cases import CASES, CORE_SPEED, Case
from tests.benchmarks.measure.daemon import daemon_shift
from tests.benchmarks.report import Checkpoint, Table, geomean, publish
from tests.neighbour import busy_neighbour

SEED = 1
PART_SECS = 900.0
MINUTE_SECS = 60.0
BUSY_SECS, IDLE_SECS = 0.1, 0.2
"""The neighbour's rhythm: one core loaded for a third of the time."""
ALIKE = 0.02
"""Cores whose speed differs by a smaller share are as fast as each other."""
TRIES = 6
TRY_AGAIN_SECS = 20.0
NOISE_TURNS = 3

TEXT = """
Every figure compares both sides in one run, each session and each measurement in a process of its
own. "Stock" is TVM's MetaSchedule as it comes: `tune_tir` with its own settings for whole sessions,
`LocalBuilder` and `LocalRunner` with theirs for given candidates.

- **Sessions** of {trials} trials in TVM's own space, from the start of the process to its end:
  loading, search, builds, timing, and (ours) the finals and the check of the published best.
- **Candidates**: the same {trials} random candidates of that space, built and timed by both.
- **Racing**: stock's five fastest candidates are re-measured in full (as finals, interleaved), then
  race {races} times for each operator, among eleven others in random order, in a fresh host.
  Counted are the races that rank the true best among the first three of the five.
- **Published**: the published latency beside one measured in a new process a minute later or more.
  The cores of a virtual machine may be slower for minutes; both say how fast they were, and a later
  measurement on cores whose speed differs by over {alike:.0%} is made again, {tries} times at most.
  Where they never were alike, the latencies are in the table, but do not count in the keys.
- **Noise**: the best measured as a final, {turns} times while nothing else runs and in turn while
  another process loads one core for {busy:.1f} s of every {period:.1f} s; the medians of both. For
  stock, the same candidate by its runner, once each.
- **Bad candidates**: one in ten of {faulty} crashes, hangs, or never finishes compiling.
- **Daemon**: the reference kernel, with an idle worker daemon on the machine and without, in turns.
"""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured."""

    cases: tuple[Case, ...] = CASES
    trials: int = 64
    races: int = 5
    faulty: int = 1000
    turns: int = 4


QUICK = Scale(cases=CASES[:2], trials=16, races=2, faulty=100, turns=1)


def main() -> None:
    """Run everything and write it down."""
    quick = os.environ.get("QUICK") == "1"
    scale = QUICK if quick else Scale()
    print(f"this takes about {'5' if quick else '60'} minutes", file=sys.stderr, flush=True)
    done = Checkpoint("bench-measure", quick=quick)
    found = [(case, _of_case(done, scale, case)) for case in scale.cases]
    faulty = done.part("faulty", lambda: _run("faulty", None, str(scale.faulty)))
    daemon = done.part("daemon", lambda: daemon_shift(scale.turns))
    report(scale, found, faulty, daemon, quick=quick)


def _of_case(done: Checkpoint, scale: Scale, case: Case) -> dict[str, Any]:
    call = {"op": case.op, "args": case.args, "seed": SEED}

    def part(name: str, run: Callable[[], Any]) -> Any:
        print(f"{case.name}: {name}", file=sys.stderr, flush=True)
        return done.part(f"{case.name}: {name}", run)

    def own(order: str, **more: Any) -> Any:
        return _run("own", {**call, **more}, order)

    def stock(order: str, **more: Any) -> Any:
        return _run("stock", {**call, "target": sample["target"], **more}, order)

    sample = part("sample", lambda: own("sample", count=scale.trials))
    traces = sample["traces"]
    session = part("session", lambda: _timed(lambda: own("tune", trials=scale.trials)))
    published_at = time.monotonic()
    rival = part("stock session", lambda: _timed(lambda: stock("tune", trials=scale.trials)))
    theirs = part("stock candidates", lambda: stock("measure", traces=traces))
    if not any(theirs["run_secs"]):
        raise SystemExit(f"stock could measure none of {case.name}: {theirs['errors'][:1]}")
    ours = part("candidates", lambda: own("measure", traces=traces))
    best = session["trace"] or DEFAULT_TRACE
    if not done.has(f"{case.name}: again"):
        time.sleep(max(0.0, published_at + MINUTE_SECS - time.monotonic()))
    both = {"traces": [DEFAULT_TRACE, best]}
    return {
        "session": session,
        "stock_session": rival,
        "candidates": ours,
        "stock_candidates": theirs,
        "again": part("again", lambda: _again(lambda: own("final", **both), session[CORE_SPEED])),
        "noisy": part("noisy", lambda: _in_turns(lambda: own("final", traces=[best]))),
        "stock_calm": part("stock calm", lambda: stock("measure", traces=[best])),
        "stock_noisy": part(
            "stock noisy", lambda: _noisily(lambda: stock("measure", traces=[best]))
        ),
        "races": part("races", lambda: _races(own, traces, theirs["run_secs"], scale.races)),
    }


def _again(final: Callable[[], dict[str, Any]], speed: float | None) -> dict[str, Any]:
    """Measure again, until the cores are as fast as they were or there were enough tries."""
    tries = []
    for attempt in range(TRIES):
        if attempt:
            time.sleep(TRY_AGAIN_SECS)
        tries.append({**final(), "attempt": attempt + 1})
        if _speed_change(tries[-1], speed) <= ALIKE:
            break
    return min(tries, key=lambda found: _speed_change(found, speed))


def _speed_change(found: dict[str, Any], speed: float | None) -> float:
    later = found[CORE_SPEED]
    return abs(_change(speed, later)) if later and speed else 0.0


def _in_turns(final: Callable[[], dict[str, Any]]) -> dict[str, float]:
    """Measure with and without a neighbour, in turns."""
    latencies: dict[str, list[float]] = {"alone": [], "beside": []}
    for _ in range(NOISE_TURNS):
        latencies["alone"].append(_best(final()))
        latencies["beside"].append(_best(_noisily(final)))
    return {kind: median(secs) for kind, secs in latencies.items()}


def _races(
    own: Callable[..., Any], traces: Sequence[str], stock_secs: Sequence[float | None], races: int
) -> list[bool]:
    """Say of each race whether the best of stock's first five came in among the first three."""
    timed = [place for place, secs in enumerate(stock_secs) if secs is not None]
    top = sorted(timed, key=lambda place: stock_secs[place] or 0.0)[:5]
    full = own("final", traces=[traces[place] for place in top])["latencies"]
    truth = min((secs, place) for secs, place in zip(full, top, strict=True) if secs is not None)[1]
    chance = random.Random(SEED)
    others = [place for place in range(len(traces)) if place not in top]
    orders = []
    for _ in range(races):
        order = [*top, *chance.sample(others, min(11, len(others)))]
        chance.shuffle(order)
        orders.append(order)
    found = own("race", traces=list(traces), orders=orders)["latencies"]
    won = []
    for order, latencies in zip(orders, found, strict=True):
        ranked = sorted(
            (secs, place)
            for secs, place in zip(latencies, order, strict=True)
            if secs is not None and place in top
        )
        won.append(truth in [place for _, place in ranked[:3]])
    return won


def _timed(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    started = time.perf_counter()
    found = run()
    return {**found, "wall_secs": time.perf_counter() - started}


def _noisily(run: Callable[[], Any]) -> Any:
    core = max(os.sched_getaffinity(0))
    with busy_neighbour(core, busy_secs=BUSY_SECS, idle_secs=IDLE_SECS):
        return run()


def _run(module: str, given: Any, order: str) -> Any:
    """Run one side's part in a process of its own and read its answer."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"tests.benchmarks.measure.{module}", order],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=PART_SECS,
        check=False,
        env={**os.environ, "TVM_NUM_THREADS": str(len(os.sched_getaffinity(0)))},
    )
    if done.returncode != 0:
        raise SystemExit(f"{module} {order} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def report(
    scale: Scale,
    found: Sequence[tuple[Case, dict[str, Any]]],
    faulty: dict[str, Any],
    daemon: dict[str, Any],
    *,
    quick: bool,
) -> None:
    """Write tables and keys."""
    ratios = [_ratio(item, "session") for _, item in found]
    measuring = [_ratio(item, "candidates") for _, item in found]
    alike = [
        item
        for _, item in found
        if _speed_change(item["again"], item["session"][CORE_SPEED]) <= ALIKE
    ]
    errors = [abs(_error(item)) for item in alike]
    shifts = [abs(_shift(item)) for _, item in found]
    stock_shifts = [abs(shift) for _, item in found if (shift := _stock_shift(item)) is not None]
    races = [won for _, item in found for won in item["races"]]
    publish(
        "bench-measure",
        title="The measurement engine",
        text=TEXT.format(
            trials=scale.trials,
            races=scale.races,
            busy=BUSY_SECS,
            period=BUSY_SECS + IDLE_SECS,
            alike=ALIKE,
            tries=TRIES,
            turns=NOISE_TURNS,
            faulty=scale.faulty,
        ),
        tables=[
            _speed_table(scale, found),
            _trust_table(found),
            _summary_table(faulty, daemon),
        ],
        keys={
            "trials_per_minute_ratio": geomean(ratios),
            "trials_per_minute_ratio_min": min(ratios),
            "candidates_ratio": geomean(measuring),
            "racing_top3": sum(races) / len(races),
            "races": len(races),
            "published_compared": len(alike),
            "published_error_median": median(errors) if errors else None,
            "published_error_max": max(errors, default=None),
            "noise_shift": max(shifts),
            "stock_noise_shift": max(stock_shifts, default=None),
            "faulty_lost": faulty["candidates"]
            - faulty["measured"]
            - sum(faulty["expected"].values()),
            "faulty_left": sum(map(len, faulty["left"].values())),
            "faulty_grown_mb": faulty["grown_mb"],
            "daemon_shift": daemon["shift"],
            "daemon_spread": daemon["spread"],
        },
        quick=quick,
    )


def _speed_table(scale: Scale, found: Sequence[tuple[Case, dict[str, Any]]]) -> Table:
    def rate(part: dict[str, Any]) -> float:
        return 60 * scale.trials / float(part["wall_secs"])

    return Table(
        title="Trials per minute",
        columns=["operator", "session", "stock session", "ratio", "given", "stock given", "ratio"],
        rows=[
            [
                case.name,
                rate(item["session"]),
                rate(item["stock_session"]),
                _ratio(item, "session"),
                rate(item["candidates"]),
                rate(item["stock_candidates"]),
                _ratio(item, "candidates"),
            ]
            for case, item in found
        ],
    )


def _trust_table(found: Sequence[tuple[Case, dict[str, Any]]]) -> Table:
    return Table(
        title="Published latencies",
        columns=[
            *("operator", "ms", "later", "cores later", "try"),
            *("with neighbour", "stock with neighbour", "races won"),
        ],
        rows=[
            [
                case.name,
                1e3 * item["session"]["latency_secs"],
                _percent(_error(item)),
                _percent(_change(item["session"][CORE_SPEED], item["again"][CORE_SPEED])),
                item["again"]["attempt"],
                _percent(_shift(item)),
                _percent(_stock_shift(item)),
                f"{sum(item['races'])} of {len(item['races'])}",
            ]
            for case, item in found
        ],
    )


def _summary_table(faulty: dict[str, Any], daemon: dict[str, Any]) -> Table:
    failures = ", ".join(f"{count} {kind}" for kind, count in faulty["failures"].items())
    return Table(
        title="Bad candidates and the daemon",
        columns=["what", "found"],
        rows=[
            ["measured", f"{faulty['measured']} of {faulty['candidates']}"],
            ["failed", failures],
            ["left behind", sum(map(len, faulty["left"].values()))],
            ["host's memory grew by (MB)", faulty["grown_mb"]],
            ["median with daemon", _percent(daemon["shift"])],
            ["spread with daemon", _percent(daemon["spread"])],
            ["spread without", _percent(daemon["spread_without"])],
        ],
    )


def _ratio(item: dict[str, Any], part: str) -> float:
    return float(item[f"stock_{part}"]["wall_secs"] / item[part]["wall_secs"])


def _best(final: dict[str, Any]) -> float:
    latency_secs = final["latencies"][-1]
    if latency_secs is None:
        raise SystemExit("a published best could not be measured again")
    return float(latency_secs)


def _error(item: dict[str, Any]) -> float:
    return _change(item["session"]["latency_secs"], _best(item["again"]))


def _shift(item: dict[str, Any]) -> float:
    return _change(item["noisy"]["alone"], item["noisy"]["beside"])


def _stock_shift(item: dict[str, Any]) -> float | None:
    """Return None where stock's runner could not time its candidate."""
    [calm], [noisy] = item["stock_calm"]["run_secs"], item["stock_noisy"]["run_secs"]
    return _change(calm, noisy) if calm and noisy else None


def _change(before: float, after: float) -> float:
    return after / before - 1


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.2f} %"


if __name__ == "__main__":
    main()
