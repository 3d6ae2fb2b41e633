"""Contractions as matrix products with packed operands and register tiles."""

from math import ceil
from typing import Any

import tvm
from tvm.s_tir import meta_schedule

from schedules.space.axis_roles import contraction_in, separate_axes
from schedules.space.constants import reads_constant
from schedules.space.contraction import Contraction, is_product
from schedules.space.long_sums import in_parts
from schedules.space.matrix_form import MatrixForm
from schedules.space.rules import applicable
from schedules.space.sketch import (
    Sketch,
    dot_sketches,
    dots_of,
    packed_ahead,
    sketches,
    turned_sketches,
)
from schedules.space.stage import SCHEDULED, TILED, is_scheduled
from schedules.space.vector_unit import VectorUnit, vector_unit
from schedules.space.winograd import mark, winograd_sketches

_MOST_DESIGNS = 16


@tvm.ir.utils.derived_object
class PackedContraction(meta_schedule.schedule_rule.PyScheduleRule):
    """Tile a contraction for registers and caches, and pack its operands.

    Applies to every sum of products of two operands that has rows, columns and a sum
    (`schedules.space.contraction`). The block becomes ``C[b, m, n] += A[b, m, k] * B[b, n, k]``
    with rows and columns each fused to one axis. B is packed to ``[b, n / width, k, width]``, A is
    read in place or gathered to ``[b, m, k]``; the sums of a register tile stay in registers for
    the whole of k, and the write-back takes the elementwise consumers along. Odd extents are padded
    in the packed copies. Constant operands are copied ahead of time. Sampled: how the tiles are
    grouped to parallel tasks and cache blocks. Convolutions of stride one have designs that compute
    them by Winograd's filtering beside these (`schedules.space.winograd`).
    Source: Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008.
    """

    def _initialize_with_tune_context(self, context: Any) -> None:
        self._target = context.target
        self._cores = int(context.target.attrs.get("num-cores", 1))

    def apply(self, sch: Any, block: Any) -> list[Any]:
        """Return one schedule for each sketch, and the block as it is."""
        found = contraction_in(sch, block)
        if found is None:
            return [sch]
        unit = vector_unit(self._target)
        whole, parts, contraction = in_parts(sch, block, found, unit)
        chosen = self._sketches(whole, parts, contraction, unit)
        sums, products = _count_sums(whole)
        # Each contraction multiplies the number of designs, and so does each sum by TVM's rules,
        # which do nothing once a block beside it is scheduled.
        untouched = [sch] if sums == 1 and not is_scheduled(whole) else []
        most = _MOST_DESIGNS ** (1 / products) - len(untouched)
        few = chosen[:: ceil(len(chosen) / most)]
        packed = applicable(whole, few, lambda design, sketch: _schedule(design, parts, sketch))
        tiled = winograd_sketches(sch, block, unit, self._cores)
        filtered = applicable(sch, tiled, lambda design, sketch: mark(design, block, sketch))
        return [*untouched, *packed, *filtered] or [sch]

    def _sketches(
        self, sch: Any, block: Any, contraction: Contraction, unit: VectorUnit
    ) -> list[Sketch]:
        rows, columns = (
            reads_constant(sch, block, operand.read)
            for operand in (contraction.rows, contraction.columns)
        )
        if dots := dots_of(contraction, self._target):
            return packed_ahead(dot_sketches(contraction, unit, dots), rows=rows, columns=columns)
        return [
            *packed_ahead(sketches(contraction, unit), rows=rows, columns=columns),
            *packed_ahead(turned_sketches(contraction, unit), rows=columns, columns=rows),
        ]

    def clone(self) -> Any:
        """Return a rule for another context."""
        return PackedContraction()


def _count_sums(sch: Any) -> tuple[int, int]:
    """How many blocks of the program sum over an axis, and how many of them are products."""
    aside = sch.copy()
    blocks = [aside.get(child) for child in aside.get_child_blocks(aside.get_sblock("root"))]
    # A variance is a product too, but of no two operands, and scheduled by now.
    marks = [block.annotations.get(SCHEDULED) for block in blocks]
    products = sum(
        mark == TILED or (mark is None and is_product(block))
        for mark, block in zip(marks, blocks, strict=True)
    )
    return sum(block.init is not None for block in blocks), max(1, products)


def _schedule(sch: Any, block: Any, sketch: Sketch) -> None:
    separate_axes(sch, block)
    form = MatrixForm(sch, block, sketch)
    form.read_operands()
    form.fuse_axes()
    form.tile()
