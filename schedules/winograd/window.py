"""Which blocks slide a filter over their input, step by step along some axes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import tvm
from tvm import sym, tirx
from tvm.sym import detect_linear_equation
from tvm.tirx.analysis import undefined_vars

from schedules.canonical import objects
from schedules.nests import substituted
from schedules.space.contraction import product_of
from schedules.winograd.matrices import LARGEST

_DTYPE = "float32"
_MOST_TILED = 2
"""Along a third axis the transforms would take longer than the products."""


@dataclass(frozen=True, kw_only=True)
class Slide:
    """Two axes of a block of which the input knows only ``output + step * kernel``.

    Attributes
    ----------
    output, kernel : int
        Their places among the block's axes.
    outputs, taps : int
        Their extents.
    step : int
        Inputs from one tap to the next: the dilation.
    """

    output: int
    kernel: int
    outputs: int
    taps: int
    step: int

    @property
    def positions(self) -> int:
        """Inputs that are read along the axis."""
        return self.outputs + self.step * (self.taps - 1)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A convolution of stride one: a sum of products of data and filters.

    Attributes
    ----------
    store : tvm.tirx.BufferStore
        Adds one product to an output.
    data : tvm.ir.Expr
        The one factor, with positions of the input in place of the outputs of slides; it holds none
        of their kernels.
    filters : tvm.ir.Expr
        The other one.
    variables : tuple of tvm.tirx.Var
        The block's axes; all others are places among them.
    extents : tuple of int
        Of the axes.
    tiled : tuple of Slide
        One or two, along which tiles are transformed.
    slid : tuple of Slide
        The others.
    batch, rows, columns, sums : tuple of int
        The axes that are in no slide: of both factors and the output, of the data, of the filters,
        and summed over. The last of sums, or of columns, is taken in vectors: the one along which
        memory is contiguous, or else the longest.
    """

    store: Any = field(repr=False)
    data: Any = field(repr=False)
    filters: Any = field(repr=False)
    variables: tuple[Any, ...] = field(repr=False)
    extents: tuple[int, ...]
    tiled: tuple[Slide, ...]
    slid: tuple[Slide, ...]
    batch: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    sums: tuple[int, ...]

    @property
    def index_dtype(self) -> str:
        """Of the axes."""
        return str(self.variables[0].expr_ty())

    def extents_of(self, places: Sequence[int]) -> tuple[int, ...]:
        """Return the extents of some axes."""
        return tuple(self.extents[place] for place in places)

    def count(self, places: Sequence[int]) -> int:
        """Return the product of the extents of some axes."""
        return prod(self.extents_of(places))

    def at(self, expression: Any, values: Mapping[int, Any]) -> Any:
        """Write one of the expressions with values of the axes, given by their places."""
        variables = [self.variables[place] for place in values]
        return substituted(expression, variables, list(values.values()))


def find_window(block: Any) -> Window | None:
    """Recognise a convolution whose outputs share inputs, in float32.

    Parameters
    ----------
    block : tvm.s_tir.SBlock
        Any block; whether it has its initialisation makes no difference.
    """
    product = _product(block)
    if product is None:
        return None
    store, factors = product
    variables = tuple(axis.var for axis in block.iter_vars)
    extents = [axis.dom.extent for axis in block.iter_vars]
    if not all(isinstance(extent, tirx.IntImm) for extent in extents):
        return None
    reduced = frozenset(
        place
        for place, axis in enumerate(block.iter_vars)
        if int(axis.iter_type) == tirx.IterVar.CommReduce
    )
    for data, filters in (factors, factors[::-1]):
        axes = _Axes(variables=variables, extents=tuple(map(int, extents)), reduced=reduced)
        found = _window(store, data, filters, axes)
        if found is not None:
            return found
    return None


@dataclass(frozen=True, kw_only=True)
class _Axes:
    variables: tuple[Any, ...]
    extents: tuple[int, ...]
    reduced: frozenset[int]

    def of(self, expression: Any) -> frozenset[int]:
        """Return the places of the axes that an expression depends on."""
        used = [variable.__chandle__() for variable in undefined_vars(expression)]
        return frozenset(
            place for place, one in enumerate(self.variables) if one.__chandle__() in used
        )

    def along(self, index: Any) -> frozenset[int]:
        """Return the places of the axes with which an index moves by one."""
        return frozenset(
            place for place in self.of(index) if _coefficient(index, self.variables[place]) == 1
        )


def _product(block: Any) -> tuple[Any, tuple[Any, Any]] | None:
    """The store of ``C += X * Y`` in float32, from zero, with X and Y."""
    product = product_of(block.body)
    if product is None or not (block.init is None or _is_zero(block.init)):
        return None
    return product if str(product[0].buffer.ty.dtype.dtype) == _DTYPE else None


