"""The figures of `make bench-search`."""

from xml.etree import ElementTree

import pytest

from tests.benchmarks.bench_search import fastest_so_far, geomean, matched_at
from tests.benchmarks.search.curves import write_curves


def test_a_search_has_matched_a_goal_at_its_first_trial_that_is_as_fast():
    run = {"best_secs": [None, 4.0, 4.0, 2.0, 1.0]}
    assert matched_at(run, 4.0) == 2
    assert matched_at(run, 3.0) == 4
    assert matched_at(run, 0.5) is None


def test_after_each_trial_a_search_has_the_fastest_of_its_incumbents_when_measured_again():
    run = {"incumbents": [(2, "a"), (3, "lucky"), (5, "b")], "wall_secs": [1.0] * 6}

    secs = fastest_so_far(run, {"a": 2.0, "lucky": 2.5, "b": 1.0})

    assert secs == [None, 2.0, 2.0, 2.0, 1.0, 1.0]


def test_geomean():
    assert geomean([1.0, 4.0]) == pytest.approx(2.0)


def test_curves_are_a_picture_with_a_line_for_each_search(tmp_path):
    path = tmp_path / "new" / "GMM.svg"
    write_curves(path, "GMM", {"own": [3.0, 2.0, 1.0], "stock": [9.0, 3.0]})
    lines = ElementTree.parse(path).findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2
