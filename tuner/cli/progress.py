"""Progress on stderr: a bar on a terminal, plain lines otherwise."""

import sys
import time
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tuner.cli.output import seconds_text

LINE_EVERY_SECS = 5.0


class TrialProgress:
    """Shows how a search advances.

    Parameters
    ----------
    title : str
        What is tuned.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Progress | None = None
        self._shown: tuple[object, ...] = ()
        self._line_at = 0.0

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                TimeElapsedColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(self._title, total=None, note="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(
        self,
        *,
        phase: str,
        done: int,
        total: int | None,
        best_secs: float | None = None,
        failures: int = 0,
    ) -> None:
        """Show the present state.

        Parameters
        ----------
        phase : str
            What is going on, or what is waited for.
        done, total : int, int or None
            Trials.
        best_secs : float or None
            Latency of the incumbent.
        failures : int
            How many trials failed.
        """
        best = f", best {seconds_text(best_secs)}" if best_secs is not None else ""
        failed = f", {failures} failed" if failures else ""
        note = f"{phase}{best}{failed}"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, note=note)
            return
        now = time.monotonic()
        # A line for each change of phase, and now and then one for the counts.
        if self._shown == (phase, done) or (
            self._shown[:1] == (phase,) and now < self._line_at and done != total
        ):
            return
        self._shown, self._line_at = (phase, done), now + LINE_EVERY_SECS
        of = f"/{total}" if total is not None else ""
        click.echo(f"{self._title}: {done}{of} trials, {note}", err=True)
