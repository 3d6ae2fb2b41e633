"""The loops of a convolution by Winograd's filtering: what each task does, and in which order."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from tvm import tirx

from schedules.winograd.parts import DTYPE, Parts, Stored, block_of
from schedules.winograd.plan import Plan
from schedules.winograd.window import Window


def loops_of(window: Window, plan: Plan, stored: Stored) -> tuple[list[Any], list[Any]]:
    """Return the statements that compute a convolution.

    Data and filters are transformed to planes, one for each element of a tile. In each plane the
    products are a matrix product in register tiles, whose sums are transformed back. What a plan
    says of tasks decides which side is transformed before, by all cores, and which by each task to
    buffers of its own, which stay in its core's cache.
    Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016.

    Parameters
    ----------
    window : Window
        The convolution.
    plan : Plan
        One that fits.
    stored : callable (values, element) -> statement
        Given values of the output's axes, by their places, and the sum there.

    Returns
    -------
    list of statements and list of buffers
        The buffers are those that all tasks share.
    """
    nest = _Nest(window, plan, stored)
    if plan.tasks == 0:
        return nest.by_points()
    return nest.by_panels() if plan.tasks == plan.panels(window) else nest.by_shares()


class _Nest:
    """Indices named ``group``, ``panel``, ``tap`` and ``chunk`` go over all axes of their kind."""

    def __init__(self, window: Window, plan: Plan, stored: Stored) -> None:
        self._window, self._plan = window, plan
        self._parts = Parts(window, plan, stored)
        self._groups, self._panels = prod(self._parts.groups), prod(self._parts.panels)
        self._taps, self._chunks = prod(self._parts.taps), prod(self._parts.chunks)
        self._slid = tuple(slide.outputs for slide in window.slid)
        self._slices = tuple(slide.positions for slide in window.slid)

    # --- who transforms what ---------------------------------------------------------------------

    def by_points(self) -> tuple[list[Any], list[Any]]:
        """Transform all filters; then each task takes a block of points, for all panels."""
        parts, block = self._parts, self._parts.block
        filters = self._filter_planes(self._groups, self._panels)
        data, products = self._data_planes(1, self._taps, block), self._product_planes()
        nothing = parts.number(0)

        def task(group: Any, *at: Any) -> Any:
            *slid, number = at
            first = number * block

            def gather(tap: Any, tile: Any) -> Any:
                positions = self._positions(slid, tap)
                return self._gather(data, (nothing, tap, tile), group, positions, first + tile)

            def panel(panel: Any) -> list[Any]:
                return self._work(
                    (group, slid, first),
                    panel,
                    products,
                    lambda plane, tile, tap, *within: self._datum(
                        data, (nothing, tap, tile), plane, *within
                    ),
                    lambda *step: self._weight(filters, (group, panel), *step),
                )

            gathered = parts.nested((self._taps, block), gather)
            done = parts.repeated(self._panels, lambda at: block_of("panel", panel(at)))
            return block_of("task", [gathered, done], [data, products])

        packed = parts.in_parallel(
            (self._groups, self._panels, self._taps * self._chunks),
            lambda group, panel, step: self._pack(filters, (group, panel), group, panel, step),
        )
        tasks = parts.in_parallel((self._groups, *self._slid, parts.blocks), task)
        return [packed, tasks], [filters]

    def by_panels(self) -> tuple[list[Any], list[Any]]:
        """Transform all data; then each task takes a panel of columns, for all points."""
        parts = self._parts
        data = self._data_planes(self._groups, prod(self._slices), parts.tiles)

        def gather(group: Any, *at: Any) -> Any:
            *positions, tile = at
            place = (group, self._slice(positions), tile)
            return self._gather(data, place, group, positions, tile)

        def task(group: Any, panel: Any) -> Any:
            return self._panel(data, group, group, panel)

        gathered = parts.in_parallel((self._groups, *self._slices, parts.tiles), gather)
        return [gathered, parts.in_parallel((self._groups, self._panels), task)], [data]

    def by_shares(self) -> tuple[list[Any], list[Any]]:
        """Let each task transform all data, and take its share of the panels.

        What another core has written takes longer to read than to compute again.
        """
        parts = self._parts
        data = self._data_planes(1, prod(self._slices), parts.tiles)
        group, share = parts.number(0), self._panels // self._plan.tasks

        def task(number: Any) -> Any:
            def gather(*at: Any) -> Any:
                *positions, tile = at
                place = (group, self._slice(positions), tile)
                return self._gather(data, place, group, positions, tile)

            gathered = parts.nested((*self._slices, parts.tiles), gather)
            done = parts.repeated(
                share, lambda at: self._panel(data, group, group, number * share + at)
            )
            return block_of("share", [gathered, done], [data])

        return [parts.in_parallel((self._plan.tasks,), task)], []

    def _panel(self, data: Any, at: Any, group: Any, panel: Any) -> Any:
        """Transform a panel's filters, and take it for all points."""
        parts, nothing = self._parts, self._parts.number(0)
        filters, products = self._filter_planes(1, 1), self._product_planes()

        def work(*at_block: Any) -> Any:
            *slid, number = at_block
            first = number * parts.block
            return block_of(
                "block",
                self._work(
                    (group, slid, first),
                    panel,
                    products,
                    lambda plane, tile, tap, *within: self._datum(
                        data,
                        (at, self._slice(self._positions(slid, tap)), first + tile),
                        plane,
                        *within,
                    ),
                    lambda *step: self._weight(filters, (nothing, nothing), *step),
                ),
            )

        packed = parts.repeated(
            self._taps * self._chunks,
            lambda step: self._pack(filters, (nothing, nothing), group, panel, step),
        )
        worked = parts.nested((*self._slid, parts.blocks), work)
        return block_of("panel", [packed, worked], [filters, products])

    # --- what a task does ------------------------------------------------------------------------

    def _gather(
        self, data: Any, place: Sequence[Any], group: Any, positions: Sequence[Any], tile: Any
    ) -> Any:
        """Transform the data of a register tile."""
        parts, rows = self._parts, self._plan.rows

        def row(at: Any) -> Any:
            point = tile * rows + at

            def chunk(chunk: Any) -> Any:
                return parts.transform_data(
                    group,
                    positions,
                    point,
                    chunk,
                    lambda plane, lane, value: tirx.BufferStore(
                        data,
                        value,
                        self._datum_at(place, parts.number(plane), chunk, at, lane),
                    ),
                )

            return self._where_point(point, parts.repeated(self._chunks, chunk))

        return self._where_tile(tile, parts.repeated(rows, row))

    def _pack(self, filters: Any, place: Sequence[Any], group: Any, panel: Any, step: Any) -> Any:
        """Transform the filters of a panel for a vector of steps."""
        parts = self._parts

        def at_step(at: Any) -> Any:
            return parts.transform_filters(
                group,
                panel,
                step,
                at,
                lambda plane, column, value: tirx.BufferStore(
                    filters,
                    value,
                    self._weight_at(place, parts.number(plane), step, at, column),
                ),
            )

        return parts.repeated(self._plan.lanes, at_step)

    def _work(
        self,
        points: tuple[Any, Sequence[Any], Any],
        panel: Any,
        products: Any,
        datum: Callable[..., Any],
        weight: Callable[..., Any],
    ) -> list[Any]:
        """Multiply in all planes for a block of points, and transform the sums back."""
        parts, rows, columns = self._parts, self._plan.rows, self._plan.columns
        group, slid, first = points

        def multiply(plane: Any, tile: Any) -> Any:
            product = parts.multiply(
                lambda *step: datum(plane, tile, *step),
                lambda tap, chunk, at, column: weight(
                    plane, tap * self._chunks + chunk, at, column
                ),
                lambda row, column, value: tirx.BufferStore(
                    products, value, [plane, (tile * rows + row) * columns + column]
                ),
            )
            return self._where_tile(first + tile, product)

        def back(at: Any) -> Any:
            point = first * rows + at
            stored = parts.transform_back(
                group,
                slid,
                point,
                panel,
                lambda plane, column: tirx.BufferLoad(
                    products, [parts.number(plane), at * columns + column]
                ),
            )
            return self._where_point(point, stored)

        return [
            parts.nested((parts.planes, parts.block), multiply),
            parts.repeated(parts.block * rows, back),
        ]

    def _where_tile(self, tile: Any, statement: Any) -> Any:
        parts = self._parts
        return parts.where(tile < parts.tiles, parts.tiles % parts.block > 0, statement)

    def _where_point(self, point: Any, statement: Any) -> Any:
        parts = self._parts
        whole = parts.block * self._plan.rows
        return parts.where(point < parts.points, parts.points % whole > 0, statement)

    # --- where things are ------------------------------------------------------------------------

    def _positions(self, slid: Sequence[Any], tap: Any) -> list[Any]:
        """Return where a tap reads, along the axes that are slid along but not tiled."""
        taps = self._parts.digits(tap, self._parts.taps)
        slides = zip(slid, taps, self._window.slid, strict=True)
        return [output + at * slide.step for output, at, slide in slides]

    def _slice(self, positions: Sequence[Any]) -> Any:
        index = self._parts.number(0)
        for position, extent in zip(positions, self._slices, strict=True):
            index = index * extent + position
        return index

    def _data_planes(self, groups: int, slices: int, tiles: int) -> Any:
        size = tiles * self._chunks * self._plan.rows * self._plan.lanes
        return self._padded("data", (groups, slices, self._parts.planes), size)

    def _datum_at(self, place: Sequence[Any], plane: Any, chunk: Any, row: Any, at: Any) -> Any:
        group, part, tile = place
        vector = (tile * self._chunks + chunk) * self._plan.rows + row
        return [group, part, plane, vector * self._plan.lanes + at]

    def _datum(self, data: Any, place: Sequence[Any], plane: Any, *within: Any) -> Any:
        return tirx.BufferLoad(data, self._datum_at(place, plane, *within))

    def _filter_planes(self, groups: int, panels: int) -> Any:
        size = self._parts.planes * self._plan.lanes * self._plan.columns
        return self._padded("filters", (groups, panels, self._taps * self._chunks), size)

    def _weight_at(self, place: Sequence[Any], plane: Any, step: Any, at: Any, column: Any) -> Any:
        row = plane * self._plan.lanes + at
        return [*place, step, row * self._plan.columns + column]

    def _weight(self, filters: Any, place: Sequence[Any], *step: Any) -> Any:
        return tirx.BufferLoad(filters, self._weight_at(place, *step))

    def _product_planes(self) -> Any:
        size = self._parts.block * self._plan.rows * self._plan.columns
        return self._padded("products", (self._parts.planes,), size)

    def _padded(self, name: str, outer: Sequence[int], size: int) -> Any:
        """Return a buffer whose planes do not begin in the same sets of the caches."""
        return tirx.decl_buffer((*outer, size + self._plan.lanes), DTYPE, name=name)
