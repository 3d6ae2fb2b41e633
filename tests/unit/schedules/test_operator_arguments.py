"""What the catalogue accepts and how it says no."""

from typing import Any

import pytest

from schedules.errors import InputError, InvalidArgumentError, UnknownOperatorError
from schedules.operators import CATALOGUE, Operator, find_operator, operators

MATMUL: dict[str, object] = {"n": 4, "m": 8, "k": 16}
CONV2D: dict[str, object] = {"n": 1, "h": 8, "w": 8, "ci": 4, "co": 8, "kernel_size": 3}

MAX_EXTENT = 2**24


def test_catalogue_is_complete_and_ordered() -> None:
    assert list(CATALOGUE) == [operator.name for operator in operators()]
    assert list(CATALOGUE.values()) == list(operators())
    assert set(CATALOGUE) == {
        "matmul", "batch_matmul", "dense", "gemv", "transpose_batch_matmul",
        "conv1d_nlc", "conv2d_nhwc", "conv3d_ndhwc", "conv2d_nhwc_bn_relu",
        "depthwise_conv2d_nhwc", "conv2d_transpose_nhwc", "conv2d_capsule_nhwijc",
        "softmax", "norm", "layer_norm", "rms_norm",
        "add", "gelu", "reduce_sum", "reduce_max",
    }  # fmt: skip


def test_names_and_aliases_are_unique_and_lower_case() -> None:
    names = [name for operator in operators() for name in (operator.name, *operator.aliases)]

    assert len(names) == len(set(names))
    assert all(name == name.lower() for name in names)


@pytest.mark.parametrize("operator", operators(), ids=lambda operator: operator.name)
def test_argument_names_are_unique_and_lower_case(operator: Operator) -> None:
    names = [n for argument in operator.arguments for n in (argument.name, *argument.aliases)]

    assert len(names) == len(set(names))
    assert all(name == name.lower() for name in names)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("batch_matmul", "batch_matmul"),
        ("batch_matmul_nkkm", "batch_matmul"),
        ("BMM", "batch_matmul"),
        ("GMM", "batch_matmul"),
        ("Grp", "conv2d_nhwc"),
        ("softmax_mn", "softmax"),
        ("NRM", "norm"),
        ("sum", "reduce_sum"),
    ],
)
def test_operator_is_found_by_any_name_in_any_case(name: str, canonical: str) -> None:
    assert find_operator(name) is CATALOGUE[canonical]


@pytest.mark.parametrize("name", ["batch_matmull", "softmaxx", "Conv2d_nhcw"])
def test_unknown_operator_names_close_matches(name: str) -> None:
    close = {"batch_matmull": "batch_matmul", "softmaxx": "softmax", "Conv2d_nhcw": "conv2d_nhwc"}

    with pytest.raises(UnknownOperatorError, match=rf"did you mean .*{close[name]}\b.*\?"):
        find_operator(name)


@pytest.mark.parametrize("name", ["", "zzzzzz", "batch_matmull"])
def test_unknown_operator_says_where_all_are_listed(name: str) -> None:
    with pytest.raises(UnknownOperatorError, match="`tunesmith ops` lists all") as caught:
        find_operator(name)
    assert isinstance(caught.value, InputError)


def test_defaults_are_filled_in_catalogue_order() -> None:
    call = find_operator("conv2d_nhwc").call({**CONV2D, "STRIDES": 2})

    assert list(call.args) == [argument.name for argument in CATALOGUE["conv2d_nhwc"].arguments]
    assert call.args["stride"] == 2
    assert (call.args["padding"], call.args["dilation"], call.args["groups"]) == (0, 1, 1)


