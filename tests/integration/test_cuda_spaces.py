"""Our schedule spaces for GPUs: what they make, for which programs, and that it compiles."""

import shutil
from typing import Any

import pytest
from tvm import te, tirx

from schedules.canonical import objects
from schedules.ir import module_of, workload_from_call, workload_from_ir
from schedules.operators import find_operator
from schedules.space import warpgroup_tile
from schedules.space.structure import blocks_of
from schedules.space.warpgroup_tile import SHARED_BYTES, THREADS, Window
from schedules.target import Target
from schedules.trace import canonical_trace, replay
from schedules.workload import Workload
from tests import programs
from tuner.measure import cuda_build
from tuner.search.points import Space

HOPPER = Target.parse({"kind": "cuda", "arch": "sm_90a"})
AMPERE = Target.parse({"kind": "cuda", "arch": "sm_80"})
PRODUCTS = (
    ("matmul", {"n": 256, "m": 256, "k": 192}, "float16", "nn"),
    ("dense", {"n": 256, "m": 256, "k": 192}, "bfloat16", "nt"),
    ("batch_matmul", {"b": 3, "n": 256, "m": 64, "k": 64}, "float16", "nn"),
    ("dense", {"n": 256, "m": 256, "k": 256}, "int8", "nt"),
)
IMAGE = {"n": 2, "h": 16, "w": 16, "ci": 64, "co": 64, "kernel_size": 3, "padding": 1}
LENGTH = {"n": 4, "l": 256, "ci": 64, "co": 64, "kernel_size": 3, "padding": 2, "dilation": 2}
VOLUME = {"n": 1, "d": 8, "h": 8, "w": 8, "ci": 64, "co": 64, "kernel_size": 3, "padding": 1}
CONVOLUTIONS = (
    ("conv2d_nhwc", IMAGE, "float16", "8.16x64x64_4_3.1.1_3.1.1"),
    ("conv2d_nhwc", {**IMAGE, "stride": 2}, "bfloat16", "2.8.8x64x64_4_1.1.1_3.2.1_3.2.1"),
    (
        "conv2d_nhwc",
        {**IMAGE, "kernel_size": 1, "padding": 0},
        "float16",
        "8.16x64x64_4_1.1.1_1.1.1",
    ),
    ("conv2d_nhwc_bn_relu", IMAGE, "float16", "8.16x64x64_4_3.1.1_3.1.1"),
    ("conv1d_nlc", LENGTH, "float16", "128x64x64_4_3.1.2"),
    ("conv3d_ndhwc", VOLUME, "float16", "2.8.8x64x64_4_3.1.1_3.1.1_3.1.1"),
)
ROWS = (
    ("softmax", {"m": 64, "n": 1000}, "float32"),
    ("softmax", {"m": 64, "n": 96}, "float32"),
    ("layer_norm", {"m": 64, "n": 1024}, "float32"),
    ("rms_norm", {"m": 64, "n": 1024}, "float16"),
    ("gemv", {"m": 512, "k": 1024}, "float16"),
)

compiled = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on the PATH")


def workload(op: str, args: dict[str, int], dtype: str) -> Workload:
    return workload_from_call(find_operator(op).call(args, dtype))


def designs(item: Workload, target: Target, seed: int = 1) -> list[Any]:
    """One applied point of each design of the default space."""
    space = Space(workload=item, target=target, space="default", seed=seed)
    return [space.apply(space.open_point(number), seed) for number in range(len(space))]


def tiles_in(applied) -> list[warpgroup_tile.Tile]:
    found = warpgroup_tile.named_in(canonical_trace(applied.schedule.trace))
    return sorted(set(found), key=lambda tile: tile.name)


def names_of(applied) -> list[str]:
    return [str(instruction.kind.name) for instruction in applied.schedule.trace.insts]


def launch(module) -> dict[str, int]:
    """Extents of the thread axes of a program."""
    bound = (
        node
        for node in objects(module["main"].body)
        if isinstance(node, tirx.For) and node.thread_binding is not None
    )
    return {str(loop.thread_binding.thread_tag): int(loop.extent) for loop in bound}


def shared_numbers(schedule) -> list[str]:
    """Stages that write one number for each row to shared memory."""
    return [
        str(schedule.get(block).name_hint)
        for block in map(schedule.get_sblock, (item.name for item in blocks_of(schedule)))
        for region in schedule.get(block).writes
        if region.source.scope() == "shared" and len(region.source.ty.shape) == 1
    ]


# --- warp-group tiles ----------------------------------------------------------------------------


@compiled
@pytest.mark.parametrize(("op", "args", "dtype", "layout"), PRODUCTS)
def test_products_of_halves_are_tiled_for_warp_groups(op, args, dtype, layout):
    item = workload(op, args, dtype)
    tiled = [applied for applied in designs(item, HOPPER) if applied and tiles_in(applied)]
    assert tiled
    for applied in tiled:
        [tile] = tiles_in(applied)
        assert f"_{layout}_{dtype}_" in tile.name
        assert tile.shared_bytes <= SHARED_BYTES
        again = replay(canonical_trace(applied.schedule.trace), module_of(item))
        assert launch(again.mod)["threadIdx.x"] == THREADS
        built = cuda_build.build(again.mod, HOPPER)
        assert built.resources["spill_store_bytes"] == 0


