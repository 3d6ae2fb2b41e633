"""Simulated workers and submitting clients, in a process of their own; prints what it saw as JSON.

Run as ``python -m tests.benchmarks.service.fleet``; the first line of its input is the JSON of a
`Fleet`. The workers speak the daemon's protocol; what they lack is a device: measuring is sleeping.
A first line says when all are registered; from then on jobs come and everything is timed.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import uvloop

from tests.benchmarks.service.client import Connection, Tally

REGISTERED = "registered"
WAIT_SECS = 20.0
REGISTER_AT_ONCE = 16
ENVIRONMENT = {"cpu": "simulated", "cores": 2}
CHECK = {"reference": "simulated", "tolerance": 1e-5, "error": 0.0, "passed": True}
# Some batches take so long that their leases have to be kept by heartbeats.
LONG_SHARE = 0.02
HEARTBEAT_SHARE = 1 / 3


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Who works, and on what.

    Attributes
    ----------
    calls : tuple of mappings
        Operator calls to submit, each one job; submitted in this order.
    trials : int
        Budget of each job.
    jobs_per_sec : float
        Jobs are due at random times at this rate, whatever the server does (open loop). One that
        is refused with a 429 is submitted again after the time that the server names.
    submitters : int
        How many requests for jobs may be open at once.
    measure_secs : float
        How long a batch takes on average; those with heartbeats take half of the lease's time.
    limit_secs : float
        End then, whatever is left.
    """

    port: int
    workers: int
    target: Mapping[str, Any]
    target_id: str
    calls: tuple[Mapping[str, Any], ...]
    trials: int
    jobs_per_sec: float
    submitters: int
    measure_secs: float
    limit_secs: float


class Simulation:
    """Runs a `Fleet`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._tally = Tally()
        self._chance = random.Random(1)
        self._started = time.monotonic()
        self._due_jobs: asyncio.Queue[tuple[float, int]] = asyncio.Queue()
        self._submitted = 0
        self._finals_done: set[str] = set()
        self._registering = asyncio.Semaphore(REGISTER_AT_ONCE)
        self._registered = 0
        self._all_registered = asyncio.Event()
        self._results = 0

    async def run(self) -> dict[str, Any]:
        """Work until every job has had its finals measured, or the time is over."""
        workers = [asyncio.create_task(self._work(n)) for n in range(self._fleet.workers)]
        watch = asyncio.create_task(self._all_registered.wait())
        await asyncio.wait([watch, *workers], return_when=asyncio.FIRST_COMPLETED)
        print(REGISTERED, flush=True)
        self._started = time.monotonic()
        self._tally.begin()
        submitters = [asyncio.create_task(self._submit()) for _ in range(self._fleet.submitters)]
        submitters.append(asyncio.create_task(self._schedule_jobs()))
        deadline = self._started + self._fleet.limit_secs
        while time.monotonic() < deadline and len(self._finals_done) < len(self._fleet.calls):
            await asyncio.sleep(0.25)
            for task in (*workers, *submitters):
                if task.done() and not task.cancelled() and (error := task.exception()):
                    raise error
        took_secs = time.monotonic() - self._started
        for task in (*workers, *submitters):
            task.cancel()
        await asyncio.gather(*workers, *submitters, return_exceptions=True)
        return self._tally.report() | {
            "jobs_submitted": self._submitted,
            "jobs_done": len(self._finals_done),
            "results": self._results,
            "took_secs": took_secs,
        }

    async def _schedule_jobs(self) -> None:
        due = self._started
        for number in range(len(self._fleet.calls)):
            due += self._chance.expovariate(self._fleet.jobs_per_sec)
            await asyncio.sleep(due - time.monotonic())
            self._due_jobs.put_nowait((due, number))

    async def _submit(self) -> None:
        connection = Connection("127.0.0.1", self._fleet.port)
        while True:
            due, number = await self._due_jobs.get()
            body = {
                "workload": self._fleet.calls[number],
                "target": self._fleet.target_id,
                "budget": {"trials": self._fleet.trials},
                "seed": number,
            }
            answer = await connection.post("/v1/jobs", body)
            # An answer that was lost is no second job: the repetition joins the first (200).
            if answer.status in (200, 201):
                self._tally.note("submit", answer.status, time.monotonic() - due)
                self._submitted += 1
            else:
                self._tally.note("submit", answer.status)
                again_secs = answer.retry_after_secs * self._chance.uniform(1.0, 1.5)
                again = (time.monotonic() + again_secs, number)
                asyncio.get_running_loop().call_later(again_secs, self._due_jobs.put_nowait, again)

    async def _work(self, number: int) -> None:
        connection = Connection("127.0.0.1", self._fleet.port)
        worker_id = await self._register(connection, number)
        while True:
            asked_at = time.time()
            answer = await connection.post(
                f"/v1/workers/{worker_id}/lease", {"wait_secs": WAIT_SECS}, WAIT_SECS + 10.0
            )
            if answer.status == 200:
                lease = answer.json()
                # A batch's id begins with the nanosecond in which it was made.
                queued_at = int(lease["lease_id"][:16], 16) / 1e9
                self._tally.note("lease", 200, time.time() - max(asked_at, queued_at))
                await self._measure(connection, worker_id, lease)
            else:
                self._tally.note("lease", answer.status)
                if answer.status != 204:
                    await asyncio.sleep(self._chance.uniform(0.5, 1.5))

    async def _register(self, connection: Connection, number: int) -> str:
        async with self._registering:
            while True:
                answer = await connection.post(
                    "/v1/workers",
                    {
                        "name": f"simulated {number}",
                        "target": self._fleet.target,
                        "environment": ENVIRONMENT,
                    },
                )
                self._tally.note("register", answer.status)
                if answer.status == 201:
                    break
                await asyncio.sleep(1.0)
        self._registered += 1
        if self._registered == self._fleet.workers:
            self._all_registered.set()
        worker_id: str = answer.json()["worker_id"]
        return worker_id

    async def _measure(self, connection: Connection, worker_id: str, lease: dict[str, Any]) -> None:
        path = f"/v1/leases/{lease['lease_id']}"
        if self._chance.random() < LONG_SHARE:
            await asyncio.sleep(HEARTBEAT_SHARE * lease["ttl_secs"])
            asked_at = time.monotonic()
            answer = await connection.post(f"{path}/heartbeat", {"epoch": lease["epoch"]})
            self._tally.note("heartbeat", answer.status, time.monotonic() - asked_at)
        await asyncio.sleep(self._chance.uniform(0.5, 1.5) * self._fleet.measure_secs)
        secs = 1e-3 * self._chance.uniform(0.9, 1.1)
        body = {
            "epoch": lease["epoch"],
            "worker_id": worker_id,
            "environment": ENVIRONMENT,
            "results": [
                {
                    "item_id": item["item_id"],
                    "result": {"run_secs": [secs, 1.01 * secs, secs], "verification": CHECK},
                }
                for item in lease["items"]
            ],
        }
        while True:
            asked_at = time.monotonic()
            answer = await connection.post(f"{path}/results", body)
            self._tally.note("results", answer.status, time.monotonic() - asked_at)
            if answer.status == 200:
                break
            await asyncio.sleep(self._chance.uniform(0.5, 1.5))
        self._results += len(answer.json()["accepted"])
        if lease["purpose"] == "final":
            self._finals_done.add(lease["job_id"])


async def main() -> None:
    """Run the fleet that the command line describes."""
    print(json.dumps(await Simulation(Fleet(**json.loads(sys.stdin.readline()))).run()))


if __name__ == "__main__":
    uvloop.run(main())
