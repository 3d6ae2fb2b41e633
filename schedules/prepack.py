"""Constant parameters, and the packing of them ahead of time. Imports TVM.

A parameter that holds the same values in every call, as weights do, may lie in memory as the
kernel likes it best: it is copied once, when a model is loaded, and every call reads the copy. A
program declares such parameters by TVM's attribute `CONSTANTS`; a schedule marks the block that
copies one by TVM's annotation `AHEAD`, and what a call does then no longer holds that block.

Source: TVM's ``relax.transform.SplitLayoutRewritePreproc``, which reads the same marks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import s_tir, tirx

from schedules.errors import InvalidTraceError
from schedules.nests import in_sequence, is_among, nests_of, only_block

CONSTANTS = "layout_free_buffers"
"""Attribute of a function: the positions of its constant parameters."""
AHEAD = "meta_schedule.layout_rewrite_preproc"
"""Annotation of a block that copies a constant parameter ahead of time."""
PREPACK = "prepack"
"""Name of the function that packs."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A scheduled program without what is done ahead of its calls.

    Attributes
    ----------
    module : tvm.IRModule
        ``main``, and where anything is packed ``prepack``: it takes the constants that `places`
        names, then a buffer for each packed one, and ``main`` takes these in their places.
    places : tuple of int
        Positions of the packed parameters.
    shapes, dtypes : tuple
        Of the packed parameters, in the same order.
    """

    module: Any = field(repr=False)
    places: tuple[int, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    dtypes: tuple[str, ...] = ()


def constants_of(function: Any) -> tuple[int, ...]:
    """Return the positions of a function's constant parameters."""
    return tuple(int(place) for place in (function.attrs or {}).get(CONSTANTS, ()))


def split(module: Any) -> Packed:
    """Split a scheduled program to what is done ahead of its calls and what a call does.

    Parameters
    ----------
    module : tvm.IRModule
        With a function ``main``. It is not changed, and returned as it is where nothing is packed.

    Raises
    ------
    InvalidTraceError
        It packs a parameter that is not declared constant, or something else than a parameter.
    """
    function = module["main"]
    nests = nests_of(function)
    copies = [_copy_in(nest) for nest in nests]
    ahead = [copy for copy in copies if copy is not None]
    if not ahead:
        return Packed(module=module)
    places = [_place(function, copy) for copy in ahead]
    packed = [copy.writes[0].source for copy in ahead]
    calls = [nest for nest, copy in zip(nests, copies, strict=True) if copy is None]
    prepack = _function(
        PREPACK,
        [*(function.params[place] for place in places), *packed],
        [nest for nest, copy in zip(nests, copies, strict=True) if copy is not None],
        attributes=function.attrs,
    )
    parameters = list(function.params)
    for place, buffer in zip(places, packed, strict=True):
        parameters[place] = buffer
    made_inside = function.body.block.alloc_buffers
    left = [made for made in made_inside if not is_among(made, packed)]
    main = _function("main", parameters, calls, buffers=left, attributes=function.attrs)
    return Packed(
        module=tvm.IRModule({"main": main, PREPACK: prepack}),
        places=tuple(places),
        shapes=tuple(tuple(int(extent) for extent in buffer.ty.shape) for buffer in packed),
        dtypes=tuple(str(buffer.ty.dtype.dtype) for buffer in packed),
    )


def _copy_in(nest: Any) -> Any:
    """Return the block of a nest that is done ahead of time, None if it is none."""
    block = only_block(nest)
    return block if block is not None and AHEAD in block.annotations else None


def _place(function: Any, copy: Any) -> int:
    """Return the position of the constant that a block copies."""
    sources = [region.source for region in copy.reads]
    for place in constants_of(function):
        if len(sources) == 1 and function.params[place].same_as(sources[0]):
            return place
    names = ", ".join(str(source.name) for source in sources)
    raise InvalidTraceError(
        f"block {copy.name_hint!r} packs {names} ahead of time, which is no constant parameter of "
        f"the program; its attribute {CONSTANTS!r} declares those"
    )


def _function(
    name: str,
    parameters: Sequence[Any],
    nests: Sequence[Any],
    *,
    buffers: Sequence[Any] = (),
    attributes: Any,
) -> Any:
    block = s_tir.SBlock(
        iter_vars=[],
        reads=[],
        writes=[],
        name_hint="root",
        body=in_sequence(nests),
        alloc_buffers=[*buffers],
    )
    body = s_tir.SBlockRealize([], True, block)
    function = tirx.PrimFunc([*parameters], body, attrs=attributes)
    # Both functions name the packed buffers; each is to have its own.
    return s_tir.renew_defs(function.without_attr(CONSTANTS).with_attr("global_symbol", name))
