"""The registry of space generators, by space name and target kind."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import tvm
from tvm.s_tir import meta_schedule

from schedules import intrinsics
from schedules.errors import InputError
from schedules.space import DEFAULT_SPACE, STOCK_SPACE, TENSOR_CORE_SPACE
from schedules.space.cpu import cpu
from schedules.space.gpu import gpu
from schedules.space.tensor_core import tensor_core
from schedules.target import Target


def stock(target: Target) -> Any:
    """Return TVM's own rules for the target's kind, unchanged.

    Multi-level tiling with a write cache, inlining, parallel, vectorised and unrolled loops, and
    rfactor for reductions. On a GPU: blocks and threads, shared memory, cross-thread reductions,
    and from sm_75 on tensor cores for float16 and int8.
    Source: Shao et al., Tensor Program Optimization with Probabilistic Programs, 2022.
    """
    with tvm.target.Target(target.as_dict()):
        return meta_schedule.space_generator.PostOrderApply()


def default(target: Target) -> Any:
    """Return the largest space that there is for a target."""
    if target.kind == "llvm":
        return cpu(target)
    return gpu(target) if target.compute_capability >= (8, 0) else stock(target)


_GENERATORS: Mapping[str, Callable[[Target], Any]] = MappingProxyType(
    {STOCK_SPACE: stock, TENSOR_CORE_SPACE: tensor_core, DEFAULT_SPACE: default}
)


def space_generator(space: str, target: Target) -> Any:
    """Return the ``meta_schedule.SpaceGenerator`` of a space on a target.

    Raises
    ------
    InputError
        No space has that name, or it does not serve this target.
    """
    if space not in _GENERATORS:
        raise InputError(f"there is no schedule space {space!r}; use {', '.join(_GENERATORS)}")
    intrinsics.register(target)
    return _GENERATORS[space](target)
