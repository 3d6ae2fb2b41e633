"""Every fault, a few times; `make chaos` injects them in full."""

from pathlib import Path

import pytest

from tests.chaos.fault import Fault
from tests.chaos.registry import FAULTS


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "fault",
    [fault for fault in FAULTS if fault.shrunk],
    ids=lambda fault: fault.name.replace(" ", "-"),
)
def test_nothing_is_lost_doubled_or_stuck(fault: Fault, tmp_path: Path) -> None:
    outcome = fault.run(fault.shrunk, tmp_path)
    assert outcome.passed, outcome
