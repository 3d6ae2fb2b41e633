import pytest

from cost_model import machine


@pytest.mark.parametrize(
    ("capability", "multiprocessors"),
    [((7, 5), 108), ((8, 0), 108), ((8, 7), 82), ((8, 9), 128), ((9, 0), 132), ((12, 0), 132)],
)
def test_a_gpu_is_known_by_the_nearest_architecture(
    capability: tuple[int, int], multiprocessors: int
) -> None:
    assert machine.gpu(capability).cores == multiprocessors


def test_the_second_cache_is_the_targets_where_it_says() -> None:
    assert machine.gpu((9, 0)).cache_bytes[-1] == 50 * 2**20
    assert machine.gpu((9, 0), l2_bytes=30 * 2**20).cache_bytes[-1] == 30 * 2**20


def test_narrow_operands_have_matrix_units_on_a_gpu_only() -> None:
    cpu = machine.cpu(cores=1, vector_bits=256, registers=16)
    gpu = machine.gpu((8, 0))

    assert cpu.peak_flops_per_sec(2.0) == 2 * cpu.peak_flops_per_sec(4.0)
    assert gpu.peak_flops_per_sec(4.0) == 19.5e12
    assert gpu.peak_flops_per_sec(2.0) == 312.0e12
    assert gpu.peak_flops_per_sec(1.0) == 624.0e12
