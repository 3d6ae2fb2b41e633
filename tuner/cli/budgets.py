"""Commands for several workloads that share one budget: submit-all, budget."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from schedules.errors import InputError
from tuner.cli.options import budget as trial_budget
from tuner.cli.options import (
    budget_options,
    json_option,
    open_client,
    server_options,
    target_option,
)
from tuner.cli.output import print_json, print_shared_budget
from tuner.cli.progress import TrialProgress
from tuner.client import wire
from tuner.client.errors import JobFailedError
from tuner.client.job import ENDED, SharedBudget, outcome
from tuner.client.requests import checked


@click.command("submit-all")
@click.argument(
    "tasks_file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
)
@target_option
@budget_options
@click.option("--priority", type=click.IntRange(-100, 100), default=0, help="Larger goes first.")
@click.option("--idempotency-key", help="Requests with one key are one budget.")
@click.option("--wait", is_flag=True, help="Wait until all jobs have ended.")
@server_options
@json_option
def submit_all(
    tasks_file: Path,
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
    """Ask a server to tune all workloads of FILE with one budget, which goes where it saves most.

    FILE is a JSON list such as
    [{"workload": {"op": "softmax", "args": {"m": 1, "n": 64}}, "weight": 12}, ...];
    a weight says how often a workload is called.
    """
    tasks = _tasks(tasks_file)
    with open_client(server, token_file) as client:
        shared = client.share_budget(
            [task.workload for task in tasks],
            weights=[task.weight for task in tasks],
            target=target,
            trials=trial_budget(trials, seconds),
            seconds=seconds,
            least_gain=least_gain,
            space=space,
            priority=priority,
            seed=seed,
            idempotency_key=idempotency_key,
        )
        _show(shared, wait=wait, as_json=as_json)


@click.command()
@click.argument("budget_id", metavar="ID")
@click.option("--wait", is_flag=True, help="Wait until all jobs have ended.")
@click.option("--cancel", is_flag=True, help="Cancel the jobs that have not ended.")
@server_options
@json_option
def budget(
    budget_id: str, wait: bool, cancel: bool, server: str, token_file: Path | None, as_json: bool
) -> None:
    """Show a shared budget and its jobs; fails when one of them has failed or was cancelled."""
    if wait and cancel:
        raise click.UsageError("give --wait or --cancel, not both")
    with open_client(server, token_file) as client:
        shared = client.shared_budget(budget_id)
        if cancel:
            shared.cancel()
        _show(shared, wait=wait, as_json=as_json)


COMMANDS = (submit_all, budget)


def _tasks(path: Path) -> list[wire.SharedTask]:
    with click.open_file(str(path), encoding="utf-8") as file:
        text = file.read()
    try:
        tasks: Any = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InputError(f'{path} must hold a list such as [{{"workload": {{...}}, "weight": 2}}]')
    if not tasks:
        raise InputError(f"{path} names no workload")
    return [_task(place, task) for place, task in enumerate(tasks)]


def _task(place: int, task: dict[str, Any]) -> wire.SharedTask:
    try:
        return checked(wire.SharedTask, **task)
    except InputError as error:
        raise InputError(f"task {place}: {error}") from None


def _show(shared: SharedBudget, *, wait: bool, as_json: bool) -> None:
    if wait:
        _wait(shared)
    if as_json:
        print_json(shared.view.model_dump(mode="json"))
    else:
        print_shared_budget(shared.view)
    for view in shared.view.jobs:
        if view.state in ENDED:
            outcome(view)


def _wait(shared: SharedBudget) -> None:
    with TrialProgress(f"budget {shared.id[:12]}") as progress:

        def show(view: wire.SharedBudgetView) -> None:
            waiting = {job.waiting_for for job in view.jobs if job.waiting_for}
            progress.update(
                phase=next(iter(waiting)) if len(waiting) == 1 else view.state,
                done=view.trials_done,
                total=view.trials_budget,
                best_secs=None,
                failures=sum(sum(job.failures.values()) for job in view.jobs),
            )

        # Printed first, and then told as the failure it is.
        with suppress(JobFailedError):
            shared.wait(None, show)
