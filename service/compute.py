"""Where heavy pure work runs: an executor's processes, which never see the database."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from tuner.client import wire
from tuner.search.pool import search_pool
from tuner.search.step import StepRequest, propose

Proposed = tuple[wire.CandidateWire, ...]
"""What a search step comes to."""

P = ParamSpec("P")
T = TypeVar("T")


class StepPool(Protocol):
    """Runs search steps somewhere else. Thread-safe."""

    def submit(self, request: StepRequest) -> Future[Proposed]:
        """Start a step and return at once.

        The future fails with `BrokenProcessPool`, or is cancelled, where the step was lost with
        whatever ran it; it may be submitted again. Any other error is the step's own.

        Raises
        ------
        UnavailableError
            Nothing is there now that could run it.
        """
        ...

    def close(self) -> None:
        """Let go of what runs steps; those that run are lost. Idempotent."""
        ...


class SearchPool:
    """Runs search steps and other pure work in processes; replaces the pool when one of them dies.

    Parameters
    ----------
    processes : int
        How many steps may run at once.

    Notes
    -----
    Thread-safe. A step that kills its process fails with `BrokenProcessPool`, and so do the steps
    beside it; each may be submitted again.
    """

    def __init__(self, *, processes: int) -> None:
        self._make: Callable[[], Executor] = partial(search_pool, processes)
        self._lock = threading.Lock()
        self._executor: Executor | None = None

    def submit(self, request: StepRequest) -> Future[Proposed]:
        """Start a step."""
        return self.run(propose, request)

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Start any pure function that a fresh process can import."""
        with self._lock:
            if self._executor is None:
                self._executor = self._make()
            try:
                return self._executor.submit(work, *args, **kwargs)
            except BrokenProcessPool:
                self._executor.shutdown(wait=False)
                self._executor = self._make()
                return self._executor.submit(work, *args, **kwargs)

    def close(self) -> None:
        """End the processes; running steps are lost."""
        with self._lock:
            executor, self._executor = self._executor, None
        if isinstance(executor, ProcessPoolExecutor):
            # A step may take minutes, and nothing waits for it any more.
            for process in list((executor._processes or {}).values()):
                process.kill()
        if executor is not None:
            executor.shutdown(cancel_futures=True)
