"""`make bench-search`: this project's search beside MetaSchedule's, on the same space and measurer.

Run as ``python -m tests.benchmarks.bench_search``; what was finished is remembered, and a later run
of the same commit goes on there. ``--seeds 4 5`` and ``--cases GMM NRM`` run these only; what was
published before stands beside them. The corpus of `make bench-model` is measured first, as far as
it is not there yet. QUICK=1 runs one operator with one seed and few trials.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.measure.cases import CASES, Case
from tests.benchmarks.model import corpus
from tests.benchmarks.report import RESULTS, ROOT, Checkpoint, publish
from tests.benchmarks.search.curves import write_curves
from tests.benchmarks.search.knowledge import gather
from tests.benchmarks.search.runs import ALIKE, Found, Outcome, Run, keep, late_failures, read
from tests.benchmarks.search.tables import (
    ARMS,
    EARLY,
    FAILING_ARMS,
    LONG,
    curves,
    keys,
    tables,
)
from tuner.publish import FINALISTS

PART_SECS = 3000.0
TEXT = """
Searches on the same space (`{space}`), measured by the same host, one process each:

- **warm**: this project's, with a base model that has learnt from the corpus of `make bench-model`
  ({corpus} trials, not counted here) without the records of the workload, and with the schedules of
  the nearest other shapes in it, where there are any.
- **own**: the same search, cold: it is told no trial and no model.
- **stock**: TVM's evolutionary search with its own `XGBModel` and settings (population 512, rounds
  of 64), measured by our host. Its wall-clock is therefore better than TVM's.
- **random**: samples of the space.

Each has {trials} trials. What was the fastest after each batch of a search, and its {finalists}
fastest of all, its incumbents, are measured again afterwards, those of all searches together and
interleaved: the fastest of some hundred trials owes some of that to luck. All that follows is of
this second measurement. After so many trials a search has the fastest of its incumbents so far; it
has *matched* stock when that is as fast as stock's after all of its trials with the same seed,
within {alike:.0%}. Where it never is, all of its trials count, and the table says how often.

With the first seed stock also has {long} trials. Beside its winner stand that of a warm search with
{early} trials, and what is told without any trial: what the service predicts, the nearest
neighbour's schedule adapted, the sample with the lowest roofline bound, and any valid sample.

For {failing} both are run once more in a space of which about a third fails: in each design one
factor of a tile, or one choice, was drawn, and where it is large, the candidate cannot be built.
"""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured."""

    cases: tuple[Case, ...] = CASES
    trials: int = 256
    early_trials: int = 8
    long_trials: int = 1000
    corpus_trials: int = corpus.TRIALS
    failing: tuple[str, ...] = ("GMM", "C1D", "C2D", "T2D")
    failing_trials: int = 160
    seeds: Sequence[int] = range(1, 6)
    space: str = "default"


QUICK = Scale(
    cases=CASES[:1], trials=32, long_trials=64, corpus_trials=16, seeds=[1], failing_trials=96
)


def main(arguments: Sequence[str]) -> None:
    """Run everything and write it down."""
    quick = os.environ.get("QUICK") == "1"
    scale = QUICK if quick else Scale()
    parser = argparse.ArgumentParser(prog="bench_search", description=__doc__)
    names = [case.name for case in scale.cases]
    parser.add_argument("--seeds", type=int, nargs="+", default=scale.seeds, help="which to run")
    parser.add_argument(
        "--cases", nargs="+", choices=names, default=names, help="of which operators"
    )
    asked = parser.parse_args(arguments)
    hours = len(asked.cases) * (0.1 * len(asked.seeds) + 0.12 * (1 in asked.seeds))
    took = "8 minutes" if quick else f"{0.6 + hours:.1f} hours"
    print(f"this takes about {took}", file=sys.stderr, flush=True)
    corpus.measure(trials=scale.corpus_trials, seconds=float("inf"))
    done = Checkpoint("bench-search", quick=quick)
    for seed in asked.seeds:
        for case in scale.cases:
            if case.name in asked.cases:
                keep(_folder(quick), case.name, seed, _outcome(done, scale, case, seed))
                report(scale, read(_folder(quick), names), quick=quick)


def _outcome(done: Checkpoint, scale: Scale, case: Case, seed: int) -> Outcome:
    """Run all arms with one seed, and re-measure their winners."""
    known = done.part(f"{case.name}: knowledge", lambda: asdict(gather(case)))
    given = {
        "op": case.op,
        "args": case.args,
        "space": scale.space,
        "seed": seed,
        "trials": scale.trials,
        **known,
    }

    def part(name: str, order: str, **changes: Any) -> dict[str, Any]:
        name = f"{case.name} {seed}: {name}"
        print(name, file=sys.stderr, flush=True)
        run: dict[str, Any] = done.part(name, partial(_run, order, {**given, **changes}))
        return run

    runs = {arm: part(arm, arm) for arm in ARMS}
    told: dict[str, str | None] = {}
    failing: dict[str, dict[str, Any]] = {}
    if seed == 1:
        if case.name in scale.failing:
            several = {"failing": True, "trials": scale.failing_trials}
            failing = {arm: part(f"failing {arm}", arm, **several) for arm in FAILING_ARMS}
        runs[EARLY] = part(EARLY, "warm", trials=scale.early_trials)
        runs[LONG] = part(LONG, "stock", trials=scale.long_trials)
        told = part("answers", "answers")
    traces = {trace for run in runs.values() for _, trace in run["incumbents"]}
    traces |= {trace for trace in told.values() if trace is not None}
    again = part("again", "final", traces=sorted(traces))
    secs = dict(zip(sorted(traces), again["latencies"], strict=True))
    return Outcome(
        runs={name: Run.measured_again(run, secs) for name, run in runs.items()},
        told_secs={name: found for name, trace in told.items() if trace and (found := secs[trace])},
        late_failures=late_failures(failing),
        corpus_trials=known["corpus_trials"],
    )


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


def report(scale: Scale, found: Found, *, quick: bool) -> None:
    """Write tables, pictures and keys."""
    cases = list(dict.fromkeys(case for case, _ in found))
    for case in cases:
        write_curves(_folder(quick) / f"{case}.svg", case, curves(found, case))
    pictures = "\n".join(f"![{case}](search/{case}.svg)" for case in cases)
    text = TEXT.format(
        space=scale.space,
        trials=scale.trials,
        early=scale.early_trials,
        long=scale.long_trials,
        alike=ALIKE,
        finalists=FINALISTS,
        failing=", ".join(scale.failing),
        corpus=min(outcome.corpus_trials for outcome in found.values()),
    )
    publish(
        "bench-search",
        title="The search",
        text=f"{text.strip()}\n\n{pictures}",
        tables=tables(found, scale.trials),
        keys=keys(found),
        quick=quick,
    )


def _folder(quick: bool) -> Path:
    return (ROOT / "build" / "benchmarks" if quick else RESULTS) / "search"


if __name__ == "__main__":
    main(sys.argv[1:])
