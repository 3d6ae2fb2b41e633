"""A server under load from workers and submitters who write down what it acknowledged.

The server is a real ``tunesmith serve`` process; its clients are threads that repeat a request
until it is answered, as every client of ours does. What was acknowledged goes to the ledger, and at
the end all of it has to be in the database, once.
"""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from schedules.operators import find_operator
from schedules.records import Purpose
from service.db.engine import Database
from service.db.migrate import upgrade
from service.db.models import ItemRow, JobRow, RecordRow
from service.db.store import Store
from service.db.values import ItemState, JobSpec, JobState
from tests.chaos.fault import Outcome
from tests.chaos.ledger import Ledger
from tests.contracts.store_values import CPU, GPU, candidate
from tests.integration.api_server import FakeParser

MEASURERS = 4
SUBMITTERS = 2
BATCH_SIZE = 25
HANG_SECS = 90.0
"""A request that takes longer hangs; the store's own waits are 30 s at most."""
_SERVE = "from tuner.cli import main; main(prog_name='tunesmith')"
_SCALE = 2.0**-70
_CALL = find_operator("matmul").call({"n": 64, "m": 64, "k": 64})


def fill(database_url: str, results: int) -> None:
    """Make a database with one job whose queue lasts for about so many results."""
    upgrade(database_url)
    store = Store.open(database_url)
    try:
        workload = FakeParser().resolve_call(_CALL)
        store.save_workload(workload)
        for target in (CPU, GPU):
            store.save_target(target)
        spec = JobSpec(
            workload_id=workload.workload_id,
            target_id=CPU.target_id,
            trials=100_000,
            seconds=None,
            priority=0,
            space="default",
            seed=None,
        )
        job, _ = store.submit_job(spec, idempotency_key=None)
        store.claim_jobs("filler", 3600)
        for first in range(0, results, BATCH_SIZE):
            store.enqueue_batch(
                job.job_id,
                "filler",
                purpose=Purpose.TRIAL,
                candidates=[candidate(number) for number in range(first, first + BATCH_SIZE)],
                incumbent_secs=None,
            )
        store.release_jobs("filler")
    finally:
        store.close()


