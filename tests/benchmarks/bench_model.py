"""`make bench-model`: the cost model on what it has not learnt, beside TVM's own.

Run as ``python -m tests.benchmarks.bench_model``. The corpus is measured first, as far as it is not
there yet; it and what was finished are remembered. QUICK=1 takes a corpus of a few hundred trials.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import numpy.typing as npt

from cost_model.base_model import BaseModel
from cost_model.columns import FEATURE_NAMES
from cost_model.dataset import Dataset
from cost_model.metrics import pairwise_accuracy, top_k_recall
from cost_model.xgboost_model import XgbCostModel
from tests.benchmarks.model import corpus, rival
from tests.benchmarks.model.table import Table as Corpus
from tests.benchmarks.model.table import load
from tests.benchmarks.report import Checkpoint, Table, publish

SPEED_ROWS = 10_000
HELD_OUT = 0.25
BASES = 4
AGAIN = 24
APART = 1.1
BOUND = FEATURE_NAMES.index("analysis.bound")

Mask = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float32]

TEXT = """
The corpus has {trials} trials of {tasks} workloads ({operators} operators of the catalogue, each at
several shapes, in {dtypes}), measured by this project's tuner on this machine:
{failed} failed, and {censored} were given up as slow, so that only a bound is known.

- **Held-out shape**: for each of {seeds} seeds a quarter of the workloads is held out, with all of
  their records, never all shapes of an operator; both models learn from the rest.
- **Held-out operator**: the same with a quarter of the operators, with all of their shapes.
- **Within task**: a random half of each workload's records is learnt from, the other half ordered.
  Ours is a base of other workloads ({bases} bases, each without a part of them) with the residual
  of the task on top; TVM's learns from all workloads together.
- **Pairs**: the share of pairs of one workload that are ordered rightly, among those of which it is
  known which is faster; means over workloads and seeds, and the standard error over the seeds.
  **Apart**: the same among pairs of which one is more than {apart} times as fast as the other.
  **Top k**: the fastest of a workload over the fastest of the k that are scored highest, where a
  bound counts as the time.
- **TVM**: `XGBModel` of MetaSchedule with its own settings, trained on the same trials with its own
  features of them, where a bound counts as the time. **Roofline**: ordered by the analytical bound
  alone. **Chance**: in random order.
- **Measured again**: up to {again} trials of each workload were measured a second time, after the
  corpus; the share of pairs that both times order alike. Most of a corpus is what a search
  proposed, so many of its pairs are close. Where it is `a` and errors are independent, a model that
  knew the true order would agree with one measurement in `(1 + sqrt(2 a - 1)) / 2` of the pairs.
- **Training**: one fit of each on {speed_rows} records ({repeated}), features given, one thread, in
  turns; the median of {turns}.
"""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is done."""

    trials: int
    seeds: int = 20
    speed_rows: int = SPEED_ROWS
    turns: int = 3
    again: int = AGAIN


FULL = Scale(trials=corpus.TRIALS)
QUICK = Scale(trials=16, seeds=5, speed_rows=1000, turns=1, again=4)


def main() -> None:
    """Run everything and write it down."""
    quick = os.environ.get("QUICK") == "1"
    scale = QUICK if quick else FULL
    print(f"this takes about {'5' if quick else '45'} minutes", file=sys.stderr, flush=True)
    corpus.measure(trials=scale.trials, seconds=float("inf"))
    data = load()
    done = Checkpoint(f"bench-model-{len(data.dataset)}", quick=quick)
    again = done.part("again", partial(agreement, scale.again))
    shapes, operators, within = [], [], []
    for seed in range(scale.seeds):
        print(f"seed {seed}", file=sys.stderr, flush=True)
        some, others = some_shapes(data, seed), some_operators(data, seed)
        shapes.append(done.part(f"shape {seed}", partial(ordered, data, some, seed)))
        operators.append(done.part(f"operator {seed}", partial(ordered, data, others, seed)))
        within.append(done.part(f"within {seed}", partial(within_tasks, data, seed)))
    speed = done.part("speed", partial(training_secs, data, scale))
    report(scale, data, again, shapes, operators, within, speed, quick=quick)


def agreement(most: int) -> dict[str, float | None]:
    """Return for each workload the share of pairs that a second measurement orders alike."""
    return {
        call: pairwise_accuracy(
            np.array([-first for first, _ in both], dtype=np.float32),
            np.array([second for _, second in both]),
            np.zeros(len(both), dtype=np.int64),
        )
        for call, both in corpus.measure_again(most, seed=0).items()
    }


