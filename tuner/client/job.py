"""A job, seen from the client."""

import time
from collections.abc import Callable
from typing import Self

from schedules.errors import UnavailableError
from tuner.client import wire
from tuner.client.errors import JobFailedError, JobTimeoutError
from tuner.client.http import Connection, parse

ENDED = frozenset({"done", "failed", "cancelled"})

_POLL_SECS = 0.5
# A server that restarts while a job is waited for is back within this time.
_PATIENCE_SECS = 60.0


class Job:
    """A job on the server.

    Attributes
    ----------
    view : JobView
        The job as it was when last asked for.
    """

    def __init__(self, connection: Connection, view: wire.JobView) -> None:
        self._connection = connection
        self.view = view

    def __repr__(self) -> str:
        return f"Job({self.id!r}, {self.state!r})"

    @property
    def id(self) -> str:
        """Its id."""
        return self.view.id

    @property
    def state(self) -> str:
        """``queued``, ``running``, ``done``, ``failed`` or ``cancelled``."""
        return self.view.state

    def refresh(self) -> Self:
        """Ask the server for the job's present state."""
        self.view = self._connection.get(f"/v1/jobs/{self.id}", wire.JobView)
        return self

    def cancel(self) -> Self:
        """Cancel it."""
        answer = self._connection.send("POST", f"/v1/jobs/{self.id}/cancel")
        self.view = parse(answer, wire.JobView)
        return self

    def wait(
        self,
        timeout_secs: float | None = None,
        on_progress: Callable[[wire.JobView], None] | None = None,
    ) -> wire.BestView:
        """Wait until the job has ended.

        Parameters
        ----------
        timeout_secs : float or None
            How long at most; the job itself goes on.
        on_progress : callable (JobView) -> None, or None
            Called after every look at the job, about twice a second.

        Returns
        -------
        BestView
            What it found.

        Raises
        ------
        JobFailedError
            It failed or was cancelled.
        JobTimeoutError
            It has not ended in time.
        """
        started = heard = time.monotonic()
        while True:
            if on_progress is not None:
                on_progress(self.view)
            if self.view.state in ENDED:
                return self._outcome()
            left_secs = None if timeout_secs is None else started + timeout_secs - time.monotonic()
            if left_secs is not None and left_secs <= 0:
                raise JobTimeoutError(
                    f"job {self.id} is {self.state} after {timeout_secs:g} s "
                    f"({self.view.trials_done} trials); it goes on on the server"
                )
            time.sleep(_POLL_SECS if left_secs is None else min(_POLL_SECS, left_secs))
            try:
                self.refresh()
                heard = time.monotonic()
            except UnavailableError:
                if time.monotonic() - heard > _PATIENCE_SECS:
                    raise

    def _outcome(self) -> wire.BestView:
        if self.view.state != "done" or self.view.best is None:
            raise JobFailedError(self.view)
        return self.view.best
