"""Copies that move words of four bytes across what they read turn blocks, byte for byte."""

import numpy as np
import pytest
import tvm
from tvm import s_tir, te, tirx

from schedules import trace as traces
from schedules.canonical import objects
from schedules.ir import workload_from_call
from schedules.operators import find_operator
from schedules.rewrites.unsigned_bytes import store_unsigned
from schedules.rewrites.word_transposes import turn_words
from tests.unit.schedules.test_packed import NATIVE, check
from tests.unit.schedules.test_prepack import samples

TARGET = tvm.target.Target(NATIVE.as_dict())
WORD = 4
PANELS = 3


def panels(rows, steps, read, shape, *, through=None, index="int32"):
    """A scheduled copy to panels of rows, ``made[panel, step, row, byte]``."""
    shape = [tirx.const(extent, index) for extent in shape]
    source = te.placeholder(shape, name="source", dtype="int8")
    held = te.compute(shape, lambda *at: through(source[at]), name="held") if through else source
    made = te.compute(
        [tirx.const(extent, index) for extent in (PANELS, steps, rows, WORD)],
        lambda p, s, r, b: read(held, p * rows + r, s * WORD + b),
        name="made",
    )
    schedule = s_tir.Schedule(te.create_prim_func([source, made]))
    panel, step, row, byte = schedule.get_loops(schedule.get_sblock("made"))
    schedule.reorder(panel, row, step, byte)
    schedule.parallel(panel)
    schedule.vectorize(byte)
    return schedule.mod


def in_place(x, row, column):
    return x[row, column]


def turns(function):
    """How many rows the blocks have that are turned."""
    calls = [node for node in objects(function.body) if isinstance(node, tvm.ir.Call)]
    named = [str(call.args[0].value) for call in calls if call.op.name == "tirx.call_extern"]
    return sorted(int(name.rsplit("_", 1)[1]) for name in named if "turn" in name)


def made_by(module, shape):
    chance = np.random.default_rng(3)
    source = chance.integers(-128, 128, shape[0], dtype=np.int8)
    buffers = [tvm.runtime.tensor(value) for value in (source, np.full(shape[1], 99, np.int8))]
    traces.build(module, TARGET)["main"](*buffers)
    return source, buffers[1].numpy()


def panels_of(matrix, rows, steps):
    """What NumPy makes of a matrix, which is as large as all panels."""
    return matrix.reshape(PANELS, rows, steps, WORD).transpose(0, 2, 1, 3)


@pytest.mark.parametrize(
    ("rows", "steps", "expected"),
    [
        (2, 16, [2]),
        (14, 37, [14]),
        (16, 33, [16]),
        (17, 16, [1, 16]),
        (48, 64, [16]),
        (50, 20, [2, 16]),
    ],
)
@pytest.mark.parametrize("flips", [False, True], ids=["as they are", "flipped"])
def test_blocks_of_words_are_turned(rows, steps, expected, flips):
    sign = tirx.const(-128, "int8")

    def read(x, row, column):
        return tirx.bitwise_xor(x[row, column], sign) if flips else x[row, column]

    shape = (PANELS * rows, steps * WORD)
    module = panels(rows, steps, read, shape)
    assert turns(turn_words(module["main"])) == expected
    source, made = made_by(module, (shape, (PANELS, steps, rows, WORD)))
    matrix = source ^ np.int8(-128) if flips else source
    assert np.array_equal(made, panels_of(matrix, rows, steps))


@pytest.mark.parametrize("cut", [(0, 0), (1, 0), (17, 0), (0, 1), (0, 66), (18, 67)])
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_blocks_over_the_edge_hold_zeros(cut, index):
    rows, steps = 18, 32
    whole = (PANELS * rows, steps * WORD)
    kept = tuple(extent - less for extent, less in zip(whole, cut, strict=True))

    def read(x, row, column):
        inside = tirx.all(row < kept[0], column < kept[1])
        return tirx.if_then_else(inside, x[row, column], tirx.const(0, "int8"))

    module = panels(rows, steps, read, kept, index=index)
    assert turns(turn_words(module["main"])) == [2, 16]
    source, made = made_by(module, (kept, (PANELS, steps, rows, WORD)))
    padded = np.pad(source, [(0, less) for less in cut])
    assert np.array_equal(made, panels_of(padded, rows, steps))


def test_points_of_a_picture_are_rows():
    rows, steps, width = 14, 16, 7
    module = panels(
        rows, steps, lambda x, row, column: x[row // width, row % width, column], (6, width, 64)
    )
    assert turns(turn_words(module["main"])) == [14]
    source, made = made_by(module, ((6, width, 64), (PANELS, steps, rows, WORD)))
    assert np.array_equal(made, panels_of(source.reshape(-1, 64), rows, steps))


@pytest.mark.parametrize(
    "module",
    [
        panels(8, 15, in_place, (24, 60)),
        panels(8, 16, lambda x, row, column: x[column, row], (64, 24)),
        panels(8, 16, lambda x, row, column: x[row // 5, row % 5, column], (5, 6, 64)),
        panels(8, 16, lambda x, row, column: x[row * 2 // 3, column], (24, 64)),
        panels(8, 16, in_place, (24, 64), through=lambda value: value + tirx.const(1, "int8")),
    ],
    ids=["few steps", "along rows", "with gaps", "not straight", "made inside"],
)
def test_other_copies_stay_as_they_are(module):
    assert turn_words(module["main"]).same_as(module["main"])


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("dense", {"n": 37, "m": 53, "k": 131}),
        ("matmul", {"n": 45, "m": 64, "k": 96}),
        ("conv2d_nhwc", {"n": 1, "h": 7, "w": 6, "ci": 64, "co": 32, "kernel_size": 1}),
    ],
)
def test_programs_with_turned_panels_are_exact(op, args):
    workload = workload_from_call(find_operator(op).call(args, "int8"))
    schedules = samples(workload)
    packed = [turn_words(store_unsigned(schedule.mod["main"])) for schedule in schedules]
    assert any(turns(function) for function in packed)
    check(workload, schedules[::4])
