"""Every operator of the catalogue over REST: tuned, replayed in a fresh process, checked.

Takes some 25 minutes, so it is marked slow: ``make acceptance`` runs it.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from schedules.ir import workload_from_call
from schedules.operators import find_operator, operators
from schedules.target import Target
from tuner.client import convert
from tuner.replay import replay_trace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SUITE = Path(__file__).parents[1] / "data" / "workloads.json"

COMMON_SHAPES = {
    "matmul": {"n": 256, "m": 256, "k": 256},
    "dense": {"n": 128, "m": 768, "k": 768},
    "gemv": {"m": 1024, "k": 1024},
    "layer_norm": {"m": 128, "n": 768},
    "rms_norm": {"m": 128, "n": 768},
    "gelu": {"m": 128, "n": 3072},
    "add": {"m": 512, "n": 512},
    "reduce_sum": {"m": 512, "n": 512},
    "reduce_max": {"m": 512, "n": 512},
}

ODD_SHAPES = {
    "matmul": {"n": 31, "m": 47, "k": 53},
    "batch_matmul": {"b": 3, "n": 29, "m": 37, "k": 41},
    "dense": {"n": 13, "m": 61, "k": 67},
    "gemv": {"m": 97, "k": 101},
    "transpose_batch_matmul": {"batch": 1, "seq_len": 23, "n_head": 3, "n_dim": 17},
    "conv1d_nlc": {"n": 1, "l": 37, "ci": 5, "co": 7, "kernel_size": 3, "stride": 2, "padding": 1},
    "conv2d_nhwc": {
        "n": 1, "h": 13, "w": 17, "ci": 7, "co": 11, "kernel_size": 3, "stride": 2, "padding": 1
    },
    "conv3d_ndhwc": {
        "n": 1, "d": 5, "h": 7, "w": 11, "ci": 3, "co": 5, "kernel_size": 3, "padding": 1
    },
    "depthwise_conv2d_nhwc": {
        "n": 1, "h": 13, "w": 17, "c": 19, "kernel_size": 3, "stride": 2, "padding": 1
    },
    "conv2d_transpose_nhwc": {
        "n": 1, "h": 5, "w": 7, "ci": 11, "co": 13, "kernel_size": 4, "stride": 2, "padding": 1
    },
    "conv2d_capsule_nhwijc": {
        "n": 1, "h": 7, "w": 5, "ci": 3, "co": 5, "kernel_size": 3, "stride": 2, "padding": 1
    },
    "conv2d_nhwc_bn_relu": {
        "n": 1, "h": 11, "w": 13, "ci": 5, "co": 17, "kernel_size": 3, "stride": 2, "padding": 1
    },
    "softmax": {"m": 31, "n": 127},
    "norm": {"b": 1, "m": 31, "n": 127},
    "layer_norm": {"m": 31, "n": 127},
    "rms_norm": {"m": 31, "n": 127},
    "gelu": {"m": 31, "n": 127},
    "add": {"m": 31, "n": 127},
    "reduce_sum": {"m": 31, "n": 127},
    "reduce_max": {"m": 31, "n": 127},
}  # fmt: skip


def cases() -> Iterator[tuple[str, dict[str, int], str, int]]:
    """Yield operator, arguments, dtype and trials."""
    suite = json.loads(SUITE.read_text())["operators"]
    for entry in suite.values():
        name = entry["operator"].split(" ", 1)[0]
        names = [argument.lower() for argument in entry["arguments"]]
        # The second shape of each list is of moderate size.
        yield name, dict(zip(names, entry["shapes"][1], strict=True)), "float32", 16
    for name, args in COMMON_SHAPES.items():
        yield name, args, "float32", 16
    for name, args in ODD_SHAPES.items():
        for dtype in find_operator(name).dtypes:
            yield name, args, dtype, 8


def test_the_list_has_every_operator():
    names = {find_operator(name).name for name, *_ in cases()}
    assert names == {operator.name for operator in operators()}
    assert set(ODD_SHAPES) == names


@pytest.mark.parametrize(("op", "args", "dtype", "trials"), list(cases()))
def test_an_operator_is_tuned_replayed_and_right(client, op, args, dtype, trials):
    workload = {"op": op, "args": args, "dtype": dtype}
    best = client.submit(workload, trials=trials).wait(timeout_secs=500)
    assert best.verified
    assert best.speedup is None or best.speedup >= 1.0
    call = find_operator(op).call(args, dtype)
    target = Target.parse(client.target(best.target_id).target)
    replay = replay_trace(workload_from_call(call), target, convert.best_from_wire(best).trace)
    assert replay.passed, replay.result
    assert replay.result.verification is not None
    assert replay.result.verification.reference == "numpy"
