"""`make bench-search`: this project's search beside MetaSchedule's, on the same space and measurer.

Run as ``python -m tests.benchmarks.bench_search``; what was finished is remembered, and a later run
of the same commit goes on there, also one with more seeds. The corpus of `make bench-model` is
measured first, as far as it is not there yet. QUICK=1 runs one operator with one seed and few
trials.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import exp, log
from typing import Any

from tests.benchmarks.measure.cases import CASES, Case
from tests.benchmarks.model import corpus
from tests.benchmarks.report import RESULTS, ROOT, Cell, Checkpoint, Table, publish
from tests.benchmarks.search.curves import write_curves
from tests.benchmarks.search.knowledge import gather

ARMS = ("warm", "own", "stock", "random")
LONG = "stock long"
EARLY = "warm early"
ANSWERS = ("predicted", "nearest", "roofline", "valid")
PART_SECS = 3000.0
EARLY_TRIALS = 8
ALIKE = 0.02
"""Latencies that were measured together and differ by a smaller share are alike."""
MARKS = (8, 16, 32, 64, 128, 256)

TEXT = """
Searches on the same space (`{space}`), measured by the same host, one process each:

- **warm**: this project's, with a base model that has learnt from the corpus of `make bench-model`
  ({corpus} trials, not counted here) without the records of the workload, and with the schedules of
  the nearest other shapes in it, where there are any.
- **own**: the same search, cold: it is told no trial and no model.
- **stock**: TVM's evolutionary search with its own `XGBModel` and settings (population 512, rounds
  of 64), measured by our host. Its wall-clock is therefore better than TVM's.
- **random**: samples of the space.

Each has {trials} trials, with {seeds} seeds. What was the fastest after each batch of a search, its
incumbents, are measured again afterwards, those of all searches together and interleaved: the
fastest of some hundred trials owes some of that to luck. All that follows is of this second
measurement. After so many trials a search has the fastest of its incumbents so far; it has
*matched* stock when that is as fast as stock's after all of its trials with the same seed, within
{alike:.0%}. Where it never is, all of its trials count, and the table says how often.

With the first seed stock also has {long} trials. Beside its winner stand the best of the warm
search's first 8 trials, and what is told without any trial: what the service predicts, the nearest
neighbour's schedule adapted, the sample with the lowest roofline bound, and any valid sample.
"""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured."""

    cases: tuple[Case, ...] = CASES
    trials: int = 256
    long_trials: int = 1000
    corpus_trials: int = 96
    seeds: int = 5
    space: str = "default"


QUICK = Scale(cases=CASES[:1], trials=32, long_trials=64, corpus_trials=16, seeds=1)

Runs = dict[str, dict[str, Any]]


def main(arguments: Sequence[str]) -> None:
    """Run everything and write it down."""
    parser = argparse.ArgumentParser(prog="bench_search", description=__doc__)
    parser.add_argument("--seeds", type=int, help="how many; a later run can add some")
    options = parser.parse_args(arguments)
    quick = os.environ.get("QUICK") == "1"
    scale = QUICK if quick else Scale()
    scale = replace(scale, seeds=options.seeds or scale.seeds)
    took = "8 minutes" if quick else f"{0.5 + 0.9 * scale.seeds:.1f} hours"
    print(f"this takes about {took}", file=sys.stderr, flush=True)
    corpus.measure(trials=scale.corpus_trials, seconds=float("inf"))
    done = Checkpoint("bench-search", quick=quick)
    seeds = range(1, scale.seeds + 1)
    # A seed of all operators after the other, so that a run that was cut off has whole seeds.
    runs = {
        (case.name, seed): _runs(done, scale, case, seed) for seed in seeds for case in scale.cases
    }
    found = {(case.name, seed): runs[case.name, seed] for case in scale.cases for seed in seeds}
    report(scale, found, quick=quick)


