"""Contractions as matrix products with packed operands and register tiles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import ceil
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import meta_schedule

from schedules.space.contraction import (
    Contraction,
    Role,
    find_contraction,
    grouped_axis,
    is_product,
    phased_axis,
)
from schedules.space.register_tile import RegisterTile, cycles, register_tiles
from schedules.space.stage import SCHEDULED, STAGE, TILED, own_loops, parallel_stage
from schedules.space.vector_unit import VectorUnit, vector_unit

_TILES = 3
_MOST_DESIGNS = 16
# How much slower a tile that divides the output may be before padded copies take its place.
_WORTH_PADDING = 1.3
# Tiles in the innermost block: more than fit into a cache at any size.
_MOST_TILES = 512


class Pack(Enum):
    """When an operand is copied to panels.

    All at once costs a pass through memory that many rows earn back; a panel by the task that uses
    it stays in that core's cache, but is copied again by each task.
    """

    NEVER = "never"
    AT_ONCE = "at once"
    BY_TASK = "by task"


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """One way to schedule a contraction; what it leaves open is sampled.

    Attributes
    ----------
    tile : RegisterTile
        What stays in registers.
    gather : bool
        Whether the rows' operand is copied to a matrix first (for a convolution: im2col), rather
        than read in place.
    pack : Pack
        When the columns' operand is copied to panels as wide as a tile.
    """

    tile: RegisterTile
    gather: bool
    pack: Pack


@tvm.ir.utils.derived_object
class PackedContraction(meta_schedule.schedule_rule.PyScheduleRule):
    """Tile a contraction for registers and caches, and pack its operands.

    Applies to every sum of products of two operands that has rows, columns and a sum
    (`schedules.space.contraction`). The block becomes ``C[b, m, n] += A[b, m, k] * B[b, n, k]``
    with rows and columns each fused to one axis. B is packed to ``[b, n / width, k, width]``, A is
    read in place or gathered to ``[b, m, k]``; the sums of a register tile stay in registers for
    the whole of k, and the write-back takes the elementwise consumers along. Odd extents are padded
    in the packed copies. Sampled: how the tiles are grouped to parallel tasks and cache blocks.
    Source: Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008.
    """

    def _initialize_with_tune_context(self, context: Any) -> None:
        self._target = context.target

    def apply(self, sch: Any, block: Any) -> list[Any]:
        """Return one schedule for each sketch, and the block as it is."""
        contraction = _found(sch, block)
        if contraction is None:
            return [sch]
        chosen = sketches(contraction, vector_unit(self._target))
        sums, products = _count_sums(sch)
        # Each contraction multiplies the number of designs, and so does each sum by TVM's rules.
        most = _MOST_DESIGNS ** (1 / products)
        few = chosen[:: ceil(len(chosen) / most)]
        untouched = [sch] if sums == 1 else []
        return [*untouched, *(_scheduled(sch.copy(), block, sketch) for sketch in few)]

    def clone(self) -> Any:
        """Return a rule for another context."""
        return PackedContraction()


def sketches(contraction: Contraction, unit: VectorUnit) -> list[Sketch]:
    """Choose the sketches of a contraction: few, as each trial should be a good one."""
    lanes = unit.lanes(int(tvm.DataType(contraction.dtype).bits))
    rows, columns = contraction.extent(Role.ROW), contraction.extent(Role.COLUMN)
    whole = register_tiles(unit, lanes, rows, columns, divide=True)
    if not contraction.rows.is_load:
        # A condition stays with the product, where a copy of the operand would not drop the zeros.
        return _in_place(contraction, whole[:_TILES])
    padded = register_tiles(unit, lanes, rows, columns)
    limit = _WORTH_PADDING * cycles(padded[0], rows, columns)
    good = [tile for tile in whole if cycles(tile, rows, columns) <= limit][:_TILES]
    gathered = [
        Sketch(tile=tile, gather=True, pack=pack)
        for tile in (padded[:1] if good else padded[:_TILES])
        for pack in (Pack.AT_ONCE, Pack.BY_TASK)
    ]
    return _in_place(contraction, good) + gathered


def _in_place(contraction: Contraction, tiles: Sequence[RegisterTile]) -> list[Sketch]:
    last_column = contraction.places(Role.COLUMN)[-1]
    packs = [Pack.AT_ONCE, Pack.BY_TASK]
    if last_column in contraction.columns.innermost:
        packs.append(Pack.NEVER)
    return [Sketch(tile=tile, gather=False, pack=pack) for tile in tiles for pack in packs]


def _count_sums(sch: Any) -> tuple[int, int]:
    """How many blocks of the program sum over an axis, and how many of them are products."""
    aside = sch.copy()
    blocks = [aside.get(child) for child in aside.get_child_blocks(aside.get_sblock("root"))]
    products = sum(
        is_product(block) or block.annotations.get(SCHEDULED) == TILED for block in blocks
    )
    return sum(block.init is not None for block in blocks), max(1, products)


def _is_inlinable(sch: Any, block: Any) -> bool:
    """Whether a block makes its elements one by one, and nothing was done to it yet."""
    return sch.get(block).init is None and bool(own_loops(sch, block))


def _found(sch: Any, block: Any) -> Contraction | None:
    """The contraction in a block that has loops of its own, one for each axis."""
    if not (is_product(sch.get(block)) and own_loops(sch, block)):
        return None
    trial = sch.copy()
    _separate(trial, block)
    return find_contraction(trial.get(block))


def _separate(sch: Any, block: Any) -> None:
    """Split axes that play two roles, so that each axis plays one.

    An axis that one operand uses only divided holds a batch axis, and one that a condition uses
    modulo a number holds a phase.
    """
    while (grouped := grouped_axis(sch.get(block))) is not None:
        sch.transform_block_layout(block, _split_map(len(sch.get(block).iter_vars), *grouped))
        for read, region in enumerate(sch.get(block).reads):
            # A layout that stays as it is: the primitive simplifies the indices, which still hold
            # the whole axis, and only then are the operands' axes told apart.
            sch.transform_layout(block, ("read", read), _same_map(len(region.region)))
    while (phased := phased_axis(sch.get(block))) is not None:
        sch.transform_block_layout(block, _split_map(len(sch.get(block).iter_vars), *phased))
    _drop_unit_axes(sch, block)


def _drop_unit_axes(sch: Any, block: Any) -> None:
    """Leave out axes of one element, but for one row where there is no other."""
    extents = [int(axis.dom.extent) for axis in sch.get(block).iter_vars]
    keep = {place for place, extent in enumerate(extents) if extent > 1}
    found = find_contraction(sch.get(block))
    if found is not None and not keep & set(found.places(Role.ROW)):
        keep.add(found.places(Role.ROW)[0])

    def kept(*axes: Any) -> list[Any]:
        return [axis for place, axis in enumerate(axes) if place in keep]

    if 0 < len(keep) < len(extents):
        sch.transform_block_layout(block, _index_map(kept, len(extents)))


def _scheduled(sch: Any, block: Any, sketch: Sketch) -> Any:
    _separate(sch, block)
    form = _MatrixForm(sch, block, sketch)
    form.read_operands()
    form.fuse_axes()
    form.tile()
    return sch


class _MatrixForm:
    """Turns one block to a matrix product, step by step, on a schedule."""

    def __init__(self, sch: Any, block: Any, sketch: Sketch) -> None:
        self._sch = sch
        self._block = block
        self._sketch = sketch
        self._tile = sketch.tile
        self._inline_layouts()
        found = find_contraction(sch.get(block))
        assert found is not None
        self._axes = found

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
        if self._sketch.gather:
            self._gather = sch.reindex(block, ("read", self._axes.rows.read))
        copies = [copy for copy in (self._pack, self._gather) if copy is not None]
        for producer in producers:
            readers = [sch.get(reader) for reader in sch.get_consumers(producer)]
            if all(any(reader.same_as(sch.get(copy)) for copy in copies) for reader in readers):
                sch.compute_inline(producer)
            else:
                parallel_stage(sch, producer, self._tile.lanes)
        self._back = sch.reindex(block, ("write", 0))
        self._take_epilogue()

    def _take_epilogue(self) -> None:
        """Let the only consumer write back, if it has the output's axes in the same order."""
        sch = self._sch
        consumers = sch.get_consumers(self._back)
        if len(consumers) != 1:
            return
        [consumer] = consumers
        if own_loops(sch, consumer) and follows(sch.get(consumer), sch.get(self._back)):
            sch.compute_inline(self._back)
            _drop_unit_axes(sch, consumer)
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
                if role is Role.SUM and not self._sketch.gather:
                    result.extend(by_place[place] for place in own)
                elif own:
                    index = by_place[own[0]]
                    for place in own[1:]:
                        index = index * extents[place] + by_place[place]
                    result.append(index)
            return result

        return _index_map(fused, len(order))

    def _pad(self) -> None:
        sch, block, tile = self._sch, self._block, self._tile
        rows, columns = self._axes.extent(Role.ROW), self._axes.extent(Role.COLUMN)
        if rows % tile.rows == 0 and columns % tile.columns == 0:
            return
        batched = len(self._axes.places(Role.BATCH)) > 0
        sch.pad_einsum(block, [1] * batched + [tile.rows, tile.columns, 1])
        if columns % tile.columns:
            self._pack = self._padded_copy(self._axes.columns.read)
        if rows % tile.rows:
            self._gather = self._padded_copy(self._axes.rows.read)
        [crop] = sch.get_consumers(block)
        sch.compute_inline(crop)

    def _padded_copy(self, read: int) -> Any:
        """The block that makes a padded operand, from the operand's source directly."""
        copy = writer(self._sch, self._block, read)
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
        columns, vector, lane = sch.split(columns, [None, tile.vectors, tile.lanes])
        # A task that copies its own panels does it once for all of its rows.
        parts = 2 if self._sketch.pack is Pack.BY_TASK else 3
        row_tasks, *row_outer, row_inner = sch.split(
            rows, sch.sample_perfect_tile(rows, parts, _MOST_TILES)
        )
        column_tasks, column_block = sch.split(
            columns, sch.sample_perfect_tile(columns, 2, _MOST_TILES)
        )
        outer = [row_tasks, column_tasks, *phase, *row_outer, column_block, row_inner]
        # What decides whether a product is zero is unrolled, so that its code is dropped if it is.
        sums = [*conditions, *(loop for loop in sums if loop not in conditions)]
        sch.reorder(*outer, *sums, row, vector, lane)
        for loop in (*phase, *conditions):
            sch.unroll(loop)
        tasks = sch.fuse(*batch, row_tasks, column_tasks)
        sch.parallel(tasks)
        sch.reverse_compute_at(self._back, row_inner)
        self._write_back()
        for loop in (row, vector):
            sch.unroll(loop)
        sch.vectorize(lane)
        if self._pack is not None:
            self._copy_panels(column_block)
        sch.decompose_reduction(block, sums[0])
        if self._gather is not None:
            parallel_stage(sch, self._gather, tile.lanes)
        sch.annotate(block, SCHEDULED, TILED)
        for done in (self._back, sch.get_sblock("root")):
            sch.annotate(done, SCHEDULED, STAGE)

    def _write_back(self) -> None:
        sch, tile = self._sch, self._tile
        row, column = sch.get_loops(self._back)[-2:]
        vector, lane = sch.split(column, [None, tile.lanes])
        sch.unroll(row)
        sch.unroll(vector)
        sch.vectorize(lane)

    def _copy_panels(self, panel_loop: Any) -> None:
        """Give the copied columns' operand one panel for each tile, in the order it is read."""
        sch, tile, pack = self._sch, self._tile, self._pack
        batched = len(self._axes.places(Role.BATCH)) > 0
        read = self._axes.columns.read
        sch.transform_layout(self._block, ("read", read), self._panels(batched, tile.columns))
        outer = 0
        if self._sketch.pack is Pack.BY_TASK:
            sch.compute_at(pack, panel_loop)
            outer = len(sch.get_loops(pack)) - len(sch.get(pack).iter_vars) + batched
            batched = False
        *batch, columns = sch.get_loops(pack)[outer : outer + batched + 1]
        sums = sch.get_loops(pack)[outer + batched + 1 :]
        panel, column = sch.split(columns, [None, tile.columns])
        vector, lane = sch.split(column, [None, tile.lanes])
        sch.reorder(panel, *sums, vector, lane)
        if self._sketch.pack is Pack.AT_ONCE:
            sch.parallel(sch.fuse(*batch, panel))
        sch.unroll(vector)
        sch.vectorize(lane)
        sch.annotate(pack, SCHEDULED, STAGE)

    def _panels(self, batched: bool, width: int) -> Any:
        arity = len(self._sch.get(self._block).reads[self._axes.columns.read].region)

        def panels(*axes: Any) -> list[Any]:
            column, sums = axes[batched], axes[batched + 1 :]
            return [*axes[:batched], column // width, *sums, column % width]

        return _index_map(panels, arity)


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


def writer(sch: Any, block: Any, read: int) -> Any:
    """The block that writes what a block reads."""
    buffer = sch.get(block).reads[read].source
    [found] = [
        producer
        for producer in sch.get_producers(block)
        if sch.get(producer).writes[0].source.same_as(buffer)
    ]
    return found


def _split_map(arity: int, place: int, divisor: int) -> Any:
    def split(*axes: Any) -> list[Any]:
        parts = [axes[place] // divisor, axes[place] % divisor]
        return [*axes[:place], *parts, *axes[place + 1 :]]

    return _index_map(split, arity)


def _same_map(arity: int) -> Any:
    return _index_map(lambda *indices: list(indices), arity)


def _index_map(function: Callable[..., Any], arity: int) -> Any:
    return tirx.IndexMap.from_func(function, ndim=arity, index_dtype="int32")
