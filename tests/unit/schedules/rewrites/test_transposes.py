"""Copies that transpose turn blocks in registers."""

import numpy as np
import pytest
import tvm
from tvm import s_tir, te, tirx

from schedules import trace as traces
from schedules.canonical import objects
from schedules.detect import native_target
from schedules.rewrites.transposes import turn_in_registers
from tests.unit.schedules.test_packed import NATIVE, random_samples

TARGET = tvm.target.Target(native_target().as_dict())


def panels(rows, columns, width, *, lanes=16, dtype="float32", index="int32", value=None):
    """A matrix copied to panels of rows that lie side by side, padded with ones."""
    x = te.placeholder((rows, columns), name="x", dtype=dtype)
    count = -(-rows // width)

    def element(panel, step, row):
        at = panel * width + row
        read = x[at, step] if value is None else value(x, at, step)
        one = tirx.const(1, dtype)
        return read if rows % width == 0 else tirx.if_then_else(at < rows, read, one)

    copied = te.compute((count, columns, width), element, name="copied")
    function = te.create_prim_func([x, copied], index_dtype_override=index)
    schedule = s_tir.Schedule(function)
    panel, _, row = schedule.get_loops(schedule.get_sblock("copied"))
    vector, lane = schedule.split(row, [None, lanes])
    schedule.parallel(panel)
    schedule.unroll(vector)
    schedule.vectorize(lane)
    return schedule.mod["main"]


def is_turned(function):
    body = turn_in_registers(function).body
    return any(isinstance(node, tirx.Shuffle) for node in objects(body))


SHAPES = [(64, 48), (64, 53), (50, 16), (33, 37), (16, 400)]


@pytest.mark.parametrize(
    ("rows", "columns", "lanes", "dtype", "index"),
    [
        *((*shape, lanes, "float32", "int32") for shape in SHAPES for lanes in (4, 8, 16)),
        *((33, 37, lanes, dtype, "int32") for lanes in (4, 16) for dtype in ("float16", "int8")),
        (33, 37, 16, "float32", "int64"),
    ],
)
def test_blocks_are_turned(rows, columns, lanes, dtype, index):
    width = 2 * lanes
    function = panels(rows, columns, width, lanes=lanes, dtype=dtype, index=index)
    assert is_turned(function)
    x = np.random.default_rng(5).integers(-99, 99, (rows, columns)).astype(dtype)
    count = -(-rows // width)
    padded = np.ones((count * width, columns), dtype)
    padded[:rows] = x
    found = tvm.runtime.tensor(np.zeros((count, columns, width), dtype))
    traces.build(tvm.IRModule({"main": function}), TARGET)["main"](tvm.runtime.tensor(x), found)
    expected = padded.reshape(count, width, columns).transpose(0, 2, 1)
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize(
    "function",
    [
        panels(64, 15, 32),
        panels(64, 48, 32, value=lambda x, at, step: x[at, step] * 2),
        panels(64, 48, 32, value=lambda x, at, step: x[step, at]),
        panels(64, 48, 32, value=lambda x, at, step: x[at, 47 - step]),
        panels(64, 48, 32, value=lambda x, at, step: x[at, step // 2]),
        panels(64, 48, 32, value=lambda x, at, step: x[0, step]),
        panels(64, 48, 32, value=lambda x, at, step: tirx.if_then_else(at > 3, x[at, step], 0.0)),
    ],
    ids=["short", "computed", "alike", "backwards", "divided", "one row", "starts late"],
)
def test_other_copies_stay_as_they_are(function):
    assert turn_in_registers(function).same_as(function)


@pytest.mark.parametrize(("rows", "columns", "depth"), [(37, 77, 45), (48, 64, 64), (24, 100, 500)])
def test_dense_layers_are_right(rows, columns, depth):
    x, w = te.placeholder((rows, depth), name="x"), te.placeholder((columns, depth), name="w")
    k = te.reduce_axis((0, depth), name="k")
    product = te.compute((rows, columns), lambda i, j: te.sum(x[i, k] * w[j, k], axis=k))
    module = tvm.IRModule({"main": te.create_prim_func([x, w, product])})
    generator = np.random.default_rng(5)
    left, right = (
        generator.standard_normal(s).astype("float32") for s in ((rows, depth), (columns, depth))
    )
    turned = 0
    for schedule in random_samples(module, NATIVE, 6):
        found = tvm.runtime.tensor(np.zeros((rows, columns), "float32"))
        turned += is_turned(schedule.mod["main"])
        built = traces.build(schedule.mod, TARGET)
        built["main"](tvm.runtime.tensor(left), tvm.runtime.tensor(right), found)
        np.testing.assert_allclose(found.numpy(), left @ right.T, rtol=1e-3, atol=1e-4)
    assert turned