def _runs(done: Checkpoint, scale: Scale, case: Case, seed: int) -> Runs:
    """Run all arms with one seed, and re-measure their winners."""
    known = done.part(f"{case.name}: knowledge", lambda: asdict(gather(case)))
    given = {
        "op": case.op,
        "args": case.args,
        "space": scale.space,
        "seed": seed,
        "trials": scale.trials,
        "early": EARLY_TRIALS,
        **known,
    }

    def part(name: str, order: str, **changes: Any) -> dict[str, Any]:
        name = f"{case.name} {seed}: {name}"
        print(name, file=sys.stderr, flush=True)
        run: dict[str, Any] = done.part(name, partial(_run, order, {**given, **changes}))
        return run

    runs: Runs = {arm: part(arm, arm) for arm in ARMS}
    told: dict[str, str | None] = {}
    if seed == 1:
        runs[LONG] = part(LONG, "stock", trials=scale.long_trials)
        told = part("answers", "answers")
    traces = {trace for run in runs.values() for _, trace in run["incumbents"]}
    traces |= {trace for trace in told.values() if trace is not None}
    again = part("again", "final", traces=sorted(traces))
    secs = dict(zip(sorted(traces), again["latencies"], strict=True))
    for run in runs.values():
        run["best_secs"] = fastest_so_far(run, secs)
    runs |= {name: {"best_secs": [secs[trace]]} for name, trace in told.items() if trace}
    runs["warm"]["corpus_trials"] = known["corpus_trials"]
    return runs


def fastest_so_far(run: dict[str, Any], secs: dict[str, float | None]) -> list[float | None]:
    """Return the latency of the fastest incumbent after each trial; None before there is one.

    Parameters
    ----------
    run : dict
        What a search gives.
    secs : dict of str to float or None
        By trace, what was measured again; None for what failed then.
    """
    best_secs: list[float | None] = [None] * len(run["wall_secs"])
    for trial, trace in run["incumbents"]:
        found = secs[trace]
        for place in range(trial - 1, len(best_secs)):
            best_secs[place] = min(filter(None, (found, best_secs[place])), default=None)
    return best_secs


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
    """Return after how many trials a search was within `ALIKE` of a goal; None if it never was."""
    for trials, secs in enumerate(run["best_secs"], start=1):
        if secs is not None and secs <= (1 + ALIKE) * goal_secs:
            return trials
    return None


def report(scale: Scale, found: dict[tuple[str, int], Runs], *, quick: bool) -> None:
    """Write tables, pictures and keys."""
    folder = ROOT / "build" / "benchmarks" if quick else RESULTS
    for case in {case for case, _ in found}:
        write_curves(folder / "search" / f"{case}.svg", case, _curves(found, case))
    pictures = "\n".join(f"![{case.name}](search/{case.name}.svg)" for case in scale.cases)
    text = TEXT.format(
        space=scale.space,
        trials=scale.trials,
        long=scale.long_trials,
        seeds=scale.seeds,
        alike=ALIKE,
        corpus=min(runs["warm"]["corpus_trials"] for runs in found.values()),
    )
    publish(
        "bench-search",
        title="The search",
        text=f"{text.strip()}\n\n{pictures}",
        tables=[
            _winners_table(found),
            _answers_table(found),
            _regret_table(scale, found),
        ],
        keys={
            "trials_ratio_warm": _ratio(found, "warm", _trials),
            "trials_ratio_cold": _ratio(found, "own", _trials),
            "wall_ratio": _ratio(found, "warm", _wall),
            "wall_ratio_cold": _ratio(found, "own", _wall),
            "first8_vs_stock1000": _of_long(found, EARLY),
            "zero_vs_stock1000": _of_long(found, "predicted"),
            **{f"{name}_vs_stock1000": _of_long(found, name) for name in ANSWERS[1:]},
            "seeds": scale.seeds,
            "never_matched_warm": _never_matched(found, "warm"),
            "never_matched": _never_matched(found, "own"),
            "speed_ratio_at_equal_trials": geomean(
                [_goal(runs) / _final(runs["own"]) for runs in found.values()]
            ),
        },
        quick=quick,
    )


