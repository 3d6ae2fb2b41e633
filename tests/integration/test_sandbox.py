"""Parsing what may kill the parser."""

import os
import signal
import time

import pytest

from schedules.errors import InvalidTargetError, InvalidTraceError, InvalidWorkloadError
from schedules.operators import find_operator
from schedules.records import DEFAULT_TRACE
from schedules.target import Target
from tests import programs
from tuner.sandbox import Sandbox


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()


def test_a_tag_is_the_target_that_the_compiler_says(sandbox):
    target = sandbox.tagged_target("nvidia/nvidia-h100")
    assert target.kind == "cuda"
    assert target.attributes["arch"] == "sm_90a"
    assert target.attributes["l2_cache_size_bytes"] == 52428800
    with pytest.raises(InvalidTargetError, match="nvidia-z9"):
        sandbox.tagged_target("nvidia/nvidia-z9")


def test_a_call_and_its_ir_resolve_to_one_workload(sandbox):
    call = find_operator("softmax").call({"m": 8, "n": 16})
    workload = sandbox.resolve_call(call)
    assert workload.call == call
    assert sandbox.resolve_ir(workload.ir, None).workload_id == workload.workload_id


@pytest.mark.parametrize(
    "text",
    [
        '{"root_index":0,"nodes":[{"type":"ffi.Array","data":[0]}]}',
        '{"root_index":0,"nodes":[{"type":"ir.IRModule","data":{"functions":0}}]}',
    ],
)
def test_ir_that_kills_the_parser_is_refused_and_the_next_is_served(sandbox, text):
    with pytest.raises(InvalidWorkloadError, match="SIGSEGV"):
        sandbox.resolve_ir(text, None)
    good = programs.ir_json(programs.scale(8))
    assert sandbox.resolve_ir(good, "good").name == "good"


def test_a_schedule_is_printed_with_the_code_that_it_compiles_to(sandbox):
    workload = sandbox.resolve_call(find_operator("softmax").call({"m": 8, "n": 16}))
    target = Target.parse({"kind": "llvm", "mcpu": "znver3", "num-cores": 2})
    program = sandbox.print_program(workload, target, DEFAULT_TRACE)
    assert "T.prim_func" in program.script or "def main" in program.script
    assert program.language == "assembly"
    assert program.code is not None
    assert "main" in program.code
    made_up = '[[["SamplePerfectTile",[],[1,2],[]]],[]]'
    with pytest.raises(InvalidTraceError, match="does not apply"):
        sandbox.print_program(workload, target, made_up)


def test_a_host_that_was_killed_is_replaced(sandbox):
    text = programs.ir_json(programs.scale(8))
    first = sandbox.resolve_ir(text, None)
    os.kill(sandbox._connection._process.pid, signal.SIGKILL)
    time.sleep(0.1)
    assert sandbox.resolve_ir(text, None) == first


def test_the_compiler_is_asked_about_targets(sandbox):
    sandbox.check_target(Target.parse({"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 4}))
    with pytest.raises(InvalidTargetError, match="mauve"):
        sandbox.check_target(Target.parse({"kind": "llvm", "mcpu": "mauve", "num-cores": 4}))
