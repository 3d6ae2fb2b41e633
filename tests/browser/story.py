"""What happened before the dashboard's tests look: jobs of some hours, told through the store.

They went the way of any job, by the store's clock, with latencies that follow a seeded curve.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from schedules.identity import canonical_json
from schedules.operators import find_operator
from schedules.records import (
    Candidate,
    Environment,
    Failure,
    FailureKind,
    MeasureResult,
    Origin,
    Purpose,
    Verification,
    default_candidate,
    trace_id,
)
from schedules.target import Target
from schedules.workload import Workload
from service.db.store import Store
from service.db.values import Job, JobSpec, Lease, Worker
from tests.browser.cost_models import add_cost_models
from tuner.publish import choose_best
from tuner.sandbox import Sandbox

OWNER = "the-story"
TTL_SECS = 3600.0
FASTEST = 1000
"""The number of the finalist that wins."""
HOSTILE = '<script>window.hacked = true</script><img src=x onerror="window.hacked = true">'
"""Stands in names, errors and outputs; it must be read and never run."""

ZEN = Target.parse({"kind": "llvm", "mcpu": "znver4", "num-cores": 16})
XEON = Target.parse({"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 8})
_FACTS: dict[str, str | int] = {
    "device": "AMD EPYC 9354",
    "cores": 16,
    "l2_cache": "1 MiB",
    "llvm": "20.1.8",
    "noise": "none",
    "os": "Linux 6.8",
    "tvm": "0.27.0.post1",
}


@dataclass
class Clock:
    """How far the database's clock is off, in seconds."""

    offset_secs: float = 0.0

    def __call__(self) -> timedelta:
        return timedelta(seconds=self.offset_secs)


