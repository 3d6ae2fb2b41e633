"""Builds that consult a server; only the server's answers are made up."""

import json
import logging
import threading
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.s_tir import meta_schedule as ms

from schedules.ir import module_of, workload_from_ir
from schedules.prepack import AHEAD, CONSTANTS
from schedules.target import Target
from schedules.trace import canonical_trace
from tests.programs import ir_json, matmul
from tuner.client import wire
from tuner.client.build_hook import apply_database
from tuner.client.sdk import Client

CPU = {"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 2}
TARGET_ID = Target.parse(CPU).target_id
SHAPES = ((16, 32), (32, 64), (64, 8))


class FakeServer:
    """Answers ``GET /v1/best`` from a dict of bests by workload id."""

    def __init__(self):
        self.bests = {}
        self.asked = []
        self.down = False

    def __call__(self, request):
        assert request.url.path == "/v1/best"
        if self.down:
            raise httpx.ConnectError("refused")
        ids = (request.url.params["workload_id"], request.url.params["target_id"])
        self.asked.append(ids)
        if ids not in self.bests:
            return httpx.Response(404, json={"error": "not_found", "detail": "nothing is known"})
        return httpx.Response(200, json=self.bests[ids])

    def know(self, function, trace, **fields):
        workload = workload_from_ir(ir_json(function))
        best = wire.BestView(
            tier=fields.pop("tier", "exact"),
            workload_id=workload.workload_id,
            target_id=TARGET_ID,
            latency_secs=1e-3,
            latency_interval_secs=(1e-3, 1e-3),
            default_latency_secs=2e-3,
            speedup=2.0,
            trace=json.loads(trace),
            verified=fields.pop("verified", True),
            record_id="r",
            environment={},
            model_version=None,
            created_at=datetime.now(UTC),
        )
        self.bests[workload.workload_id, TARGET_ID] = best.model_dump(mode="json")

    def client(self):
        return Client("http://tuner.test", http=httpx.Client(transport=httpx.MockTransport(self)))


def parallel_trace(function, block):
    """Write the trace of a schedule that splits and parallelises the outer loop."""
    schedule = tvm.s_tir.Schedule(module_of(workload_from_ir(ir_json(function))))
    outer = schedule.get_loops(schedule.get_sblock(block))[0]
    first, _ = schedule.split(outer, [None, 4])
    schedule.parallel(first)
    schedule.enter_postproc()
    return canonical_trace(schedule.trace)


@pytest.fixture
def server():
    return FakeServer()


@pytest.fixture
def target():
    return tvm.target.Target(CPU)


@pytest.fixture
def known_matmul(server):
    function = matmul(16, 64, 32)
    server.know(function, parallel_trace(function, "C"))
    return function


def network():
    """Two dense layers with ReLU."""
    x, w1, w2 = (
        relax.Var(name, relax.TensorType(shape, "float32"))
        for name, shape in zip(("x", "w1", "w2"), SHAPES, strict=True)
    )
    builder = relax.BlockBuilder()
    with builder.function("main", [x, w1, w2]):
        with builder.dataflow():
            hidden = builder.emit(relax.op.nn.relu(relax.op.matmul(x, w1)))
            out = builder.emit_output(relax.op.nn.relu(relax.op.matmul(hidden, w2)))
        builder.emit_func_output(out)
    return builder.get()


def run_network(executable, inputs):
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return machine["main"](*[tvm.runtime.tensor(value) for value in inputs]).numpy()


def run_matmul(library, name="main"):
    rng = np.random.default_rng(0)
    a, b = rng.random((16, 32), np.float32), rng.random((32, 64), np.float32)
    out = tvm.runtime.tensor(np.zeros((16, 64), np.float32))
    library[name](tvm.runtime.tensor(a), tvm.runtime.tensor(b), out)
    return out.numpy(), a @ b


def test_a_relax_network_is_built_with_the_servers_bests(server, target):
    module = network()
    legal = relax.transform.LegalizeOps()(module)
    for name, function in legal.functions_items():
        if name.name_hint.startswith("matmul"):
            server.know(function, parallel_trace(function, "matmul"))
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
    plain = run_network(tvm.compile(module, target), inputs)
    stock_build = tvm.tirx.build
    with server.client().database() as database, target:
        assert isinstance(database, ms.database.Database)
        tuned = run_network(tvm.compile(module, target), inputs)
    assert (database.hits, database.misses) == (2, 2)
    assert tvm.tirx.build is stock_build
    assert ms.Database.current() is None
    expected = np.maximum(np.maximum(inputs[0] @ inputs[1], 0) @ inputs[2], 0)
    np.testing.assert_allclose(plain, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(tuned, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", ["compile", "build", "module"])
def test_a_tir_function_is_built_with_the_servers_best(server, target, known_matmul, how):
    with server.client().database() as database, target:
        if how == "compile":
            library = tvm.compile(known_matmul, target)
        elif how == "build":
            library = tvm.tirx.build(known_matmul)
        else:
            library = tvm.tirx.build(tvm.IRModule({"main": known_matmul}), target=target)
    assert database.hits == 1
    found, expected = run_matmul(library)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_schedule_is_in_the_program_and_only_once(server, target, known_matmul):
    with server.client().database() as database, target:
        applied = apply_database(known_matmul)
        again = apply_database(applied)
    assert "T.parallel" in applied.script()
    assert database.hits == 1
    assert again.script() == applied.script()


def test_the_stock_way_by_hand_works_too(server, target, known_matmul):
    module = tvm.IRModule({"dense": known_matmul})
    with server.client().database() as database, target:
        applied = relax.transform.MetaScheduleApplyDatabase()(module)
    assert database.hits == 1
    assert "T.parallel" in applied.script()


def test_the_servers_answers_are_asked_for_once_in_a_scope(server, target, known_matmul):
    database = server.client().database()
    for _ in range(2):
        with database, target:
            tvm.tirx.build(known_matmul)
            tvm.tirx.build(known_matmul)
    assert len(server.asked) == 2
    assert database.hits == 4


def test_a_default_best_leaves_the_function_alone(server, target):
    function = matmul(16, 64, 32)
    server.know(function, "[[],[]]", tier="default")
    with server.client().database() as database, target:
        tvm.tirx.build(function)
    assert (database.hits, database.misses) == (0, 1)


@pytest.mark.parametrize("fields", [{"verified": False}, {"tier": "neighbour"}])
def test_what_was_not_measured_and_checked_for_it_is_not_used(server, target, fields):
    function = matmul(16, 64, 32)
    server.know(function, parallel_trace(function, "C"), **fields)
    with server.client().database() as database, target:
        tvm.tirx.build(function)
    assert database.hits == 0


def test_unverified_bests_are_used_where_that_is_asked_for(server, target):
    function = matmul(16, 64, 32)
    server.know(function, parallel_trace(function, "C"), verified=False)
    with server.client().database(unverified=True) as database, target:
        tvm.tirx.build(function)
    assert database.hits == 1


def test_a_trace_that_does_not_apply_leaves_the_function_alone(server, target, caplog):
    function = matmul(16, 64, 32)
    server.know(function, parallel_trace(function, "C").replace('"C"', '"elsewhere"'))
    with caplog.at_level(logging.WARNING), server.client().database() as database, target:
        library = tvm.tirx.build(function)
    found, expected = run_matmul(library)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert database.hits == 0
    assert "does not apply" in caplog.text


def test_a_build_goes_on_without_the_server_and_waits_for_it_once(server, target, caplog):
    server.down = True
    with caplog.at_level(logging.WARNING), server.client().database() as database, target:
        tvm.compile(network(), target)
    assert database.hits == 0
    assert caplog.text.count("no answer from http://tuner.test") == 1


@pytest.mark.parametrize("described", ["llvm", {"kind": "llvm", "mcpu": "znver3"}])
def test_a_target_without_model_or_cores_finds_nothing(server, known_matmul, described, caplog):
    with caplog.at_level(logging.WARNING), server.client().database() as database:
        tvm.tirx.build(known_matmul, target=tvm.target.Target(described))
    assert database.hits == 0
    assert server.asked == []
    assert "an llvm target needs" in caplog.text


def test_what_code_generation_ignores_does_not_hide_a_best(server, known_matmul):
    rich = tvm.target.Target({**CPU, "tag": "mine", "keys": ["cpu", "fast"]}, host=CPU)
    with server.client().database() as database:
        tvm.tirx.build(known_matmul, target=rich)
    assert database.hits == 1


def test_the_hook_is_for_the_thread_of_the_scope_only(server, target, known_matmul):
    with server.client().database() as database, target:
        thread = threading.Thread(target=lambda: tvm.tirx.build(known_matmul, target=target))
        thread.start()
        thread.join()
        assert database.hits == 0
        tvm.tirx.build(known_matmul)
    assert database.hits == 1


def test_scopes_nest_and_the_last_one_restores_the_stock_build(server, target, known_matmul):
    stock_build = tvm.tirx.build
    other = FakeServer().client().database()
    with server.client().database() as outer, target:
        with other:
            tvm.tirx.build(known_matmul)
        assert (outer.hits, other.hits, other.misses) == (0, 0, 1)
        tvm.tirx.build(known_matmul)
        assert outer.hits == 1
        with pytest.raises(ZeroDivisionError), other:
            raise ZeroDivisionError
        assert tvm.tirx.build is not stock_build
    assert tvm.tirx.build is stock_build


def test_a_foreign_database_inside_the_scope_is_left_to_tvm(server, target, known_matmul):
    with server.client().database() as database, ms.database.MemoryDatabase(), target:
        tvm.tirx.build(known_matmul)
    assert (database.hits, database.misses) == (0, 0)


def layer_with_a_constant():
    """One dense layer, as TVM's tuning pipeline makes it where weights are packed ahead."""
    x, weight = (
        relax.Var(name, relax.TensorType(shape, "float32"))
        for name, shape in (("x", SHAPES[0]), ("weight", SHAPES[1]))
    )
    builder = relax.BlockBuilder()
    with builder.function("main", [x, weight], attrs={"num_input": 1}):
        with builder.dataflow():
            out = builder.emit_output(relax.op.matmul(x, weight))
        builder.emit_func_output(out)
    legal = relax.transform.LegalizeOps()(builder.get())
    return relax.transform.AttachAttrLayoutFreeBuffers()(legal)


def packing_trace(function, block):
    """Write the trace of a schedule that packs the second operand ahead, in panels of 16."""
    schedule = tvm.s_tir.Schedule(module_of(workload_from_ir(ir_json(function))))
    product = schedule.get_sblock(block)
    copy = schedule.reindex(product, ("read", 1))
    schedule.transform_layout(product, ("read", 1), lambda j, k: [j // 16, k, j % 16])
    schedule.annotate(copy, AHEAD, True)
    schedule.enter_postproc()
    return canonical_trace(schedule.trace)


def test_tvms_passes_split_what_a_best_packs_ahead(server, target):
    module = layer_with_a_constant()
    [function] = [
        function
        for name, function in module.functions_items()
        if name.name_hint.startswith("matmul")
    ]
    server.know(function, packing_trace(function, "matmul"))
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES[:2]]
    with server.client().database() as database, target:
        tuned = relax.transform.MetaScheduleApplyDatabase()(module)
        split = tvm.transform.Sequential(
            [relax.transform.SplitLayoutRewritePreproc(), relax.transform.LiftTransformParams()]
        )(tuned)
        library = tvm.compile(split, target)
    assert database.hits >= 1
    machine = relax.VirtualMachine(library, tvm.cpu())
    x, weight = (tvm.runtime.tensor(value) for value in inputs)
    packed = machine["main_transform_params"]([weight])
    output = machine["main"](x, *packed)
    np.testing.assert_allclose(output.numpy(), inputs[0] @ inputs[1], rtol=1e-4, atol=1e-4)


def test_what_nobody_split_is_packed_in_each_call(server, target):
    function = matmul(16, 64, 32).with_attr(CONSTANTS, [1])
    server.know(function, packing_trace(function, "C"))
    with server.client().database() as database, target:
        library = tvm.tirx.build(function)
    assert database.hits == 1
    found, expected = run_matmul(library)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
