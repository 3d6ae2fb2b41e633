"""The corpus: catalogue workloads that a base model learns from, and that nothing else needs.

It has every operator of the catalogue: a model that has seen no shape of one ranks its schedules
poorly. Shapes are those of common networks, several of each operator, so that what is learnt of one
shape can be judged on another.
"""

from collections.abc import Iterator

from schedules.operators import find_operator
from schedules.workload import OperatorCall

_Shapes = tuple[tuple[int, ...], ...]

_IMAGE = ("h", "w", "ci", "co", "kernel_size", "stride", "padding")

_FLOAT32: tuple[tuple[str, tuple[str, ...], _Shapes], ...] = (
    ("matmul", ("n", "m", "k"), ((256, 256, 256), (64, 1024, 512), (768, 192, 768))),
    (
        "batch_matmul",
        ("b", "n", "m", "k"),
        (
            (1, 64, 64, 64),
            (1, 128, 256, 128),
            (1, 384, 384, 384),
            (1, 512, 64, 512),
            (1, 640, 640, 320),
            (4, 128, 128, 64),
            (12, 64, 64, 64),
        ),
    ),
    ("dense", ("n", "m", "k"), ((1, 1024, 1024), (16, 768, 768), (128, 512, 512))),
    ("gemv", ("m", "k"), ((512, 2048), (1024, 1024), (4096, 512))),
    (
        "transpose_batch_matmul",
        ("batch", "seq_len", "n_head", "n_dim"),
        ((1, 64, 8, 64), (1, 96, 12, 32), (2, 128, 8, 64)),
    ),
    (
        "conv1d_nlc",
        ("l", "ci", "co", "kernel_size", "stride", "padding"),
        ((128, 64, 64, 3, 1, 1), (256, 128, 128, 1, 1, 0), (512, 32, 64, 5, 2, 2)),
    ),
    (
        "conv2d_nhwc",
        _IMAGE,
        (
            (56, 56, 32, 32, 3, 1, 1),
            (28, 28, 64, 64, 3, 1, 1),
            (28, 28, 64, 128, 1, 1, 0),
            (28, 28, 96, 96, 3, 2, 1),
            (14, 14, 128, 128, 3, 1, 1),
            (14, 14, 192, 64, 1, 1, 0),
            (7, 7, 256, 256, 3, 1, 1),
        ),
    ),
    (
        "conv2d_nhwc",
        (*_IMAGE, "groups"),
        (
            (28, 28, 64, 64, 3, 1, 1, 4),
            (14, 14, 128, 128, 1, 1, 0, 8),
            (28, 28, 64, 64, 3, 2, 1, 2),
        ),
    ),
    (
        "conv2d_nhwc",
        (*_IMAGE, "dilation"),
        ((28, 28, 32, 64, 3, 1, 2, 2), (14, 14, 128, 128, 3, 1, 2, 2)),
    ),
    (
        "conv3d_ndhwc",
        ("d", *_IMAGE),
        ((4, 14, 14, 32, 64, 3, 1, 1), (8, 28, 28, 16, 32, 3, 2, 1), (8, 14, 14, 64, 64, 1, 1, 0)),
    ),
    (
        "conv2d_nhwc_bn_relu",
        _IMAGE,
        ((56, 56, 16, 32, 3, 1, 1), (28, 28, 32, 64, 3, 2, 1), (14, 14, 128, 256, 1, 1, 0)),
    ),
    (
        "depthwise_conv2d_nhwc",
        ("h", "w", "c", "kernel_size", "stride", "padding"),
        (
            (112, 112, 16, 3, 1, 1),
            (56, 56, 64, 3, 1, 1),
            (28, 28, 128, 3, 2, 1),
            (14, 14, 256, 3, 1, 1),
        ),
    ),
    (
        "conv2d_transpose_nhwc",
        _IMAGE,
        ((4, 4, 256, 128, 4, 2, 1), (8, 8, 128, 64, 4, 2, 1), (16, 16, 64, 32, 4, 2, 1)),
    ),
    (
        "conv2d_capsule_nhwijc",
        _IMAGE,
        ((8, 8, 8, 16, 3, 1, 1), (12, 12, 16, 16, 3, 2, 1), (14, 14, 16, 8, 1, 1, 0)),
    ),
    ("softmax", ("m", "n"), ((64, 1024), (128, 128), (256, 384), (1024, 1000))),
    ("norm", ("b", "m", "n"), ((1, 128, 256), (1, 256, 512), (8, 64, 96))),
    ("layer_norm", ("m", "n"), ((64, 768), (128, 512), (512, 256))),
    ("rms_norm", ("m", "n"), ((64, 1024), (256, 768), (1024, 256))),
    ("add", ("m", "n"), ((64, 256), (256, 768), (1024, 512))),
    ("gelu", ("m", "n"), ((32, 512), (128, 3072), (512, 512))),
    ("reduce_sum", ("m", "n"), ((64, 512), (256, 1024), (2048, 128))),
    ("reduce_max", ("m", "n"), ((32, 1024), (128, 2048), (1024, 256))),
)

_LOW_PRECISION: tuple[tuple[str, tuple[str, ...], _Shapes], ...] = (
    ("matmul", ("n", "m", "k"), ((256, 256, 256), (128, 768, 512))),
    ("dense", ("n", "m", "k"), ((16, 768, 768), (128, 512, 512))),
    ("conv2d_nhwc", _IMAGE, ((28, 28, 64, 128, 1, 1, 0), (14, 14, 128, 128, 3, 1, 1))),
)
_BATCHED = ("conv", "depthwise")


def corpus() -> tuple[OperatorCall, ...]:
    """Return the calls of the corpus."""
    return (
        *_calls(_FLOAT32, "float32"),
        *_calls(_LOW_PRECISION, "bfloat16"),
        *_calls(_LOW_PRECISION, "int8"),
    )


def _calls(
    table: tuple[tuple[str, tuple[str, ...], _Shapes], ...], dtype: str
) -> Iterator[OperatorCall]:
    for name, arguments, shapes in table:
        batch = {"n": 1} if name.startswith(_BATCHED) else {}
        for shape in shapes:
            args = {**batch, **dict(zip(arguments, shape, strict=True))}
            yield find_operator(name).call(args, dtype)
