"""Stages that are not tiled: copies, padding, and what stands beside a scheduled block."""

from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import meta_schedule

from schedules.space.vector_unit import vector_unit

SCHEDULED = "schedule_rule"
"""Annotation of blocks that a rule has scheduled: later rules of `PostOrderApply` leave them alone.
On the root block it keeps TVM's own parallel and vectorised loops away from all."""

TILED = "tiled"
STAGE = "stage"


def is_scheduled(schedule: Any) -> bool:
    """Whether a rule has chosen for the program as a whole."""
    return SCHEDULED in schedule.mod["main"].body.block.annotations


def own_loops(sch: Any, block: Any) -> list[Any]:
    """The loops around a block, if there is one for each of its axes and nothing else in them.

    Returns
    -------
    list of loops
        Empty where another block shares a loop, or a loop was split, fused or bound already.
    """
    loops = list(sch.get_loops(block))
    if not loops or len(sch.get_child_blocks(loops[0])) != 1:
        return []
    values = sch.get(loops[-1]).body.iter_values
    trivial = len(values) == len(loops) and all(
        value.same_as(sch.get(loop).loop_var) for value, loop in zip(values, loops, strict=True)
    )
    return loops if trivial else []


def makers(sch: Any, block: Any, buffer: Any) -> list[Any]:
    """The blocks that write a buffer which a block reads; none of a parameter."""
    return [
        producer
        for producer in sch.get_producers(block)
        if sch.get(producer).writes[0].source.same_as(buffer)
    ]


def parallel_stage(sch: Any, block: Any, lanes: int) -> None:
    """Spread a block with its own loops over the cores, and vectorise its last axis.

    Axes that are summed over stay where they are, inside.
    """
    axes = sch.get(block).iter_vars
    spatial = [int(axis.iter_type) == tirx.IterVar.DataPar for axis in axes]
    loops = list(sch.get_loops(block))
    leading = spatial.index(False) if False in spatial else len(loops)
    outer = loops[:leading]
    if leading == len(loops):
        last = outer.pop()
        rest = vectorized(sch, last, lanes)
        if rest is not None and not outer:
            outer = [rest]
    if outer:
        sch.parallel(sch.fuse(*outer))
    sch.annotate(block, SCHEDULED, STAGE)


def vectorized(sch: Any, loop: Any, lanes: int) -> Any:
    """Take a loop in vectors of up to so many lanes that divide it; return the loop over them.

    Returns
    -------
    loop or None
        None where the extent is odd, and nothing is done.
    """
    extent = int(sch.get(loop).extent)
    width = next((width for width in (lanes, lanes // 2, lanes // 4) if extent % width == 0), 1)
    if width <= 1:
        return None
    rest, lane = sch.split(loop, [None, width])
    sch.vectorize(lane)
    return rest


@tvm.ir.utils.derived_object
class Remainder(meta_schedule.schedule_rule.PyScheduleRule):
    """Spread what no rule has scheduled over the cores, beside blocks that one has.

    TVM's own rule for parallel and vectorised loops works on a whole program, and would undo what
    the others chose; so where one has chosen, this one takes its place.
    """

    def _initialize_with_tune_context(self, context: Any) -> None:
        self._lanes = vector_unit(context.target).lanes("float32")

    def apply(self, sch: Any, block: Any) -> list[Any]:
        """Return the one schedule."""
        if is_scheduled(sch) and own_loops(sch, block):
            parallel_stage(sch, block, self._lanes)
        return [sch]

    def clone(self) -> Any:
        """Return a rule for another context."""
        return Remainder()
