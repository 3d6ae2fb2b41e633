"""Traces: canonical form, identity and replay.

A trace is written as TVM's own JSON, ``[instructions, decisions]``, with booleans as 0 and 1, so
that one that went through TVM's JSON database has the same identity as one fresh from a search.
"""

import json
from contextlib import nullcontext
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Trace

from schedules import intrinsics, prepack, vector_math, winograd
from schedules.errors import InvalidTraceError
from schedules.identity import canonical_json
from schedules.rewrites import rewritten, rewritten_whole
from schedules.space.vector_unit import AVX512, vector_unit

_WHOLE_REGISTERS = "-prefer-256-bit"

intrinsics.register()


def canonical_trace(trace: Any) -> str:
    """Write a ``tvm.s_tir.schedule.Trace`` in its canonical form."""
    return canonical_json(_plain(trace.as_json()))


def parse_trace(text: str) -> str:
    """Check that a text is a trace and write it in its canonical form.

    Raises
    ------
    InvalidTraceError
        It is not JSON, or not a pair of lists.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidTraceError(f"the trace is not JSON: {error}") from None
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(isinstance(part, list) for part in value)
    ):
        raise InvalidTraceError("a trace is a pair of lists: [instructions, decisions]")
    return canonical_json(_plain(value))


def replay(trace: str, module: Any) -> Any:
    """Apply a trace to a module.

    Parameters
    ----------
    trace : str
        Canonical trace, with its post-processing instructions.
    module : tvm.IRModule
        The workload's program.

    Returns
    -------
    tvm.s_tir.Schedule
        Holds the transformed program as ``.mod``.

    Raises
    ------
    InvalidTraceError
        An instruction does not apply to this program, it packs what is not constant, or it marks
        what is no convolution.
    """
    intrinsics.register_named(trace)
    schedule = Schedule(module)
    try:
        Trace.apply_json_to_schedule(json.loads(trace), schedule)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise InvalidTraceError(
            f"the trace does not apply to this workload: {(lines or [type(error).__name__])[-1]}"
        ) from None
    prepack.split(schedule.mod)
    winograd.check(schedule.mod["main"])
    return schedule


def build(module: Any, target: Any) -> Any:
    """Compile a scheduled module to a runtime module that runs where it was made.

    Parameters
    ----------
    module : tvm.IRModule
        With a function ``main``; what it packs ahead of time becomes a function of its own, see
        `schedules.prepack.split`.
    target : tvm.target.Target
        What to compile for.
    """
    split = prepack.split(tvm.IRModule({"main": rewritten_whole(module["main"])})).module
    functions = {name: rewritten(function) for name, function in split.functions_items()}
    with build_context(target):
        return tvm.tirx.build(tvm.IRModule(functions), target=build_target(target))


def build_target(target: Any) -> Any:
    """Return the target that scheduled programs are compiled for, in place of one.

    For CPUs with AVX-512 it lets LLVM's vectoriser take whole registers. LLVM's tables say of most
    of them that half are to be preferred, as the first ones lowered their clocks for the others.

    Parameters
    ----------
    target : tvm.target.Target
        What was asked for.
    """
    whole = target.kind.name == "llvm" and vector_unit(target) == AVX512
    if not whole or vector_math.is_compiler_default():
        return target
    described = dict(target.export())
    return tvm.target.Target(
        {**described, "mattr": [*described.get("mattr", ()), _WHOLE_REGISTERS]}
    )


def build_context(target: Any) -> Any:
    """Return the scope in which scheduled programs are built for a target.

    For GPUs it is the present pass context without StorageRewrite: that pass lets a tensor core's
    operands and results share one buffer, whose type then fits only one of them, and TVM refuses
    its own program. A later pass merges shared memory.

    Parameters
    ----------
    target : tvm.target.Target or None
        What is built for.
    """
    if target is None or target.kind.name != "cuda":
        return nullcontext()
    present = tvm.transform.PassContext.current()
    return tvm.transform.PassContext(
        opt_level=present.opt_level,
        required_pass=list(present.required_pass),
        disabled_pass=list(present.disabled_pass),
        instruments=list(present.instruments),
        config={**present.config, "tirx.disable_storage_rewrite": True},
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, tirx.IntImm | tirx.FloatImm):
        return _plain(value.value)
    if hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value]
