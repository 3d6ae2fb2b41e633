"""`make bench-search`: this project's search beside MetaSchedule's, on the same space and measurer.

Run as ``python -m tests.benchmarks.bench_search``; what was finished is remembered, and a later run
of the same commit goes on there. QUICK=1 runs one operator with one seed and few trials.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, log
from typing import Any

from tests.benchmarks.measure.cases import CASES, Case
from tests.benchmarks.report import RESULTS, ROOT, Cell, Checkpoint, Table, publish
from tests.benchmarks.search.curves import write_curves

ARMS = ("own", "stock", "random")
PART_SECS = 1800.0
MARKS = (8, 16, 32, 64, 128, 256)

TEXT = """
Three searches on the same space (`{space}`), measured by the same host, one process each:

- **own**: this project's, which starts cold: it is told no trial and no model.
- **stock**: TVM's evolutionary search with its own `XGBModel` and settings (population 512, rounds
  of 64), measured by our host. Its wall-clock is therefore better than TVM's.
- **random**: samples of the space.

Each has {trials} trials, with {seeds} seeds. A search has *matched* stock when its best is as fast
as the best that stock found with the same seed in all of its trials. Where it never does, all of
its trials count, and the table says how often. Winners are re-measured together, interleaved.

Not measured yet: warm starts, the first 8 trials beside stock's 1,000, and answers without a trial;
their keys are null.
"""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured."""

    cases: tuple[Case, ...] = CASES
    trials: int = 256
    seeds: int = 5
    space: str = "stock"


QUICK = Scale(cases=CASES[:1], trials=64, seeds=1)

Runs = dict[str, dict[str, Any]]


def main() -> None:
    """Run everything and write it down."""
    quick = os.environ.get("QUICK") == "1"
    scale = QUICK if quick else Scale()
    print(f"this takes about {'3 minutes' if quick else '4 hours'}", file=sys.stderr, flush=True)
    done = Checkpoint("bench-search", quick=quick)
    found = {
        (case.name, seed): _runs(done, scale, case, seed)
        for case in scale.cases
        for seed in range(1, scale.seeds + 1)
    }
    report(scale, found, quick=quick)


def _runs(done: Checkpoint, scale: Scale, case: Case, seed: int) -> Runs:
    """Run all arms with one seed, and re-measure their winners."""
    given = {
        "op": case.op,
        "args": case.args,
        "space": scale.space,
        "seed": seed,
        "trials": scale.trials,
    }
    runs: Runs = {}
    for arm in ARMS:
        name = f"{case.name} {seed}: {arm}"
        print(name, file=sys.stderr, flush=True)
        runs[arm] = done.part(name, partial(_run, arm, given))
    winners = {"op": case.op, "args": case.args, "traces": [runs[arm]["trace"] for arm in ARMS]}
    final = done.part(f"{case.name} {seed}: final", lambda: _run("final", winners))
    for arm, secs in zip(ARMS, final["latencies"], strict=True):
        runs[arm]["final_secs"] = secs
    return runs


def _run(order: str, given: dict[str, Any]) -> dict[str, Any]:
    completed = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.search.arm", order],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=PART_SECS,
        check=False,
    )
    if completed.returncode != 0:
        raise SystemExit(f"{order} failed: {completed.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(completed.stdout.strip().splitlines()[-1])
    return found


def matched_at(run: dict[str, Any], goal_secs: float) -> int | None:
    """Return after how many trials a search was as fast as a goal; None if it never was."""
    for trials, secs in enumerate(run["best_secs"], start=1):
        if secs is not None and secs <= goal_secs:
            return trials
    return None


def report(scale: Scale, found: dict[tuple[str, int], Runs], *, quick: bool) -> None:
    """Write tables, pictures and keys."""
    rows: list[list[Cell]] = []
    trial_ratios, wall_ratios, speed_ratios, missed = [], [], [], 0
    for (case, seed), runs in found.items():
        own, stock = runs["own"], runs["stock"]
        goal_secs = stock["best_secs"][-1]
        matched = matched_at(own, goal_secs)
        missed += matched is None
        counted = matched or len(own["best_secs"])
        reached = matched_at(stock, goal_secs) or len(stock["best_secs"])
        trial_ratios.append(len(stock["best_secs"]) / counted)
        wall_ratios.append(stock["wall_secs"][-1] / own["wall_secs"][counted - 1])
        speed_ratios.append(stock["final_secs"] / own["final_secs"])
        rows.append(
            [
                case,
                seed,
                *(1e3 * runs[arm]["final_secs"] for arm in ARMS),
                "never" if matched is None else matched,
                reached,
                *(1e3 * runs[arm]["searching_secs"] / scale.trials for arm in ARMS[:2]),
            ]
        )
    folder = ROOT / "build" / "benchmarks" if quick else RESULTS
    for case in {case for case, _ in found}:
        write_curves(folder / "search" / f"{case}.svg", case, _curves(found, case))
    pictures = "\n".join(f"![{case.name}](search/{case.name}.svg)" for case in scale.cases)
    text = TEXT.format(space=scale.space, trials=scale.trials, seeds=scale.seeds)
    publish(
        "bench-search",
        title="The search",
        text=f"{text.strip()}\n\n{pictures}",
        tables=[
            Table(
                title="Winners, re-measured",
                columns=[
                    "operator",
                    "seed",
                    *(f"{arm} ms" for arm in ARMS),
                    "matched at",
                    "stock at",
                    "search ms/trial",
                    "stock's",
                ],
                rows=rows,
            ),
            _regret_table(scale, found),
        ],
        keys={
            "trials_ratio_warm": None,
            "trials_ratio_cold": geomean(trial_ratios),
            "wall_ratio": geomean(wall_ratios),
            "first8_vs_stock1000": None,
            "zero_vs_stock1000": None,
            "seeds": scale.seeds,
            "never_matched": missed,
            "speed_ratio_at_equal_trials": geomean(speed_ratios),
        },
        quick=quick,
    )


def _regret_table(scale: Scale, found: dict[tuple[str, int], Runs]) -> Table:
    marks = [mark for mark in MARKS if mark <= scale.trials]
    rows: list[list[Cell]] = []
    for case in scale.cases:
        curves = _curves(found, case.name)
        rows += [[case.name, arm, *(curves[arm][mark - 1] for mark in marks)] for arm in ARMS]
    return Table(
        title="Latency over the best known, after so many trials (geomean of the seeds)",
        columns=["operator", "search", *map(str, marks)],
        rows=rows,
    )


def _curves(found: dict[tuple[str, int], Runs], case: str) -> dict[str, list[float]]:
    """Return each search's mean distance from the best that any of them found."""
    of_case = [runs for (name, _), runs in found.items() if name == case]
    best_secs = min(runs[arm]["best_secs"][-1] for runs in of_case for arm in ARMS)
    curves: dict[str, list[float]] = {}
    for arm in ARMS:
        length = min(len(runs[arm]["best_secs"]) for runs in of_case)
        curves[arm] = [
            geomean([_regret(runs[arm]["best_secs"], trial, best_secs) for runs in of_case])
            for trial in range(length)
        ]
    return curves


def _regret(curve: Sequence[float | None], trial: int, best_secs: float) -> float:
    first = next(secs for secs in curve if secs is not None)
    return (curve[trial] or first) / best_secs


def geomean(values: Sequence[float]) -> float:
    """Return the geometric mean."""
    return exp(sum(map(log, values)) / len(values))


if __name__ == "__main__":
    main()
