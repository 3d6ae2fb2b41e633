"""Following a job in the terminal: the best so far as it falls."""

import sys
from types import TracebackType
from typing import Self

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from schedules.records import Purpose
from tuner.cli.curve import plot
from tuner.cli.output import failures_text, seconds_text
from tuner.client import wire
from tuner.client.job import Job
from tuner.client.sdk import Client

_HEIGHT = 10


class JobWatch:
    """Shows a job: a drawing that changes on a terminal, a line for each improvement otherwise.

    Parameters
    ----------
    client : Client
        Asked for the job's records.
    job : Job
        What is followed.
    """

    def __init__(self, client: Client, job: Job) -> None:
        self._client = client
        self._job = job
        self._records: dict[str, wire.RecordView] = {}
        self._live: Live | None = None
        self._told: tuple[object, ...] = ()
        self._trials_done = -1

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            # The curve stays when it is over.
            self._live = Live(console=Console(stderr=True), auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, view: wire.JobView) -> None:
        """Show the present state; for `Job.wait`."""
        if view.trials_done != self._trials_done or view.state != "running":
            self._read()
            self._trials_done = view.trials_done
        trials = [
            record
            for record in sorted(self._records.values(), key=lambda record: record.created_at)
            if record.purpose is Purpose.TRIAL
        ]
        latencies = [record.latency_secs for record in trials]
        best_secs = min((secs for secs in latencies if secs is not None), default=None)
        status = self._status(view, best_secs)
        if self._live is not None:
            console = self._live.console
            lines = plot(latencies, width=console.width, height=min(_HEIGHT, console.height - 4))
            self._live.update(Group(*map(Text, [*lines, status])), refresh=True)
        elif self._told != (view.state, best_secs):
            self._told = (view.state, best_secs)
            click.echo(status, err=True)

    def _status(self, view: wire.JobView, best_secs: float | None) -> str:
        of = f"/{view.trials_budget}" if view.trials_budget is not None else ""
        parts = [
            f"job {view.id[:12]}: {view.waiting_for or view.state}",
            f"{view.trials_done}{of} trials",
            f"best trial {seconds_text(best_secs)}",
        ]
        if view.best is not None:
            parts.append(f"published {seconds_text(view.best.latency_secs)}")
        if view.failures:
            parts.append(failures_text(view.failures))
        return ", ".join(parts)

    def _read(self) -> None:
        """Read the records that are new: those from the newest one on."""
        newest = max((record.created_at for record in self._records.values()), default=None)
        for record in self._client.records(job_id=self._job.id, since=newest):
            self._records[record.record_id] = record
