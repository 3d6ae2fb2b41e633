"""Search steps on a Dask cluster, for more jobs than one machine can search for."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from cost_model.distributed import dask_missing
from schedules.errors import UnavailableError
from service.compute import Proposed
from tuner.search.step import StepRequest, propose

CONNECT_SECS = 5.0
REMEMBERED = 4096
"""Of so many searches is known which worker has them; a worker itself keeps fewer."""

_alone = threading.Lock()


class ClusterPool:
    """Runs search steps on the workers of a Dask cluster, each of them on one thread.

    The steps of a search go to the worker that took the last one, as it may still have the search
    (`tuner.search.warm`), unless that is busy and another is not.

    Parameters
    ----------
    scheduler : str
        Address of its scheduler, as in ``tcp://host:8786``; connected to by the first step.

    Raises
    ------
    UnavailableError
        Dask is not installed.

    Notes
    -----
    Thread-safe. A step whose worker dies is begun again by the cluster, on another one and up to
    three times. Where the scheduler is lost, its steps are cancelled; they may be submitted again.
    """

    def __init__(self, scheduler: str) -> None:
        try:
            import distributed
        except ImportError as error:
            raise dask_missing("searching", error) from None
        self._connect = distributed.Client
        self._scheduler = scheduler
        self._lock = threading.Lock()
        self._client: Any = None
        self._homes: OrderedDict[str, str] = OrderedDict()
        self._running: dict[Future[Proposed], str] = {}

    def submit(self, request: StepRequest) -> Future[Proposed]:
        """Start a step.

        Raises
        ------
        UnavailableError
            The scheduler does not answer, or it has no workers.
        """
        with self._lock:
            try:
                client = self._connected()
                home = self._home(request.search_id, client.ncores())
                # Where the home dies meanwhile, another worker takes the step.
                executor = client.get_executor(pure=False, workers=[home], allow_other_workers=True)
                future: Future[Proposed] = executor.submit(_propose, replace(request, threads=1))
            except (OSError, ValueError) as error:
                raise UnavailableError(
                    f"the Dask scheduler {self._scheduler} does not answer ({error}); start it "
                    "with `dask scheduler`, or give another address in TUNESMITH_DASK_SCHEDULER"
                ) from error
            self._running[future] = home
        return future

    def close(self) -> None:
        """Leave the cluster; running steps are lost."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> Any:
        if self._client is None or self._client.status == "closed":
            # Not the process's default client, which the training on a cluster sets.
            self._client = self._connect(
                self._scheduler, timeout=CONNECT_SECS, set_as_default=False
            )
        if self._client.status != "running":
            # Dask itself tries for some time, in which calls would wait.
            raise ConnectionError("the connection was lost")
        return self._client

    def _home(self, search_id: str, workers: Iterable[str]) -> str:
        """Choose the worker for a step: the search's own, or the least busy one."""
        known = sorted(workers)
        if not known:
            raise UnavailableError(
                f"the Dask cluster of {self._scheduler} has no workers; start some with "
                f"`dask worker {self._scheduler} --nthreads 1`"
            )
        self._running = {step: at for step, at in self._running.items() if not step.done()}
        busy = Counter(self._running.values())
        idlest = min(known, key=busy.__getitem__)
        home = self._homes.pop(search_id, idlest)
        if home not in known or busy[home] > busy[idlest]:
            home = idlest
        self._homes[search_id] = home
        while len(self._homes) > REMEMBERED:
            self._homes.popitem(last=False)
        return home


def _propose(request: StepRequest) -> Proposed:
    """Take a step, one at a time in this process, however many threads its worker has."""
    with _alone:
        return propose(request)
