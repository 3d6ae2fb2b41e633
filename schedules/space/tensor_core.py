"""TVM's CUDA rules with tensor cores for bfloat16 too, which the stock rules lack.

TVM has wmma intrinsics for float16 and int8 only; its code generator knows the bfloat16 fragments.
"""

import functools
from collections.abc import Sequence
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import SBlockRealize, TensorIntrin, meta_schedule
from tvm.s_tir.meta_schedule.schedule_rule import MultiLevelTilingTensorCore, ReuseType
from tvm.tirx.analysis import undefined_vars

from schedules.canonical import objects
from schedules.errors import InputError
from schedules.target import Target

TENSOR_CORE_KIND = "cuda-tensorcore"
_SIZE = (16, 16, 16)
_MOST_INDICES = 4


def tensor_core(target: Target) -> Any:
    """Return the stock tensor-core rules with a rule for bfloat16 before them.

    Raises
    ------
    InputError
        The target is no GPU with tensor cores for bfloat16 (sm_80 and later).
    """
    if target.compute_capability < (8, 0):
        raise InputError(
            f"space 'tensor-core' needs a cuda target of sm_80 or later, not {target}; use 'stock'"
        )
    return meta_schedule.space_generator.PostOrderApply(
        sch_rules=tensor_core_rules(),
        postprocs=tensor_core_postprocs(),
        mutator_probs=TENSOR_CORE_KIND,
    )


def tensor_core_rules() -> list[Any]:
    """Return the rules themselves, with the intrinsics that they name registered."""
    register_bfloat16()
    rules = list(meta_schedule.schedule_rule.schedule_rule.create(TENSOR_CORE_KIND))
    return [rules[0], _bfloat16_rule(), *rules[1:]]


def tensor_core_postprocs() -> list[Any]:
    """Return TVM's post-processors, with one more before its check of limits."""
    *others, verify, tensorize = meta_schedule.postproc.Postproc.create(TENSOR_CORE_KIND)
    return [*others, NarrowConditions(), verify, tensorize]


@tvm.ir.utils.derived_object
class NarrowConditions(meta_schedule.postproc.PyPostproc):
    """Reject wide vectors with a condition that differs between their lanes, as padding may have.

    TVM vectorises the condition's indices too, and its CUDA code for more than four of them is not
    accepted by any compiler.
    """

    def _initialize_with_tune_context(self, context: Any) -> None:
        """Do nothing: it needs to know nothing."""

    def apply(self, sch: Any) -> bool:
        """Whether the schedule may be measured."""
        return not any(
            _has_conditions_on(loop.loop_var, loop.body)
            for loop in objects(sch.mod["main"].body)
            if isinstance(loop, tirx.For)
            and loop.kind == tirx.ForKind.VECTORIZED
            and int(loop.extent) > _MOST_INDICES
        )

    def clone(self) -> Any:
        """Return a rule for another context."""
        return NarrowConditions()


def _has_conditions_on(lane: Any, body: Any) -> bool:
    """Whether a condition in a loop's body depends on its variable, directly or by a block's."""
    nodes = list(objects(body))
    moved = [lane]
    for node in nodes:
        if isinstance(node, SBlockRealize):
            values = zip(node.block.iter_vars, node.iter_values, strict=True)
            moved += [axis.var for axis, value in values if _uses(value, [lane])]
    conditions = (condition for condition in map(_condition, nodes) if condition is not None)
    return any(_uses(condition, moved) for condition in conditions)


def _condition(node: Any) -> Any:
    if isinstance(node, tirx.Select):
        return node.condition
    if str(getattr(getattr(node, "op", None), "name", "")).endswith("if_then_else"):
        return node.args[0]
    return None


def _uses(expression: Any, variables: Sequence[Any]) -> bool:
    used = undefined_vars(expression)
    return any(one.same_as(other) for one in used for other in variables)


@functools.cache
def register_bfloat16() -> None:
    """Register the wmma intrinsics of bfloat16, which traces of this space name. Idempotent."""
    from tvm.s_tir.tensor_intrin import cuda

    scope = "shared.dyn"
    for operand in ("a", "b"):
        for trans in (False, True):
            if (operand, trans) != ("a", True):
                TensorIntrin.register(
                    _load_name(operand, trans),
                    *cuda.get_wmma_load_intrin(*_SIZE, "bfloat16", scope, operand == "b", trans),
                )
    for trans in (False, True):
        TensorIntrin.register(
            _compute_name(trans),
            *cuda.get_wmma_sync_intrin(*_SIZE, "bfloat16", "float32", trans),
        )


def _bfloat16_rule() -> Any:
    """Return the tiling of TVM's own tensor-core rule, for other intrinsics."""
    return MultiLevelTilingTensorCore(
        intrin_groups=[_group(trans) for trans in (False, True)],
        structure="SSSRRSRS",
        tile_binds=["blockIdx.y", "blockIdx.x", "threadIdx.y"],
        max_innermost_factor=4,
        vector_load_lens=[1, 2, 3, 4, 8, 16],
        reuse_read=ReuseType(req="must", levels=[4], scope="shared.dyn"),
        reuse_write=ReuseType(req="must", levels=[2], scope="shared.dyn"),
        use_software_pipeline=False,
    )


def _group(trans: bool) -> dict[str, str]:
    return {
        "init": "wmma_fill_16x16x16_f32",
        "load_a": _load_name("a", False),
        "load_b": _load_name("b", trans),
        "compute": _compute_name(trans),
        "store": "wmma_store_16x16x16_f32_shared_dyn",
    }


def _load_name(operand: str, trans: bool) -> str:
    return f"wmma_load_16x16x16_bf16_{operand}{'_trans' * trans}_shared_dyn"


def _compute_name(trans: bool) -> str:
    return f"wmma_sync_16x16x16_bf16bf16f32{'_trans' * trans}"
