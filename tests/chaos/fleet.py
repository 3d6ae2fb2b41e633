"""A fleet of real processes: servers, workers, a database; to be broken and then audited."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from schedules.operators import find_operator
from service.db.migrate import upgrade
from service.db.store import Store
from tests.chaos import server
from tests.chaos.audit import Audit, audit
from tests.chaos.ledger import Ledger
from tests.chaos.port import Port
from tests.chaos.worker import TARGET
from tests.chaos.zygote import Process, zygote
from tests.integration.api_server import FakeParser
from tests.postgres import make_database, postgres

AnyProcess = subprocess.Popen[bytes] | Process

SQLITE = "sqlite"
POSTGRESQL = "postgresql"
PATIENCE_SECS = 240.0
"""How long anything may take before it counts as stuck."""


class StuckError(Exception):
    """Something did not happen that had to."""


class Fleet:
    """Starts processes in a folder, and ends all of them.

    Parameters
    ----------
    folder : Path
        Empty, of this fleet alone.
    database_url : str
        An empty database; its schema is made here.
    batch : int
        How many candidates are measured together.
    owner_ttl_secs : float or None
        How long orchestrators hold jobs; the product's time by default.
    search_processes : int
        How many jobs may be between two steps at once.
    settings
        Further ones of all servers, as in ``TUNESMITH_<NAME>``.

    Attributes
    ----------
    url : str
        Where the API answers, also after a restart.
    ledger : Ledger
        What all processes write.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str,
        *,
        batch: int = 8,
        owner_ttl_secs: float | None = None,
        search_processes: int = 4,
        **settings: float,
    ) -> None:
        self.folder = folder
        self.database_url = database_url
        self._port = Port()
        self.port = self._port.number
        self.url = f"http://127.0.0.1:{self.port}"
        self.ledger = Ledger(folder / "ledger.jsonl")
        self._environment = {
            **{key: value for key, value in os.environ.items() if "TUNESMITH" not in key},
            "TUNESMITH_SEARCH_PROCESSES": str(search_processes),
            # The candidates are numbers, from which nothing can be learned.
            "TUNESMITH_LEARN": "false",
            **{f"TUNESMITH_{key.upper()}": str(value) for key, value in settings.items()},
            server.LEDGER: str(folder / "ledger.jsonl"),
            server.BATCH: str(batch),
        }
        if owner_ttl_secs is not None:
            self._environment[server.OWNER_TTL_SECS] = str(owner_ttl_secs)
        self._http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        self._processes: list[AnyProcess] = []
        self._workers: dict[str, AnyProcess] = {}
        self._again: dict[str, Callable[[], object]] = {}
        self._submitted = 0
        upgrade(database_url)

    # --- processes -------------------------------------------------------------------------------

    def start_server(self, role: str = "all", *, fresh: bool = False) -> AnyProcess:
        """Start a server process; one with an API takes this fleet's port.

        Parameters
        ----------
        fresh : bool
            Start it as a user does, rather than by a fork, which saves the imports.
        """
        return self._start(
            f"server-{role}",
            "tests.chaos.server",
            "serve",
            "--role",
            role,
            *("--port", str(self.port)),
            *("--database-url", self.database_url),
            *("--data-dir", str(self.folder / "data")),
            fresh=fresh,
        )

    def wait_for_server(self) -> None:
        """Return when the API answers."""
        wait_for(self.answers, "an answer of the server")

    def answers(self) -> bool:
        """Whether the API answers."""
        try:
            return self._http.get("/healthz").is_success
        except httpx.HTTPError:
            return False

    def start_worker(
        self,
        name: str,
        *options: str,
        module: str = "tests.chaos.worker",
        server_url: str = "",
        fresh: bool = False,
    ) -> AnyProcess:
        """Start a worker process, or start it again under its name."""
        process = self._start(
            f"worker-{name}",
            module,
            *("--server", server_url or self.url, "--name", name),
            *("--state-dir", str(self.folder / name)),
            *("--ledger", str(self.folder / "ledger.jsonl")),
            *options,
            fresh=fresh,
        )
        self._workers[name] = process
        self._again[name] = partial(
            self.start_worker,
            name,
            *options,
            module=module,
            server_url=server_url,
            fresh=fresh,
        )
        return process

    def restart_dead_workers(self) -> int:
        """Start those workers again that have ended, and return how many there were."""
        dead = [name for name, process in self._workers.items() if process.poll() is not None]
        for name in dead:
            self._processes.remove(self._workers[name])
            self._again[name]()
        return len(dead)

    def worker(self, name: str) -> AnyProcess:
        """Return the present process of a worker."""
        return self._workers[name]

    def measuring(self, since: int = 0) -> set[int]:
        """Return the processes of those workers that have a lease and are not through with it.

        Parameters
        ----------
        since : int
            Size of the ledger before the leases that count.
        """
        left: dict[int, int] = {}
        for line in self.ledger.lines("lease", "measured", since=since):
            pid = line["pid"]
            left[pid] = line["items"] if line["kind"] == "lease" else left.get(pid, 0) - 1
        return {pid for pid, items in left.items() if items > 0}

    def _start(self, log: str, module: str, *arguments: str, fresh: bool) -> AnyProcess:
        path = self.folder / f"{log}.log"
        process: AnyProcess
        if fresh:
            with path.open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", module, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self._environment,
                )
        else:
            process = zygote().start(module, arguments, self._environment, path)
        self._processes.append(process)
        return process

    def kill(self, process: AnyProcess) -> None:
        """End a process as a power cut would, and forget it."""
        process.kill()
        process.wait()
        self._processes.remove(process)

    def close(self) -> None:
        """End all processes."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._http.close()
        self.ledger.close()
        self._port.close()

    # --- jobs ------------------------------------------------------------------------------------

    def prepare(self, jobs: int) -> None:
        """Store the workloads of so many jobs, so that no server needs a parser."""
        store, parser = Store.open(self.database_url), FakeParser()
        try:
            store.save_target(TARGET)
            for number in range(jobs):
                call = find_operator("matmul").call(operator_args(number))
                store.save_workload(parser.resolve_call(call))
        finally:
            store.close()

    def submit(self, trials: int, target_id: str = TARGET.target_id) -> str:
        """Submit a job with a workload of its own and return its id."""
        request = {
            "workload": {"op": "matmul", "args": operator_args(self._submitted)},
            "target": target_id,
            "budget": {"trials": trials},
        }
        self._submitted += 1
        job_id: str = self._answer("POST", "/v1/jobs", request)["id"]
        return job_id

    def keep_busy(self, jobs: int, trials: int) -> None:
        """Submit jobs until so many are active."""
        for _ in range(jobs - len(self.active_jobs())):
            self.submit(trials)

    def active_jobs(self) -> set[str]:
        """Return the ids of the jobs that have not ended."""
        return {
            job["id"]
            for state in ("queued", "running")
            for job in self._answer("GET", f"/v1/jobs?state={state}&limit=1000")["items"]
        }

    def workers(self) -> list[dict[str, Any]]:
        """Return the registered workers."""
        return list(self._answer("GET", "/v1/workers?limit=1000")["items"])

    def records(self, job_id: str) -> list[dict[str, Any]]:
        """Return the records of a job."""
        headers = {"Accept": "application/x-ndjson"}
        answer = self._http.get(f"/v1/records?job_id={job_id}", headers=headers)
        answer.raise_for_status()
        return [json.loads(line) for line in answer.text.splitlines()]

    def _answer(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._http.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json()

    # --- the end ---------------------------------------------------------------------------------

    def finish(self, *, measured_elsewhere: bool = False) -> Audit:
        """Let all jobs end, stop all processes in order, and compare ledger and database.

        Parameters
        ----------
        measured_elsewhere : bool
            Whether what was measured is not in the ledger.
        """

        def ended() -> bool:
            self.restart_dead_workers()
            return not self.active_jobs()

        stuck: list[tuple[str, str]] = []
        try:
            wait_for(ended, "the end of all jobs", every_secs=0.3)
        except StuckError as error:
            stuck.append(("orphaned", str(error)))
        for process in reversed(self._processes):
            # Workers, which started last, first: they have results to post.
            process.send_signal(signal.SIGTERM)
            try:
                status = process.wait(30)
            except subprocess.TimeoutExpired:
                status = None
            if status != 0:
                told = f"process {process.pid} did not stop in order (status {status})"
                stuck.append(("orphaned", told))
        found = audit(
            self.database_url,
            None if measured_elsewhere else self.ledger.lines("measured"),
            [self.folder / name for name in self._workers],
        )
        return replace(found, problems=(*stuck, *found.problems))


@contextmanager
def fleet(
    folder: Path,
    database: str,
    *,
    jobs: int,
    batch: int = 8,
    search_processes: int = 4,
    **settings: float,
) -> Iterator[Fleet]:
    """Make a fleet with an empty database of that kind, prepared for so many jobs."""
    with databases([database], folder) as urls:
        made = Fleet(folder, urls[0], batch=batch, search_processes=search_processes, **settings)
        try:
            made.prepare(jobs)
            yield made
        finally:
            made.close()


@contextmanager
def databases(kinds: Sequence[str], folder: Path) -> Iterator[list[str]]:
    """Make empty databases of these kinds."""
    if POSTGRESQL not in kinds:
        yield [f"sqlite:///{folder / f'{number}.db'}" for number, _ in enumerate(kinds)]
        return
    with postgres() as server_url:
        yield [
            make_database(server_url, f"fleet_{number}")
            if kind == POSTGRESQL
            else f"sqlite:///{folder / f'{number}.db'}"
            for number, kind in enumerate(kinds)
        ]


def wait_for(
    condition: Callable[[], bool],
    what: str,
    *,
    secs: float = PATIENCE_SECS,
    every_secs: float = 0.02,
) -> float:
    """Wait until a condition holds and return the seconds that took.

    Raises
    ------
    StuckError
        It did not in time.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > secs:
            raise StuckError(f"{what} did not come within {secs:.0f} s")
        time.sleep(every_secs)
    return time.monotonic() - began


def operator_args(number: int) -> dict[str, int]:
    """Return the arguments of the n-th job's workload."""
    return {"n": 16 + number, "m": 16, "k": 16}
