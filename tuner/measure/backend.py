"""How a child builds and times on its device: the CPU, or a GPU.

Making a backend does nothing; `open` is the first call that may touch a GPU, and comes after the
build, so that builds in parallel share no device.
"""

import hashlib
import os
import re
import resource
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Protocol

import tvm

from schedules import trace as traces
from schedules import vector_math
from schedules.errors import UnavailableError
from schedules.records import DEFAULT_TRACE, FailureKind
from schedules.space.dlight import dlight_schedule
from schedules.target import Target
from tuner.measure import cuda_build
from tuner.measure.gpu import GpuState, Monitor, find_gpu, ordinal_of

TIMINGS_AT_MOST = 3
"""How often a kernel is timed while the GPU is slowed down by heat or by its power supply."""

# A mode of `tvm::runtime::threading::ThreadGroup::AffinityMode`.
_ONE_CORE_PER_THREAD = -2
_OUT_OF_MEMORY = ("out of memory", "cudaerrormemoryallocation", "cuda_error_out_of_memory")

# Values, labels, and the types of alias analysis, which TVM names by addresses of its variables.
_LOCAL_NAME = re.compile(
    r'%[\w.$-]+|%"[^"]+"|^[\w.$-]+:|^"[^"]+":|"0x[0-9a-f]+', flags=re.MULTILINE
)

Conditions = dict[str, str | int]


class Backend(Protocol):
    """One candidate's way through its child.

    Attributes
    ----------
    warm_up_calls : int
        After so many calls code and data are where later calls find them.
    least_timed_secs : float
        Calls are timed so many in a row that they take this long together: what starting one takes
        is then hidden behind those before.
    moves_buffers : bool
        Whether it matters where buffers lie, so that every repeat is to have others.
    """

    warm_up_calls: int
    least_timed_secs: float
    moves_buffers: bool

    def schedule(self, trace: str, module: Any) -> Any:
        """Apply a trace to a module; the default trace as this device's compiler would."""
        ...

    def build(self, module: Any) -> tuple[Any, str | None]:
        """Compile a scheduled module to machine code.

        Returns
        -------
        tuple of (tvm.runtime.Module, str or None)
            The code, ready to be called, and its identity: equal for equal code.
        """
        ...

    def open(self) -> Any:
        """Return TVM's device; the first call that may touch it."""
        ...

    def timed(self, run: Callable[[], float]) -> tuple[float, Conditions]:
        """Time a kernel and say under which conditions."""
        ...


class CpuBackend:
    """The cores of this process.

    The default trace is built without `schedules.vector_math`: it is what TVM makes by itself, and
    the reference for programs that have no other, which must not share what it checks.
    """

    warm_up_calls = 1
    least_timed_secs = 0.0
    moves_buffers = True

    def __init__(self, target: Target) -> None:
        self._target = target
        self._is_default = False

    def schedule(self, trace: str, module: Any) -> Any:
        """Apply a trace to a module; see `Backend`."""
        self._is_default = trace == DEFAULT_TRACE
        return traces.replay(trace, module).mod

    def build(self, module: Any) -> tuple[Any, str | None]:
        """Compile a scheduled module; see `Backend`."""
        with vector_math.compiler_default() if self._is_default else nullcontext():
            library = traces.build(module, tvm.target.Target(self._target.as_dict()))
        # LLVM makes machine code at the first look-up, which would else fall into the timing.
        library["main"]
        return library, _code_id(library.inspect_source("ll"))

    def open(self) -> Any:
        """Return TVM's device; see `Backend`."""
        _bind_threads(self._target.cores)
        return tvm.cpu()

    def timed(self, run: Callable[[], float]) -> tuple[float, Conditions]:
        """Time a kernel; see `Backend`."""
        return run(), {}


class CudaBackend:
    """One GPU, with a context of this process's own: an error that sticks to it ends with it.

    The driver loads a kernel's code at its first call, for up to a tenth of a second, and what lies
    between two events is also what the host takes to start a call, where nothing else is running.
    """

    warm_up_calls = 2
    least_timed_secs = 1e-3
    moves_buffers = False

    def __init__(self, target: Target, device: str) -> None:
        self._target = target
        self._ordinal = ordinal_of(device)
        self._resources: Mapping[str, int] = {}
        self._monitor: Monitor | None = None

    def schedule(self, trace: str, module: Any) -> Any:
        """Apply a trace to a module; see `Backend`. An unscheduled program cannot run on a GPU."""
        if trace == DEFAULT_TRACE:
            return dlight_schedule(module, self._target).mod
        return traces.replay(trace, module).mod

    def build(self, module: Any) -> tuple[Any, str | None]:
        """Compile a scheduled module; see `Backend`. Its code has no identity yet."""
        built = cuda_build.build(module, self._target)
        self._resources = built.resources
        return built.library, None

    def open(self) -> Any:
        """Return TVM's device; see `Backend`."""
        # The driver maps all memory of the machine and of its GPUs into the address space.
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        try:
            self._monitor = Monitor(find_gpu(self._ordinal).uuid)
            self._monitor.read()
        except UnavailableError:
            # A part of a GPU has no clocks of its own to read. TVM says it if there is no GPU.
            self._monitor = None
        return tvm.cuda(self._ordinal)

    def timed(self, run: Callable[[], float]) -> tuple[float, Conditions]:
        """Time a kernel, again while the GPU is slowed down by something else; see `Backend`."""
        timings = 0
        while True:
            before = self._state()
            run_secs = run()
            after = self._state()
            timings += 1
            if after is None or not after.disturbed or timings == TIMINGS_AT_MOST:
                break
        conditions: Conditions = {**self._resources, **_state_conditions(before, after)}
        return run_secs, conditions if timings == 1 else {**conditions, "timings": timings}

    def _state(self) -> GpuState | None:
        return None if self._monitor is None else self._monitor.read()


def backend_for(target: Target, device: str) -> Backend:
    """Return the backend of a target's kind."""
    return CudaBackend(target, device) if target.kind == "cuda" else CpuBackend(target)


def run_failure(error: BaseException) -> FailureKind:
    """Classify what ended a run: a device without enough memory is no fault of the schedule's."""
    text = str(error).lower()
    short = any(phrase in text for phrase in _OUT_OF_MEMORY)
    return FailureKind.OUT_OF_MEMORY if short else FailureKind.RUN_ERROR


def _code_id(llvm_ir: str) -> str:
    """Identify optimised LLVM IR, whatever the things in it are called."""
    numbers: dict[str, str] = {}

    def number(name: re.Match[str]) -> str:
        return numbers.setdefault(name[0].strip(":%"), f"%{len(numbers)}")

    return hashlib.sha256(_LOCAL_NAME.sub(number, llvm_ir).encode()).hexdigest()


def _bind_threads(threads: int) -> None:
    """Keep TVM's threads on the cores of this process.

    By itself TVM binds them to the first cores of the machine, whichever the process may use, and
    lets the first thread run on all.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < (os.cpu_count() or 1):
        configure = tvm.get_global_func("runtime.config_threadpool")
        configure(_ONE_CORE_PER_THREAD, threads, [str(core) for core in cores])


def _state_conditions(before: GpuState | None, after: GpuState | None) -> Conditions:
    if before is None or after is None:
        return {}
    return {
        "sm_mhz_before": before.sm_mhz,
        "sm_mhz_after": after.sm_mhz,
        "memory_mhz_after": after.memory_mhz,
        "temperature_celsius_after": after.temperature_celsius,
        **({"throttle": str(after.throttle.name)} if after.throttle else {}),
    }
