"""What commands print: results on stdout, everything else on stderr."""

import json
from collections.abc import Mapping, Sequence

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from schedules.records import FailureKind
from tuner.client import wire


def print_json(value: object) -> None:
    """Print the one JSON object of a command."""
    click.echo(json.dumps(value, allow_nan=False))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None
) -> None:
    """Print a table, never cut off in a pipe."""
    table = Table(*columns, title=title, box=SIMPLE_HEAD, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 240
    console.print(table)


def seconds_text(secs: float | None) -> str:
    """Write a duration with three digits and a fitting unit."""
    if secs is None:
        return "-"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if secs >= scale:
            return f"{secs / scale:.3g} {unit}"
    return f"{secs / 1e-9:.3g} ns"


def ratio_text(ratio: float | None) -> str:
    """Write a speed-up."""
    return "-" if ratio is None else f"{ratio:.2f}x"


def gain_text(gain: float | None) -> str:
    """Write what more tuning is expected to take off a latency."""
    return "unknown" if gain is None else f"{gain:.1%} by more tuning, as expected"


def failures_text(failures: Mapping[FailureKind, int]) -> str:
    """Write failures by kind."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(failures.items())) or "none"


def print_best(best: wire.BestView) -> None:
    """Print a best for people."""
    low, high = best.latency_interval_secs
    lines = [
        ("tier", str(best.tier)),
        (
            "latency",
            f"{seconds_text(best.latency_secs)} "
            f"(95 %: {seconds_text(low)} to {seconds_text(high)})",
        ),
        ("default", seconds_text(best.default_latency_secs)),
        ("speed-up", ratio_text(best.speedup)),
        ("to gain", gain_text(best.expected_gain)),
        ("verified", "yes" if best.verified else "no"),
        ("workload", best.workload_id),
        ("target", best.target_id),
        ("record", best.record_id or "none: this was predicted"),
        ("measured", f"{best.created_at:%Y-%m-%d %H:%M:%S %Z}".rstrip()),
    ]
    _print_lines(lines)


def print_job(job: wire.JobView) -> None:
    """Print a job for people."""
    lines = [
        ("job", f"{job.id}{' (joined: an equal one was active)' if job.attached else ''}"),
        ("state", job.state),
        ("trials", _spent_text(job)),
        ("failures", failures_text(job.failures)),
        ("workload", job.workload_id),
        ("target", job.target_id),
    ]
    if job.waiting_for:
        lines.append(("waiting", job.waiting_for))
    if job.error:
        lines.append(("error", job.error))
    if job.best:
        lines.append(
            ("best", f"{seconds_text(job.best.latency_secs)} ({ratio_text(job.best.speedup)})")
        )
    _print_lines(lines)


def print_shared_budget(shared: wire.SharedBudgetView) -> None:
    """Print a budget and the jobs that share it for people."""
    _print_lines([("budget", shared.id), ("state", shared.state), ("trials", _spent_text(shared))])
    print_table(
        ["job", "state", "weight", "trials", "best", "speed-up", "workload", "note"],
        [
            [
                job.id,
                job.state,
                f"{job.weight:g}",
                str(job.trials_done),
                seconds_text(job.best.latency_secs if job.best else None),
                ratio_text(job.best.speedup if job.best else None),
                job.workload_id[:12],
                job.error or job.waiting_for or "",
            ]
            for job in shared.jobs
        ],
    )


def _spent_text(work: wire.JobView | wire.SharedBudgetView) -> str:
    budget = work.trials_budget if work.trials_budget is not None else f"{work.seconds_budget:g} s"
    return f"{work.trials_done} of {budget}"


def _print_lines(lines: Sequence[tuple[str, str]]) -> None:
    for name, value in lines:
        click.echo(f"{name:<9} {value}")
