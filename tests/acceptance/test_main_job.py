"""The main job, end to end: real processes, real HTTP, real TVM."""

import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.s_tir import meta_schedule

from schedules.ir import module_of, workload_from_call, workload_from_ir
from schedules.operators import find_operator
from schedules.records import Tier
from schedules.target import Target
from tests import programs
from tuner.client import convert
from tuner.replay import replay_trace

TRIALS = 16
ARGS = {"b": 1, "n": 128, "m": 128, "k": 128}
MATMUL = {"op": "batch_matmul", "args": ARGS}


@pytest.fixture(scope="module")
def target(client, matmul_best):
    return Target.parse(client.target(matmul_best.target_id).target)


@pytest.fixture(scope="module")
def matmul_best(client):
    return client.submit(MATMUL, trials=TRIALS).wait(timeout_secs=120)


def tunesmith(*arguments):
    command = [Path(sys.executable).with_name("tunesmith"), *arguments]
    subprocess.run([str(part) for part in command], check=True)


def replayed(workload, target, best):
    return replay_trace(workload, target, convert.best_from_wire(best).trace)


def test_an_operator_is_tuned_and_its_best_is_right_in_a_fresh_process(client, target, matmul_best):
    workload = workload_from_call(find_operator("batch_matmul").call(ARGS))
    assert matmul_best.workload_id == workload.workload_id
    assert matmul_best.tier is Tier.EXACT
    assert matmul_best.verified
    assert matmul_best.speedup > 2
    low, high = matmul_best.latency_interval_secs
    assert low <= matmul_best.latency_secs <= high
    replay = replayed(workload, target, matmul_best)
    assert replay.passed
    assert replay.result.verification.reference == "numpy"
    assert client.best(MATMUL) == matmul_best


def test_every_trial_is_a_record_with_its_provenance(client, matmul_best):
    records = [
        record
        for record in client.records(workload_id=matmul_best.workload_id)
        if record.purpose == "trial"
    ]
    assert len(records) == TRIALS
    assert len({record.trace_id for record in records}) == TRIALS
    for record in records:
        assert (record.failure is None) == bool(record.run_secs)
        assert record.environment["tvm"]
        assert record.worker_id


def test_ir_is_tuned_the_same_way(client, target):
    text = programs.ir_json(programs.matmul(48, 40, 56), name="product")
    best = client.submit({"ir": text, "name": "product"}, trials=TRIALS).wait(timeout_secs=120)
    assert best.verified
    replay = replayed(workload_from_ir(text), target, best)
    assert replay.passed
    assert replay.result.verification.reference == "unscheduled"


def test_a_second_job_starts_from_the_records_of_the_first(client, matmul_best):
    client.submit(MATMUL, trials=TRIALS).wait(timeout_secs=120)
    records = [
        record
        for record in client.records(workload_id=matmul_best.workload_id)
        if record.purpose == "trial"
    ]
    assert len(records) == 2 * TRIALS
    assert len({record.trace_id for record in records}) == 2 * TRIALS


def test_exported_files_replay_in_stock_tvm(client, target, matmul_best, tmp_path, server):
    tunesmith("export", "--format", "meta-schedule", "--out", tmp_path, "--server", server.url)
    database = meta_schedule.database.JSONDatabase(work_dir=str(tmp_path))
    module = module_of(workload_from_call(find_operator("batch_matmul").call(ARGS)))
    record = database.query_tuning_record(module, tvm.target.Target(target.as_dict()), "main")
    assert record is not None
    schedule = tvm.s_tir.Schedule(module)
    record.trace.apply_to_schedule(schedule, remove_postproc=False)
    tvm.tirx.build(schedule.mod, target=tvm.target.Target(target.as_dict()))


