"""The default space of CPUs: our rules, then TVM's own for what they leave."""

from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import meta_schedule

from schedules.space.balance import BalancedTasks
from schedules.space.lane_sums import lane_sums
from schedules.space.packed import PackedContraction
from schedules.space.rules import MutateChoice, Unless, Where
from schedules.space.stage import Remainder, is_scheduled
from schedules.space.streaming import streaming, streaming_between
from schedules.space.structure import blocks_of, describe, has_contraction
from schedules.target import Target

_STOCK = "llvm"
# TVM's custom rule, constant scalars and inlining come before anything is tiled.
_INLINING = 3
_CHOICE_SHARE = 0.5


def cpu(target: Target) -> Any:
    """Return the rules of an ``llvm`` target.

    A program that memory bounds is scheduled as a whole, by `schedules.space.streaming`. One with a
    contraction is scheduled contraction by contraction, and stretch by stretch between them: a
    block that a rule of ours has scheduled carries the annotation
    `schedules.space.stage.SCHEDULED`, and TVM's rules leave it alone.
    """
    stock = list(meta_schedule.schedule_rule.schedule_rule.create(_STOCK))
    return meta_schedule.space_generator.PostOrderApply(
        sch_rules=[
            streaming(target),
            *(Where(_is_no_operand, rule) for rule in stock[:_INLINING]),
            *(
                Where(_is_beside_contraction, rule)
                for rule in (streaming_between(target), lane_sums(target), PackedContraction())
            ),
            Remainder(),
            *(Where(_is_beside_contraction, rule) for rule in stock[_INLINING:]),
        ],
        postprocs=[*_postprocs(), BalancedTasks()],
        mutator_probs={
            **meta_schedule.mutator.Mutator.create(_STOCK),
            MutateChoice(): _CHOICE_SHARE,
        },
    )


def _postprocs() -> list[Any]:
    """TVM's own; that for constants only where TVM has tiled, as it would pack a copy again."""
    return [
        Unless(_is_ours, one) if isinstance(one, meta_schedule.postproc.RewriteLayout) else one
        for one in meta_schedule.postproc.Postproc.create(_STOCK)
    ]


def _is_ours(schedule: Any) -> bool:
    return is_scheduled(schedule) or not has_contraction(schedule)


def _is_beside_contraction(schedule: Any, block: Any) -> bool:
    return has_contraction(schedule)


def _is_no_operand(schedule: Any, block: Any) -> bool:
    """Whether TVM may inline a block: what computes an operand would be done for each product."""
    value = getattr(schedule.get(block).body, "value", None)
    moves = isinstance(value.value if isinstance(value, tirx.Cast) else value, tvm.ir.TensorLoad)
    contractions = [item for item in blocks_of(schedule) if item.is_contraction]
    feeds = any(map(describe(schedule.get(block)).feeds, contractions))
    return bool(contractions) and (moves or not feeds)
