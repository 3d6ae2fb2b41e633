"""Commands about a server's workers: workers, drain, clear."""

from pathlib import Path

import click

from schedules.errors import NotFoundError
from tuner.cli.options import json_option, open_client, server_options
from tuner.cli.output import print_json, print_table
from tuner.client import wire
from tuner.client.sdk import Client


@click.command()
@server_options
@json_option
def workers(server: str, token_file: Path | None, as_json: bool) -> None:
    """List the workers of a server, newest first."""
    with open_client(server, token_file) as client:
        views = list(client.workers())
    if as_json:
        print_json({"items": [view.model_dump(mode="json") for view in views]})
        return
    print_table(
        ["worker", "state", "target", "last seen", "note"],
        [
            [
                view.name,
                view.state,
                view.target_id[:12],
                f"{view.last_seen_at:%Y-%m-%d %H:%M:%S}",
                view.quarantined or "",
            ]
            for view in views
        ],
    )


@click.command()
@click.argument("name")
@server_options
@json_option
def drain(name: str, server: str, token_file: Path | None, as_json: bool) -> None:
    """Let the worker NAME finish its batch and leave, for instance before an upgrade."""
    with open_client(server, token_file) as client:
        view = client.drain_worker(_find(client, name).worker_id)
    _print(view, f"{view.name} leaves after its batch", as_json=as_json)


@click.command()
@click.argument("name")
@server_options
@json_option
def clear(name: str, server: str, token_file: Path | None, as_json: bool) -> None:
    """Trust the quarantined worker NAME again, with all that it measured."""
    with open_client(server, token_file) as client:
        view = client.clear_worker(_find(client, name).worker_id)
    _print(view, f"{view.name} measures again, and its records count again", as_json=as_json)


COMMANDS = (workers, drain, clear)


def _find(client: Client, name: str) -> wire.WorkerView:
    for view in client.workers():
        if name in (view.name, view.worker_id):
            return view
    raise NotFoundError(f"there is no worker {name!r}; `tunesmith workers` lists them")


def _print(view: wire.WorkerView, line: str, *, as_json: bool) -> None:
    if as_json:
        print_json(view.model_dump(mode="json"))
    else:
        click.echo(line)
