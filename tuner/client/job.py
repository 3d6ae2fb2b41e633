"""Jobs, and budgets that several of them share, seen from the client."""

import time
from collections.abc import Callable
from typing import ClassVar, Generic, Self, TypeVar

from schedules.errors import UnavailableError
from tuner.client import wire
from tuner.client.errors import JobFailedError, JobTimeoutError
from tuner.client.http import Connection, parse

ENDED = frozenset({"done", "failed", "cancelled"})

_POLL_SECS = 0.5
# A server that restarts while a job is waited for is back within this time.
_PATIENCE_SECS = 60.0

View = TypeVar("View", wire.JobView, wire.SharedBudgetView)


class _Work(Generic[View]):
    """Something on the server that takes trials and ends.

    Attributes
    ----------
    view : View
        As it was when last asked for.
    """

    _NAME: ClassVar[str]
    _PATH: ClassVar[str]
    _VIEW: type[View]

    def __init__(self, connection: Connection, view: View) -> None:
        self._connection = connection
        self.view: View = view

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r}, {self.state!r})"

    @property
    def id(self) -> str:
        """Its id."""
        return self.view.id

    @property
    def state(self) -> str:
        """``queued``, ``running``, ``done``, ``failed`` or ``cancelled``."""
        return self.view.state

    def refresh(self) -> Self:
        """Ask the server for the present state."""
        self.view = self._connection.get(f"{self._PATH}/{self.id}", self._VIEW)
        return self

    def cancel(self) -> Self:
        """Cancel it."""
        answer = self._connection.send("POST", f"{self._PATH}/{self.id}/cancel")
        self.view = parse(answer, self._VIEW)
        return self

    def _end(self, timeout_secs: float | None, on_progress: Callable[[View], None] | None) -> View:
        """Wait until it has ended."""
        started = heard = time.monotonic()
        while True:
            if on_progress is not None:
                on_progress(self.view)
            if self.view.state in ENDED:
                return self.view
            left_secs = None if timeout_secs is None else started + timeout_secs - time.monotonic()
            if left_secs is not None and left_secs <= 0:
                raise JobTimeoutError(
                    f"{self._NAME} {self.id} is {self.state} after {timeout_secs:g} s "
                    f"({self.view.trials_done} trials); it goes on on the server"
                )
            time.sleep(_POLL_SECS if left_secs is None else min(_POLL_SECS, left_secs))
            try:
                self.refresh()
                heard = time.monotonic()
            except UnavailableError:
                if time.monotonic() - heard > _PATIENCE_SECS:
                    raise


class Job(_Work[wire.JobView]):
    """A job on the server.

    Attributes
    ----------
    view : JobView
        The job as it was when last asked for.
    """

    _NAME = "job"
    _PATH = "/v1/jobs"
    _VIEW = wire.JobView

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
        return outcome(self._end(timeout_secs, on_progress))


class SharedBudget(_Work[wire.SharedBudgetView]):
    """Jobs on the server that share a budget.

    Attributes
    ----------
    view : SharedBudgetView
        The budget and its jobs as they were when last asked for.
    """

    _NAME = "budget"
    _PATH = "/v1/budgets"
    _VIEW = wire.SharedBudgetView

    @property
    def jobs(self) -> list[Job]:
        """The jobs, in the order of their workloads."""
        return [Job(self._connection, view) for view in self.view.jobs]

    def wait(
        self,
        timeout_secs: float | None = None,
        on_progress: Callable[[wire.SharedBudgetView], None] | None = None,
    ) -> list[wire.BestView]:
        """Wait until all jobs have ended; parameters and errors are those of `Job.wait`.

        Returns
        -------
        list of BestView
            What each of them found.
        """
        return [outcome(view) for view in self._end(timeout_secs, on_progress).jobs]


def outcome(view: wire.JobView) -> wire.BestView:
    """Return what a job that has ended found, or raise JobFailedError."""
    if view.state != "done" or view.best is None:
        raise JobFailedError(view)
    return view.best
