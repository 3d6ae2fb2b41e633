import math

import pytest

from cost_model import machine
from cost_model.footprint import ANALYSIS_COLUMNS, Access, Dimension, Nest, analyse
from cost_model.loop_nest import Axis, Loop

MACHINE = machine.cpu(cores=2, vector_bits=512, registers=32)
SIZE = 256
FLOPS = 2.0 * SIZE**3


def access(*dimensions: tuple[tuple[int, int], ...], is_write: bool = False) -> Access:
    return Access(
        dimensions=tuple(Dimension(extent=SIZE, strides=strides) for strides in dimensions),
        element_bytes=4,
        is_write=is_write,
    )


MATMUL = (
    access(((0, 1),), ((2, 1),)),
    access(((2, 1),), ((1, 1),)),
    access(((0, 1),), ((1, 1),), is_write=True),
)


def nest(*loops: tuple[int, int], vectorized: int = 1, parallel: int = 1) -> Nest:
    """A matmul with loops given as (iterator, extent), outermost first."""
    axes = (Axis.OTHER, Axis.LAST, Axis.REDUCE)
    made = [
        Loop(extent=parallel, axis=Axis.OTHER, parallel=True),
        *(Loop(extent=extent, axis=axes[iterator]) for iterator, extent in loops),
        Loop(extent=vectorized, axis=Axis.LAST, vectorized=True),
    ]
    moved = [0, *(iterator for iterator, _ in loops), 1]
    return Nest(
        loops=tuple(made),
        iterators=tuple(frozenset([iterator]) for iterator in moved),
        extents=(SIZE, SIZE, SIZE),
        accesses=MATMUL,
    )


def described(loops: Nest) -> dict[str, float]:
    roofline_secs = MACHINE.roofline_secs(FLOPS, 3 * 4 * SIZE**2, 4)
    values = analyse(loops, MACHINE, flops=FLOPS, roofline_secs=roofline_secs, element_bytes=4)
    return dict(zip(ANALYSIS_COLUMNS, values, strict=True))


def test_what_the_inner_loops_touch_is_counted() -> None:
    # A 4 x 16 tile of the output, over 32 terms.
    found = described(nest((0, 64), (1, 16), (2, 8), (2, 32), (0, 4), vectorized=16))

    def over_l1(elements: int) -> float:
        return math.log2(4 * elements / MACHINE.cache_bytes[0])

    assert found["footprint1_over_l1"] == pytest.approx(over_l1(1 + 16 + 16))
    assert found["footprint2_over_l1"] == pytest.approx(over_l1(4 + 16 + 64))
    assert found["footprint3_over_l1"] == pytest.approx(over_l1(128 + 512 + 64))
    assert found["footprint4_over_l1"] == pytest.approx(over_l1(1024 + 4096 + 64))


def test_the_output_inside_the_reduction_is_what_registers_hold() -> None:
    fits = described(nest((0, 64), (1, 16), (2, 256), (0, 4), vectorized=16))
    spills = described(nest((0, 2), (1, 16), (2, 256), (0, 128), vectorized=16))
    no_tile = described(nest((0, 256), (1, 256), (2, 256)))

    assert fits["register_tile"] == pytest.approx(math.log2(4 * 64 / (32 * 64)))
    assert spills["register_tile"] > 0
    assert no_tile["register_tile"] < fits["register_tile"]


def test_a_good_schedule_is_bounded_closer_to_the_roofline() -> None:
    good = described(nest((0, 8), (1, 16), (2, 256), (0, 4), vectorized=16, parallel=8))
    one_core = described(nest((0, 64), (1, 16), (2, 256), (0, 4), vectorized=16))
    scalar = described(nest((0, 8), (1, 256), (2, 256), (0, 4), parallel=8))

    assert good["compute_over_roofline"] == pytest.approx(0.0)
    assert one_core["compute_over_roofline"] == pytest.approx(1.0)
    assert scalar["vector_use"] == pytest.approx(-4.0)
    assert good["bound"] < scalar["bound"]
    assert good["bound"] <= one_core["bound"]


def test_a_window_counts_its_overlap_once() -> None:
    image = Access(
        dimensions=(Dimension(extent=58, strides=((0, 2), (1, 1))),),
        element_bytes=4,
        is_write=False,
    )
    loops = (Loop(extent=8, axis=Axis.OTHER), Loop(extent=3, axis=Axis.REDUCE))
    found = described(
        Nest(
            loops=loops,
            iterators=(frozenset([0]), frozenset([1])),
            extents=(28, 3),
            accesses=(image,),
        )
    )

    # 8 places at a stride of 2, 3 taps each: 17 different elements.
    assert found["footprint2_over_l1"] == pytest.approx(math.log2(4 * 17 / MACHINE.cache_bytes[0]))


def test_no_loops_are_described_too() -> None:
    assert all(map(math.isfinite, described(Nest()).values()))
