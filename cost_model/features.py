"""Features: one row of numbers for each scheduled program.

Of the package only this module, `cost_model.lowered` and `cost_model.task` import TVM; models work
on the rows alone.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm_ffi
from tvm import IRModule, s_tir, tirx
from tvm.s_tir import Schedule, meta_schedule
from tvm.sym import detect_linear_equation
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
from cost_model.footprint import Access, Dimension, Nest, analyse
from cost_model.launch import describe_launches
from cost_model.loop_nest import Axis, Loop, summarise
from cost_model.lowered import constant, element_bytes, launches_of
from cost_model.stores import pool
from cost_model.task import describe_task
from schedules.prepack import split
from schedules.target import Target
from schedules.winograd import expanded
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
    dominant block (`cost_model.loop_nest`), what that asks of the memory hierarchy
    (`cost_model.footprint`), TVM's features of the buffer stores pooled to one row
    (`cost_model.stores`), and for a GPU what the launches ask of its multiprocessors and memory
    (`cost_model.launch`).

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
    task = describe_task(workload, target)
    schedules = [_of_a_call(schedule) for schedule in schedules]
    rows = np.zeros((len(schedules), len(FEATURE_NAMES)), dtype=np.float32)
    rows[:, : len(task.columns)] = task.columns
    stores_of_all = _extract_stores(schedules, target, threads)
    for row, schedule, stores in zip(rows, schedules, stores_of_all, strict=True):
        if len(stores):
            nests = list(_nests(schedule.mod["main"].body, ()))
            nest = _dominant_nest(nests)
            row[len(task.columns) :] = [
                *summarise(nest.loops, task.machine.cores),
                *analyse(
                    nest,
                    task.machine,
                    flops=workload.flops,
                    roofline_secs=task.roofline_secs,
                    element_bytes=task.element_bytes,
                ),
                *_describe_program([loops for loops, _ in nests]),
                *pool(stores),
                *describe_launches(
                    launches_of(schedule.mod) if target.kind == "cuda" else (),
                    task.machine,
                    flops=workload.flops,
                    element_bytes=task.element_bytes,
                ),
            ]
    return rows


def _of_a_call(schedule: Any) -> Any:
    """Return a schedule without what it packs ahead of time, and with all loops there will be."""
    function = expanded(split(schedule.mod).module["main"])
    same = function.same_as(schedule.mod["main"])
    return schedule if same else Schedule(IRModule({"main": function}))


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


def _describe_program(nests: Sequence[tuple[Any, ...]]) -> list[float]:
    """Return one value for each of ``PROGRAM_COLUMNS``."""
    regions: dict[int, tuple[int, int]] = {}
    serial = 0
    for loops in nests:
        first = next((place for place, loop in enumerate(loops) if _is_parallel(loop)), None)
        if first is None:
            serial += math.prod(_extent(loop) for loop in loops)
            continue
        # Equal for all nests of one region: they share the loop.
        calls = math.prod(_extent(loop) for loop in loops[:first])
        chunks = math.prod(_extent(loop) for loop in loops[first:] if _is_parallel(loop))
        regions[loops[first].loop_var.__chandle__()] = (calls, chunks)
    return [
        math.log2(1 + sum(calls for calls, _ in regions.values())),
        math.log2(min((chunks for _, chunks in regions.values()), default=1)),
        math.log2(1 + len(nests)),
        math.log2(1 + serial),
    ]


def _is_parallel(loop: Any) -> bool:
    return loop.kind in (tirx.ForKind.PARALLEL, tirx.ForKind.THREAD_BINDING)


def _dominant_nest(nests: Sequence[tuple[tuple[Any, ...], Any]]) -> Nest:
    """Return the loops around the block with the most iterations, and what it reads and writes."""
    if not nests:
        return Nest()
    # An update runs as often as its initialisation and comes after it.
    loops, realize = max(
        reversed(nests), key=lambda nest: math.prod(_extent(loop) for loop in nest[0])
    )
    axes = _axes_by_variable(realize)
    iterators = _iterators_by_variable(realize)
    return Nest(
        loops=tuple(_loop(loop, axes) for loop in loops),
        iterators=tuple(iterators.get(loop.loop_var.__chandle__(), frozenset()) for loop in loops),
        extents=tuple(constant(var.dom.extent) for var in realize.block.iter_vars),
        accesses=_accesses(realize.block),
    )


def _loop(loop: Any, axes: Mapping[int, Axis]) -> Loop:
    return Loop(
        extent=_extent(loop),
        axis=axes.get(loop.loop_var.__chandle__(), Axis.OTHER),
        parallel=_is_parallel(loop),
        vectorized=loop.kind == tirx.ForKind.VECTORIZED,
        unrolled=loop.kind == tirx.ForKind.UNROLLED,
    )


def _accesses(block: Any) -> tuple[Access, ...]:
    numbers = {item.var.__chandle__(): place for place, item in enumerate(block.iter_vars)}
    variables = [item.var for item in block.iter_vars]
    found = []
    for regions, is_write in ((block.reads, False), (block.writes, True)):
        for region in regions:
            buffer = region.source.ty
            found.append(
                Access(
                    dimensions=tuple(
                        Dimension(
                            extent=constant(extent),
                            strides=_strides(part.min, variables, numbers),
                            window=constant(part.extent),
                        )
                        for extent, part in zip(buffer.shape, region.region, strict=True)
                    ),
                    element_bytes=element_bytes(buffer),
                    is_write=is_write,
                )
            )
    return tuple(found)


def _strides(
    index: Any, variables: Sequence[Any], numbers: Mapping[int, int]
) -> tuple[tuple[int, int], ...]:
    """Say how an index moves with each iterator; by one with those that it is not linear in."""
    if isinstance(index, tirx.Var):
        place = numbers.get(index.__chandle__())
        return () if place is None else ((place, 1),)
    coefficients = detect_linear_equation(index, list(variables))
    if len(coefficients) == len(variables) + 1:
        return tuple(
            (place, int(coefficient))
            for place, coefficient in enumerate(coefficients[:-1])
            if isinstance(coefficient, tirx.IntImm) and int(coefficient)
        )
    places = (numbers.get(variable.__chandle__()) for variable in undefined_vars(index))
    return tuple((place, 1) for place in places if place is not None)


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


def _iterators_by_variable(realize: Any) -> dict[int, frozenset[int]]:
    """Say for each loop variable, by its handle, which of the block's iterators it moves."""
    moved: dict[int, frozenset[int]] = {}
    for place, value in enumerate(realize.iter_values):
        for variable in undefined_vars(value):
            handle = variable.__chandle__()
            moved[handle] = moved.get(handle, frozenset()) | {place}
    return moved


def _extent(loop: Any) -> int:
    return constant(loop.extent)
