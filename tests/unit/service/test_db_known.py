from dataclasses import replace

from service.db import known
from service.db.known import Known
from tests.contracts.store_values import CALL, CPU, WORKLOAD


def test_a_workload_is_kept_once_its_call_is_known():
    memory = Known()
    memory.add_workload(replace(WORKLOAD, call=None))
    assert memory.workload(WORKLOAD.workload_id) is None
    memory.add_workload(WORKLOAD)
    assert memory.workload(WORKLOAD.workload_id) == WORKLOAD


def test_calls_and_targets_are_found_by_their_own_ids():
    memory = Known()
    memory.add_call(CALL.key, WORKLOAD)
    memory.add_target(CPU)
    assert memory.workload_for_call(CALL.key) == WORKLOAD
    assert memory.target(CPU.target_id) == CPU
    assert memory.target(CALL.key) is None


def test_what_was_not_asked_for_longest_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(known, "CAPACITY", 2)
    memory = Known()
    for key in ("first", "second"):
        memory.add_call(key, WORKLOAD)
    memory.workload_for_call("first")
    memory.add_call("third", WORKLOAD)
    assert memory.workload_for_call("second") is None
    assert memory.workload_for_call("first") == WORKLOAD
