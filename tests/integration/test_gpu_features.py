"""Features of the candidates of the default space for a GPU. Nothing is compiled."""

from math import log2

import numpy as np
import pytest

from cost_model.features import FEATURE_NAMES, extract
from cost_model.lowered import launches_of
from schedules.space import warpgroup_tile
from tests.integration.test_cuda_spaces import HOPPER, designs, tiles_in, workload

CASES = (
    ("matmul", {"n": 256, "m": 256, "k": 192}, "float32"),
    ("dense", {"n": 256, "m": 256, "k": 192}, "bfloat16"),
    ("softmax", {"m": 64, "n": 1000}, "float32"),
    ("layer_norm", {"m": 64, "n": 1024}, "float32"),
    ("gemv", {"m": 512, "k": 1024}, "float16"),
    ("gelu", {"m": 256, "n": 256}, "float32"),
)


@pytest.mark.parametrize(("op", "args", "dtype"), CASES)
def test_rows_are_finite_and_have_the_launch(op, args, dtype):
    item = workload(op, args, dtype)
    found = [applied.schedule for applied in designs(item, HOPPER) if applied]

    rows = extract(found, workload=item, target=HOPPER)

    assert np.isfinite(rows).all()
    for name in ("blocks", "threads_per_block", "block_read_bytes", "block_written_bytes"):
        assert (rows[:, FEATURE_NAMES.index(f"gpu_program.{name}")] > 0).all()


def test_tiles_of_one_product_are_told_apart():
    item = workload("matmul", {"n": 1024, "m": 1024, "k": 1024}, "float16")
    tiled = [applied for applied in designs(item, HOPPER) if applied and tiles_in(applied)]
    rows = extract([applied.schedule for applied in tiled], workload=item, target=HOPPER)
    column = {name: rows[:, place].tolist() for place, name in enumerate(FEATURE_NAMES)}

    assert len(tiled) > 3
    for place, applied in enumerate(tiled):
        [tile] = set(tiles_in(applied))
        assert column["gpu_program.tile_rows"][place] == pytest.approx(log2(1 + tile.rows))
        assert column["gpu_program.tile_columns"][place] == pytest.approx(log2(1 + tile.columns))
        assert column["gpu_program.tile_stages"][place] == pytest.approx(log2(1 + tile.stages))
        assert column["gpu_program.shared_bytes"][place] == pytest.approx(
            log2(1 + tile.shared_bytes)
        )
    kinds = ("tile_rows", "tile_columns", "tile_stages")
    assert len(set(zip(*(column[f"gpu_program.{kind}"] for kind in kinds), strict=True))) == len(
        tiled
    )
    assert len(set(column["gpu_program.waves"])) > 1
    assert len(set(column["gpu_program.block_read_bytes"])) > 1


def test_a_tile_reads_its_rows_and_columns_once():
    item = workload("matmul", {"n": 1024, "m": 1024, "k": 1024}, "float16")
    applied = next(found for found in designs(item, HOPPER) if found and tiles_in(found))
    [tile] = set(tiles_in(applied))

    [launch] = launches_of(applied.schedule.mod)

    assert launch.threads == warpgroup_tile.THREADS
    assert launch.global_bytes(written=False) == (
        launch.blocks * 2 * tile.depth * (tile.rows + tile.columns)
    )
    assert launch.global_bytes(written=True) == 2 * 1024 * 1024
