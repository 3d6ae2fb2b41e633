"""Ten million records that look like those of a fleet at work, made by PostgreSQL itself.

The indices are dropped and made again, and nothing is synced meanwhile: loading is not what is
measured. Everything follows from the number of a record, so that two fills are alike, and it goes
in steps, so that a fill which was cut off goes on.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import create_engine

from schedules.identity import canonical_json, sha256_id
from schedules.operators import operators
from schedules.records import DEFAULT_TRACE, FailureKind, trace_id
from schedules.target import Target
from service.db.engine import parse_url
from service.db.recount import recount

RECORDS_PER_JOB = 64
DAYS = 90
PARTS = 10
AT_ONCE = 2
FAILED_PERCENT = 12
CENSORED_PERCENT = 38

TARGETS = tuple(
    Target.parse({"kind": "llvm", "mcpu": mcpu, "num-cores": cores})
    for mcpu, cores in (
        *(("skylake-avx512", 2), ("znver4", 8), ("sapphirerapids", 16)),
        ("neoverse-v2", 4),
    )
)
_KINDS = tuple(FailureKind)
_LOADING = {
    "fsync": "off",
    "autovacuum": "off",
    "maintenance_work_mem": "'1GB'",
    "max_wal_size": "'4GB'",
}


Step = Callable[["psycopg.Connection[Any]"], Any]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much there is.

    Attributes
    ----------
    records : int
        Tuning records; a job has 64.
    workloads : int
        Workloads; every twentieth came as IR, the others are of all operators in turn.
    workers : int
        Workers, a quarter of them for each target.
    """

    records: int
    workloads: int = 600
    workers: int = 64

    @property
    def jobs(self) -> int:
        """How many jobs made the records."""
        return self.records // RECORDS_PER_JOB


def workload_id(number: int) -> str:
    """Return the id of a workload."""
    return sha256_id(["bench-log", number])


def operator_of(number: int) -> str | None:
    """Return the operator of a workload."""
    names = [operator.name for operator in operators()]
    return None if number % 20 == 19 else names[number % len(names)]


def job_id(number: int) -> str:
    """Return the id of a job."""
    return f"{number:032x}"


def worker_id(number: int) -> str:
    """Return the id of a worker."""
    return f"{number:016x}{'f' * 16}"


