"""Candidates of which a tenth crash, hang or never finish compiling, on the real bench."""

import pytest

from tests.benchmarks.measure import faulty

pytestmark = pytest.mark.alone


def test_bad_candidates_cost_themselves_only_and_leave_nothing_behind():
    found = faulty.measure(61)
    assert found["failures"] == found["expected"]
    assert found["measured"] == 61 - sum(found["expected"].values())
    assert found["left"] == {"children": [], "descriptors": [], "files": []}
    assert found["grown_mb"] < 50