class Load:
    """A server, and clients that keep it busy.

    Parameters
    ----------
    folder : Path
        For the ledger, the log and the server's data.
    database_url : str
        A database that `fill` made.
    environment : Mapping
        Added to the server's.
    """

    def __init__(self, folder: Path, database_url: str, environment: Mapping[str, str]) -> None:
        self.database_url = database_url
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.answers: Counter[int] = Counter()
        self.wrong: list[str] = []
        self._lock = threading.Lock()
        self._last_success: dict[str, float] = {}
        self._stopping = threading.Event()
        self._log = folder / "server.log"
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                [
                    *(sys.executable, "-c", _SERVE, "serve", "--port", "0"),
                    *("--database-url", database_url, "--data-dir", str(folder / "data")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **{key: value for key, value in os.environ.items() if "TUNESMITH" not in key},
                    "TUNESMITH_POLL_SECS": "0.2",
                    "TUNESMITH_MAX_ACTIVE_JOBS": "100000",
                    # What is measured all the time here must not hold up the job that is last.
                    "TUNESMITH_SEARCH_WHILE_MEASURING": "1",
                    **environment,
                },
            )
        self._http = httpx.Client(
            base_url=self._url(), timeout=HANG_SECS, trust_env=False, limits=httpx.Limits()
        )
        clients = [(f"worker-{number}", self._measure) for number in range(MEASURERS)]
        clients += [(f"submitter-{number}", self._submit) for number in range(SUBMITTERS)]
        self._threads = [
            threading.Thread(target=self._run, args=(work, name), name=name)
            for name, work in clients
        ]
        for thread in self._threads:
            thread.start()

    def _url(self) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._server.poll() is None:
            found = re.search(r"serves (http://\S+)", self._log.read_text())
            if found:
                return found[1]
            time.sleep(0.05)
        raise AssertionError(f"the server did not start: {self._log.read_text()}")

    # --- clients ---------------------------------------------------------------------------------

    def _run(self, work: Any, name: str) -> None:
        try:
            work(name)
        except Exception as error:
            self.wrong.append(f"{name} ended: {type(error).__name__}: {error}")

    def _measure(self, name: str) -> None:
        """Be a worker: lease, report each result, now and then a heartbeat."""
        body = {"name": name, "target": CPU.as_dict(), "environment": {"device": "ledger"}}
        worker_id = self._ask(name, "/v1/workers", body).json()["worker_id"]
        while not self._stopping.is_set():
            lease_path = f"/v1/workers/{worker_id}/lease"
            answer = self._ask(name, lease_path, {"wait_secs": 0.5}, accept=(200, 204))
            for item in answer.json()["items"] if answer.status_code == 200 else ():
                if self._stopping.is_set():
                    break
                lease = answer.json()
                path = f"/v1/leases/{lease['lease_id']}"
                if random.random() < 0.2:
                    beat = {"epoch": lease["epoch"]}
                    held = self._ask(name, f"{path}/heartbeat", beat, accept=(200, 409))
                    if held.status_code == 409:
                        break
                self._report(name, path, lease["epoch"], worker_id, item["item_id"])

    def _report(self, name: str, path: str, epoch: int, worker_id: str, item_id: str) -> None:
        number = random.getrandbits(48) or 1
        result = {"run_secs": [1e-3, number * _SCALE], "build_secs": 0.1}
        body = {
            "epoch": epoch,
            "worker_id": worker_id,
            "environment": {"device": "ledger"},
            "results": [{"item_id": item_id, "result": result}],
        }
        told = self._ask(name, f"{path}/results", body).json()
        kind = "accepted" if told["accepted"] else "known"
        self.ledger.note(kind, sync=True, item=item_id, measurement=number)

    def _submit(self, name: str) -> None:
        """Be a pipeline: submit jobs that no worker can do, each under a key, and cancel them."""
        number = 0
        while not self._stopping.is_set():
            number += 1
            seed = int(name[-1]) * 10_000_000 + number
            body = {
                "workload": {"op": _CALL.op, "args": dict(_CALL.args)},
                "target": GPU.target_id,
                "budget": {"trials": 8},
                "seed": seed,
            }
            key = {"Idempotency-Key": f"{name}-{number}"}
            job = self._ask(name, "/v1/jobs", body, accept=(200, 201), headers=key).json()
            self.ledger.note("submitted", sync=True, seed=seed, job=job["id"])
            self._ask(name, f"/v1/jobs/{job['id']}/cancel", {})
            self.ledger.note("cancelled", sync=True, job=job["id"])

    def _ask(
        self,
        name: str,
        path: str,
        body: object,
        *,
        accept: tuple[int, ...] = (200, 201),
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Repeat a request until it is answered; all that it may be refused with is a 503."""
        while True:
            began = time.monotonic()
            answer = self._http.post(path, json=body, headers=headers)
            with self._lock:
                self.answers[answer.status_code] += 1
            if answer.status_code in accept:
                self._last_success[name] = began
                return answer
            if answer.status_code != 503 or "retry-after" not in answer.headers:
                self.wrong.append(f"{path}: {answer.status_code} {answer.text[:200]}")
            # Less patient than Retry-After asks for, so that the run is short.
            time.sleep(random.uniform(0.02, 0.1))

    # --- what the faults need --------------------------------------------------------------------

    def all_go_on(self) -> float:
        """Wait until each client had a request answered that it sent after now.

        Returns
        -------
        float
            Seconds until the last of them had.
        """
        began = time.monotonic()
        while time.monotonic() < began + HANG_SECS:
            if all(self._last_success.get(thread.name, 0) > began for thread in self._threads):
                return time.monotonic() - began
            if any(not thread.is_alive() for thread in self._threads):
                break
            time.sleep(0.005)
        late = [
            thread.name
            for thread in self._threads
            if self._last_success.get(thread.name, 0) <= began
        ]
        self.wrong.append(f"{', '.join(late)} had no success for {time.monotonic() - began:.0f} s")
        return time.monotonic() - began

    def orchestrates(self) -> None:
        """Check that the server still drives jobs, by one that it has to bring to its end.

        The end is a failure: the job's program is none, so that no search can begin with it. That
        it runs may last too short to be seen.
        """
        # Jobs are taken up where there is a worker.
        worker = {"name": "last", "target": GPU.as_dict(), "environment": {}}
        self._ask("last", "/v1/workers", worker)
        body = {
            "workload": {"op": _CALL.op, "args": dict(_CALL.args)},
            "target": GPU.target_id,
            "budget": {"trials": 9},
        }
        path = f"/v1/jobs/{self._ask('last', '/v1/jobs', body).json()['id']}"
        deadline = time.monotonic() + HANG_SECS
        while time.monotonic() < deadline:
            if self._http.get(path).json().get("state") == JobState.FAILED:
                return
            time.sleep(0.1)
        self.wrong.append("no orchestrator drives jobs any more")

    def stop(self) -> None:
        """End the clients, then the server in order."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(HANG_SECS)
            if thread.is_alive():
                self.wrong.append(f"{thread.name} hangs")
        self._http.close()
        self._server.send_signal(signal.SIGTERM)
        try:
            status = self._server.wait(60)
        except subprocess.TimeoutExpired:
            status = None
        if status != 0:
            self.wrong.append(f"the server did not stop in order (status {status})")

    def close(self) -> None:
        """End whatever still runs."""
        self._stopping.set()
        self._server.kill()
        self._server.wait()
        for thread in self._threads:
            thread.join()
        self._http.close()
        self.ledger.close()

    # --- the audit -------------------------------------------------------------------------------

    def outcome(self, faults: int, notes: str, **more: Any) -> Outcome:
        """Compare the ledger with the database, after `stop`; wrong answers count as orphaned."""
        database = Database(self.database_url)
        try:
            lost, duplicated, broken = database.read(self._audit)
        finally:
            database.close()
        stored = len(self.ledger.lines("accepted")) + len(self.ledger.lines("submitted"))
        told = f"{stored} acknowledged, {self.answers[503]} times 503; {notes}"
        problems = [*lost, *duplicated, *broken, *self.wrong]
        return Outcome(
            faults=faults,
            lost=len(lost),
            duplicated=len(duplicated),
            orphaned=len(broken) + len(self.wrong),
            notes="; ".join([told, *problems[:3]]),
            **more,
        )

    def _audit(self, session: Session) -> tuple[list[str], list[str], list[str]]:
        measured = {
            row.record_id: round(row.run_secs[-1] / _SCALE)
            for row in session.scalars(select(RecordRow))
        }
        jobs: dict[int | None, list[JobRow]] = {}
        for job in session.scalars(select(JobRow)):
            jobs.setdefault(job.seed, []).append(job)
        lost, duplicated, broken = [], [], []
        for line in self.ledger.lines("accepted", "known"):
            stored = measured.get(line["item"])
            if stored is None or (line["kind"] == "accepted" and stored != line["measurement"]):
                lost.append(f"the result of item {line['item']}")
        twice = Counter(line["item"] for line in self.ledger.lines("accepted"))
        duplicated += [f"{item} was accepted twice" for item, count in twice.items() if count > 1]
        twice = Counter(measured.values())
        duplicated += [
            f"measurement {number} is stored twice" for number, n in twice.items() if n > 1
        ]
        for line in self.ledger.lines("submitted"):
            made = jobs.get(line["seed"], [])
            if line["job"] not in [job.job_id for job in made]:
                lost.append(f"job {line['job']}")
            duplicated += [f"seed {line['seed']} has {len(made)} jobs"] * (len(made) > 1)
        states = {job.job_id: job.state for made in jobs.values() for job in made}
        lost += [
            f"the end of job {line['job']}"
            for line in self.ledger.lines("cancelled")
            if states.get(line["job"]) is not JobState.CANCELLED
        ]
        done = set(session.scalars(select(ItemRow.item_id).where(ItemRow.state == ItemState.DONE)))
        broken += [f"item {key} and its record disagree" for key in done ^ set(measured)]
        counted = session.scalar(select(func.sum(JobRow.trials_done)))
        if counted != len(measured):
            broken.append(f"jobs count {counted} trials of {len(measured)}")
        return lost, duplicated, broken


@contextmanager
def load(
    folder: Path, database_url: str, environment: Mapping[str, str] | None = None
) -> Iterator[Load]:
    """Run a server under load while the context lasts."""
    made = Load(folder, database_url, environment or {})
    try:
        yield made
    finally:
        made.close()
