"""Where in its space a search expects failures."""

import json
from math import log2

import pytest

from cost_model.xgboost_model import XgbCostModel
from schedules.ir import workload_from_call
from schedules.operators import find_operator
from schedules.records import Failure, FailureKind, MeasureResult
from schedules.target import Target
from schedules.trace import canonical_trace
from tuner.search.evolutionary import EvolutionarySearch
from tuner.search.points import Space
from tuner.search.protocol import Trial
from tuner.search.risk import Risk
from tuner.search.sites import Point

TARGET = Target.parse({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 2})
RAN = MeasureResult(run_secs=(1e-3,))
FAILED = MeasureResult(failure=Failure(kind=FailureKind.RUN_ERROR, detail="for a test"))
LOST = MeasureResult(failure=Failure(kind=FailureKind.WORKER_LOST, detail="for a test"))


def at(outer, inner, choice):
    return Point(design=0, decisions=((outer, inner), choice))


def noted(result=FAILED):
    """What is known of a search in which a large inner factor has this result."""
    risk = Risk()
    risk.note(
        (at(2**outer, 2**inner, choice), result if inner > 3 else RAN)
        for outer in range(4)
        for inner in range(6)
        for choice in range(2)
    )
    return risk


def test_what_fails_elsewhere_is_unlikely_to_work_here():
    points = [at(2, 32, 0), at(16, 2, 1), at(16, 16, 1), at(4, 1, 0)]
    chances = noted().chances(points)
    assert (chances > 0.9).tolist() == [False, True, False, True]
    assert (chances < 0.1).tolist() == [True, False, True, False]
    assert noted().chances([]).tolist() == []


def test_what_has_no_point_is_not_judged():
    assert noted().chances([None, at(2, 32, 0)])[0] == 1.0


@pytest.mark.parametrize("result", [RAN, LOST])
def test_without_a_failure_of_a_candidates_own_all_is_expected_to_work(result):
    points = [at(2, 32, 0), at(4, 1, 0)]
    assert noted(result).chances(points).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("seed", [1, 2])
def test_where_a_third_of_a_space_fails_a_tenth_of_late_proposals_does(seed):
    call = find_operator("batch_matmul").call({"b": 1, "n": 64, "m": 64, "k": 64})
    asked = {
        "workload": workload_from_call(call),
        "target": TARGET,
        "space": "stock",
        "seed": seed,
    }
    samples = [canonical_trace(item.schedule.trace) for item in Space(**asked).samples(128)]
    search = EvolutionarySearch(**asked, model=XgbCostModel(seed=seed), threads=2)
    failed: list[bool] = []
    while len(failed) < 160:
        candidates = search.ask(16)
        failed += [fails(item.trace) for item in candidates]
        search.tell([Trial(candidate=item, result=result_of(item.trace)) for item in candidates])

    assert 0.25 < sum(map(fails, samples)) / len(samples) < 0.45
    assert sum(failed[64:]) <= 0.1 * len(failed[64:])


def result_of(trace):
    """What is fastest lies where failures begin."""
    if fails(trace):
        return FAILED
    rows, steps = (log2(tile[-1]) for tile in (tiles(trace)[1], tiles(trace)[3]))
    return MeasureResult(run_secs=(1e-3 * 2 ** (abs(rows - 2) + abs(steps - 2) - row(trace)),))


def fails(trace):
    """Whether a row of the innermost two tiles is too long."""
    return row(trace) > 4


def row(trace):
    return log2(tiles(trace)[2][-2] * tiles(trace)[2][-1])


def tiles(trace):
    return [value for _, value in json.loads(trace)[1] if isinstance(value, list)]
