"""What `bench_kernels` tunes: the public operator suite, low precisions, and fused programs.

Imports neither TVM nor PyTorch, so that the processes of both can read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

FLOAT32, LOW, FUSED = "float32", "low precision", "fused"

# The operator benchmark of the Ansor paper, as in TVM's own test workloads.
_SUITE: Mapping[str, tuple[str, str, tuple[str, ...]]] = MappingProxyType(
    {
        "C1D": (
            "conv1d_nlc",
            "n l ci co kernel_size stride padding",
            (
                "1 256 64 128 3 2 1",
                "1 128 128 256 1 2 0",
                "1 64 256 256 5 1 2",
                "1 32 512 512 3 1 1",
            ),
        ),
        "C2D": (
            "conv2d_nhwc",
            "n h w ci co kernel_size stride padding",
            (
                *("1 224 224 3 64 7 2 3", "1 56 56 64 64 1 1 0"),
                *("1 14 14 256 256 3 1 1", "1 7 7 512 512 3 1 1"),
            ),
        ),
        "C3D": (
            "conv3d_ndhwc",
            "n d h w ci co kernel_size stride padding",
            (
                *("1 16 224 224 3 64 7 2 3", "1 16 56 56 64 64 1 1 0"),
                *("1 16 14 14 256 256 3 1 1", "1 16 7 7 512 512 3 1 1"),
            ),
        ),
        "GMM": (
            "batch_matmul",
            "b n m k",
            ("1 128 128 128", "1 512 32 512", "1 512 512 512", "1 1024 1024 1024"),
        ),
        "GRP": (
            "conv2d_nhwc",
            "n h w ci co kernel_size stride padding dilation groups",
            (
                *("1 56 56 64 128 3 2 1 1 4", "1 56 56 64 64 1 1 0 1 4"),
                *("1 14 14 256 256 3 1 1 1 4", "1 7 7 512 512 3 1 1 1 4"),
            ),
        ),
        "DIL": (
            "conv2d_nhwc",
            "n h w ci co kernel_size stride padding dilation",
            (
                *("1 224 224 3 64 7 2 3 2", "1 56 56 64 64 1 1 0 2"),
                *("1 14 14 256 256 3 1 1 2", "1 7 7 512 512 3 1 1 2"),
            ),
        ),
        "DEP": (
            "depthwise_conv2d_nhwc",
            "n h w c kernel_size stride padding",
            ("1 112 112 32 3 1 1", "1 112 112 64 3 2 1", "1 14 14 512 3 2 1", "1 7 7 1024 3 1 1"),
        ),
        "T2D": (
            "conv2d_transpose_nhwc",
            "n h w ci co kernel_size stride padding",
            (
                *("1 4 4 512 256 4 2 1", "1 8 8 256 128 4 2 1"),
                *("1 16 16 128 64 4 2 1", "1 32 32 64 3 4 2 1"),
            ),
        ),
        "CAP": (
            "conv2d_capsule_nhwijc",
            "n h w ci co kernel_size stride padding",
            (
                *("1 16 16 32 32 3 2 1", "1 8 8 32 32 3 1 1"),
                *("1 16 16 8 16 3 2 1", "1 8 8 16 16 3 1 1"),
            ),
        ),
        "NRM": ("norm", "b m n", ("1 256 256", "1 512 512", "1 1024 1024", "1 4096 1024")),
        "SFM": ("softmax", "m n", ("256 256", "512 512", "1024 1024", "2048 2048")),
        "CBR": (
            "conv2d_nhwc_bn_relu",
            "n h w ci co kernel_size stride padding",
            (
                *("1 224 224 3 64 7 2 3", "1 56 56 64 128 3 2 1"),
                *("1 28 28 128 256 1 2 0", "1 7 7 512 512 3 1 1"),
            ),
        ),
        "TBG": (
            "transpose_batch_matmul",
            "batch seq_len n_head n_dim",
            ("1 128 12 64", "1 128 16 64", "1 64 12 128", "1 128 12 128"),
        ),
    }
)

_LOW: Mapping[str, tuple[str, str, tuple[str, ...]]] = MappingProxyType(
    {
        "GMM": ("batch_matmul", "b n m k", ("1 512 512 512", "1 1024 1024 1024")),
        "DNS": ("dense", "n m k", ("128 1024 1024",)),
        "C2D": ("conv2d_nhwc", "n h w ci co kernel_size", ("1 56 56 64 64 1", "1 14 14 256 256 1")),
    }
)

_FUSED = (
    "bias_gelu",
    "matmul_bias_gelu",
    "matmul_residual",
    "conv_bn_relu",
    "scaled_masked_softmax",
    "add_layer_norm",
    "rms_norm_residual",
    "swiglu",
    "bias_softmax_columns",
    "mean_variance_columns",
)

STOCK_1000 = (
    *("SFM 512 512", "NRM 1 512 512", "DEP 1 14 14 512 3 2 1", "GMM 1 512 512 512"),
    *("C2D 1 14 14 256 256 3 1 1", "T2D 1 8 8 256 128 4 2 1", "TBG 1 128 12 64"),
    "C1D 1 64 256 256 5 1 2",
)
"""Cases for which the stock tuner gets 1,000 trials too."""

PEAK_CASES = ("GMM 1 1024 1024 1024", "matmul 2048")
"""Cases whose speed is given as a part of the machine's peak."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One workload.

    Attributes
    ----------
    name : str
        In the tables, and for the processes that run it.
    group : str
        ``float32``, ``low precision`` or ``fused``.
    op : str
        An operator of the catalogue, or a fused program of `tests.benchmarks.kernels.fused`.
    args : Mapping[str, int]
        The operator's arguments; none for fused programs.
    dtype : str
        Of the operands.
    """

    name: str
    group: str
    op: str
    args: Mapping[str, int]
    dtype: str = "float32"


def cases() -> tuple[Case, ...]:
    """Return every case; those that are done soonest first within each group."""
    float32 = _catalogue(_SUITE, FLOAT32, "float32")
    square = {"b": 1, "n": 2048, "m": 2048, "k": 2048}
    large = Case(name="matmul 2048", group=FLOAT32, op="batch_matmul", args=square)
    low = [*_catalogue(_LOW, LOW, "bfloat16"), *_catalogue(_LOW, LOW, "int8")]
    fused = [Case(name=name, group=FUSED, op=name, args={}) for name in _FUSED]
    return (*float32, large, *low, *fused)


def quick_cases() -> tuple[Case, ...]:
    """Return a few that tell the most."""
    wanted = {"SFM 512 512", "NRM 1 512 512", "DEP 1 14 14 512 3 2 1", "add_layer_norm"}
    return tuple(case for case in cases() if case.name in wanted)


def _catalogue(
    suite: Mapping[str, tuple[str, str, tuple[str, ...]]], group: str, dtype: str
) -> list[Case]:
    suffix = "" if dtype == "float32" else f" {dtype}"
    return [
        Case(
            name=f"{key} {shape}{suffix}",
            group=group,
            op=op,
            args=dict(zip(names.split(), map(int, shape.split()), strict=True)),
            dtype=dtype,
        )
        for key, (op, names, shapes) in suite.items()
        for shape in shapes
    ]
