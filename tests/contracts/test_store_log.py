"""The store's contract: filters and exports of the tuning log, on both engines."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from schedules.records import (
    Environment,
    FailureKind,
    MeasureResult,
    Origin,
    Purpose,
    TuningRecord,
    Verification,
)
from service.db.queries import RecordFilter
from service.db.store import Store
from tests.contracts.log_values import DAY, NOON, mixed
from tests.contracts.store_values import (
    OTHER_WORKLOAD,
    WORKLOAD,
    candidate,
    failed,
    measured,
    record,
    running_job,
    stock,
)
from tuner.client import convert, wire


def write(item: TuningRecord) -> str:
    return convert.record_to_wire(item).model_dump_json()


def ids(records: Any) -> list[int]:
    return [int(item.record_id[-5:]) for item in records]


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
