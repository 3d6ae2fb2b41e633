"""Features: one row of numbers for each scheduled program.

This is the only module of the package that imports TVM; models work on the rows alone.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm_ffi
from tvm import s_tir, tirx
from tvm.s_tir import meta_schedule
from tvm.target import Target as TvmTarget
from tvm.tirx.analysis import undefined_vars

from cost_model.arrays import FloatMatrix
from cost_model.columns import (
    BUFFERS_PER_STORE,
    FEATURE_NAMES,
    FEATURE_VERSION,
    INTENSITY_SAMPLES,
    STORE_COLUMNS,
)
from cost_model.loop_nest import Axis, Loop, summarise
from cost_model.stores import pool
from schedules.target import Target
from schedules.workload import Workload

__all__ = ["FEATURE_NAMES", "FEATURE_VERSION", "extract"]

_log = logging.getLogger(__name__)

# All that the extractor asks a target is whether it is a GPU; naming an architecture keeps TVM from
# looking for a device.
_EXTRACTOR_TARGETS = {
    "llvm": {"kind": "llvm"},
    "cuda": {"kind": "cuda", "arch": "sm_80"},
}


def extract(
    schedules: Sequence[Any], *, workload: Workload, target: Target, threads: int = 1
) -> FloatMatrix:
    """Extract the features of scheduled programs.

    A row holds what `FEATURE_NAMES` says: the workload and the target, the loop nest around the
    dominant block (`cost_model.loop_nest`), and TVM's features of the buffer stores pooled to one
    row (`cost_model.stores`).

    Parameters
    ----------
    schedules : sequence of tvm.s_tir.Schedule
        Post-processed schedules of one workload. They are not changed.
    workload : Workload
        The workload of all of them.
    target : Target
        The target of all of them.
    threads : int
        How many threads TVM may use; one needs 2 to 12 ms for a schedule.

    Returns
    -------
    numpy.ndarray
        float32, shape (len(schedules), len(FEATURE_NAMES)), finite. A program that TVM cannot
        lower has zeros in every column but the ``task`` ones, as no other program has; it cannot
        be built either, so a model learns what such a row is worth.
    """
    task = _task_columns(workload, target)
    rows = np.zeros((len(schedules), len(FEATURE_NAMES)), dtype=np.float32)
    rows[:, : len(task)] = task
    stores_of_all = _extract_stores(schedules, target, threads)
    for row, schedule, stores in zip(rows, schedules, stores_of_all, strict=True):
        if len(stores):
            loops = _dominant_loops(schedule.mod["main"].body)
            row[len(task) :] = [*summarise(loops, target.cores), *pool(stores)]
    return rows


def _task_columns(workload: Workload, target: Target) -> list[float]:
    flops, size_bytes = workload.flops, float(workload.size_bytes)
    return [
        math.log2(1.0 + flops),
        math.log2(1.0 + size_bytes),
        math.log2(1.0 + flops / max(size_bytes, 1.0)),
        math.log2(target.cores),
    ]


def _extract_stores(
    schedules: Sequence[Any], target: Target, threads: int
) -> list[npt.NDArray[np.float64]]:
    extractor = meta_schedule.feature_extractor.PerStoreFeature(
        buffers_per_store=BUFFERS_PER_STORE, arith_intensity_curve_num_samples=INTENSITY_SAMPLES
    )
    context = _extractor_context(TvmTarget(_EXTRACTOR_TARGETS[target.kind]), threads)
    # The extractor reads the schedule only, so the arguments' types can be left out.
    candidates = [meta_schedule.MeasureCandidate(schedule, []) for schedule in schedules]
    try:
        return [stores.numpy() for stores in extractor.extract_from(context, candidates)]
    except Exception:
        # One bad program fails the whole batch, so find it.
        return [_extract_one(extractor, context, candidate) for candidate in candidates]


def _extractor_context(target: Any, threads: int) -> Any:
    # The Python constructor of TuneContext first parses every tensor intrinsic that TVM knows. That
    # takes 15 to 40 s of CPU time in each process, and the extractor needs none of them.
    make = tvm_ffi.get_global_func("s_tir.meta_schedule.TuneContext")
    module, space_generator, search_strategy, logger = None, None, None, None
    any_seed = -1
    return make(
        module, target, space_generator, search_strategy, "features", threads, any_seed, logger
    )


def _extract_one(extractor: Any, context: Any, candidate: Any) -> npt.NDArray[np.float64]:
    try:
        stores: npt.NDArray[np.float64] = extractor.extract_from(context, [candidate])[0].numpy()
    except Exception as error:
        _log.info(
            "No features of a candidate that cannot be lowered",
            extra={"action": "extract_features_failed", "error": str(error)[-300:]},
        )
        return np.zeros((0, len(STORE_COLUMNS)))
    return stores


def _dominant_loops(body: Any) -> list[Loop]:
    """Return the loops, outermost first, around the block with the most iterations."""
    nests = list(_nests(body, ()))
    if not nests:
        return []
    # An update runs as often as its initialisation and comes after it.
    loops, realize = max(
        reversed(nests), key=lambda nest: math.prod(_extent(loop) for loop in nest[0])
    )
    axes = _axes_by_variable(realize)
    return [
        Loop(
            extent=_extent(loop),
            axis=axes.get(loop.loop_var.__chandle__(), Axis.OTHER),
            parallel=loop.kind in (tirx.ForKind.PARALLEL, tirx.ForKind.THREAD_BINDING),
        )
        for loop in loops
    ]


def _nests(statement: Any, loops: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield each innermost block's realisation with all loops around it."""
    if isinstance(statement, tirx.For):
        yield from _nests(statement.body, (*loops, statement))
    elif isinstance(statement, tirx.SeqStmt):
        for part in statement.seq:
            yield from _nests(part, loops)
    elif isinstance(statement, tirx.IfThenElse):
        yield from _nests(statement.then_case, loops)
        if statement.else_case is not None:
            yield from _nests(statement.else_case, loops)
    elif isinstance(statement, s_tir.SBlockRealize):
        inner = list(_nests(statement.block.body, loops))
        yield from inner or [(loops, statement)]
    elif hasattr(statement, "body"):
        yield from _nests(statement.body, loops)


def _axes_by_variable(realize: Any) -> dict[int, Axis]:
    """Say for each loop variable, by its handle, which axes of the block it moves along."""
    iters = list(realize.block.iter_vars)
    reductions = [var.iter_type == tirx.IterVar.CommReduce for var in iters]
    last = max((index for index, reduces in enumerate(reductions) if not reduces), default=-1)
    axes: dict[int, Axis] = {}
    for index, (reduces, value) in enumerate(zip(reductions, realize.iter_values, strict=True)):
        axis = Axis.REDUCE if reduces else Axis.LAST if index == last else Axis.OTHER
        for variable in undefined_vars(value):
            handle = variable.__chandle__()
            axes[handle] = axis if axes.get(handle, axis) is axis else Axis.FUSED
    return axes


def _extent(loop: Any) -> int:
    return int(loop.extent) if isinstance(loop.extent, tirx.IntImm) else 1
