"""A server without processes: a real database, an orchestrator, a worker, a scripted search."""

from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

from schedules.ir import workload_from_call
from schedules.operators import find_operator
from schedules.records import (
    Environment,
    MeasureResult,
    Origin,
    Purpose,
    Verification,
)
from service.compute import StepPool
from service.db.store import Store
from service.db.values import Job, JobSpec, Lease
from service.events import Events
from service.orchestrator import Orchestrator
from tests.records import TARGET, candidate
from tuner.client import convert, wire
from tuner.search.step import StepRequest

WORKLOAD = workload_from_call(find_operator("softmax").call({"m": 8, "n": 8}))
CHECKED = Verification(reference="numpy", tolerance=1e-5, error=0.0, passed=True)
TTL_SECS = 30.0


class ScriptedPool(StepPool):
    """Proposes numbered candidates until it has proposed so many."""

    def __init__(self, space_size: int = 1000) -> None:
        self.requests: list[StepRequest] = []
        self.deaths = 0
        self._space_size = space_size
        self._proposed = 0

    def submit(self, request: StepRequest) -> Future[tuple[wire.CandidateWire, ...]]:
        self.requests.append(request)
        future: Future[tuple[wire.CandidateWire, ...]] = Future()
        if self.deaths:
            self.deaths -= 1
            future.set_exception(BrokenProcessPool("scripted"))
            return future
        count = min(request.count, self._space_size - self._proposed)
        numbers = range(self._proposed, self._proposed + count)
        self._proposed += count
        future.set_result(tuple(convert.candidate_to_wire(candidate(number)) for number in numbers))
        return future

    def close(self) -> None:
        """Nothing runs."""


class Bench:
    """One orchestrator, one worker, one database; time passes by calling `step`."""

    def __init__(self, store: Store, pool: StepPool) -> None:
        self.store = store
        self.pool: Any = pool
        self.orchestrator = self.new_orchestrator()
        self.worker = store.register_worker("worker", TARGET, Environment())

    def new_orchestrator(self, **changes: Any) -> Orchestrator:
        return Orchestrator(store=self.store, events=Events(), pool=self.pool, **changes)

    def spec(self, **changes: Any) -> JobSpec:
        spec = JobSpec(
            workload_id=WORKLOAD.workload_id,
            target_id=TARGET.target_id,
            trials=24,
            seconds=None,
            priority=0,
            space="stock",
            seed=1,
        )
        return replace(spec, **changes)

    def submit(self, **changes: Any) -> Job:
        job, _ = self.store.submit_job(self.spec(**changes), idempotency_key=None)
        return job

    def lease(self) -> Lease | None:
        return self.store.lease_batch(self.worker.worker_id, TTL_SECS)

    def measure(self, lease: Lease) -> None:
        """Report a batch: the n-th candidate takes 1 + n ms, the default 10 ms."""
        results = [
            (item.item_id, result_of(item.candidate, lease.purpose, place))
            for place, item in enumerate(lease.items)
        ]
        self.store.report(
            lease.lease_id, lease.epoch, self.worker.worker_id, Environment(), results
        )

    def step(self) -> None:
        """Let the orchestrator act until it waits, then measure what it queued."""
        for _ in range(3):
            self.orchestrator.tick()
        lease = self.lease()
        if lease is not None:
            self.measure(lease)


def result_of(measured, purpose, place):
    secs = 1e-2 if measured.origin is Origin.DEFAULT else 1e-3 * (1 + place)
    checked = CHECKED if purpose is Purpose.FINAL else None
    return MeasureResult(run_secs=(secs,) * 8, verification=checked)
