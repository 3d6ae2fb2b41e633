"""The default space of CPUs: our rules, then TVM's own for what they leave."""

from typing import Any

from tvm.s_tir import meta_schedule

from schedules.space.balance import BalancedTasks
from schedules.space.packed import PackedContraction
from schedules.space.stage import Remainder
from schedules.target import Target

RULES = (PackedContraction,)
"""Our rules, in the order in which they are tried on each block. A block that a rule has scheduled
carries the annotation `schedules.space.stage.SCHEDULED`, and later rules leave it alone."""

CHECKS = (BalancedTasks,)
"""What a sample must pass to be measured, after TVM's own post-processing."""

_STOCK = "llvm"
# TVM's custom rule, constant scalars and inlining come before anything is tiled.
_INLINING = 3


def cpu(target: Target) -> Any:
    """Return the rules of an ``llvm`` target."""
    stock = list(meta_schedule.schedule_rule.schedule_rule.create(_STOCK))
    return meta_schedule.space_generator.PostOrderApply(
        sch_rules=[
            *stock[:_INLINING],
            *(rule() for rule in RULES),
            Remainder(),
            *stock[_INLINING:],
        ],
        postprocs=[*meta_schedule.postproc.Postproc.create(_STOCK), *(check() for check in CHECKS)],
        mutator_probs=_STOCK,
    )
