"""Commands that list what a server knows: jobs, records."""

from datetime import datetime
from pathlib import Path

import click

from schedules.records import FailureKind
from tuner.cli.options import json_option, open_client, server_options
from tuner.cli.output import print_json, print_table, ratio_text, seconds_text


@click.command()
@click.option("--state", type=click.Choice(["queued", "running", "done", "failed", "cancelled"]))
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@server_options
@json_option
def jobs(
    state: str | None, limit: int, server: str, token_file: Path | None, as_json: bool
) -> None:
    """List jobs, newest first."""
    with open_client(server, token_file) as client:
        views = list(client.jobs(state=state, limit=limit))
    if as_json:
        print_json({"items": [view.model_dump(mode="json") for view in views]})
        return
    print_table(
        ["job", "state", "trials", "best", "speed-up", "workload", "created", "note"],
        [
            [
                view.id,
                view.state,
                f"{view.trials_done}/{view.trials_budget or '-'}",
                seconds_text(view.best.latency_secs if view.best else None),
                ratio_text(view.best.speedup if view.best else None),
                view.workload_id[:12],
                f"{view.created_at:%Y-%m-%d %H:%M:%S}",
                view.error or view.waiting_for or "",
            ]
            for view in views
        ],
    )


@click.command()
@click.option("--workload-id")
@click.option("--target-id")
@click.option("--job-id")
@click.option("--worker-id")
@click.option("--failure", type=click.Choice([kind.value for kind in FailureKind]))
@click.option("--since", type=click.DateTime(), help="In UTC.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@server_options
@json_option
def records(
    workload_id: str | None,
    target_id: str | None,
    job_id: str | None,
    worker_id: str | None,
    failure: str | None,
    since: datetime | None,
    limit: int,
    server: str,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """List tuning records, newest first."""
    with open_client(server, token_file) as client:
        views = list(
            client.records(
                workload_id=workload_id,
                target_id=target_id,
                job_id=job_id,
                worker_id=worker_id,
                failure=failure,
                since=since,
                limit=limit,
            )
        )
    if as_json:
        print_json({"items": [view.model_dump(mode="json") for view in views]})
        return
    print_table(
        ["record", "purpose", "origin", "latency", "build", "failure", "workload", "created"],
        [
            [
                view.record_id,
                view.purpose,
                view.origin,
                f"over {seconds_text(view.censored_secs)}"
                if view.censored_secs is not None
                else seconds_text(view.latency_secs),
                seconds_text(view.build_secs),
                view.failure or "",
                view.workload_id[:12],
                f"{view.created_at:%Y-%m-%d %H:%M:%S}",
            ]
            for view in views
        ],
    )


COMMANDS = (jobs, records)
