"""One built candidate inside its child: what it does on the host's orders.

=============  ====================================================================
order          answer
=============  ====================================================================
``first``      the seconds of one call after a warm-up, and whether that is hopeless
``repeat``     one repeat, on buffers of its own where it matters where they lie
``check``      how the output on fresh inputs compares with the reference
``reference``  computes that reference and writes it to a file
=============  ====================================================================
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tvm

from schedules import prepack, verify
from schedules.ir import module_of
from schedules.target import Target
from schedules.workload import TensorSpec, Workload
from tuner.measure import timing
from tuner.measure.backend import Conditions, backend_for
from tuner.measure.buffers import Buffers
from tuner.measure.cores import running_on, starting_threads
from tuner.measure.noise import waited_secs

DISTINCT_VALUES = 2**16
"""How many random values inputs have that are only timed; the rest repeats them."""
MOVED_BYTES_AT_MOST = 2**23
"""Larger buffers are not moved between repeats: they fill caches wherever they lie."""
FLUSH_BYTES_AT_LEAST = 2**25
SLOW_CALL_SECS = 0.005
"""A kernel that takes longer is timed from Python, whose microseconds it does not notice."""

VERY_SLOW_CALL_SECS = 0.1
"""Starting threads and touching pages does not take so long."""


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
    build_cores : frozenset of int or None
        Where it is built; None for the cores that it runs on.
    """

    workload: Workload
    target: Target
    trace: str
    threads: int
    device: str = "cpu"
    build_cores: frozenset[int] | None = None


