"""Identity and checking of IR workloads."""

import json

import pytest
import tvm
from tvm import te, tirx

from schedules import ir
from schedules.canonical import canonical_ir
from schedules.errors import InvalidWorkloadError
from schedules.operators import find_operator
from tests import programs


def test_renaming_tensors_variables_and_the_function_keeps_the_identity():
    first = ir.workload_from_ir(programs.ir_json(programs.matmul(8, 16, 32)))
    second = ir.workload_from_ir(
        programs.ir_json(programs.matmul(8, 16, 32, names=("left", "right")), name="other")
    )
    assert first.workload_id == second.workload_id


def test_shapes_dtypes_and_constants_change_the_identity():
    functions = [
        programs.matmul(8, 16, 32),
        programs.matmul(16, 8, 32),
        programs.matmul(8, 16, 33),
        programs.scale(8),
        programs.scale(8, factor=3.0),
    ]
    identities = {
        ir.workload_from_ir(programs.ir_json(function)).workload_id for function in functions
    }
    assert len(identities) == len(functions)


def test_swapped_operands_change_the_identity():
    def subtraction(*, swapped: bool):
        a, b = te.placeholder((8,), name="A"), te.placeholder((8,), name="B")
        x, y = (b, a) if swapped else (a, b)
        return te.create_prim_func([a, b, te.compute((8,), lambda i: x[i] - y[i], name="C")])

    plain, swapped = (
        ir.workload_from_ir(programs.ir_json(subtraction(swapped=flag))) for flag in (False, True)
    )
    assert plain.workload_id != swapped.workload_id


def test_identity_survives_saving_and_loading():
    workload = ir.workload_from_ir(programs.ir_json(programs.matmul(8, 16, 32)))
    assert ir.workload_from_ir(workload.ir).workload_id == workload.workload_id
    assert ir.workload_id(ir.module_of(workload)) == workload.workload_id


def test_identity_is_the_same_in_every_release():
    # Databases hold these: changing the canonical form orphans every stored record.
    call = find_operator("batch_matmul").call({"b": 1, "n": 8, "m": 8, "k": 8})
    assert ir.workload_from_call(call).workload_id == (
        "92a91331cd77a06e8c6841dd232f46722f372f2d0c496ea6552cce12a52b7146"
    )


def test_operator_call_and_its_own_ir_are_one_workload():
    call = find_operator("softmax").call({"m": 8, "n": 16})
    workload = ir.workload_from_call(call)
    assert ir.workload_from_ir(workload.ir).workload_id == workload.workload_id


def test_tensors_say_which_are_outputs():
    workload = ir.workload_from_ir(programs.ir_json(programs.matmul(8, 16, 32)))
    assert [(t.shape, t.dtype, t.is_output) for t in workload.tensors] == [
        ((8, 32), "float32", False),
        ((32, 16), "float32", False),
        ((8, 16), "float32", True),
    ]
    assert workload.flops == 2 * 8 * 16 * 32


def test_tensors_say_what_they_index():
    workload = ir.workload_from_ir(programs.ir_json(programs.gather(30, 16, 5)))
    assert [tensor.index_below for tensor in workload.tensors] == [None, 30, None]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"nodes": []}', "[" * 100_000, '{"root_index":5,"nodes":[]}'],
)
def test_text_that_is_no_object_graph_is_refused(text):
    with pytest.raises(InvalidWorkloadError, match="save_json"):
        ir.workload_from_ir(text)


def test_other_objects_than_functions_are_refused():
    with pytest.raises(InvalidWorkloadError, match="one TIR function"):
        ir.workload_from_ir(tvm.ir.save_json(tvm.ir.Range(0, 4)))


def test_modules_with_several_functions_are_refused_by_name():
    module = tvm.IRModule({"first": programs.scale(4), "second": programs.scale(8)})
    with pytest.raises(InvalidWorkloadError, match=r"first.*second"):
        ir.workload_from_ir(tvm.ir.save_json(module))


def test_symbolic_shapes_are_refused():
    n = tirx.Var("n", "int32")
    a = te.placeholder((n,), name="A")
    function = te.create_prim_func([a, te.compute((n,), lambda i: a[i] + 1.0, name="B")])
    with pytest.raises(InvalidWorkloadError, match="positive constant"):
        ir.workload_from_ir(programs.ir_json(function))


def test_calls_to_foreign_code_are_refused():
    with pytest.raises(InvalidWorkloadError, match=r"foreign code.*call_extern"):
        ir.workload_from_ir(programs.ir_json(programs.foreign()))


def test_tensors_beyond_32_bit_indices_are_refused():
    with pytest.raises(InvalidWorkloadError, match="32 bits"):
        ir.workload_from_ir(programs.ir_json(programs.scale(2**32)))


def test_canonical_form_is_plain_json():
    module = ir.module_of(ir.workload_from_ir(programs.ir_json(programs.matmul(8, 8, 8))))
    assert json.loads(json.dumps(canonical_ir(module["main"])))


def family_of(function) -> str:
    family_id = ir.workload_from_ir(programs.ir_json(function)).family_id
    assert family_id is not None
    return family_id


def test_shapes_of_one_program_are_a_family():
    family = family_of(programs.matmul(8, 16, 32))
    assert family == family_of(programs.matmul(7, 7, 7))
    assert family == family_of(programs.matmul(8, 16, 32, names=("X", "Y")))
    assert family != family_of(programs.scale(8))


def test_constants_are_numbers_too():
    assert family_of(programs.scale(8, 2.0)) == family_of(programs.scale(9, 3.0))


@pytest.mark.parametrize(
    ("op", "one", "other"),
    [
        ("matmul", {"n": 8, "m": 16, "k": 32}, {"n": 64, "m": 64, "k": 64}),
        ("softmax", {"m": 8, "n": 16}, {"m": 5, "n": 1000}),
        (
            "conv2d_nhwc",
            {"n": 1, "h": 14, "w": 14, "ci": 8, "co": 16, "kernel_size": 3, "padding": 1},
            {"n": 2, "h": 28, "w": 28, "ci": 32, "co": 8, "kernel_size": 3, "padding": 1},
        ),
    ],
)
def test_shapes_of_one_operator_are_a_family_of_their_dtype(op, one, other):
    operator = find_operator(op)
    family, again = (ir.workload_from_call(operator.call(args)).family_id for args in (one, other))
    assert family == again
    assert family != ir.workload_from_call(operator.call(one, "float16")).family_id


def test_a_program_is_of_the_family_of_the_operator_that_wrote_it():
    call = find_operator("matmul").call({"n": 8, "m": 16, "k": 32})
    written = ir.workload_from_call(call)
    assert ir.workload_from_ir(written.ir).family_id == written.family_id
