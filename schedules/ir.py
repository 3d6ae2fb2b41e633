"""Workloads as TVM programs: parsing, checking and normal form.

This module imports TVM. Text from outside is only handed to it inside a process that may die.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import tvm
from tvm import tirx

from schedules.canonical import canonical_ir, numberless_ir, objects
from schedules.errors import InvalidWorkloadError
from schedules.identity import sha256_id
from schedules.operators import find_operator
from schedules.operators.operator import MAX_TENSOR_ELEMENTS, MAX_WORKLOAD_BYTES
from schedules.prepack import CONSTANTS, constants_of
from schedules.workload import DTYPE_BYTES, OperatorCall, TensorSpec, Workload

MAX_IR_BYTES = 16 * 2**20

# Attributes that change how a function is scheduled, and not what it computes.
_DROPPED_ATTRIBUTES = ("op_pattern", "target", "tirx.is_scheduled")

# Operators that leave the program: a workload that uses them could run anything on a worker.
_FOREIGN_OPERATORS = frozenset(
    {
        "tirx.call_extern",
        "tirx.call_pure_extern",
        "tirx.call_llvm_intrin",
        "tirx.call_llvm_pure_intrin",
        "tirx.call_spirv_pure_glsl450",
        "tirx.tvm_call_packed",
        "tirx.tvm_call_cpacked",
        "tirx.tvm_call_packed_lowered",
        "tirx.tvm_call_cpacked_lowered",
        "tirx.address_of",
        "tirx.reinterpret",
        "tirx.handle_add_byte_offset",
    }
)


def workload_from_call(call: OperatorCall) -> Workload:
    """Write the program of a checked operator call."""
    operator = find_operator(call.op)
    tensors = tuple(
        replace(tensor, is_constant=tensor.name in call.constants)
        for tensor in operator.tensors(call.args, call.dtype)
    )
    constants = [place for place, tensor in enumerate(tensors) if tensor.is_constant]
    function = operator.define(call.args, call.dtype)
    module = _normalised(function.with_attr(CONSTANTS, constants))
    return Workload(
        workload_id=workload_id(module),
        name=str(call),
        ir=tvm.ir.save_json(module),
        tensors=tensors,
        flops=float(operator.flops(call.args)),
        call=call,
        family_id=family_id(module),
    )


def workload_from_ir(text: str, name: str | None = None) -> Workload:
    """Parse and check a module written by ``tvm.ir.save_json``.

    Parameters
    ----------
    text : str
        JSON of an ``IRModule`` that holds one TIR function, or of a ``PrimFunc``. Untrusted: call
        this only in a process that may die.
    name : str or None
        For people; the function's own name by default.

    Raises
    ------
    InvalidWorkloadError
        The text is not such JSON, or the program has symbolic shapes, unknown dtypes, parameters
        that are not tensors, no output, no block to schedule, calls to foreign code, constants that
        are no inputs of it, or is larger than what is accepted.
    """
    function = _only_function(_load(text))
    module = _normalised(function)
    tensors = _tensors(module["main"])
    _check_program(module, tensors)
    return Workload(
        workload_id=workload_id(module),
        name=name or _name_of(function),
        ir=tvm.ir.save_json(module),
        tensors=tensors,
        flops=_flops(module),
        family_id=family_id(module),
    )


def module_of(workload: Workload) -> Any:
    """Return the workload's ``tvm.IRModule``."""
    return tvm.ir.load_json(workload.ir)


def workload_id(module: Any) -> str:
    """Return the SHA-256 of the canonical form of a module's ``main``."""
    return sha256_id(canonical_ir(module["main"]))


def family_id(module: Any) -> str:
    """Return the SHA-256 of the canonical form of a module's ``main`` without its numbers.

    Programs that were written by the same code for other shapes have the same, unless the compiler
    has simplified one of them: a stride of one leaves no product behind.
    """
    return sha256_id(numberless_ir(module["main"]))


def _load(text: str) -> Any:
    if len(text) > MAX_IR_BYTES:
        raise InvalidWorkloadError(
            f"the IR has {len(text)} characters and at most {MAX_IR_BYTES} are accepted"
        )
    try:
        graph = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidWorkloadError(
            f"the IR is not JSON ({error}); write it with tvm.ir.save_json(module)"
        ) from None
    if not isinstance(graph, Mapping) or not {"root_index", "nodes"} <= graph.keys():
        raise InvalidWorkloadError(
            "the IR is JSON but not a TVM object graph; write it with tvm.ir.save_json(module)"
        )
    try:
        return tvm.ir.load_json(text)
    except Exception as error:
        raise InvalidWorkloadError(
            f"TVM {tvm.__version__} cannot load the IR: {_first_line(error)}; "
            "write it with tvm.ir.save_json(module) of the same TVM version"
        ) from None


def _only_function(loaded: Any) -> Any:
    if isinstance(loaded, tirx.PrimFunc):
        return loaded
    if not isinstance(loaded, tvm.IRModule):
        raise InvalidWorkloadError(
            f"the IR holds a {type(loaded).__name__}; send an IRModule with one TIR function"
        )
    functions = list(loaded.functions_items())
    if len(functions) != 1 or not isinstance(functions[0][1], tirx.PrimFunc):
        kinds = ", ".join(f"{name.name_hint}: {type(item).__name__}" for name, item in functions)
        raise InvalidWorkloadError(
            f"the module must hold exactly one TIR function, it holds: {kinds or 'nothing'}; "
            "send each function as a workload of its own"
        )
    name, function = functions[0]
    if "global_symbol" not in (function.attrs or {}):
        function = function.with_attr("global_symbol", name.name_hint)
    return function


