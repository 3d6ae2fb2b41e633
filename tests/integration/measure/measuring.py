"""What the tests of measuring share: a product, traces of it, results in the order asked for."""

import os
from pathlib import Path

from schedules.operators import find_operator
from schedules.records import Candidate, FailureKind, Purpose, trace_id
from tuner.measure.bench import Measured
from tuner.measure.protocol import MeasureBatch

PARALLEL = (
    '[[["GetSBlock",[],["batch_matmul","main"],["b0"]],["GetLoops",["b0"],[],["l1","l2","l3","l4"]],'
    '["Parallel",["l2"],[],[]]],[]]'
)

MATMUL = find_operator("batch_matmul").call({"b": 1, "n": 64, "m": 64, "k": 64})


def candidate(trace: str) -> Candidate:
    return Candidate(trace=trace, trace_id=trace_id(trace))


def measured(measurer, workload, target, *candidates, purpose=Purpose.TRIAL):
    batch = MeasureBatch(workload=workload, target=target, candidates=candidates, purpose=purpose)
    results = dict(measurer.measure(batch))
    assert sorted(results) == list(range(len(candidates)))
    return [results[place] for place in range(len(candidates))]


def failure_of(item: Measured) -> FailureKind | None:
    return item.result.failure.kind if item.result.failure else None


def children() -> set[str]:
    task = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(task.read_text().split())