def ordered(data: Corpus, workloads: Sequence[int], seed: int) -> dict[str, Any]:
    """Order the candidates of workloads that nothing was learnt of."""
    held_out = np.isin(data.dataset.groups, workloads)
    model = BaseModel(seed=seed)
    model.fit(data.dataset.rows(~held_out))
    test = data.dataset.rows(held_out)
    scores = {
        "ours": model.predict(test.features),
        "TVM": _rival_scores(data, ~held_out, held_out, seed),
        "roofline": -test.features[:, BOUND],
        "chance": np.random.default_rng(seed).random(len(test), dtype=np.float32),
    }
    estimates = model.estimate(test.features)
    timed = ~test.failed & ~test.censored
    inside = (estimates.low_secs <= test.latency_secs) & (test.latency_secs <= estimates.high_secs)
    return {
        "judged": {name: judge(given, test) for name, given in scores.items()},
        "coverage": float(inside[timed].mean()),
        "of_task": {
            data.names[group]: judge(
                scores["ours"][test.groups == group], test.rows(test.groups == group)
            )
            for group in np.unique(test.groups).tolist()
        },
    }


def within_tasks(data: Corpus, seed: int) -> dict[str, Any]:
    """Order one half of each workload's candidates after learning from the other half.

    As in the service: the base has learnt from other workloads, and the residual from this one.
    """
    random = np.random.default_rng(seed)
    learnt: Mask = random.random(len(data.dataset)) < 0.5
    # Something of each: a few workloads have hardly more than two candidates.
    learnt[np.unique(data.dataset.groups, return_index=True)[1]] = True
    test = data.dataset.rows(~learnt)
    scores = {
        name: np.zeros(len(test), dtype=np.float32) for name in ("ours", "base alone", "task alone")
    }
    fit_secs = []
    for groups in np.array_split(random.permutation(np.unique(test.groups)), BASES):
        base = BaseModel(seed=seed)
        base.fit(data.dataset.rows(learnt & ~np.isin(data.dataset.groups, groups)))
        for group in groups:
            members = test.groups == group
            own = data.dataset.rows(learnt & (data.dataset.groups == group))
            residual, alone = XgbCostModel(base=base, seed=seed), XgbCostModel(seed=seed)
            started = time.perf_counter()
            residual.fit(own)
            fit_secs.append(time.perf_counter() - started)
            alone.fit(own)
            features = test.features[members]
            for name, model in (("ours", residual), ("base alone", base), ("task alone", alone)):
                scores[name][members] = model.predict(features)
    scores["TVM"] = _rival_scores(data, learnt, ~learnt, seed)
    return {
        "judged": {name: judge(given, test) for name, given in scores.items()},
        "residual_fit_secs": median(fit_secs),
    }


def some_shapes(data: Corpus, seed: int) -> list[int]:
    """Choose workloads to hold out: a quarter, never all shapes of an operator."""
    random = np.random.default_rng(seed)
    chosen: list[int] = []
    for operator in sorted(set(data.operators.values())):
        shapes = sorted(group for group, name in data.operators.items() if name == operator)
        count = min(len(shapes) - 1, max(1, round(HELD_OUT * len(shapes))))
        chosen += random.permutation(shapes)[:count].tolist()
    return chosen


def some_operators(data: Corpus, seed: int) -> list[int]:
    """Choose a quarter of the operators to hold out, with all of their workloads."""
    operators = sorted(set(data.operators.values()))
    count = max(1, round(HELD_OUT * len(operators)))
    chosen = np.random.default_rng(seed).permutation(operators)[:count].tolist()
    return sorted(group for group, name in data.operators.items() if name in chosen)


def judge(scores: Scores, test: Dataset) -> dict[str, float | None]:
    """Compute the metrics; what is at best as fast as its bound counts as that fast."""
    judged = (scores, test.latency_secs, test.groups)
    return {
        "pairwise": pairwise_accuracy(*judged, test.censored),
        "apart": pairwise_accuracy(*judged, test.censored, least_factor=APART),
        **{f"top{k}": top_k_recall(*judged, k) for k in (1, 5, 16)},
    }


def training_secs(data: Corpus, scale: Scale) -> dict[str, Any]:
    """Time one fit of each on as many rows as wanted, repeating rows where there are too few."""
    rows = np.resize(np.arange(len(data.dataset)), scale.speed_rows)
    part = data.dataset.rows(rows)
    stores = [data.stores[row] for row in rows.tolist()]
    sides: dict[str, Callable[[], Any]] = {
        "ours": partial(BaseModel().fit, part),
        "TVM": partial(rival.train, stores, data.costs[rows], part.groups, seed=0),
    }
    secs: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(scale.turns):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            secs[name].append(time.perf_counter() - started)
    return {name: median(times) for name, times in secs.items()}


def _rival_scores(data: Corpus, learnt: Mask, asked: Mask, seed: int) -> Scores:
    model = rival.train(
        [data.stores[place] for place in np.flatnonzero(learnt).tolist()],
        data.costs[learnt],
        data.dataset.groups[learnt],
        seed=seed,
    )
    return rival.predict(model, [data.stores[place] for place in np.flatnonzero(asked).tolist()])


