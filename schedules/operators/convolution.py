"""Convolutions with channels last, in one, two and three dimensions."""

import math
from functools import partial
from typing import Any

import numpy as np

from schedules.operators.operator import Args, Operator
from schedules.operators.precision import ALL_DTYPES, FLOAT_DTYPES, Array, in_float64, sum_dtype
from schedules.operators.stages import placeholders, program, stored, sum_of_products
from schedules.operators.windows import (
    CHANNELS_IN,
    CHANNELS_OUT,
    DILATION,
    GROUPS,
    KERNEL_SIZE,
    PADDING,
    STRIDE,
    check_windows,
    convolve,
    extent_arguments,
    output_extents,
    pad_array,
    pad_stage,
)
from schedules.workload import TensorSpec

# Bias, scale, offset and the comparison with zero.
_BN_RELU_FLOPS_PER_ELEMENT = 4


def _check(args: Args, axes: str) -> str | None:
    groups, channels_in, channels_out = args["groups"], args["ci"], args["co"]
    if channels_in % groups or channels_out % groups:
        return (
            f"groups must divide ci and co, and {groups} does not divide both {channels_in} and "
            f"{channels_out}"
        )
    return check_windows(args, axes, channels_in)


def _tensors(args: Args, dtype: str, axes: str) -> tuple[TensorSpec, ...]:
    inputs = (args["n"], *(args[axis] for axis in axes), args["ci"])
    kernel = (args["kernel_size"],) * len(axes)
    weight = (*kernel, args["ci"] // args.get("groups", 1), args["co"])
    output = (args["n"], *output_extents(args, axes), args["co"])
    return (
        TensorSpec(name="inputs", shape=inputs, dtype=dtype),
        TensorSpec(name="weight", shape=weight, dtype=dtype),
        TensorSpec(name="output", shape=output, dtype=sum_dtype(dtype), is_output=True),
    )


def _reduction_length(args: Args, axes: str) -> int:
    kernel = math.prod([args["kernel_size"]] * len(axes))
    return kernel * (args["ci"] // args.get("groups", 1))


def _flops(args: Args, axes: str) -> int:
    positions = args["n"] * math.prod(output_extents(args, axes))
    return 2 * positions * args["co"] * _reduction_length(args, axes)


def _convolution_stage(name: str, args: Args, axes: str, inputs: Any, weight: Any) -> Any:
    from tvm import te

    padded = pad_stage(inputs, len(axes), args["padding"])
    stride, dilation = args["stride"], args["dilation"]
    groups = args.get("groups")
    group_in, group_out = args["ci"] // (groups or 1), args["co"] // (groups or 1)
    kernel = [te.reduce_axis((0, args["kernel_size"]), name=f"r{axis}") for axis in axes]
    channel = te.reduce_axis((0, group_in), name="rc")

    def element(*output: Any) -> Any:
        n, *position, co = output
        source = [at * stride + r * dilation for at, r in zip(position, kernel, strict=True)]
        # With one group both are the same channel, but structurally they are other programs, and
        # these are the ones that the public benchmark has.
        ci = channel if groups is None else co // group_out * group_in + channel
        return sum_of_products(
            padded[(n, *source, ci)], weight[(*kernel, channel, co)], [*kernel, channel]
        )

    shape = (args["n"], *output_extents(args, axes), args["co"])
    return te.compute(shape, element, name=name)


def _define(args: Args, dtype: str, name: str, axes: str) -> Any:
    *parameters, output = _tensors(args, dtype, axes)
    inputs, weight = placeholders(parameters)
    result = _convolution_stage(name, args, axes, inputs, weight)
    return program([inputs, weight], stored(result, output.dtype))


def _convolution(args: Args, inputs: Array, weight: Array) -> Array:
    padded = pad_array(inputs, weight.ndim - 2, args["padding"])
    return convolve(
        padded,
        weight,
        stride=args["stride"],
        dilation=args["dilation"],
        groups=args.get("groups", 1),
    )


def _operator(name: str, axes: str, aliases: tuple[str, ...]) -> Operator:
    rank = len(axes)
    return Operator(
        name=name,
        aliases=aliases,
        summary=f"{rank}-D convolution, channels last: inputs [n, {', '.join(axes)}, ci], "
        f"weight [{'kernel_size, ' * rank}ci / groups, co]",
        arguments=(
            *extent_arguments(axes),
            CHANNELS_IN,
            CHANNELS_OUT,
            KERNEL_SIZE,
            STRIDE,
            PADDING,
            DILATION,
            GROUPS,
        ),
        dtypes=ALL_DTYPES,
        tensors=partial(_tensors, axes=axes),
        flops=partial(_flops, axes=axes),
        reduction_length=partial(_reduction_length, axes=axes),
        define=partial(_define, name=name, axes=axes),
        reference=in_float64(_convolution),
        check=partial(_check, axes=axes),
    )


def _bn_relu_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    data, kernel, output = _tensors(args, dtype, "hw")
    channels = (args["co"],)
    return (
        TensorSpec(name="data", shape=data.shape, dtype=dtype),
        TensorSpec(name="kernel", shape=kernel.shape, dtype=dtype),
        TensorSpec(name="bias", shape=channels, dtype="float32"),
        TensorSpec(name="bn_offset", shape=channels, dtype="float32"),
        TensorSpec(name="bn_scale", shape=channels, dtype="float32"),
        output,
    )


def _define_bn_relu(args: Args, dtype: str) -> Any:
    from tvm import te, tirx

    *parameters, output = _bn_relu_tensors(args, dtype)
    data, kernel, bias, offset, scale = placeholders(parameters)
    shape = output.shape
    conv = _convolution_stage("conv2d_nhwc", args, "hw", data, kernel)
    biased = te.compute(shape, lambda n, h, w, c: conv[n, h, w, c] + bias[c], name="bias_add")
    scaled = te.compute(shape, lambda n, h, w, c: biased[n, h, w, c] * scale[c], name="bn_mul")
    shifted = te.compute(shape, lambda n, h, w, c: scaled[n, h, w, c] + offset[c], name="bn_add")
    zero = tirx.const(0.0, "float32")
    relu = te.compute(
        shape, lambda n, h, w, c: te.max(shifted[n, h, w, c], zero).astype(dtype), name="relu"
    )
    return program([data, kernel, bias, offset, scale], relu)


def _bn_relu(
    args: Args,
    data: Array,
    kernel: Array,
    bias: Array,
    offset: Array,
    scale: Array,
) -> Array:
    return np.maximum((_convolution(args, data, kernel) + bias) * scale + offset, 0.0)


def _bn_relu_flops(args: Args) -> int:
    elements = args["n"] * math.prod(output_extents(args, "hw")) * args["co"]
    return _flops(args, "hw") + _BN_RELU_FLOPS_PER_ELEMENT * elements


CONV1D = _operator("conv1d_nlc", "l", ("c1d",))
CONV2D = _operator("conv2d_nhwc", "hw", ("c2d", "grp", "dil"))
CONV3D = _operator("conv3d_ndhwc", "dhw", ("c3d",))

CONV2D_BN_RELU = Operator(
    name="conv2d_nhwc_bn_relu",
    aliases=("cbr",),
    summary="max((conv2d_nhwc(data, kernel) + bias) * bn_scale + bn_offset, 0)",
    arguments=(
        *extent_arguments("hw"),
        CHANNELS_IN,
        CHANNELS_OUT,
        KERNEL_SIZE,
        STRIDE,
        PADDING,
        DILATION,
    ),
    dtypes=FLOAT_DTYPES,
    tensors=_bn_relu_tensors,
    flops=_bn_relu_flops,
    reduction_length=partial(_reduction_length, axes="hw"),
    define=_define_bn_relu,
    reference=in_float64(_bn_relu),
    check=lambda args: check_windows(args, "hw", args["ci"]),
)

OPERATORS = (CONV1D, CONV2D, CONV3D, CONV2D_BN_RELU)
