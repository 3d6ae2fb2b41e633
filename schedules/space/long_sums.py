"""Sums that are too long for a panel of columns to stay in the second cache level, cut in parts."""

from math import gcd
from typing import Any

from schedules.space.axis_roles import contraction_in, index_dtype, index_map, separate_axes
from schedules.space.constants import reads_constant
from schedules.space.contraction import Contraction, Role
from schedules.space.moves import divisors
from schedules.space.stage import SCHEDULED, STAGE
from schedules.space.structure import describe
from schedules.space.vector_unit import VectorUnit, dtype_bits

_LONGEST_PANEL_BYTES = 5 * 2**17
"""Rows take their part of the second level, which has a megabyte or two."""
_PANEL_VECTORS = 2
"""Vectors in a row of most register tiles."""
_LEAST_ROWS = 32
"""With fewer a panel is hardly read twice."""
_MOST_PARTS = 8


def in_parts(
    sch: Any, block: Any, found: Contraction, unit: VectorUnit
) -> tuple[Any, Any, Contraction]:
    """Cut a contraction's sum in parts if it is long.

    It is where there are rows enough to read each panel of columns again and again, and a panel is
    longer than what the second cache level keeps beside the rows. The parts are one contraction
    with one more batch axis, which counts them; a stage that is scheduled here adds them up. Sums
    over constants stay whole: TVM takes no copy ahead of time whose indices are computed.
    Source: rfactor, Suriana et al., Parallel Associative Reductions in Halide, 2017.

    Parameters
    ----------
    sch : tvm.s_tir.Schedule
        Not changed.
    block : block
        With its own loops.
    found : Contraction
        What `schedules.space.axis_roles.contraction_in` finds in it.
    unit : VectorUnit
        The target's registers.

    Returns
    -------
    schedule, block and Contraction
        What to schedule: a copy and its parts, or what was given.
    """
    cut = None if _has_constant(sch, block, found) else _cut(found, unit)
    if cut is None:
        return sch, block, found
    axis, steps = cut
    design = sch.copy()
    separate_axes(design, block)

    def parts_first(*axes: Any) -> list[Any]:
        rest = [*axes[:axis], axes[axis] % steps, *axes[axis + 1 :]]
        return [axes[axis] // steps, *rest]

    arity, dtype = len(design.get(block).iter_vars), index_dtype(design.get(block))
    design.transform_block_layout(block, index_map(parts_first, arity, dtype))
    parts = design.rfactor(design.get_loops(block)[0], 0)
    _add_up(design, block, unit)
    part = contraction_in(design, parts)
    assert part is not None
    return design, parts, part


def _has_constant(sch: Any, block: Any, found: Contraction) -> bool:
    reads = (found.rows.read, found.columns.read)
    return any(reads_constant(sch, block, read) for read in reads)


def _cut(found: Contraction, unit: VectorUnit) -> tuple[int, int] | None:
    """The axis to cut, and the steps of a part; None where the sum is better left whole."""
    vector_bytes = unit.lanes(found.dtype) * dtype_bits(found.columns.dtype) // 8
    longest = _LONGEST_PANEL_BYTES // (_PANEL_VECTORS * vector_bytes)
    whole = found.extent(Role.SUM)
    if whole <= longest or found.extent(Role.ROW) < _LEAST_ROWS:
        return None
    # A phase decides with some axes of the sum which products are zero.
    extents = {
        place: found.axes[place].extent
        for place in found.places(Role.SUM)
        if place not in found.conditions
    }
    if not extents:
        return None
    axis, extent = max(extents.items(), key=lambda item: item[1])
    parts = [
        count for count in divisors(extent) if count <= _MOST_PARTS and whole // count <= longest
    ]
    return (axis, extent // parts[0]) if parts else None


def _add_up(sch: Any, total: Any, unit: VectorUnit) -> None:
    """Schedule the sum of the parts: all of them for one vector, then the next."""
    facts = describe(sch.get(total))
    loops = sch.get_loops(total)
    last = -1 if facts.contiguous is None else facts.contiguous
    part, contiguous = loops[facts.kinds.index("reduction")], loops[last]
    outer = [loop for loop in loops if not (loop.same_as(part) or loop.same_as(contiguous))]
    lanes = unit.lanes(facts.writes[0].dtype)
    common = gcd(int(sch.get(contiguous).extent), lanes)
    vector, lane = sch.split(contiguous, [None, common] if common > 1 else [1, None])
    sch.reorder(*outer, vector, part, lane)
    if common > 1:
        sch.vectorize(lane)
    sch.parallel(sch.fuse(*outer))
    sch.decompose_reduction(total, part)
    for done in (total, sch.get_sblock("root")):
        sch.annotate(done, SCHEDULED, STAGE)
