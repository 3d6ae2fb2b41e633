"""CUDA candidates without a GPU: they are compiled for a named architecture, exported, imported."""

import shutil

import pytest
import tvm

from cost_model.xgboost_model import XgbCostModel
from schedules.ir import module_of, workload_from_call, workload_from_ir
from schedules.operators import find_operator, operators
from schedules.records import DEFAULT_TRACE
from schedules.space.dlight import dlight_schedule
from schedules.target import Target
from schedules.trace import canonical_trace, replay
from tests import programs
from tests.unit.schedules.test_operators import SHAPES
from tuner.measure import cuda_build
from tuner.measure.backend import CudaBackend
from tuner.meta_schedule_files import FileEntry, read_files, write_files
from tuner.search.evolutionary import EvolutionarySearch

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on the PATH")

ARCHITECTURES = ("sm_80", "sm_90")
ELF = b"\x7fELF"
# Of two of DLight's rules; each takes a second of nvcc or more.
_FAST = ("matmul", "softmax")
OPERATORS = [
    pytest.param(operator.name, marks=() if operator.name in _FAST else pytest.mark.slow)
    for operator in operators()
]


def gpu(arch: str) -> Target:
    return Target.parse({"kind": "cuda", "arch": arch})


def catalogue_workload(name: str, dtype: str = "float32"):
    return workload_from_call(find_operator(name).call(SHAPES[name][1], dtype))


def compiles(workload, target: Target, trace: str) -> bool:
    backend = CudaBackend(target, "cuda:0")
    built = cuda_build.build(backend.schedule(trace, module_of(workload)), target)
    return built.binary.startswith(ELF) and built.resources["registers_per_thread"] > 0


@pytest.mark.parametrize("name", OPERATORS)
def test_the_default_schedule_of_every_operator_compiles(name):
    place = [operator.name for operator in operators()].index(name)
    arch = ARCHITECTURES[place % len(ARCHITECTURES)]
    assert compiles(catalogue_workload(name), gpu(arch), DEFAULT_TRACE)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_scheduled_program_survives_export_and_import(tmp_path, name):
    workload, target = catalogue_workload(name), gpu("sm_90")
    schedule = dlight_schedule(module_of(workload), target)
    entry = FileEntry(
        ir=workload.ir,
        target=target.as_dict(),
        trace=canonical_trace(schedule.trace),
        run_secs=(1e-5,),
    )
    assert write_files(tmp_path, [entry]) == 1
    [found] = read_files(tmp_path)
    assert found == entry
    again = replay(found.trace, tvm.ir.load_json(found.ir))
    tvm.ir.assert_structural_equal(again.mod["main"].body, schedule.mod["main"].body)


def test_an_ir_workload_compiles_by_default():
    workload = workload_from_ir(programs.ir_json(programs.matmul(64, 64, 64)))
    assert compiles(workload, gpu("sm_90a"), DEFAULT_TRACE)


def test_what_the_compiler_refuses_is_an_error_with_its_words():
    with pytest.raises(cuda_build.CompilerError, match="undefined_here"):
        cuda_build.compile_source("__global__ void main_kernel() { undefined_here(); }", "sm_90")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [(operator.name, dtype) for operator in operators() for dtype in operator.dtypes],
)
def test_candidates_of_every_operator_compile_and_survive_export_and_import(
    tmp_path, name, dtype, arch
):
    workload, target = catalogue_workload(name, dtype), gpu(arch)
    search = EvolutionarySearch(
        workload=workload, target=target, space="default", seed=1, model=XgbCostModel(seed=1)
    )
    candidates = search.ask(4)
    assert candidates
    entries = [
        FileEntry(ir=workload.ir, target=target.as_dict(), trace=candidate.trace, run_secs=(1e-5,))
        for candidate in candidates
    ]
    write_files(tmp_path, entries)
    assert sorted(map(repr, read_files(tmp_path))) == sorted(map(repr, entries))
    assert any(compiles(workload, target, candidate.trace) for candidate in candidates)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_tensor_core_candidates_use_tensor_cores_and_compile(dtype):
    call = find_operator("matmul").call({"n": 256, "m": 256, "k": 256}, dtype)
    workload, target = workload_from_call(call), gpu("sm_90")
    search = EvolutionarySearch(
        workload=workload, target=target, space="tensor-core", seed=1, model=XgbCostModel(seed=1)
    )
    traces = [candidate.trace for candidate in search.ask(4)]
    assert any("wmma_sync" in trace for trace in traces)
    assert all(compiles(workload, target, trace) for trace in traces)
