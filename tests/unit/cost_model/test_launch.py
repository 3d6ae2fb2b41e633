import math

import pytest

from cost_model import machine
from cost_model.launch import (
    LAUNCH_COLUMNS,
    IntrinsicAccess,
    Launch,
    Tile,
    WarpAccess,
    describe_launches,
    resident_blocks,
)

HOPPER = machine.gpu((9, 0))
LANES = range(32)


def access(
    *,
    stride: int = 1,
    width: int = 1,
    first: int = 0,
    element_bytes: int = 4,
    requests: int = 1,
    is_write: bool = False,
    is_shared: bool = False,
) -> WarpAccess:
    """A warp whose lanes take `width` elements each, `stride` elements apart."""
    return WarpAccess(
        requests=requests,
        lanes=tuple(tuple(first + lane * stride + part for part in range(width)) for lane in LANES),
        element_bytes=element_bytes,
        is_write=is_write,
        is_shared=is_shared,
    )


def described(*launches: Launch, flops: float = 0.0, of: machine.Machine = HOPPER):
    values = describe_launches(launches, of, flops=flops, element_bytes=4.0)
    return dict(zip(LAUNCH_COLUMNS, values, strict=True))


@pytest.mark.parametrize(
    ("found", "segments", "least"),
    [
        (access(), 4, 4),
        (access(stride=2), 8, 4),
        (access(stride=1024), 32, 4),
        (access(stride=0), 1, 1),
        (access(first=1), 5, 4),
        (access(element_bytes=2), 2, 2),
        (access(stride=4, width=4), 16, 16),
        (access(stride=64, width=4), 32, 16),
    ],
)
def test_segments_of_a_warp_are_counted(found: WarpAccess, segments: int, least: int) -> None:
    assert (found.segments, found.least_segments) == (segments, least)


@pytest.mark.parametrize(
    ("found", "degree"),
    [
        (access(), 1),
        (access(stride=0), 1),
        (access(stride=2), 2),
        (access(stride=32), 32),
        (access(stride=33), 1),
        # Two halves to a word, which is handed to both lanes.
        (access(element_bytes=2), 1),
        (access(stride=32, element_bytes=2), 16),
        # Eight lanes at a time, each with a sixteenth of a row of banks.
        (access(stride=4, width=4), 1),
        (access(stride=32, width=4), 8),
    ],
)
def test_words_of_one_bank_are_counted(found: WarpAccess, degree: int) -> None:
    assert found.conflict_degree == degree


@pytest.mark.parametrize(
    ("launch", "blocks"),
    [
        # By blocks, warps, shared memory with 1 KiB more for each, registers, and none at all.
        (Launch(blocks=1, threads=32), 32),
        (Launch(blocks=1, threads=1000), 2),
        (Launch(blocks=1, threads=128, shared_bytes=75 * 2**10), 3),
        (Launch(blocks=1, threads=256, local_bytes=4 * 128), 1),
        (Launch(blocks=1, threads=1024, local_bytes=4096), 1),
        (Launch(blocks=1, threads=256, shared_bytes=228 * 2**10), 0),
    ],
)
def test_what_a_multiprocessor_holds(launch: Launch, blocks: int) -> None:
    assert HOPPER.multiprocessor is not None
    assert resident_blocks(launch, HOPPER.multiprocessor) == blocks


def test_the_last_wave_counts_as_a_whole_one() -> None:
    # Two blocks on each of 132 multiprocessors at a time.
    found = described(Launch(blocks=300, threads=256, shared_bytes=100 * 2**10))

    assert found["resident_blocks"] == pytest.approx(math.log2(3))
    assert found["occupancy"] == 2 * 8 / 64
    assert found["waves"] == pytest.approx(math.log2(1 + 300 / 264))
    assert found["wave_utilisation"] == pytest.approx(300 / 528)
    assert found["multiprocessor_utilisation"] == pytest.approx(300 / 396)


def test_the_launch_with_the_most_traffic_is_described() -> None:
    small = Launch(blocks=1, threads=32, accesses=(access(requests=1),))
    large = Launch(
        blocks=4,
        threads=64,
        accesses=(
            access(requests=8),
            access(requests=8, stride=8),
            access(requests=8, is_write=True),
            access(requests=2, stride=2, is_shared=True),
            access(requests=6, is_shared=True),
        ),
        tile=Tile(rows=128, columns=64, stages=4),
    )
    found = described(small, large, flops=1.0e6)

    assert found["launches"] == pytest.approx(math.log2(3))
    assert found["blocks"] == pytest.approx(math.log2(5))
    assert found["warps_per_block"] == pytest.approx(math.log2(3))
    assert found["block_read_bytes"] == pytest.approx(math.log2(1 + 32 * 8 * (4 + 32) / 4))
    assert found["block_written_bytes"] == pytest.approx(math.log2(1 + 32 * 8 * 4 / 4))
    assert found["read_segments_over_least"] == pytest.approx(math.log2((4 + 32) / (4 + 4)))
    assert found["write_segments_over_least"] == 0
    assert found["shared_read_conflicts"] == pytest.approx(math.log2((2 * 2 + 6) / 8))
    assert found["shared_write_conflicts"] == 0
    asked_bytes = 32 * (4 + 8 * (4 + 32 + 4))
    assert found["flops_per_byte"] == pytest.approx(math.log2(1 + 1.0e6 / asked_bytes))
    assert found["intensity_over_balance"] == pytest.approx(
        math.log2(1.0e6 / asked_bytes / (67.0e12 / 3.3e12))
    )
    assert found["tile_rows"] == pytest.approx(math.log2(129))
    assert found["tile_columns"] == pytest.approx(math.log2(65))
    assert found["tile_stages"] == pytest.approx(math.log2(5))


def test_an_intrinsic_takes_whole_rows() -> None:
    found = IntrinsicAccess(requests=1, rows=16, row_bytes=40, is_write=False, is_shared=False)

    assert found.segments == found.least_segments == 32


def test_a_program_without_launches_has_zeros() -> None:
    assert set(described().values()) == {0.0}
    cpu = machine.cpu(cores=4, vector_bits=256, registers=16)
    assert set(described(Launch(blocks=1, threads=32), of=cpu).values()) == {0.0}


def test_a_launch_without_accesses_is_described_too() -> None:
    assert all(map(math.isfinite, described(Launch(blocks=1, threads=1)).values()))
