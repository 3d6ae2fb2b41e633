"""The contract of `service.compute.StepPool`, over every implementation."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from schedules.ir import workload_from_call
from schedules.operators import find_operator
from schedules.records import MeasureResult
from schedules.target import Target
from service.compute import SearchPool, StepPool
from tests.integration.dask_cluster import cluster_pool
from tuner.client import convert
from tuner.search.step import StepRequest, TrialWire, propose

TARGET = Target.parse({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 2})
WORKLOAD = workload_from_call(find_operator("matmul").call({"n": 64, "m": 64, "k": 64}))
REQUEST = StepRequest(
    search_id="first",
    workload=convert.workload_to_wire(WORKLOAD),
    target=TARGET.as_dict(),
    space="default",
    seed=1,
    trials=(),
    count=4,
)
STEP_SECS = 60.0


@pytest.fixture(scope="module", params=["processes", "cluster"])
def pool(request: pytest.FixtureRequest) -> Iterator[StepPool]:
    if request.param == "cluster":
        with cluster_pool() as (pool, _):
            yield pool
        return
    processes = SearchPool(processes=2)
    yield processes
    processes.close()


def tried(candidates):
    """Trials of what was proposed, as the next step is told of them."""
    return tuple(
        TrialWire(
            candidate=candidate,
            result=convert.result_to_wire(MeasureResult(run_secs=(1e-3 * (1 + place),))),
        )
        for place, candidate in enumerate(candidates)
    )


def test_steps_propose_what_they_would_here(pool: StepPool) -> None:
    here = propose(replace(REQUEST, search_id=f"not in {pool}"))
    assert pool.submit(REQUEST).result(STEP_SECS) == here


def test_a_search_goes_on_with_what_it_is_told(pool: StepPool) -> None:
    request = replace(REQUEST, search_id="second")
    trials: tuple[TrialWire, ...] = ()
    for _ in range(3):
        proposed = pool.submit(replace(request, trials=trials)).result(STEP_SECS)
        known = {trial.candidate.trace_id for trial in trials}
        assert len(proposed) == 4
        assert known.isdisjoint(candidate.trace_id for candidate in proposed)
        trials += tried(proposed)


def test_steps_of_several_searches_run_beside_each_other(pool: StepPool) -> None:
    requests = [replace(REQUEST, search_id=str(seed), seed=seed) for seed in range(4)]
    steps = [pool.submit(request) for request in requests]
    found = {tuple(item.trace_id for item in step.result(STEP_SECS)) for step in steps}
    assert len(found) == len(requests)


def test_an_error_of_a_step_is_its_own(pool: StepPool) -> None:
    broken = pool.submit(replace(REQUEST, search_id="broken", space="nowhere"))
    with pytest.raises(Exception, match="nowhere"):
        broken.result(STEP_SECS)
    assert len(pool.submit(REQUEST).result(STEP_SECS)) == 4
