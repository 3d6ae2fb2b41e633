"""Programs for GPUs that are scheduled by hand, whose accesses can be counted by hand too."""

import math
from typing import Any

import pytest
import tvm
from tvm import te
from tvm.s_tir import Schedule

from cost_model.features import FEATURE_NAMES, extract
from cost_model.lowered import launches_of
from schedules.target import Target
from schedules.workload import TensorSpec, Workload

SIZE = 1024
HOPPER = Target.parse({"kind": "cuda", "arch": "sm_90a"})
AMPERE = Target.parse({"kind": "cuda", "arch": "sm_80"})
CPU = Target.parse({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 4})
WORKLOAD = Workload(
    workload_id="0" * 64,
    name="copy",
    ir="",
    tensors=tuple(
        TensorSpec(name=name, shape=(SIZE, SIZE), dtype="float32", is_output=name == "B")
        for name in "AB"
    ),
    flops=1.0 * SIZE**2,
)


def program(*, transposed: bool = False) -> Schedule:
    a = te.placeholder((SIZE, SIZE), name="A")
    b = te.compute((SIZE, SIZE), lambda i, j: (a[j, i] if transposed else a[i, j]) + 1.0, name="B")
    return Schedule(tvm.IRModule({"main": te.create_prim_func([a, b])}))