class Story:
    """Fills the database, from some hours ago until now."""

    def __init__(self, store: Store, clock: Clock, sandbox: Sandbox) -> None:
        self.store = store
        self.clock = clock
        self.sandbox = sandbox
        self.jobs: dict[str, str] = {}
        self.workers: dict[str, Worker] = {}
        self.random = random.Random(7)
        self.real_traces: dict[str, str] = {}

    def register_workers(self) -> None:
        self.clock.offset_secs = -5 * 3600
        for name, target, facts in (
            ("epyc-01", ZEN, _FACTS),
            ("epyc-02", ZEN, {**_FACTS, "os": "Linux 6.14", "llvm": "20.1.9"}),
            ("xeon-01", XEON, {**_FACTS, "device": "Intel Xeon Gold 6254", "cores": 8}),
        ):
            environment = Environment(facts=MappingProxyType(dict(facts)))
            self.workers[name] = self.store.register_worker(name, target, environment)

    def tell(self) -> None:
        clock = self.clock
        product = self.call("batch_matmul", b=1, n=512, m=512, k=512)
        convolution = self.call(
            "conv2d_nhwc", n=1, h=14, w=14, ci=256, co=256, kernel_size=3, padding=1
        )
        self.done("first", product, ZEN, "epyc-01", 64, 0.312, 1.31e-3, secs=1.4)
        self.done("xeon", product, XEON, "xeon-01", 48, 0.402, 2.9e-3, secs=1.6)
        self.checks()
        clock.offset_secs = -3 * 3600
        self.done("second", product, ZEN, "epyc-02", 96, 0.312, 1.19e-3, secs=1.5)
        self.done("conv", convolution, ZEN, "epyc-01", 64, 0.23, 1.11e-3, secs=1.2)
        self.failed_job(HOSTILE)
        clock.offset_secs = -3000
        gelu = self.call("gelu", m=1024, n=1024)
        self.real_traces[gelu.workload_id] = _parallel(gelu)
        self.done("gelu", gelu, ZEN, "epyc-02", 32, 9e-4, 8.8e-5)
        self.done("norm", self.call("layer_norm", m=512, n=768), ZEN, "epyc-01", 48, 3e-3, 1e-4)
        mean = self.call("layer_norm", m=256, n=768)
        self.shared(
            "epyc-01",
            {"shared-norm": (mean, 16), "shared-gelu": (self.call("gelu", m=512, n=768), 32)},
        )
        add_cost_models(self.store)

    def call(self, op: str, **args: int) -> Workload:
        workload = self.sandbox.resolve_call(find_operator(op).call(args))
        self.store.save_workload(workload)
        return workload

    def submit(self, name: str, workload: Workload, target: Target, trials: int) -> Job:
        self.store.save_target(target)
        job, _ = self.store.submit_job(self.spec(workload, target, trials), idempotency_key=None)
        self.jobs[name] = job.job_id
        self.pass_time(0.4)
        self.store.claim_jobs(OWNER, TTL_SECS)
        return job

    def spec(self, workload: Workload, target: Target, trials: int) -> JobSpec:
        return JobSpec(
            workload_id=workload.workload_id,
            target_id=target.target_id,
            trials=trials,
            seconds=None,
            priority=0,
            space="default",
            seed=None,
            submitter="ci" if trials < 60 else "anna",
        )

    def pass_time(self, secs: float) -> None:
        self.clock.offset_secs += secs

    def done(
        self,
        name: str,
        workload: Workload,
        target: Target,
        worker: str,
        trials: int,
        default_secs: float,
        best_secs: float,
        *,
        secs: float = 2.0,
    ) -> None:
        """Tune as a job does, from its first batch to its published best."""
        job = self.submit(name, workload, target, trials)
        self.tuned(job, trials, worker, default_secs, best_secs, secs)

    def shared(self, worker: str, workloads: Mapping[str, tuple[Workload, int]]) -> None:
        """Tune several workloads with one budget, of which each gets some trials."""
        specs = [
            self.spec(workload, ZEN, sum(trials for _, trials in workloads.values()))
            for workload, _ in workloads.values()
        ]
        budget, _ = self.store.share_budget(specs, idempotency_key=None)
        for (name, (_, trials)), job in zip(workloads.items(), budget.jobs, strict=True):
            self.jobs[name] = job.job_id
            self.store.claim_jobs(OWNER, TTL_SECS)
            self.tuned(job, trials, worker, 9e-4, 8.8e-5, 1.0)

    def tuned(
        self,
        job: Job,
        trials: int,
        worker: str,
        default_secs: float,
        best_secs: float,
        secs: float,
    ) -> None:
        """Measure a claimed job's trials and finals, and publish its best."""
        for first in range(0, trials, 16):
            self.pass_time(self.random.uniform(2, 5))
            candidates = [
                self.candidate(job, number, trials)
                for number in range(first, min(first + 16, trials))
            ]
            lease = self.leased(job, worker, Purpose.TRIAL, candidates)
            for place, item in enumerate(lease.items):
                self.pass_time(secs * self.random.uniform(0.4, 1.6))
                result = self.trial(
                    item.candidate, (first + place) / trials, default_secs, best_secs
                )
                self.report(lease, worker, item.item_id, result)
        self.store.begin_finals(job, OWNER)
        self.finals(job, worker, default_secs, best_secs)

    def finals(self, job: Job, worker: str, default_secs: float, best_secs: float) -> None:
        chosen = [
            default_candidate(),
            *(self.candidate(job, FASTEST + number, 64) for number in range(3)),
        ]
        lease = self.leased(job, worker, Purpose.FINAL, chosen)
        for place, item in enumerate(lease.items):
            self.pass_time(1.5)
            middle = default_secs if place == 0 else best_secs * (1 + 0.03 * place)
            checked = Verification(reference="numpy", tolerance=4.3e-5, error=9.6e-7, passed=True)
            runs = tuple(middle * self.random.uniform(0.985, 1.015) for _ in range(24))
            result = MeasureResult(run_secs=runs, build_secs=0.2, verification=checked)
            self.report(lease, worker, item.item_id, result)
        best = choose_best(self.store.finals(job.job_id))
        assert best is not None
        self.store.publish(best, OWNER, job.job_id)
        self.store.finish_job(job.job_id, OWNER)

    def failed_job(self, error: str) -> None:
        """A job of a hostile name, whose candidates print hostile things."""
        call = find_operator("matmul").call({"n": 40, "m": 48, "k": 56})
        workload = self.sandbox.resolve_ir(self.sandbox.resolve_call(call).ir, f"net/{error}")
        self.store.save_workload(workload)
        job = self.submit("hostile", workload, ZEN, 8)
        lease = self.leased(
            job, "epyc-01", Purpose.TRIAL, [self.candidate(job, number, 8) for number in range(8)]
        )
        for item in lease.items:
            self.pass_time(1)
            failure = Failure(kind=FailureKind.BUILD_ERROR, detail=f"LLVM said: {error}")
            self.report(lease, "epyc-01", item.item_id, MeasureResult(failure=failure))
        self.store.finish_job(job.job_id, OWNER, error=f"no candidate passed its check: {error}")

    def candidate(self, job: Job, number: int, trials: int) -> Candidate:
        made_up = [[["SamplePerfectTile", [], [number, job.job_id], []]], [[0, [number, 16, 4]]]]
        trace = canonical_json(made_up)
        if number == FASTEST:
            trace = self.real_traces.get(job.spec.workload_id, trace)
        ranked = 16 <= number < FASTEST
        return Candidate(
            trace=trace,
            trace_id=trace_id(trace),
            origin=Origin.SEARCH,
            predicted_score=self.random.gauss(-2 * (1 - number / trials), 0.6) if ranked else None,
            model_version="task-3f2a" if ranked else None,
        )

    def trial(
        self, candidate: Candidate, share: float, default_secs: float, best_secs: float
    ) -> MeasureResult:
        luck = self.random.random()
        if luck < 0.05:
            kind = self.random.choice([FailureKind.BUILD_TIMEOUT, FailureKind.RUN_ERROR])
            return MeasureResult(failure=Failure(kind=kind, detail="killed by SIGKILL"))
        score = candidate.predicted_score
        guess = -2 * (1 - share) if score is None else 0.7 * score
        wanted = best_secs * 2 ** max(0.0, self.random.expovariate(0.9) - guess)
        latency = min(wanted, default_secs)
        bound = latency if latency > 6 * best_secs and share > 0.15 else None
        spread = (1,) if bound else tuple(self.random.uniform(0.99, 1.03) for _ in range(5))
        return MeasureResult(
            run_secs=tuple(latency * one for one in spread),
            censored_secs=bound,
            duplicate_of="0" * 64 if luck > 0.94 and not bound else None,
            build_secs=self.random.uniform(0.06, 0.4),
        )

    def leased(self, job: Job, worker: str, purpose: Purpose, candidates: list[Candidate]) -> Lease:
        self.store.claim_jobs(OWNER, TTL_SECS)
        self.store.enqueue_batch(
            job.job_id, OWNER, purpose=purpose, candidates=candidates, incumbent_secs=None
        )
        lease = self.store.lease_batch(self.workers[worker].worker_id, TTL_SECS)
        assert lease is not None
        return lease

    def report(self, lease: Lease, worker: str, item_id: str, result: MeasureResult) -> None:
        by = self.workers[worker]
        self.store.report(
            lease.lease_id, lease.epoch, by.worker_id, by.environment, [(item_id, result)]
        )

    def checks(self) -> None:
        """A sound worker, and one that drifts until it is quarantined."""
        for hour in range(14):
            self.pass_time(600)
            for name, drift in (("epyc-01", 0.0), ("xeon-01", max(0.0, 0.02 * (hour - 8)))):
                middle = 2.1e-3 * (1 + drift + self.random.uniform(-0.006, 0.006))
                self.store.check_worker(
                    self.workers[name].worker_id,
                    [middle * one for one in (0.999, 1.0, 1.001)],
                    boot_id="boot",
                    failure=None,
                    strict=True,
                )


def _parallel(workload: Workload) -> str:
    """Return a trace that TVM can apply: the last block runs on all cores."""
    import tvm

    from schedules.ir import module_of
    from schedules.trace import canonical_trace

    schedule = tvm.s_tir.Schedule(module_of(workload))
    *_, last = schedule.get_child_blocks(schedule.get_sblock("root"))
    schedule.parallel(schedule.get_loops(last)[0])
    return canonical_trace(schedule.trace)
