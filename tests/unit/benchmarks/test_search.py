"""The figures of `make bench-search`."""

from xml.etree import ElementTree

import pytest

from tests.benchmarks.report import geomean
from tests.benchmarks.search.curves import write_curves
from tests.benchmarks.search.runs import Best, Found, LateFailures, Run, Searches, Told, keep, read
from tests.benchmarks.search.tables import ARMS, curves, keys, tables

SEARCH = {
    "incumbents": [[2, "a"], [3, "lucky"], [5, "b"], [6, "failed"]],
    "wall_secs": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    "searching_secs": 0.6,
}
AGAIN = {"a": 2.0, "lucky": 2.5, "b": 1.0, "failed": None}


@pytest.fixture
def run() -> Run:
    return Run.measured_again(SEARCH, AGAIN)


def searches(secs: dict[str, float]) -> Searches:
    """Those whose only best came at the trial of their place."""
    runs = {
        name: Run(
            bests=(Best(trial=place, wall_secs=float(place), latency_secs=found),),
            trials=8,
            wall_secs=8.0,
            searching_secs=0.8,
        )
        for place, (name, found) in enumerate(secs.items(), start=1)
    }
    return Searches(runs=runs, corpus_trials=100)


def found(*of_seeds: dict[str, float], told: dict[str, float] | None = None) -> Found:
    """What was measured of one operator."""
    return Found(
        searches={("GMM", seed): searches(secs) for seed, secs in enumerate(of_seeds, start=1)},
        told={} if told is None else {("GMM", 1): Told(secs=told)},
        failing={},
    )


def test_only_what_is_faster_when_measured_again_is_a_new_best(run):
    assert [(best.trial, best.latency_secs) for best in run.bests] == [(2, 2.0), (5, 1.0)]
    assert [run.after(trials) for trials in (1, 2, 4, 5, 6)] == [None, 2.0, 2.0, 1.0, 1.0]
    assert (run.trials, run.wall_secs, run.final_secs) == (6, 6.0, 1.0)


def test_a_search_has_matched_a_goal_at_its_first_trial_that_is_as_fast(run):
    matches = [run.match(goal) for goal in (3.0, 1.97, 1.5, 0.5)]
    assert [match and match.trial for match in matches] == [2, 2, 5, None]


def test_one_that_never_matches_counts_with_all_of_its_trials():
    figures = keys(found({"warm": 1.0, "own": 3.0, "stock": 2.0, "random": 4.0}))

    assert figures["trials_ratio_warm"] == pytest.approx(8.0)
    assert figures["trials_ratio_cold"] == pytest.approx(1.0)
    assert (figures["never_matched_warm"], figures["never_matched"]) == (0, 1)
    assert figures["first8_vs_stock1000"] is None


def test_answers_stand_beside_the_long_search():
    told = {"warm early": 1.0, "predicted": 4.0, "stock long": 3.0}

    figures = keys(found(dict.fromkeys(ARMS, 2.0), told=told))

    assert figures["first8_vs_stock1000"] == pytest.approx(3.0)
    assert figures["zero_vs_stock1000"] == pytest.approx(0.75)
    assert figures["nearest_vs_stock1000"] is None


def test_curves_are_over_the_best_of_all_seeds():
    of_seeds = (dict.fromkeys(ARMS, secs) for secs in (2.0, 4.0))
    assert curves(found(*of_seeds), "GMM")["own"] == pytest.approx([2**0.5] * 8)


def test_what_was_measured_is_kept_and_read_and_a_newer_one_replaces_its_own(tmp_path, run):
    folder = tmp_path / "new"
    newer = Searches(runs=dict.fromkeys(ARMS, run), corpus_trials=9, long_trace="[[], []]")
    told = Told(secs={"stock long": 1.0, "predicted": 2.0})
    failing = LateFailures(shares={"samples": 0.3, "own": 0.1})
    for case, seed, kept in (
        ("GMM", 10, searches({})),
        ("GMM", 2, newer),
        ("GMM", 10, newer),
        ("GMM", 2, told),
        ("GMM", 10, failing),
        ("C1D", 2, newer),
    ):
        keep(folder, case, seed, kept)

    everything = read(folder, ["GMM", "SFM", "C1D"])

    assert list(everything.searches) == [("GMM", 2), ("GMM", 10), ("C1D", 2)]
    assert all(kept == newer for kept in everything.searches.values())
    assert everything.told == {("GMM", 2): told}
    assert everything.failing == {("GMM", 10): failing}
    assert [len(table.rows) for table in tables(everything, trials=6)] == [3, 1, 1, 8, 3]


def test_only_late_failures_count():
    run = {"wall_secs": [1.0] * 72, "failed": [1, 64, 65, 66], "failing_share": 0.3}
    short = {**run, "wall_secs": [1.0] * 64}
    counted = LateFailures.counted({"own": run, "stock": short})
    assert counted.shares == {"samples": 0.3, "own": 0.25}


def test_geomean():
    assert geomean([1.0, 4.0]) == pytest.approx(2.0)


def test_curves_are_a_picture_with_a_line_for_each_search(tmp_path):
    path = tmp_path / "new" / "GMM.svg"
    write_curves(path, "GMM", {"own": [3.0, 2.0, 1.0], "stock": [9.0, 3.0]})
    lines = ElementTree.parse(path).findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2
