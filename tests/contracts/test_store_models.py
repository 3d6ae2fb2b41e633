"""What the store keeps of the cost model: features, datasets, versions, promotions, orders."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from cost_model.columns import FEATURE_NAMES, FEATURE_VERSION
from cost_model.versions import ModelVersion, TrainedOn
from schedules.errors import ConflictError, NotFoundError
from schedules.records import FailureKind, Purpose
from service.db.model_values import DatasetQuery, ModelFile, OrderKind, OrderState
from service.db.store import Store
from tests.contracts.conftest import Clock
from tests.contracts.store_values import (
    CPU,
    GPU,
    OTHER_WORKLOAD,
    WORKLOAD,
    failed,
    measured,
    record,
)
from tests.contracts.test_store_concurrency import at_once

TTL = 30.0


def version(name: str, minute: int = 0, parent: str | None = None) -> ModelVersion:
    return ModelVersion(
        version=name,
        created_at=datetime(2025, 6, 1, 12, minute, tzinfo=UTC),
        parent=parent,
        feature_version=FEATURE_VERSION,
        code_version="0.1.0",
        trained_on=TrainedOn(
            query={"until": "2025-06-01"}, digest="d", rows=9, failed=1, censored=2, groups=3
        ),
        metrics={"shape.pairwise_accuracy": 0.75},
    )


def add_versions(store: Store, *names: str) -> None:
    for minute, name in enumerate(names):
        store.add_model_version(version(name, minute), content=name.encode(), judge=b"judge")


def row(value: float) -> bytes:
    return np.full(len(FEATURE_NAMES), value, dtype="<f4").tobytes()


def save_tasks(store: Store) -> None:
    for workload in (WORKLOAD, OTHER_WORKLOAD):
        store.save_workload(workload)
    for target in (CPU, GPU):
        store.save_target(target)


# --- features ------------------------------------------------------------------------------------


def test_candidates_lack_features_until_these_are_stored(store: Store) -> None:
    save_tasks(store)
    assert store.featureless() == (None, None)
    store.add_records([record(1), record(2)])

    found, since = store.featureless()

    assert found is not None
    assert (found.workload_id, found.target_id) == (WORKLOAD.workload_id, CPU.target_id)
    traces = {item.candidate.trace_id: item.candidate.trace for item in (record(1), record(2))}
    assert found.traces == traces
    assert since == record(1).created_at
    store.save_features(WORKLOAD.workload_id, CPU.target_id, dict.fromkeys(traces, row(1.0)))
    assert store.featureless(since) == (None, since)
    assert store.count_trials() == 2


def test_features_are_asked_for_one_task_at_a_time(store: Store) -> None:
    save_tasks(store)
    store.add_records([record(1), record(2, target_id=GPU.target_id)])

    seen = set()
    while (found := store.featureless()[0]) is not None:
        seen.add((found.target_id, len(found.traces)))
        store.save_features(
            found.workload_id, found.target_id, dict.fromkeys(found.traces, row(1.0))
        )

    assert seen == {(CPU.target_id, 1), (GPU.target_id, 1)}


def test_features_of_another_version_do_not_count(store: Store) -> None:
    save_tasks(store)
    store.add_records([record(1)])
    features = {record(1).candidate.trace_id: row(1.0)}
    store.save_features(
        WORKLOAD.workload_id, CPU.target_id, features, feature_version=FEATURE_VERSION - 1
    )

    assert store.featureless()[0] is not None
    assert len(store.cut_dataset(DatasetQuery()).training_set.dataset) == 0


def test_features_are_stored_once(store: Store) -> None:
    save_tasks(store)
    store.add_records([record(1)])
    trace_id = record(1).candidate.trace_id
    for value in (1.0, 2.0):
        store.save_features(WORKLOAD.workload_id, CPU.target_id, {trace_id: row(value)})

    dataset = store.cut_dataset(DatasetQuery()).training_set.dataset

    assert dataset.features.tolist() == [[1.0] * len(FEATURE_NAMES)]


# --- datasets ------------------------------------------------------------------------------------


def test_a_cut_has_what_trials_teach(store: Store) -> None:
    save_tasks(store)
    bound = replace(measured(2e-3), censored_secs=1.5e-3)
    store.add_records(
        [
            record(1),
            record(2, result=bound),
            record(3, result=failed()),
            record(4, result=failed(FailureKind.WORKER_LOST)),
            record(5, purpose=Purpose.FINAL),
            record(6),
            record(7, workload_id=OTHER_WORKLOAD.workload_id),
        ]
    )
    for workload in (WORKLOAD, OTHER_WORKLOAD):
        # The sixth has a trace that does not apply.
        features = {record(n).candidate.trace_id: row(n) for n in (1, 2, 3, 4, 5, 7)}
        store.save_features(
            workload.workload_id,
            CPU.target_id,
            features | {record(6).candidate.trace_id: b""},
        )

    cut = store.cut_dataset(DatasetQuery())

    dataset = cut.training_set.dataset
    assert dataset.features[:, 0].tolist() == [1, 2, 3, 7]
    np.testing.assert_array_equal(dataset.latency_secs, [1e-3, 1.5e-3, np.nan, 1e-3])
    assert dataset.censored.tolist() == [False, True, False, False]
    assert dataset.flops.tolist() == [256.0] * 4
    assert {task.operator for task in cut.training_set.tasks} == {
        "matmul float32",
        OTHER_WORKLOAD.workload_id,
    }
    assert cut.query.until is not None
    assert cut.digest == store.cut_dataset(cut.query).digest


def test_a_query_restricts_a_cut(store: Store) -> None:
    save_tasks(store)
    store.add_records(
        [
            record(1),
            record(2, workload_id=OTHER_WORKLOAD.workload_id),
            record(3, target_id=GPU.target_id),
        ]
    )
    while (found := store.featureless()[0]) is not None:
        store.save_features(
            found.workload_id, found.target_id, dict.fromkeys(found.traces, row(1.0))
        )

    def rows(**query: object) -> int:
        cut = store.cut_dataset(DatasetQuery(**query))  # type: ignore[arg-type]  # of many types
        return len(cut.training_set.dataset)

    assert rows() == 3
    assert rows(target_id=GPU.target_id) == 1
    assert rows(operator="matmul") == 2
    assert rows(operator="softmax") == 0
    assert rows(since=record(3).created_at) == 1
    assert rows(until=record(3).created_at) == 2


# --- versions ------------------------------------------------------------------------------------


def test_versions_are_listed_newest_first(store: Store) -> None:
    add_versions(store, "a", "b", "c")

    first = store.model_versions(limit=2, cursor=None)
    rest = store.model_versions(limit=2, cursor=first.next_cursor)

    assert [item.version for item in (*first.items, *rest.items)] == ["c", "b", "a"]
    assert first.items[0] == version("c", 2)


def test_a_version_that_is_known_stays_as_it_is(store: Store) -> None:
    add_versions(store, "a")
    store.add_model_version(version("a", 30), content=b"other", judge=b"other")

    assert store.model_version("a") == version("a")
    assert store.model_file("a", ModelFile.CONTENT) == b"a"
    assert store.model_file("a", ModelFile.JUDGE) == b"judge"


def test_unknown_versions_are_an_error(store: Store) -> None:
    with pytest.raises(NotFoundError, match="model list"):
        store.model_version("a")
    with pytest.raises(NotFoundError):
        store.model_file("a", ModelFile.CONTENT)
    with pytest.raises(NotFoundError):
        store.promote_model("a")


def test_the_last_promotion_counts_and_is_undone_by_a_rollback(store: Store) -> None:
    add_versions(store, "a", "b", "c")
    assert store.promoted_model() is None
    for name in ("a", "b", "b", "c"):
        store.promote_model(name)
    assert store.promoted_model() == "c"

    assert store.roll_back_model() == ("c", "b")
    assert store.roll_back_model() == ("b", "a")
    store.promote_model("c")
    assert store.roll_back_model() == ("c", "a")
    assert store.roll_back_model() == ("a", None)
    with pytest.raises(ConflictError, match="nothing to roll back"):
        store.roll_back_model()


# --- orders --------------------------------------------------------------------------------------


def test_an_order_is_taken_by_one_learner(store: Store) -> None:
    given = store.give_order(OrderKind.TRAIN, {"seed": 3})

    taken = at_once(lambda number: store.take_order(f"learner-{number}", TTL), threads=4)

    assert [order for order in taken if order is not None] == [given]
    assert store.order(given.order_id) == given


def test_an_order_whose_learner_died_is_taken_by_another(store: Store, clock: Clock) -> None:
    given = store.give_order(OrderKind.EVALUATE, {})
    store.take_order("first", TTL)
    assert store.take_order("second", TTL) is None
    clock.advance(TTL / 2)
    store.renew_order(given.order_id, "first", TTL)
    clock.advance(TTL / 2 + 1)
    assert store.take_order("second", TTL) is None
    clock.advance(TTL)

    assert store.take_order("second", TTL) == given
    with pytest.raises(ConflictError):
        store.finish_order(given.order_id, "first", result={})


def test_a_finished_order_says_what_came_of_it(store: Store) -> None:
    done = store.give_order(OrderKind.IMPORT, {}, b"a file")
    wrong = store.give_order(OrderKind.PROMOTE, {"version": "a"})
    assert store.take_order("learner", TTL) == done
    store.finish_order(done.order_id, "learner", result={"version": "a"})
    assert store.take_order("learner", TTL) == wrong
    store.finish_order(wrong.order_id, "learner", error="it is worse")
    assert store.take_order("learner", TTL) is None

    found = store.order(done.order_id)
    assert (found.state, found.result, found.content) == (OrderState.DONE, {"version": "a"}, None)
    assert found.finished_at is not None
    assert found.finished_at - found.created_at < timedelta(minutes=1)
    assert store.order(wrong.order_id).error == "it is worse"
    with pytest.raises(NotFoundError):
        store.order("unknown")
