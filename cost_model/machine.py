"""What the analytical features take a target's hardware for.

A target names an instruction set and a number of cores, not a clock or a cache; of a GPU it names
the architecture only. The constants here are round numbers of current hardware; what they leave out
is the same for all candidates of a target, and the trees learn it from the target's columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

CLOCK_HZ = 3.0e9
_FLOPS_PER_LANE = 4.0
"""Of one cycle: two fused multiply-adds."""
_CORE_BYTES_PER_SEC = 12.0e9
_SOCKET_BYTES_PER_SEC = 200.0e9


@dataclass(frozen=True, kw_only=True)
class Multiprocessor:
    """What can be resident on one multiprocessor of a GPU at a time.

    Attributes
    ----------
    warps, blocks : int
        Of 32 threads, and of thread blocks.
    shared_bytes : int
        Shared memory of all its blocks, with what the system reserves of it for each.
    registers : int
        Of 4 bytes, of all threads.
    """

    warps: int
    blocks: int
    shared_bytes: int
    registers: int = 64 * 2**10


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
    matrix_flops_per_sec : float or None
        Peak of the matrix units for 2-byte operands; None where narrow operands only fill more
        lanes.
    multiprocessor : Multiprocessor or None
        The limits of a GPU's; None for a CPU.
    """

    cores: int
    vector_bytes: int
    registers: int
    flops_per_sec: float
    bytes_per_sec: float
    cache_bytes: tuple[int, int, int]
    matrix_flops_per_sec: float | None = None
    multiprocessor: Multiprocessor | None = None

    @property
    def register_bytes(self) -> int:
        """Size of one core's vector registers together."""
        return self.vector_bytes * self.registers

    def peak_flops_per_sec(self, element_bytes: float) -> float:
        """Return the peak for operands of a size: narrower ones fill more lanes."""
        if self.matrix_flops_per_sec is not None and element_bytes <= 2.0:
            return self.matrix_flops_per_sec * 2.0 / max(element_bytes, 1.0)
        return self.flops_per_sec * 4.0 / max(element_bytes, 1.0)

    def roofline_secs(self, flops: float, size_bytes: float, element_bytes: float) -> float:
        """Return the least time that so much arithmetic and traffic can take.

        Parameters
        ----------
        flops, size_bytes : float
            Arithmetic operations, and bytes moved at least.
        element_bytes : float
            Size of an operand.

        Source: Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model
        for Multicore Architectures", Communications of the ACM 52(4), 2009.
        """
        peak = self.peak_flops_per_sec(element_bytes)
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


@dataclass(frozen=True, kw_only=True)
class _Architecture:
    """A GPU's architecture as its usual card has it; fields as in `Machine`."""

    multiprocessors: int
    flops_per_sec: float
    matrix_flops_per_sec: float
    bytes_per_sec: float
    l2_bytes: int
    multiprocessor: Multiprocessor


# By compute capability: A100, GeForce RTX 3090, GeForce RTX 4090, H100 SXM.
# Source: NVIDIA's architecture white papers of these cards; CUDA C++ Programming Guide, "Compute
# Capabilities", for what a multiprocessor holds.
_ARCHITECTURES: Mapping[tuple[int, int], _Architecture] = MappingProxyType(
    {
        (8, 0): _Architecture(
            multiprocessors=108,
            flops_per_sec=19.5e12,
            matrix_flops_per_sec=312.0e12,
            bytes_per_sec=1.5e12,
            l2_bytes=40 * 2**20,
            multiprocessor=Multiprocessor(warps=64, blocks=32, shared_bytes=164 * 2**10),
        ),
        (8, 6): _Architecture(
            multiprocessors=82,
            flops_per_sec=35.6e12,
            matrix_flops_per_sec=142.0e12,
            bytes_per_sec=0.94e12,
            l2_bytes=6 * 2**20,
            multiprocessor=Multiprocessor(warps=48, blocks=16, shared_bytes=100 * 2**10),
        ),
        (8, 9): _Architecture(
            multiprocessors=128,
            flops_per_sec=82.6e12,
            matrix_flops_per_sec=330.0e12,
            bytes_per_sec=1.0e12,
            l2_bytes=72 * 2**20,
            multiprocessor=Multiprocessor(warps=48, blocks=24, shared_bytes=100 * 2**10),
        ),
        (9, 0): _Architecture(
            multiprocessors=132,
            flops_per_sec=67.0e12,
            matrix_flops_per_sec=989.0e12,
            bytes_per_sec=3.3e12,
            l2_bytes=50 * 2**20,
            multiprocessor=Multiprocessor(warps=64, blocks=32, shared_bytes=228 * 2**10),
        ),
    }
)
_WARP_REGISTER_BYTES = 32 * 4
_L1_BYTES = 128 * 2**10


def gpu(capability: tuple[int, int], *, l2_bytes: int | None = None) -> Machine:
    """Return a GPU.

    Parameters
    ----------
    capability : tuple of int
        Major and minor number of its architecture. One that is not known here counts as the newest
        known one that is not newer, or the oldest.
    l2_bytes : int or None
        Size of its second cache; the architecture's by default.
    """
    nearest = max(
        (known for known in _ARCHITECTURES if known <= capability), default=min(_ARCHITECTURES)
    )
    found = _ARCHITECTURES[nearest]
    registers = found.multiprocessor.registers * 4 // _WARP_REGISTER_BYTES
    return Machine(
        cores=found.multiprocessors,
        vector_bytes=_WARP_REGISTER_BYTES,
        registers=registers,
        flops_per_sec=found.flops_per_sec,
        bytes_per_sec=found.bytes_per_sec,
        # The second level is the register file, which holds more than the first.
        cache_bytes=(_L1_BYTES, registers * _WARP_REGISTER_BYTES, l2_bytes or found.l2_bytes),
        matrix_flops_per_sec=found.matrix_flops_per_sec,
        multiprocessor=found.multiprocessor,
    )
