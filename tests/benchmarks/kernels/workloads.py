"""The TVM program of a case."""

import tvm

from schedules.ir import workload_from_call, workload_from_ir
from schedules.operators import find_operator
from schedules.workload import Workload
from tests.benchmarks.kernels.cases import Case, cases
from tests.benchmarks.kernels.fused import FUSED


def case_named(name: str) -> Case:
    """Return a case by its name."""
    [case] = [case for case in cases() if case.name == name]
    return case


def workload_of(name: str) -> Workload:
    """Return the workload of a case."""
    case = case_named(name)
    if case.op in FUSED:
        module = tvm.IRModule({"main": FUSED[case.op].program()})
        return workload_from_ir(tvm.ir.save_json(module), name)
    return workload_from_call(find_operator(case.op).call(case.args, case.dtype))
