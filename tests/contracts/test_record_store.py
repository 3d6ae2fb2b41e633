"""The contract of `tuner.store.RecordStore`, over every implementation."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from schedules.records import DEFAULT_TRACE, Purpose, default_candidate
from schedules.target import Target
from schedules.workload import OperatorCall, TensorSpec, Workload
from service.db.embedded import open_store
from tests.contracts.test_store_models import version
from tests.records import TARGET, WORKLOAD_ID, candidate, record
from tuner.publish import choose_best
from tuner.store import MemoryStore, RecordStore

WORKLOAD = Workload(
    workload_id=WORKLOAD_ID,
    name="test",
    ir="{}",
    tensors=(TensorSpec(name="A", shape=(4,), dtype="float32", is_output=True),),
    flops=4.0,
)


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path) -> Iterator[RecordStore]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        with open_store(f"sqlite:///{tmp_path / 'records.db'}") as store:
            yield store


def best_of(secs: float, number: int = 1):
    finals = [
        record(default_candidate(), 4.0, purpose=Purpose.FINAL, passed=True),
        record(candidate(number), secs, purpose=Purpose.FINAL, passed=True),
    ]
    return finals, choose_best(finals)


def test_trials_come_back_as_they_were_oldest_first(store):
    trials = [record(candidate(number), 1.0 + number) for number in range(5)]
    for trial in trials:
        store.add(WORKLOAD, TARGET, [trial])
    found = store.trials(WORKLOAD_ID, TARGET.target_id)
    assert [item.record_id for item in found] == [item.record_id for item in trials]
    assert [item.result for item in found] == [item.result for item in trials]


def test_finals_are_not_trials(store):
    finals, _ = best_of(1.0)
    store.add(WORKLOAD, TARGET, finals)
    assert store.trials(WORKLOAD_ID, TARGET.target_id) == ()


def test_a_record_that_is_added_twice_is_stored_once(store):
    trial = record(candidate(1), 1.0)
    store.add(WORKLOAD, TARGET, [trial])
    store.add(WORKLOAD, TARGET, [trial])
    assert len(store.trials(WORKLOAD_ID, TARGET.target_id)) == 1


def test_other_targets_records_are_not_returned(store):
    store.add(WORKLOAD, TARGET, [record(candidate(1), 1.0)])
    other = Target.parse({**TARGET.as_dict(), "num-cores": 64})
    assert store.trials(WORKLOAD_ID, other.target_id) == ()
    assert store.best(WORKLOAD_ID, other.target_id) is None


def test_the_bests_of_an_operator_come_with_their_workloads(store):
    call = OperatorCall(op="matmul", args={"n": 4, "m": 4, "k": 4}, dtype="float32")
    workload = replace(WORKLOAD, call=call)
    finals, best = best_of(1.0)
    store.add(workload, TARGET, finals)
    asked = ("matmul", "float32", TARGET.target_id)
    assert list(store.bests_of_operator(*asked)) == []
    store.publish(best)
    [(found, its_best)] = store.bests_of_operator(*asked)
    assert (found.workload_id, its_best.trace_id) == (WORKLOAD_ID, best.trace_id)
    for other in (
        ("softmax", *asked[1:]),
        ("matmul", "int8", TARGET.target_id),
        ("matmul", "float32", "f" * 64),
    ):
        assert list(store.bests_of_operator(*other)) == []


def test_the_bests_of_a_family_come_with_their_workloads(store):
    finals, best = best_of(1.0)
    store.add(replace(WORKLOAD, family_id="products"), TARGET, finals)
    store.publish(best)
    [(found, its_best)] = store.bests_of_family("products", TARGET.target_id)
    assert (found.workload_id, found.family_id) == (WORKLOAD_ID, "products")
    assert its_best.trace_id == best.trace_id
    assert list(store.bests_of_family("sums", TARGET.target_id)) == []
    assert list(store.bests_of_family("products", "f" * 64)) == []


def test_a_default_that_is_best_is_nothing_for_other_shapes(store):
    call = OperatorCall(op="matmul", args={"n": 4, "m": 4, "k": 4}, dtype="float32")
    finals, best = best_of(9.0)
    store.add(replace(WORKLOAD, call=call, family_id="products"), TARGET, finals)
    store.publish(best)
    assert store.best(WORKLOAD_ID, TARGET.target_id).trace == DEFAULT_TRACE
    assert list(store.bests_of_operator("matmul", "float32", TARGET.target_id)) == []
    assert list(store.bests_of_family("products", TARGET.target_id)) == []


def test_a_published_best_is_served(store):
    finals, best = best_of(1.0)
    store.add(WORKLOAD, TARGET, finals)
    assert store.publish(best) == best
    assert store.best(WORKLOAD_ID, TARGET.target_id).trace_id == best.trace_id


def test_what_was_measured_last_takes_the_place_even_where_it_is_slower(store):
    # The session measured the stored best beside it: that evidence is newer than the stored figure.
    for secs, number in ((1.0, 1), (1.2, 2)):
        finals, best = best_of(secs, number)
        store.add(WORKLOAD, TARGET, finals)
        store.publish(best)
    assert store.best(WORKLOAD_ID, TARGET.target_id).latency_secs == 1.2


def test_records_survive_a_new_process(tmp_path):
    url = f"sqlite:///{tmp_path / 'records.db'}"
    with open_store(url) as store:
        store.add(WORKLOAD, TARGET, [record(candidate(1), 1.0)])
    with open_store(url) as store:
        assert len(store.trials(WORKLOAD_ID, TARGET.target_id)) == 1


def test_without_a_version_in_use_there_is_no_base_model(store):
    assert store.base_model() is None


def test_the_base_model_is_the_version_in_use(tmp_path):
    with open_store(f"sqlite:///{tmp_path / 'records.db'}") as store:
        store._store.add_model_version(version("a"), content=b"a model", judge=b"its judge")
        store._store.promote_model("a")
        assert store.base_model() == b"a model"
