"""What a scheduled program becomes when it is compiled, beyond what its trace says.

Imports TVM.
"""

from typing import Any

from schedules import vector_math
from schedules.rewrites.edge_tiles import free_whole_tiles
from schedules.rewrites.masks import choose_by_lane
from schedules.rewrites.quotients import share_reciprocals
from schedules.rewrites.transposes import turn_in_registers
from schedules.rewrites.unsigned_bytes import store_unsigned
from schedules.rewrites.vector_sums import sum_in_lanes
from schedules.rewrites.vector_tails import end_in_vectors
from schedules.rewrites.word_transposes import turn_words
from schedules.rewrites.zero_terms import skip_zero_terms
from schedules.winograd import expanded

VERSION = 5
"""Changes when generated code does; part of the environment of a measurement."""

_REWRITES = (
    expanded,
    store_unsigned,
    turn_words,
    choose_by_lane,
    turn_in_registers,
    free_whole_tiles,
    skip_zero_terms,
    share_reciprocals,
    sum_in_lanes,
    end_in_vectors,
)


def rewritten(function: Any) -> Any:
    """Rewrite a scheduled function.

    Returns
    -------
    tvm.tirx.PrimFunc
        The same object if there is nothing to do, as for GPUs, and for TVM's own default.
    """
    if vector_math.is_compiler_default():
        return function
    for rewrite in _REWRITES:
        function = rewrite(function)
    return function


def rewritten_whole(function: Any) -> Any:
    """Rewrite a scheduled function from which the packing of constants is yet to be split.

    What is packed, and how calls read it, change together here or not at all.

    Returns
    -------
    tvm.tirx.PrimFunc
        The same object if there is nothing to do.
    """
    return function if vector_math.is_compiler_default() else store_unsigned(expanded(function))
