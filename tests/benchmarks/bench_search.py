"""`make bench-search`: this project's search beside MetaSchedule's, on the same space and measurer.

Run as ``python -m tests.benchmarks.bench_search``; what was finished is remembered, and a later run
of the same commit goes on there. ``--seeds 4 5``, ``--cases GMM NRM`` and ``--only told`` run these
only; what was published before stands beside them. The corpus of `make bench-model` is measured
first, as far as it is not there yet. QUICK=1 runs one operator with one seed and few trials.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from tests.benchmarks.measure.cases import CASES, Case
from tests.benchmarks.model import corpus
from tests.benchmarks.report import RESULTS, ROOT, Checkpoint, publish
from tests.benchmarks.search.curves import write_curves
from tests.benchmarks.search.knowledge import gather
from tests.benchmarks.search.runs import (
    ALIKE,
    NAMES,
    Found,
    LateFailures,
    Run,
    Searches,
    Told,
    keep,
    read,
)
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
LONG_SEED = 1
"""With it stock also searches for long, once for what is told with every seed."""
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

With the first seed stock also has {long} trials. Measured together with its winner are, for each
seed, that of a warm search with {early} trials, and what is told without any trial: what the
service predicts, the nearest neighbour's schedule adapted, the sample with the lowest roofline
bound, and any valid sample.

For {failing} own and stock are run once more in a space of which about a third fails, with
{failing_trials} trials: in each design one factor of a tile, or one choice, was drawn, and where it
is large, the candidate cannot be built.
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
    kinds = list(NAMES.values())
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds, help="what to run")
    parser.add_argument("--seeds", type=int, nargs="+", default=scale.seeds, help="which to run")
    parser.add_argument(
        "--cases", nargs="+", choices=names, default=names, help="of which operators"
    )
    asked = parser.parse_args(arguments)
    took = "8 minutes" if quick else f"{_hours(scale, asked):.1f} hours"
    print(f"this takes about {took}", file=sys.stderr, flush=True)
    corpus.measure(trials=scale.corpus_trials, seconds=float("inf"))
    done = Checkpoint("bench-search", quick=quick)
    for seed in asked.seeds:
        for case in scale.cases:
            if case.name in asked.cases:
                _measure(Bench(done, scale, case, seed), _folder(quick), asked.only)
                report(scale, read(_folder(quick), names), quick=quick)


def _hours(scale: Scale, asked: argparse.Namespace) -> float:
    """Estimate what the asked takes, with the corpus."""
    cases, seeds, first = len(asked.cases), len(asked.seeds), LONG_SEED in asked.seeds
    failing = len(set(asked.cases) & set(scale.failing))
    secs = {
        "searches": cases * (360 * seeds + 420 * first),
        "told": cases * 25 * seeds,
        "failing": failing * 240 * seeds,
    }
    return 0.6 + sum(secs[kind] for kind in asked.only) / 3600


def _measure(bench: "Bench", folder: Path, kinds: Sequence[str]) -> None:
    """Measure what is asked of one operator with one seed, and keep each when it is there."""
    case, seed = bench.case.name, bench.seed
    if "searches" in kinds:
        keep(folder, case, seed, bench.searches())
    if "told" in kinds:
        searches = read(folder, [case]).searches.get((case, LONG_SEED))
        if searches is None or searches.long_trace is None:
            raise SystemExit(
                f"told needs a long search of {case}; run its searches with seed {LONG_SEED} first"
            )
        keep(folder, case, seed, bench.told(searches.long_trace))
    if "failing" in kinds and case in bench.scale.failing:
        keep(folder, case, seed, bench.failing())


class Bench:
    """Runs the searches of one operator with one seed, each in a process of its own.

    Parameters
    ----------
    done : Checkpoint
        What was finished is not run again.
    scale : Scale
        How much is measured.
    case : Case
        The operator.
    seed : int
        Of all searches.
    """

    def __init__(self, done: Checkpoint, scale: Scale, case: Case, seed: int) -> None:
        self.scale, self.case, self.seed = scale, case, seed
        self._done = done
        self._known = done.part(f"{case.name}: knowledge", lambda: asdict(gather(case)))

    def searches(self) -> Searches:
        """Run all arms, and re-measure their incumbents together."""
        runs = {arm: self._part(arm, arm) for arm in ARMS}
        if self.seed == LONG_SEED:
            runs[LONG] = self._part(LONG, "stock", trials=self.scale.long_trials)
        traces = {trace for run in runs.values() for _, trace in run["incumbents"]}
        secs = self._again("again", traces)
        long = [trace for _, trace in runs[LONG]["incumbents"]] if LONG in runs else []
        return Searches(
            runs={name: Run.measured_again(run, secs) for name, run in runs.items()},
            corpus_trials=self._known["corpus_trials"],
            long_trace=min(long, key=lambda trace: secs[trace] or inf, default=None),
        )

    def told(self, long_trace: str) -> Told:
        """Measure what few trials and none come to, together with what many came to."""
        early = self._part(EARLY, "warm", trials=self.scale.early_trials)
        answers = self._part("answers", "answers")
        found = {name: [trace] for name, trace in answers.items() if trace is not None}
        found |= {LONG: [long_trace], EARLY: [trace for _, trace in early["incumbents"]]}
        secs = self._again("told again", {trace for traces in found.values() for trace in traces})
        fastest = {
            name: min(secs[trace] or inf for trace in traces) for name, traces in found.items()
        }
        return Told(secs={name: took for name, took in fastest.items() if took < inf})

    def failing(self) -> LateFailures:
        """Search where a part of the space fails."""
        runs = {
            arm: self._part(f"failing {arm}", arm, failing=True, trials=self.scale.failing_trials)
            for arm in FAILING_ARMS
        }
        return LateFailures.counted(runs)

    def _again(self, name: str, traces: set[str]) -> dict[str, float | None]:
        """Return what traces take when they are measured together; None where one fails."""
        again = self._part(name, "final", traces=sorted(traces))
        return dict(zip(sorted(traces), again["latencies"], strict=True))

    def _part(self, name: str, order: str, **changes: Any) -> dict[str, Any]:
        given = {
            "op": self.case.op,
            "args": self.case.args,
            "space": self.scale.space,
            "seed": self.seed,
            "trials": self.scale.trials,
            **self._known,
            **changes,
        }
        name = f"{self.case.name} {self.seed}: {name}"
        print(name, file=sys.stderr, flush=True)
        run: dict[str, Any] = self._done.part(name, partial(_run, order, given))
        return run


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
    cases = list(dict.fromkeys(case for case, _ in found.searches))
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
        failing_trials=scale.failing_trials,
        corpus=min(outcome.corpus_trials for outcome in found.searches.values()),
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
