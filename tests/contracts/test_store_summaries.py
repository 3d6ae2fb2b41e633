"""The store's contract: counters and summaries of the tuning log, on both engines."""

import math
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from schedules.errors import InputError
from schedules.records import FailureKind, MeasureResult, Purpose, TuningRecord
from service.db import summary
from service.db.count_rows import CountRow, SeriesRow
from service.db.engine import Database
from service.db.histogram import RELATIVE_ERROR
from service.db.queries import RecordFilter
from service.db.recount import recount
from service.db.store import Store
from service.db.summary_values import GroupBy, GroupSummary
from tests.contracts.conftest import Clock
from tests.contracts.log_values import DAY, mixed
from tests.contracts.store_values import (
    CPU,
    candidate,
    failed,
    lease,
    record,
    report_all,
    report_one,
    running_job,
    stock,
    worker,
)


def counters(database: Database) -> tuple[set[Any], set[Any]]:
    def read(session: Any) -> tuple[set[Any], set[Any]]:
        return (
            {tuple(row) for row in session.execute(select(*CountRow.__table__.columns))},
            {tuple(row) for row in session.execute(select(*SeriesRow.__table__.columns))},
        )

    return database.read(read)


def test_counters_say_what_the_records_say(
    store: Store, shared_database: tuple[Database, Clock]
) -> None:
    database, _ = shared_database
    stock(store)
    many = mixed(300)
    for start in range(0, 300, 50):
        store.add_records(many[start : start + 60])
    job, me = running_job(store), worker(store)
    store.enqueue_batch(
        job.job_id,
        "orchestrator-1",
        purpose=Purpose.TRIAL,
        candidates=[candidate(number) for number in range(4)],
        incumbent_secs=None,
    )
    held = lease(store, me)
    report_one(store, held, me, 0, failed())
    report_one(store, held, me, 0, failed())
    report_one(store, held, me, 1)
    kept = counters(database)
    assert sum(row[-1] for row in kept[0]) == 6 * 302
    database.write(lambda session: recount(session.connection()))
    assert counters(database) == kept


def test_what_is_rolled_back_is_not_counted(
    store: Store, shared_database: tuple[Database, Clock]
) -> None:
    database, _ = shared_database
    stock(store)
    with pytest.raises(InputError):
        store.add_records([record(1), record(2, result=MeasureResult())])
    assert counters(database) == (set(), set())
    store.add_records([record(1)])
    store.add_records([record(1), record(1)])
    assert sum(row[-1] for row in counters(database)[0]) == 6


def expected(records: list[TuningRecord], key: Any) -> dict[str | None, Counter[str]]:
    found: dict[str | None, Counter[str]] = {}
    for item in records:
        outcome = "measured"
        if item.result.failure:
            outcome = item.result.failure.kind.value
        elif item.result.censored_secs is not None:
            outcome = "censored"
        found.setdefault(key(item), Counter())[outcome] += 1
    return found


def counts_of(groups: tuple[GroupSummary, ...]) -> dict[str | None, Counter[str]]:
    found = {}
    for group in groups:
        counts = Counter({kind.value: count for kind, count in group.failures.items()})
        counts.update(measured=group.measured, censored=group.censored)
        assert counts.total() == group.records
        found[group.key] = +counts
    return found


KEYS = {
    GroupBy.OPERATOR: lambda item: item.operator,
    GroupBy.TARGET: lambda item: item.target_id,
    GroupBy.WORKER: lambda item: item.worker_id,
    GroupBy.FAILURE: lambda item: item.result.failure.kind.value if item.result.failure else None,
    GroupBy.DAY: lambda item: item.created_at.date().isoformat(),
}
MIDNIGHT = datetime(2024, 2, 1, tzinfo=UTC)
FILTERS: list[tuple[dict[str, Any], Any]] = [
    ({}, lambda item: True),
    ({"target_id": CPU.target_id}, lambda item: item.target_id == CPU.target_id),
    ({"operator": "matmul"}, lambda item: item.operator == "matmul"),
    ({"from_ir": True}, lambda item: item.operator is None),
    ({"worker_id": "w1"}, lambda item: item.worker_id == "w1"),
    ({"failed": True}, lambda item: item.result.failure is not None),
    ({"failed": False}, lambda item: item.result.failure is None),
    (
        {"failure": FailureKind.RUN_ERROR},
        lambda item: item.result.failure and item.result.failure.kind is FailureKind.RUN_ERROR,
    ),
    ({"since": MIDNIGHT}, lambda item: item.created_at >= MIDNIGHT),
    ({"since": MIDNIGHT + DAY}, lambda item: item.created_at >= MIDNIGHT + DAY),
    ({"until": MIDNIGHT + 40 * DAY}, lambda item: item.created_at < MIDNIGHT + 40 * DAY),
    (
        {"since": MIDNIGHT - DAY, "until": MIDNIGHT + 33 * DAY},
        lambda item: MIDNIGHT - DAY <= item.created_at < MIDNIGHT + 33 * DAY,
    ),
    (
        {"since": MIDNIGHT + 3 * DAY, "until": MIDNIGHT + 9 * DAY},
        lambda item: MIDNIGHT + 3 * DAY <= item.created_at < MIDNIGHT + 9 * DAY,
    ),
    (
        {"since": MIDNIGHT + timedelta(hours=7)},
        lambda item: item.created_at >= MIDNIGHT + timedelta(hours=7),
    ),
    ({"latency_max_secs": 1e-4}, lambda item: (item.result.latency_secs or 1.0) <= 1e-4),
]


