"""What a trace says of a convolution that is computed by Winograd's filtering."""

from dataclasses import dataclass, fields
from math import ceil, prod
from typing import Any

from schedules.winograd.matrices import LARGEST
from schedules.winograd.window import Slide, Window

_PREFIX = "tunesmith.winograd."
INIT = f"{_PREFIX}init"
"""Annotation of the block that sets the sums to zero."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the tiles of a convolution are computed; each number is an annotation of its block.

    Attributes
    ----------
    inputs : int
        Of a tile, along each tiled axis: as many products as inputs.
    rows, vectors, lanes : int
        The register tile of the products: points of the output, and vectors of columns.
    block : int
        Register tiles along the points whose products are kept before they are transformed back.
    tasks : int
        0: each task takes a block of points, and the filters are transformed at once, before. As
        many as there are panels of columns: each takes one, transforms its filters, and the data
        are transformed at once. Fewer: each takes some panels, and transforms all data for itself.
    """

    inputs: int
    rows: int
    vectors: int
    lanes: int
    block: int
    tasks: int

    @property
    def columns(self) -> int:
        """Columns of a panel."""
        return self.vectors * self.lanes

    def outputs(self, slide: Slide) -> int:
        """Return the outputs of a tile along an axis."""
        return self.inputs - slide.taps + 1

    def points(self, window: Window) -> int:
        """Return the tiles of the output, along all axes but the slid ones."""
        tiles = (self.tiles(slide) * slide.step for slide in window.tiled)
        return window.count(window.rows) * prod(tiles)

    def tiles(self, slide: Slide) -> int:
        """Return the tiles along an axis, of the outputs that are a step apart."""
        return ceil(ceil(slide.outputs / slide.step) / self.outputs(slide))

    def panels(self, window: Window) -> int:
        """Return the panels of columns."""
        return window.count(window.columns) // self.columns

    def fits(self, window: Window) -> bool:
        """Whether a convolution can be computed so."""
        if min(self.rows, self.vectors, self.lanes, self.block) < 1 or self.inputs > LARGEST:
            return False
        if any(self.outputs(slide) < 2 for slide in window.tiled):
            return False
        panels = self.panels(window)
        shared = 0 < self.tasks < panels and panels % self.tasks == 0 and not window.batch
        return (
            window.extents[window.sums[-1]] % self.lanes == 0
            and window.extents[window.columns[-1]] % self.columns == 0
            and (self.tasks in (0, panels) or shared)
        )


def annotation(name: str) -> str:
    """Return the annotation that holds a number of a plan."""
    return f"{_PREFIX}{name}"


def plan_of(block: Any) -> Plan | None:
    """Return what a block's annotations say, None if they say nothing of this."""
    names = [field.name for field in fields(Plan)]
    if not all(annotation(name) in block.annotations for name in names):
        return None
    return Plan(**{name: int(block.annotations[annotation(name)]) for name in names})
