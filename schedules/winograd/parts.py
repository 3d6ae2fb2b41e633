"""The parts of a convolution by Winograd's filtering: transforms and products of single tiles."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import product
from math import prod
from typing import Any

from tvm import s_tir, tirx

from schedules.nests import in_sequence
from schedules.winograd.frame import Frame
from schedules.winograd.matrices import Matrix
from schedules.winograd.plan import Plan
from schedules.winograd.window import Window

Stored = Callable[[Mapping[int, Any], Any], Any]
"""Takes values of the output's axes, by their places, and a sum; returns what stores it."""
Store = Callable[[Any, Any, Any], Any]
"""Takes two indices and a value; returns what stores it."""

DTYPE = "float32"
_UNROLLED = tirx.ForKind.UNROLLED


class Parts(Frame):
    """Statements for one tile each."""

    def __init__(self, window: Window, plan: Plan, stored: Stored) -> None:
        super().__init__(window, plan)
        self._stored = stored
        # The last tile has outputs that there are none of.
        self._overhanging = [
            slide
            for slide in window.tiled
            if plan.tiles(slide) * plan.outputs(slide) * slide.step > slide.outputs
        ]

    def transform_data(
        self, group: Any, positions: Sequence[Any], point: Any, chunk: Any, store: Store
    ) -> Any:
        """Return what transforms the inputs of a tile for one vector of the sum.

        Parameters
        ----------
        group, point, chunk : index
            Over all axes of the batch, of the points, and of the sum in vectors.
        positions : sequence of indices
            Along the axes that are slid along but not tiled.
        store : callable (plane, lane, value) -> statement
        """
        window = self._window
        *outer, vector = self.digits(chunk, self.chunks)
        fixed = self._fixed(group, positions, point)
        inputs, half = self._scratch("inputs", self.planes), self._scratch("half", self.planes)
        height, width = self._first.inputs, self._second.inputs

        def read(i: Any, j: Any, lane: Any) -> Any:
            steps = [*outer, vector * self._plan.lanes + lane]
            element = self._input({**fixed, **_by_place(window.sums, steps)}, (i, j))
            return self._set(inputs, i * width + j, lane, element)

        parts = [
            self._unrolled((height, width), read),
            *self._sandwiched(
                (self._first.data, self._second.data),
                lambda i, j, lane: self._get(inputs, i * width + j, lane),
                half,
                store,
            ),
        ]
        return block_of("transform_data", parts, [inputs, half])

    def transform_filters(self, group: Any, panel: Any, step: Any, at: Any, store: Store) -> Any:
        """Return what transforms the filters of a panel for one step of the sum.

        Parameters
        ----------
        group, panel : index
            Over all axes of the batch, and of the columns in panels.
        step : index
            Over the taps that are not tiled and the sum in vectors.
        at : index
            Of the step in its vector.
        store : callable (plane, column, value) -> statement
        """
        window, lanes = self._window, self._plan.lanes
        *taps, chunk = self.digits(step, (*self.taps, prod(self.chunks)))
        *outer, vector = self.digits(chunk, self.chunks)
        *upper, last = self.digits(panel, self.panels)
        kernels = [slide.kernel for slide in window.tiled]
        height, width = len(self._first.filters[0]), len(self._second.filters[0])
        weights = self._scratch("weights", height * width)
        half = self._scratch("half", self._first.inputs * width)
        fixed = {
            **_by_place(window.batch, self.digits(group, self.groups)),
            **_by_place([slide.kernel for slide in window.slid], taps),
            **_by_place(window.sums, [*outer, vector * lanes + at]),
        }

        def read(first: Any, i: Any, j: Any, lane: Any) -> Any:
            columns = [*upper, last * self._plan.columns + first + lane]
            offsets = dict(zip(kernels, (i, j), strict=False))
            values = {**fixed, **_by_place(window.columns, columns), **offsets}
            return self._set(weights, i * width + j, lane, window.at(window.filters, values))

        def vector_of(first: Any) -> list[Any]:
            return [
                self._unrolled((height, width), lambda *at: read(first, *at)),
                *self._sandwiched(
                    (self._first.filters, self._second.filters),
                    lambda i, j, lane: self._get(weights, i * width + j, lane),
                    half,
                    lambda plane, lane, value: store(plane, first + lane, value),
                ),
            ]

        return self._for_vectors("transform_filters", vector_of, [weights, half])

    def multiply(self, data: Callable[..., Any], filters: Callable[..., Any], store: Store) -> Any:
        """Return the products of a register tile, in one plane.

        Parameters
        ----------
        data : callable (tap, chunk, row, at) -> element
        filters : callable (tap, chunk, at, column) -> element
            What is multiplied in a step of the sum: the taps that are not tiled, vectors, and
            elements of each.
        store : callable (row, column, value) -> statement
        """
        plan = self._plan
        firsts = range(0, plan.columns, plan.lanes)
        places = list(product(range(plan.rows), firsts))
        sums = self._scratch("sums", len(places))

        def each(body: Callable[..., Any]) -> Any:
            return self._in_lanes(
                lambda lane: in_sequence(
                    [
                        body(number, row, first + lane, lane)
                        for number, (row, first) in enumerate(places)
                    ]
                )
            )

        def step(tap: Any, chunk: Any, at: Any) -> Any:
            return each(
                lambda number, row, column, lane: self._set(
                    sums,
                    number,
                    lane,
                    self._get(sums, number, lane)
                    + data(tap, chunk, row, at) * filters(tap, chunk, at, column),
                )
            )

        zero = tirx.const(0.0, DTYPE)
        parts = [
            each(lambda number, row, column, lane: self._set(sums, number, lane, zero)),
            self.nested((prod(self.taps), prod(self.chunks), plan.lanes), step),
            each(
                lambda number, row, column, lane: store(row, column, self._get(sums, number, lane))
            ),
        ]
        return block_of("multiply", parts, [sums])

    def transform_back(
        self, group: Any, slid: Sequence[Any], point: Any, panel: Any, products: Any
    ) -> Any:
        """Return what transforms the sums of a tile back, and stores its outputs.

        Parameters
        ----------
        group, point, panel : index
            Over all axes of the batch, of the points, and of the columns in panels.
        slid : sequence of indices
            Outputs along the axes that are slid along but not tiled.
        products : callable (plane, column) -> element
        """
        window = self._window
        *upper, last = self.digits(panel, self.panels)
        matrices = (self._first.outputs, self._second.outputs)
        height, width = (len(matrix) for matrix in matrices)
        sums = self._scratch("outputs", height * width)
        half = self._scratch("half", height * self._second.inputs)
        fixed = self._fixed(group, slid, point)

        def output(first: Any, i: Any, j: Any) -> Any:
            values = self._moved(fixed, (i, j))

            def stored(lane: Any) -> Any:
                columns = [*upper, last * self._plan.columns + first + lane]
                element = self._get(sums, i * width + j, lane)
                return self._stored({**values, **_by_place(window.columns, columns)}, element)

            inside = [values[slide.output] < slide.outputs for slide in self._overhanging]
            statement = self._in_lanes(stored)
            return tirx.IfThenElse(tirx.all(*inside), statement, None) if inside else statement

        def vector_of(first: Any) -> list[Any]:
            size = self._second.inputs
            return [
                *self._sandwiched(
                    matrices,
                    lambda i, j, lane: products(i * size + j, first + lane),
                    half,
                    lambda place, lane, value: self._set(sums, place, lane, value),
                ),
                self.nested((height, width), lambda i, j: output(first, i, j), _UNROLLED),
            ]

        return self._for_vectors("transform_back", vector_of, [half, sums])

    # --- what they share -------------------------------------------------------------------------

    def _sandwiched(
        self, matrices: tuple[Matrix, Matrix], load: Callable[..., Any], half: Any, store: Store
    ) -> list[Any]:
        """Return ``first @ source @ second.T`` for all lanes, in two steps."""
        first, second = matrices
        size = len(second[0])

        def rows(lane: Any) -> list[Any]:
            return [
                self._set(
                    half,
                    at * size + j,
                    lane,
                    _combined(row, [load(i, j, lane) for i in range(len(row))]),
                )
                for at, row in enumerate(first)
                for j in range(size)
            ]

        def columns(lane: Any) -> list[Any]:
            return [
                store(
                    i * len(second) + at,
                    lane,
                    _combined(row, [self._get(half, i * size + j, lane) for j in range(size)]),
                )
                for i in range(len(first))
                for at, row in enumerate(second)
            ]

        return [
            self._in_lanes(lambda lane: in_sequence(rows(lane))),
            self._in_lanes(lambda lane: in_sequence(columns(lane))),
        ]

    def _fixed(self, group: Any, slid: Sequence[Any], point: Any) -> dict[int, Any]:
        """Return values of all axes that a tile has the same."""
        return {
            **_by_place(self._window.batch, self.digits(group, self.groups)),
            **_by_place([slide.output for slide in self._window.slid], slid),
            **self._at_point(point),
        }

    def _at_point(self, point: Any) -> dict[int, Any]:
        """Return the rows of a point, and the first output of its tile along each axis."""
        slides = {slide.output: slide for slide in self._window.tiled}
        places = sorted([*self._window.rows, *slides])
        extents = [
            extent
            for place in places
            for extent in (
                (self._plan.tiles(slides[place]), slides[place].step)
                if place in slides
                else (self._window.extents[place],)
            )
        ]
        digits = iter(self.digits(point, extents))
        found = {}
        for place in places:
            found[place] = next(digits)
            if place in slides:
                width = self._plan.outputs(slides[place]) * slides[place].step
                found[place] = found[place] * width + next(digits)
        return found

    def _moved(self, values: Mapping[int, Any], offsets: Sequence[Any]) -> dict[int, Any]:
        """Move along the tiled axes, in steps between taps."""
        pairs = zip(self._window.tiled, offsets, strict=False)
        moved = {
            slide.output: values[slide.output] + slide.step * offset for slide, offset in pairs
        }
        return {**values, **moved}

    def _input(self, values: Mapping[int, Any], offsets: Sequence[Any]) -> Any:
        """Return an input of a tile; zero beyond the last that an output needs."""
        moved = self._moved(values, offsets)
        element = self._window.at(self._window.data, moved)
        inside = [moved[slide.output] < slide.positions for slide in self._overhanging]
        if not inside:
            return element
        return tirx.if_then_else(tirx.all(*inside), element, tirx.const(0.0, DTYPE))

    def _for_vectors(
        self, name: str, body: Callable[[Any], list[Any]], buffers: Sequence[Any]
    ) -> Any:
        """Return a loop over the vectors of a panel, by their first columns."""
        vectors = self.repeated(
            self._plan.vectors, lambda at: in_sequence(body(at * self._plan.lanes))
        )
        return block_of(name, [vectors], buffers)

    def _unrolled(self, extents: Sequence[int], body: Callable[..., Any]) -> Any:
        """Return unrolled loops around a statement for all lanes of a vector."""
        return self.nested(
            extents, lambda *at: self._in_lanes(lambda lane: body(*at, lane)), _UNROLLED
        )

    def _in_lanes(self, body: Callable[[Any], Any]) -> Any:
        """Return a statement for all lanes of a vector at once."""
        return self.repeated(self._plan.lanes, body, tirx.ForKind.VECTORIZED)

    def _get(self, buffer: Any, place: Any, lane: Any) -> Any:
        return tirx.BufferLoad(buffer, [self._index(place), lane])

    def _set(self, buffer: Any, place: Any, lane: Any, value: Any) -> Any:
        return tirx.BufferStore(buffer, value, [self._index(place), lane])

    def _index(self, place: Any) -> Any:
        return self.number(place) if isinstance(place, int) else place

    def _scratch(self, name: str, vectors: int) -> Any:
        """Return a buffer that is to live in registers."""
        return tirx.decl_buffer((vectors, self._plan.lanes), DTYPE, name=name, scope="local")


def _by_place(places: Sequence[int], values: Iterable[Any]) -> dict[int, Any]:
    return dict(zip(places, values, strict=True))


def _combined(row: Sequence[Fraction], terms: Sequence[Any]) -> Any:
    """Return a sum of terms by their factors, a positive one first."""
    pairs = [(factor, term) for factor, term in zip(row, terms, strict=True) if factor]
    pairs.sort(key=lambda pair: pair[0] < 0)

    def scaled(factor: Fraction, term: Any) -> Any:
        return term if factor == 1 else tirx.const(float(factor), DTYPE) * term

    (factor, term), *rest = pairs
    total = scaled(factor, term)
    for factor, term in rest:
        total = total - scaled(-factor, term) if factor < 0 else total + scaled(factor, term)
    return total


def block_of(name: str, parts: Sequence[Any], buffers: Sequence[Any] = ()) -> Any:
    """Return statements with buffers of their own."""
    block = s_tir.SBlock([], [], [], name, in_sequence(parts), None, [*buffers])
    return s_tir.SBlockRealize([], True, block)
