"""Giving each axis of a contraction one role, by splits of the axes that play two."""

from collections.abc import Callable
from typing import Any

from tvm import tirx

from schedules.space.contraction import (
    Contraction,
    Role,
    find_contraction,
    grouped_axis,
    is_product,
    phased_axis,
)
from schedules.space.stage import own_loops


def contraction_in(sch: Any, block: Any) -> Contraction | None:
    """The contraction in a block that has loops of its own, one for each axis."""
    if not (is_product(sch.get(block)) and own_loops(sch, block)):
        return None
    trial = sch.copy()
    separate_axes(trial, block)
    return find_contraction(trial.get(block))


def separate_axes(sch: Any, block: Any) -> None:
    """Split axes that play two roles, so that each axis plays one.

    An axis that one operand uses only divided holds a batch axis, and one that a condition uses
    modulo a number holds a phase.
    """
    while (grouped := grouped_axis(sch.get(block))) is not None:
        sch.transform_block_layout(block, _split_map(sch.get(block), *grouped))
        for read, region in enumerate(sch.get(block).reads):
            # A layout that stays as it is: the primitive simplifies the indices, which still hold
            # the whole axis, and only then are the operands' axes told apart.
            same = _same_map(sch.get(block), len(region.region))
            sch.transform_layout(block, ("read", read), same)
    while (phased := phased_axis(sch.get(block))) is not None:
        sch.transform_block_layout(block, _split_map(sch.get(block), *phased))
    drop_unit_axes(sch, block)


def drop_unit_axes(sch: Any, block: Any) -> None:
    """Leave out axes of one element, but for one row where there is no other."""
    extents = [int(axis.dom.extent) for axis in sch.get(block).iter_vars]
    keep = {place for place, extent in enumerate(extents) if extent > 1}
    found = find_contraction(sch.get(block))
    if found is not None and not keep & set(found.places(Role.ROW)):
        keep.add(found.places(Role.ROW)[0])

    def kept(*axes: Any) -> list[Any]:
        return [axis for place, axis in enumerate(axes) if place in keep]

    if 0 < len(keep) < len(extents):
        sch.transform_block_layout(
            block, index_map(kept, len(extents), index_dtype(sch.get(block)))
        )


def _split_map(block: Any, place: int, divisor: int) -> Any:
    def split(*axes: Any) -> list[Any]:
        parts = [axes[place] // divisor, axes[place] % divisor]
        return [*axes[:place], *parts, *axes[place + 1 :]]

    return index_map(split, len(block.iter_vars), index_dtype(block))


def _same_map(block: Any, arity: int) -> Any:
    return index_map(lambda *indices: list(indices), arity, index_dtype(block))


def index_map(function: Callable[..., Any], arity: int, dtype: str) -> Any:
    """Make a ``tvm.tirx.IndexMap`` of a function of so many indices of a dtype."""
    return tirx.IndexMap.from_func(function, ndim=arity, index_dtype=dtype)


def index_dtype(block: Any) -> str:
    """The dtype of a block's axes: programs imported from elsewhere count in int64."""
    return str(block.iter_vars[0].var.expr_ty())
