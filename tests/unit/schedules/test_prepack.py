"""Constant parameters: declared, packed ahead of calls, and never where they are not constant."""

import numpy as np
import pytest
import tvm
from tvm import te

from schedules import prepack, verify
from schedules import trace as traces
from schedules.detect import native_target
from schedules.errors import InvalidArgumentError, InvalidTraceError, InvalidWorkloadError
from schedules.ir import module_of, workload_from_call, workload_from_ir
from schedules.operators import find_operator
from tests.programs import ir_json, matmul
from tests.unit.schedules.test_packed import context_of, packed_designs

NATIVE = native_target()
DENSE = {"n": 19, "m": 48, "k": 24}


def constant_workload(op, args, *constants, dtype="float32"):
    return workload_from_call(find_operator(op).call(args, dtype, constants))


def samples(workload, space="default"):
    """Random members of a space, as its post-processors leave them.

    TVM's search is not asked for them, as it cannot describe the arguments of all of them.
    """
    context = context_of(module_of(workload), NATIVE, space=space)
    # Our own, the last, only turns down what leaves cores idle.
    own = space == "default"
    designs = packed_designs(context) if own else context.generate_design_space()
    processors = list(context.space_generator.postprocs)[: -1 if own else None]
    for design in designs:
        design.enter_postproc()
    found = [design for design in designs if all(one.apply(design) for one in processors)]
    assert found
    return found


def run(workload, schedule, inputs):
    """Pack and call what a schedule compiles to; return the output and what it packed."""
    packed = prepack.split(schedule.mod)
    library = traces.build(schedule.mod, tvm.target.Target(NATIVE.as_dict()))
    arguments = [tvm.runtime.tensor(value) for value in inputs]
    made = [
        tvm.runtime.empty(shape, dtype)
        for shape, dtype in zip(packed.shapes, packed.dtypes, strict=True)
    ]
    if made:
        library[prepack.PREPACK](*(arguments[place] for place in packed.places), *made)
    for place, value in zip(packed.places, made, strict=True):
        arguments[place] = value
    library["main"](*arguments)
    return arguments[-1].numpy(), [workload.tensors[place].name for place in packed.places]


