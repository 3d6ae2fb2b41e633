"""One search on one workload, in a process of its own; the measuring host is the same for all.

Run as ``python -m tests.benchmarks.search.arm ARM`` with JSON on standard input; prints one line of
JSON. ``own``, ``warm`` and ``stock`` search; ``random`` samples the space; ``answers`` tells what
can be told without a trial; ``final`` re-measures traces.
"""

import json
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

from cost_model.base_model import BaseModel
from cost_model.columns import FEATURE_NAMES
from cost_model.features import extract
from cost_model.xgboost_model import XgbCostModel
from schedules import trace as traces
from schedules.operators import find_operator
from schedules.records import Candidate, Purpose, trace_id
from schedules.target import Target
from schedules.workload import Workload
from tests.benchmarks.search.failing import FailingThird
from tests.benchmarks.search.stock import StockSearch
from tuner.client import convert
from tuner.learning.answer import ATTEMPTS, SAMPLES, answer
from tuner.learning.ask import AnswerRequest, Neighbour
from tuner.measure.local import LocalMeasurer
from tuner.measure.protocol import MeasureBatch
from tuner.publish import FINALISTS
from tuner.search.evolutionary import EvolutionarySearch
from tuner.search.points import Space
from tuner.search.protocol import SearchStrategy, Trial
from tuner.session import BATCH_SIZE

BOUND = FEATURE_NAMES.index("analysis.bound")

Given = dict[str, Any]


class RandomSearch:
    """Samples of the space, never twice the same; implements `SearchStrategy`."""

    def __init__(self, *, workload: Workload, target: Target, space: str, seed: int) -> None:
        self._space = Space(workload=workload, target=target, space=space, seed=seed)
        self._seed = seed * 10**5
        self._known: set[str] = set()

    def ask(self, count: int) -> list[Candidate]:
        """Propose candidates; see `SearchStrategy`."""
        asked: list[Candidate] = []
        for _ in range(20 * count):
            self._seed += 1
            point = self._space.open_point(self._seed % len(self._space))
            applied = self._space.apply(point, 1 + self._seed)
            if applied is None:
                continue
            trace = traces.canonical_trace(applied.schedule.trace)
            if trace_id(trace) not in self._known and len(asked) < count:
                self._known.add(trace_id(trace))
                asked.append(Candidate(trace=trace, trace_id=trace_id(trace)))
        return asked

    def tell(self, trials: Any) -> None:
        """Learn nothing."""


def main() -> None:
    """Answer the order."""
    given = json.loads(sys.stdin.read())
    order = sys.argv[1]
    with LocalMeasurer() as measurer:
        target, _ = measurer.describe()
        workload = measurer.resolve(find_operator(given["op"]).call(given["args"]))
        if order == "final":
            print(json.dumps(_final(measurer, workload, target, given["traces"])))
            return
        if order == "answers":
            print(json.dumps(_answers(workload, target, given)))
            return
        started = time.perf_counter()
        strategy = _strategy(order, workload, target, given)
        begun_secs = time.perf_counter() - started
        failing = _failing(workload, target, given) if given.get("failing") else None
        found = _search(measurer, workload, target, strategy, given, begun_secs, failing)
        print(json.dumps(found))


def _strategy(arm: str, workload: Workload, target: Target, given: Given) -> SearchStrategy:
    asked: dict[str, Any] = {
        "workload": workload,
        "target": target,
        "space": given["space"],
        "seed": given["seed"],
    }
    if arm == "own":
        model = XgbCostModel(seed=given["seed"])
        return EvolutionarySearch(**asked, model=model, threads=target.cores)
    if arm == "warm":
        base = BaseModel.from_bytes(Path(given["base"]).read_bytes())
        model = XgbCostModel(base=base, seed=given["seed"])
        return EvolutionarySearch(
            **asked, model=model, neighbours=given["neighbours"], threads=target.cores
        )
    return StockSearch(**asked) if arm == "stock" else RandomSearch(**asked)


def _failing(workload: Workload, target: Target, given: Given) -> FailingThird:
    space = Space(workload=workload, target=target, space=given["space"], seed=given["seed"])
    return FailingThird(space, given["seed"])


