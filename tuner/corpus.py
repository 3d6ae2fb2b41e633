"""The corpus: catalogue workloads that a base model learns from, and that nothing else needs.

Shapes are those of common networks, several of each operator, so that what is learnt of one shape
can be judged on another.
"""

from schedules.operators import find_operator
from schedules.workload import OperatorCall

_CALLS: dict[str, tuple[dict[str, int], ...]] = {
    "batch_matmul": tuple(
        {"b": b, "n": n, "m": m, "k": k}
        for b, n, m, k in (
            (1, 64, 64, 64),
            (1, 128, 256, 128),
            (1, 256, 256, 256),
            (1, 384, 384, 384),
            (1, 512, 64, 512),
            (1, 256, 1024, 256),
            (1, 640, 640, 320),
            (4, 128, 128, 64),
            (12, 64, 64, 64),
        )
    ),
    "conv2d_nhwc": tuple(
        {
            "n": 1,
            "h": size,
            "w": size,
            "ci": ci,
            "co": co,
            "kernel_size": kernel,
            "stride": stride,
            "padding": kernel // 2,
        }
        for size, ci, co, kernel, stride in (
            (56, 32, 32, 3, 1),
            (28, 64, 64, 3, 1),
            (28, 64, 128, 1, 1),
            (28, 96, 96, 3, 2),
            (14, 128, 128, 3, 1),
            (14, 192, 64, 1, 1),
            (7, 256, 256, 3, 1),
        )
    ),
    "depthwise_conv2d_nhwc": tuple(
        {"n": 1, "h": size, "w": size, "c": c, "kernel_size": 3, "padding": 1}
        for size, c in ((112, 16), (56, 64), (28, 128), (14, 256))
    ),
    "softmax": tuple(
        {"m": m, "n": n} for m, n in ((64, 1024), (128, 128), (256, 384), (512, 256), (1024, 1000))
    ),
    "norm": tuple(
        {"b": b, "m": m, "n": n} for b, m, n in ((1, 128, 256), (1, 256, 512), (8, 64, 96))
    ),
    "layer_norm": tuple({"m": m, "n": n} for m, n in ((64, 768), (128, 512), (512, 256))),
}


def corpus() -> tuple[OperatorCall, ...]:
    """Return the calls of the corpus."""
    return tuple(
        find_operator(name).call(args, "float32")
        for name, calls in _CALLS.items()
        for args in calls
    )
