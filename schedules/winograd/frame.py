"""What the parts of a convolution by Winograd's filtering have in common: sizes and loops."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, prod
from typing import Any

from tvm import tirx

from schedules.nests import repeated
from schedules.winograd.matrices import Matrix, Transforms, transforms
from schedules.winograd.plan import Plan
from schedules.winograd.window import Window

_ONE: Matrix = ((Fraction(1),),)
_ALONE = Transforms(data=_ONE, filters=_ONE, outputs=_ONE)
"""Of an axis that is not there."""


class Frame:
    """The sizes of a convolution that is filtered by a plan, and loops over them.

    Attributes
    ----------
    planes : int
        Elements of a tile of inputs: as many matrix products.
    points, tiles : int
        Tiles of outputs, which are the rows of each product, and register tiles along them.
    block, blocks : int
        Register tiles in a block of points, and blocks.
    groups, panels, chunks, taps : tuple of int
        Axes of the batch, of the columns in panels, of the sum in vectors, and of the kernels that
        are slid along but not tiled.
    """

    def __init__(self, window: Window, plan: Plan) -> None:
        self._window, self._plan = window, plan
        self._dtype = window.index_dtype
        both = [transforms(plan.outputs(slide), slide.taps) for slide in window.tiled]
        self._first, self._second = (*both, _ALONE)[:2]
        self.planes = self._first.inputs * self._second.inputs
        self.points = plan.points(window)
        self.tiles = ceil(self.points / plan.rows)
        self.block = min(plan.block, self.tiles)
        self.blocks = ceil(self.tiles / self.block)
        self.groups = window.extents_of(window.batch)
        self.panels = _in_parts(window.extents_of(window.columns), plan.columns)
        self.chunks = _in_parts(window.extents_of(window.sums), plan.lanes)
        self.taps = tuple(slide.taps for slide in window.slid)

    def repeated(self, extent: int, body: Callable[[Any], Any], kind: Any = None) -> Any:
        """Return a loop in the dtype of the program's indices, serial by default."""
        return repeated(extent, body, kind or tirx.ForKind.SERIAL, dtype=self._dtype)

    def nested(self, extents: Sequence[int], body: Callable[..., Any], kind: Any = None) -> Any:
        """Return loops, one in the other, around a statement that is made of all their indices."""
        if not extents:
            return body()

        def inside(at: Any) -> Any:
            return self.nested(extents[1:], lambda *inner: body(at, *inner), kind)

        return self.repeated(extents[0], inside, kind)

    def in_parallel(self, extents: Sequence[int], body: Callable[..., Any]) -> Any:
        """Return one parallel loop over some axes."""
        return self.repeated(
            prod(extents), lambda at: body(*self.digits(at, extents)), tirx.ForKind.PARALLEL
        )

    def digits(self, index: Any, extents: Sequence[int]) -> list[Any]:
        """Divide an index over all axes to one of each, the last one fastest."""
        found = []
        for place, extent in enumerate(extents):
            inner, outer = prod(extents[place + 1 :]), prod(extents[:place])
            digit = index // inner if inner > 1 else index
            found.append(self.number(0) if extent == 1 else digit % extent if outer > 1 else digit)
        return found

    def number(self, value: int) -> Any:
        """Return a constant index."""
        return tirx.const(value, self._dtype)

    def where(self, condition: Any, needed: bool, statement: Any) -> Any:
        """Return a statement that is executed under a condition, if one is needed."""
        return tirx.IfThenElse(condition, statement, None) if needed else statement


def _in_parts(extents: Sequence[int], size: int) -> tuple[int, ...]:
    """Divide the last axis."""
    return (*extents[:-1], extents[-1] // size)