def report(
    scale: Scale,
    data: Corpus,
    again: dict[str, float | None],
    shapes: Sequence[dict[str, Any]],
    operators: Sequence[dict[str, Any]],
    within: Sequence[dict[str, Any]],
    speed: dict[str, float],
    *,
    quick: bool,
) -> None:
    """Write down what was found."""

    def of(parts: Sequence[dict[str, Any]], side: str, metric: str) -> float:
        return float(mean(part["judged"][side][metric] for part in parts))

    def standard_error(parts: Sequence[dict[str, Any]], side: str) -> float:
        found: list[float] = [part["judged"][side]["pairwise"] for part in parts]
        return stdev(found) / sqrt(len(found))

    dataset = data.dataset
    metrics = ("apart", "top1", "top5", "top16")
    tables = [
        Table(
            title=title,
            columns=["ordered by", "pairs", "±", "apart", "top 1", "top 5", "top 16"],
            rows=[
                [
                    side,
                    of(parts, side, "pairwise"),
                    standard_error(parts, side),
                    *(of(parts, side, name) for name in metrics),
                ]
                for side in sides
            ],
        )
        for title, parts, sides in (
            ("Held-out shapes", shapes, ("ours", "TVM", "roofline", "chance")),
            ("Held-out operators", operators, ("ours", "TVM", "roofline", "chance")),
            ("Within tasks", within, ("ours", "base alone", "task alone", "TVM")),
        )
    ]
    tables.append(_task_table(shapes, again))
    coverage = mean(part["coverage"] for part in shapes)
    residual_secs = median(part["residual_fit_secs"] for part in within)
    tables.append(
        Table(
            title="Training",
            columns=["what", "seconds"],
            rows=[
                ["base model", speed["ours"]],
                ["TVM's", speed["TVM"]],
                ["residual of one task", residual_secs],
            ],
        )
    )
    enough = len(dataset) >= scale.speed_rows
    alike = mean(share for share in again.values() if share is not None)
    publish(
        "bench-model",
        title="The cost model on what it has not learnt",
        text=TEXT.format(
            trials=len(dataset),
            tasks=len(data.names),
            operators=len(set(data.operators.values())),
            dtypes=", ".join(sorted(set(data.dtypes.values()))),
            failed=int(dataset.failed.sum()),
            censored=int(dataset.censored.sum()),
            seeds=scale.seeds,
            bases=BASES,
            speed_rows=scale.speed_rows,
            repeated="all different" if enough else "the corpus, repeated",
            turns=scale.turns,
            again=scale.again,
            apart=APART,
        ),
        tables=tables,
        keys={
            "pairwise_measured_again": alike,
            "pairwise_of_true_order": (1 + sqrt(max(0.0, 2 * alike - 1))) / 2,
            "pairwise_within": of(within, "ours", "pairwise"),
            "pairwise_heldout_shape": of(shapes, "ours", "pairwise"),
            "pairwise_heldout_shape_error": standard_error(shapes, "ours"),
            "pairwise_apart_within": of(within, "ours", "apart"),
            "pairwise_apart_heldout_shape": of(shapes, "ours", "apart"),
            "top1_heldout_shape": of(shapes, "ours", "top1"),
            "top5_heldout_shape": of(shapes, "ours", "top5"),
            "pairwise_heldout_operator": of(operators, "ours", "pairwise"),
            "top1_heldout_operator": of(operators, "ours", "top1"),
            "top5_heldout_operator": of(operators, "ours", "top5"),
            "train_speed_ratio": speed["TVM"] / speed["ours"],
            "seeds": scale.seeds,
            "trials": len(dataset),
            "tvm_pairwise_within": of(within, "TVM", "pairwise"),
            "tvm_pairwise_heldout_shape": of(shapes, "TVM", "pairwise"),
            "tvm_top1_heldout_shape": of(shapes, "TVM", "top1"),
            "tvm_top5_heldout_shape": of(shapes, "TVM", "top5"),
            "tvm_pairwise_heldout_operator": of(operators, "TVM", "pairwise"),
            "interval_coverage": coverage,
            "residual_fit_secs": residual_secs,
        },
        quick=quick,
    )


def _task_table(shapes: Sequence[dict[str, Any]], again: dict[str, float | None]) -> Table:
    found: dict[str, list[dict[str, float]]] = {}
    for part in shapes:
        for name, judged in part["of_task"].items():
            found.setdefault(name, []).append(judged)

    def average(judgements: Sequence[dict[str, float]], metric: str) -> float | str:
        known = [item[metric] for item in judgements if item[metric] is not None]
        return mean(known) if known else "-"

    return Table(
        title="Each workload, when it is held out",
        columns=["workload", "pairs", "apart", "measured again", "top 1", "top 5"],
        rows=[
            [
                name,
                average(judgements, "pairwise"),
                average(judgements, "apart"),
                again.get(name) or "-",
                *(average(judgements, metric) for metric in ("top1", "top5")),
            ]
            for name, judgements in sorted(found.items())
        ],
    )


if __name__ == "__main__":
    main()
