"""Products by AMX compute what they should, on a CPU that has it or by a handler that stands in."""

import ctypes
import multiprocessing
import platform
import shutil
import subprocess
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tvm

from schedules import trace as traces
from schedules import verify
from schedules.space.sketch import matrix_tiles
from schedules.target import Target
from tests.unit.schedules.test_packed import CASES, samples, workload_of

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or not shutil.which("gcc"),
    reason="needs gcc and a CPU of the x86-64 family",
)

AMX = Target.parse(
    {
        "kind": "llvm",
        "mcpu": "x86-64-v4",
        "mattr": ["+amx-bf16", "+amx-int8", "+amx-tile"],
        "num-cores": 2,
    }
)
EXTREMES = np.array([-128, -127, -1, 0, 1, 127], np.int8)


@pytest.fixture(scope="module")
def with_amx(tmp_path_factory):
    """Processes that have AMX."""
    library = tmp_path_factory.mktemp("amx") / "amx.so"
    source = Path(__file__).with_name("amx.c")
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-Werror", "-fPIC", "-shared", "-o", str(library), str(source)],
        check=True,
    )
    flags = Path("/proc/cpuinfo").read_text()
    stand_in = () if "amx_tile" in flags else (str(library),)
    with ProcessPoolExecutor(
        1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare,
        initargs=stand_in,
    ) as pool:
        yield pool


def _prepare(*libraries: str) -> None:
    for library in libraries:
        ctypes.CDLL(library)


def _errors(case: str, dtype: str, count: int, extremes: bool) -> list[str]:
    """Run samples; say what is wrong, and whether no instruction of AMX was in one."""
    workload = workload_of(case, dtype)
    inputs = verify.random_inputs(workload.tensors, seed=3)
    if extremes:
        chance = np.random.default_rng(3)
        inputs = [chance.choice(EXTREMES, tensor.shape) for tensor in workload.tensors[:-1]]
        inputs += verify.random_inputs(workload.tensors, seed=3)[-1:]
    expected = verify.reference_outputs(workload, inputs)
    wrong = []
    for schedule in samples(workload, AMX, count):
        if "dot_amx" not in str(schedule.trace):
            continue
        buffers = [tvm.runtime.tensor(value) for value in inputs]
        library = traces.build(schedule.mod, tvm.target.Target(AMX.as_dict()))
        if "tdpb" not in library.inspect_source("asm"):
            wrong.append("no product of tiles")
        library["main"](*buffers)
        output = verify.compare(workload, [buffers[-1].numpy()], expected, "numpy")
        wrong.append("" if output.passed else f"{output.error} in {schedule.trace}")
    return wrong


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
@pytest.mark.parametrize("case", ["matmul", "matmul of primes", "conv2d_nhwc of points"])
def test_samples_compute_what_the_reference_does(with_amx, case, dtype):
    assert case in CASES
    wrong = with_amx.submit(_errors, case, dtype, 4, extremes=False).result()
    assert wrong
    assert not any(wrong), wrong


def test_samples_are_exact_for_the_extremes_of_int8(with_amx):
    wrong = with_amx.submit(_errors, "matmul of primes", "int8", 4, extremes=True).result()
    assert wrong
    assert not any(wrong), wrong


def test_of_a_large_matrix_as_much_is_kept_as_the_tiles_hold():
    best = matrix_tiles(1024, 1024)[0]
    assert (best.rows, best.columns) == (32, 32)


@pytest.mark.parametrize(("rows", "columns"), [(4, 1024), (1, 16), (17, 40)])
def test_tiles_are_no_larger_than_a_small_matrix_needs(rows, columns):
    for tile in matrix_tiles(rows, columns):
        assert tile.rows < rows + 16
        assert tile.columns < columns + 16
