"""PyTorch's side: answers orders on its standard input, one line of JSON each.

Runs in an environment of its own that has PyTorch and nothing of this project's dependencies:
``python -m tests.benchmarks.kernels.rival THREADS``.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.benchmarks.kernels.fused import FUSED

Made = tuple[Callable[..., Any], tuple[Any, ...]]
Args = Mapping[str, int]


def make(torch: Any, op: str, args: Args, dtype: str) -> Made:
    """Return a function and its inputs: the same operator, in the layout that suits PyTorch.

    Weights are in PyTorch's own layout, images are channels last in memory as in our programs.
    """
    random = _random(torch, dtype)
    if op in FUSED:
        fused = FUSED[op]
        inputs = tuple(torch.randn(shape) for shape in fused.shapes)
        return (lambda *tensors: fused.torch(torch, *tensors)), inputs
    if op in _MAKERS:
        return _MAKERS[op](torch, args, random)
    return _convolution(torch, op, args, random)


def _random(torch: Any, dtype: str) -> Callable[..., Any]:
    if dtype == "int8":
        return lambda *shape: torch.randint(-8, 8, shape, dtype=torch.int8)
    return lambda *shape: torch.randn(shape).to(getattr(torch, dtype))


def _batch_matmul(torch: Any, a: Args, random: Any) -> Made:
    if a["b"] == 1 and random(1).dtype is torch.int8:
        return torch._int_mm, (random(a["n"], a["k"]), random(a["k"], a["m"]))
    return torch.bmm, (random(a["b"], a["n"], a["k"]), random(a["b"], a["k"], a["m"]))


def _dense(torch: Any, a: Args, random: Any) -> Made:
    x, w = random(a["n"], a["k"]), random(a["m"], a["k"])
    if x.dtype is torch.int8:
        return (lambda x, w: torch._int_mm(x, w.t())), (x, w)
    return torch.nn.functional.linear, (x, w)


def _norm(torch: Any, a: Args, random: Any) -> Made:
    return (lambda x: torch.linalg.vector_norm(x, dim=(1, 2))), (random(a["b"], a["m"], a["n"]),)


def _softmax(torch: Any, a: Args, random: Any) -> Made:
    return (lambda x: torch.softmax(x, -1)), (random(a["m"], a["n"]),)


def _scores(torch: Any, a: Args, random: Any) -> Made:
    shape = (a["batch"], a["seq_len"], a["n_head"], a["n_dim"])
    return (
        lambda q, v: torch.matmul(q.permute(0, 2, 1, 3), v.permute(0, 2, 3, 1)),
        (random(*shape), random(*shape)),
    )


def _capsule(torch: Any, a: Args, random: Any) -> Made:
    """Rows of the capsules are a batch, their columns channels."""
    size, kernel = 4, a["kernel_size"]
    x = random(a["n"] * size, size * a["ci"], a["h"], a["w"])
    w = random(size * a["co"], size * a["ci"], kernel, kernel)
    last = torch.channels_last
    return (
        lambda x, w: torch.nn.functional.conv2d(x, w, stride=a["stride"], padding=a["padding"]),
        (x.to(memory_format=last), w.to(memory_format=last)),
    )


_MAKERS: Mapping[str, Callable[[Any, Args, Any], Made]] = {
    "batch_matmul": _batch_matmul,
    "dense": _dense,
    "norm": _norm,
    "softmax": _softmax,
    "transpose_batch_matmul": _scores,
    "conv2d_capsule_nhwijc": _capsule,
}


def _convolution(torch: Any, op: str, a: Args, random: Any) -> Made:
    functional = torch.nn.functional
    spatial = [a[name] for name in ("d", "h", "w", "l") if name in a]
    depthwise = op.startswith("depthwise")
    ci = a["c"] if depthwise else a["ci"]
    co = a["c"] if depthwise else a["co"]
    groups = ci if depthwise else a.get("groups", 1)
    kernel = (a["kernel_size"],) * len(spatial)
    transposed = "transpose" in op
    x = random(a["n"], ci, *spatial)
    w = random(*((ci, co) if transposed else (co, ci // groups)), *kernel)
    if len(spatial) > 1:
        last = torch.channels_last if len(spatial) == 2 else torch.channels_last_3d
        x, w = x.to(memory_format=last), w.to(memory_format=last)
    options = {"stride": a.get("stride", 1), "padding": a.get("padding", 0)}
    if x.dtype is torch.int8:
        return torch._int_mm, (random(spatial[0] * spatial[1], ci), random(ci, co))
    if transposed:
        return (lambda x, w: functional.conv_transpose2d(x, w, **options)), (x, w)
    convolve = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[len(spatial)]
    options |= {"dilation": a.get("dilation", 1), "groups": groups}
    if not op.endswith("bn_relu"):
        return (lambda x, w: convolve(x, w, **options)), (x, w)
    vectors = tuple(random(co, 1, 1) for _ in range(3))
    return (
        lambda x, w, bias, scale, offset: torch.relu(
            (convolve(x, w, **options) + bias) * scale + offset
        ),
        (x, w, *vectors),
    )


class Player:
    """Holds one case at a time."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._functions: dict[str, Callable[[], Any]] = {}

    def open(self, op: str, args: Args, dtype: str) -> dict[str, Any]:
        """Make a case, eager and compiled; their results must agree."""
        torch = self._torch
        torch._dynamo.reset()
        function, inputs = make(torch, op, args, dtype)
        self._functions = {"eager": lambda: function(*inputs)}
        expected = function(*inputs)
        found: dict[str, Any] = {"torch": torch.__version__}
        try:
            compiled = torch.compile(function, mode="max-autotune", fullgraph=True)
            result = compiled(*inputs)
            scale = expected.double().abs().max()
            error = float((result.double() - expected.double()).abs().max() / scale)
            if error > 0.02:
                raise RuntimeError(f"compiled and eager results differ by {error:.2g}")
            self._functions["compiled"] = lambda: compiled(*inputs)
        except Exception as failure:
            found["compile_error"] = f"{type(failure).__name__}: {failure}"[:300]
        found["kinds"] = list(self._functions)
        return found

    def time(self, kind: str, calls: int) -> dict[str, Any]:
        """Return the mean seconds of one call; one call goes before."""
        function = self._functions[kind]
        function()
        started = time.perf_counter()
        for _ in range(calls):
            function()
        return {"secs": (time.perf_counter() - started) / calls}


def main(threads: int) -> None:
    """Answer orders until the input ends."""
    import torch

    torch.set_num_threads(threads)
    player = Player(torch)
    with torch.inference_mode():
        for line in sys.stdin:
            order = json.loads(line)
            answer = getattr(player, order.pop("order"))(**order)
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
