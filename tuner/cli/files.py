"""Commands that exchange records with TVM's own database files: export, import."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click

from schedules.errors import NotFoundError
from schedules.identity import canonical_json
from schedules.records import DEFAULT_TRACE
from tuner.cli.options import json_option, open_client, server_options
from tuner.cli.output import print_json
from tuner.client import wire
from tuner.client.sdk import Client

_FORMATS = click.Choice(["meta-schedule"])
_DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--format", "file_format", type=_FORMATS, default="meta-schedule", show_default=True)
@click.option("--out", type=_DIRECTORY, required=True, help="Directory for the two files.")
@click.option("--all", "everything", is_flag=True, help="Every record, not only the bests.")
@click.option("--workload-id", help="Only of this workload.")
@click.option("--target-id", help="Only of this target.")
@server_options
@json_option
def export(
    file_format: str,
    out: Path,
    everything: bool,
    workload_id: str | None,
    target_id: str | None,
    server: str,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Write a server's bests as files of TVM's meta_schedule.database.JSONDatabase."""
    # Imports TVM.
    from tuner.meta_schedule_files import FileEntry, write_files

    def entries(client: Client) -> Iterator[FileEntry]:
        program = cache(lambda workload: client.workload(workload).ir)
        target = cache(lambda target: client.target(target).target)
        for workload, on, trace, run_secs in _measured(
            client, workload_id, target_id, everything=everything
        ):
            yield FileEntry(
                ir=program(workload),
                target=target(on),
                trace=canonical_json(trace),
                run_secs=tuple(run_secs),
            )

    with open_client(server, token_file) as client:
        count = write_files(out, entries(client))
    if count == 0:
        raise NotFoundError(f"{server} has nothing to export yet")
    if as_json:
        print_json({"format": file_format, "out": str(out), "records": count})
    else:
        click.echo(f"wrote {count} records to {out}")


@click.command("import")
@click.option("--format", "file_format", type=_FORMATS, default="meta-schedule", show_default=True)
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@server_options
@json_option
def import_files(
    file_format: str, directory: Path, server: str, token_file: Path | None, as_json: bool
) -> None:
    """Send the records of TVM's database files to a server; known ones change nothing."""
    # Imports TVM.
    from tuner.meta_schedule_files import read_files

    records = (
        wire.ImportedRecord.model_validate(
            {
                "workload": {"ir": entry.ir},
                "target": dict(entry.target),
                "trace": json.loads(entry.trace),
                "run_secs": list(entry.run_secs),
            }
        )
        for entry in read_files(directory)
    )
    with open_client(server, token_file) as client:
        answer = client.import_records(records)
    if as_json:
        print_json({"format": file_format, **answer.model_dump(mode="json")})
    else:
        click.echo(
            f"{answer.stored} records stored, {answer.known} known before, "
            f"{answer.published} new bests"
        )


COMMANDS = (export, import_files)


def _measured(
    client: Client, workload_id: str | None, target_id: str | None, *, everything: bool
) -> Iterator[tuple[str, str, object, list[float]]]:
    """Yield workload id, target id, trace and run times."""
    if everything:
        for record in client.records(workload_id=workload_id, target_id=target_id):
            if record.latency_secs is not None and not record.set_aside:
                yield record.workload_id, record.target_id, record.trace, record.run_secs
        return
    for best in client.bests(workload_id=workload_id, target_id=target_id):
        # Where the compiler's default is best, there is no schedule to hand on.
        if canonical_json(best.trace) != DEFAULT_TRACE:
            yield best.workload_id, best.target_id, best.trace, [best.latency_secs]
