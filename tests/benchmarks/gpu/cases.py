"""What `bench_gpu` tunes: operators and fused programs, each with the same in PyTorch.

Tensors are larger than the second cache level of any GPU so far, so that warm caches favour nobody.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

ROWS, COLUMNS = 8192, 4096
EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class Case:
    """One workload with its rival.

    Attributes
    ----------
    name : str
        In the tables.
    workload : callable () -> object
        What `tuner.Client.submit` takes; imports TVM where it must.
    torch : callable (torch, device) -> (function, inputs)
        The same in PyTorch, on inputs of its own.
    flops, moved_bytes : float
        Of one call; every tensor is moved once.
    memory_bound : bool
        Which group it counts for.
    """

    name: str
    workload: Callable[[], object]
    torch: Callable[[Any], tuple[Callable[..., Any], tuple[Any, ...]]]
    flops: float
    moved_bytes: float
    memory_bound: bool
    tags: frozenset[str] = field(default_factory=frozenset)


def cases(quick: bool) -> tuple[Case, ...]:
    """Return all cases, the most telling first; a quick run has a few."""
    memory = [_softmax(), _bias_gelu(), _add_rms_norm(), _swiglu(), _layer_norm(), _gemv()]
    matrix = [_matmul("float16"), _matmul("bfloat16"), _batch_matmul(), _convolution()]
    everything = (matrix[0], *memory[:2], matrix[1], *memory[2:], *matrix[2:])
    return everything[:3] if quick else everything


def _randn(torch: Any, *shape: int, dtype: str = "float32") -> Any:
    return torch.randn(shape, device="cuda", dtype=getattr(torch, dtype))


def _call(op: str, args: Mapping[str, int], dtype: str) -> Callable[[], object]:
    return lambda: (op, dict(args), dtype)


def _matmul(dtype: str) -> Case:
    size = 4096
    return Case(
        name=f"matmul {size} {dtype}",
        workload=_call("matmul", {"n": size, "m": size, "k": size}, dtype),
        torch=lambda torch: (
            torch.matmul,
            (_randn(torch, size, size, dtype=dtype), _randn(torch, size, size, dtype=dtype)),
        ),
        flops=2.0 * size**3,
        moved_bytes=3 * 2.0 * size**2,
        memory_bound=False,
        tags=frozenset({"cublas"}),
    )


def _batch_matmul() -> Case:
    batch, size = 16, 1024
    shape = (batch, size, size)
    return Case(
        name=f"batch_matmul {batch}x{size} float16",
        workload=_call("batch_matmul", {"b": batch, "n": size, "m": size, "k": size}, "float16"),
        torch=lambda torch: (
            torch.bmm,
            (_randn(torch, *shape, dtype="float16"), _randn(torch, *shape, dtype="float16")),
        ),
        flops=2.0 * batch * size**3,
        moved_bytes=3 * 2.0 * batch * size**2,
        memory_bound=False,
    )


def _convolution() -> Case:
    n, size, channels, kernel = 16, 56, 128, 3

    def rival(torch: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        def form(*shape: int) -> Any:
            return _randn(torch, *shape, dtype="float16").to(memory_format=torch.channels_last)

        def convolve(x: Any, w: Any) -> Any:
            return torch.nn.functional.conv2d(x, w, padding=1)

        return convolve, (
            form(n, channels, size, size),
            form(channels, channels, kernel, kernel),
        )

    args = {"n": n, "h": size, "w": size, "ci": channels, "co": channels}
    pixels = n * size**2 * channels
    return Case(
        name=f"conv2d_nhwc {n}x{size}x{size}x{channels} float16",
        workload=_call("conv2d_nhwc", {**args, "kernel_size": kernel, "padding": 1}, "float16"),
        torch=rival,
        flops=2.0 * pixels * channels * kernel**2,
        moved_bytes=2.0 * (2 * pixels + channels**2 * kernel**2),
        memory_bound=False,
    )


def _rows_case(name: str, workload: Callable[[], object], rival: Any, tensors: int) -> Case:
    elements = ROWS * COLUMNS
    return Case(
        name=f"{name} {ROWS}x{COLUMNS} float32",
        workload=workload,
        torch=rival,
        flops=8.0 * elements,
        moved_bytes=4.0 * tensors * elements,
        memory_bound=True,
    )


def _softmax() -> Case:
    return _rows_case(
        "softmax",
        _call("softmax", {"m": ROWS, "n": COLUMNS}, "float32"),
        lambda torch: (lambda x: torch.softmax(x, -1), (_randn(torch, ROWS, COLUMNS),)),
        2,
    )


def _layer_norm() -> Case:
    return _rows_case(
        "layer_norm",
        _call("layer_norm", {"m": ROWS, "n": COLUMNS}, "float32"),
        lambda torch: (
            lambda x, g, b: torch.nn.functional.layer_norm(x, (COLUMNS,), g, b, EPSILON),
            (_randn(torch, ROWS, COLUMNS), _randn(torch, COLUMNS), _randn(torch, COLUMNS)),
        ),
        2,
    )


def _gemv() -> Case:
    rows, columns = 16384, 8192
    return Case(
        name=f"gemv {rows}x{columns} float16",
        workload=_call("gemv", {"m": rows, "k": columns}, "float16"),
        torch=lambda torch: (
            torch.mv,
            (
                _randn(torch, rows, columns, dtype="float16"),
                _randn(torch, columns, dtype="float16"),
            ),
        ),
        flops=2.0 * rows * columns,
        moved_bytes=2.0 * (rows * columns + rows + columns),
        memory_bound=True,
    )


# --- fused programs ------------------------------------------------------------------------------


def _bias_gelu() -> Case:
    """Bias and the sigmoid form of GELU."""

    def program() -> object:
        from tvm import te

        x = te.placeholder((ROWS, COLUMNS), name="x")
        bias = te.placeholder((COLUMNS,), name="bias")
        z = te.compute(x.shape, lambda i, j: x[i, j] + bias[j], name="biased")
        y = te.compute(x.shape, lambda i, j: z[i, j] * te.sigmoid(1.702 * z[i, j]), name="gelu")
        return te.create_prim_func([x, bias, y])

    def rival(torch: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        def function(x: Any, bias: Any) -> Any:
            z = x + bias
            return z * torch.sigmoid(1.702 * z)

        return function, (_randn(torch, ROWS, COLUMNS), _randn(torch, COLUMNS))

    return _rows_case("bias + GELU", program, rival, 2)


def _add_rms_norm() -> Case:
    """Residual addition and RMS normalisation with a weight."""

    def program() -> object:
        from tvm import te

        x = te.placeholder((ROWS, COLUMNS), name="x")
        residual = te.placeholder((ROWS, COLUMNS), name="residual")
        weight = te.placeholder((COLUMNS,), name="weight")
        k = te.reduce_axis((0, COLUMNS), name="k")
        total = te.compute(x.shape, lambda i, j: x[i, j] + residual[i, j], name="total")
        squares = te.compute(
            (ROWS,), lambda i: te.sum(total[i, k] * total[i, k], axis=k), name="squares"
        )
        y = te.compute(
            x.shape,
            lambda i, j: total[i, j] * te.rsqrt(squares[i] / COLUMNS + EPSILON) * weight[j],
            name="scaled",
        )
        return te.create_prim_func([x, residual, weight, y])

    def rival(torch: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        def function(x: Any, residual: Any, weight: Any) -> Any:
            total = x + residual
            return total * torch.rsqrt(total.square().mean(-1, keepdim=True) + EPSILON) * weight

        inputs = (_randn(torch, ROWS, COLUMNS), _randn(torch, ROWS, COLUMNS))
        return function, (*inputs, _randn(torch, COLUMNS))

    return _rows_case("add + RMS norm", program, rival, 3)


def _swiglu() -> Case:
    """The gated activation of language models."""

    def program() -> object:
        from tvm import te

        gate = te.placeholder((ROWS, COLUMNS), name="gate")
        up = te.placeholder((ROWS, COLUMNS), name="up")
        silu = te.compute(gate.shape, lambda i, j: gate[i, j] * te.sigmoid(gate[i, j]), name="silu")
        y = te.compute(gate.shape, lambda i, j: silu[i, j] * up[i, j], name="gated")
        return te.create_prim_func([gate, up, y])

    def rival(torch: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        def function(gate: Any, up: Any) -> Any:
            return gate * torch.sigmoid(gate) * up

        return function, (_randn(torch, ROWS, COLUMNS), _randn(torch, ROWS, COLUMNS))

    return _rows_case("SwiGLU", program, rival, 3)
