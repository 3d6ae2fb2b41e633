"""A search strategy whose work happens in a process of its own."""

import os
import uuid
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType

from schedules.errors import UnavailableError
from schedules.records import Candidate
from schedules.target import Target
from schedules.workload import Workload
from tuner.client import convert
from tuner.search.pool import search_pool
from tuner.search.protocol import Trial
from tuner.search.step import StepRequest, TrialWire, prepare, propose


def warm_pool() -> ProcessPoolExecutor:
    """Make a pool of one process that gets ready for its first search at once."""
    pool = search_pool(1)
    pool.submit(prepare)
    return pool


class LocalSearch:
    """Runs `tuner.search.step.propose` in a pool of one; implements `SearchStrategy`.

    Parameters
    ----------
    workload, target, space, seed
        As for `tuner.search.evolutionary.EvolutionarySearch`.
    least_gain : float or None
        When the search ends; see `tuner.search.step.StepRequest`.
    neighbours : sequence of str
        Canonical traces to begin with; see `tuner.search.step.StepRequest`.
    base_model : bytes or None
        The file of the cost model that all tasks share; see `cost_model.base_model`.
    pool : ProcessPoolExecutor or None
        From `warm_pool`, and owned by this search from now on; one of its own by default.
    """

    def __init__(
        self,
        *,
        workload: Workload,
        target: Target,
        space: str,
        seed: int,
        least_gain: float | None = None,
        neighbours: Sequence[str] = (),
        base_model: bytes | None = None,
        pool: ProcessPoolExecutor | None = None,
    ) -> None:
        self._workload = convert.workload_to_wire(workload)
        self._target = target
        self._space = space
        self._seed = seed
        self._least_gain = least_gain
        self._neighbours = tuple(neighbours)
        self._base_model = base_model
        self._search_id = uuid.uuid4().hex
        self._trials: list[TrialWire] = []
        self._pool = pool or warm_pool()

    def ask(self, count: int) -> list[Candidate]:
        """Propose candidates; see `SearchStrategy`.

        Raises
        ------
        UnavailableError
            The search process died.
        """
        request = StepRequest(
            search_id=self._search_id,
            workload=self._workload,
            target=self._target.as_dict(),
            space=self._space,
            seed=self._seed,
            trials=tuple(self._trials),
            count=count,
            threads=len(os.sched_getaffinity(0)),
            least_gain=self._least_gain,
            neighbours=self._neighbours,
            base_model=self._base_model,
        )
        try:
            proposed = self._pool.submit(propose, request).result()
        except BrokenProcessPool as error:
            raise UnavailableError(f"the search process died: {error}") from None
        return [convert.candidate_from_wire(item) for item in proposed]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from results; see `SearchStrategy`."""
        self._trials.extend(
            TrialWire(
                candidate=convert.candidate_to_wire(trial.candidate),
                result=convert.result_to_wire(trial.result),
            )
            for trial in trials
        )

    def __enter__(self) -> "LocalSearch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
