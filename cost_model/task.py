"""The columns of a row that say what is tuned and what for. Imports TVM to ask for the target."""

import math
from dataclasses import dataclass

from tvm.target import Target as TvmTarget

from cost_model import machine
from cost_model.machine import Machine
from schedules.space.vector_unit import vector_unit
from schedules.target import Target
from schedules.workload import DTYPE_BYTES, Workload


@dataclass(frozen=True, kw_only=True)
class Task:
    """A workload on a target, as the features see it.

    Attributes
    ----------
    columns : tuple of float
        One value for each of ``TASK_COLUMNS``.
    machine : Machine
        The target's hardware.
    roofline_secs : float
        The least time that a call can take.
    element_bytes : float
        Size of the narrowest operand.
    """

    columns: tuple[float, ...]
    machine: Machine
    roofline_secs: float
    element_bytes: float


def describe_task(workload: Workload, target: Target) -> Task:
    """Describe a workload on a target."""
    hardware = _machine(target)
    flops, size_bytes = workload.flops, float(workload.size_bytes)
    inputs = [tensor for tensor in workload.tensors if not tensor.is_output]
    outputs = [tensor for tensor in workload.tensors if tensor.is_output]
    operands = inputs or outputs
    element_bytes = float(min((DTYPE_BYTES[tensor.dtype] for tensor in operands), default=4))
    roofline_secs = hardware.roofline_secs(flops, size_bytes, element_bytes)
    amounts = (
        1.0 + flops,
        1.0 + size_bytes,
        1.0 + flops / max(size_bytes, 1.0),
        hardware.cores,
        1.0 + sum(tensor.elements for tensor in outputs),
        1.0 + max((tensor.elements for tensor in inputs), default=0),
        element_bytes,
        1.0 + len(workload.tensors),
        hardware.vector_bytes,
        hardware.flops_per_sec,
        hardware.bytes_per_sec,
        roofline_secs,
    )
    return Task(
        columns=tuple(math.log2(amount) for amount in amounts),
        machine=hardware,
        roofline_secs=roofline_secs,
        element_bytes=element_bytes,
    )


def _machine(target: Target) -> Machine:
    if target.kind != "llvm":
        l2_bytes = target.attributes.get("l2_cache_size_bytes")
        return machine.gpu(
            target.compute_capability, l2_bytes=l2_bytes if isinstance(l2_bytes, int) else None
        )
    unit = vector_unit(TvmTarget(target.as_dict()))
    return machine.cpu(cores=target.cores, vector_bits=unit.bits, registers=unit.registers)
