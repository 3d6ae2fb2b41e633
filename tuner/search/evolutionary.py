"""Evolutionary search: TVM's engine mutates and selects, our cost model scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm.s_tir import meta_schedule

from cost_model.arrays import FloatMatrix
from cost_model.dataset import Dataset, group_of
from cost_model.features import FEATURE_NAMES, extract
from cost_model.protocol import CostModel
from schedules import trace as traces
from schedules.errors import InvalidTraceError
from schedules.ir import module_of
from schedules.records import DEFAULT_TRACE, Candidate, MeasureResult, trace_id
from schedules.space.generators import space_generator
from schedules.target import Target
from schedules.workload import Workload
from tuner.search.protocol import Trial

ROUND_SIZE = 16
# As many for each candidate of a round as TVM itself takes.
POPULATION = 128
GENERATIONS = 3
FRUITLESS_ROUNDS = 3
_ENDLESS = 2**30


class EvolutionarySearch:
    """Proposes candidates of a space by mutation of the best; implements `SearchStrategy`.

    Until the model has been fitted the engine scores at random, so the first round is a sample of
    the space.

    Parameters
    ----------
    workload : Workload
        What to tune.
    target : Target
        What for.
    space : str
        Name of a schedule space.
    seed : int
        Equal seeds and equal results make equal proposals.
    model : CostModel
        Ranks candidates; fitted by `tell`, owned by this search.
    threads : int
        How many threads extract features. The engine itself has one: with more, its proposals
        would depend on their timing.
    """

    def __init__(
        self,
        *,
        workload: Workload,
        target: Target,
        space: str,
        seed: int,
        model: CostModel,
        threads: int = 1,
    ) -> None:
        self._workload = workload
        self._target = target
        self._module = module_of(workload)
        self._model = model
        self._threads = threads
        self._random = np.random.default_rng(seed)
        self._known = {trace_id(DEFAULT_TRACE)}
        self._proposed: dict[str, Any] = {}
        self._queue: list[Candidate] = []
        self._dataset = Dataset.empty(len(FEATURE_NAMES))
        self._group = group_of(workload.workload_id, target.target_id)
        self._database = meta_schedule.database.MemoryDatabase()
        self._database_workload = self._database.commit_workload(self._module)
        self._tvm_target = tvm.target.Target(target.as_dict())
        self._context = self._start_engine(space, seed)

    def ask(self, count: int) -> list[Candidate]:
        """Propose candidates; see `SearchStrategy`."""
        fruitless = 0
        while len(self._queue) < count and fruitless < FRUITLESS_ROUNDS:
            found = self._next_round()
            if found is None:
                break
            fruitless = 0 if found else fruitless + 1
            self._queue.extend(found)
        asked, self._queue = self._queue[:count], self._queue[count:]
        return asked

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from results; see `SearchStrategy`."""
        schedules, results = [], []
        for trial in trials:
            self._known.add(trial.candidate.trace_id)
            schedule = self._schedule_of(trial.candidate)
            if schedule is not None:
                schedules.append(schedule)
                results.append(trial.result)
                self._commit(schedule, trial.result)
        told = {trial.candidate.trace_id for trial in trials}
        self._queue = [item for item in self._queue if item.trace_id not in told]
        self._dataset = self._dataset.extended(
            Dataset.from_results(
                self._features(schedules), results, group=self._group, flops=self._workload.flops
            )
        )
        if not self._dataset.failed.all():
            self._model.fit(self._dataset)

    def _start_engine(self, space: str, seed: int) -> Any:
        context = meta_schedule.TuneContext(
            self._module,
            target=self._tvm_target,
            space_generator=space_generator(space, self._target),
            search_strategy=meta_schedule.search_strategy.EvolutionarySearch(
                population_size=POPULATION, genetic_num_iters=GENERATIONS
            ),
            # TVM takes 1 to 2**31 - 1 here.
            rand_state=1 + seed % (2**31 - 2),
            num_threads=1,
        )
        context.pre_tuning(
            max_trials=_ENDLESS,
            num_trials_per_iter=ROUND_SIZE,
            design_spaces=context.generate_design_space(),
            database=self._database,
            cost_model=_EngineModel(self._scores),
        )
        return context

    def _next_round(self) -> list[Candidate] | None:
        """Return the unknown candidates of one round of the engine, None when it has ended."""
        proposals = self._context.generate_measure_candidates()
        if not proposals:
            return None
        # The engine only counts results here; it learns through the database and the model.
        self._context.notify_runner_results(
            proposals, [meta_schedule.runner.RunnerResult(None, "elsewhere")] * len(proposals)
        )
        scores = self._scores([proposal.sch for proposal in proposals])
        version = self._model.version
        found = []
        for proposal, score in zip(proposals, scores, strict=True):
            trace = traces.canonical_trace(proposal.sch.trace)
            identity = trace_id(trace)
            if identity in self._known:
                continue
            self._known.add(identity)
            self._proposed[identity] = proposal.sch
            found.append(
                Candidate(
                    trace=trace,
                    trace_id=identity,
                    predicted_score=None if version is None else float(score),
                    model_version=version,
                )
            )
        return found

    def _scores(self, schedules: Sequence[Any]) -> np.ndarray:
        if self._model.version is None:
            return self._random.random(len(schedules))
        return self._model.predict(self._features(schedules))

    def _schedule_of(self, candidate: Candidate) -> Any | None:
        own = self._proposed.pop(candidate.trace_id, None)
        if own is not None:
            return own
        try:
            return traces.replay(candidate.trace, self._module)
        except InvalidTraceError:
            return None

    def _features(self, schedules: Sequence[Any]) -> FloatMatrix:
        return extract(
            schedules, workload=self._workload, target=self._target, threads=self._threads
        )

    def _commit(self, schedule: Any, result: MeasureResult) -> None:
        """Show a success to the engine, which mutates the best of what it was shown."""
        if result.latency_secs is None:
            return
        self._database.commit_tuning_record(
            meta_schedule.database.TuningRecord(
                schedule.trace,
                self._database_workload,
                [result.latency_secs],
                self._tvm_target,
                meta_schedule.arg_info.ArgInfo.from_entry_func(self._module, False),
            )
        )


@tvm.ir.utils.derived_object
class _EngineModel(meta_schedule.cost_model.PyCostModel):
    """Our scores in the form in which TVM's engine asks for them."""

    def __init__(self, scores: Any) -> None:
        super().__init__()
        self._scores = scores

    def load(self, path: str) -> None:
        """Do nothing: the engine does not own the model."""

    def save(self, path: str) -> None:
        """Do nothing: the engine does not own the model."""

    def update(self, context: Any, candidates: Any, results: Any) -> None:
        """Do nothing: the search learns in `EvolutionarySearch.tell`."""

    def predict(self, context: Any, candidates: Any) -> np.ndarray:
        """Score candidates; larger is better."""
        return np.asarray(self._scores([item.sch for item in candidates]), dtype="float64")
