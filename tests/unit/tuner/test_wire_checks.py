import pytest
from pydantic import ValidationError

from tuner.client import wire


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
