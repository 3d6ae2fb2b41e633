"""The worker command."""

import os
import socket
import sys
from pathlib import Path

import click

from tuner import logs
from tuner.cli.options import read_token, server_options
from tuner.client.http import Connection
from tuner.measure.cores import parse_cores
from tuner.measure.local import LocalMeasurer
from tuner.worker.daemon import WorkerConfig, WorkerDaemon
from tuner.worker.devices import Device, parse_devices
from tuner.worker.parent import run_devices


@click.command()
@server_options
@click.option("--name", help="Unique name on the server [default: this machine's host name].")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where results wait until they are posted [default: ~/.local/state/tunesmith].",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=("cpu",),
    show_default=True,
    help="What to measure on: cpu, cores of it such as cpu:0-7, or a GPU such as cuda:0. Several "
    "are workers of their own, named NAME/DEVICE.",
)
@click.option("--builders", type=click.IntRange(min=1), help="Parallel builds [default: cores].")
@click.option(
    "--build-cores",
    metavar="LIST",
    help="Build on these cores while others are timed [default: on the timed ones, before].",
)
@click.option("--max-batches", type=click.IntRange(min=1), help="Leave after so many batches.")
@click.option("--once", is_flag=True, help="Measure one batch at most; leave if there is none.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    default="text",
    show_default=True,
    help="Log lines for people, or one JSON object a line.",
)
def worker(
    server: str,
    token_file: Path | None,
    name: str | None,
    state_dir: Path | None,
    devices: tuple[str, ...],
    builders: int | None,
    build_cores: str | None,
    max_batches: int | None,
    once: bool,
    log_level: str,
    log_format: logs.Format,
) -> None:
    """Measure on this machine what a server asks for.

    SIGTERM and Ctrl-C let it finish and report its batch; a second one makes it leave at once.
    """
    logs.configure(log_level.upper(), log_format)
    token = read_token(token_file)
    owned = parse_devices(
        devices,
        os.sched_getaffinity(0),
        os.environ.get("CUDA_VISIBLE_DEVICES"),
        None if build_cores is None else parse_cores(build_cores),
    )
    host_name = name or socket.gethostname()

    def run(device: Device) -> None:
        config = WorkerConfig(
            name=host_name if len(owned) == 1 else f"{host_name}/{device}",
            state_dir=state_dir or _default_state_dir(),
            device=device,
            max_batches=1 if once else max_batches,
            leave_when_idle=once,
        )
        device.occupy()
        with (
            Connection(server, token=token) as connection,
            LocalMeasurer(
                builders=builders, device=device.runs_on, build_cores=device.build_cores
            ) as measurer,
        ):
            WorkerDaemon(connection, measurer, config).run()

    if len(owned) == 1:
        run(owned[0])
    else:
        sys.exit(run_devices(owned, run))


COMMANDS = (worker,)


def _default_state_dir() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "tunesmith"
