import math

import pytest

from cost_model.loop_nest import LOOP_COLUMNS, Axis, Loop, summarise


def described(*loops: Loop, cores: int = 4) -> dict[str, float]:
    return dict(zip(LOOP_COLUMNS, summarise(loops, cores), strict=True))


def last(extent: int, *, parallel: bool = False) -> Loop:
    return Loop(extent=extent, axis=Axis.LAST, parallel=parallel)


def other(extent: int, *, parallel: bool = False) -> Loop:
    return Loop(extent=extent, axis=Axis.OTHER, parallel=parallel)


def reduce(extent: int) -> Loop:
    return Loop(extent=extent, axis=Axis.REDUCE)


# parallel | other, last | reduce | other, last: the usual tiling of a matmul.
MATMUL = (other(6, parallel=True), other(2), last(4), reduce(64), other(8), last(32))


def test_tiles_accumulate_from_the_innermost_loop_outwards() -> None:
    columns = described(*MATMUL)

    assert [columns[f"tile{depth}.last"] for depth in range(1, 6)] == [5, 5, 5, 7, 7]
    assert [columns[f"tile{depth}.other"] for depth in range(1, 6)] == [0, 3, 3, 3, 4]
    assert [columns[f"tile{depth}.reduce"] for depth in range(1, 6)] == [0, 0, 6, 6, 6]


def test_loops_of_one_iteration_do_not_matter() -> None:
    with_units = [loop for loop in MATMUL for loop in (loop, other(1), reduce(1))]

    assert summarise(with_units, 4) == summarise(MATMUL, 4)


@pytest.mark.parametrize(
    ("chunks", "cores", "utilisation"), [(1, 4, 0.25), (4, 4, 1.0), (3, 2, 0.75), (5, 4, 0.625)]
)
def test_core_utilisation_is_the_used_share_of_the_last_wave_too(
    chunks: int, cores: int, utilisation: float
) -> None:
    columns = described(other(chunks, parallel=True), last(8), cores=cores)

    assert columns["core_utilisation"] == pytest.approx(utilisation)
    assert columns["parallel"] == pytest.approx(math.log2(chunks))
    assert columns["parallel_per_core"] == pytest.approx(math.log2(chunks / cores))


def test_loops_over_fused_axes_take_a_place_but_count_for_no_axis() -> None:
    columns = described(last(2), Loop(extent=32, axis=Axis.FUSED), last(8))

    assert [columns[f"tile{depth}.last"] for depth in range(1, 6)] == [3, 3, 4, 4, 4]


def test_parallel_loops_are_not_part_of_a_tile() -> None:
    columns = described(other(16, parallel=True), last(8))

    assert columns["tile5.other"] == 0
    assert columns["parallel"] == 4


def test_a_chunk_says_which_axes_the_cores_divide() -> None:
    by_rows = described(other(2, parallel=True), last(2), other(7), reduce(64), last(32))
    by_columns = described(last(2, parallel=True), other(2), other(7), reduce(64), last(32))

    assert [by_rows[f"chunk.{axis}"] for axis in ("last", "reduce")] == [6, 6]
    assert by_rows["chunk.other"] == pytest.approx(math.log2(7))
    assert by_columns["chunk.last"] == 5
    assert by_columns["chunk.other"] == pytest.approx(math.log2(14))


def test_no_loops_are_described_too() -> None:
    columns = described(cores=1)

    assert columns.pop("core_utilisation") == 1.0
    assert set(columns.values()) == {0.0}