def _is_zero(init: Any) -> bool:
    value = getattr(init, "value", None)
    return isinstance(value, tirx.FloatImm) and float(value.value) == 0.0


def _window(store: Any, data: Any, filters: Any, axes: _Axes) -> Window | None:
    of_data, of_filters = axes.of(data), axes.of(filters)
    output = frozenset(range(len(axes.variables))) - axes.reduced
    if not axes.reduced <= of_data & of_filters or not of_data | of_filters >= _long(output, axes):
        return None
    columns = (of_filters - of_data) & output
    slides, data = _slides(data, of_data & output - of_filters, axes)
    if not slides or not columns:
        return None
    tiled, slid = slides[-_MOST_TILED:], slides[:-_MOST_TILED]
    kernels = frozenset(slide.kernel for slide in slides)
    moved = frozenset(slide.output for slide in slides)
    step = _in_vectors(data, axes.reduced - kernels, axes)
    column = _in_vectors(filters, columns, axes)
    if step is None or column is None:
        return None
    return Window(
        store=store,
        data=data,
        filters=filters,
        variables=axes.variables,
        extents=axes.extents,
        tiled=tuple(tiled),
        slid=tuple(slid),
        batch=tuple(sorted(output & of_data & of_filters)),
        rows=tuple(sorted(output - of_filters - moved)),
        columns=(*sorted(columns - {column}), column),
        sums=(*sorted(axes.reduced - kernels - {step}), step),
    )


def _long(places: frozenset[int], axes: _Axes) -> frozenset[int]:
    return frozenset(place for place in places if axes.extents[place] > 1)


def _slides(data: Any, rows: frozenset[int], axes: _Axes) -> tuple[list[Slide], Any]:
    """Return the slides of the data, and the data with positions in place of their outputs."""
    found = []
    free = set(axes.reduced)
    for output in sorted(_long(rows, axes)):
        for kernel in sorted(free):
            taps = axes.extents[kernel]
            if not 1 < taps < LARGEST:
                continue
            step = _step(data, axes.variables[output], axes.variables[kernel])
            if step is None:
                continue
            position = axes.variables[output] - step * axes.variables[kernel]
            moved = substituted(data, [axes.variables[output]], [position])
            moved = sym.Analyzer().simplify(moved)
            if kernel in axes.of(moved):
                continue
            outputs = axes.extents[output]
            found.append(Slide(output=output, kernel=kernel, outputs=outputs, taps=taps, step=step))
            data = moved
            free.remove(kernel)
            break
    return found, data


def _step(data: Any, output: Any, kernel: Any) -> int | None:
    """Return how far a step of the kernel moves the data, in steps of the output."""
    steps = set()
    for node in objects(data):
        for index in node.indices if isinstance(node, tvm.ir.TensorLoad) else ():
            by_output, by_kernel = _coefficient(index, output), _coefficient(index, kernel)
            if by_output == by_kernel == 0:
                continue
            if not by_output or not by_kernel or by_kernel % by_output:
                return None
            steps.add(by_kernel // by_output)
    return steps.pop() if len(steps) == 1 and min(steps) > 0 else None


def _coefficient(index: Any, variable: Any) -> int | None:
    """Return by how much an index moves with a variable, None where that is not constant."""
    if isinstance(index, tirx.Var | tirx.IntImm):
        return int(index.same_as(variable))
    linear = detect_linear_equation(index, [variable])
    is_constant = len(linear) > 0 and isinstance(linear[0], tirx.IntImm)
    return int(linear[0]) if is_constant else None


def _in_vectors(factor: Any, places: frozenset[int], axes: _Axes) -> int | None:
    """Return which of some axes is taken in vectors, None where a factor is no load of float32."""
    load = _load_of(factor)
    if load is None or str(load.expr_ty()) != _DTYPE or not places:
        return None
    contiguous = axes.along(load.indices[-1]) & places
    return max(contiguous or places, key=lambda place: (axes.extents[place], place))


def _load_of(factor: Any) -> Any:
    """Return the one load of a factor, None if there are others."""
    loads = [node for node in objects(factor) if isinstance(node, tvm.ir.TensorLoad)]
    return loads[0] if len(loads) == 1 else None


def channels_of(window: Window) -> tuple[Any, int]:
    """Return the buffer of a convolution's data, and the index along its vectors, -1 if none is."""
    load, variable = _load_of(window.data), window.variables[window.sums[-1]]
    moving = (at for at, index in enumerate(load.indices) if _coefficient(index, variable) == 1)
    return load.source, next(moving, -1)
