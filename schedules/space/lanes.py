"""How wide a CPU target's vectors are."""

import tvm

from schedules.target import Target

_NARROW, _AVX, _AVX512 = 4, 8, 16


def float32_lanes(target: Target) -> int:
    """Return how many float32 a vector register of a target holds.

    From ``mcpu`` and ``mattr``: 16 with AVX-512, 8 with AVX, else 4 (SSE, NEON).
    """
    described = tvm.target.Target(target.as_dict())
    has = tvm.target.codegen.target_has_features
    if has("avx512f", described):
        return _AVX512
    return _AVX if has("avx", described) else _NARROW
