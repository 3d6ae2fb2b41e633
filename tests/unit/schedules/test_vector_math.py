"""Vector math keeps its stated bounds, at the edges too, and leaves other dtypes alone."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tvm
from scipy import special
from tvm import te

from schedules import intrinsics, vector_math
from schedules.target import Target
from schedules.verify import numpy_dtype

ELEMENTS = 2**18
LANES = 16
# Below this the exponential is 0, and the sigmoid imprecise.
FLUSHED_BELOW = 1.7e-38

REFERENCES: dict[str, Any] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "tanh": np.tanh,
    "erf": special.erf,
    "sigmoid": special.expit,
    "log": np.log,
    "log1p": np.log1p,
    "log10": np.log10,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}

EDGES = np.array(
    [
        *(0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-38, -1e-38, 3.4e38, -3.4e38),
        *(88.7228, 88.7229, -87.3, -103.97, -103.98, 128.0, -149.0, -151.0, 1.0, -1.0, 0.92, 4.0),
    ],
    dtype="float32",
)

HOST = Target.parse(
    {
        "kind": "llvm",
        "mcpu": tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")(),
        "num-cores": 1,
    }
)


def kernel(name: str, dtype: str, *, target: Target = HOST, lanes: int = LANES) -> Any:
    intrinsics.register(target)
    x = te.placeholder((ELEMENTS,), dtype, name="x")
    y = te.compute(x.shape, lambda i: getattr(te, name, getattr(tvm.tirx, name))(x[i]), name="y")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([x, y]))
    [loop] = schedule.get_loops(schedule.get_sblock("y"))
    if lanes > 1:
        schedule.vectorize(schedule.split(loop, [None, lanes])[1])
    return tvm.tirx.build(schedule.mod, target=tvm.target.Target(target.as_dict()))


def call(library: Any, x: np.ndarray) -> np.ndarray:
    output = tvm.runtime.tensor(np.zeros_like(x))
    library["main"](tvm.runtime.tensor(x), output)
    return np.asarray(output.numpy())


def sweep() -> np.ndarray:
    """Every 2**14th float32 of all there are, plain numbers densely, and the edges."""
    random = np.random.default_rng(0)
    everywhere = random.integers(0, 2**32, ELEMENTS // 2, dtype=np.uint32).view(np.float32)
    plain = random.standard_normal(ELEMENTS // 2 - len(EDGES)) * 3
    return np.concatenate([everywhere, plain.astype(np.float32), EDGES])


def exact(name: str, x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(REFERENCES[name](x.astype(np.float64)))


def ulps(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Errors in units of the spacing of float32, of finite results."""
    with np.errstate(all="ignore"):
        rounded = wanted.astype(np.float32)
    finite = np.isfinite(rounded)
    spacing = np.spacing(np.abs(rounded[finite])).astype(np.float64)
    return np.asarray(np.abs(found[finite].astype(np.float64) - wanted[finite]) / spacing)


@pytest.mark.parametrize("lanes", [1, LANES])
@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_the_stated_bound_holds_over_all_floats(name: str, lanes: int) -> None:
    x = sweep()
    found, wanted = call(kernel(name, "float32", lanes=lanes), x), exact(name, x)
    if name in ("exp", "exp2", "sigmoid"):
        tiny = np.abs(wanted) < FLUSHED_BELOW
        assert np.all(found[tiny] <= FLUSHED_BELOW)
        assert np.all(found[tiny] >= 0)
        found, wanted = found[~tiny], wanted[~tiny]
    with np.errstate(over="ignore"):
        rounded = wanted.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(rounded))
    np.testing.assert_array_equal(found[np.isinf(rounded)], rounded[np.isinf(rounded)])
    assert ulps(found, wanted).max() <= vector_math.MAX_ULP[name]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["exp", "tanh", "erf"])
def test_halves_are_computed_in_float32_and_rounded_once(name: str, dtype: str) -> None:
    x = np.random.default_rng(1).standard_normal(ELEMENTS).astype(numpy_dtype(dtype))
    found, wanted = call(kernel(name, dtype), x), exact(name, x.astype(np.float32))
    info: Any = ml_dtypes.finfo(x.dtype)
    error = np.abs(found.astype(np.float64) - wanted)
    # Half a unit of the dtype, and what float32 was off before that rounding.
    bound = np.maximum(np.abs(wanted) * float(info.eps), float(info.smallest_subnormal)) * 0.51
    assert np.all(error <= bound)


@pytest.mark.parametrize("name", ["exp", "erf"])
def test_float64_stays_exact_to_float64(name: str) -> None:
    x = np.random.default_rng(2).standard_normal(ELEMENTS)
    np.testing.assert_allclose(call(kernel(name, "float64"), x), exact(name, x), rtol=1e-15)


def test_the_compiler_default_does_not_use_it() -> None:
    x = sweep()
    with vector_math.compiler_default():
        stock = call(kernel("tanh", "float32", lanes=1), x)
    assert not np.array_equal(stock, call(kernel("tanh", "float32", lanes=1), x), equal_nan=True)


@pytest.mark.parametrize("mcpu", ["haswell", "skylake-avx512", "neoverse-n1"])
@pytest.mark.parametrize("name", ["exp", "tanh", "erf", "log", "rsqrt"])
def test_no_call_is_left_in_vector_code(name: str, mcpu: str) -> None:
    triple = {"mtriple": "aarch64-linux-gnu"} if mcpu.startswith("neoverse") else {}
    target = Target.parse({"kind": "llvm", "mcpu": mcpu, "num-cores": 4, **triple})
    text = kernel(name, "float32", target=target).inspect_source("ll")
    assert "<16 x float>" in text
    assert f"@{name}f" not in text
    assert f"@llvm.{name}." not in text