def _name_of(function: Any) -> str:
    return str((function.attrs or {}).get("global_symbol", "main"))


def _normalised(function: Any) -> Any:
    for attribute in _DROPPED_ATTRIBUTES:
        if attribute in (function.attrs or {}):
            function = function.without_attr(attribute)
    function = function.with_attr("global_symbol", "main").with_attr("tirx.noalias", True)
    if constants := _constants(function):
        function = function.with_attr(CONSTANTS, constants)
    elif CONSTANTS in (function.attrs or {}):
        function = function.without_attr(CONSTANTS)
    return tvm.IRModule({"main": function})


def _constants(function: Any) -> list[int]:
    try:
        return sorted(set(constants_of(function)))
    except (TypeError, ValueError):
        raise InvalidWorkloadError(
            f"the attribute {CONSTANTS!r} must be a list of positions of parameters"
        ) from None


def normalised_module(module: Any) -> Any:
    """Return a one-function module in the normal form whose identity `workload_id` takes."""
    return _normalised(_only_function(module))


def _tensors(function: Any) -> tuple[TensorSpec, ...]:
    written, constants = _written_variables(function), constants_of(function)
    indexed = _indexed_extents(function)
    specs: list[TensorSpec] = []
    for place, parameter in enumerate(function.params):
        buffer = parameter.ty
        if not isinstance(buffer, tirx.BufferType):
            raise InvalidWorkloadError(
                f"parameter {parameter.name!r} is not a tensor; only tensor parameters are tuned"
            )
        shape = tuple(_extent(parameter.name, extent) for extent in buffer.shape)
        dtype = str(buffer.dtype.dtype)
        if dtype not in DTYPE_BYTES:
            raise InvalidWorkloadError(
                f"parameter {parameter.name!r} has dtype {dtype}; use one of "
                + ", ".join(DTYPE_BYTES)
            )
        if prod(shape) > MAX_TENSOR_ELEMENTS:
            raise InvalidWorkloadError(
                f"parameter {parameter.name!r} has {prod(shape):.3g} elements; at most "
                f"{MAX_TENSOR_ELEMENTS} are accepted, as generated code indexes with 32 bits"
            )
        specs.append(
            TensorSpec(
                name=parameter.name,
                shape=shape,
                dtype=dtype,
                is_output=parameter.__chandle__() in written,
                is_constant=place in constants,
                index_below=indexed.get(parameter.__chandle__()),
            )
        )
    for place in constants:
        if not 0 <= place < len(specs) or specs[place].is_output:
            raise InvalidWorkloadError(
                f"{CONSTANTS!r} names parameter {place}, which is no input of the function; give "
                "the positions of inputs, counted from 0"
            )
    return tuple(specs)


def _extent(name: str, extent: Any) -> int:
    if not isinstance(extent, tirx.IntImm) or int(extent) < 1:
        raise InvalidWorkloadError(
            f"parameter {name!r} has the extent {extent}; every extent must be a positive constant"
        )
    return int(extent)


def _written_variables(function: Any) -> set[int]:
    return {
        node.buffer.__chandle__()
        for node in objects(function.body)
        if isinstance(node, tirx.BufferStore)
    }


def _indexed_extents(function: Any) -> dict[int, int]:
    """Return the least extent that each buffer's values index, by the buffer's handle."""
    extents: dict[int, int] = {}
    for node in objects(function.body):
        if not isinstance(node, tvm.ir.TensorLoad | tirx.BufferStore):
            continue
        indexed = node.source if isinstance(node, tvm.ir.TensorLoad) else node.buffer
        for index, extent in zip(node.indices, indexed.ty.shape, strict=True):
            for load in objects(index):
                if isinstance(load, tvm.ir.TensorLoad) and isinstance(extent, tirx.IntImm):
                    handle = load.source.__chandle__()
                    extents[handle] = min(int(extent), extents.get(handle, int(extent)))
    return extents


def _check_program(module: Any, tensors: tuple[TensorSpec, ...]) -> None:
    if not any(tensor.is_output for tensor in tensors):
        raise InvalidWorkloadError("the function writes none of its parameters; it has no output")
    size_bytes = sum(tensor.size_bytes for tensor in tensors)
    if size_bytes > MAX_WORKLOAD_BYTES:
        raise InvalidWorkloadError(
            f"the tensors need {size_bytes:.3g} bytes; {MAX_WORKLOAD_BYTES:.3g} are accepted"
        )
    foreign = _foreign_operators(module["main"])
    if foreign:
        raise InvalidWorkloadError(
            f"the function calls foreign code ({', '.join(sorted(foreign))}); "
            "only programs that compute with their own tensors are tuned"
        )
    try:
        tvm.s_tir.analysis.verify_well_formed(module)
        schedule = tvm.s_tir.Schedule(module)
        blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    except Exception as error:
        raise InvalidWorkloadError(
            f"the function cannot be scheduled: {_first_line(error)}"
        ) from None
    if not blocks:
        raise InvalidWorkloadError(
            "the function has no block to schedule; it may be lowered already: send it as it is "
            "before lowering"
        )


def _foreign_operators(function: Any) -> set[str]:
    called = [node.op for node in objects(function.body) if isinstance(node, tvm.ir.Call)]
    return {
        str(getattr(op, "name", op))
        for op in called
        if not isinstance(op, tvm.ir.Op) or op.name in _FOREIGN_OPERATORS
    }


def _flops(module: Any) -> float:
    try:
        return float(tvm.s_tir.analysis.estimate_tir_flops(module))
    except Exception:
        # TVM refuses to count programs with data-dependent loops; then the roofline has no roof.
        return 0.0


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).strip()[:300]