def test_summaries_count_what_passes(store: Store) -> None:
    stock(store)
    many = mixed(400)
    store.add_records(many)
    for group_by, key in KEYS.items():
        for filters, passes in FILTERS:
            found = store.summarise(group_by, RecordFilter(**filters), limit=1000)
            wanted = expected([item for item in many if passes(item)], key)
            assert counts_of(found.groups) == wanted, (group_by, filters)
            assert found.complete
            assert found.left_out == 0


def test_any_range_of_days_is_counted(store: Store) -> None:
    """Of a month that is meant in part, days are added or taken away, whichever are fewer."""
    stock(store)
    many = mixed(400)
    store.add_records(many)
    chance = random.Random(5)
    for _ in range(60):
        first, last = sorted(chance.sample(range(-20, 120), 2))
        since, until = MIDNIGHT + first * DAY, MIDNIGHT + last * DAY
        found = store.summarise(GroupBy.WORKER, RecordFilter(since=since, until=until), limit=1000)
        passing = [item for item in many if since <= item.created_at < until]
        assert counts_of(found.groups) == expected(passing, KEYS[GroupBy.WORKER]), (since, until)
        assert found.counted


def test_quantiles_are_within_the_stated_error(store: Store) -> None:
    stock(store)
    many = mixed(400)
    store.add_records(many)
    found = store.summarise(GroupBy.OPERATOR, RecordFilter(), limit=10)
    assert found.counted
    for group in found.groups:
        latencies = sorted(
            item.result.latency_secs
            for item in many
            if item.operator == group.key and item.result.latency_secs is not None
        )
        assert group.latency_secs is not None
        for name, q in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9)):
            true = latencies[math.ceil(q * len(latencies)) - 1]
            assert group.latency_secs[name] == pytest.approx(true, rel=RELATIVE_ERROR * 1.0001)
    failures = store.summarise(GroupBy.FAILURE, RecordFilter(), limit=10).groups
    assert [group.key for group in failures if group.latency_secs] == [None]


def test_groups_are_the_largest_or_the_newest(store: Store) -> None:
    stock(store)
    assert store.summarise(GroupBy.DAY, RecordFilter(), limit=3).groups == ()
    store.add_records(mixed(100))
    days = store.summarise(GroupBy.DAY, RecordFilter(), limit=3)
    assert [group.key for group in days.groups] == ["2024-02-20", "2024-02-19", "2024-02-18"]
    assert days.left_out == 19
    operators = store.summarise(GroupBy.OPERATOR, RecordFilter(), limit=2)
    assert operators.left_out == 1
    assert operators.groups[0].records >= operators.groups[1].records


def test_a_summary_that_looked_at_too_few_records_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "EXAMINED", 30)
    stock(store)
    store.add_records(mixed(100))
    part = store.summarise(GroupBy.WORKER, RecordFilter(latency_max_secs=1.0), limit=9)
    assert (part.counted, part.complete) == (False, False)
    assert sum(group.records for group in part.groups) == 18
    counted = store.summarise(GroupBy.WORKER, RecordFilter(), limit=9)
    assert (counted.counted, counted.complete) == (True, True)


def test_operators_are_those_of_the_jobs(store: Store) -> None:
    job, me = running_job(store), worker(store)
    store.enqueue_batch(
        job.job_id,
        "orchestrator-1",
        purpose=Purpose.TRIAL,
        candidates=[candidate(0)],
        incumbent_secs=None,
    )
    report_all(store, lease(store, me), me)
    (stored,) = store.records(RecordFilter(operator="matmul"), limit=9, cursor=None).items
    assert (stored.job_id, stored.operator) == (job.job_id, "matmul")
    (group,) = store.summarise(GroupBy.OPERATOR, RecordFilter(), limit=9).groups
    assert (group.key, group.measured) == ("matmul", 1)
