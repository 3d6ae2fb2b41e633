"""Look-ups of best results in MLflow and Optuna, on a PostgreSQL of their own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from tests.benchmarks.report import ROOT
from tests.benchmarks.service import site
from tests.benchmarks.service.client import Connection
from tests.benchmarks.service.lookups import Load
from tests.processes import free_port

PINNED = ("mlflow==3.17.2", "optuna==5.0.0", "psycopg[binary]==3.3.9")
"""Also the `bench` extra of pyproject.toml; kept out of the project's locks, as they are heavy."""

MAY_FAIL = 0.01
"""Of MLflow's look-ups: under this load a few of a thousand are a 500. Only answers count."""

START_SECS = 300.0
FILL_AT_ONCE = 8


def environment() -> Path:
    """Make the rivals' virtual environment, if it is not there, and return its commands' folder."""
    folder = ROOT / "build" / "bench-venv"
    done = folder / "installed.json"
    if not done.exists() or json.loads(done.read_text()) != list(PINNED):
        print("installing MLflow and Optuna into build/bench-venv (minutes)", file=sys.stderr)
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *PINNED], check=True)
        done.write_text(json.dumps(PINNED))
    return folder / "bin"


def mlflow_per_sec(*, groups: int, records_each: int, secs: float, connections: int) -> float:
    """Return how often a second a tracking server finds the best run of an experiment."""
    with site.postgres() as (url, _), _mlflow_server(_database(url, "mlflow")) as port:
        ids = asyncio.run(_fill_mlflow(port, groups, records_each))
        load = Load(
            port=port,
            paths=("/api/2.0/mlflow/runs/search",),
            bodies=tuple(
                {
                    "experiment_ids": [experiment_id],
                    "order_by": ["metrics.latency_secs ASC"],
                    "max_results": 1,
                }
                for experiment_id in ids
            ),
            per_sec=0,
            secs=secs,
            connections=connections,
            answer_secs=120.0,
        )
        with site.client("lookups", load) as process:
            return answered_per_sec(site.report_of(process), may_fail=MAY_FAIL)


def optuna_per_sec(*, groups: int, records_each: int, secs: float, threads: int) -> float:
    """Return how often a second a process finds the best trials of studies that it holds.

    The better of one thread and of several.
    """
    with site.postgres() as (url, _):
        script = Path(__file__).with_name("optuna_study.py")
        command = [str(environment() / "python"), str(script), _database(url, "optuna")]
        command += [str(number) for number in (groups, records_each, secs, threads)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(answer.stdout)
    return max(found.values())


def answered_per_sec(report: dict[str, Any], *, may_fail: float = 0.0) -> float:
    """Return the rate of answered look-ups; no larger share of them may have failed."""
    statuses = report["statuses"]["lookup"]
    answered: int = statuses.get("200", 0)
    failed = sum(statuses.values()) - answered
    if not answered or failed > may_fail * answered:
        raise RuntimeError(f"look-ups failed: {statuses}")
    return answered / float(report["wall_secs"])


def _database(server_url: str, name: str) -> str:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server_url.replace("/postgres?", f"/{name}?")


@contextmanager
def _mlflow_server(url: str) -> Iterator[int]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-mlflow-") as folder:
        log = (Path(folder) / "log").open("w")
        process = subprocess.Popen(
            [
                *(str(environment() / "mlflow"), "server", "--host", "127.0.0.1"),
                *("--port", str(port), "--backend-store-uri", url),
                *("--default-artifact-root", folder),
            ],
            env={
                name: value
                for name, value in os.environ.items()
                if name not in ("PYTHONPATH", "VIRTUAL_ENV")
            }
            | {"PATH": f"{environment()}:{os.environ['PATH']}"},
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )
        try:
            asyncio.run(_wait_for(port, process, Path(folder) / "log"))
            yield port
        finally:
            # Its workers end with their group.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            log.close()


async def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    connection = Connection("127.0.0.1", port)
    deadline = time.monotonic() + START_SECS
    while (await connection.get("/health")).status != 200:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"MLflow did not start: {log.read_text()}")
        await asyncio.sleep(0.5)
    connection.close()


async def _fill_mlflow(port: int, experiments: int, runs: int) -> list[str]:
    """Log runs over REST, as clients do; returns the experiments' ids."""
    connections = [Connection("127.0.0.1", port) for _ in range(FILL_AT_ONCE)]
    ids = [
        (await _call(connections[0], "experiments/create", {"name": f"workload {number}"}))[
            "experiment_id"
        ]
        for number in range(experiments)
    ]
    todo = [(experiment_id, number) for experiment_id in ids for number in range(runs)]

    async def fill(connection: Connection) -> None:
        while todo:
            experiment_id, number = todo.pop()
            run = await _call(connection, "runs/create", {"experiment_id": experiment_id})
            metric = {"key": "latency_secs", "value": 1e-3 * (1 + number), "timestamp": 1}
            await _call(
                connection,
                "runs/log-batch",
                {
                    "run_id": run["run"]["info"]["run_id"],
                    "metrics": [metric],
                    "params": [{"key": "trace", "value": site.TRACE}],
                },
            )

    await asyncio.gather(*(fill(connection) for connection in connections))
    for connection in connections:
        connection.close()
    return ids


async def _call(connection: Connection, name: str, body: dict[str, Any]) -> Any:
    answer = await connection.post(f"/api/2.0/mlflow/{name}", body, wait_secs=300.0)
    if answer.status != 200:
        raise RuntimeError(f"MLflow answered {answer.status} to {name}: {answer.body[:500]!r}")
    return answer.json()
