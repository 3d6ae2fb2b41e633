"""The store's contract: filters, summaries and exports of the tuning log, on both engines."""

import json
import math
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from schedules.errors import InputError
from schedules.records import (
    Environment,
    FailureKind,
    MeasureResult,
    Origin,
    Purpose,
    TuningRecord,
    Verification,
)
from service.db import summary
from service.db.engine import Database
from service.db.histogram import RELATIVE_ERROR
from service.db.models import CountRow, SeriesRow
from service.db.queries import RecordFilter
from service.db.recount import recount
from service.db.store import Store
from service.db.summary_values import GroupBy, GroupSummary
from tests.contracts.conftest import Clock
from tests.contracts.store_values import (
    CPU,
    GPU,
    OTHER_WORKLOAD,
    WORKLOAD,
    candidate,
    failed,
    lease,
    measured,
    record,
    report_all,
    report_one,
    running_job,
    stock,
    worker,
)
from tuner.client import convert, wire

DAY = timedelta(days=1)
NOON = datetime(2024, 1, 30, 12, tzinfo=UTC)


def write(item: TuningRecord) -> str:
    return convert.record_to_wire(item).model_dump_json()


def ids(records: Any) -> list[int]:
    return [int(item.record_id[-5:]) for item in records]


def mixed(count: int) -> list[TuningRecord]:
    """Records of many days, operators, targets and workers; a fifth fail, a fifth are slow."""
    chance = random.Random(0)
    made = []
    for number in range(count):
        result = measured(10 ** chance.uniform(-6, -2))
        if number % 5 == 3:
            result = failed(chance.choice(list(FailureKind)))
        elif number % 5 == 4:
            result = MeasureResult(run_secs=(1e-3,), censored_secs=1e-3)
        made.append(
            record(
                number,
                created_at=NOON + number * timedelta(hours=5),
                operator=chance.choice(["matmul", "softmax", None]),
                target_id=chance.choice([CPU, GPU]).target_id,
                worker_id=chance.choice(["w1", "w2", None]),
                result=result,
            )
        )
    return made


# --- filters -------------------------------------------------------------------------------------


def test_every_field_can_be_filtered_by(store: Store) -> None:
    job = running_job(store, space="stock")
    checked = Verification(reference="numpy", tolerance=1e-3, error=0.0, passed=True)
    slow = MeasureResult(run_secs=(1.0,), censored_secs=1.0)
    special = replace(candidate(5), model_version="m2", origin=Origin.DEFAULT)
    store.add_records(
        [
            record(1, operator="matmul", job_id=job.job_id),
            record(2, operator="softmax", environment=Environment(facts={"device": "Zen 4"})),
            record(3, result=slow, purpose=Purpose.FINAL),
            record(4, result=replace(measured(0.5), verification=checked), protocol_version=0),
            record(5, result=failed(), candidate=special),
        ]
    )

    def found(**filters: Any) -> list[int]:
        return ids(store.records(RecordFilter(**filters), limit=9, cursor=None).items)

    assert found(operator="matmul") == [1]
    assert found(from_ir=True) == [5, 4, 3]
    assert found(device="Zen 4") == [2]
    assert found(space="stock") == [1]
    assert found(space="default") == []
    assert found(purpose=Purpose.FINAL) == [3]
    assert found(origin=Origin.DEFAULT) == [5]
    assert found(trace_id=candidate(2).trace_id) == [2]
    assert found(model_version="m2") == [5]
    assert found(protocol_version=0) == [4]
    assert found(failed=True) == [5]
    assert found(failed=False) == [4, 3, 2, 1]
    assert found(censored=True) == [3]
    assert found(verified=True) == [4]
    assert found(verified=False, failed=False) == [3, 2, 1]
    assert found(set_aside=True) == []
    assert found(set_aside=False) == [5, 4, 3, 2, 1]
    assert found(latency_min_secs=0.1) == [4]
    assert found(latency_max_secs=0.1) == [2, 1]
    assert found(latency_min_secs=measured().latency_secs, latency_max_secs=0.1) == [2, 1]
    assert found(until=record(3).created_at) == [2, 1]
    assert found(since=record(2).created_at, until=record(4).created_at) == [3, 2]
    assert found(operator="matmul'; DROP TABLE records; --") == []
    assert found() == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("examined", [7, 50, 10_000])
