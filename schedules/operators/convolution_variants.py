"""Depthwise, transposed and capsule convolutions, all with channels last."""

import math
from typing import Any

import numpy as np

from schedules.operators.operator import Args, Argument, Operator
from schedules.operators.precision import ALL_DTYPES, Array, in_float64, sum_dtype
from schedules.operators.stages import placeholders, program, stored, sum_of_products
from schedules.operators.windows import (
    CHANNELS_IN,
    CHANNELS_OUT,
    DILATION,
    KERNEL_SIZE,
    PADDING,
    STRIDE,
    check_padded,
    check_windows,
    extent_arguments,
    output_extents,
    pad_array,
    pad_stage,
    taps,
)
from schedules.workload import TensorSpec


def _depthwise_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    n, h, w, c, kernel = args["n"], args["h"], args["w"], args["c"], args["kernel_size"]
    output = (n, *output_extents(args, "hw"), c)
    return (
        TensorSpec(name="inputs", shape=(n, h, w, c), dtype=dtype),
        TensorSpec(name="weight", shape=(1, kernel, kernel, c), dtype=dtype),
        TensorSpec(name="output", shape=output, dtype=sum_dtype(dtype), is_output=True),
    )


def _define_depthwise(args: Args, dtype: str) -> Any:
    from tvm import te

    *parameters, output = _depthwise_tensors(args, dtype)
    inputs, weight = placeholders(parameters)
    padded = pad_stage(inputs, 2, args["padding"])
    stride, dilation = args["stride"], args["dilation"]
    rh = te.reduce_axis((0, args["kernel_size"]), name="rh")
    rw = te.reduce_axis((0, args["kernel_size"]), name="rw")
    result = te.compute(
        output.shape,
        lambda n, h, w, c: sum_of_products(
            padded[n, h * stride + rh * dilation, w * stride + rw * dilation, c],
            weight[0, rh, rw, c],
            [rh, rw],
        ),
        name="depthwise_conv2d_nhwc",
    )
    return program([inputs, weight], stored(result, output.dtype))


def _depthwise(args: Args, inputs: Array, weight: Array) -> Array:
    padded = pad_array(inputs, 2, args["padding"])
    extents = output_extents(args, "hw")
    output = np.zeros((args["n"], *extents, args["c"]))
    size, stride, dilation = args["kernel_size"], args["stride"], args["dilation"]
    for (rh, rw), view in taps(padded, size, extents, stride, dilation):
        output += view * weight[0, rh, rw]
    return output


def _depthwise_flops(args: Args) -> int:
    elements = args["n"] * math.prod(output_extents(args, "hw")) * args["c"]
    return 2 * elements * args["kernel_size"] ** 2


def _transpose_extents(args: Args) -> tuple[int, int]:
    margin = args["kernel_size"] - 2 * args["padding"]
    return (
        (args["h"] - 1) * args["stride"] + margin,
        (args["w"] - 1) * args["stride"] + margin,
    )


