"""What runs inside a forked child: one candidate, built and then timed on command.

A child answers one JSON line for each command line, and may die at any time: its host takes that as
a result. Commands are ``first``, ``time``, ``check`` and ``reference``.
"""

import ctypes
import json
import os
import resource
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import tvm

from schedules import verify
from schedules.errors import InvalidTraceError
from schedules.ir import module_of
from schedules.records import FailureKind
from schedules.target import Target
from schedules.workload import Workload
from tuner.measure.backend import backend_for, run_failure

FILE_SIZE_BYTES = 4 * 2**30
EXTRA_MEMORY_BYTES = 6 * 2**30
DETAIL_CHARACTERS = 2000
_PR_SET_PDEATHSIG = 1

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What one child is for.

    Attributes
    ----------
    trace : str
        Canonical trace of the candidate.
    threads : int
        Threads of TVM's pool: the target's cores.
    device : str
        ``cpu``, or the GPU of a ``cuda`` target, as in ``cuda:0``.
    """

    workload: Workload
    target: Target
    trace: str
    threads: int
    device: str = "cpu"


class _FailedError(Exception):
    """Ends the child with a failure kind."""

    def __init__(self, kind: FailureKind, error: BaseException) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.kind = kind


def serve(assignment: Assignment, commands: BinaryIO, answers: BinaryIO) -> None:
    """Build the candidate, then answer commands until the host closes the pipe."""
    try:
        kernel = _attempt(lambda error: FailureKind.BUILD_ERROR, lambda: _Kernel(assignment))
        _answer(answers, {"built_secs": kernel.build_secs})
        for line in commands:
            order = partial(kernel.obey, json.loads(line))
            _answer(answers, _attempt(run_failure, order))
    except _FailedError as failure:
        _answer(answers, {"failure": failure.kind, "detail": str(failure)[-DETAIL_CHARACTERS:]})


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


class _Kernel:
    """A built candidate with its buffers."""

    def __init__(self, assignment: Assignment) -> None:
        # Read by TVM when its pool starts, which is at the first parallel call of this process.
        os.environ["TVM_NUM_THREADS"] = str(assignment.threads)
        started = time.perf_counter()
        self._workload = assignment.workload
        module = module_of(assignment.workload)
        self._backend = backend_for(assignment.target, assignment.device)
        try:
            scheduled = self._backend.schedule(assignment.trace, module)
        except InvalidTraceError as error:
            raise _FailedError(FailureKind.INVALID, error) from error
        self._library = self._backend.build(scheduled)
        self.build_secs = time.perf_counter() - started
        self._opened: Any = None
        self._buffers: list[Any] = []

    def obey(self, command: Mapping[str, Any]) -> dict[str, Any]:
        orders: dict[str, Callable[[], dict[str, Any]]] = {
            "first": self._first,
            "time": lambda: self._time(command["calls"], command["repeats"]),
            "check": lambda: self._check(
                command["seed"], Path(command["reference"]), command["source"]
            ),
            "reference": lambda: self._reference(command["seed"], Path(command["reference"])),
        }
        return orders[command["order"]]()

    def _first(self) -> dict[str, Any]:
        self._fill(seed=0)
        # The first call starts threads and touches pages; the second shows the latency.
        self._call()
        self._device.sync()
        started = time.perf_counter()
        self._call()
        self._device.sync()
        return {"first_secs": time.perf_counter() - started}

    def _time(self, calls: int, repeats: int) -> dict[str, Any]:
        evaluate = self._library.time_evaluator("main", self._device, number=calls, repeat=repeats)
        cpu_started, started = time.process_time(), time.perf_counter()
        run_secs, conditions = self._backend.timed(
            lambda: [float(value) for value in evaluate(*self._buffers).results]
        )
        wall_secs = time.perf_counter() - started
        return {
            "run_secs": run_secs,
            "busy_cores": (time.process_time() - cpu_started) / max(wall_secs, 1e-9),
            "conditions": conditions,
        }

    def _check(self, seed: int, reference: Path, source: str) -> dict[str, Any]:
        outputs = self._outputs(seed)
        with np.load(reference) as stored:
            expected = [stored[f"arr_{place}"] for place in range(len(outputs))]
        checked = verify.compare(self._workload, outputs, expected, source)
        return {
            "reference": checked.reference,
            "tolerance": checked.tolerance,
            "error": checked.error,
            "passed": checked.passed,
        }

    def _reference(self, seed: int, reference: Path) -> dict[str, Any]:
        """Write what the output should be: by NumPy's formula, or else by this kernel."""
        if self._workload.call is not None:
            inputs = verify.random_inputs(self._workload.tensors, seed)
            outputs, source = verify.reference_outputs(self._workload, inputs), "numpy"
        else:
            outputs = [output.astype(_wide(output)) for output in self._outputs(seed)]
            source = "unscheduled"
        with reference.open("wb") as file:
            np.savez(file, *outputs)
        return {"source": source}

    def _outputs(self, seed: int) -> list[np.ndarray]:
        self._fill(seed)
        self._call()
        return [
            buffer.numpy()
            for buffer, tensor in zip(self._buffers, self._workload.tensors, strict=True)
            if tensor.is_output
        ]

    @property
    def _device(self) -> Any:
        """The device, opened at its first use: a build leaves it alone."""
        if self._opened is None:
            self._opened = self._backend.open()
        return self._opened

    def _fill(self, seed: int) -> None:
        values = verify.random_inputs(self._workload.tensors, seed)
        self._buffers = [tvm.runtime.tensor(value, self._device) for value in values]

    def _call(self) -> None:
        self._library["main"](*self._buffers)


def _wide(output: np.ndarray) -> type:
    return np.int64 if output.dtype.kind in "iub" else np.float64


def _attempt(kind_of: Callable[[Exception], FailureKind], action: Callable[[], T]) -> T:
    try:
        return action()
    except _FailedError:
        raise
    except Exception as error:
        raise _FailedError(kind_of(error), error) from error


def _answer(answers: BinaryIO, message: Mapping[str, Any]) -> None:
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()
