"""What the measuring host says of real programs: times, bounds, failures, checks."""

import pytest

from schedules.ir import workload_from_call, workload_from_ir
from schedules.operators import find_operator
from schedules.prepack import AHEAD
from schedules.records import (
    FailureKind,
    Purpose,
    default_candidate,
)
from schedules.target import Target
from schedules.trace import canonical_trace
from tests import programs
from tests.integration.measure.measuring import (
    PARALLEL,
    candidate,
    measured,
)
from tests.unit.schedules.test_prepack import samples
from tuner.measure import reference, timing
from tuner.measure.noise import Noise
from tuner.measure.protocol import MeasureBatch
from tuner.replay import replay_trace

pytestmark = pytest.mark.alone


def test_a_trial_has_repeats_and_no_verification(measurer, target, matmul):
    [result] = measured(measurer, matmul, target, default_candidate())
    assert result.failure is None
    assert len(result.run_secs) >= 2
    assert 0 < result.latency_secs < 1
    assert result.verification is None


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_weight_is_packed_before_it_is_timed_and_the_check_goes_through_it(
    measurer, target, dtype
):
    workload = workload_from_call(
        find_operator("dense").call({"n": 33, "m": 80, "k": 48}, dtype, ["W"])
    )
    traces = {canonical_trace(schedule.trace) for schedule in samples(workload)[:3]}
    assert all(AHEAD in trace for trace in traces)
    for purpose in Purpose:
        results = measured(
            measurer, workload, target, *map(candidate, sorted(traces)), purpose=purpose
        )
        for result in results:
            assert result.failure is None
            assert result.latency_secs is None or result.latency_secs > 0
            assert purpose is Purpose.TRIAL or result.verification.passed


def test_a_result_says_how_it_was_measured(measurer, target, matmul):
    for purpose in Purpose:
        [result] = measured(measurer, matmul, target, default_candidate(), purpose=purpose)
        assert result.conditions["cache"] == "warm"
        assert result.conditions["threads"] == target.cores
        assert result.conditions["noise"] in set(Noise)
        assert 0 < result.conditions["timer_overhead_nanosecs"] < 1_000_000


def test_a_hopeless_candidate_is_given_up_with_a_bound(measurer, target, matmul):
    batch = MeasureBatch(
        workload=matmul,
        target=target,
        candidates=(default_candidate(), candidate(PARALLEL)),
        incumbent_secs=1e-9,
    )
    for _, result in measurer.measure(batch):
        assert result.failure is None
        assert result.latency_secs is None
        assert result.censored_secs == min(result.run_secs) > 2e-9


def test_equal_code_is_measured_once_and_the_second_result_says_so(measurer, target, matmul):
    # Neither changes anything, so both compile to the same; the default does not, as it is built
    # without what tuned code has.
    idle = candidate(PARALLEL.replace(',["Parallel",["l2"],[],[]]', ""))
    idler = candidate('[[["GetSBlock",[],["batch_matmul","main"],["b0"]]],[]]')
    # Other code, and no faster. Twice as fast, as on two cores, it would leave the others with a
    # bound, which a later batch does not take for a result.
    unrolled = candidate(PARALLEL.replace('["Parallel",["l2"]', '["Unroll",["l3"]'))
    first, second, other = measured(measurer, matmul, target, idle, idler, unrolled)
    assert first.duplicate_of is other.duplicate_of is None
    assert second.duplicate_of == idle.trace_id
    assert second.run_secs == first.run_secs
    assert second.build_secs != first.build_secs
    # In a later batch too; but whoever asks for a candidate again gets it measured again.
    [later] = measured(measurer, matmul, target, idler)
    assert later.duplicate_of == idle.trace_id
    [again] = measured(measurer, matmul, target, idle)
    assert again.duplicate_of is None


def test_a_workload_may_ask_for_cold_caches(measurer, target):
    function = programs.scale(2**14)
    cold = workload_from_ir(programs.ir_json(function.with_attr(timing.CACHE_ATTRIBUTE, "cold")))
    warm = workload_from_ir(programs.ir_json(function))
    assert cold.workload_id != warm.workload_id
    [result] = measured(measurer, cold, target, default_candidate())
    assert result.failure is None
    assert result.conditions["cache"] == "cold"


def test_finals_are_verified_against_numpy(measurer, target, matmul):
    results = measured(
        measurer, matmul, target, default_candidate(), candidate(PARALLEL), purpose=Purpose.FINAL
    )
    for result in results:
        assert result.failure is None
        assert result.verification.reference == "numpy"
        assert result.verification.passed


def test_finals_of_ir_workloads_are_verified_against_the_unscheduled_program(measurer, target):
    workload = workload_from_ir(programs.ir_json(programs.matmul(32, 32, 32)))
    [result] = measured(measurer, workload, target, default_candidate(), purpose=Purpose.FINAL)
    assert result.verification.reference == "unscheduled"
    assert result.verification.passed


def test_a_schedule_that_races_is_found_wrong_or_published_never(measurer, target, matmul):
    # Parallelising the reduction makes threads overwrite each other's sums: TVM refuses to replay.
    trace = PARALLEL.replace('"l2"],[],[]', '"l4"],[],[]')
    [result] = measured(measurer, matmul, target, candidate(trace), purpose=Purpose.FINAL)
    assert result.failure.kind in (FailureKind.INVALID, FailureKind.WRONG_OUTPUT)


def test_an_invalid_trace_costs_itself_only(measurer, target, matmul):
    broken = '[[["GetSBlock",[],["nowhere","main"],["b0"]]],[]]'
    first, second, third = measured(
        measurer, matmul, target, default_candidate(), candidate(broken), candidate(PARALLEL)
    )
    assert second.failure.kind is FailureKind.INVALID
    assert "nowhere" in second.failure.detail
    assert first.failure is third.failure is None


def test_the_reference_kernel_is_timed_often_and_is_right(measurer, target):
    result = measurer.reference()
    assert result.failure is None
    assert len(result.run_secs) == timing.REFERENCE_REPEATS - timing.REFERENCE_WARM_UP >= 30
    _, environment = measurer.describe()
    assert environment.facts["reference_version"] == reference.REFERENCE_VERSION
    batch = reference.reference_batch(target)
    replay = replay_trace(batch.workload, target, batch.candidates[0].trace)
    assert replay.passed


def test_the_reference_kernel_is_that_of_its_version():
    # Where this fails, REFERENCE_VERSION has to go up: baselines of the fleet would be compared
    # with run times of another kernel.
    target = Target.parse({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 4})
    batch = reference.reference_batch(target)
    identity = (batch.workload.workload_id[:12], batch.candidates[0].trace_id[:12])
    plan = (timing.REFERENCE_REPEATS, timing.REFERENCE_REPEAT_SECS, timing.REFERENCE_WARM_UP)
    assert (reference.REFERENCE_VERSION, identity, plan) == (
        3,
        ("9c99c558d3fa", "42c0710c50e9"),
        (240, 0.004, 40),
    )
