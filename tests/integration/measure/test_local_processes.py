"""The processes of the measuring host: some crash, hang or are killed, and none stays behind."""

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from schedules.detect import native_target
from schedules.ir import workload_from_call, workload_from_ir
from schedules.operators import find_operator
from schedules.records import (
    DEFAULT_TRACE,
    FailureKind,
    Purpose,
    default_candidate,
)
from schedules.target import Target
from schedules.workload import Workload
from tests import programs
from tests.integration.measure.measuring import (
    MATMUL,
    PARALLEL,
    candidate,
    children,
    failure_of,
    measured,
)
from tests.processes import cpu_secs
from tuner.measure import timing
from tuner.measure.bench import Bench
from tuner.measure.deadlines import Deadlines
from tuner.measure.entry import Entry
from tuner.measure.local import LocalMeasurer
from tuner.measure.protocol import MeasureBatch
from tuner.replay import replay_trace

pytestmark = pytest.mark.alone


def test_a_host_does_without_pytorch(tmp_path, monkeypatch):
    """TVM imports it where it is installed, and it starts CUDA, after which nothing can fork."""
    imported = tmp_path / "imported"
    (tmp_path / "torch.py").write_text(f"open({str(imported)!r}, 'w')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with LocalMeasurer() as measurer:
        measurer.describe()
    assert not imported.exists()


def states_of(pids: set[str]) -> set[str]:
    return {Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1][1] for pid in pids}


def states_beside_runs() -> list[set[str]]:
    """Measure two finalists in this process; return how the other ones are at each repeat."""
    seen: list[set[str]] = []
    bench = Bench(builders=2, deadlines=Deadlines())
    before = children()
    run = Entry.run

    def looked(entry: Entry, *arguments: Any, **options: Any) -> None:
        watching = set(map(str, bench._watch.pids))
        others = children() - before - watching - {str(entry.child.pid)}
        seen.append(states_of(others))
        run(entry, *arguments, **options)

    batch = MeasureBatch(
        workload=workload_from_call(MATMUL),
        target=native_target(),
        candidates=(default_candidate(), candidate(PARALLEL)),
        purpose=Purpose.FINAL,
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Entry, "run", looked)
        results = list(bench.measure(batch, seed=1))
    assert all(item.result.failure is None for item in results)
    return seen


def test_finalists_stand_still_while_another_is_timed():
    """Threads that look for work would take the cores from the one whose turn it is."""
    # In a new process: children of one in which TVM has started threads would wait for them.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        seen = process.submit(states_beside_runs).result()
    assert len(seen) >= 2 * timing.FINAL_ROUNDS_AT_LEAST
    assert set.union(*seen) == {"T"}


def test_a_crash_is_a_run_error_that_names_the_signal(measurer, target):
    workload = workload_from_ir(programs.ir_json(programs.out_of_bounds()))
    [result] = measured(measurer, workload, target, default_candidate())
    assert result.failure.kind is FailureKind.RUN_ERROR
    assert "SIGSEGV" in result.failure.detail


def test_a_hang_is_a_run_timeout_and_its_process_is_gone(target):
    workload = workload_from_ir(programs.ir_json(programs.endless()))
    bench = Bench(builders=1, deadlines=Deadlines(run_secs=0.5))
    before = children()
    batch = MeasureBatch(workload=workload, target=target, candidates=(default_candidate(),))
    started = time.monotonic()
    [measured_item] = list(bench.measure(batch, seed=1))
    assert failure_of(measured_item) is FailureKind.RUN_TIMEOUT
    assert time.monotonic() - started < 10
    assert children() == before


def test_what_hangs_beside_an_incumbent_is_given_up_sooner(target):
    workload = workload_from_ir(programs.ir_json(programs.endless()))
    bench = Bench(builders=1, deadlines=Deadlines(run_secs=60.0, hopeless_run_secs=0.5))
    batch = MeasureBatch(
        workload=workload, target=target, candidates=(default_candidate(),), incumbent_secs=1e-5
    )
    started = time.monotonic()
    [measured_item] = list(bench.measure(batch, seed=1))
    assert failure_of(measured_item) is FailureKind.RUN_TIMEOUT
    assert time.monotonic() - started < 20


def test_a_build_that_takes_too_long_is_a_build_timeout(target, matmul):
    bench = Bench(builders=1, deadlines=Deadlines(build_secs=0.001))
    batch = MeasureBatch(workload=matmul, target=target, candidates=(default_candidate(),))
    [measured_item] = list(bench.measure(batch, seed=1))
    assert failure_of(measured_item) is FailureKind.BUILD_TIMEOUT


