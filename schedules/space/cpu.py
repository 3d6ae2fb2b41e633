"""The default space of CPUs."""

from typing import Any

from tvm.s_tir import meta_schedule

from schedules.space.rules import MutateChoice, Where
from schedules.space.streaming import streaming
from schedules.space.structure import has_contraction
from schedules.target import Target

_KIND = "llvm"
_CHOICE_SHARE = 0.5


def cpu(target: Target) -> Any:
    """Return our rules for an ``llvm`` target, and TVM's for programs with contractions."""
    rules = meta_schedule.schedule_rule.schedule_rule.create(_KIND)
    return meta_schedule.space_generator.PostOrderApply(
        sch_rules=[streaming(target), *(Where(has_contraction, rule) for rule in rules)],
        postprocs=_KIND,
        mutator_probs={
            **meta_schedule.mutator.Mutator.create(_KIND),
            MutateChoice(): _CHOICE_SHARE,
        },
    )