@pytest.mark.parametrize(
    ("op", "args", "constant"),
    [
        ("dense", DENSE, "W"),
        ("dense", {"n": 5, "m": 31, "k": 23}, "W"),
        ("matmul", {"n": 32, "m": 64, "k": 16}, "B"),
        ("conv2d_nhwc", {"n": 1, "h": 8, "w": 8, "ci": 16, "co": 32, "kernel_size": 3}, "weight"),
        (
            "conv2d_transpose_nhwc",
            {"n": 1, "h": 4, "w": 4, "ci": 8, "co": 16, "kernel_size": 4, "stride": 2},
            "weight",
        ),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_weights_are_packed_ahead_and_the_output_is_right(op, args, constant, dtype):
    if dtype not in find_operator(op).dtypes:
        pytest.skip("not an operator of that dtype")
    workload = constant_workload(op, args, constant, dtype=dtype)
    inputs = verify.random_inputs(workload.tensors, seed=3)
    expected = verify.reference_outputs(workload, inputs)
    for schedule in samples(workload):
        output, packed = run(workload, schedule, inputs)
        assert packed[-1:] == [constant], schedule.mod.script()
        assert verify.compare(workload, [output], expected, "numpy").passed
        assert "prepack" not in str(prepack.split(schedule.mod).module["main"])


def test_a_constant_operand_of_the_rows_is_packed_ahead_for_dot_products():
    workload = constant_workload("matmul", {"n": 32, "m": 64, "k": 64}, "A", dtype="int8")
    inputs = verify.random_inputs(workload.tensors, seed=3)
    expected = verify.reference_outputs(workload, inputs)
    for schedule in samples(workload):
        output, packed = run(workload, schedule, inputs)
        assert verify.compare(workload, [output], expected, "numpy").passed
        assert set(packed) <= {"A"}


def test_what_moves_elements_of_a_weight_is_done_ahead_too():
    a = te.placeholder((16, 32), name="A")
    b = te.placeholder((48, 32), name="B")
    turned = te.compute((32, 48), lambda k, j: b[j, k], name="T")
    k = te.reduce_axis((0, 32), name="k")
    c = te.compute((16, 48), lambda i, j: te.sum(a[i, k] * turned[k, j], axis=k), name="C")
    function = te.create_prim_func([a, b, c]).with_attr(prepack.CONSTANTS, [1])
    workload = workload_from_ir(ir_json(function))
    inputs = verify.random_inputs(workload.tensors, seed=3)
    for schedule in samples(workload):
        output, packed = run(workload, schedule, inputs)
        assert packed == ["B"]
        np.testing.assert_allclose(output, inputs[0] @ inputs[1].T, rtol=1e-4, atol=1e-4)


def test_a_weight_that_two_blocks_read_stays_where_it_is():
    a, b = (te.placeholder((32, 32), name=name) for name in "AB")
    k = te.reduce_axis((0, 32), name="k")
    product = te.compute((32, 32), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="P")
    c = te.compute((32, 32), lambda i, j: product[i, j] + b[i, j], name="C")
    function = te.create_prim_func([a, b, c]).with_attr(prepack.CONSTANTS, [1])
    workload = workload_from_ir(ir_json(function))
    inputs = verify.random_inputs(workload.tensors, seed=3)
    for schedule in samples(workload):
        output, packed = run(workload, schedule, inputs)
        assert packed == []
        wanted = inputs[0] @ inputs[1] + inputs[1]
        np.testing.assert_allclose(output, wanted, rtol=1e-4, atol=1e-4)


def test_tvms_own_designs_pack_ahead_by_its_own_rule():
    workload = constant_workload("matmul", {"n": 32, "m": 64, "k": 16}, "B")
    inputs = verify.random_inputs(workload.tensors, seed=3)
    expected = verify.reference_outputs(workload, inputs)
    names = set()
    for schedule in samples(workload, space="stock"):
        output, packed = run(workload, schedule, inputs)
        assert verify.compare(workload, [output], expected, "numpy").passed
        names |= set(packed)
    assert names == {"B"}


def test_a_trace_that_packs_ahead_does_not_apply_where_the_weight_may_change():
    workload = constant_workload("dense", DENSE, "W")
    plain = constant_workload("dense", DENSE)
    [schedule, *_] = samples(workload)
    trace = traces.canonical_trace(schedule.trace)
    assert traces.replay(trace, module_of(workload))
    with pytest.raises(InvalidTraceError, match="packs W ahead of time"):
        traces.replay(trace, module_of(plain))


def test_splitting_what_is_split_changes_nothing():
    workload = constant_workload("dense", DENSE, "W")
    [schedule, *_] = samples(workload)
    once = prepack.split(schedule.mod)
    assert once.places
    assert prepack.split(once.module).module.same_as(once.module)


def test_a_constant_is_part_of_the_identity_and_no_constants_change_nothing():
    plain = constant_workload("dense", DENSE)
    constant = constant_workload("dense", DENSE, "W")
    assert constant.workload_id != plain.workload_id
    assert constant.call.key != plain.call.key
    assert str(constant.call).endswith("float32, constant W)")
    assert [tensor.is_constant for tensor in constant.tensors] == [False, True, False]
    assert prepack.CONSTANTS not in (module_of(plain)["main"].attrs or {})
    written = workload_from_ir(constant.ir)
    assert written.workload_id == constant.workload_id
    assert written.family_id == constant.family_id != plain.family_id
    assert [tensor.is_constant for tensor in written.tensors] == [False, True, False]


def test_an_unknown_constant_is_refused_by_name():
    with pytest.raises(InvalidArgumentError, match=r"no input 'weights'.*its inputs are X, W"):
        find_operator("dense").call(DENSE, "float32", ["weights"])


def test_an_attribute_that_is_no_list_of_positions_is_refused():
    function = matmul(8, 8, 8).with_attr(prepack.CONSTANTS, ["B"])
    with pytest.raises(InvalidWorkloadError, match="list of positions"):
        workload_from_ir(ir_json(function))


@pytest.mark.parametrize("places", [[2], [3], [-1]])
def test_an_attribute_that_names_no_input_is_refused(places):
    function = matmul(8, 8, 8).with_attr(prepack.CONSTANTS, places)
    with pytest.raises(InvalidWorkloadError, match="no input of the function"):
        workload_from_ir(ir_json(function))
