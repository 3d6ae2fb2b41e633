"""What a scheduled program becomes when it is compiled, beyond what its trace says.

Imports TVM.
"""

from typing import Any

from schedules.rewrites.edge_tiles import free_whole_tiles
from schedules.rewrites.quotients import share_reciprocals
from schedules.rewrites.zero_terms import skip_zero_terms

VERSION = 2
"""Changes when generated code does; part of the environment of a measurement."""


def rewritten(function: Any) -> Any:
    """Rewrite a scheduled function; the same object if there is nothing to do, as for GPUs."""
    return share_reciprocals(skip_zero_terms(free_whole_tiles(function)))
