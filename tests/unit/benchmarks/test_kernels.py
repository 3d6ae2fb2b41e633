"""The kernel benchmark's cases are real workloads; its keys say what is missing."""

from typing import Any

import pytest

from schedules.detect import native_target
from tests.benchmarks import bench_kernels
from tests.benchmarks.kernels import peak
from tests.benchmarks.kernels.cases import FLOAT32, LOW, PEAK_CASES, STOCK_1000, cases, quick_cases
from tests.benchmarks.kernels.fused import FUSED
from tests.benchmarks.kernels.workloads import workload_of

KEYS = {
    "vs_torch_geomean",
    "vs_torch_min",
    "vs_stock64_geomean",
    "vs_stock1000_geomean",
    "lowp_vs_onednn_geomean",
    "matmul_peak_fraction",
}


def found(name: str, group: str, times: dict[str, float], *, verified: bool = True) -> Any:
    return {
        "name": name,
        "group": group,
        "flops": 1e9,
        "verified": verified,
        "times": times,
        "notes": [],
    }


def test_names_are_unique_and_the_lists_name_cases() -> None:
    names = [case.name for case in cases()]
    assert len(names) == len(set(names))
    assert {*STOCK_1000, *PEAK_CASES} <= set(names)
    assert {case.name for case in quick_cases()} <= set(names)
    assert sum(case.group == FLOAT32 for case in cases()) == 53
    assert len(FUSED) == 10


@pytest.mark.parametrize("name", [*FUSED, "SFM 512 512", "C2D 1 56 56 64 64 1 bfloat16"])
def test_a_case_is_a_workload(name: str) -> None:
    assert workload_of(name).flops > 0


def test_ratios_are_against_the_better_of_pytorchs_two_times() -> None:
    times = {"ours": 1.0, "eager": 3.0, "compiled": 2.0, "stock64": 4.0}
    keys = bench_kernels._keys([found("a", FLOAT32, times)])
    assert keys["vs_torch_geomean"] == pytest.approx(2.0)
    assert keys["vs_stock64_geomean"] == pytest.approx(4.0)


def test_a_products_speed_is_a_part_of_the_peak_that_was_timed_beside_it() -> None:
    flops = peak.flops(native_target())
    times = {"ours": 4.0, "peak": flops / 1e9}
    keys = bench_kernels._keys([found("a", FLOAT32, times)])
    assert keys["peak_gflops"] == pytest.approx([1.0])
    assert keys["matmul_peak_fraction"] == pytest.approx(0.25)


def test_what_was_not_measured_is_null() -> None:
    keys = bench_kernels._keys([])
    assert keys.keys() >= KEYS
    assert all(keys[name] is None for name in KEYS)


def test_an_unverified_best_counts_for_nothing() -> None:
    times = {"ours": 1.0, "eager": 3.0}
    keys = bench_kernels._keys([found("a", LOW, times, verified=False)])
    assert keys["lowp_vs_onednn_geomean"] is None
    assert keys["unverified"] == ["a"]