def test_a_stock_database_is_imported_and_its_best_served(client, target, tmp_path, server):
    module = tvm.IRModule({"main": programs.matmul(32, 24, 16)})
    database = meta_schedule.database.JSONDatabase(work_dir=str(tmp_path))
    context = meta_schedule.TuneContext(
        module,
        target=tvm.target.Target(target.as_dict()),
        space_generator="post-order-apply",
        search_strategy="replay-trace",
        num_threads=1,
        rand_state=1,
    )
    context.pre_tuning(max_trials=1, num_trials_per_iter=1)
    [candidate] = context.generate_measure_candidates()
    database.commit_tuning_record(
        meta_schedule.database.TuningRecord(
            candidate.sch.trace,
            database.commit_workload(module),
            [2e-6],
            tvm.target.Target(target.as_dict()),
            candidate.args_info,
        )
    )
    tunesmith("import", "--format", "meta-schedule", tmp_path, "--server", server.url)
    best = client.best({"ir": programs.ir_json(module["main"])})
    assert best.latency_secs == pytest.approx(2e-6)
    assert not best.verified


def network():
    """Two dense layers with a relu between, in Relax, their weights as inputs."""
    builder = relax.BlockBuilder()
    shapes = {"x": (16, 64), "first": (64, 96), "second": (96, 32)}
    x, first, second = (
        relax.Var(name, relax.TensorType(shape, "float32")) for name, shape in shapes.items()
    )
    with builder.function("main", [x, first, second]):
        with builder.dataflow():
            hidden = builder.emit(relax.op.nn.relu(relax.op.matmul(x, first)))
            result = builder.emit_output(relax.op.matmul(hidden, second))
        builder.emit_func_output(result)
    return builder.get(), shapes


def run(library, inputs):
    machine = relax.VirtualMachine(library, tvm.cpu())
    return machine["main"](*[tvm.runtime.tensor(value) for value in inputs]).numpy()


def test_a_relax_build_uses_the_tuned_kernels_and_gives_the_same_numbers(client, target):
    module, shapes = network()
    tvm_target = tvm.target.Target(target.as_dict())
    generator = np.random.default_rng(1)
    inputs = [generator.standard_normal(shape, dtype=np.float32) for shape in shapes.values()]
    with tvm_target:
        expected = run(tvm.compile(module, tvm_target), inputs)
        lowered = tvm.transform.Sequential(
            [
                relax.transform.LegalizeOps(),
                relax.transform.AnnotateTIROpPattern(),
                relax.transform.FoldConstant(),
                relax.transform.FuseOps(),
                relax.transform.FuseTIR(),
            ]
        )(module)
    kernels = [item for item in lowered.functions.values() if isinstance(item, tvm.tirx.PrimFunc)]
    assert kernels
    for kernel in kernels:
        client.submit(kernel, trials=8).wait(timeout_secs=120)
    with client.database() as database, tvm_target:
        tuned = run(tvm.compile(module, tvm_target), inputs)
    assert database.hits >= 1
    np.testing.assert_allclose(tuned, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("workload", "error"),
    [
        ({"op": "teleport"}, "unknown_operator"),
        ({"op": "softmax", "args": {"m": 8}}, "invalid_argument"),
        ({"op": "softmax", "args": {"m": 8, "n": 8, "q": 8}}, "invalid_argument"),
        ({"op": "softmax", "args": {"m": 0, "n": 8}}, "invalid_argument"),
        ({"op": "softmax", "args": {"m": -1, "n": 8}}, "invalid_argument"),
        ({"op": "softmax", "args": {"m": 2**40, "n": 8}}, "invalid_argument"),
        ({"op": "softmax", "args": {"m": 8, "n": 8}, "dtype": "complex64"}, "invalid_argument"),
        ({"ir": "not json"}, "invalid_workload"),
        ({"ir": '{"root_index":0,"nodes":[{"type":"ffi.Array","data":[0]}]}'}, "invalid_workload"),
    ],
)
def test_bad_workloads_are_refused_and_change_nothing(server, workload, error):
    before = job_ids(server)
    answer = httpx.post(f"{server.url}/v1/jobs", json={"workload": workload}, timeout=60)
    assert answer.status_code == 422
    assert answer.json()["error"] == error
    assert job_ids(server) == before


def job_ids(server):
    return {job["id"] for job in httpx.get(f"{server.url}/v1/jobs").json()["items"]}


def test_a_job_without_a_worker_of_its_target_waits_and_says_so(client):
    other = {"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 64}
    job = client.submit(MATMUL, target=other, trials=4)
    assert "worker" in job.refresh().view.waiting_for
    client.cancel(job.id)
    assert job.refresh().state == "cancelled"
