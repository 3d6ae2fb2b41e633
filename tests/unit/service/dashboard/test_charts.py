import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dashboard import charts, figures


@pytest.mark.parametrize(
    ("low", "high", "log", "labels"),
    [
        (0.0, 96.0, False, ["0", "20", "40", "60", "80"]),
        (1.1e-3, 1.3e-2, True, ["2 ms", "3 ms", "5 ms", "7 ms", "10 ms"]),
        (0.0, 3.0, False, ["0", "1", "2", "3"]),
    ],
)
def test_ticks_are_round(low: float, high: float, log: bool, labels: list[str]) -> None:
    scale = charts.across(low, high, log=log)
    write = figures.round_latency if log else figures.count
    assert [tick.label for tick in charts.ticks(scale, write, whole=not log)] == labels


def test_ticks_of_a_clock_are_round_minutes() -> None:
    ticks = charts.ticks(charts.across(0, 205), figures.duration, clock=True)
    assert [tick.label for tick in ticks] == [
        "0 s",
        "1 min 00 s",
        "2 min 00 s",
        "3 min 00 s",
    ]


@given(
    st.floats(1e-9, 1e3),
    st.floats(1.0, 1e6),
    st.booleans(),
)
def test_any_scale_has_some_ticks_within_it(low: float, factor: float, log: bool) -> None:
    scale = charts.down(low, low * factor, log=log)
    ticks = charts.ticks(scale, figures.round_latency)
    assert 1 <= len(ticks) <= 14
    assert all(0 <= tick.place <= charts.HEIGHT for tick in ticks)


def test_a_curve_of_steps_holds_its_value_to_the_end() -> None:
    x = charts.Scale(low=0, high=10, begin=0, end=100)
    y = charts.Scale(low=0, high=1, begin=100, end=0)
    assert charts.steps([(0, 1.0), (5, 0.5)], x, y, 10) == "M0.0 0.0H500.0V50.0H1000.0"
    assert charts.steps([], x, y, 10) == ""


def test_shares_fill_the_bar() -> None:
    segments = charts.shares([("a", "a", 3.0), ("b", "b", 0.0), ("c", "c", 1.0)], figures.duration)
    assert [(one.begin, one.width) for one in segments] == [(0.0, 75.0), (75.0, 0.0), (75.0, 25.0)]