def test_equal_calls_have_equal_keys_however_they_are_written() -> None:
    conv2d = find_operator("conv2d_nhwc")
    written = {name.upper(): value for name, value in reversed(CONV2D.items())}

    assert conv2d.call(CONV2D).key == conv2d.call({**written, "groups": 1}).key
    assert conv2d.call(CONV2D).key != conv2d.call(CONV2D, "int8").key


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"n": 4, "m": 8}, "needs the argument 'k'"),
        ({}, "needs the argument 'n'"),
        ({**MATMUL, "b": 1}, "has no argument 'b'; its arguments are n, m, k"),
        ({**MATMUL, "": 1}, "has no argument ''"),
        ({**MATMUL, "N": 4}, "argument 'n' is given twice"),
        ({**MATMUL, "n": 0}, f"n must be from 1 to {MAX_EXTENT}, not 0"),
        ({**MATMUL, "n": -1}, "n must be from 1 .* not -1"),
        ({**MATMUL, "n": MAX_EXTENT + 1}, "n must be from 1"),
        ({**MATMUL, "n": 10**30}, "n must be from 1"),
        ({**MATMUL, "n": True}, "n must be an integer, not True"),
        ({**MATMUL, "n": 4.0}, "n must be an integer, not 4.0"),
        ({**MATMUL, "n": float("nan")}, "n must be an integer, not nan"),
        ({**MATMUL, "n": "4"}, "n must be an integer, not '4'"),
        ({**MATMUL, "n": [4]}, r"n must be an integer, not \[4\]"),
        ({**MATMUL, "n": None}, "needs the argument 'n'"),
        ({"n": MAX_EXTENT, "m": MAX_EXTENT, "k": 1}, "elements .* make the shape smaller"),
        ({"n": 40_000, "m": 40_000, "k": 1}, "bytes .* make the shape smaller"),
        ({"n": 2**14, "m": 2**14, "k": 2**14}, "FLOPs .* make the shape smaller"),
    ],
)
def test_bad_arguments_are_refused(args: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        find_operator("matmul").call(args)


def test_an_argument_and_its_alias_are_the_same_argument() -> None:
    with pytest.raises(InvalidArgumentError, match="'stride' is given twice"):
        find_operator("conv2d_nhwc_bn_relu").call({**CONV2D, "stride": 1, "strides": 1})


@pytest.mark.parametrize("dtype", ["float64", "int64", "", "FLOAT32", "float8_e4m3fn"])
def test_unknown_dtype_is_refused_with_the_known_ones(dtype: str) -> None:
    with pytest.raises(InvalidArgumentError, match="use one of float32, float16, bfloat16, int8"):
        find_operator("matmul").call(MATMUL, dtype)


@pytest.mark.parametrize(
    "name", ["softmax", "norm", "layer_norm", "rms_norm", "gelu", "conv2d_nhwc_bn_relu"]
)
def test_operators_that_need_floats_have_no_int8(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="has no dtype 'int8'"):
        find_operator(name).call({}, "int8")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("conv2d_nhwc", {"groups": 3}, "groups must divide ci and co"),
        ("conv2d_nhwc", {"ci": 8, "co": 4, "groups": 8}, "groups must divide ci and co"),
        ("conv2d_nhwc", {"kernel_size": 9}, "the kernel spans 9 elements and h has only 8"),
        ("conv2d_nhwc", {"h": 32, "dilation": 4}, "the kernel spans 9 elements and w has only 8"),
        ("conv2d_nhwc", {"padding": -1}, "padding must be from 0"),
        ("conv2d_nhwc", {"stride": 0}, "stride must be from 1"),
        ("conv2d_nhwc", {"padding": 2**20, "stride": 2**20}, "padded input would have"),
        ("conv2d_nhwc_bn_relu", {"kernel_size": 9}, "the kernel spans 9"),
        ("conv2d_nhwc_bn_relu", {"groups": 1}, "has no argument 'groups'"),
        ("conv2d_capsule_nhwijc", {"kernel_size": 9}, "the kernel spans 9"),
        ("conv2d_capsule_nhwijc", {"padding": 2**12, "stride": 2**12}, "padded input would have"),
        ("conv2d_transpose_nhwc", {"padding": 3}, "below kernel_size=3, not 3"),
        ("conv2d_transpose_nhwc", {"h": 1, "padding": 2}, "crops the whole output"),
        ("conv2d_transpose_nhwc", {"kernel_size": 2**15}, "padded input would have"),
    ],
)
def test_convolution_arguments_must_fit_together(
    name: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        find_operator(name).call({**CONV2D, **change})


def test_depthwise_kernel_must_fit() -> None:
    args = {"n": 1, "h": 8, "w": 5, "c": 4, "kernel_size": 7}

    with pytest.raises(InvalidArgumentError, match="the kernel spans 7 elements and w has only 5"):
        find_operator("dep").call(args)
    assert find_operator("dep").call({**args, "padding": 1}).args["padding"] == 1
