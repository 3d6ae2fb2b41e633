from dataclasses import replace

import pytest
from pydantic import ValidationError

from schedules.records import MeasureResult
from tests.records import candidate, record
from tuner.client import convert, wire


@pytest.mark.parametrize(
    "body",
    [
        {"boot_id": "b", "run_secs": [1e-3]},
        {"boot_id": "b", "run_secs": [1e-3] * 1000, "failure": None},
        {"boot_id": "b", "run_secs": [], "failure": "killed by SIGILL"},
    ],
)
def test_checks_have_run_times_or_a_failure(body):
    assert wire.CheckRequest.model_validate(body).boot_id == "b"


@pytest.mark.parametrize(
    "body",
    [
        {"boot_id": "", "run_secs": [1e-3]},
        {"boot_id": "b" * 201, "run_secs": [1e-3]},
        {"boot_id": "b", "run_secs": []},
        {"boot_id": "b", "run_secs": [0.0]},
        {"boot_id": "b", "run_secs": [float("inf")]},
        {"boot_id": "b", "run_secs": [float("nan")]},
        {"boot_id": "b", "run_secs": [1e-3] * 1001},
    ],
)
def test_other_checks_are_refused(body):
    with pytest.raises(ValidationError):
        wire.CheckRequest.model_validate(body)


@pytest.mark.parametrize(
    "result",
    [
        MeasureResult(run_secs=(0.5, 0.6), censored_secs=0.5, build_secs=0.1),
        MeasureResult(run_secs=(1.0, 2.0), duplicate_of="a" * 64, conditions={"noise": "calm"}),
    ],
)
def test_bounds_and_pointers_cross_the_wire(result):
    assert convert.result_from_wire(convert.result_to_wire(result)) == result


def test_a_record_with_a_bound_crosses_the_wire():
    given_up = replace(
        record(candidate(1), 1.0), result=MeasureResult(run_secs=(0.5,), censored_secs=0.5)
    )
    assert convert.record_from_wire(convert.record_to_wire(given_up)).result == given_up.result
