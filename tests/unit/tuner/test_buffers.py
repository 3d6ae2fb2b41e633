"""What a kernel must not do to its buffers, done by real kernels."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tvm
from tvm import tirx

from schedules import verify
from schedules.workload import TensorSpec
from tuner.measure.buffers import ALIGNMENT_BYTES, Buffers

TENSORS = (
    TensorSpec(name="A", shape=(8,), dtype="float32"),
    TensorSpec(name="B", shape=(8,), dtype="float32", is_output=True),
)


def doubling(*, steps: int = 8, shift: int = 0, clears_input: bool = False) -> Any:
    """A kernel that doubles A into B, with mistakes."""
    a = tirx.decl_buffer((8,), "float32", name="A")
    b = tirx.decl_buffer((8,), "float32", name="B")
    i = tirx.Var("i", "int32")
    body = tirx.BufferStore(b, a[i] * tirx.FloatImm("float32", 2.0), [i + shift])
    if clears_input:
        body = tirx.SeqStmt([body, tirx.BufferStore(a, tirx.FloatImm("float32", 0.0), [i])])
    loop = tirx.For(i, 0, steps, tirx.ForKind.SERIAL, body)
    function = tirx.PrimFunc([a, b], loop).with_attr({"global_symbol": "main"})
    return tvm.tirx.build(
        tvm.IRModule({"main": function}), target=tvm.target.Target({"kind": "llvm"})
    )


@pytest.mark.parametrize(
    ("mistake", "damage"),
    [
        ({}, None),
        ({"steps": 9}, "it wrote outside of B"),
        ({"shift": -1}, "it wrote outside of B"),
        ({"clears_input": True}, "it changed its input A"),
    ],
)
def test_writes_where_none_belong_are_found(mistake, damage):
    values = verify.random_inputs(TENSORS, seed=1)
    buffers = Buffers(TENSORS, values, tvm.cpu())
    doubling(**mistake)["main"](*buffers.arguments)
    assert buffers.damage() == damage
    if damage is None:
        np.testing.assert_array_equal(buffers.outputs[0], 2 * values[0])


def test_moved_buffers_hold_the_first_values_at_another_place():
    values = verify.random_inputs(TENSORS, seed=1)
    buffers = Buffers(TENSORS, values, tvm.cpu())
    doubling(clears_input=True)["main"](*buffers.arguments)
    moved = buffers.moved()
    doubling()["main"](*moved.arguments)
    assert moved.damage() is None
    np.testing.assert_array_equal(moved.outputs[0], 2 * values[0])
    assert buffers.damage() == "it changed its input A"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "bool"])
@pytest.mark.parametrize("shape", [(), (3,), (5, 7)])
def test_buffers_of_every_dtype_hold_their_values_at_aligned_addresses(dtype, shape):
    tensor = TensorSpec(name="T", shape=shape, dtype=dtype, is_output=True)
    value = np.ones(shape, ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    buffers = Buffers([tensor], [value], tvm.cpu())
    [argument] = buffers.arguments
    assert (str(argument.dtype), tuple(argument.shape)) == (dtype, shape)
    assert buffers.outputs[0].tobytes() == value.tobytes()
    [(block, start, _)] = buffers._guarded
    assert (block.ctypes.data + start) % ALIGNMENT_BYTES == 0
