import subprocess
import sys

import pytest

from cost_model.gates import failed_gates

GOOD = {
    "shape.pairwise_accuracy": 0.8,
    "shape.top_8_recall": 0.9,
    "operator.pairwise_accuracy": 0.7,
    "shape.interval_coverage": 0.5,
}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "better on no gate"),
        ({"shape.pairwise_accuracy": 0.81}, None),
        ({"shape.pairwise_accuracy": 0.9, "operator.pairwise_accuracy": 0.69}, "operator"),
        ({"shape.top_8_recall": 0.5}, "shape.top_8_recall is 0.500 and has to be at least 0.900"),
        # It decides nothing.
        ({"shape.interval_coverage": 0.1, "shape.top_8_recall": 0.95}, None),
    ],
)
def test_a_version_has_to_be_better_and_nowhere_worse(
    changes: dict[str, float], reason: str | None
) -> None:
    reasons = failed_gates(GOOD | changes, GOOD)

    assert bool(reasons) == (reason is not None)
    assert (reason or "") in "; ".join(reasons)


def test_the_first_version_has_to_be_better_than_chance() -> None:
    assert failed_gates(GOOD, None) == []
    assert failed_gates({"shape.pairwise_accuracy": 0.45}, None)


def test_what_the_present_version_cannot_be_judged_on_does_not_count_against_it() -> None:
    present = {"shape.pairwise_accuracy": 0.7}

    assert failed_gates(GOOD, present) == []


def test_a_version_that_nothing_judges_is_not_promoted() -> None:
    assert "held out" in failed_gates({"shape.interval_coverage": 0.9}, None)[0]


def test_gates_need_neither_xgboost_nor_tvm() -> None:
    program = (
        "import sys\n"
        "import cost_model.gates, cost_model.versions, cost_model.held_out\n"
        "sys.exit(bool({'tvm', 'xgboost'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
