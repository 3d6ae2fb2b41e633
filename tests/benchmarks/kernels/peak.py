"""The float32 peak of a machine: multiply-adds on registers, on all cores at once.

Each core keeps `ACCUMULATORS` vectors in registers and multiplies and adds to each of them in turn:
enough of them to hide the latency, no memory is touched in between.
"""

from typing import Any

import numpy as np
import tvm
from tvm import te

from schedules import trace as traces
from schedules.space.vector_unit import vector_unit
from schedules.target import Target

ACCUMULATORS = 12
STEPS = 2**18


def flops(target: Target) -> float:
    """Return what a call of the kernel computes, a multiply-add counted as two."""
    return 2.0 * ACCUMULATORS * _lanes(target) * STEPS * target.cores


def kernel(target: Target) -> tuple[Any, list[Any]]:
    """Return the built library, whose ``main`` is the kernel, and arguments for it."""
    lanes, cores = _lanes(target), target.cores
    library = traces.build(_program(lanes, cores), tvm.target.Target(target.as_dict()))
    width = ACCUMULATORS * lanes
    values = np.full(width, 0.5, dtype=np.float32), np.zeros((cores, width), dtype=np.float32)
    return library, [tvm.runtime.tensor(value) for value in values]


def _lanes(target: Target) -> int:
    return vector_unit(tvm.target.Target(target.as_dict())).lanes("float32")


def _program(lanes: int, cores: int) -> Any:
    width = ACCUMULATORS * lanes
    factor = te.placeholder((width,), name="factor")
    step = te.reduce_axis((0, STEPS), name="step")
    # x <- x * factor + factor, which converges: no overflow, and no step can be left out.
    combine = te.comm_reducer(
        lambda x, y: tvm.tirx.call_intrin("float32", "tirx.fma", x, y, y),
        lambda dtype: tvm.tirx.const(1.0, dtype),
        name="chain",
    )
    chain = te.compute((cores, width), lambda c, v: combine(factor[v], axis=step), name="chain")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([factor, chain]))
    block = schedule.get_sblock("chain")
    core, vector, loop = schedule.get_loops(block)
    outer, inner = schedule.split(vector, [ACCUMULATORS, lanes])
    schedule.reorder(core, loop, outer, inner)
    cached = schedule.cache_write(block, 0, "local")
    schedule.reverse_compute_at(cached, core)
    schedule.parallel(core)
    schedule.unroll(outer)
    schedule.vectorize(inner)
    schedule.decompose_reduction(block, loop)
    return schedule.mod