@compiled
@pytest.mark.parametrize(("op", "args", "dtype", "expected"), CONVOLUTIONS)
def test_convolutions_are_tiled_as_products_of_what_windows_see(op, args, dtype, expected):
    found = [applied for applied in designs(workload(op, args, dtype), HOPPER) if applied]
    tiled = {tile.name: applied for applied in found for tile in tiles_in(applied)}
    [name] = [name for name in tiled if name.endswith(f"_{expected}")]
    built = cuda_build.build(tiled[name].schedule.mod, HOPPER)
    assert built.resources["spill_store_bytes"] == 0


@pytest.mark.parametrize(
    ("args", "dtype"),
    [
        ({**IMAGE, "h": 14, "w": 14}, "float16"),
        ({**IMAGE, "groups": 2}, "float16"),
        ({**IMAGE, "ci": 48}, "float16"),
        (IMAGE, "int8"),
    ],
)
def test_other_convolutions_have_no_warp_group_tiles(args, dtype):
    found = designs(workload("conv2d_nhwc", args, dtype), HOPPER)
    assert not any(tiles_in(applied) for applied in found if applied)


@compiled
def test_elementwise_consumers_go_with_a_tile():
    a = te.placeholder((256, 128), "float16", name="a")
    b = te.placeholder((128, 256), "float16", name="b")
    bias = te.placeholder((256,), "float32", name="bias")
    k = te.reduce_axis((0, 128), name="k")
    product = te.compute(
        (256, 256),
        lambda i, j: te.sum(a[i, k].astype("float32") * b[k, j].astype("float32"), axis=k),
        name="product",
    )
    biased = te.compute((256, 256), lambda i, j: product[i, j] + bias[j], name="biased")
    out = te.compute(
        (256, 256), lambda i, j: te.max(biased[i, j], 0.0).astype("float16"), name="out"
    )
    item = workload_from_ir(programs.ir_json(te.create_prim_func([a, b, bias, out])))
    applied = next(found for found in designs(item, HOPPER) if found and tiles_in(found))
    # The tile's start, its sum, and one stage for all that follows.
    assert len(blocks_of(applied.schedule)) == 3
    assert cuda_build.build(applied.schedule.mod, HOPPER).resources["spill_store_bytes"] == 0


@pytest.mark.parametrize(
    ("args", "dtype", "target"),
    [
        ({"n": 256, "m": 256, "k": 192}, "float32", HOPPER),
        ({"n": 256, "m": 256, "k": 192}, "float16", AMPERE),
        ({"n": 250, "m": 256, "k": 192}, "float16", HOPPER),
        ({"n": 256, "m": 256, "k": 100}, "float16", HOPPER),
    ],
)
def test_other_products_have_no_warp_group_tiles(args, dtype, target):
    found = designs(workload("matmul", args, dtype), target)
    assert not any(tiles_in(applied) for applied in found if applied)


@pytest.mark.parametrize(
    ("points", "windows"),
    [
        ((128,), (Window(),)),
        ((2, 8, 8), (Window(), Window(taps=3, stride=2), Window(taps=5, dilation=2))),
        ((128,), (Window(taps=3),)),
    ],
)
def test_a_tile_is_known_by_its_name(points, windows):
    tile = warpgroup_tile.Tile(
        points=points,
        columns=256,
        depth=4096,
        stages=4,
        dtype="bfloat16",
        transposed=len(points) == 1,
        windows=windows,
    )
    assert list(warpgroup_tile.named_in(f'["Tensorize",["b0"],["{tile.name}",1],[]]')) == [tile]
    assert warpgroup_tile.called_by(warpgroup_tile.function_name(tile)) == tile
    assert tile.pitch >= tile.columns
    assert tile.shared_bytes >= tile.ring_bytes


# --- rows and elements ---------------------------------------------------------------------------


@compiled
@pytest.mark.parametrize(("op", "args", "dtype"), ROWS)
def test_rows_are_scheduled_as_a_whole(op, args, dtype):
    found = designs(workload(op, args, dtype), HOPPER)
    assert found
    assert all(found)
    for applied in found:
        axes = launch(applied.schedule.mod)
        assert axes["threadIdx.x"] % 32 == 0
        assert axes["threadIdx.x"] * axes.get("threadIdx.y", 1) <= 1024
        # Threads that read a shared sum would not wait for the one that writes it.
        assert not shared_numbers(applied.schedule)
        built = cuda_build.build(applied.schedule.mod, HOPPER)
        assert built.resources.get("shared_bytes", 0) <= 48 * 1024


def test_an_input_that_is_read_twice_can_be_kept():
    kept, plain = designs(workload("layer_norm", {"m": 64, "n": 1024}, "float32"), HOPPER)
    assert sorted(["CacheRead" in names_of(kept), "CacheRead" in names_of(plain)]) == [False, True]


@compiled
def test_elements_are_taken_in_vectors():
    item = workload("gelu", {"m": 256, "n": 256}, "float32")
    [applied] = designs(item, HOPPER)
    assert {"Vectorize", "Bind"} <= set(names_of(applied))
    assert cuda_build.build(applied.schedule.mod, HOPPER).binary


def test_a_reduction_across_memory_is_left_to_the_stock_rules():
    x = te.placeholder((256, 512), "float32", name="x")
    k = te.reduce_axis((0, 256), name="k")
    sums = te.compute((512,), lambda j: te.sum(x[k, j], axis=k), name="sums")
    item = workload_from_ir(programs.ir_json(te.create_prim_func([x, sums])))
    assert any(designs(item, HOPPER))
