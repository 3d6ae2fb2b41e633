"""What the analytical features take a target's hardware for.

A target names an instruction set and a number of cores, not a clock or a cache. The constants here
are round numbers of current hardware; what they leave out is the same for all candidates of a
target, and the trees learn it from the target's columns.
"""

from dataclasses import dataclass

CLOCK_HZ = 3.0e9
_FLOPS_PER_LANE = 4.0
"""Of one cycle: two fused multiply-adds."""
_CORE_BYTES_PER_SEC = 12.0e9
_SOCKET_BYTES_PER_SEC = 200.0e9


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One target's hardware, as far as the analytical features know it.

    Attributes
    ----------
    cores : int
        Cores, or multiprocessors of a GPU.
    vector_bytes, registers : int
        Width and number of one core's vector registers.
    flops_per_sec : float
        Peak of all cores for 4-byte operands.
    bytes_per_sec : float
        Memory bandwidth.
    cache_bytes : tuple of int
        What one core can use of the first, second and third level.
    """

    cores: int
    vector_bytes: int
    registers: int
    flops_per_sec: float
    bytes_per_sec: float
    cache_bytes: tuple[int, int, int]

    @property
    def register_bytes(self) -> int:
        """Size of one core's vector registers together."""
        return self.vector_bytes * self.registers

    def roofline_secs(self, flops: float, size_bytes: float, element_bytes: float) -> float:
        """Return the least time that so much arithmetic and traffic can take.

        Parameters
        ----------
        flops, size_bytes : float
            Arithmetic operations, and bytes moved at least.
        element_bytes : float
            Size of an operand: narrower ones fill more lanes.

        Source: Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model
        for Multicore Architectures", Communications of the ACM 52(4), 2009.
        """
        peak = self.flops_per_sec * 4.0 / max(element_bytes, 1.0)
        return max(flops / peak, size_bytes / self.bytes_per_sec, 1e-9)


def cpu(*, cores: int, vector_bits: int, registers: int) -> Machine:
    """Return a CPU."""
    lanes = vector_bits / 32
    return Machine(
        cores=cores,
        vector_bytes=vector_bits // 8,
        registers=registers,
        flops_per_sec=cores * CLOCK_HZ * lanes * _FLOPS_PER_LANE,
        bytes_per_sec=min(cores * _CORE_BYTES_PER_SEC, _SOCKET_BYTES_PER_SEC),
        cache_bytes=(32 * 2**10, 2**20, 32 * 2**20),
    )


GPU = Machine(
    cores=128,
    vector_bytes=128,
    registers=2048,
    flops_per_sec=50.0e12,
    bytes_per_sec=3.0e12,
    cache_bytes=(128 * 2**10, 256 * 2**10, 48 * 2**20),
)
