"""Commands that list what a server knows: jobs, records."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tuner.cli.options import json_option, open_client, server_options
from tuner.cli.output import print_json, print_table, ratio_text, seconds_text
from tuner.client import wire

Command = TypeVar("Command", bound=Callable[..., Any])


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


def record_filters(command: Command) -> Command:
    """Add an option for each field by which records can be filtered."""
    for name, field in reversed(wire.RecordQuery.model_fields.items()):
        command = click.option(f"--{name.replace('_', '-')}", name, help=field.description)(command)
    return command


@click.command()
@record_filters
@click.option(
    "--group-by",
    type=click.Choice(["operator", "target", "worker", "failure", "day"]),
    help="Count them, with quantiles of their latencies, in place of a list.",
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@server_options
@json_option
def records(
    group_by: str | None,
    limit: int,
    server: str,
    token_file: Path | None,
    as_json: bool,
    **filters: str | None,
) -> None:
    """List tuning records, newest first, or count them."""
    wanted = {name: value for name, value in filters.items() if value is not None}
    with open_client(server, token_file) as client:
        if group_by is not None:
            _print_summary(client.summary(group_by, limit=limit, **wanted), as_json=as_json)
            return
        views = list(client.records(limit=limit, **wanted))
    if as_json:
        print_json({"items": [view.model_dump(mode="json") for view in views]})
        return
    print_table(
        [
            *("record", "operator", "purpose", "origin", "latency", "build", "failure"),
            *("worker", "workload", "created"),
        ],
        [
            [
                view.record_id,
                view.operator or "-",
                view.purpose,
                view.origin,
                f"over {seconds_text(view.censored_secs)}"
                if view.censored_secs is not None
                else seconds_text(view.latency_secs),
                seconds_text(view.build_secs),
                view.failure or "",
                (view.worker_id or "-")[-8:],
                view.workload_id[:12],
                f"{view.created_at:%Y-%m-%d %H:%M:%S}",
            ]
            for view in views
        ],
    )


COMMANDS = (jobs, records)


def _print_summary(summary: wire.SummaryView, *, as_json: bool) -> None:
    if as_json:
        print_json(summary.model_dump(mode="json"))
        return
    print_table(
        [summary.group_by, "records", "measured", "censored", "failed", "10 %", "50 %", "90 %"],
        [
            [
                group.key or "-",
                str(group.records),
                str(group.measured),
                str(group.censored),
                str(sum(group.failures.values())),
                *(
                    seconds_text(getattr(group.latency_secs, name, None))
                    for name in ("p10", "p50", "p90")
                ),
            ]
            for group in summary.groups
        ],
    )
    if summary.left_out:
        click.echo(f"{summary.left_out} more groups; --limit shows more", err=True)
    if not summary.complete:
        click.echo(
            "only the newest records were looked at; leave filters out, or give whole days",
            err=True,
        )
