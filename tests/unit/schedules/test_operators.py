"""Every operator and dtype, compiled and run against its NumPy reference."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm.s_tir.meta_schedule.testing import te_workload

from schedules.operators import Operator, find_operator, operators
from schedules.workload import TensorSpec

ROOT = Path(__file__).parents[3]
SUITE = json.loads((ROOT / "tests" / "data" / "workloads.json").read_text())["operators"]


def shape(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in (item.split("=") for item in text.split())}


# Per operator one shape of primes and one of even extents; between them they use every argument.
ROWS = ("m=7 n=13", "m=8 n=16")
SHAPES = {
    name: tuple(map(shape, texts))
    for name, texts in {
        "matmul": ("n=7 m=5 k=11", "n=8 m=16 k=4"),
        "batch_matmul": ("b=3 n=7 m=5 k=11", "b=2 n=8 m=16 k=4"),
        "dense": ("n=7 m=5 k=11", "n=8 m=16 k=4"),
        "gemv": ("m=7 k=13", "m=16 k=8"),
        "transpose_batch_matmul": (
            "batch=3 seq_len=7 n_head=5 n_dim=11",
            "batch=2 seq_len=8 n_head=4 n_dim=16",
        ),
        "conv1d_nlc": (
            "n=3 l=13 ci=5 co=7 kernel_size=3 stride=2 padding=1",
            "n=2 l=16 ci=4 co=8 kernel_size=2 dilation=2 groups=2",
        ),
        "conv2d_nhwc": (
            "n=1 h=11 w=13 ci=3 co=5 kernel_size=3 stride=2 padding=1",
            "n=2 h=8 w=10 ci=4 co=8 kernel_size=2 padding=2 dilation=2 groups=2",
        ),
        "conv3d_ndhwc": (
            "n=1 d=5 h=7 w=11 ci=3 co=5 kernel_size=3 stride=2 padding=1",
            "n=2 d=4 h=6 w=8 ci=4 co=2 kernel_size=2 dilation=2 groups=2",
        ),
        "conv2d_nhwc_bn_relu": (
            "n=1 h=11 w=7 ci=3 co=5 kernel_size=3 stride=2 padding=1",
            "n=2 h=8 w=6 ci=4 co=8 kernel_size=2 dilation=2",
        ),
        "depthwise_conv2d_nhwc": (
            "n=1 h=11 w=13 c=5 kernel_size=3 stride=2 padding=1",
            "n=2 h=8 w=10 c=4 kernel_size=2 dilation=2",
        ),
        "conv2d_transpose_nhwc": (
            "n=1 h=5 w=7 ci=3 co=5 kernel_size=5 stride=3 padding=1",
            "n=2 h=4 w=6 ci=4 co=8 kernel_size=4 stride=2 padding=1",
        ),
        "conv2d_capsule_nhwijc": (
            "n=1 h=7 w=5 ci=3 co=5 kernel_size=3 stride=2 padding=1 capsule_size=3",
            "n=2 h=4 w=6 ci=4 co=2 kernel_size=2",
        ),
        "norm": ("b=3 m=7 n=13", "b=2 m=8 n=16"),
        **dict.fromkeys(("softmax", "layer_norm", "rms_norm", "add", "gelu"), ROWS),
        **dict.fromkeys(("reduce_sum", "reduce_max"), ROWS),
    }.items()
}

# Relative to the largest output: for the halves about one rounding of the stored result.
TOLERANCES = {"float32": 1e-4, "float16": 1e-3, "bfloat16": 8e-3}

# Corners of single operators: no border, no zeros between the inputs, more stride than kernel.
CORNERS = (
    ("conv2d_nhwc", "n=1 h=5 w=4 ci=2 co=3 kernel_size=1 stride=3"),
    ("conv2d_transpose_nhwc", "n=1 h=3 w=4 ci=2 co=3 kernel_size=3 padding=2"),
    ("conv2d_transpose_nhwc", "n=1 h=3 w=4 ci=2 co=3 kernel_size=3 stride=1"),
    ("conv2d_transpose_nhwc", "n=1 h=3 w=4 ci=2 co=3 kernel_size=2 stride=4 padding=1"),
)

CASES = [
    pytest.param(operator, dtype, args, id=f"{operator.name}-{dtype}-{parity}")
    for operator in operators()
    for dtype in operator.dtypes
    for parity, args in zip(("odd", "even"), SHAPES[operator.name], strict=True)
]
CASES += [
    pytest.param(
        operator,
        "float32",
        {argument.name: argument.minimum for argument in operator.arguments},
        id=f"{operator.name}-float32-least",
    )
    for operator in operators()
]
CASES += [
    pytest.param(find_operator(name), "float32", shape(text), id=f"{name}-float32-corner{index}")
    for index, (name, text) in enumerate(CORNERS)
]


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def random_input(tensor: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    if tensor.dtype == "int8":
        return rng.integers(-8, 8, size=tensor.shape, dtype=np.int8)
    return rng.standard_normal(tensor.shape).astype(numpy_dtype(tensor.dtype))


def run(program: Any, inputs: list[np.ndarray], output: TensorSpec) -> np.ndarray:
    library = tvm.tirx.build(tvm.IRModule({"main": program}), target={"kind": "llvm"})
    result = tvm.runtime.empty(output.shape, output.dtype)
    library["main"](*(tvm.runtime.tensor(array) for array in inputs), result)
    array: np.ndarray = result.numpy()
    return array


def parameters(program: Any) -> list[tuple[tuple[int, ...], str]]:
    return [(tuple(map(int, tensor.shape)), str(tensor.dtype)) for tensor in program.params]


def stage_names(program: Any) -> list[str]:
    return re.findall(r'^ +with T\.sblock\("(\w+)"\)', program.script(), re.MULTILINE)


@pytest.mark.parametrize(("operator", "dtype", "given"), CASES)
def test_program_agrees_with_its_reference(
    operator: Operator, dtype: str, given: dict[str, int]
) -> None:
    call = operator.call(given, dtype)
    *input_specs, output = operator.tensors(call.args, dtype)
    program = operator.define(call.args, dtype)
    rng = np.random.default_rng(0)
    inputs = [random_input(tensor, rng) for tensor in input_specs]

    assert parameters(program) == [(t.shape, t.dtype) for t in (*input_specs, output)]
    actual = run(program, inputs, output)
    expected = operator.reference(call.args, inputs)

    assert expected.shape == output.shape
    if dtype == "int8":
        assert expected.dtype == np.int64
        np.testing.assert_array_equal(actual, expected)
    else:
        assert expected.dtype == np.float64
        error = np.abs(actual.astype(np.float64) - expected).max()
        assert error <= TOLERANCES[dtype] * np.abs(expected).max()


@pytest.mark.parametrize(("operator", "dtype", "given"), CASES)
def test_tensors_end_with_the_one_output(
    operator: Operator, dtype: str, given: dict[str, int]
) -> None:
    tensors = operator.tensors(operator.call(given, dtype).args, dtype)

    assert [tensor.is_output for tensor in tensors] == [False] * (len(tensors) - 1) + [True]
    assert len({tensor.name for tensor in tensors}) == len(tensors)


@pytest.mark.parametrize("operator", operators(), ids=lambda operator: operator.name)
def test_counts_are_positive(operator: Operator) -> None:
    for given in SHAPES[operator.name]:
        args = operator.call(given).args
        assert operator.flops(args) > 0
        assert operator.reduction_length(args) > 0


def test_test_shapes_use_every_argument() -> None:
    for operator in operators():
        used = {name for given in SHAPES[operator.name] for name in given}
        assert used == {argument.name for argument in operator.arguments}


def test_conv2d_flops_count_a_multiply_add_as_two() -> None:
    args = shape("n=1 h=14 w=14 ci=256 co=256 kernel_size=3 padding=1")
    conv2d = find_operator("conv2d_nhwc")

    assert conv2d.flops(conv2d.call(args).args) == 2 * 14 * 14 * 256 * 256 * 9
    assert conv2d.flops(conv2d.call({**args, "groups": 4}).args) == 2 * 14 * 14 * 256 * 64 * 9


@pytest.mark.parametrize(
    ("stride", "padding"), [(1, 0), (2, 0), (2, 1), (3, 2), (5, 1)], ids=lambda value: str(value)
)
def test_transposed_convolution_counts_only_products_that_reach_the_output(
    stride: int, padding: int
) -> None:
    transpose = find_operator("conv2d_transpose_nhwc")
    given = shape("n=2 h=4 w=5 ci=3 co=7 kernel_size=4")
    args = transpose.call({**given, "stride": stride, "padding": padding}).args

    def pairs(inputs: int) -> int:
        outputs = range(padding, (inputs - 1) * stride + 4 - padding)
        return sum(i * stride + r in outputs for i in range(inputs) for r in range(4))

    assert transpose.flops(args) == 2 * 2 * pairs(4) * pairs(5) * 3 * 7


def test_no_padding_leaves_no_padding_stage() -> None:
    conv2d = find_operator("conv2d_nhwc")
    given = shape("n=1 h=8 w=8 ci=4 co=4 kernel_size=3")

    def stages(padding: int, dtype: str) -> list[str]:
        return stage_names(
            conv2d.define(conv2d.call({**given, "padding": padding}, dtype).args, dtype)
        )

    assert stages(0, "float32") == ["conv2d_nhwc"]
    assert stages(1, "float32") == ["pad_input", "conv2d_nhwc"]
    assert stages(1, "int8") == ["pad_input", "conv2d_nhwc"]
    assert stages(1, "bfloat16") == ["pad_input", "conv2d_nhwc", "conv2d_nhwc_cast"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["matmul", "gemv", "reduce_sum", "norm", "rms_norm"])
def test_half_precisions_accumulate_in_float32(name: str, dtype: str) -> None:
    operator = find_operator(name)
    args = operator.call(SHAPES[name][0], dtype).args
    first_input = operator.tensors(args, dtype)[0].name

    script = operator.define(args, dtype).script()

    assert f'T.Cast("float32", {first_input}[' in script
    assert f'T.Cast("{dtype}"' in script


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_softmax_is_stable_for_large_inputs(dtype: str) -> None:
    operator = find_operator("softmax")
    args = operator.call({"m": 2, "n": 4}, dtype).args
    x = np.array([[1e4, 1e4, -1e4, 0], [-6e4, -6e4, -6e4, -6e4]], dtype=dtype)

    actual = run(operator.define(args, dtype), [x], operator.tensors(args, dtype)[-1])

    np.testing.assert_allclose(actual, [[0.5, 0.5, 0, 0], [0.25] * 4])
    np.testing.assert_allclose(operator.reference(args, [x]), [[0.5, 0.5, 0, 0], [0.25] * 4])


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_normalisation_of_a_constant_row_is_finite(name: str) -> None:
    operator = find_operator(name)
    args = operator.call({"m": 1, "n": 8}).args
    *input_specs, output = operator.tensors(args, "float32")
    inputs = [np.zeros((1, 8), np.float32), *(np.ones(8, np.float32) for _ in input_specs[1:])]

    actual = run(operator.define(args, "float32"), inputs, output)

    np.testing.assert_array_equal(actual, operator.reference(args, inputs))


def suite_calls() -> list[Any]:
    return [
        pytest.param(tag, index, id=f"{tag}-{index}")
        for tag, entry in SUITE.items()
        for index in range(len(entry["shapes"]))
    ]


@pytest.mark.parametrize(("tag", "index"), suite_calls())
def test_public_suite_is_the_same_program(tag: str, index: int) -> None:
    entry = SUITE[tag]
    operator = find_operator(re.sub(r" \(.*\)$", "", entry["operator"]))
    names = [name.lower() for name in entry["arguments"]]
    call = operator.call(dict(zip(names, entry["shapes"][index], strict=True)))
    program = operator.define(call.args, "float32")
    public = te_workload.create_te_workload(tag, index)

    assert find_operator(tag) is operator
    assert parameters(program) == parameters(public)
    # Where there is no padding, the public program has a stage that copies the input.
    if call.args.get("padding") != 0:
        assert tvm_ffi.structural_equal(program, public)


def test_importing_the_catalogue_does_not_import_tvm() -> None:
    script = "import sys, schedules.operators; sys.exit('tvm' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0
