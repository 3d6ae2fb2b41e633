from tuner.cli.curve import best_so_far, plot


def test_the_best_so_far_never_rises():
    assert best_so_far([None, 4.0, 5.0, None, 1.0]) == [None, 4.0, 4.0, 4.0, 1.0]


def test_nothing_is_drawn_of_nothing():
    assert plot([], width=40, height=5) == []
    assert plot([None, None], width=40, height=5) == []


def test_a_curve_falls_from_the_first_to_the_best():
    lines = plot([None, 1e-3, 2e-3, 1e-4, 1e-5], width=40, height=5)
    assert len(lines) == 6
    assert lines[0].split() == ["1", "ms", "|", "\u2588\u2588"]
    assert lines[-2].startswith("    10 us |")
    assert lines[-2].endswith("\u2581")
    assert lines[-1].split() == ["trial", "1", "5"]
    assert max(map(len, lines)) <= 40


def test_many_trials_share_columns():
    lines = plot([1.0 / (1 + number) for number in range(5000)], width=30, height=4)
    assert max(map(len, lines)) <= 30
    assert lines[-1].endswith("5000")


def test_one_trial_is_a_flat_curve():
    lines = plot([2e-3], width=40, height=3)
    assert "2 ms" in lines[-2]