def test_pages_of_few_among_many_meet_each_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, examined: int
) -> None:
    monkeypatch.setattr("service.db.records.EXAMINED", examined)
    stock(store)
    many = mixed(200)
    store.add_records(many)
    for filters, passes in (
        (RecordFilter(latency_min_secs=1e-3), lambda r: (r.result.latency_secs or 0) >= 1e-3),
        (
            RecordFilter(worker_id="w1", operator="softmax"),
            lambda r: (r.worker_id, r.operator) == ("w1", "softmax"),
        ),
        (RecordFilter(device="none such"), lambda r: False),
    ):
        met: list[int] = []
        cursor = None
        for _ in range(200):
            page = store.records(filters, limit=5, cursor=cursor)
            met += ids(page.items)
            cursor = page.next_cursor
            if cursor is None:
                break
        assert met == ids(item for item in reversed(many) if passes(item))


# --- counters and summaries ----------------------------------------------------------------------


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


# --- exports -------------------------------------------------------------------------------------


@pytest.fixture
def odd(store: Store) -> list[TuningRecord]:
    """Records with everything that is hard to write."""
    stock(store)
    text = 'a "quoted" \\ back\\nslash,\n\ttab, \u2028 \U0001f600 </script> \x7f \x01'
    checked = Verification(reference="numpy", tolerance=1e-300, error=float("nan"), passed=False)
    made = [
        record(1),
        record(2, result=failed(detail=text), job_id=text, operator='"'),
        record(3, result=replace(failed(FailureKind.WRONG_OUTPUT), verification=checked)),
        record(4, created_at=datetime(2024, 1, 1, tzinfo=UTC), protocol_version=0),
        record(5, result=measured(1 / 3), environment=Environment(facts={"device": text, "n": 1})),
        record(6, result=MeasureResult(run_secs=(1e-9, 2.0), censored_secs=1e-9)),
    ]
    store.add_records(made)
    return made


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_exported_lines_are_the_records(store: Store, odd: list[TuningRecord], chunk: int) -> None:
    lines = b"".join(store.record_lines(RecordFilter(), write, chunk=chunk)).splitlines()
    wanted = store.records(RecordFilter(), limit=9, cursor=None).items
    views = [convert.record_from_wire(wire.RecordView.model_validate_json(line)) for line in lines]
    assert views == list(wanted)
    assert [set(json.loads(line)) for line in lines] == [set(json.loads(write(odd[0])))] * 6


def test_an_export_meets_each_record_once_while_more_arrive(store: Store) -> None:
    stock(store)
    many = mixed(100)
    store.add_records(many)
    met: list[str] = []
    for number, block in enumerate(store.record_lines(RecordFilter(), write, chunk=30)):
        met += [json.loads(line)["record_id"] for line in block.splitlines()]
        store.add_records([record(500 + number, created_at=NOON + 900 * DAY)])
    assert met == [item.record_id for item in reversed(many)]


@pytest.mark.parametrize("examined", [10, 64])
def test_exports_are_filtered(store: Store, monkeypatch: pytest.MonkeyPatch, examined: int) -> None:
    monkeypatch.setattr("service.db.export.EXAMINED", examined)
    stock(store)
    many = mixed(100)
    store.add_records(many)

    def exported(**filters: Any) -> list[str]:
        blocks = store.record_lines(RecordFilter(**filters), write, chunk=7)
        return [json.loads(line)["record_id"] for line in b"".join(blocks).splitlines()]

    passing = [item.record_id for item in reversed(many) if item.worker_id == "w2"]
    assert exported(worker_id="w2") == passing
    failing = [item.record_id for item in reversed(many) if item.result.failure]
    assert exported(failed=True) == failing
    assert exported(target_id="unknown") == []
    assert exported(workload_id=OTHER_WORKLOAD.workload_id, failed=True) == []
    assert len(exported(workload_id=WORKLOAD.workload_id)) == 100
