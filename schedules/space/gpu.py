"""The default space of GPUs: our rules, then TVM's own for what they leave."""

from typing import Any

from tvm.s_tir import meta_schedule

from schedules.space.gpu_streaming import gpu_streaming
from schedules.space.rules import MutateChoice, Unless, Where
from schedules.space.stage import is_scheduled
from schedules.space.tensor_core import (
    TENSOR_CORE_KIND,
    tensor_core_postprocs,
    tensor_core_rules,
)
from schedules.space.warpgroup import has_tile, reaches, warpgroup_contraction
from schedules.target import Target

_CHOICE_SHARE = 0.5


def gpu(target: Target) -> Any:
    """Return the rules of a ``cuda`` target from sm_80 on.

    A program that memory bounds is scheduled as a whole, by `schedules.space.gpu_streaming`. In
    others contractions are tiled by `schedules.space.warpgroup` where the target has its
    instructions, and what is left is TVM's, with tensor cores.
    """
    contractions = [warpgroup_contraction()] if reaches(target) else []
    stock = [Where(_is_open, rule) for rule in tensor_core_rules()]
    return meta_schedule.space_generator.PostOrderApply(
        sch_rules=[gpu_streaming(target), *contractions, *stock],
        postprocs=list(map(_narrowed, tensor_core_postprocs())),
        mutator_probs={
            **meta_schedule.mutator.Mutator.create(TENSOR_CORE_KIND),
            MutateChoice(): _CHOICE_SHARE,
        },
    )


def _narrowed(postproc: Any) -> Any:
    """Keep TVM's post-processors away from what they would refuse in programs of our rules."""
    if isinstance(postproc, meta_schedule.postproc.RewriteUnboundBlock):
        return Unless(is_scheduled, postproc)
    if isinstance(postproc, meta_schedule.postproc.VerifyGPUCode):
        return Unless(has_tile, postproc)
    return postproc


def _is_open(schedule: Any, block: Any) -> bool:
    return not is_scheduled(schedule)
