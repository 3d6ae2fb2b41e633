"""A worker's calls to its server, with what came of them as events of the machine."""

import logging
import time

from schedules.errors import ContractError, NotFoundError, TunesmithError, UnavailableError
from schedules.records import Environment
from schedules.target import Target
from tuner import logs
from tuner.client import wire
from tuner.client.errors import (
    ForeignAnswerError,
    ServerAccessError,
    ServerConflictError,
    ServerError,
)
from tuner.client.http import FOREIGN, Connection, parse
from tuner.worker import steps

logger = logging.getLogger(__name__)

ANSWER_SECS = 10.0


class WorkerApi:
    """Thread-safe, except for `register`.

    Parameters
    ----------
    connection : Connection
        Stays the caller's to close.

    Attributes
    ----------
    worker_id : str
        Empty before the first registration.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.worker_id = ""

    @property
    def server(self) -> str:
        """URL of the server."""
        return self._connection.server

    def register(self, name: str, target: Target, environment: Environment) -> steps.Event:
        """Announce the worker under its name."""
        body = wire.RegisterRequest(
            name=name, target=target.as_dict(), environment=dict(environment.facts)
        )
        try:
            answer = self._connection.send(
                "POST", "/v1/workers", body=body, timeout_secs=ANSWER_SECS, retry=False
            )
            told = parse(answer, wire.RegisterAnswer)
        except TunesmithError as error:
            return self._failed(error, "the worker")
        self.worker_id = told.worker_id
        logs.identify(worker_id=told.worker_id)
        logger.info("registered at %s as %s (%s), %s", self.server, name, told.worker_id, target)
        return steps.Registered(heartbeat_secs=told.heartbeat_secs)

    def check(self, request: wire.CheckRequest) -> tuple[steps.Event, wire.CheckAnswer | None]:
        """Report what came of the reference kernel."""
        try:
            answer = self._connection.send(
                "POST",
                f"/v1/workers/{self.worker_id}/checks",
                body=request,
                timeout_secs=ANSWER_SECS,
                retry=False,
            )
            told = parse(answer, wire.CheckAnswer)
        except TunesmithError as error:
            return self._failed(error, "a check"), None
        return steps.CheckTold(check_secs=told.check_secs), told

    def lease(self, wait_secs: float) -> tuple[steps.Event, wire.LeaseAnswer | None]:
        """Ask for a batch; the server may hold the request for `wait_secs`."""
        asked_at = time.monotonic()
        try:
            answer = self._connection.send(
                "POST",
                f"/v1/workers/{self.worker_id}/lease",
                body=wire.LeaseRequest(wait_secs=wait_secs),
                timeout_secs=wait_secs + ANSWER_SECS,
                retry=False,
            )
            if answer.status_code == 204:
                return steps.NoWork(), None
            lease = parse(answer, wire.LeaseAnswer)
        except TunesmithError as error:
            return self._failed(error, "work"), None
        # The lease began when the server stopped holding the request, a moment before the answer.
        began = max(asked_at, time.monotonic() - 1.0)
        return steps.LeaseGranted(ttl_secs=lease.ttl_secs, asked_at=began), lease

    def heartbeat(self, lease: wire.LeaseAnswer, answer_secs: float = ANSWER_SECS) -> steps.Event:
        """Extend a lease; the server has so many seconds to answer."""
        asked_at = time.monotonic()
        try:
            answer = self._connection.send(
                "POST",
                f"/v1/leases/{lease.lease_id}/heartbeat",
                body=wire.HeartbeatRequest(epoch=lease.epoch),
                timeout_secs=answer_secs,
                retry=False,
            )
            told = parse(answer, wire.HeartbeatAnswer)
        except TunesmithError as error:
            if isinstance(error, ServerConflictError | NotFoundError) and not _is_foreign(error):
                return steps.LeaseLost(reason="the server has ended it")
            return self._failed(error, "a heartbeat")
        return steps.HeartbeatTold(command=told.command, ttl_secs=told.ttl_secs, asked_at=asked_at)

    def results(
        self, lease_id: str, body: wire.ResultsRequest, *, retry: bool
    ) -> steps.Event | wire.ResultsAnswer | None:
        """Report results; None where the server will never take them."""
        try:
            answer = self._connection.send(
                "POST",
                f"/v1/leases/{lease_id}/results",
                body=body,
                timeout_secs=ANSWER_SECS,
                retry=retry,
            )
            return parse(answer, wire.ResultsAnswer)
        except TunesmithError as error:
            final = isinstance(error, ServerError) and not isinstance(error, ServerAccessError)
            if not final or isinstance(error, UnavailableError) or _is_foreign(error):
                return self._failed(error, "results")
            logger.error("%d results were refused: %s", len(body.results), error)
            return None

    def release(self, lease: wire.LeaseAnswer) -> None:
        """Give a lease back; one that cannot be given back ends by its time to live."""
        try:
            self._connection.send(
                "POST",
                f"/v1/leases/{lease.lease_id}/release",
                body=wire.ReleaseRequest(epoch=lease.epoch),
                timeout_secs=ANSWER_SECS,
                retry=False,
            )
        except TunesmithError as error:
            logger.info("the lease was not given back: %s", error)

    def _failed(self, error: TunesmithError, what: str) -> steps.Event:
        """Tell what passes from what does not, once the server is known to be one."""
        if isinstance(error, UnavailableError) or (self.worker_id and _is_foreign(error)):
            logger.warning("%s", error)
            asked_secs = error.retry_after_secs if isinstance(error, ServerError) else 0.0
            return steps.Unreachable(retry_after_secs=asked_secs)
        if isinstance(error, NotFoundError) and self.worker_id:
            logger.warning("%s does not know this worker any more", self.server)
            return steps.Forgotten()
        if isinstance(error, ContractError):
            reason = f"the server and this worker do not fit together: {error}"
            return steps.Refused(reason=reason)
        return steps.Refused(reason=f"{self.server} refused {what}: {error}")


def _is_foreign(error: TunesmithError) -> bool:
    """Whether something between the worker and its server gave the answer, such as a proxy."""
    if isinstance(error, ServerError):
        return error.error == FOREIGN
    return isinstance(error, ForeignAnswerError)
