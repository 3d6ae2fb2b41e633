"""The store's contract: tuning records and bests, on both engines."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schedules.errors import ConflictError, InputError, NotFoundError
from schedules.identity import sha256_id
from schedules.records import Best, Environment, FailureKind, MeasureResult, Purpose, Verification
from service.db.queries import RecordFilter
from service.db.store import Store
from tests.contracts.conftest import Clock
from tests.contracts.store_values import (
    CPU,
    GPU,
    OTHER_WORKLOAD,
    OWNER,
    TTL,
    WORKLOAD,
    best,
    candidate,
    claim,
    enqueue,
    failed,
    lease,
    measured,
    record,
    report_all,
    running_job,
    spec,
    stock,
    worker,
)

INFINITE: Any = {"mhz": float("inf")}

# --- records -------------------------------------------------------------------------------------


def test_bounds_and_pointers_to_equal_code_are_kept(store: Store) -> None:
    stock(store)
    wanted = [
        record(1, result=MeasureResult(run_secs=(0.25,), censored_secs=0.25, build_secs=0.1)),
        record(2, result=replace(measured(), duplicate_of=candidate(1).trace_id)),
    ]
    store.add_records(wanted)
    assert list(store.trials(WORKLOAD.workload_id, CPU.target_id)) == wanted


@pytest.mark.parametrize(
    "result",
    [
        MeasureResult(),
        MeasureResult(censored_secs=1.0),
        replace(failed(), censored_secs=1.0),
        replace(measured(), failure=failed().failure, censored_secs=1.0),
        replace(measured(), censored_secs=float("inf")),
    ],
)
def test_a_result_that_is_not_exactly_one_thing_is_refused(
    store: Store, result: MeasureResult
) -> None:
    stock(store)
    with pytest.raises(InputError):
        store.add_records([record(1, result=result)])


def test_added_records_come_back_as_they_were(store: Store) -> None:
    stock(store)
    checked = Verification(reference="numpy", tolerance=1e-3, error=float("nan"), passed=False)
    wanted = [
        record(1),
        record(2, result=failed(), job_id="elsewhere", worker_id="there", protocol_version=0),
        record(
            3,
            result=replace(failed(FailureKind.WRONG_OUTPUT), run_secs=(1.0,), verification=checked),
        ),
    ]
    assert store.add_records(wanted) == 3
    first, second, third = store.records(RecordFilter(), limit=9, cursor=None).items[::-1]
    assert [first, second] == wanted[:2]
    assert third.result.run_secs == (1.0,)
    assert third.result.latency_secs is None
    assert third.result.verification == replace(checked, error=-1.0)


def test_records_are_added_once(store: Store) -> None:
    stock(store)
    assert store.add_records([]) == 0
    assert store.add_records([record(1), record(1), record(2)]) == 2
    assert store.add_records([record(2, result=measured(9.0)), record(3)]) == 1
    kept = {item.record_id: item for item in store.iter_records(RecordFilter())}
    assert kept[record(2).record_id] == record(2)
    assert len(kept) == 3


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"workload_id": "unknown"}, NotFoundError),
        ({"target_id": "unknown"}, NotFoundError),
        ({"result": MeasureResult()}, InputError),
        ({"result": measured(float("nan"))}, InputError),
        ({"created_at": datetime(2024, 1, 1)}, InputError),
        ({"environment": Environment(facts=INFINITE)}, InputError),
    ],
)
def test_one_bad_record_keeps_all_out(
    store: Store, change: dict[str, Any], error: type[Exception]
) -> None:
    stock(store)
    with pytest.raises(error):
        store.add_records([record(1), record(2, **change)])
    assert list(store.iter_records(RecordFilter())) == []


def test_filters_restrict_together(store: Store) -> None:
    stock(store)
    other = {"workload_id": OTHER_WORKLOAD.workload_id, "target_id": GPU.target_id}
    store.add_records(
        [
            record(1),
            record(2, job_id="j1", worker_id="w1"),
            record(3, job_id="j1", result=failed()),
            record(4, **other, worker_id="w1"),
            record(5, **other, result=failed(FailureKind.INVALID)),
        ]
    )

    def found(**filters: Any) -> list[int]:
        page = store.records(RecordFilter(**filters), limit=9, cursor=None)
        return [int(item.record_id[-1]) for item in page.items]

    assert found() == [5, 4, 3, 2, 1]
    assert found(workload_id=WORKLOAD.workload_id) == [3, 2, 1]
    assert found(target_id=GPU.target_id) == [5, 4]
    assert found(job_id="j1") == [3, 2]
    assert found(worker_id="w1") == [4, 2]
    assert found(failure=FailureKind.BUILD_ERROR) == [3]
    assert found(since=record(4).created_at) == [5, 4]
    assert found(since=record(4).created_at.astimezone(UTC) + timedelta(microseconds=1)) == [5]
    assert found(job_id="j1", worker_id="w1", since=record(1).created_at) == [2]
    assert found(job_id="unknown") == []
    with pytest.raises(InputError):
        found(since=datetime(2024, 1, 1))


def test_many_records_are_iterated_once_each_while_more_arrive(store: Store) -> None:
    stock(store)
    # All but a few share their time with others: the id decides.
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    many = [
        record(number, created_at=moment + timedelta(seconds=number // 700))
        for number in range(2500)
    ]
    assert store.add_records(many) == 2500
    met = []
    for number, item in enumerate(store.iter_records(RecordFilter(), chunk=300)):
        met.append(item.record_id)
        if number == 1000:
            store.add_records([record(9000 + extra) for extra in range(5)])
            store.add_records([record(9990, created_at=moment + timedelta(days=1))])
    old = sorted(item.record_id for item in many)
    assert [name for name in met if name in set(old)] == old[::-1]
    assert len(met) == len(set(met))


def test_trials_are_the_trials_of_one_workload_and_target_oldest_first(store: Store) -> None:
    stock(store)
    store.add_records(
        [
            record(3),
            record(1),
            record(2, result=failed()),
            record(4, purpose=Purpose.FINAL),
            record(5, workload_id=OTHER_WORKLOAD.workload_id),
            record(6, target_id=GPU.target_id),
        ]
    )
    found = store.trials(WORKLOAD.workload_id, CPU.target_id)
    assert [item.record_id[-1] for item in found] == ["1", "2", "3"]


# --- bests ---------------------------------------------------------------------------------------


def test_a_published_best_comes_back_as_it_was(store: Store) -> None:
    stock(store)
    assert store.best(WORKLOAD.workload_id, CPU.target_id) is None
    assert store.publish(best(0.5), None, None) == best(0.5)
    assert store.best(WORKLOAD.workload_id, CPU.target_id) == best(0.5)
    assert store.best(WORKLOAD.workload_id, GPU.target_id) is None
    other = best(2.0, target_id=GPU.target_id, default_latency_secs=None, model_version="m1")
    assert store.publish(other, None, None) == other


def test_the_faster_best_is_kept(store: Store) -> None:
    stock(store)
    store.publish(best(0.5), None, None)
    assert store.publish(best(0.6), None, None) == best(0.5)
    assert store.publish(best(0.4), None, None) == best(0.4)
    assert store.best(WORKLOAD.workload_id, CPU.target_id) == best(0.4)


def test_a_best_without_a_latency_is_refused(store: Store) -> None:
    stock(store)
    store.publish(best(0.5), None, None)
    with pytest.raises(InputError, match="finite"):
        store.publish(best(float("nan")), None, None)
    assert store.best(WORKLOAD.workload_id, CPU.target_id) == best(0.5)


def _finals(store: Store, seed: int, traces: list[int]) -> tuple[str, list[str]]:
    """Measure some traces together as finalists; return the job and the records' ids."""
    job = running_job(store, seed=seed)
    store.enqueue_batch(
        job.job_id,
        OWNER,
        purpose=Purpose.FINAL,
        candidates=[candidate(number) for number in traces],
        incumbent_secs=None,
    )
    me = worker(store)
    held = lease(store, me)
    report_all(store, held, me)
    return job.job_id, [item.item_id for item in held.items]


