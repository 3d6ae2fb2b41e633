"""The reference kernel: the same work in every check, so that a device can be compared with itself.

A matrix product of some rows per core: vector multiply-adds on all cores of the target, over
operands that fill a core's second cache level and more. Its schedule is written here by hand and
depends on nothing that changes. Imports TVM.
"""

from tvm.s_tir import Schedule

from schedules import ir
from schedules.operators import find_operator
from schedules.records import Candidate, trace_id
from schedules.target import Target
from schedules.trace import canonical_trace
from tuner.measure.protocol import MeasureBatch

REFERENCE_VERSION = 3
"""Goes up with every change of this module or of the plan in `tuner.measure.timing`: run times of
different versions are never compared."""

_ROWS_PER_CORE = 64
_COLUMNS = 512
_REDUCTION = 512
_TILE_ROWS = 4
_TILE_COLUMNS = 16


def reference_batch(target: Target) -> MeasureBatch:
    """Return the reference kernel as a batch of one candidate."""
    args = {"n": _ROWS_PER_CORE * target.cores, "m": _COLUMNS, "k": _REDUCTION}
    workload = ir.workload_from_call(find_operator("matmul").call(args))
    schedule = Schedule(ir.module_of(workload))
    product = schedule.get_sblock("matmul")
    tile = schedule.cache_write(product, 0, "local")
    i, j, k = schedule.get_loops(product)
    i_outer, i_inner = schedule.split(i, [None, _TILE_ROWS])
    j_outer, j_inner = schedule.split(j, [None, _TILE_COLUMNS])
    schedule.reorder(i_outer, j_outer, k, i_inner, j_inner)
    schedule.parallel(i_outer)
    schedule.reverse_compute_at(tile, j_outer)
    schedule.vectorize(schedule.get_loops(tile)[-1])
    schedule.unroll(i_inner)
    schedule.vectorize(j_inner)
    schedule.decompose_reduction(product, k)
    trace = canonical_trace(schedule.trace)
    candidate = Candidate(trace=trace, trace_id=trace_id(trace))
    return MeasureBatch(workload=workload, target=target, candidates=(candidate,))
