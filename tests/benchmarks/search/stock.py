"""MetaSchedule's search as it comes, on any space: its engine, its cost model, its settings."""

from collections.abc import Sequence
from typing import Any

import tvm
from tvm.s_tir import meta_schedule

from schedules import trace as traces
from schedules.ir import module_of
from schedules.records import Candidate, MeasureResult, trace_id
from schedules.space.generators import space_generator
from schedules.target import Target
from schedules.workload import Workload
from tuner.search.protocol import Trial

ROUND_SIZE = 64
"""What `tune_tir` measures between two updates of its model."""
_ENDLESS = 2**30
_FAILED = "failed"


class StockSearch:
    """TVM's evolutionary search with its `XGBModel`; implements `SearchStrategy`.

    It learns when a whole round was told, as it does in TVM's task scheduler.
    """

    def __init__(self, *, workload: Workload, target: Target, space: str, seed: int) -> None:
        self._module = module_of(workload)
        self._target = tvm.target.Target(target.as_dict())
        self._database = meta_schedule.database.MemoryDatabase()
        self._workload = self._database.commit_workload(self._module)
        self._model = meta_schedule.cost_model.XGBModel(num_tuning_cores=target.cores)
        self._context = meta_schedule.TuneContext(
            self._module,
            target=self._target,
            space_generator=space_generator(space, target),
            search_strategy="evolutionary",
            rand_state=1 + seed % (2**31 - 2),
            num_threads=target.cores,
        )
        self._context.pre_tuning(
            max_trials=_ENDLESS,
            num_trials_per_iter=ROUND_SIZE,
            design_spaces=self._context.generate_design_space(),
            database=self._database,
            cost_model=self._model,
        )
        self._round: dict[str, Any] = {}
        self._results: dict[str, MeasureResult] = {}
        self._queue: list[Candidate] = []

    def ask(self, count: int) -> list[Candidate]:
        """Propose candidates; see `SearchStrategy`."""
        if not self._queue:
            for proposal in self._context.generate_measure_candidates() or ():
                trace = traces.canonical_trace(proposal.sch.trace)
                self._round[trace_id(trace)] = proposal
                self._queue.append(Candidate(trace=trace, trace_id=trace_id(trace)))
        asked, self._queue = self._queue[:count], self._queue[count:]
        return asked

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from results; see `SearchStrategy`."""
        for trial in trials:
            self._results[trial.candidate.trace_id] = trial.result
        if self._round and self._round.keys() <= self._results.keys():
            self._end_round()

    def _end_round(self) -> None:
        proposals = list(self._round.values())
        results = [_runner_result(self._results[identity]) for identity in self._round]
        for proposal, result in zip(proposals, results, strict=True):
            if result.run_secs is not None:
                self._database.commit_tuning_record(
                    meta_schedule.database.TuningRecord(
                        proposal.sch.trace,
                        self._workload,
                        result.run_secs,
                        self._target,
                        proposal.args_info,
                    )
                )
        self._context.notify_runner_results(proposals, results)
        self._model.update(self._context, proposals, results)
        self._round, self._results = {}, {}


def _runner_result(result: MeasureResult) -> Any:
    # A bound says how slow it is well enough for a model of relative speed.
    secs = result.latency_secs or result.censored_secs
    if secs is None:
        return meta_schedule.runner.RunnerResult(None, _FAILED)
    return meta_schedule.runner.RunnerResult([secs], None)
