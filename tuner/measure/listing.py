"""A scheduled program as text: TVMScript, and the code that it compiles to. Imports TVM."""

from typing import Any

from schedules.ir import module_of
from schedules.target import Target
from schedules.workload import Workload
from tuner.measure.backend import backend_for

MOST_CHARACTERS = 400_000
"""What is longer is cut off: unrolled code has megabytes that nobody reads."""

_CUT = "\n... cut off after {most} of {all} characters\n"


def written(workload: Workload, target: Target, trace: str) -> dict[str, Any]:
    """Write a scheduled program.

    Returns
    -------
    dict
        The fields of `tuner.sandbox.Program`.

    Raises
    ------
    InvalidTraceError
        The trace does not apply to the workload.
    """
    backend = backend_for(target, "cpu")
    scheduled = backend.schedule(trace, module_of(workload))
    code, problem = None, None
    try:
        library, _ = backend.build(scheduled)
        code = _cut(_code(library, target))
    except Exception as error:
        # A machine without a CUDA compiler can still show the program.
        lines = [line for line in str(error).splitlines() if line.strip()]
        problem = (lines or [type(error).__name__])[-1].strip()[:500]
    return {
        "script": _cut(scheduled.script()),
        "code": code,
        "language": "CUDA" if target.kind == "cuda" else "assembly",
        "problem": problem,
    }


def _code(library: Any, target: Target) -> str:
    if target.kind != "cuda":
        return str(library.inspect_source("asm"))
    (device,) = library.imports
    return str(device.inspect_source("cuda"))


def _cut(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    return text[:MOST_CHARACTERS] + _CUT.format(most=MOST_CHARACTERS, all=len(text))
