"""Canonical traces and their replay."""

import json

import pytest
import tvm
import tvm_ffi
from tvm.s_tir import meta_schedule

from schedules import trace as traces
from schedules.errors import InvalidTraceError
from schedules.records import DEFAULT_TRACE, default_candidate, trace_id
from tests import programs


@pytest.fixture(scope="module")
def module():
    return tvm.IRModule({"main": programs.matmul(32, 32, 32)})


@pytest.fixture(scope="module")
def schedule(module):
    context = meta_schedule.TuneContext(
        module,
        target=tvm.target.Target({"kind": "llvm", "mcpu": "x86-64", "num-cores": 2}),
        space_generator="post-order-apply",
        search_strategy="replay-trace",
        rand_state=1,
        num_threads=1,
    )
    context.pre_tuning(max_trials=4, num_trials_per_iter=1)
    return context.generate_measure_candidates()[0].sch


def test_replay_rebuilds_the_program_and_the_trace(module, schedule):
    canonical = traces.canonical_trace(schedule.trace)
    again = traces.replay(canonical, module)
    assert tvm_ffi.structural_equal(again.mod, schedule.mod)
    assert traces.canonical_trace(again.trace) == canonical


def test_a_trace_through_tvms_json_database_keeps_its_identity(module, schedule, tmp_path):
    database = meta_schedule.database.JSONDatabase(work_dir=str(tmp_path))
    workload = database.commit_workload(module)
    database.commit_tuning_record(
        meta_schedule.database.TuningRecord(schedule.trace, workload, [1.0])
    )
    loaded = meta_schedule.database.JSONDatabase(work_dir=str(tmp_path))
    [record] = loaded.get_all_tuning_records()
    assert traces.canonical_trace(record.trace) == traces.canonical_trace(schedule.trace)


def test_booleans_and_integers_are_one_form():
    assert traces.parse_trace("[[[true, 1]], []]") == traces.parse_trace("[[[1, true]],[]]")


def test_the_default_trace_changes_nothing(module):
    assert tvm_ffi.structural_equal(traces.replay(DEFAULT_TRACE, module).mod, module)
    assert default_candidate().trace_id == trace_id(traces.parse_trace("[ [], [] ]"))


@pytest.mark.parametrize("text", ["", "7", "{}", "[]", "[[]]", "[[],[],[]]", "[1,2]"])
def test_text_that_is_no_trace_is_refused(text):
    with pytest.raises(InvalidTraceError):
        traces.parse_trace(text)


def test_a_trace_of_another_program_is_refused(schedule):
    other = tvm.IRModule({"main": programs.scale(8)})
    with pytest.raises(InvalidTraceError, match="does not apply"):
        traces.replay(traces.canonical_trace(schedule.trace), other)


def test_a_trace_with_unknown_instructions_is_refused(module):
    with pytest.raises(InvalidTraceError, match="does not apply"):
        traces.replay(json.dumps([[["Fly", [], [], []]], []]), module)


def test_a_gpu_build_keeps_the_callers_pass_context():
    gpu = tvm.target.Target({"kind": "cuda", "arch": "sm_90"})
    with tvm.transform.PassContext(opt_level=2, config={"tirx.disable_vectorize": True}):
        context = traces.build_context(gpu)
    assert context.opt_level == 2
    assert dict(context.config) == {
        "tirx.disable_vectorize": True,
        "tirx.disable_storage_rewrite": True,
    }
