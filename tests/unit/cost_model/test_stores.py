import numpy as np
import numpy.typing as npt
import pytest

from cost_model.columns import (
    DOMINANT_COLUMNS,
    LARGEST_COLUMNS,
    SHARE_COLUMNS,
    STORE_COLUMNS,
    TOTAL_COLUMNS,
)
from cost_model.stores import pool

POOLED_COLUMNS = (
    *(f"total.{name}" for name in TOTAL_COLUMNS),
    *(f"share.{name}" for name in SHARE_COLUMNS),
    *(f"largest.{name}" for name in LARGEST_COLUMNS),
    *(f"dominant.{name}" for name in DOMINANT_COLUMNS),
)


def store(**amounts: float) -> npt.NDArray[np.float64]:
    row = np.zeros(len(STORE_COLUMNS))
    for name, amount in amounts.items():
        row[STORE_COLUMNS.index(name.replace("__", "."))] = np.log2(1.0 + amount)
    return row


def pooled(*stores: npt.NDArray[np.float64]) -> dict[str, float]:
    matrix = np.array(stores).reshape(len(stores), len(STORE_COLUMNS))
    return dict(zip(POOLED_COLUMNS, pool(matrix).tolist(), strict=True))


UPDATE = store(
    arithmetic__float_mul=1000,
    arithmetic__float_add_sub=1000,
    outer__extent=1000,
    outer__loops=4,
    buffer0__bytes=300,
    buffer1__bytes=200,
    parallel__count=1,
    vectorize__count=1,
)
COPY = store(outer__extent=1000, buffer0__bytes=500, parallel__count=1)


def test_store_columns_are_as_many_as_tvm_has_and_distinct() -> None:
    assert len(STORE_COLUMNS) == len(set(STORE_COLUMNS)) == 164


def test_amounts_add_up_over_stores_and_buffers() -> None:
    columns = pooled(UPDATE, COPY)

    assert columns["total.bytes"] == pytest.approx(np.log2(1 + 300 + 200 + 500))
    assert columns["total.arithmetic.float_mul"] == pytest.approx(np.log2(1 + 1000))


def test_the_dominant_store_is_the_one_with_the_most_work_in_any_order() -> None:
    assert pooled(UPDATE, COPY) == pooled(COPY, UPDATE)
    assert pooled(COPY, UPDATE)["dominant.outer.loops"] == pytest.approx(np.log2(1 + 4))


def test_the_largest_of_all_stores_is_seen_beside_the_dominant_one() -> None:
    tail = store(outer__extent=10, vectorize__extent=16, allocation__bytes=64)

    columns = pooled(UPDATE, tail)

    assert columns["dominant.allocation.bytes"] == 0
    assert columns["largest.allocation.bytes"] == pytest.approx(np.log2(1 + 64))
    assert columns["largest.vectorize.extent"] == pytest.approx(np.log2(1 + 16))
    assert columns["largest.outer.extent"] == pytest.approx(np.log2(1 + 1000))


def test_shares_are_weighted_by_work() -> None:
    columns = pooled(UPDATE, COPY)

    assert columns["share.parallel"] == pytest.approx(1.0)
    assert columns["share.vectorize"] == pytest.approx(3000 / 4000)
    assert columns["share.unroll"] == 0.0


def test_a_copy_that_computes_nothing_has_work() -> None:
    assert pooled(COPY)["share.parallel"] == pytest.approx(1.0)


def test_unrolling_counts_both_explicit_and_by_pragma() -> None:
    by_pragma = store(outer__extent=10, outer__unroll_step=64)
    explicit = store(outer__extent=10, unroll__count=1)

    assert pooled(by_pragma, explicit, COPY)["share.unroll"] == pytest.approx(20 / 1020)


def test_values_that_are_not_finite_count_as_zero() -> None:
    broken = UPDATE.copy()
    broken[STORE_COLUMNS.index("allocation.bytes")] = np.nan
    broken[STORE_COLUMNS.index("buffer0.bytes")] = np.inf

    columns = pooled(broken)

    assert np.isfinite(list(columns.values())).all()
    assert columns["dominant.allocation.bytes"] == 0.0


def test_no_stores_are_zeros() -> None:
    assert set(pooled().values()) == {0.0}