def test_the_rest_is_measured_after_the_host_was_killed(measurer, target, matmul):
    batch = MeasureBatch(
        workload=matmul,
        target=target,
        candidates=(default_candidate(), candidate(PARALLEL), candidate(PARALLEL)),
    )
    results = measurer.measure(batch)
    first, _ = next(results)
    os.kill(measurer._connection._process.pid, signal.SIGKILL)
    assert {first, *(place for place, _ in results)} == {0, 1, 2}


def test_a_caller_that_stops_listening_leaves_the_host_usable(measurer, target, matmul):
    batch = MeasureBatch(workload=matmul, target=target, candidates=(default_candidate(),) * 4)
    results = measurer.measure(batch)
    next(results)
    results.close()
    [result] = measured(measurer, matmul, target, default_candidate())
    assert result.failure is None


def test_the_host_works_only_while_a_result_is_wanted(measurer, target, matmul):
    batch = MeasureBatch(workload=matmul, target=target, candidates=(default_candidate(),) * 3)
    results = measurer.measure(batch)
    next(results)
    # Building is over with the first result of a batch: only a measurement could take time.
    host = measurer._connection._process.pid
    before = cpu_secs(host)
    time.sleep(0.3)
    assert cpu_secs(host) - before < 0.03
    assert len(list(results)) == 2
    # Without a command the host sleeps.
    time.sleep(0.2)
    before = cpu_secs(host)
    time.sleep(1.0)
    assert cpu_secs(host) - before < 0.001


def test_a_measurement_is_interrupted_from_another_thread_and_the_host_stays_usable(
    measurer, target, matmul
):
    workload = workload_from_ir(programs.ir_json(programs.endless()))
    batch = MeasureBatch(workload=workload, target=target, candidates=(default_candidate(),) * 2)
    started = time.monotonic()
    timer = threading.Timer(1.0, measurer.interrupt)
    timer.start()
    assert list(measurer.measure(batch)) == []
    timer.join()
    assert time.monotonic() - started < 8
    # One that comes too late hits nothing.
    measurer.interrupt()
    [result] = measured(measurer, matmul, target, default_candidate())
    assert result.failure is None


def test_with_cores_to_build_on_the_next_is_built_while_one_is_timed(target, matmul):
    whole = os.sched_getaffinity(0)
    if len(whole) == 1:
        pytest.skip("the one core is timed")
    core = min(whole)
    part = Target.parse({**target.as_dict(), "num-cores": 1})
    broken = '[[["GetSBlock",[],["nowhere","main"],["b0"]]],[]]'
    traces = (PARALLEL, broken, DEFAULT_TRACE, PARALLEL.replace('"l2"', '"l3"'))
    batch = MeasureBatch(
        workload=matmul, target=part, candidates=tuple(candidate(trace) for trace in traces)
    )
    before = children()
    os.sched_setaffinity(0, {core})
    try:
        bench = Bench(builders=1, deadlines=Deadlines(), build_cores=frozenset(whole - {core}))
        results = bench.measure(batch, seed=1)
        first = next(results)
        # The second does not apply; the first races, the third is being built, the last waits.
        assert first.place == 1
        assert len(children() - before - set(map(str, bench._watch.pids))) == 2
        found = {item.place: item for item in (first, *results)}
    finally:
        os.sched_setaffinity(0, whole)
    assert {place: failure_of(item) for place, item in found.items()} == {
        **dict.fromkeys((0, 2, 3)),
        1: FailureKind.INVALID,
    }
    assert found[0].result.conditions["builds"] == "beside"
    assert children() == before


def test_a_host_on_some_cores_measures_on_those_only(matmul):
    whole = os.sched_getaffinity(0)
    core = max(whole)
    os.sched_setaffinity(0, {core})
    try:
        with LocalMeasurer() as part:
            target, environment = part.describe()
            [result] = measured(part, matmul, target, candidate(PARALLEL))
    finally:
        os.sched_setaffinity(0, whole)
    assert target.cores == 1
    assert result.failure is None
    if len(whole) > 1:
        assert environment.facts["affinity"] == str(core)


def test_closing_leaves_no_process_behind(matmul):
    before = children()
    with LocalMeasurer() as own:
        measured(own, matmul, own.describe()[0], default_candidate())
    assert children() == before


def test_a_parallel_kernel_keeps_all_cores_of_the_target_busy(target):
    large = workload_from_call(
        find_operator("batch_matmul").call({"b": 1, "n": 256, "m": 256, "k": 256})
    )
    # What others run meanwhile takes cores away, but not always.
    assert any(busy_cores(large, target) > 0.6 * target.cores for _ in range(5))
    serial = replay_trace(large, target, default_candidate().trace)
    assert serial.busy_cores is not None
    assert serial.busy_cores < 1.2


def busy_cores(workload: Workload, target: Target) -> float:
    replay = replay_trace(workload, target, PARALLEL)
    assert replay.passed
    assert replay.busy_cores is not None
    return replay.busy_cores
