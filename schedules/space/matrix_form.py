"""The steps that make one block a matrix product with packed operands and register tiles."""

from math import gcd
from typing import Any

import tvm
from tvm import tirx

from schedules.nests import is_conditional
from schedules.prepack import AHEAD
from schedules.space import dot_tile
from schedules.space.axis_roles import drop_unit_axes, index_dtype, index_map
from schedules.space.contraction import Role, find_contraction
from schedules.space.dots import LANES
from schedules.space.moves import divisor, grouped
from schedules.space.sketch import Pack, Sketch
from schedules.space.stage import (
    SCHEDULED,
    STAGE,
    TILED,
    makers,
    own_loops,
    parallel_stage,
    vectorized,
)


class MatrixForm:
    """Turns one block to a matrix product, step by step, on a schedule."""

    def __init__(self, sch: Any, block: Any, sketch: Sketch) -> None:
        self._sch = sch
        self._block = block
        self._sketch = sketch
        self._tile = sketch.tile
        self._index_dtype = index_dtype(sch.get(block))
        self._inline_layouts()
        found = find_contraction(sch.get(block))
        assert found is not None
        self._axes = found.turned() if sketch.turned else found
        tile, rows = sketch.tile, self._axes.extent(Role.ROW)
        uneven = rows % tile.rows > 0 or self._axes.extent(Role.COLUMN) % tile.columns > 0
        self._reads_over_edge = uneven and sketch.gather is Pack.NEVER

    def _inline_layouts(self) -> None:
        """Read through the producers that only move elements."""
        for producer in self._sch.get_producers(self._block):
            moves = isinstance(self._sch.get(producer).body.value, tvm.ir.TensorLoad)
            if moves and own_loops(self._sch, producer):
                self._sch.compute_inline(producer)

    def read_operands(self) -> None:
        """Give the operands that are copied, and the output, buffers of the block's own axes."""
        sch, block = self._sch, self._block
        producers = [made for made in sch.get_producers(block) if _is_inlinable(sch, made)]
        self._pack = self._gather = None
        if self._sketch.pack is not Pack.NEVER:
            self._pack = sch.reindex(block, ("read", self._axes.columns.read))
        if self._sketch.gather is not Pack.NEVER or self._reads_over_edge:
            self._gather = sch.reindex(block, ("read", self._axes.rows.read))
        stays = None if self._reads_over_edge else self._gather
        copies = [copy for copy in (self._pack, stays) if copy is not None]
        for producer in producers:
            readers = [sch.get(reader) for reader in sch.get_consumers(producer)]
            # With conditions of padding no vector of a picture's points is read as one.
            pads = self._axes.is_picture and is_conditional(sch.get(producer).body.value)
            if not pads and all(
                any(reader.same_as(sch.get(copy)) for copy in copies) for reader in readers
            ):
                sch.compute_inline(producer)
            else:
                parallel_stage(sch, producer, self._tile.lanes)
        self._back = sch.reindex(block, ("write", 0))
        self._take_epilogue()

    def _take_epilogue(self) -> None:
        """Let the only consumer write back, if it has the output's axes in the same order.

        One with other producers stays a stage: TVM moves a block only to where all of them are.
        """
        sch = self._sch
        consumers = sch.get_consumers(self._back)
        if len(consumers) != 1:
            return
        [consumer] = consumers
        if len(sch.get_producers(consumer)) > 1:
            return
        if own_loops(sch, consumer) and follows(sch.get(consumer), sch.get(self._back)):
            sch.compute_inline(self._back)
            drop_unit_axes(sch, consumer)
            self._back = consumer

    def fuse_axes(self) -> None:
        """Make one axis of all rows and one of all columns; pad them to whole tiles."""
        sch, block, axes = self._sch, self._block, self._axes
        rows, columns = axes.rows, axes.columns
        whole = self._map(range(len(axes.axes)))
        # Buffers first: their maps are in terms of the block's present axes.
        if self._pack is not None:
            sch.transform_layout(
                block,
                ("read", columns.read),
                self._map(columns.axes),
                assume_injective_transform=True,
            )
        if self._gather is not None:
            sch.transform_layout(
                block, ("read", rows.read), self._map(rows.axes), assume_injective_transform=True
            )
        back = self._map(axes.output)
        sch.transform_layout(block, ("write", 0), back, assume_injective_transform=True)
        sch.transform_block_layout(block, whole)
        sch.transform_block_layout(self._back, back)
        for copy, operand in ((self._pack, columns), (self._gather, rows)):
            if copy is not None:
                sch.transform_block_layout(copy, self._map(operand.axes))
        self._pad()

    def _map(self, places: Any) -> Any:
        """The index map that fuses the axes at `places`, role by role; sums only if gathered."""
        order = sorted(places)
        extents = {place: self._axes.axes[place].extent for place in order}

        def fused(*variables: Any) -> list[Any]:
            by_place = dict(zip(order, variables, strict=True))
            result: list[Any] = []
            for role in Role:
                own = [place for place in order if self._axes.axes[place].role is role]
                if role is Role.SUM and self._sketch.gather is Pack.NEVER:
                    result.extend(by_place[place] for place in own)
                elif own:
                    index = by_place[own[0]]
                    for place in own[1:]:
                        index = index * extents[place] + by_place[place]
                    result.append(index)
            return result

        return index_map(fused, len(order), self._index_dtype)

    def _pad(self) -> None:
        sch, block, tile = self._sch, self._block, self._tile
        rows, columns = self._axes.extent(Role.ROW), self._axes.extent(Role.COLUMN)
        step = self._sketch.dot.row_group if self._sketch.dot else 1
        odd_sum = self._axes.extent(Role.SUM) % step > 0
        odd_rows, odd_columns = rows % tile.rows > 0, columns % tile.columns > 0
        if not (odd_rows or odd_columns or odd_sum):
            return
        batched = len(self._axes.places(Role.BATCH)) > 0
        sums = len(sch.get(block).iter_vars) - batched - 2
        sch.pad_einsum(block, [1] * batched + [tile.rows, tile.columns] + [step] * sums)
        if odd_columns or odd_sum:
            self._pack = self._padded_copy(self._axes.columns.read)
        if odd_rows or odd_sum:
            self._gather = self._padded_copy(self._axes.rows.read)
        if odd_rows or odd_columns:
            [crop] = sch.get_consumers(block)
            sch.compute_inline(crop)
        if self._reads_over_edge:
            # Rows outside are zeros by a condition, which `edge_tiles` takes from all other tiles.
            sch.compute_inline(self._gather)
            self._gather = None

    def _padded_copy(self, read: int) -> Any:
        """The block that makes a padded operand, from the operand's source directly."""
        source = self._sch.get(self._block).reads[read].source
        [copy] = makers(self._sch, self._block, source)
        [unpadded] = self._sch.get_producers(copy)
        self._sch.compute_inline(unpadded)
        return copy

    def tile(self) -> None:
        """Split to register tiles, cache blocks and tasks; keep the sums in registers."""
        sch, block, tile = self._sch, self._block, self._tile
        sch.set_scope(block, 0, "local")
        axes = self._axes
        loops = list(sch.get_loops(block))
        batch = [loops.pop(0)] if axes.places(Role.BATCH) else []
        phase = [loops.pop(0)] if axes.places(Role.PHASE) else []
        rows, columns, *sums = loops
        places = axes.places(Role.SUM)
        conditions = [sums[places.index(place)] for place in sorted(axes.conditions)]
        rows, row = sch.split(rows, [None, tile.rows])
        columns, column = sch.split(columns, [None, tile.columns])
        # A task that copies its own panels does it once for all of its rows.
        parts = 2 if self._sketch.pack is Pack.BY_TASK else 3
        row_tasks, *row_outer, row_inner = grouped(sch, rows, parts)
        column_tasks, column_block = grouped(sch, columns, 2)
        outer = [row_tasks, column_tasks, *phase, *row_outer, column_block, row_inner]
        # What decides whether a product is zero is unrolled, so that its code is dropped if it is.
        sums = [*conditions, *(loop for loop in sums if loop not in conditions)]
        sch.reorder(*outer, *sums, row, column)
        for loop in (*phase, *conditions):
            sch.unroll(loop)
        tasks = sch.fuse(*batch, row_tasks, column_tasks)
        sch.parallel(tasks)
        sch.reverse_compute_at(self._back, row_inner)
        self._unroll_tile(self._back)
        if self._pack is not None:
            self._copy_panels(column_block)
        if self._sketch.dot:
            self._copy_rows(tasks)
            self._multiply_by_dots(sums[0], row, column)
        else:
            self._unroll_tile(block)
            sch.decompose_reduction(block, sums[0])
            sch.annotate(block, SCHEDULED, TILED)
            if self._gather is not None:
                self._copy_matrix()
        for done in (self._back, sch.get_sblock("root")):
            sch.annotate(done, SCHEDULED, STAGE)

    def _multiply_by_dots(self, depth: Any, row: Any, column: Any) -> None:
        """Let the tile's intrinsic take the whole sum."""
        sch, sketch = self._sch, self._sketch
        assert sketch.dot is not None
        tile = dot_tile.DotTile(
            dot=sketch.dot,
            rows=sketch.tile.rows,
            vectors=sketch.tile.vectors,
            depth=int(sch.get(depth).extent),
        )
        sch.reorder(row, column, depth)
        self._unroll_tile(sch.decompose_reduction(self._block, row))
        sch.annotate(self._block, SCHEDULED, TILED)
        dot_tile.register(tile)
        sch.tensorize(row, tile.name)

    def _unroll_tile(self, block: Any) -> None:
        """Take the tile that a block's last two loops walk through in vectors, all unrolled."""
        sch, tile = self._sch, self._tile
        row, column = sch.get_loops(block)[-2:]
        vector, lane = sch.split(column, [None, tile.lanes])
        sch.unroll(row)
        sch.unroll(vector)
        sch.vectorize(lane)

    def _copy_panels(self, panel_loop: Any) -> None:
        """Give the copied columns' operand one panel for each tile, in the order it is read."""
        sch, tile, pack = self._sch, self._tile, self._pack
        batched = len(self._axes.places(Role.BATCH)) > 0
        read = self._axes.columns.read
        together = self._sketch.dot.group if self._sketch.dot else 1
        panels = self._panels(read, tile.columns, together)
        sch.transform_layout(self._block, ("read", read), panels)
        outer = 0
        if self._sketch.pack is Pack.BY_TASK:
            sch.compute_at(pack, panel_loop)
            outer = len(sch.get_loops(pack)) - len(sch.get(pack).iter_vars) + batched
            batched = False
        *batch, columns = sch.get_loops(pack)[outer : outer + batched + 1]
        sums = sch.get_loops(pack)[outer + batched + 1 :]
        panel, column = sch.split(columns, [None, tile.columns])
        if self._sketch.dot:
            steps, group = sch.split(sums[0], [None, self._sketch.dot.group])
            if self._axes.places(Role.SUM)[-1] in self._axes.columns.innermost:
                # Whole cache lines are read, and a group is moved at once.
                steps, step = sch.split(steps, [None, _line_steps(sch, steps)])
                sch.reorder(panel, steps, column, step, group)
                sch.vectorize(group)
            else:
                # LLVM makes vectors of it, as it sees that the steps of a group interleave.
                sch.reorder(panel, steps, column, group)
                sch.unroll(group)
        else:
            vector, lane = sch.split(column, [None, self._copied_lanes()])
            sch.reorder(panel, *sums, vector, lane)
            sch.unroll(vector)
            sch.vectorize(lane)
        if self._sketch.pack is not Pack.BY_TASK:
            sch.parallel(sch.fuse(*batch, panel))
        self._mark(pack, self._sketch.pack)

    def _copied_lanes(self) -> int:
        """Return the length of vectors that never go from one line of a picture to the next.

        Only the last axis of its points is contiguous.
        """
        tile, last = self._tile, self._axes.places(Role.COLUMN)[-1]
        common = gcd(tile.columns, self._axes.axes[last].extent) if self._axes.is_picture else 1
        return divisor(common, tile.lanes) if common > 1 else tile.lanes

    def _copy_rows(self, tasks: Any) -> None:
        """Copy the rows' operand to panels for dot products."""
        sch, tile, dot = self._sch, self._tile, self._sketch.dot
        assert dot is not None
        read = self._axes.rows.read
        panels = self._panels(read, tile.rows, dot.row_group)
        sch.transform_layout(self._block, ("read", read), panels)
        if self._sketch.gather is Pack.BY_TASK:
            sch.compute_at(self._gather, tasks)
        *batch, rows, depth = sch.get_loops(self._gather)
        panel, _ = sch.split(rows, [None, tile.rows])
        _, group = sch.split(depth, [None, dot.row_group])
        if self._sketch.gather is not Pack.BY_TASK:
            sch.parallel(sch.fuse(*batch, panel))
        sch.vectorize(group)
        self._mark(self._gather, self._sketch.gather)

    def _copy_matrix(self) -> None:
        """Copy the rows' operand to a matrix, in loops over the axes that its sum is fused from.

        One loop over all of the sum would divide its index for each element.
        """
        sch, copy = self._sch, self._gather
        extents = [self._axes.axes[place].extent for place in self._axes.places(Role.SUM)]
        *outer, rows, steps = sch.get_loops(copy)
        *_, last = sch.split(steps, [None, *extents[1:]])
        vectorized(sch, last, self._tile.lanes)
        sch.parallel(sch.fuse(*outer, rows))
        self._mark(copy, self._sketch.gather)

    def _mark(self, copy: Any, pack: Pack) -> None:
        self._sch.annotate(copy, SCHEDULED, STAGE)
        if pack is Pack.AHEAD:
            self._sch.annotate(copy, AHEAD, True)

    def _panels(self, read: int, width: int, group: int) -> Any:
        """The index map of an operand in panels as wide as a tile, whose steps follow each other.

        For dot products the factors of a group are together.
        """
        batched = len(self._axes.places(Role.BATCH)) > 0
        arity = len(self._sch.get(self._block).reads[read].region)
        dot = self._sketch.dot

        def panels(*axes: Any) -> list[Any]:
            side, sums = axes[batched], axes[batched + 1 :]
            if dot:
                step, factor = sums[0] // group, sums[0] % group
                return [*axes[:batched], side // width, step, side % width, factor]
            return [*axes[:batched], side // width, *sums, side % width]

        return index_map(panels, arity, self._index_dtype)


def _line_steps(sch: Any, steps: Any) -> int:
    """How many of a sum's steps a cache line holds, at most, if they are to divide them."""
    return gcd(int(sch.get(steps).extent), LANES)


def _is_inlinable(sch: Any, block: Any) -> bool:
    """Whether a block makes its elements one by one, and nothing was done to it yet."""
    return sch.get(block).init is None and bool(own_loops(sch, block))


def follows(consumer: Any, producer: Any) -> bool:
    """Whether a consumer has the axes of a producer that writes element by element, in order."""
    own = _long_axes(consumer)
    return (
        consumer.init is None
        and all(int(axis.iter_type) == tirx.IterVar.DataPar for axis in consumer.iter_vars)
        and [extent for _, extent in own] == [extent for _, extent in _long_axes(producer)]
        and all(
            _variables_in_order(region.region, [variable for variable, _ in own])
            for region in consumer.reads
            if region.source.same_as(producer.writes[0].source)
        )
    )


def _long_axes(block: Any) -> list[tuple[Any, int]]:
    """Variables and extents of the axes with more than one element."""
    axes = [(axis.var, int(axis.dom.extent)) for axis in block.iter_vars]
    return [axis for axis in axes if axis[1] > 1]


def _variables_in_order(region: Any, variables: list[Any]) -> bool:
    """Whether the variables are the indices of a region, next to indices that do not vary."""
    places = [
        next((at for at, var in enumerate(variables) if index.min.same_as(var)), None)
        for index in region
    ]
    return [place for place in places if place is not None] == list(range(len(variables)))
