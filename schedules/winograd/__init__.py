"""Convolutions by Winograd's minimal filtering: sums of tiles in place of products. Imports TVM.

A filter of three taps that is slid over four inputs gives two outputs with four products in place
of six; in tiles of six by six inputs, sixteen outputs take 36 products in place of 144. No schedule
primitive says such a thing. So a trace marks the convolution's block with a plan
(`schedules.winograd.plan`), its program stays a convolution, and `expanded` makes the loops of it
before features are taken or anything is compiled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir, tirx

from schedules.canonical import objects
from schedules.errors import InvalidTraceError
from schedules.nests import (
    in_sequence,
    is_among,
    mapped,
    nests_of,
    only_block,
    substituted,
    with_root_body,
)
from schedules.winograd.nest import loops_of
from schedules.winograd.plan import INIT, Plan, plan_of
from schedules.winograd.window import Window, find_window


def check(function: Any) -> None:
    """Check that what a scheduled function marks can be expanded.

    Raises
    ------
    InvalidTraceError
        A marked block is no such convolution, or its plan does not fit.
    """
    for nest in nests_of(function):
        _marked(nest)


def expanded(function: Any) -> Any:
    """Replace marked convolutions by the loops of their plans.

    The only consumer, if it makes one element of each output, is computed where the output is.

    Parameters
    ----------
    function : tvm.tirx.PrimFunc
        A scheduled program.

    Returns
    -------
    tvm.tirx.PrimFunc
        The same object where nothing is marked.

    Raises
    ------
    InvalidTraceError
        As `check`.
    """
    while True:
        nests = nests_of(function)
        marked = ((place, found) for place, nest in enumerate(nests) if (found := _marked(nest)))
        place, found = next(marked, (0, None))
        if found is None:
            return function
        function = _expanded(function, nests, place, *found)


def _marked(nest: Any) -> tuple[Window, Plan] | None:
    block = only_block(nest)
    plan = None if block is None else plan_of(block)
    if plan is None:
        return None
    window = find_window(block)
    if window is None or not plan.fits(window):
        raise InvalidTraceError(
            f"block {block.name_hint!r} is marked for Winograd's filtering, and is no convolution "
            f"of stride one in float32 that this fits: {plan}"
        )
    return window, plan


def _expanded(function: Any, nests: list[Any], place: int, window: Window, plan: Plan) -> Any:
    output = window.store.buffer
    rest = [nest for nest in nests if not (nest.same_as(nests[place]) or _is_init(nest, output))]
    consumer = None
    if is_among(output, function.body.block.alloc_buffers):
        readers = [nest for nest in rest if _reads(nest, output)]
        consumer = _consumer(readers[0], output) if len(readers) == 1 else None

    def stored(values: Mapping[int, Any], element: Any) -> Any:
        indices = [window.at(index, values) for index in window.store.indices]
        if consumer is None:
            return tirx.BufferStore(output, element, indices)
        return consumer.stored(indices, element)

    made, buffers = loops_of(window, plan, stored)
    replaced = nests[place] if consumer is None else consumer.nest
    parts: list[Any] = []
    for nest in nests:
        if nest.same_as(replaced):
            parts += made
        elif is_among(nest, rest):
            parts.append(nest)
    dropped = [] if consumer is None else [output]
    return with_root_body(function, in_sequence(parts), buffers, dropped)


def _is_init(nest: Any, output: Any) -> bool:
    block = only_block(nest)
    return (
        block is not None and INIT in block.annotations and block.writes[0].source.same_as(output)
    )


def _reads(nest: Any, buffer: Any) -> bool:
    """Whether anything in a nest loads from a buffer or matches it."""
    return any(
        (isinstance(node, tvm.ir.TensorLoad) and node.source.same_as(buffer))
        or (isinstance(node, s_tir.MatchBufferRegion) and node.source.source.same_as(buffer))
        for node in objects(nest)
    )


@dataclass(frozen=True, kw_only=True)
class _Consumer:
    """A nest that makes an element of each output.

    Attributes
    ----------
    store : tvm.tirx.BufferStore
        All that its block does.
    variables : tuple of tvm.tirx.Var
        The block's axes, one for each index of the output or of one element.
    places : tuple of int
        For each axis, the index of the output that it is; -1 if it is none.
    """

    nest: Any
    store: Any
    output: Any
    variables: tuple[Any, ...]
    places: tuple[int, ...]

    def stored(self, indices: Sequence[Any], element: Any) -> Any:
        """Return what stores the element that is made of an output."""

        def taken(part: Any) -> Any:
            return element if _loads(part, self.output) else None

        zero = tirx.const(0, str(self.variables[0].expr_ty()))
        values = [zero if place < 0 else indices[place] for place in self.places]
        written = [mapped(self.store.value, taken), *self.store.indices]
        value, *at = (substituted(one, self.variables, values) for one in written)
        return tirx.BufferStore(self.store.buffer, value, at)


def _consumer(nest: Any, output: Any) -> _Consumer | None:
    block = only_block(nest)
    store = block and block.body
    is_pointwise = (
        isinstance(store, tirx.BufferStore)
        and block.init is None
        and not block.match_buffers
        and all(int(axis.iter_type) == tirx.IterVar.DataPar for axis in block.iter_vars)
    )
    if not is_pointwise:
        return None
    loads = [node for node in objects(store.value) if _loads(node, output)]
    reached: list[Any] = []

    def reach(part: Any) -> Any:
        if not _loads(part, output):
            return None
        reached.append(part)
        return part

    mapped(store.value, reach)
    places = _places(block.iter_vars, loads[0].indices)
    alike = all(_places(block.iter_vars, load.indices) == places for load in loads)
    if places is None or not alike or len(reached) < len(loads):
        return None
    variables = tuple(axis.var for axis in block.iter_vars)
    return _Consumer(nest=nest, store=store, output=output, variables=variables, places=places)


def _loads(node: Any, buffer: Any) -> bool:
    return isinstance(node, tvm.ir.TensorLoad) and bool(node.source.same_as(buffer))


def _places(axes: Sequence[Any], indices: Sequence[Any]) -> tuple[int, ...] | None:
    """Say for each axis which index it is; None if an index is more than one of them."""
    found = [
        next((at for at, index in enumerate(indices) if index.same_as(axis.var)), -1)
        for axis in axes
    ]
    single = all(
        place >= 0 or int(axis.dom.extent) == 1 for axis, place in zip(axes, found, strict=True)
    )
    constant = all(
        at in found or isinstance(index, tirx.IntImm) for at, index in enumerate(indices)
    )
    return tuple(found) if single and constant else None
