"""Fused programs: each as tensor expressions, and the same in PyTorch.

TVM is imported in the functions that make programs, PyTorch is handed to those that use it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class Fused:
    """One program.

    Attributes
    ----------
    shapes : tuple of tuple of int
        Of the inputs, float32.
    stages : callable (te, *placeholders) -> tensor
        The program's output.
    torch : callable (torch, *tensors) -> tensor
        The same.
    """

    shapes: tuple[tuple[int, ...], ...]
    stages: Callable[..., Any]
    torch: Callable[..., Any]

    def program(self) -> Any:
        """Return the TIR function."""
        from tvm import te

        inputs = [
            te.placeholder(shape, name=f"input{place}") for place, shape in enumerate(self.shapes)
        ]
        return te.create_prim_func([*inputs, self.stages(te, *inputs)])


def _gelu(te: Any, value: Any) -> Any:
    return 0.5 * value * (1.0 + te.erf(value * math.sqrt(0.5)))


def _row_sum(te: Any, name: str, rows: int, columns: int, term: Callable[..., Any]) -> Any:
    k = te.reduce_axis((0, columns), name="k")
    return te.compute((rows,), lambda i: te.sum(term(i, k), axis=k), name=name)


def _product(te: Any, x: Any, w: Any) -> Any:
    k = te.reduce_axis((0, x.shape[1]), name="k")
    return te.compute(
        (x.shape[0], w.shape[1]), lambda i, j: te.sum(x[i, k] * w[k, j], axis=k), name="product"
    )


def _bias_gelu(te: Any, x: Any, bias: Any) -> Any:
    z = te.compute(x.shape, lambda i, j: x[i, j] + bias[j], name="biased")
    return te.compute(x.shape, lambda i, j: _gelu(te, z[i, j]), name="gelu")


def _matmul_bias_gelu(te: Any, x: Any, w: Any, bias: Any) -> Any:
    z = _product(te, x, w)
    return te.compute(z.shape, lambda i, j: _gelu(te, z[i, j] + bias[j]), name="gelu")


def _matmul_residual(te: Any, x: Any, w: Any, residual: Any) -> Any:
    z = _product(te, x, w)
    return te.compute(z.shape, lambda i, j: z[i, j] + residual[i, j], name="added")


def _conv_bn_relu(te: Any, x: Any, w: Any, scale: Any, shift: Any) -> Any:
    n, h, width, ci = x.shape
    padded = te.compute(
        (n, h + 2, width + 2, ci),
        lambda b, i, j, c: te.if_then_else(
            te.all(i >= 1, i < h + 1, j >= 1, j < width + 1), x[b, i - 1, j - 1, c], 0.0
        ),
        name="padded",
    )
    r, s, k = (
        te.reduce_axis((0, extent), name=name) for extent, name in ((3, "r"), (3, "s"), (ci, "k"))
    )
    z = te.compute(
        (n, h, width, w.shape[3]),
        lambda b, i, j, o: te.sum(padded[b, i + r, j + s, k] * w[r, s, k, o], axis=[r, s, k]),
        name="convolved",
    )
    return te.compute(
        z.shape, lambda b, i, j, o: te.max(z[b, i, j, o] * scale[o] + shift[o], 0.0), name="relu"
    )


def _scaled_masked_softmax(te: Any, x: Any, mask: Any) -> Any:
    b, h, n, m = x.shape
    z = te.compute(x.shape, lambda b, h, i, j: x[b, h, i, j] * 0.125 + mask[i, j], name="masked")
    k = te.reduce_axis((0, m), name="k")
    top = te.compute((b, h, n), lambda b, h, i: te.max(z[b, h, i, k], axis=k), name="top")
    e = te.compute(x.shape, lambda b, h, i, j: te.exp(z[b, h, i, j] - top[b, h, i]), name="power")
    k = te.reduce_axis((0, m), name="k")
    total = te.compute((b, h, n), lambda b, h, i: te.sum(e[b, h, i, k], axis=k), name="total")
    return te.compute(x.shape, lambda b, h, i, j: e[b, h, i, j] / total[b, h, i], name="softmax")


def _add_layer_norm(te: Any, x: Any, residual: Any, gamma: Any, beta: Any) -> Any:
    rows, columns = (int(extent) for extent in x.shape)
    z = te.compute(x.shape, lambda i, j: x[i, j] + residual[i, j], name="total")
    total = _row_sum(te, "row_sum", rows, columns, lambda i, k: z[i, k])
    mean = te.compute((rows,), lambda i: total[i] / columns, name="mean")
    squares = _row_sum(
        te, "squares", rows, columns, lambda i, k: (z[i, k] - mean[i]) * (z[i, k] - mean[i])
    )
    scale = te.compute((rows,), lambda i: te.rsqrt(squares[i] / columns + EPSILON), name="scale")
    return te.compute(
        x.shape,
        lambda i, j: (z[i, j] - mean[i]) * scale[i] * gamma[j] + beta[j],
        name="layer_norm",
    )


def _rms_norm_residual(te: Any, x: Any, weight: Any, residual: Any) -> Any:
    rows, columns = (int(extent) for extent in x.shape)
    squares = _row_sum(te, "squares", rows, columns, lambda i, k: x[i, k] * x[i, k])
    return te.compute(
        x.shape,
        lambda i, j: (
            x[i, j] * te.rsqrt(squares[i] / columns + EPSILON) * weight[j] + residual[i, j]
        ),
        name="scaled",
    )


def _swiglu(te: Any, gate: Any, up: Any) -> Any:
    return te.compute(
        gate.shape, lambda i, j: gate[i, j] * te.sigmoid(gate[i, j]) * up[i, j], name="gated"
    )


def _bias_softmax_columns(te: Any, x: Any, bias: Any) -> Any:
    """Softmax over the channels of an image whose pixels are contiguous."""
    n, c, pixels = x.shape
    z = te.compute(x.shape, lambda b, i, j: x[b, i, j] + bias[i], name="biased")
    k = te.reduce_axis((0, c), name="k")
    top = te.compute((n, pixels), lambda b, j: te.max(z[b, k, j], axis=k), name="top")
    e = te.compute(x.shape, lambda b, i, j: te.exp(z[b, i, j] - top[b, j]), name="power")
    k = te.reduce_axis((0, c), name="k")
    total = te.compute((n, pixels), lambda b, j: te.sum(e[b, k, j], axis=k), name="total")
    return te.compute(x.shape, lambda b, i, j: e[b, i, j] / total[b, j], name="softmax")


def _mean_variance_columns(te: Any, x: Any) -> Any:
    """What a batch norm learns: the variance of each column."""
    rows, columns = (int(extent) for extent in x.shape)
    k = te.reduce_axis((0, rows), name="k")
    total = te.compute((columns,), lambda j: te.sum(x[k, j], axis=k), name="column_sum")
    k = te.reduce_axis((0, rows), name="k")
    squares = te.compute(
        (columns,),
        lambda j: te.sum((x[k, j] - total[j] / rows) * (x[k, j] - total[j] / rows), axis=k),
        name="squares",
    )
    return te.compute((columns,), lambda j: squares[j] / rows, name="variance")


def _torch_conv(torch: Any, x: Any, w: Any, scale: Any, shift: Any) -> Any:
    # Views: memory stays channels last, as in the program.
    z = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), padding=1)
    return torch.relu(z * scale[:, None, None] + shift[:, None, None])


def _torch_layer_norm(torch: Any, x: Any, residual: Any, gamma: Any, beta: Any) -> Any:
    return torch.nn.functional.layer_norm(x + residual, gamma.shape, gamma, beta, EPSILON)


def _torch_rms_norm(torch: Any, x: Any, weight: Any, residual: Any) -> Any:
    return torch.nn.functional.rms_norm(x, weight.shape, weight, EPSILON) + residual


ROWS, COLUMNS = 512, 768
_PLANE = (ROWS, COLUMNS)

FUSED: Mapping[str, Fused] = MappingProxyType(
    {
        "bias_gelu": Fused(
            shapes=(_PLANE, (COLUMNS,)),
            stages=_bias_gelu,
            torch=lambda torch, x, bias: torch.nn.functional.gelu(x + bias),
        ),
        "matmul_bias_gelu": Fused(
            shapes=((256, 512), (512, 1024), (1024,)),
            stages=_matmul_bias_gelu,
            torch=lambda torch, x, w, bias: torch.nn.functional.gelu(x @ w + bias),
        ),
        "matmul_residual": Fused(
            shapes=((256, 1024), (1024, 512), (256, 512)),
            stages=_matmul_residual,
            torch=lambda torch, x, w, residual: torch.addmm(residual, x, w),
        ),
        "conv_bn_relu": Fused(
            shapes=((1, 28, 28, 128), (3, 3, 128, 128), (128,), (128,)),
            stages=_conv_bn_relu,
            torch=_torch_conv,
        ),
        "scaled_masked_softmax": Fused(
            shapes=((1, 12, 128, 128), (128, 128)),
            stages=_scaled_masked_softmax,
            torch=lambda torch, x, mask: torch.softmax(x * 0.125 + mask, -1),
        ),
        "add_layer_norm": Fused(
            shapes=(_PLANE, _PLANE, (COLUMNS,), (COLUMNS,)),
            stages=_add_layer_norm,
            torch=_torch_layer_norm,
        ),
        "rms_norm_residual": Fused(
            shapes=(_PLANE, (COLUMNS,), _PLANE),
            stages=_rms_norm_residual,
            torch=_torch_rms_norm,
        ),
        "swiglu": Fused(
            shapes=(_PLANE, _PLANE),
            stages=_swiglu,
            torch=lambda torch, gate, up: torch.nn.functional.silu(gate) * up,
        ),
        "bias_softmax_columns": Fused(
            shapes=((1, 21, 16384), (21,)),
            stages=_bias_softmax_columns,
            torch=lambda torch, x, bias: torch.softmax(x + bias[:, None], 1),
        ),
        "mean_variance_columns": Fused(
            shapes=((2048, 256),),
            stages=_mean_variance_columns,
            torch=lambda torch, x: torch.var(x, 0, correction=0),
        ),
    }
)


def names() -> Sequence[str]:
    """Return the programs' names."""
    return tuple(FUSED)