def _best_of(secs: float, number: int, record_id: str) -> Best:
    made = candidate(number)
    return best(secs, trace=made.trace, trace_id=made.trace_id, record_id=record_id)


def test_a_stored_best_that_was_measured_again_gives_way_to_the_new_measurement(
    store: Store,
) -> None:
    job_id, ids = _finals(store, 1, [0, 1])
    store.publish(_best_of(0.5, 0, ids[0]), OWNER, job_id)
    job_id, ids = _finals(store, 2, [0, 1])
    slower = _best_of(0.6, 1, ids[1])
    assert store.publish(slower, OWNER, job_id) == slower
    assert store.best(WORKLOAD.workload_id, CPU.target_id) == slower


def test_a_stored_best_that_was_not_measured_again_stays_if_it_is_faster(store: Store) -> None:
    first, ids = _finals(store, 1, [0, 1])
    second, other_ids = _finals(store, 2, [1, 2])
    # Another job published in the meantime.
    stored = _best_of(0.5, 0, ids[0])
    store.publish(stored, OWNER, first)
    assert store.publish(_best_of(0.6, 1, other_ids[0]), OWNER, second) == stored
    faster = _best_of(0.4, 1, other_ids[0])
    assert store.publish(faster, OWNER, second) == faster


def test_a_stale_owner_publishes_nothing(store: Store, clock: Clock) -> None:
    stock(store)
    job, _ = store.submit_job(spec(), idempotency_key=None)
    claim(store, OWNER, TTL)
    with pytest.raises(ConflictError):
        store.publish(best(0.5), "other", job.job_id)
    with pytest.raises(InputError):
        store.publish(best(0.5), OWNER, None)
    clock.advance(TTL + 1)
    with pytest.raises(ConflictError):
        store.publish(best(0.5), OWNER, job.job_id)
    assert store.best(WORKLOAD.workload_id, CPU.target_id) is None