def _search(
    measurer: LocalMeasurer,
    workload: Workload,
    target: Target,
    strategy: SearchStrategy,
    given: Given,
    begun_secs: float,
    failing: FailingThird | None,
) -> Given:
    """Search for so many trials.

    Gives the seconds after each of them, and the incumbents, with the numbers of the trials that
    they were: what was the fastest after a batch, and the fastest of all, as many as a final has.
    Where a part of the space fails, also which trials did, and how large that part is.
    """
    failed: list[int] = []
    timed: list[tuple[float, int, str]] = []
    incumbents: set[tuple[int, str]] = set()
    wall_secs: list[float] = []
    searching_secs = begun_secs
    started = time.perf_counter() - begun_secs
    while (left := given["trials"] - len(wall_secs)) > 0:
        asked_at = time.perf_counter()
        candidates = strategy.ask(min(BATCH_SIZE, left))
        searching_secs += time.perf_counter() - asked_at
        if not candidates:
            break
        batch = MeasureBatch(
            workload=workload,
            target=target,
            candidates=tuple(map(failing.spoilt, candidates) if failing else candidates),
            incumbent_secs=min(timed)[0] if timed else None,
        )
        trials = []
        for place, result in measurer.measure(batch):
            secs, trace = result.latency_secs, candidates[place].trace
            wall_secs.append(time.perf_counter() - started)
            if result.failure is not None:
                failed.append(len(wall_secs))
            if secs is not None:
                timed.append((secs, len(wall_secs), trace))
            trials.append(Trial(candidate=candidates[place], result=result))
        incumbents |= {item[1:] for item in sorted(timed)[:1]}
        told_at = time.perf_counter()
        strategy.tell(trials)
        searching_secs += time.perf_counter() - told_at
    incumbents |= {item[1:] for item in sorted(timed)[:FINALISTS]}
    return {
        "incumbents": sorted(incumbents),
        "wall_secs": wall_secs,
        "searching_secs": searching_secs,
        "failed": failed,
        "failing_share": failing.share if failing else 0.0,
    }


def _answers(workload: Workload, target: Target, given: Given) -> dict[str, str | None]:
    """Tell a schedule without a trial, in four ways.

    ``predicted`` is what the service answers, ``nearest`` the nearest neighbour's schedule adapted,
    ``roofline`` the sample with the lowest analytical bound, ``valid`` any sample.
    """
    space = Space(workload=workload, target=target, space=given["space"], seed=given["seed"])
    samples = list(islice(space.samples(ATTEMPTS * SAMPLES), SAMPLES))
    rows = extract([item.schedule for item in samples], workload=workload, target=target)
    adapted = [space.adapt(trace, seed=1) for trace in given["neighbours"]]
    near = next((item for item in adapted if item is not None), None)
    told = answer(
        AnswerRequest(
            workload=convert.workload_to_wire(workload),
            target=target.as_dict(),
            space=given["space"],
            neighbours=tuple(
                Neighbour(
                    workload=convert.workload_to_wire(workload),
                    trace=trace,
                    latency_secs=1.0,
                    record_id="",
                )
                for trace in given["neighbours"]
            ),
            base_model=Path(given["base"]).read_bytes(),
            seed=given["seed"],
        )
    )
    return {
        "predicted": None if told is None else told.trace,
        "nearest": None if near is None else traces.canonical_trace(near.schedule.trace),
        "roofline": traces.canonical_trace(samples[int(rows[:, BOUND].argmin())].schedule.trace),
        "valid": traces.canonical_trace(samples[0].schedule.trace),
    }


def _final(
    measurer: LocalMeasurer, workload: Workload, target: Target, given_traces: list[str]
) -> Given:
    batch = MeasureBatch(
        workload=workload,
        target=target,
        candidates=tuple(
            Candidate(trace=trace, trace_id=trace_id(trace)) for trace in given_traces
        ),
        purpose=Purpose.FINAL,
    )
    results = dict(measurer.measure(batch))
    return {"latencies": [results[place].latency_secs for place in range(len(given_traces))]}


if __name__ == "__main__":
    main()