def _final(run: dict[str, Any]) -> float:
    return float(run["best_secs"][-1])


def _goal(runs: Runs) -> float:
    return _final(runs["stock"])


def _trials(runs: Runs, arm: str) -> float:
    everything = len(runs["stock"]["best_secs"])
    # A search that ends with its space, and has not matched, has not won by its few trials.
    never = max(everything, len(runs[arm]["best_secs"]))
    return everything / (matched_at(runs[arm], _goal(runs)) or never)


def _wall(runs: Runs, arm: str) -> float:
    everything, wall_secs = runs["stock"]["wall_secs"][-1], runs[arm]["wall_secs"]
    matched = matched_at(runs[arm], _goal(runs))
    never = max(everything, wall_secs[-1])
    return float(everything / (never if matched is None else wall_secs[matched - 1]))


def _ratio(
    found: dict[tuple[str, int], Runs], arm: str, ratio: Callable[[Runs, str], float]
) -> float:
    return geomean([ratio(runs, arm) for runs in found.values()])


def _never_matched(found: dict[tuple[str, int], Runs], arm: str) -> int:
    return sum(matched_at(runs[arm], _goal(runs)) is None for runs in found.values())


def _of_long(found: dict[tuple[str, int], Runs], name: str) -> float | None:
    """Return the speed of what is named over that of stock's long search; None if it is nowhere."""
    ratios = [
        _final(runs[LONG]) / secs
        for runs in found.values()
        if LONG in runs and (secs := _told_secs(runs, name)) is not None
    ]
    return geomean(ratios) if ratios else None


def _told_secs(runs: Runs, name: str) -> float | None:
    """Return the latency of what is named; None where there is no such thing, or it failed."""
    if name == EARLY:
        early = runs["warm"]["best_secs"][:EARLY_TRIALS]
        return early[-1] if early else None
    secs: float | None = runs[name]["best_secs"][-1] if name in runs else None
    return secs


def _winners_table(found: dict[tuple[str, int], Runs]) -> Table:
    rows: list[list[Cell]] = []
    for (case, seed), runs in found.items():
        goal_secs = _goal(runs)
        rows.append(
            [
                case,
                seed,
                *(1e3 * _final(runs[arm]) for arm in ARMS),
                *(matched_at(runs[arm], goal_secs) or "never" for arm in ("warm", "own")),
                matched_at(runs["stock"], goal_secs) or "never",
                *(_searching_millisecs(runs[arm]) for arm in ("own", "stock")),
            ]
        )
    return Table(
        title="Winners",
        columns=[
            "operator",
            "seed",
            *(f"{arm} ms" for arm in ARMS),
            "warm matched at",
            "own matched at",
            "stock at",
            "search ms/trial",
            "stock's",
        ],
        rows=rows,
    )


def _searching_millisecs(run: dict[str, Any]) -> float:
    """Return what the search took for each of its trials."""
    return 1e3 * float(run["searching_secs"]) / len(run["wall_secs"])


def _answers_table(found: dict[tuple[str, int], Runs]) -> Table:
    names = (LONG, EARLY, *ANSWERS)
    return Table(
        title="Few trials and none (ms)",
        columns=["operator", *names],
        rows=[
            [case, *(_milliseconds(_told_secs(runs, name)) for name in names)]
            for (case, _), runs in found.items()
            if LONG in runs
        ],
    )


def _milliseconds(secs: float | None) -> Cell:
    return "-" if secs is None else 1e3 * secs


def _regret_table(scale: Scale, found: dict[tuple[str, int], Runs]) -> Table:
    marks = [mark for mark in MARKS if mark <= scale.trials]
    rows: list[list[Cell]] = []
    for case in scale.cases:
        curves = _curves(found, case.name)
        # Where a space is small, a search ends before its trials do.
        rows += [[case.name, arm, *(curves[arm][:mark][-1] for mark in marks)] for arm in ARMS]
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
    main(sys.argv[1:])