def copy(*, along: str, vector: int = 1) -> Schedule:
    """One row or column for each block, 128 threads along it."""
    schedule = program()
    i, j = schedule.get_loops(schedule.get_sblock("B"))
    outer, inner = (i, j) if along == "rows" else (j, i)
    schedule.reorder(outer, inner)
    _, thread, lane = schedule.split(inner, [None, 128, vector])
    schedule.bind(outer, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    schedule.vectorize(lane)
    return schedule


def transposition(*, padded: bool) -> Schedule:
    """Tiles of 32 x 32 by way of shared memory, each by one warp."""
    schedule = program(transposed=True)
    block = schedule.get_sblock("B")
    tile = schedule.cache_read(block, 0, "shared")
    i, j = schedule.get_loops(block)
    i_outer, i_inner = schedule.split(i, [None, 32])
    j_outer, j_inner = schedule.split(j, [None, 32])
    schedule.reorder(i_outer, j_outer, i_inner, j_inner)
    place = schedule.fuse(i_outer, j_outer)
    schedule.bind(place, "blockIdx.x")
    schedule.bind(j_inner, "threadIdx.x")
    schedule.compute_at(tile, place)
    schedule.bind(schedule.get_loops(tile)[-1], "threadIdx.x")
    if padded:
        schedule.storage_align(tile, 0, 0, 32, 1)
    return schedule


def row_of(schedule: Any, target: Target = HOPPER) -> dict[str, float]:
    [row] = extract([schedule], workload=WORKLOAD, target=target)
    return {
        name.removeprefix("gpu_program."): value
        for name, value in zip(FEATURE_NAMES, row.tolist(), strict=True)
        if name.startswith("gpu_program.")
    }


def test_neighbouring_threads_should_take_neighbouring_elements() -> None:
    coalesced, strided = row_of(copy(along="rows")), row_of(copy(along="columns"))

    for name in ("read", "write"):
        assert coalesced[f"{name}_segments_over_least"] == 0
        # 32 segments for 32 floats, where 4 would do.
        assert strided[f"{name}_segments_over_least"] == 3
    for name in ("read", "written"):
        assert coalesced[f"block_{name}_bytes"] == pytest.approx(math.log2(1 + 4 * SIZE))
        assert strided[f"block_{name}_bytes"] == pytest.approx(math.log2(1 + 32 * SIZE))
    assert coalesced["flops_per_byte"] == pytest.approx(math.log2(1 + 1 / 8))


def test_vectors_take_fewer_requests_of_more_segments() -> None:
    [launch] = launches_of(copy(along="rows", vector=4).mod)

    assert [(access.requests, access.segments) for access in launch.accesses] == 2 * [
        (SIZE * SIZE // 128, 16)
    ]
    assert row_of(copy(along="rows", vector=4))["read_segments_over_least"] == 0


def test_blocks_are_spread_over_the_multiprocessors_of_the_architecture() -> None:
    hopper, ampere = row_of(copy(along="rows")), row_of(copy(along="rows"), AMPERE)

    # 1024 blocks of 4 warps, 16 to a multiprocessor; of those there are 132 and 108.
    assert hopper["blocks"] == pytest.approx(math.log2(1025))
    assert hopper["warps_per_block"] == pytest.approx(math.log2(5))
    assert hopper["occupancy"] == 1
    assert hopper["waves"] == pytest.approx(math.log2(1 + 1024 / (16 * 132)))
    assert ampere["waves"] == pytest.approx(math.log2(1 + 1024 / (16 * 108)))
    assert hopper["multiprocessor_utilisation"] == pytest.approx(1024 / (8 * 132))
    assert ampere["multiprocessor_utilisation"] == pytest.approx(1024 / (10 * 108))


def test_padding_takes_the_conflicts_from_a_transposition() -> None:
    plain, padded = row_of(transposition(padded=False)), row_of(transposition(padded=True))

    assert plain["shared_read_conflicts"] == 5
    assert padded["shared_read_conflicts"] == 0
    assert plain["shared_write_conflicts"] == padded["shared_write_conflicts"] == 0
    assert plain["shared_bytes"] == pytest.approx(math.log2(1 + 4 * 32 * 32))
    assert padded["shared_bytes"] == pytest.approx(math.log2(1 + 4 * 32 * 33))
    assert plain["read_segments_over_least"] == plain["write_segments_over_least"] == 0


def test_registers_are_what_a_thread_keeps() -> None:
    schedule = copy(along="rows")
    kept = schedule.cache_write(schedule.get_sblock("B"), 0, "local")
    schedule.reverse_compute_at(kept, schedule.get_loops(schedule.get_sblock("B"))[2])

    [launch] = launches_of(schedule.mod)

    assert launch.local_bytes == 4
    assert launch.shared_bytes == 0


def test_threads_beside_each_other_fill_a_warp() -> None:
    # 8 along the rows and 16 along the columns: a warp has 4 rows of 8 floats.
    schedule = program()
    i, j = schedule.get_loops(schedule.get_sblock("B"))
    i_outer, y = schedule.split(i, [None, 16])
    j_outer, x = schedule.split(j, [None, 8])
    schedule.reorder(i_outer, j_outer, y, x)
    schedule.bind(schedule.fuse(i_outer, j_outer), "blockIdx.x")
    schedule.bind(y, "threadIdx.y")
    schedule.bind(x, "threadIdx.x")

    [launch] = launches_of(schedule.mod)

    assert launch.threads == 128
    assert [access.segments for access in launch.accesses] == [4, 4]
    assert launch.accesses[0].requests == 4 * launch.blocks


def test_two_grids_are_two_launches() -> None:
    a = te.placeholder((SIZE,), name="A")
    b = te.compute((SIZE,), lambda i: a[i] + 1.0, name="B")
    c = te.compute((SIZE,), lambda i: b[i] * 2.0, name="C")
    schedule = Schedule(tvm.IRModule({"main": te.create_prim_func([a, c])}))
    for name in "BC":
        [loop] = schedule.get_loops(schedule.get_sblock(name))
        outer, thread = schedule.split(loop, [None, 64])
        schedule.bind(outer, "blockIdx.x")
        schedule.bind(thread, "threadIdx.x")

    assert [launch.blocks for launch in launches_of(schedule.mod)] == [16, 16]


def test_a_program_for_a_cpu_has_zeros() -> None:
    schedule = program()
    schedule.parallel(schedule.get_loops(schedule.get_sblock("B"))[0])

    assert set(row_of(schedule, CPU).values()) == {0.0}
