"""What the convolutions share: output extents, the padding stage, and NumPy windows."""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from schedules.operators.operator import Args, Argument
from schedules.operators.precision import Array

# The padded input is a buffer of the program that no tensor parameter shows, so the limit on the
# parameters' bytes does not bound it: this is that limit in float32 elements.
MAX_PADDED_ELEMENTS = 2**30

# Elements that a reference gathers at a time: large enough for an efficient multiplication.
_GATHERED_ELEMENTS = 2**22

CHANNELS_IN = Argument(name="ci", doc="input channels")
CHANNELS_OUT = Argument(name="co", doc="output channels")
KERNEL_SIZE = Argument(name="kernel_size", doc="kernel extent along every axis")
STRIDE = Argument(name="stride", default=1, aliases=("strides",), doc="stride of every axis")
PADDING = Argument(name="padding", default=0, minimum=0, doc="zeros on both sides of every axis")
DILATION = Argument(name="dilation", default=1, doc="distance between kernel elements")
GROUPS = Argument(name="groups", default=1, doc="groups of channels that do not mix")


def extent_arguments(axes: str) -> tuple[Argument, ...]:
    """The batch size and one extent per spatial axis."""
    return (
        Argument(name="n", doc="batch size"),
        *(Argument(name=axis, doc=f"input extent along {axis}") for axis in axes),
    )


def kernel_span(args: Args) -> int:
    """Input elements from the first to the last element of the kernel along one axis."""
    return args.get("dilation", 1) * (args["kernel_size"] - 1) + 1


def output_extents(args: Args, axes: str) -> tuple[int, ...]:
    """Output extents of a convolution along its spatial axes."""
    margin = 2 * args["padding"] - kernel_span(args)
    return tuple((args[axis] + margin) // args["stride"] + 1 for axis in axes)


def check_windows(args: Args, axes: str, channels: int) -> str | None:
    """Advice where the kernel does not fit into the padded input or that input is too large.

    Parameters
    ----------
    args : Mapping[str, int]
        Arguments of a convolution.
    axes : str
        Its spatial axes, one letter each.
    channels : int
        Input elements at one spatial position.

    Returns
    -------
    str or None
        None where the arguments fit together.
    """
    padded = {axis: args[axis] + 2 * args["padding"] for axis in axes}
    for axis, extent in padded.items():
        if extent < kernel_span(args):
            return (
                f"the kernel spans {kernel_span(args)} elements and {axis} has only {extent} with "
                f"its padding; enlarge {axis} or the padding, or make the kernel smaller"
            )
    return check_padded(args["n"], tuple(padded.values()), channels)


def check_padded(batch: int, extents: Sequence[int], channels: int) -> str | None:
    """Advice where the padded input has more elements than are accepted."""
    elements = batch * channels
    for extent in extents:
        elements *= extent
    if elements <= MAX_PADDED_ELEMENTS:
        return None
    return (
        f"the padded input would have {elements} elements and at most {MAX_PADDED_ELEMENTS} are "
        "accepted; make the shape or the padding smaller"
    )


def pad_stage(tensor: Any, rank: int, padding: int) -> Any:
    """Zeros on both sides of the `rank` axes after the first; no stage where there are none."""
    from tvm import topi

    if padding == 0:
        return tensor
    widths = [0] * len(tensor.shape)
    widths[1 : 1 + rank] = [padding] * rank
    return topi.nn.pad(tensor, widths, name="pad_input")


def pad_array(array: Array, rank: int, padding: int) -> Array:
    """Zeros on both sides of the `rank` axes after the first."""
    widths = [(0, 0)] * array.ndim
    widths[1 : 1 + rank] = [(padding, padding)] * rank
    return np.pad(array, widths)


def taps(
    padded: Array, kernel_size: int, extents: Sequence[int], stride: int, dilation: int = 1
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """The inputs that each kernel element meets.

    Parameters
    ----------
    padded : numpy.ndarray, shape [n, *spatial, ...]
        Padded input.
    kernel_size, stride, dilation : int
        The same along every spatial axis.
    extents : sequence of int
        Output extents along the spatial axes.

    Yields
    ------
    tuple of a tuple of int and a numpy.ndarray of shape [n, *extents, ...]
        Position in the kernel, and a view.
    """
    for position in product(range(kernel_size), repeat=len(extents)):
        starts = [index * dilation for index in position]
        view = tuple(
            slice(start, start + (extent - 1) * stride + 1, stride)
            for start, extent in zip(starts, extents, strict=True)
        )
        yield position, padded[(slice(None), *view)]


def convolve(
    padded: Array, weight: Array, *, stride: int, dilation: int = 1, groups: int = 1
) -> Array:
    """Convolve by gathering slabs of windows and multiplying matrices.

    Parameters
    ----------
    padded : numpy.ndarray, shape [n, *spatial, ci]
        Padded input.
    weight : numpy.ndarray, shape [*kernel, ci / groups, co]
        Kernel.
    stride, dilation, groups : int
        The same along every spatial axis.

    Returns
    -------
    numpy.ndarray, shape [n, *spatial, co]
        Output.
    """
    if groups > 1:
        parts = zip(
            np.split(padded, groups, axis=-1), np.split(weight, groups, axis=-1), strict=True
        )
        return np.concatenate(
            [convolve(part, kernel, stride=stride, dilation=dilation) for part, kernel in parts],
            axis=-1,
        )
    rank = weight.ndim - 2
    spans = [dilation * (extent - 1) + 1 for extent in weight.shape[:rank]]
    every = (slice(None, None, stride),) * rank
    sparse = (slice(None, None, dilation),) * rank
    windows = sliding_window_view(padded, spans, axis=tuple(range(1, 1 + rank)))
    windows = windows[(slice(None), *every, slice(None), *sparse)]

    extents = windows.shape[: 1 + rank]
    output = np.empty((*extents, weight.shape[-1]))
    slab_height = max(1, _GATHERED_ELEMENTS * extents[1] // math.prod(windows.shape[1:]))
    # The axes of a slab are `rank` output axes, the channels and `rank` kernel axes.
    contracted = ((*range(rank + 1, 2 * rank + 1), rank), tuple(range(rank + 1)))
    for image, top in product(range(extents[0]), range(0, extents[1], slab_height)):
        slab = windows[image, top : top + slab_height]
        output[image, top : top + slab_height] = np.tensordot(slab, weight, contracted)
    return output