def _transpose_pad(args: Args) -> int:
    """Zero rows around the input that the furthest kernel positions meet."""
    return -((1 + args["padding"] - args["kernel_size"]) // args["stride"])


def _check_transpose(args: Args) -> str | None:
    if args["padding"] >= args["kernel_size"]:
        return (
            f"padding crops the output and must be below kernel_size={args['kernel_size']}, "
            f"not {args['padding']}"
        )
    if min(_transpose_extents(args)) < 1:
        return "the padding crops the whole output; make it smaller or the input larger"
    pad = 2 * _transpose_pad(args)
    return check_padded(args["n"], (args["h"] + pad, args["w"] + pad), args["ci"])


def _transpose_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    n, h, w, ci, co = args["n"], args["h"], args["w"], args["ci"], args["co"]
    kernel = args["kernel_size"]
    output = (n, *_transpose_extents(args), co)
    return (
        TensorSpec(name="inputs", shape=(n, h, w, ci), dtype=dtype),
        TensorSpec(name="weight", shape=(kernel, kernel, ci, co), dtype=dtype),
        TensorSpec(name="output", shape=output, dtype=sum_dtype(dtype), is_output=True),
    )


def _define_transpose(args: Args, dtype: str) -> Any:
    from tvm import te, tirx

    *parameters, output = _transpose_tensors(args, dtype)
    inputs, weight = placeholders(parameters)
    padded = pad_stage(inputs, 2, _transpose_pad(args))
    stride, last = args["stride"], args["kernel_size"] - 1
    # How far the padded input starts before the first element that the output needs.
    border = (args["padding"] - last) % stride
    rh = te.reduce_axis((0, args["kernel_size"]), name="rh")
    rw = te.reduce_axis((0, args["kernel_size"]), name="rw")
    rc = te.reduce_axis((0, args["ci"]), name="rc")

    # The zeros between the inputs are a condition rather than a stage of their own, so that a
    # schedule can unroll the kernel axes and drop the multiplications by zero.
    def spread(n: Any, h: Any, w: Any) -> Any:
        if stride == 1:
            return padded[n, h, w, rc]
        is_input = tirx.all(h % stride == 0, w % stride == 0)
        zero = tirx.const(0, dtype)
        return tirx.if_then_else(is_input, padded[n, h // stride, w // stride, rc], zero)

    result = te.compute(
        output.shape,
        lambda n, h, w, co: sum_of_products(
            spread(n, h + rh + border, w + rw + border),
            weight[last - rh, last - rw, rc, co],
            [rh, rw, rc],
        ),
        name="conv2d_transpose_nhwc",
    )
    return program([inputs, weight], stored(result, output.dtype))


def _transpose(args: Args, inputs: Array, weight: Array) -> Array:
    n, h, w, _ = inputs.shape
    size, _, _, co = weight.shape
    stride, crop = args["stride"], args["padding"]
    # Scatter every input into the uncropped output; the program gathers instead.
    full = np.zeros((n, (h - 1) * stride + size, (w - 1) * stride + size, co))
    for (rh, rw), view in taps(full, size, (h, w), stride):
        view += inputs @ weight[rh, rw]
    return full[:, crop : full.shape[1] - crop, crop : full.shape[2] - crop]


def _transpose_reduction(args: Args) -> int:
    """Every stride-th kernel element along an axis meets an input; the others meet zeros."""
    return math.ceil(args["kernel_size"] / args["stride"]) ** 2 * args["ci"]


def _transpose_flops(args: Args) -> int:
    """Count only products of an input and a kernel element that reach the output."""
    stride, crop = args["stride"], args["padding"]

    def pairs(inputs: int, outputs: int) -> int:
        total = 0
        for r in range(args["kernel_size"]):
            first = max(0, -((r - crop) // stride))
            last = min(inputs - 1, (outputs - 1 + crop - r) // stride)
            total += max(0, last - first + 1)
        return total

    out_h, out_w = _transpose_extents(args)
    reached = pairs(args["h"], out_h) * pairs(args["w"], out_w)
    return 2 * args["n"] * reached * args["ci"] * args["co"]


def _capsule_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    n, h, w, ci, co = args["n"], args["h"], args["w"], args["ci"], args["co"]
    kernel, size = args["kernel_size"], args["capsule_size"]
    output = (n, *output_extents(args, "hw"), size, size, co)
    return (
        TensorSpec(name="inputs", shape=(n, h, w, size, size, ci), dtype=dtype),
        TensorSpec(name="weight", shape=(kernel, kernel, size, size, ci, co), dtype=dtype),
        TensorSpec(name="output", shape=output, dtype=sum_dtype(dtype), is_output=True),
    )


def _define_capsule(args: Args, dtype: str) -> Any:
    from tvm import te

    *parameters, output = _capsule_tensors(args, dtype)
    inputs, weight = placeholders(parameters)
    padded = pad_stage(inputs, 2, args["padding"])
    stride = args["stride"]
    rh = te.reduce_axis((0, args["kernel_size"]), name="rh")
    rw = te.reduce_axis((0, args["kernel_size"]), name="rw")
    cap_k = te.reduce_axis((0, args["capsule_size"]), name="cap_k")
    rc = te.reduce_axis((0, args["ci"]), name="rc")
    result = te.compute(
        output.shape,
        lambda n, h, w, cap_i, cap_j, co: sum_of_products(
            padded[n, h * stride + rh, w * stride + rw, cap_i, cap_k, rc],
            weight[rh, rw, cap_k, cap_j, rc, co],
            [rh, rw, cap_k, rc],
        ),
        name="conv2d_capsule_nhwijc",
    )
    return program([inputs, weight], stored(result, output.dtype))


def _capsule(args: Args, inputs: Array, weight: Array) -> Array:
    padded = pad_array(inputs, 2, args["padding"])
    extents, size = output_extents(args, "hw"), args["capsule_size"]
    output = np.zeros((args["n"], *extents, size, size, args["co"]))
    for (rh, rw), view in taps(padded, args["kernel_size"], extents, args["stride"]):
        output += np.tensordot(view, weight[rh, rw], ((4, 5), (0, 2)))
    return output


def _capsule_reduction(args: Args) -> int:
    return args["kernel_size"] ** 2 * args["capsule_size"] * args["ci"]


def _capsule_flops(args: Args) -> int:
    positions = args["n"] * math.prod(output_extents(args, "hw"))
    elements = positions * args["capsule_size"] ** 2 * args["co"]
    return 2 * elements * _capsule_reduction(args)


DEPTHWISE_CONV2D = Operator(
    name="depthwise_conv2d_nhwc",
    aliases=("dep",),
    summary="one 2-D kernel per channel: inputs [n, h, w, c], weight [1, kernel_size, "
    "kernel_size, c]",
    arguments=(
        *extent_arguments("hw"),
        Argument(name="c", doc="channels"),
        KERNEL_SIZE,
        STRIDE,
        PADDING,
        DILATION,
    ),
    dtypes=ALL_DTYPES,
    tensors=_depthwise_tensors,
    flops=_depthwise_flops,
    reduction_length=lambda args: args["kernel_size"] ** 2,
    define=_define_depthwise,
    reference=in_float64(_depthwise),
    check=lambda args: check_windows(args, "hw", args["c"]),
)

CONV2D_TRANSPOSE = Operator(
    name="conv2d_transpose_nhwc",
    aliases=("t2d",),
    summary="the gradient of a 2-D convolution: output extents (h - 1) * stride + kernel_size - "
    "2 * padding",
    arguments=(*extent_arguments("hw"), CHANNELS_IN, CHANNELS_OUT, KERNEL_SIZE, STRIDE, PADDING),
    dtypes=ALL_DTYPES,
    tensors=_transpose_tensors,
    flops=_transpose_flops,
    reduction_length=_transpose_reduction,
    define=_define_transpose,
    reference=in_float64(_transpose),
    check=_check_transpose,
)

CONV2D_CAPSULE = Operator(
    name="conv2d_capsule_nhwijc",
    aliases=("cap",),
    summary="2-D convolution of matrices: inputs [n, h, w, i, k, ci], weight [kernel_size, "
    "kernel_size, k, j, ci, co]",
    arguments=(
        *extent_arguments("hw"),
        CHANNELS_IN,
        CHANNELS_OUT,
        KERNEL_SIZE,
        STRIDE,
        PADDING,
        Argument(name="capsule_size", default=4, doc="rows and columns of one capsule"),
    ),
    dtypes=ALL_DTYPES,
    tensors=_capsule_tensors,
    flops=_capsule_flops,
    reduction_length=_capsule_reduction,
    define=_define_capsule,
    reference=in_float64(_capsule),
    check=lambda args: check_windows(args, "hw", args["ci"] * args["capsule_size"] ** 2),
)

OPERATORS = (DEPTHWISE_CONV2D, CONV2D_TRANSPOSE, CONV2D_CAPSULE)
