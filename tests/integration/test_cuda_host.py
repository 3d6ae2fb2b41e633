"""The measuring host with GPU candidates: by a scripted CUDA runtime, and without any GPU."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from schedules.errors import UnavailableError
from schedules.identity import canonical_json
from schedules.ir import workload_from_ir
from schedules.records import (
    Candidate,
    Environment,
    FailureKind,
    Purpose,
    default_candidate,
    trace_id,
)
from schedules.target import Target
from tests import programs
from tuner.client import convert, wire
from tuner.measure.local import LocalMeasurer

pytestmark = pytest.mark.alone

GPU = Target.parse({"kind": "cuda", "arch": "sm_90"})


def kernel(name: str) -> Candidate:
    trace = canonical_json([[["GetSBlock", [], [name, "main"], ["b0"]]], []])
    return Candidate(trace=trace, trace_id=trace_id(trace))


@pytest.fixture(scope="module")
def host() -> Iterator[subprocess.Popen[bytes]]:
    """One host for all tests: whatever a candidate does, the next batch is measured as ever."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.fake_cuda_host", "cuda:0", "--builders", "2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


def send(host: subprocess.Popen[bytes], command: dict[str, Any]) -> None:
    assert host.stdin is not None
    host.stdin.write(json.dumps(command).encode() + b"\n")
    host.stdin.flush()


def measured(
    host: subprocess.Popen[bytes], *candidates: Candidate, purpose: Purpose = Purpose.TRIAL
) -> list[Any]:
    workload = workload_from_ir(programs.ir_json(programs.scale(64)))
    batch = wire.BatchWire(
        workload=convert.workload_to_wire(workload),
        target=GPU.as_dict(),
        purpose=purpose,
        candidates=[convert.candidate_to_wire(item) for item in candidates],
    )
    command = {"command": "measure", "seed": 1, "batch": batch.model_dump(mode="json")}
    assert host.stdout is not None
    send(host, command)
    results = {}
    while (answer := json.loads(host.stdout.readline()))["answer"] != "end":
        view = wire.ResultWire.model_validate(answer["result"])
        results[answer["place"]] = convert.result_from_wire(view)
        send(host, {"command": "next"})
    return [results[place] for place in range(len(candidates))]


def test_what_a_first_call_takes_makes_no_candidate_hopeless(host):
    """The driver loads code then; and one call alone is timed with its start by the host."""
    first, second = measured(host, *map(kernel, ("loaded", "loaded")))
    assert first.censored_secs is None
    assert second.censored_secs is None
    assert second.latency_secs < 2e-4


def test_an_error_that_sticks_to_a_context_ends_its_child_alone(host):
    before, illegal, aborted, after = measured(
        host, *map(kernel, ("copy", "illegal", "abort", "copy"))
    )
    assert illegal.failure.kind is FailureKind.RUN_ERROR
    assert "illegal memory access" in illegal.failure.detail
    assert aborted.failure.kind is FailureKind.RUN_ERROR
    assert "SIGABRT" in aborted.failure.detail
    assert before.failure is after.failure is None


def test_too_little_memory_is_a_failure_of_its_own_kind(host):
    [result] = measured(host, kernel("no_memory"))
    assert result.failure.kind is FailureKind.OUT_OF_MEMORY
    assert "out of memory" in result.failure.detail


def test_what_is_timed_under_throttling_is_timed_again_and_both_are_said(host):
    throttled, calm = measured(host, kernel("throttled"), kernel("copy"))
    assert throttled.conditions["timings"] == 3
    assert throttled.conditions["sm_mhz_after"] == 1980
    assert "throttle" not in throttled.conditions
    assert "timings" not in calm.conditions
    assert calm.conditions["registers_per_thread"] == 32


def test_conditions_join_the_environment_of_the_record(host):
    [result] = measured(host, kernel("copy"))
    environment = Environment(facts={"device": "NVIDIA H100"}).under(result.conditions)
    assert environment.facts["device"] == "NVIDIA H100"
    assert environment.facts["sm_mhz_after"] == 1980


def test_a_gpus_output_is_compared_with_the_program_on_the_cpu(host):
    default, wrong = measured(host, default_candidate(), kernel("wrong"), purpose=Purpose.FINAL)
    assert default.verification.reference == "unscheduled"
    assert default.verification.passed
    assert wrong.failure.kind is FailureKind.WRONG_OUTPUT


def test_a_gpu_that_is_not_there_is_said_so():
    with (
        LocalMeasurer(device="cuda:63") as measurer,
        pytest.raises(UnavailableError, match=r"NVIDIA driver|cuda:63"),
    ):
        measurer.describe()


def test_a_gpu_has_no_reference_kernel_to_be_checked_by():
    assert LocalMeasurer(device="cuda:0").reference() is None