def test_a_best_needs_a_stored_workload_and_target(store: Store) -> None:
    stock(store)
    for change in ({"workload_id": "unknown"}, {"target_id": "unknown"}):
        with pytest.raises(NotFoundError):
            store.publish(best(0.5, **change), None, None)


def test_bests_are_listed_once_each_while_they_are_republished(store: Store) -> None:
    stock(store)
    for number in range(5):
        workload = replace(OTHER_WORKLOAD, workload_id=sha256_id(number))
        store.save_workload(workload)
        store.publish(best(0.5, workload_id=workload.workload_id), None, None)
    store.publish(best(0.5, target_id=GPU.target_id), None, None)
    met = []
    cursor = None
    while True:
        page = store.bests(limit=2, cursor=cursor)
        met += [item.workload_id for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        store.publish(best(0.1, workload_id=sha256_id(0)), None, None)
    assert sorted(met) == sorted([*map(sha256_id, range(5)), WORKLOAD.workload_id])
    only_gpu = store.bests(target_id=GPU.target_id, limit=9, cursor=None).items
    assert [item.workload_id for item in only_gpu] == [WORKLOAD.workload_id]
    of_first = store.bests(workload_id=sha256_id(0), limit=9, cursor=None).items
    assert [item.latency_secs for item in of_first] == [0.1]
    with pytest.raises(InputError):
        store.bests(
            limit=2, cursor=store.records(RecordFilter(), limit=1, cursor=None).next_cursor or "x"
        )


def test_finals_measure_in_the_order_of_the_candidates(store: Store) -> None:
    job = running_job(store)
    enqueue(store, job, 9, purpose=Purpose.FINAL)
    me = worker(store)
    report_all(store, lease(store, me), me)
    found = [item.candidate for item in store.finals(job.job_id)]
    assert found == [candidate(number) for number in range(9)]
