"""What runs inside a forked child: one candidate, built and then timed on command.

A child answers one JSON line for each command line, and may die at any time: its host takes that as
a result. The commands are those of `tuner.measure.kernel`.
"""

import ctypes
import json
import os
import resource
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from schedules.errors import InvalidTraceError
from schedules.records import FailureKind
from schedules.workload import Workload
from tuner.measure.backend import run_failure
from tuner.measure.kernel import Assignment, Kernel, write_numpy_reference

FILE_SIZE_BYTES = 4 * 2**30
EXTRA_MEMORY_BYTES = 6 * 2**30
DETAIL_CHARACTERS = 2000
_PR_SET_PDEATHSIG = 1

T = TypeVar("T")


class _FailedError(Exception):
    """Ends the child with a failure kind."""

    def __init__(self, kind: FailureKind, error: BaseException) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.kind = kind


def serve(assignment: Assignment, commands: BinaryIO, answers: BinaryIO) -> None:
    """Build the candidate, then answer commands until the host closes the pipe."""
    try:
        kernel = _attempt(_build_failure, lambda: Kernel(assignment))
        answer(answers, {"built_secs": kernel.build_secs, "code_id": kernel.code_id})
        for line in commands:
            order = partial(kernel.obey, json.loads(line))
            answer(answers, _attempt(run_failure, order))
    except _FailedError as failure:
        answer(answers, {"failure": failure.kind, "detail": str(failure)[-DETAIL_CHARACTERS:]})


def serve_reference(workload: Workload, commands: BinaryIO, answers: BinaryIO) -> None:
    """Answer ``reference`` orders for a catalogue operator, whose formula needs no build."""
    answer(answers, {"built_secs": 0.0, "code_id": None})
    try:
        for line in commands:
            given = json.loads(line)
            order = partial(
                write_numpy_reference, workload, given["seed"], Path(given["reference"])
            )
            answer(answers, _attempt(run_failure, order))
    except _FailedError as failure:
        answer(answers, {"failure": failure.kind, "detail": str(failure)[-DETAIL_CHARACTERS:]})


def confine(*, cpu_secs: int, extra_bytes: int = 0, may_raise: bool = False) -> None:
    """Limit this process, and tie its life to its parent's.

    Parameters
    ----------
    cpu_secs : int
        CPU time after which the kernel kills the process.
    extra_bytes : int
        Memory on top of what any child may have.
    may_raise : bool
        Whether the process may lift its memory limit, as it must before it opens a GPU.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    mapped_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    memory_bytes = mapped_bytes + EXTRA_MEMORY_BYTES + extra_bytes
    _, most_bytes = resource.getrlimit(resource.RLIMIT_AS)
    hard_bytes = most_bytes if may_raise else memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, hard_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_secs, cpu_secs + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE_BYTES, FILE_SIZE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _build_failure(error: Exception) -> FailureKind:
    invalid = isinstance(error, InvalidTraceError)
    return FailureKind.INVALID if invalid else FailureKind.BUILD_ERROR


def _attempt(kind_of: Callable[[Exception], FailureKind], action: Callable[[], T]) -> T:
    try:
        return action()
    except Exception as error:
        raise _FailedError(kind_of(error), error) from error


def answer(answers: BinaryIO, message: Mapping[str, Any]) -> None:
    """Send one answer to the host."""
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()
