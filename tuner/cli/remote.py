"""Commands that ask a server for work: submit, job, cancel, best."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from tuner.cli.options import (
    budget,
    budget_options,
    json_option,
    open_client,
    parse_workload,
    server_options,
    workload_options,
)
from tuner.cli.output import print_best, print_job, print_json
from tuner.cli.progress import TrialProgress
from tuner.cli.watch import JobWatch
from tuner.client import wire
from tuner.client.errors import JobFailedError
from tuner.client.job import ENDED, Job, outcome


@click.command()
@workload_options
@budget_options
@click.option("--priority", type=click.IntRange(-100, 100), default=0, help="Larger goes first.")
@click.option("--idempotency-key", help="Requests with one key are one job.")
@click.option("--wait", is_flag=True, help="Wait until the job has ended.")
@server_options
@json_option
def submit(
    op: str | None,
    arguments: tuple[str, ...],
    dtype: str | None,
    constants: tuple[str, ...],
    ir_file: Path | None,
    target: wire.TargetRequest,
    trials: int | None,
    seconds: float | None,
    least_gain: float | None,
    space: str,
    seed: int | None,
    priority: int,
    idempotency_key: str | None,
    wait: bool,
    server: str,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Ask a server to tune an operator or a program.

    For instance: tunesmith submit batch_matmul b=1 n=512 m=512 k=512 --trials 64 --wait
    """
    workload = parse_workload(op, arguments, dtype, constants, ir_file)
    with open_client(server, token_file) as client:
        job = client.submit(
            workload,
            target=target,
            trials=budget(trials, seconds),
            seconds=seconds,
            least_gain=least_gain,
            space=space,
            priority=priority,
            seed=seed,
            idempotency_key=idempotency_key,
        )
        _show(job, wait=wait, timeout_secs=None, as_json=as_json)


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--wait", is_flag=True, help="Wait until the job has ended.")
@click.option(
    "--timeout",
    "timeout_secs",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Wait no longer than this; the job goes on.",
)
@click.option("--watch", is_flag=True, help="Wait, and show the best so far as it falls.")
@server_options
@json_option
def job(
    job_id: str,
    wait: bool,
    watch: bool,
    timeout_secs: float | None,
    server: str,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Show a job; fails when the job has failed or was cancelled."""
    with open_client(server, token_file) as client:
        shown = client.job(job_id)
        if watch:
            with JobWatch(client, shown) as progress, suppress(JobFailedError):
                shown.wait(timeout_secs, progress.update)
        _show(shown, wait=wait, timeout_secs=timeout_secs, as_json=as_json)


@click.command()
@click.argument("job_id", metavar="ID")
@server_options
@json_option
def cancel(job_id: str, server: str, token_file: Path | None, as_json: bool) -> None:
    """Cancel a job; one that has ended stays as it is."""
    with open_client(server, token_file) as client:
        view = client.cancel(job_id).view
    if as_json:
        print_json(view.model_dump(mode="json"))
    else:
        print_job(view)


@click.command()
@workload_options
@click.option("--workload-id", help="In place of OP.")
@click.option("--target-id", help="In place of --target.")
@click.option(
    "--deadline",
    "deadline_secs",
    type=click.FloatRange(min=0, max=3600, min_open=True),
    metavar="SECONDS",
    help="How long the server may look for a better one.",
)
@server_options
@json_option
def best(
    op: str | None,
    arguments: tuple[str, ...],
    dtype: str | None,
    constants: tuple[str, ...],
    ir_file: Path | None,
    target: wire.TargetRequest,
    workload_id: str | None,
    target_id: str | None,
    deadline_secs: float | None,
    server: str,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Show the best schedule that is known; fails when none is."""
    if workload_id is not None:
        if op is not None or ir_file is not None or constants:
            raise click.UsageError("give --workload-id, OP or --ir, only one of them")
        if target_id is None:
            raise click.UsageError("--workload-id needs --target-id")
        with open_client(server, token_file) as client:
            found = client.best_by_id(workload_id, target_id)
    else:
        workload = parse_workload(op, arguments, dtype, constants, ir_file)
        with open_client(server, token_file) as client:
            found = client.best(workload, target_id or target, deadline_secs=deadline_secs)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_best(found)


COMMANDS = (submit, job, cancel, best)


def _show(job: Job, *, wait: bool, timeout_secs: float | None, as_json: bool) -> None:
    try:
        if wait:
            wait_with_progress(job, timeout_secs)
    except JobFailedError:
        # Printed first, and then told as the failure it is.
        pass
    if as_json:
        print_json(job.view.model_dump(mode="json"))
    else:
        print_job(job.view)
    if job.state in ENDED:
        outcome(job.view)


def wait_with_progress(
    job: Job,
    timeout_secs: float | None = None,
    *,
    title: str | None = None,
    check: Callable[[], None] = lambda: None,
) -> wire.BestView:
    """Wait for a job, showing how it advances.

    Parameters
    ----------
    job, timeout_secs
        See `Job.wait`, which also tells what is raised.
    title : str or None
        What to call the job.
    check : callable
        Called now and then; may raise to end the waiting.
    """
    with TrialProgress(title or f"job {job.id[:12]}") as progress:

        def show(view: wire.JobView) -> None:
            check()
            progress.update(
                phase=view.waiting_for or view.state,
                done=view.trials_done,
                total=view.trials_budget,
                best_secs=view.best.latency_secs if view.best else None,
                failures=sum(view.failures.values()),
            )

        return job.wait(timeout_secs, show)
