"""The compiler's default on GPUs, where a program as it was written cannot run."""

from typing import Any

import tvm
from tvm.s_tir import dlight
from tvm.s_tir.analysis import verify_gpu_code

from schedules.errors import InvalidTraceError
from schedules.target import Target


def dlight_schedule(module: Any, target: Target) -> Any:
    """Schedule a module by TVM's zero-search rules for GPUs, as its Relax builds do.

    Parameters
    ----------
    module : tvm.IRModule
        With one function ``main``.

    Returns
    -------
    tvm.s_tir.Schedule
        Made by the first rule whose program TVM can lower and the target can hold: for some
        convolutions the rules of reductions make one that TVM refuses, and for long vectors that
        of matrix-vector products asks for more shared memory than there is.

    Raises
    ------
    InvalidTraceError
        No rule applies.
    """
    tvm_target = tvm.target.Target(target.as_dict())
    rules = (
        dlight.gpu.Matmul(),
        dlight.gpu.GEMV(),
        dlight.gpu.Reduction(),
        dlight.gpu.GeneralReduction(),
        dlight.gpu.Fallback(),
    )
    with tvm_target:
        for rule in rules:
            found = rule.apply(module["main"], tvm_target, False)
            schedule = found[0] if isinstance(found, list) else found
            if schedule is not None and _fits(schedule.mod, target):
                return schedule
    raise InvalidTraceError("no zero-search rule of TVM for GPUs applies to this workload")


def _fits(module: Any, target: Target) -> bool:
    lower, *_ = tvm.tirx.get_tir_pipeline("default")
    bind = tvm.tirx.transform.BindTarget(tvm.target.Target(target.as_dict(), host="llvm"))
    try:
        lowered = lower(bind(module))
    except Exception:
        return False
    limits = {
        name: target.attributes[name]
        for name in ("max_shared_memory_per_block", "max_threads_per_block")
    }
    return all(verify_gpu_code(function, limits) for function in lowered.functions.values())
