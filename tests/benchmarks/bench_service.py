"""`make bench-service`: the service under the load of a fleet, and its look-ups beside others'.

Run as ``python -m tests.benchmarks.bench_service``; QUICK=1 shrinks it to some three minutes.
"""

import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from tests.benchmarks.report import Checkpoint, Table, publish
from tests.benchmarks.service import rivals, site
from tests.benchmarks.service.fleet import Fleet
from tests.benchmarks.service.lookups import Load

SAMPLE_SECS = 5.0
LOOKUP_CONNECTIONS = 64
RATIO_CONNECTIONS = 16
SEARCHES = 100_000
"""The orchestrator's: its search costs nothing here, so that nothing is gained by a bound."""

TEXT = """
What is real: PostgreSQL with its own settings (every commit is synced), {api_processes} API
processes on one port (`tunesmith serve --role api --share-port`), and one with the orchestrator.
What is simulated: search, which proposes prepared candidates at once, as it is measured elsewhere;
and measuring, which is sleeping. The {workers} workers speak the daemon's protocol: register, long-
poll for a lease, heartbeat where a batch is long, report. The two load generators, one for workers
and jobs and one for look-ups, run on the same cores as everything else; their share is given.

Each job has a budget of {trials} trials, then its finals are measured, and its best is published. A
batch is measured for {measure_secs} s on average. At most {max_active_jobs} jobs may be active; a
429 is honoured as its `Retry-After` says.

Jobs and look-ups are open loops: they are due at random times, {jobs_per_sec} jobs and {lookups}
look-ups a second on average, the latter over {workloads} workloads whose bests change meanwhile,
and their times count from when they were due; they begin when all workers are registered. The
time of a lease is that from the moment at which there was both a batch and a worker that had asked
for one, to the worker's having it.

Then the same with twice the workers, jobs and look-ups a second. Last, look-ups per second in a
closed loop of {connections} connections, one product after another on an otherwise idle machine,
each with {groups} workloads (experiments, studies) of {records_each} records on PostgreSQL:
Tunesmith's `GET /v1/best`; MLflow's tracking server with its own number of processes, `runs/search`
ordered by the metric with `max_results` 1 (of its answers a few in a thousand are a 500, which are
not counted); and Optuna's `study.best_trial`, called in process on
studies that are held, which spares it the network and the loading, in one thread or {connections},
whichever is faster.
"""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is done."""

    workers: int = 1000
    jobs: int = 10_000
    lookups: float = 1500.0
    workloads: int = 1000
    trials: int = 2
    jobs_per_sec: float = 6.0
    submitters: int = 32
    max_active_jobs: int = 1000
    measure_secs: float = 20.0
    limit_secs: float = 1800.0
    double_secs: float = 150.0
    ratio_secs: float = 15.0
    groups: int = 20
    records_each: int = 50


QUICK = Scale(
    workers=100,
    jobs=200,
    lookups=300.0,
    workloads=50,
    jobs_per_sec=5.0,
    max_active_jobs=50,
    measure_secs=2.0,
    limit_secs=60.0,
    double_secs=15.0,
    ratio_secs=4.0,
    groups=5,
    records_each=20,
)


def main() -> None:
    """Run everything and write it down."""
    quick = os.environ.get("QUICK") == "1"
    scale = QUICK if quick else Scale()
    print(f"this takes {'about 3' if quick else 'up to 40'} minutes", file=sys.stderr)
    done = Checkpoint("bench-service", quick=quick, fresh=quick)
    load = done.part("load", lambda: under_load(scale))
    twice = replace(
        scale,
        workers=2 * scale.workers,
        lookups=2 * scale.lookups,
        jobs=2 * scale.jobs,
        jobs_per_sec=2 * scale.jobs_per_sec,
        limit_secs=scale.double_secs,
    )
    double = done.part("double", lambda: under_load(twice))
    rates = done.part("rates", lambda: closed_loop(scale))
    report(scale, load, double, rates, quick=quick)


def under_load(scale: Scale) -> dict[str, Any]:
    """Let a fleet work through the jobs beside the look-ups."""
    calls = site.calls(scale.workloads)
    with site.running(
        workloads=scale.workloads,
        searches=SEARCHES,
        max_active_jobs=scale.max_active_jobs,
    ) as running:
        fleet = Fleet(
            port=running.port,
            workers=scale.workers,
            target=site.TARGET.as_dict(),
            target_id=site.TARGET.target_id,
            calls=tuple(calls[number % len(calls)] for number in range(scale.jobs)),
            trials=scale.trials,
            jobs_per_sec=scale.jobs_per_sec,
            submitters=scale.submitters,
            measure_secs=scale.measure_secs,
            limit_secs=scale.limit_secs,
        )
        lookups = Load(
            port=running.port,
            paths=site.look_up_paths(scale.workloads),
            per_sec=scale.lookups,
            secs=2 * scale.limit_secs,
            connections=LOOKUP_CONNECTIONS,
        )
        samples = []
        with site.client("fleet", fleet) as workers:
            site.wait_for_line(workers)
            before, started = running.cpu_secs(), time.monotonic()
            with site.client("lookups", lookups) as pipelines:
                while workers.poll() is None:
                    samples.append(asdict(running.sample()))
                    time.sleep(SAMPLE_SECS)
                took_secs = time.monotonic() - started
                after = running.cpu_secs()
                looked = site.report_of(pipelines)
                worked = site.report_of(workers)
    return {
        "fleet": worked,
        "lookups": looked,
        "samples": samples,
        "cpu_share": {part: (after[part] - before[part]) / took_secs for part in before},
    }


def closed_loop(scale: Scale) -> dict[str, float]:
    """Return look-ups per second of each product."""
    with site.running(workloads=scale.groups, records_each=scale.records_each) as running:
        load = Load(
            port=running.port,
            paths=site.look_up_paths(scale.groups),
            per_sec=0,
            secs=scale.ratio_secs,
            connections=RATIO_CONNECTIONS,
        )
        with site.client("lookups", load) as process:
            ours = rivals.answered_per_sec(site.report_of(process))
    size = {"groups": scale.groups, "records_each": scale.records_each}
    return {
        "tunesmith": ours,
        "mlflow": rivals.mlflow_per_sec(
            **size, secs=scale.ratio_secs, connections=RATIO_CONNECTIONS
        ),
        "optuna": rivals.optuna_per_sec(**size, secs=scale.ratio_secs, threads=RATIO_CONNECTIONS),
    }


def report(
    scale: Scale,
    load: dict[str, Any],
    double: dict[str, Any],
    rates: dict[str, float],
    *,
    quick: bool,
) -> None:
    """Write everything down."""
    fleet, lookups = load["fleet"], load["lookups"]
    lease = fleet["quantiles"]["lease"]
    looked = lookups["quantiles"]["lookup"]
    refused = _refusals(double)
    peak = {name: max(item[name] for item in load["samples"]) for name in load["samples"][0]}
    text = TEXT.format(
        **asdict(scale) | {"lookups": f"{scale.lookups:.0f}"},
        connections=RATIO_CONNECTIONS,
        api_processes=site.API_PROCESSES,
    )
    publish(
        "bench-service",
        title="The service under load",
        text=text,
        tables=[
            _answers("Times to answer under the load", load),
            _throughput(load),
            _over_time(load["samples"]),
            _answers("Times to answer under twice the load", double),
            Table(
                title="Answers under twice the load",
                columns=["call", "status", "answers"],
                rows=[[kind, status, count] for kind, status, count in _statuses(double)],
            ),
            Table(
                title="Look-ups per second, closed loop",
                columns=["product", "look-ups/s", "Tunesmith's are so many times as many"],
                rows=[[name, rate, rates["tunesmith"] / rate] for name, rate in rates.items()],
            ),
        ],
        keys={
            "workers": scale.workers,
            "jobs": fleet["jobs_done"],
            "jobs_wanted": scale.jobs,
            "jobs_per_second": fleet["jobs_done"] / fleet["took_secs"],
            "lookups_per_second": looked["count"] / lookups["wall_secs"],
            "lookup_p50_ms": looked["p50_ms"],
            "lookup_p99_ms": looked["p99_ms"],
            "lease_p99_ms": lease["p99_ms"],
            "lookups_ratio_mlflow": rates["tunesmith"] / rates["mlflow"],
            "lookups_ratio_optuna": rates["tunesmith"] / rates["optuna"],
            "api_mib_max": peak["api_mib"],
            "tuner_mib_max": peak["tuner_mib"],
            "postgresql_mib_max": peak["postgres_mib"],
            "ready_batches_max": peak["ready_batches"],
            "failures": sum(_failures(load).values()),
            "refused_429_at_double": refused,
            "failures_at_double": sum(_failures(double).values()),
        },
        quick=quick,
    )


def _statuses(load: dict[str, Any]) -> list[tuple[str, str, int]]:
    found = load["fleet"]["statuses"] | load["lookups"]["statuses"]
    return [
        (kind, status if status != "0" else "none in time", count)
        for kind, statuses in found.items()
        for status, count in statuses.items()
    ]


def _failures(load: dict[str, Any]) -> dict[str, int]:
    """Count what is neither an answer nor a refusal that says when to come again, by call."""
    return {
        f"{kind} {status}": count
        for kind, status, count in _statuses(load)
        if not status.startswith("2") and status != "429"
    }


def _refusals(load: dict[str, Any]) -> int:
    return sum(count for _, status, count in _statuses(load) if status == "429")


def _answers(title: str, load: dict[str, Any]) -> Table:
    found = load["fleet"]["quantiles"] | load["lookups"]["quantiles"]
    return Table(
        title=title,
        columns=["call", "times", "median, ms", "99th percentile, ms", "longest, ms"],
        rows=[
            [kind, times["count"], times["p50_ms"], times["p99_ms"], times["max_ms"]]
            for kind, times in found.items()
        ],
    )


def _throughput(load: dict[str, Any]) -> Table:
    fleet, secs = load["fleet"], load["fleet"]["took_secs"]
    batches = fleet["statuses"].get("results", {}).get("200", 0)
    lookups = load["lookups"]
    rows: list[list[str | float]] = [
        ["seconds", secs],
        ["jobs done", fleet["jobs_done"]],
        ["jobs/s", fleet["jobs_done"] / secs],
        ["batches/s", batches / secs],
        ["results/s", fleet["results"] / secs],
        ["look-ups/s", lookups["quantiles"]["lookup"]["count"] / lookups["wall_secs"]],
    ]
    rows += [[f"cores taken by {part}", share] for part, share in load["cpu_share"].items()]
    rows += [
        ["cores taken by the simulated workers", fleet["cpu_share"]],
        ["cores taken by the look-ups' client", lookups["cpu_share"]],
    ]
    return Table(title="Throughput", columns=["what", "value"], rows=rows)


def _over_time(samples: list[dict[str, Any]]) -> Table:
    shown = samples[:: max(1, len(samples) // 12)]
    return Table(
        title="Memory and backlog over time",
        columns=["s", "API, MiB", "tuner, MiB", "PostgreSQL, MiB", "ready batches", "active jobs"],
        rows=[[f"{value:.0f}" for value in sample.values()] for sample in shown],
    )


if __name__ == "__main__":
    main()
