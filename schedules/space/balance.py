"""Rejects samples that leave cores idle, so that few trials suffice."""

from math import ceil
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import meta_schedule

from schedules.nests import nests_of
from schedules.space.stage import SCHEDULED, TILED

# Time of the last core to finish over the mean of all.
_MOST_IMBALANCE = 1.25


@tvm.ir.utils.derived_object
class BalancedTasks(meta_schedule.postproc.PyPostproc):
    """Accept a tiled contraction only if its parallel tasks keep the target's cores busy.

    Tasks are dealt out in equal runs, so with t tasks on c cores the last core has ceil(t / c). The
    finest division of a program is always accepted, as it cannot do better. Adds nothing to a
    trace: a replay does not need it.
    """

    def _initialize_with_tune_context(self, context: Any) -> None:
        self._cores = int(context.target.attrs.get("num-cores", 1))

    def apply(self, sch: Any) -> bool:
        """Whether the schedule may be measured."""
        return all(_is_balanced(nest, self._cores) for nest in nests_of(sch.mod["main"]))

    def clone(self) -> Any:
        """Return a rule for another context."""
        return BalancedTasks()


def keeps_busy(tasks: int, cores: int) -> bool:
    """Whether so many equal tasks leave no core idle for long."""
    return ceil(tasks / cores) * cores <= _MOST_IMBALANCE * tasks


def _is_balanced(nest: Any, cores: int) -> bool:
    if not (isinstance(nest, tirx.For) and nest.kind == tirx.ForKind.PARALLEL):
        return True
    tasks = tiles = iterations = int(nest.extent)
    inner = nest.body
    while isinstance(inner, tirx.For | tirx.SeqStmt):
        if isinstance(inner, tirx.SeqStmt):
            # After a copied panel, or between a tile's first zeros and its write-back: up to here
            # the loops count tiles.
            tiles, inner = iterations, inner.seq[1]
        else:
            iterations *= int(inner.extent) if inner.kind == tirx.ForKind.SERIAL else 1
            inner = inner.body
    block = getattr(inner, "block", None)
    if block is None or block.annotations.get(SCHEDULED) != TILED:
        return True
    return tasks == tiles or keeps_busy(tasks, cores)