class Kernel:
    """A built candidate with its buffers.

    Parameters
    ----------
    assignment : Assignment
        What to build.

    Raises
    ------
    InvalidTraceError
        The trace does not apply to the workload.

    Attributes
    ----------
    build_secs : float
        How long replay and code generation took.
    code_id : str or None
        Equal for candidates that compile to the same code; None where the device cannot tell.
    """

    def __init__(self, assignment: Assignment) -> None:
        # Read by TVM when its pool starts, which is at the first parallel call of this process.
        os.environ["TVM_NUM_THREADS"] = str(assignment.threads)
        started = time.perf_counter()
        self._workload = assignment.workload
        module = module_of(assignment.workload)
        self._cold = str((module["main"].attrs or {}).get(timing.CACHE_ATTRIBUTE)) == "cold"
        self._backend = backend_for(assignment.target, assignment.device)
        with running_on(assignment.build_cores):
            scheduled = self._backend.schedule(assignment.trace, module)
            self._packed = prepack.split(scheduled)
            self._library, self.code_id = self._backend.build(scheduled)
        self.build_secs = time.perf_counter() - started
        self._conditions: Conditions = {
            "cache": "cold" if self._cold else "warm",
            "threads": assignment.threads,
        }
        self._opened: Any = None
        self._buffers: Buffers | None = None
        self._call_secs = 0.0

    def obey(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out an order and return the answer."""
        orders: dict[str, Callable[[], dict[str, Any]]] = {
            "first": lambda: self._first(command["incumbent_secs"]),
            "repeat": lambda: self._repeat(command["calls"]),
            "check": lambda: self._check(
                command["seed"], Path(command["reference"]), command["source"]
            ),
            "reference": lambda: self._reference(command["seed"], Path(command["reference"])),
        }
        return orders[command["order"]]()

    def _first(self, incumbent_secs: float | None) -> dict[str, Any]:
        # A check has called the kernel before; of a very slow one, that says enough.
        first_secs, before = self._call_secs, waited_secs()
        if first_secs <= VERY_SLOW_CALL_SECS:
            first_secs = self._warm_up()
            slow = first_secs >= timing.WARM_UP_SECS
            if not (slow and self._is_hopeless(first_secs, incumbent_secs, before)):
                before = waited_secs()
                first_secs = self._rough_secs(first_secs)
        return {
            "first_secs": first_secs,
            "hopeless": self._is_hopeless(first_secs, incumbent_secs, before),
            "conditions": self._conditions,
        }

    @staticmethod
    def _is_hopeless(call_secs: float, incumbent_secs: float | None, before_secs: float) -> bool:
        waited = waited_secs() - before_secs
        return timing.is_hopeless(call_secs, incumbent_secs, waited_secs=waited)

    def _warm_up(self) -> float:
        """Start threads and touch pages, or load code; return the seconds of the last call."""
        if self._buffers is None:
            self._fill(seed=0, distinct=DISTINCT_VALUES)
        return [self._call_once() for _ in range(self._backend.warm_up_calls)][-1]

    def _rough_secs(self, call_secs: float) -> float:
        """Time about as few calls as show anything, given the seconds of one from outside."""
        calls = timing.calls_per_repeat(call_secs, self._backend.least_timed_secs)
        return self._evaluate(calls)

    def _call_once(self) -> float:
        with starting_threads():
            [self._call_secs] = self._call_slowly(1)
        return self._call_secs

    def _repeat(self, calls: int) -> dict[str, Any]:
        if self._backend.moves_buffers and self._workload.size_bytes <= MOVED_BYTES_AT_MOST:
            assert self._buffers is not None
            self._buffers = self._buffers.moved()
        cpu_started, started = time.process_time(), time.perf_counter()
        run_secs, conditions = self._backend.timed(lambda: self._evaluate(calls))
        wall_secs = time.perf_counter() - started
        self._conditions.update(conditions)
        return {
            "run_secs": run_secs,
            "busy_cores": (time.process_time() - cpu_started) / max(wall_secs, 1e-9),
            "conditions": self._conditions,
        }

    def _evaluate(self, calls: int) -> float:
        """Return the seconds of one of so many calls; with flushed caches it is one call."""
        assert self._buffers is not None
        if self._call_secs > SLOW_CALL_SECS and not self._cold:
            self._call_secs = median(self._call_slowly(calls))
            if self._call_secs > SLOW_CALL_SECS:
                return self._call_secs
            # Only the call before was slow: the warm-up, or a disturbed one.
        flush = {"cache_flush_bytes": _flush_bytes()} if self._cold else {}
        number = 1 if self._cold else calls
        evaluate = self._library.time_evaluator(
            "main", self._device, number=number, repeat=1, **flush
        )
        return float(evaluate(*self._buffers.arguments).results[0])

    def _call_slowly(self, calls: int) -> list[float]:
        """Time single calls from here; the evaluator would add an untimed call to each repeat."""
        assert self._buffers is not None
        secs = []
        for _ in range(calls):
            started = time.perf_counter()
            self._library["main"](*self._buffers.arguments)
            self._device.sync()
            secs.append(time.perf_counter() - started)
        return secs

    def _check(self, seed: int, reference: Path, source: str) -> dict[str, Any]:
        buffers = self._run_once(seed)
        outputs = buffers.outputs
        with np.load(reference) as stored:
            expected = [stored[f"arr_{place}"] for place in range(len(outputs))]
        checked = verify.compare(self._workload, outputs, expected, source)
        problem = buffers.damage() or verify.find_trap(outputs, expected)
        return {
            "verification": {
                "reference": checked.reference,
                "tolerance": checked.tolerance,
                "error": checked.error,
                "passed": checked.passed and problem is None,
            },
            "problem": problem,
        }

    def _reference(self, seed: int, reference: Path) -> dict[str, Any]:
        """Write what the output should be, by this kernel."""
        outputs: list[np.ndarray] = [
            output.astype(_wide(output)) for output in self._run_once(seed).outputs
        ]
        with reference.open("wb") as file:
            np.savez(file, *outputs)
        return {"source": "unscheduled"}

    def _run_once(self, seed: int) -> Buffers:
        buffers = self._fill(seed)
        self._call_once()
        return buffers

    @property
    def _device(self) -> Any:
        """The device, opened at its first use: a build leaves it alone."""
        if self._opened is None:
            self._opened = self._backend.open()
        return self._opened

    def _fill(self, seed: int, distinct: int | None = None) -> Buffers:
        values = verify.random_inputs(self._workload.tensors, seed, distinct=distinct)
        self._buffers = Buffers(*self._pack(values), self._device)
        return self._buffers

    def _pack(self, values: Sequence[np.ndarray]) -> tuple[list[TensorSpec], list[np.ndarray]]:
        """Pack constants; return what a call takes, and its values."""
        tensors, given = list(self._workload.tensors), list(values)
        packed = self._packed
        if packed.places:
            sources = [tvm.runtime.tensor(given[place], self._device) for place in packed.places]
            made = [
                tvm.runtime.empty(shape, dtype, self._device)
                for shape, dtype in zip(packed.shapes, packed.dtypes, strict=True)
            ]
            with starting_threads():
                self._library[prepack.PREPACK](*sources, *made)
            for place, tensor in zip(packed.places, made, strict=True):
                given[place] = tensor.numpy()
                tensors[place] = replace(tensors[place], shape=given[place].shape)
        return tensors, given


def write_numpy_reference(workload: Workload, seed: int, reference: Path) -> dict[str, Any]:
    """Write what the output of a catalogue operator should be, by its formula: no kernel is run."""
    inputs = verify.random_inputs(workload.tensors, seed)
    with reference.open("wb") as file:
        np.savez(file, *verify.reference_outputs(workload, inputs))
    return {"source": "numpy"}


def timer_overhead_secs() -> float:
    """Return what the clock and the call add to a repeat of one call: that of an empty kernel."""
    function = tvm.tirx.PrimFunc([], tvm.tirx.Evaluate(0)).with_attr("global_symbol", "main")
    empty = tvm.IRModule({"main": function})
    library = tvm.tirx.build(empty, target=tvm.target.Target({"kind": "llvm"}))
    results = library.time_evaluator("main", tvm.cpu(), number=1, repeat=200)().results
    return float(np.median([float(value) for value in results]))


def _flush_bytes() -> int:
    """Return how much to write so that nothing else stays in the caches."""
    sizes = [
        int(path.read_text().strip().removesuffix("K")) * 1024
        for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    ]
    return max(FLUSH_BYTES_AT_LEAST, *(2 * size for size in sizes))


def _wide(output: np.ndarray) -> type:
    return np.int64 if output.dtype.kind in "iub" else np.float64
