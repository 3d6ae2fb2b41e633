"""Registers what traces and rules rely on: TVM's tensor intrinsics, by name, and vector math.

TVM's own package registers those of every back end, by parsing some 250 scripts: six seconds of CPU
time for each process, nearly all of it for GPUs. Here the package is entered into the table of
modules without running it, and only the part that a target needs is imported; TVM's later
``import tvm.s_tir.tensor_intrin`` finds it there.
"""

import importlib
import importlib.util
import inspect
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType

from schedules import vector_math
from schedules.target import Target

_PACKAGE = "tvm.s_tir.tensor_intrin"
_PARTS: Mapping[str, str] = MappingProxyType(
    {"x86_64": "x86", "i686": "x86", "aarch64": "arm_cpu", "arm64": "arm_cpu"}
)


# Names of CUDA's intrinsics in traces: wmma fragments, and the parts of a matrix product by mma.
_CUDA_NAMES = ("wmma_", "mma_", "dp4a")
# By their names in traces, the modules of our own intrinsics, which hold the parameters of a tile.
_TILES: Mapping[str, str] = MappingProxyType(
    {
        "tunesmith.wgmma_": "schedules.space.warpgroup_intrinsic",
        "tunesmith.dot_": "schedules.space.dot_tile",
    }
)


def register(target: Target | None = None) -> None:
    """Register vector math and the tensor intrinsics that a target may use. Idempotent.

    Parameters
    ----------
    target : Target or None
        This machine's CPU by default.
    """
    vector_math.register()
    if _PACKAGE not in sys.modules:
        found = importlib.util.find_spec(_PACKAGE)
        assert found is not None
        sys.modules[_PACKAGE] = importlib.util.module_from_spec(found)
    if target is not None and target.kind == "cuda":
        with _no_source_lines():
            importlib.import_module(f"{_PACKAGE}.cuda")
        return
    triple = target.attributes.get("mtriple") if target else None
    machine = str(triple).split("-", 1)[0] if triple else platform.machine()
    if machine in _PARTS:
        importlib.import_module(f"{_PACKAGE}.{_PARTS[machine]}")


@contextmanager
def _no_source_lines() -> Iterator[None]:
    """Let `inspect.stack` leave out source lines, which takes half of the time of the import.

    TVM's parser asks for them to see whether a script stands in a class; here none does.
    """
    whole = inspect.stack
    inspect.stack = partial(whole, 0)
    try:
        yield
    finally:
        inspect.stack = whole


def register_named(trace: str) -> None:
    """Register the intrinsics that a trace names, other than TVM's for CPUs.

    Those of GPUs take seconds the first time: who forks processes that replay such traces calls it
    before.
    """
    if any(f'"{name}' in trace for name in _CUDA_NAMES):
        from schedules.space.tensor_core import register_bfloat16

        register(_ANY_GPU)
        register_bfloat16()
    for name, module in _TILES.items():
        if f'"{name}' in trace:
            tiles = importlib.import_module(module)
            for tile in tiles.named_in(trace):
                tiles.register(tile)


_ANY_GPU = Target.parse({"kind": "cuda", "arch": "sm_80"})