def fill(server: Any, url: str, size: Size, say: Callable[[str], None]) -> None:
    """Fill an upgraded database; one that was left unfinished is gone on with.

    Parameters
    ----------
    server : PostgresServer
        Restarted twice, with settings for loading and without them.
    say : callable
        Told of each step.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        # In a schema of its own, where the server does not look.
        connection.execute("CREATE SCHEMA IF NOT EXISTS bench")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS bench.steps (name text PRIMARY KEY, at timestamptz)"
        )
        connection.execute("INSERT INTO bench.steps VALUES ('begun', now()) ON CONFLICT DO NOTHING")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS bench.indices AS SELECT indexname, indexdef FROM pg_indexes"
            " WHERE tablename = 'records' AND indexname NOT LIKE 'pk%'"
        )
        done = {name for (name,) in connection.execute("SELECT name FROM bench.steps")}
        if "finished" in done:
            return
        for name, value in _LOADING.items():
            connection.execute(f"ALTER SYSTEM SET {name} = {value}")
    _restart(server)

    def take(name: str, step: Step) -> None:
        if name in done:
            return
        started = time.monotonic()
        with psycopg.connect(url) as connection:
            # No keys of other tables are looked up for each row.
            connection.execute("SET session_replication_role = replica")
            step(connection)
            connection.execute("INSERT INTO bench.steps VALUES (%s, now())", (name,))
        say(f"{name}: {time.monotonic() - started:.0f} s")

    for group in _steps(url, size):
        with ThreadPoolExecutor(max_workers=AT_ONCE) as threads:
            list(threads.map(take, group.keys(), group.values()))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("ALTER SYSTEM RESET ALL")
        connection.execute("INSERT INTO bench.steps VALUES ('finished', now())")
        connection.execute("CHECKPOINT")
    _restart(server)
    say("vacuumed")


def _steps(url: str, size: Size) -> list[dict[str, Step]]:
    """Return groups of what is done, each step in one transaction."""

    def count(_: object) -> None:
        engine = create_engine(parse_url(url))
        with engine.begin() as connection:
            recount(connection)
        engine.dispose()

    with psycopg.connect(url) as connection:
        indices = connection.execute("SELECT indexname, indexdef FROM bench.indices").fetchall()
    return [
        {"catalogue": partial(_catalogue, size=size)},
        {"jobs": partial(_jobs, size=size), "bests": _bests},
        {
            f"without {name}": partial(_execute, statement=f"DROP INDEX {name}")
            for name, _ in indices
        },
        {
            f"records, part {part + 1} of {PARTS}": partial(_records, size=size, part=part)
            for part in range(PARTS)
        },
        {f"with {name}": partial(_execute, statement=made) for name, made in indices},
        {"counters": count},
    ]


def _execute(connection: "psycopg.Connection[Any]", *, statement: str) -> None:
    connection.execute(statement)


def _restart(server: Any) -> None:
    server.stop()
    server.start()


def _catalogue(connection: "psycopg.Connection[Any]", *, size: Size) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO targets VALUES (%s, %s, now())",
            [(target.target_id, canonical_json(target.as_dict())) for target in TARGETS],
        )
        cursor.executemany(
            "INSERT INTO workloads (workload_id, name, ir, tensors, flops, call, created_at)"
            " VALUES (%s, %s, %s, '[]', 1e9, %s, now())",
            [
                (
                    workload_id(number),
                    operator_of(number) or f"program {number}",
                    "{}",
                    canonical_json({"op": name, "args": {"n": 16 + number}, "dtype": "float32"})
                    if (name := operator_of(number))
                    else None,
                )
                for number in range(size.workloads)
            ],
        )
        cursor.executemany(
            "INSERT INTO workers (worker_id, name, target_id, environment, draining, last_seen_at,"
            " registered_at) VALUES (%s, %s, %s, %s, false, now(), now())",
            [
                (
                    worker_id(number),
                    f"worker-{number}",
                    TARGETS[number % len(TARGETS)].target_id,
                    '{"device": "AMD EPYC 9B14", "cores": 2}',
                )
                for number in range(size.workers)
            ],
        )


# One row for each workload, as arrays that a number leads into.
_WORKLOADS = """
    WITH numbered AS (
        SELECT array_agg(workload_id ORDER BY workload_id) AS ids,
               array_agg(call ->> 'op' ORDER BY workload_id) AS operators
        FROM workloads
    ), aims AS (
        SELECT array_agg(target_id ORDER BY target_id) AS ids FROM targets
    ), fleet AS (
        SELECT array_agg(worker_id ORDER BY target_id, worker_id) AS ids FROM workers
    ), begun AS (
        SELECT at FROM bench.steps WHERE name = 'begun'
    )
