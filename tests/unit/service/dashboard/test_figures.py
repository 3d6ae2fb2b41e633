from datetime import UTC, datetime, timedelta

import pytest

from service.dashboard import figures


@pytest.mark.parametrize(
    ("secs", "written"),
    [
        (1.224e-3, "1.22 ms"),
        (54e-6, "54.0 us"),
        (0.3121, "312 ms"),
        (0.99996, "1.00 s"),
        (2.5, "2.50 s"),
        (1500.0, "1,500 s"),
        (3.2e-9, "3.20 ns"),
        (None, figures.NOTHING),
    ],
)
def test_latencies_have_three_digits_and_one_unit(secs: float | None, written: str) -> None:
    assert figures.latency(secs) == written


def test_round_latencies_have_no_empty_digits() -> None:
    assert [figures.round_latency(secs) for secs in (5e-3, 1.35e-3, 1.0, 0.0)] == [
        "5 ms",
        "1.35 ms",
        "1 s",
        "0 ns",
    ]


@pytest.mark.parametrize(
    ("secs", "written"),
    [
        (0.42, "0.4 s"),
        (12.4, "12 s"),
        (59.7, "1 min 00 s"),
        (3725, "1 h 02 min"),
        (3 * 86400, "3 d 0 h"),
    ],
)
def test_durations_are_as_exact_as_people_want(secs: float, written: str) -> None:
    assert figures.duration(secs) == written


def test_ages_round_to_one_unit() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    ages = [figures.age(now - timedelta(seconds=secs), now) for secs in (-3, 40, 600, 9000, 3e5)]
    assert ages == ["now", "40 s ago", "10 min ago", "2 h ago", "3 d ago"]


def test_intervals_name_a_unit_once() -> None:
    assert figures.interval(7.93e-6, 9.08e-6) == "7.93 \N{EN DASH} 9.08 us"
    assert figures.interval(9.9e-4, 1.02e-3) == "990 us \N{EN DASH} 1.02 ms"


def test_names_are_split_before_their_arguments() -> None:
    assert figures.name_parts("matmul(n=4, float32)") == ("matmul", "(n=4, float32)")
    assert figures.name_parts("main") == ("main", "")


def test_other_figures() -> None:
    assert figures.gflops(2.68e8, 1.22e-3) == "220 GFLOP/s"
    assert figures.gflops(0.0, 1.0) == figures.NOTHING
    assert figures.ratio(256.4) == "256x"
    assert [figures.percent(share) for share in (0, 0.0042, 0.5, 1)] == [
        "0 %",
        "0.4 %",
        "50 %",
        "100 %",
    ]
    assert [figures.operations(number) for number in (0, 256, 2.68e8)] == [
        "0 FLOP",
        "256 FLOP",
        "268 MFLOP",
    ]
    assert figures.size(3 * 2**20) == "3.00 MiB"
