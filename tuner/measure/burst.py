"""Some microseconds of work that shows at which speed a core runs.

A register tile of a matrix product, summed up over operands that the first cache level holds:
multiply-adds in every cycle, and loads in most. It takes the same time whenever a core is alone.
Somebody on the core's other thread costs it 5 % and more, and twice the time where both do such
work. Imports TVM.
"""

import functools
from collections.abc import Callable

import numpy as np
import tvm
from tvm import te
from tvm.s_tir import Schedule

from schedules import detect, trace
from schedules.space.vector_unit import vector_unit

_ROWS = 6
_VECTORS = 2
_DEPTH = 96
_TURNS = 36


@functools.cache
def make_burst() -> Callable[[], None]:
    """Build the work, once in a process; what is returned does it on the calling thread alone."""
    target = tvm.target.Target(detect.native_target().as_dict())
    lanes = vector_unit(target).lanes("float32")
    library = trace.build(_tile(_VECTORS * lanes, lanes), target)
    function = library["main"]
    operands = [
        tvm.runtime.tensor(np.full(shape, 0.5, dtype="float32"))
        for shape in ((_ROWS, _DEPTH), (_DEPTH, _VECTORS * lanes), (_ROWS, _VECTORS * lanes))
    ]
    return lambda: function(*operands)


def _tile(columns: int, lanes: int) -> tvm.IRModule:
    left = te.placeholder((_ROWS, _DEPTH), "float32")
    right = te.placeholder((_DEPTH, columns), "float32")
    turn, k = te.reduce_axis((0, _TURNS)), te.reduce_axis((0, _DEPTH))
    product = te.compute(
        (_ROWS, columns), lambda i, j: te.sum(left[i, k] * right[k, j], axis=[turn, k]), "product"
    )
    schedule = Schedule(te.create_prim_func([left, right, product]))
    block = schedule.get_sblock("product")
    tile = schedule.cache_write(block, 0, "local")
    i, j, *sums = schedule.get_loops(block)
    vector, lane = schedule.split(j, [None, lanes])
    schedule.reorder(*sums, i, vector, lane)
    for loop in (i, vector):
        schedule.unroll(loop)
    schedule.vectorize(lane)
    _, j = schedule.get_loops(tile)
    schedule.vectorize(schedule.split(j, [None, lanes])[-1])
    schedule.decompose_reduction(block, sums[0])
    return schedule.mod