"""


def _jobs(connection: "psycopg.Connection[Any]", *, size: Size) -> None:
    connection.execute(
        f"""
        INSERT INTO jobs (job_id, workload_id, target_id, operator, trials, priority, submitter,
            space, flight_key, state, phase, trials_done, measuring, created_at, started_at,
            finished_at, epoch)
        {_WORKLOADS}
        SELECT lpad(to_hex(job), 32, '0'), numbered.ids[1 + job % {size.workloads}],
            aims.ids[1 + job % {len(TARGETS)}], numbered.operators[1 + job % {size.workloads}],
            {RECORDS_PER_JOB - 4}, 0, '', 'default', md5(job::text),
            CASE WHEN job >= {size.jobs} - 20 THEN 'running' WHEN job % 50 = 0 THEN 'failed'
                ELSE 'done' END,
            'search', {RECORDS_PER_JOB - 4}, false, made, made, made + interval '1 hour', 0
        FROM begun, numbered, aims, generate_series(0, {size.jobs - 1}) AS job,
            LATERAL (SELECT begun.at - interval '{DAYS} days'
                * (1 - job::float8 / {size.jobs})) AS at(made)
        """
    )


def _records(connection: "psycopg.Connection[Any]", *, size: Size, part: int) -> None:
    first, last = part * size.records // PARTS, (part + 1) * size.records // PARTS - 1
    kinds = "ARRAY[" + ",".join(f"'{kind.value}'" for kind in _KINDS) + "]"
    step_secs = DAYS * 86400 / size.records
    per_target = size.workers // len(TARGETS)
    connection.execute(
        f"""
        INSERT INTO records (record_id, workload_id, target_id, operator, job_id, worker_id,
            purpose, trace, trace_id, origin, predicted_score, model_version, run_secs,
            latency_secs, censored_secs, build_secs, failure, failure_detail, verification,
            environment, protocol_version, created_at)
        {_WORKLOADS}
        SELECT lpad(to_hex(number), 16, '0') || substr(hash, 1, 16),
            numbered.ids[1 + job % {size.workloads}], aims.ids[1 + job % {len(TARGETS)}],
            numbered.operators[1 + job % {size.workloads}], lpad(to_hex(job), 32, '0'),
            fleet.ids[1 + (job % {len(TARGETS)}) * {per_target}
                + (job / {len(TARGETS)} + chance % 2) % {per_target}],
            CASE WHEN number % {RECORDS_PER_JOB} >= {RECORDS_PER_JOB - 4} THEN 'final'
                ELSE 'trial' END,
            '[[["SamplePerfectTile",["b0","l1"],[4,64],["v1"]],["Split",["l1","v1"],[1],["l2"]]],'
                || '[[0,[' || chance || ',4]]]]',
            hash || hash, 'search', chance / 1e6, 'm' || job * 8 / {size.jobs},
            CASE WHEN failed THEN '[]'::json ELSE json_build_array(secs, secs, secs) END,
            CASE WHEN failed OR censored THEN NULL ELSE secs END,
            CASE WHEN censored THEN secs END, 0.125,
            CASE WHEN failed THEN ({kinds})[1 + (chance / 100)
                % CASE WHEN number % 16 = 0 THEN {len(_KINDS)} ELSE 3 END] END,
            CASE WHEN failed THEN 'the end of the compiler''s output' END, NULL,
            '{{"device": "AMD EPYC 9B14", "cores": 2, "tvm": "0.27.0.post1"}}',
            2, begun.at - interval '{DAYS} days' + number * interval '{step_secs} seconds'
        FROM begun, numbered, aims, fleet, generate_series({first}, {last}) AS number,
            LATERAL (SELECT number / {RECORDS_PER_JOB}, md5(number::text)) AS of(job, hash),
            LATERAL (SELECT (abs(hashint8(number)) % 1000000)) AS of2(chance),
            LATERAL (SELECT chance % 100 < {FAILED_PERCENT},
                chance % 100 BETWEEN {FAILED_PERCENT} AND {FAILED_PERCENT + CENSORED_PERCENT - 1},
                1e-6 * pow(10.0, 4.0 * (job % {size.workloads}) / {size.workloads})
                    * (1 + chance / 5e5)) AS of3(failed, censored, secs)
        """
    )


def _bests(connection: "psycopg.Connection[Any]") -> None:
    connection.execute(
        """
        INSERT INTO bests (workload_id, target_id, tier, latency_secs, latency_low_secs,
            latency_high_secs, default_latency_secs, trace, trace_id, verified, record_id,
            environment, created_at, first_at)
        SELECT workload_id, target_id, 'exact', 1e-3, 0.9e-3, 1.1e-3, 4e-3, %s, %s, true,
            'record', '{}', now(), now()
        FROM workloads, targets
        """,
        (DEFAULT_TRACE, trace_id(DEFAULT_TRACE)),
    )
