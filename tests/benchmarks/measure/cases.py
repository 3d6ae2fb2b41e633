"""The operators of the benchmark: from the public list, one shape each, in float32."""

from dataclasses import dataclass

CORE_SPEED = "burst_nanosecs"
"""What finals say of how fast the cores were."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One workload, as an operator call in JSON terms."""

    name: str
    op: str
    args: dict[str, int]


CASES = (
    Case(name="GMM", op="batch_matmul", args={"b": 1, "n": 512, "m": 512, "k": 512}),
    Case(name="SFM", op="softmax", args={"m": 512, "n": 512}),
    Case(
        name="C1D",
        op="conv1d_nlc",
        args={"n": 1, "l": 256, "ci": 64, "co": 128, "kernel_size": 3, "stride": 2, "padding": 1},
    ),
    Case(
        name="C2D",
        op="conv2d_nhwc",
        args={"n": 1, "h": 14, "w": 14, "ci": 256, "co": 256, "kernel_size": 3, "padding": 1},
    ),
    Case(
        name="DEP",
        op="depthwise_conv2d_nhwc",
        args={"n": 1, "h": 112, "w": 112, "c": 32, "kernel_size": 3, "padding": 1},
    ),
    Case(
        name="GRP",
        op="conv2d_nhwc",
        args={
            "n": 1,
            "h": 14,
            "w": 14,
            "ci": 256,
            "co": 256,
            "kernel_size": 3,
            "padding": 1,
            "groups": 4,
        },
    ),
    Case(
        name="T2D",
        op="conv2d_transpose_nhwc",
        args={
            "n": 1,
            "h": 8,
            "w": 8,
            "ci": 256,
            "co": 128,
            "kernel_size": 4,
            "stride": 2,
            "padding": 1,
        },
    ),
    Case(name="NRM", op="norm", args={"b": 1, "m": 512, "n": 512}),
    Case(
        name="TBG",
        op="transpose_batch_matmul",
        args={"batch": 1, "seq_len": 128, "n_head": 12, "n_dim": 64},
    ),
)
