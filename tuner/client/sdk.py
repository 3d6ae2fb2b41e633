"""The client: a server's REST interface as Python calls."""

import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from schedules.errors import InputError
from tuner.client import wire
from tuner.client.http import DEFAULT_SERVER, DEFAULT_TIMEOUT_SECS, Connection, parse
from tuner.client.job import Job, SharedBudget
from tuner.client.models import Models
from tuner.client.pages import pages
from tuner.client.requests import checked, import_parts, target_request, workload_request

if TYPE_CHECKING:
    from tuner.client.database import TuningDatabase

Item = TypeVar("Item", bound=BaseModel)

_BUILD_WAIT_SECS = 5.0


class Client:
    """Talks to one server; a context manager, thread-safe.

    Parameters
    ----------
    server : str
        URL of the server.
    token : str or None
        Token, where the server wants one.
    timeout_secs : float
        For each request.
    http : httpx.Client or None
        A client to use in place of an own one; it stays the caller's to close.

    Notes
    -----
    Every method raises `tuner.client.errors.ServerError` where the server refuses, which is also
    an `InputError`, `NotFoundError` or `ConflictError` where it says so, and
    `UnavailableError` where there is no answer after a few tries.
    """

    def __init__(
        self,
        server: str = DEFAULT_SERVER,
        *,
        token: str | None = None,
        timeout_secs: float = DEFAULT_TIMEOUT_SECS,
        http: httpx.Client | None = None,
    ) -> None:
        self._connection = Connection(server, token=token, timeout_secs=timeout_secs, http=http)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def server(self) -> str:
        """URL of the server."""
        return self._connection.server

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    # --- jobs ------------------------------------------------------------------------------------

    def submit(
        self,
        workload: object,
        *,
        target: object = "native",
        trials: int | None = 64,
        seconds: float | None = None,
        least_gain: float | None = None,
        space: str = "default",
        priority: int = 0,
        seed: int | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Ask for a workload to be tuned.

        Parameters
        ----------
        workload : object
            See `tuner.client.requests.workload_request`.
        target : object
            ``"native"`` for that of the registered workers, or see
            `tuner.client.requests.target_request`.
        trials, seconds : int or None, float or None
            The budget; at least one is needed, the first reached ends the job.
        least_gain : float or None
            The job ends earlier when the next batch is expected to gain a smaller share of the
            latency.
        space : str
            Schedule space.
        priority : int
            Larger goes first.
        seed : int or None
            Makes the search repeatable.
        idempotency_key : str or None
            Requests with one key are one job; by default each call has a key of its own, so that
            only its own retries are one.

        Returns
        -------
        Job
            A new one, or the active one for the same request (`Job.view.attached`).
        """
        body = checked(
            wire.JobRequest,
            workload=workload_request(workload),
            target=target_request(target),
            budget=checked(wire.Budget, trials=trials, seconds=seconds, least_gain=least_gain),
            space=space,
            priority=priority,
            seed=seed,
        )
        view = self._submitted("/v1/jobs", body, idempotency_key, wire.JobView)
        return Job(self._connection, view)

    def share_budget(
        self,
        workloads: Iterable[object],
        *,
        weights: Iterable[float] | None = None,
        target: object = "native",
        trials: int | None,
        seconds: float | None = None,
        least_gain: float | None = None,
        space: str = "default",
        priority: int = 0,
        seed: int | None = None,
        idempotency_key: str | None = None,
    ) -> SharedBudget:
        """Ask for several workloads to be tuned with one budget, which goes where it saves most.

        Parameters
        ----------
        workloads : iterable of object
            See `tuner.client.requests.workload_request`.
        weights : iterable of float or None
            How often each is called; once by default.
        trials, seconds : int or None, float or None
            Of all of them together.
        target, least_gain, space, priority, seed, idempotency_key
            As for `submit`, the same for all.
        """
        written = [workload_request(workload) for workload in workloads]
        weighed = [1.0] * len(written) if weights is None else list(weights)
        if len(weighed) != len(written):
            raise InputError(f"there are {len(weighed)} weights for {len(written)} workloads")
        body = checked(
            wire.SharedBudgetRequest,
            tasks=[
                checked(wire.SharedTask, workload=workload, weight=weight)
                for workload, weight in zip(written, weighed, strict=True)
            ],
            target=target_request(target),
            budget=checked(wire.Budget, trials=trials, seconds=seconds, least_gain=least_gain),
            space=space,
            priority=priority,
            seed=seed,
        )
        view = self._submitted("/v1/budgets", body, idempotency_key, wire.SharedBudgetView)
        return SharedBudget(self._connection, view)

    def shared_budget(self, budget_id: str) -> SharedBudget:
        """Return a shared budget."""
        view = self._connection.get(f"/v1/budgets/{budget_id}", wire.SharedBudgetView)
        return SharedBudget(self._connection, view)

    def job(self, job_id: str) -> Job:
        """Return a job."""
        return Job(self._connection, self._connection.get(f"/v1/jobs/{job_id}", wire.JobView))

    def jobs(self, *, state: str | None = None, limit: int | None = None) -> Iterator[wire.JobView]:
        """Yield jobs, newest first."""
        return pages(self._connection, "/v1/jobs", wire.JobView, {"state": state}, limit)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; one that has ended stays as it is."""
        answer = self._connection.send("POST", f"/v1/jobs/{job_id}/cancel")
        return Job(self._connection, parse(answer, wire.JobView))

    # --- bests -----------------------------------------------------------------------------------

    def best(
        self, workload: object, target: object = "native", *, deadline_secs: float | None = None
    ) -> wire.BestView:
        """Return what is best for a workload on a target.

        Parameters
        ----------
        workload, target : object
            As for `submit`.
        deadline_secs : float or None
            How long the server may look for a better one first.

        Raises
        ------
        NotFoundError
            Nothing is known and nothing can be predicted.
        """
        body = checked(
            wire.BestRequest,
            workload=workload_request(workload),
            target=target_request(target),
            deadline_secs=deadline_secs,
        )
        timeout_secs = self._connection.timeout_secs + (deadline_secs or 0.0)
        answer = self._connection.send("POST", "/v1/best", body=body, timeout_secs=timeout_secs)
        return parse(answer, wire.BestView)

    def best_by_id(self, workload_id: str, target_id: str) -> wire.BestView:
        """Return what is best for ids.

        Raises
        ------
        NotFoundError
            Nothing is known.
        """
        ids = {"workload_id": workload_id, "target_id": target_id}
        return self._connection.get("/v1/best", wire.BestView, ids)

    def bests(
        self,
        *,
        workload_id: str | None = None,
        target_id: str | None = None,
        limit: int | None = None,
    ) -> Iterator[wire.BestView]:
        """Yield published bests."""
        ids = {"workload_id": workload_id, "target_id": target_id}
        return pages(self._connection, "/v1/bests", wire.BestView, ids, limit)

    # --- records ---------------------------------------------------------------------------------

    def records(self, *, limit: int | None = None, **filters: object) -> Iterator[wire.RecordView]:
        """Yield tuning records, newest first, page by page.

        Parameters
        ----------
        limit : int or None
            Largest number of records.
        filters : object
            Fields of `tuner.client.wire.RecordQuery`: which records; all have to hold.

        Raises
        ------
        InputError
            A filter is unknown or out of range.
        """
        query = checked(wire.RecordQuery, **filters)
        return pages(self._connection, "/v1/records", wire.RecordView, _written(query), limit)

    def summary(self, group_by: str, *, limit: int = 100, **filters: object) -> wire.SummaryView:
        """Count tuning records by group, with quantiles of their latencies.

        Parameters
        ----------
        group_by : str
            ``operator``, ``target``, ``worker``, ``failure`` or ``day``.
        limit : int
            Largest number of groups.
        filters : object
            As for `records`.
        """
        query = checked(wire.SummaryQuery, group_by=group_by, limit=limit, **filters)
        return self._connection.get("/v1/records/summary", wire.SummaryView, _written(query))

    def import_records(self, records: Iterable[wire.ImportedRecord]) -> wire.ImportAnswer:
        """Send measurements that were made elsewhere; sending them twice adds nothing.

        Returns
        -------
        ImportAnswer
            What became of all of them together.
        """
        stored = known = published = 0
        for part in import_parts(records):
            body = wire.ImportRequest(records=part)
            answer = parse(
                self._connection.send("POST", "/v1/records/import", body=body), wire.ImportAnswer
            )
            stored += answer.stored
            known += answer.known
            published += answer.published
        return wire.ImportAnswer(stored=stored, known=known, published=published)

    # --- what else the server knows --------------------------------------------------------------

    def workers(self, *, limit: int | None = None) -> Iterator[wire.WorkerView]:
        """Yield registered workers."""
        return pages(self._connection, "/v1/workers", wire.WorkerView, {}, limit)

    def drain_worker(self, worker_id: str) -> wire.WorkerView:
        """Let a worker finish its batch and leave."""
        answer = self._connection.send("POST", f"/v1/workers/{worker_id}/drain")
        return parse(answer, wire.WorkerView)

    def clear_worker(self, worker_id: str) -> wire.WorkerView:
        """Trust a quarantined worker again, with all that it measured."""
        answer = self._connection.send("POST", f"/v1/workers/{worker_id}/clear")
        return parse(answer, wire.WorkerView)

    def targets(self, *, limit: int | None = None) -> Iterator[wire.TargetView]:
        """Yield known targets."""
        return pages(self._connection, "/v1/targets", wire.TargetView, {}, limit)

    def workloads(self, *, limit: int | None = None) -> Iterator[wire.WorkloadView]:
        """Yield known workloads, without their IR."""
        return pages(self._connection, "/v1/workloads", wire.WorkloadView, {}, limit)

    def workload(self, workload_id: str) -> wire.WorkloadWire:
        """Return a workload with its IR."""
        return self._connection.get(f"/v1/workloads/{workload_id}", wire.WorkloadWire)

    def target(self, target_id: str) -> wire.TargetView:
        """Return a target."""
        return self._connection.get(f"/v1/targets/{target_id}", wire.TargetView)

    @property
    def models(self) -> Models:
        """The versions of the server's cost model."""
        return Models(self._connection)

    # --- builds ----------------------------------------------------------------------------------

    def database(self, *, unverified: bool = False) -> "TuningDatabase":
        """Return a MetaSchedule database that is answered by the server; imports TVM.

        Parameters
        ----------
        unverified : bool
            Whether bests whose output nobody has checked are used too.

        Examples
        --------
        ::

            with client.database(), target:
                lib = tvm.compile(mod, target)
        """
        from tuner.client.database import TuningDatabase

        def find_best(workload_id: str, target_id: str) -> wire.BestView:
            # A build waits once and briefly; it goes on without the server then.
            answer = self._connection.send(
                "GET",
                "/v1/best",
                params={"workload_id": workload_id, "target_id": target_id},
                timeout_secs=min(_BUILD_WAIT_SECS, self._connection.timeout_secs),
                retry=False,
            )
            return parse(answer, wire.BestView)

        return TuningDatabase(find_best, unverified=unverified)

    def _submitted(
        self, path: str, body: BaseModel, idempotency_key: str | None, view: type[Item]
    ) -> Item:
        """Send a request whose retries are one."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return parse(self._connection.send("POST", path, body=body, headers=headers), view)


def _written(query: wire.RecordQuery) -> dict[str, Any]:
    """Write a query as the parameters of a request."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in query.model_dump(exclude_none=True).items()
    }
