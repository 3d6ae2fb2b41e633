"""Giving each axis of a contraction one role, by splits of the axes that play two."""

from collections.abc import Callable
from math import gcd
from typing import Any

from tvm import tirx
from tvm.sym import detect_linear_equation

from schedules.space.contraction import (
    Contraction,
    Role,
    find_contraction,
    grouped_axis,
    is_product,
    phased_axis,
)
from schedules.space.stage import makers, own_loops


def contraction_in(sch: Any, block: Any) -> Contraction | None:
    """The contraction in a block that has loops of its own, one for each axis."""
    if not (is_product(sch.get(block)) and own_loops(sch, block)):
        return None
    trial = sch.copy()
    return find_contraction(trial.get(block)) if separate_axes(trial, block) else None


def separate_axes(sch: Any, block: Any) -> bool:
    """Split axes that play two roles, so that each axis plays one; say whether that was possible.

    An axis that one operand uses only divided holds a batch axis, and one that a condition uses
    modulo a number holds a phase.
    """
    if grouped_axis(sch.get(block)) is not None:
        _divide_strides(sch, block)
    while (grouped := grouped_axis(sch.get(block))) is not None:
        place, divisor = grouped
        sch.transform_block_layout(block, _split_map(sch.get(block), place, divisor))
        for read, region in enumerate(sch.get(block).reads):
            # A layout that stays as it is: the primitive simplifies the indices, which still hold
            # the whole axis, and only then are the operands' axes told apart.
            same = _same_map(sch.get(block), len(region.region))
            sch.transform_layout(block, ("read", read), same)
        if grouped_axis(sch.get(block)) == (place + 1, divisor):
            return False
    while (phased := phased_axis(sch.get(block))) is not None:
        sch.transform_block_layout(block, _split_map(sch.get(block), *phased))
    drop_unit_axes(sch, block)
    return True


def _divide_strides(sch: Any, block: Any) -> None:
    """Let no index of a copy have a stride in all of its parts.

    A window that is dilated by what it moves by reads every second row, say, of its padded input.
    TVM simplifies no index of such a read.
    """
    for read, region in enumerate(sch.get(block).reads):
        variables = [axis.var for axis in sch.get(block).iter_vars]
        strides = [
            _common_stride(part.min, variables, int(extent))
            for part, extent in zip(region.region, region.source.ty.shape, strict=True)
        ]
        if max(strides) > 1 and makers(sch, block, region.source):
            sch.transform_layout(block, ("read", read), _strided_map(strides, sch.get(block)))


def _common_stride(index: Any, variables: list[Any], extent: int) -> int:
    """Return what divides every index of an axis and its extent, 1 where that cannot be told."""
    factors = detect_linear_equation(index, variables)
    known = len(factors) > 0 and all(isinstance(factor, tirx.IntImm) for factor in factors)
    return gcd(extent, *map(int, factors)) if known and any(map(int, factors)) else 1


def _strided_map(strides: list[int], block: Any) -> Any:
    def divided(*indices: Any) -> list[Any]:
        parts = [
            [index] if stride == 1 else [index // stride, index % stride]
            for index, stride in zip(indices, strides, strict=True)
        ]
        return [part for one in parts for part in one]

    return index_map(divided, len(strides), index_dtype(block))


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
