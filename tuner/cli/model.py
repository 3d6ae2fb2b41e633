"""Commands about a server's cost model: model list, train, evaluate, promote, rollback, ..."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from tuner.cli.options import json_option, open_client, server_options
from tuner.cli.output import print_json, print_table
from tuner.client import wire

_TIMEOUT = click.option(
    "--timeout",
    "timeout_secs",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Wait no longer than this; it stays ordered.",
)


@click.group(name="model")
def model() -> None:
    """List, train, judge and promote versions of the cost model."""


@model.command(name="list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@server_options
@json_option
def list_versions(limit: int, server: str, token_file: Path | None, as_json: bool) -> None:
    """List versions, newest first; the one in use is marked."""
    with open_client(server, token_file) as client:
        views = list(client.models.list(limit=limit))
    if as_json:
        print_json({"items": [view.model_dump(mode="json") for view in views]})
        return
    print_table(
        ["version", "in use", "trials", "tasks", *_SHOWN.values(), "created", "parent"],
        [
            [
                view.version,
                "yes" if view.promoted else "",
                str(view.trained_on.rows) if view.trained_on else "-",
                str(view.trained_on.groups) if view.trained_on else "-",
                *(_number(view.metrics.get(name)) for name in _SHOWN),
                f"{view.created_at:%Y-%m-%d %H:%M:%S}",
                view.parent or "",
            ]
            for view in views
        ],
    )


@model.command()
@click.option("--target-id", help="Learn from trials on this target only.")
@click.option("--operator", help="Learn from trials of this operator only.")
@click.option("--since", type=click.DateTime(), help="Learn from trials from then on, in UTC.")
@click.option("--until", type=click.DateTime(), help="Learn from trials before then, in UTC.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--promote", is_flag=True, help="Bring it into use if it is better on all gates.")
@click.option(
    "--corpus", is_flag=True, help="First let the workers measure a corpus of the catalogue."
)
@click.option(
    "--corpus-trials",
    type=click.IntRange(1, wire.MAX_TRIALS),
    default=64,
    show_default=True,
    help="Trials for each workload of the corpus.",
)
@_TIMEOUT
@server_options
@json_option
def train(
    target_id: str | None,
    operator: str | None,
    since: datetime | None,
    until: datetime | None,
    seed: int,
    promote: bool,
    corpus: bool,
    corpus_trials: int,
    timeout_secs: float | None,
    server: str,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Train a version from the trials that the server has.

    It is judged on shapes, operators and targets that it did not learn, and kept whether it is
    better or not. Restricting the trials makes a version for comparison: one that is promoted
    should have learnt from all of them.
    """
    with open_client(server, token_file) as client:
        if corpus:
            # Only this command needs the list.
            from tuner.cli.corpus import measure_corpus

            measure_corpus(client, trials=corpus_trials, target=target_id or "native")
        order = client.models.train(
            target_id=target_id,
            operator=operator,
            since=_utc(since),
            until=_utc(until),
            seed=seed,
            promote=promote,
        )
        done = client.models.wait(order, timeout_secs)
    result = done.result or {}
    reasons = result.get("failed_gates") or []
    state = "in use now" if result.get("promoted") else "not in use"
    _print(result, f"version {result.get('version')}: {state}", as_json=as_json)
    if reasons and not as_json:
        click.echo(f"not better than the version in use: {'; '.join(reasons)}")


@model.command()
@click.argument("version", required=False)
@_TIMEOUT
@server_options
@json_option
def evaluate(
    version: str | None,
    timeout_secs: float | None,
    server: str,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Judge VERSION, or the one in use, on shapes, operators and targets that it did not learn."""
    with open_client(server, token_file) as client:
        done = client.models.wait(client.models.evaluate(version), timeout_secs)
    result = done.result or {}
    _print(result, f"version {result.get('version')}", as_json=as_json)


@model.command()
@click.argument("version")
@click.option("--force", is_flag=True, help="Even where it is not better.")
@_TIMEOUT
@server_options
@json_option
def promote(
    version: str,
    force: bool,
    timeout_secs: float | None,
    server: str,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Bring VERSION into use, if it is better than the one in use on all gates."""
    with open_client(server, token_file) as client:
        done = client.models.wait(client.models.promote(version, force=force), timeout_secs)
    _print(done.result or {}, f"version {version} is in use", as_json=as_json)


@model.command()
@server_options
@json_option
def rollback(server: str, token_file: Path | None, as_json: bool) -> None:
    """Take the version in use out of it; the one before is in use again."""
    with open_client(server, token_file) as client:
        answer = client.models.roll_back()
    now = f"{answer.promoted} is in use" if answer.promoted else "none is in use"
    _print(
        answer.model_dump(mode="json"),
        f"version {answer.rolled_back} is out; {now}",
        as_json=as_json,
    )


@model.command(name="export")
@click.argument("version")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@server_options
@json_option
def export_version(
    version: str, file: Path, server: str, token_file: Path | None, as_json: bool
) -> None:
    """Write VERSION to FILE, for `tunesmith model import` at another server."""
    with open_client(server, token_file) as client:
        content = client.models.export(version)
    file.write_bytes(content)
    _print(
        {"version": version, "file": str(file), "bytes": len(content)},
        f"version {version} is in {file}",
        as_json=as_json,
    )


@model.command(name="import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_TIMEOUT
@server_options
@json_option
def import_version(
    file: Path,
    timeout_secs: float | None,
    server: str,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Take over the version in FILE; it is checked, and not promoted."""
    with open_client(server, token_file) as client:
        done = client.models.wait(client.models.import_file(file.read_bytes()), timeout_secs)
    result = done.result or {}
    _print(result, f"version {result.get('version')} is taken over", as_json=as_json)


COMMANDS = (model,)

_SHOWN = {
    "shape.pairwise_accuracy": "pairs, new shapes",
    "shape.top_8_recall": "top 8, new shapes",
    "operator.pairwise_accuracy": "pairs, new operators",
}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _print(result: dict[str, Any], line: str, *, as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    click.echo(line)
    metrics = result.get("metrics")
    if metrics:
        print_table(
            ["metric", "value"], [[name, _number(value)] for name, value in sorted(metrics.items())]
        )
