from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schedules.records import FailureKind, Origin, Purpose
from service.dashboard import curves, pictures
from service.db.lines import FinalLine, StepLine, TrialLine

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def after(secs: float) -> datetime:
    return BEGAN + timedelta(seconds=secs)


def line(secs: float, latency_secs: float | None, **changes: Any) -> TrialLine:
    values: dict[str, Any] = {
        "record_id": f"r{secs}",
        "worker_id": "w",
        "purpose": Purpose.TRIAL,
        "origin": Origin.SEARCH,
        "predicted_score": None,
        "model_version": None,
        "latency_secs": latency_secs,
        "censored_secs": None,
        "duplicate_of": None,
        "build_secs": 0.1,
        "failure": None,
        "created_at": after(secs),
        "set_aside": False,
    }
    return TrialLine(**values | changes)


LINES = [
    line(1, 5e-3),
    line(2, None, failure=FailureKind.BUILD_ERROR),
    line(3, None, censored_secs=4e-2),
    line(4, 2e-3),
    line(5, 1e-3, set_aside=True),
    line(6, 3e-3, duplicate_of="x"),
    line(9, 1e-4, purpose=Purpose.FINAL),
]


def test_the_best_so_far_is_of_trials_that_count() -> None:
    trials = curves.numbered(LINES, BEGAN, done=6)
    assert [trial.kind for trial in trials] == [
        "ok",
        "failed",
        "slow",
        "ok",
        "ok",
        "same",
        "final",
    ]
    assert [trial.number for trial in trials] == [1, 2, 3, 4, 5, 6, 6]
    steps = [(step.number, step.elapsed_secs, step.secs) for step in curves.improvements(trials)]
    assert steps == [(1, 1.0, 5e-3), (4, 4.0, 2e-3)]
    assert curves.failures_by_kind(LINES) == {FailureKind.BUILD_ERROR: 1}


def test_trials_that_are_not_shown_keep_their_numbers() -> None:
    assert [trial.number for trial in curves.numbered(LINES[3:], BEGAN, done=100)][:2] == [98, 99]


def test_time_goes_to_waiting_trials_search_and_finals() -> None:
    steps = [
        StepLine(purpose=Purpose.TRIAL, queued_at=after(2), ended_at=after(10), records=8),
        StepLine(purpose=Purpose.TRIAL, queued_at=after(13), ended_at=after(20), records=8),
        StepLine(purpose=Purpose.FINAL, queued_at=after(20), ended_at=after(26), records=4),
    ]
    parts = curves.time_spent(steps, created_at=BEGAN, ended_at=after(27))
    assert {part.name: part.secs for part in parts} == {
        "start": 2.0,
        "trials": 15.0,
        "search": 3.0,
        "finals": 6.0,
        "end": 1.0,
    }
    waiting = curves.time_spent([], created_at=BEGAN, ended_at=after(5))
    assert [(part.name, part.secs) for part in waiting if part.secs] == [("start", 5.0)]


def test_each_job_adds_its_fastest_checked_final_to_the_history() -> None:
    def final(job: str, secs: float, at: float, **changes: Any) -> FinalLine:
        values: dict[str, Any] = {
            "record_id": f"{job}{secs}",
            "job_id": job,
            "origin": Origin.SEARCH,
            "run_secs": (secs,) * 5,
            "latency_secs": secs,
            "passed": True,
            "created_at": after(at),
        }
        return FinalLine(**values | changes)

    found = curves.history(
        [
            final("b", 1e-3, 30),
            final("a", 9e-3, 10, origin=Origin.DEFAULT),
            final("a", 2e-3, 11),
            final("a", 1e-4, 12, passed=False),
        ]
    )
    assert [(one.job_id, one.latency_secs, one.default_secs) for one in found] == [
        ("a", 2e-3, 9e-3),
        ("b", 1e-3, None),
    ]


def test_agreement_is_the_share_of_pairs_in_the_right_order() -> None:
    assert curves.agreement([3.0, 2.0, 1.0], [1.0, 2.0, None]) == 1.0
    assert curves.agreement([1.0, 2.0], [1.0, 2.0]) == 0.0
    assert curves.agreement([], []) is None


@pytest.mark.parametrize("by_time", [False, True])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("lines", [LINES, LINES[:1], LINES[1:2], [line(1, 1e-3)] * 3])
def test_every_trial_is_a_mark_inside_the_plot(
    lines: list[TrialLine], log: bool, by_time: bool
) -> None:
    trials = curves.numbered(lines, BEGAN, done=len(lines))
    chart = pictures.progress(trials, by_time=by_time, log=log, default_secs=1.0)
    assert chart is not None
    assert len(chart.marks) == len(lines)
    for mark in chart.marks:
        assert 0 <= mark.across <= 100
        assert 0 <= mark.down <= chart.height
    assert "further up" in "".join(key.label for key in chart.keys) or chart.lines
    assert pictures.progress((), by_time=by_time, log=log) is None
