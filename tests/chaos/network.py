"""Between workers, clients and the server, calls are lost, doubled and delayed."""

import itertools
import threading
import uuid
from functools import partial
from pathlib import Path

from schedules.errors import UnavailableError
from tests.chaos.fault import Fault, Outcome
from tests.chaos.fleet import POSTGRESQL, SQLITE, fleet, operator_args
from tests.chaos.proxy import FaultProxy, Odds
from tests.chaos.worker import TARGET
from tuner.client.job import Job
from tuner.client.sdk import Client
from tuner.client.wire import JobView

_CALLS_PER_JOB = 40
_TRIALS = 30
_MANY = 1000
_CLIENTS = 40
_DAEMONS = 240
_SWARMS = 2


class _Submitters:
    """Clients that submit jobs and wait for them, until so many calls have passed a proxy."""

    def __init__(self, proxy: FaultProxy, calls: int, jobs: int) -> None:
        self.job_ids: list[str] = []
        self.failed: list[str] = []
        self._proxy = proxy
        self._calls = calls
        self._numbers = itertools.count()
        self._jobs = jobs

    def run(self, clients: int) -> None:
        """Let so many clients submit one job after the other."""
        threads = [threading.Thread(target=self._submit_and_wait) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @property
    def _through(self) -> bool:
        return self._proxy.calls["calls"] >= self._calls

    def _submit_and_wait(self) -> None:
        with Client(self._proxy.url) as client:
            while not self._through and (number := next(self._numbers)) < self._jobs:
                job = self._submit(client, number)
                self.job_ids.append(job.id)
                try:
                    job.wait(on_progress=self._look)
                except UnavailableError as error:
                    self.failed.append(str(error))

    def _look(self, view: JobView) -> None:
        if self._through:
            self._proxy.make_reliable()

    @staticmethod
    def _submit(client: Client, number: int) -> Job:
        key = uuid.uuid4().hex
        workload = {"op": "matmul", "args": operator_args(number)}
        while True:
            try:
                return client.submit(
                    workload, target=TARGET.target_id, trials=_TRIALS, idempotency_key=key
                )
            except UnavailableError:
                # The SDK has tried several times; whoever goes on keeps the key.
                continue


def break_network(count: int, folder: Path, *, database: str) -> Outcome:
    """Let so many calls pass through a proxy that breaks them; few are not held up as long."""
    many = count >= _MANY
    clients = _CLIENTS if many else 4
    swarms, daemons = (_SWARMS, _DAEMONS) if many else (1, clients)
    jobs = clients + count // _CALLS_PER_JOB
    with (
        fleet(folder, database, jobs=jobs, batch=2, search_processes=clients) as made,
        FaultProxy(made.port, Odds() if many else Odds(delay_secs=0.3)) as proxy,
    ):
        made.start_server()
        made.wait_for_server()
        for number in range(swarms):
            made.start_worker(
                f"swarm{number}",
                *("--daemons", str(daemons // swarms), "--poll-secs", "1"),
                module="tests.chaos.swarm",
                server_url=proxy.url,
            )
        submitters = _Submitters(proxy, count, jobs)
        submitters.run(clients)
        proxy.make_reliable()
        found = made.finish()
        seen = proxy.calls
        return found.outcome(
            seen["calls"],
            f"{seen['drop']} calls dropped, {seen['double']} doubled, "
            f"{seen['lose_answer']} answers lost; {found.jobs} jobs",
            duplicated=found.jobs - len(set(submitters.job_ids)),
            orphaned=len(submitters.failed),
        )


FAULTS = tuple(
    Fault(
        name=f"calls lost, doubled and delayed ({database})",
        run=partial(break_network, database=database),
        full=25_000,
        shrunk=40 if database == POSTGRESQL else 0,
        databases=(database,),
        full_secs=400,
    )
    for database in (SQLITE, POSTGRESQL)
)
