"""A measuring host on a GPU that is not there: children as always, with a scripted runtime.

Run as ``python -m tests.integration.fake_cuda_host``. A candidate's trace says what its kernel
does: it asks for a block of the name of one of `KERNELS`.
"""

import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm

from tuner.measure import backend, host
from tuner.measure.gpu import GpuState, Throttle

THROTTLED_READINGS = 4
LOADING_SECS = 0.1
CALL_SECS, START_SECS = 1e-4, 1e-3
"""What a call takes on the GPU, and what the host takes to start one."""


def _copy(a: Any, b: Any) -> None:
    b.copyfrom(a.numpy() * np.float32(2))


def _wrong(a: Any, b: Any) -> None:
    b.copyfrom(a.numpy())


def _illegal(a: Any, b: Any) -> None:
    # In a real context every later call fails too: the child must not be used again.
    raise RuntimeError("CUDA Runtime Error: an illegal memory access was encountered")


def _no_memory(a: Any, b: Any) -> None:
    raise RuntimeError("CUDA Runtime Error: out of memory")


def _abort(a: Any, b: Any) -> None:
    os.abort()


class _Loaded:
    """Its first call takes as long as a driver may take to load code."""

    def __init__(self) -> None:
        self._loaded = False

    def __call__(self, a: Any, b: Any) -> None:
        if not self._loaded:
            self._loaded = True
            time.sleep(LOADING_SECS)
        _copy(a, b)


KERNELS: dict[str, Callable[[Any, Any], None]] = {
    "copy": _copy,
    "loaded": _Loaded(),
    "throttled": _copy,
    "wrong": _wrong,
    "illegal": _illegal,
    "no_memory": _no_memory,
    "abort": _abort,
}


class FakeLibrary:
    """What a build on a machine with a GPU returns."""

    def __init__(self, kernel: Callable[[Any, Any], None]) -> None:
        self._kernel = kernel

    def __getitem__(self, name: str) -> Callable[[Any, Any], None]:
        return self._kernel

    def time_evaluator(self, name: str, device: Any, *, number: int, repeat: int) -> Any:
        class Results:
            results = (CALL_SECS + START_SECS / number,) * repeat

        def evaluate(*buffers: Any) -> Results:
            self._kernel(*buffers)
            return Results()

        return evaluate


class FakeMonitor:
    """A GPU that is hot for its first readings, where the kernel is the throttled one."""

    def __init__(self, hot: bool) -> None:
        self._hot_readings = THROTTLED_READINGS if hot else 0

    def read(self) -> GpuState:
        hot, self._hot_readings = self._hot_readings > 0, max(0, self._hot_readings - 1)
        return GpuState(
            sm_mhz=1200 if hot else 1980,
            memory_mhz=2619,
            temperature_celsius=90 if hot else 50,
            throttle=Throttle.THERMAL if hot else Throttle(0),
        )


class FakeCudaBackend(backend.CudaBackend):
    """Everything of the real one but the driver, the compiler and the device."""

    _kernel = "copy"

    def schedule(self, trace: str, module: Any) -> Any:
        instructions, _ = json.loads(trace)
        if instructions:
            self._kernel = instructions[0][2][0]
        return module

    def build(self, module: Any) -> tuple[Any, str | None]:
        self._resources = {"registers_per_thread": 32}
        return FakeLibrary(KERNELS[self._kernel]), None

    def open(self) -> Any:
        self._monitor = FakeMonitor(self._kernel == "throttled")  # type: ignore[assignment]  # duck
        return tvm.cpu()


if __name__ == "__main__":
    backend.CudaBackend = FakeCudaBackend  # type: ignore[misc]  # in place of a GPU
    host.main()
