"""What a GPU's multiprocessors and memory make of one program.

A program is a sequence of launches of thread blocks. What decides their time is how many blocks are
resident together, how full the last wave of them is, and how many transactions the accesses of a
warp take: segments of 32 bytes in global memory, wavefronts over 32 banks in shared memory. All of
it is counted for the first warp of the first block, as the others differ by an offset.

Source: NVIDIA, "CUDA C++ Best Practices Guide", sections "Coalesced Access to Global Memory",
"Shared Memory and Memory Banks" and "Calculating Occupancy".
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, log2

from cost_model.loop_nest import core_utilisation
from cost_model.machine import Machine, Multiprocessor

WARP = 32
SEGMENT_BYTES = 32
BANKS = 32
_BANK_BYTES = 4
_LANE_BYTES = 16
"""What one lane can load or store at once."""
_RESERVED_SHARED_BYTES = 2**10
"""What the system takes of each block's share, from compute capability 8.0 on."""
# Registers are given out by the compiler. A thread needs some for addresses and counters beside
# the buffers that the program keeps in them; what is beyond the most spills.
_OTHER_REGISTERS = 32
_MOST_REGISTERS = 255

LAUNCH_COLUMNS: tuple[str, ...] = (
    *("launches", "blocks", "threads_per_block", "warps_per_block"),
    *("resident_blocks", "occupancy", "waves", "wave_utilisation", "multiprocessor_utilisation"),
    *("shared_bytes", "local_bytes", "block_read_bytes", "block_written_bytes"),
    *("read_segments_over_least", "write_segments_over_least"),
    *("shared_read_conflicts", "shared_write_conflicts"),
    *("flops_per_byte", "intensity_over_balance"),
    *("tile_rows", "tile_columns", "tile_stages"),
)
"""Names of what `describe_launches` returns."""


@dataclass(frozen=True, kw_only=True)
class WarpAccess:
    """A load or store by the lanes of a warp.

    Attributes
    ----------
    requests : int
        How often some warp does it in the launch.
    lanes : tuple of tuple of int
        For each lane, at which places of the buffer its elements are; at least one.
    element_bytes : int
        Size of an element.
    is_write, is_shared : bool
        Whether it stores, and whether the buffer is in shared memory and not in global memory.
    """

    requests: int
    lanes: tuple[tuple[int, ...], ...]
    element_bytes: int
    is_write: bool
    is_shared: bool

    @cached_property
    def segments(self) -> int:
        """Segments of global memory that one request touches."""
        return len(self._units(self.lanes, SEGMENT_BYTES))

    @cached_property
    def least_segments(self) -> int:
        """Segments that would do if the elements were next to each other."""
        elements = len({place for lane in self.lanes for place in lane})
        return ceil(elements * self.element_bytes / SEGMENT_BYTES)

    @cached_property
    def conflict_degree(self) -> float:
        """How many different words of one bank are asked for at a time, on average; at least 1.

        Lanes of 8 and 16 bytes take turns by halves and quarters of a warp.
        """
        lane_bytes = min(_LANE_BYTES, len(self.lanes[0]) * self.element_bytes)
        together = WARP * _BANK_BYTES // max(_BANK_BYTES, lane_bytes)
        turns = [
            self._words_of_one_bank(self.lanes[first : first + together])
            for first in range(0, len(self.lanes), together)
        ]
        return sum(turns) / len(turns)

    def _words_of_one_bank(self, lanes: Sequence[Sequence[int]]) -> int:
        words = self._units(lanes, _BANK_BYTES)
        return max(Counter(word % BANKS for word in words).values())

    def _units(self, lanes: Sequence[Sequence[int]], unit_bytes: int) -> set[int]:
        return {place * self.element_bytes // unit_bytes for lane in lanes for place in lane}


@dataclass(frozen=True, kw_only=True)
class IntrinsicAccess:
    """What a tensor intrinsic loads or stores: whole rows, in an order that suits the memory.

    Attributes
    ----------
    requests : int
        How often the intrinsic runs in the launch.
    rows, row_bytes : int
        Number and size of the contiguous parts.
    is_write, is_shared : bool
        As of a `WarpAccess`.
    """

    requests: int
    rows: int
    row_bytes: int
    is_write: bool
    is_shared: bool

    @property
    def segments(self) -> int:
        """Segments of global memory that one run touches."""
        return self.rows * ceil(self.row_bytes / SEGMENT_BYTES)

    @property
    def least_segments(self) -> int:
        """Segments that would do."""
        return self.segments

    @property
    def conflict_degree(self) -> float:
        """Words of one bank at a time."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Tile:
    """The part of a matrix product that a block computes by a tensor intrinsic.

    Attributes
    ----------
    rows, columns : int
        Of the output.
    stages : int
        Slices of the operands in shared memory at a time.
    """

    rows: int
    columns: int
    stages: int


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One grid of thread blocks.

    Attributes
    ----------
    blocks, threads : int
        In the grid, and in each block.
    shared_bytes : int
        Shared memory of a block: all its buffers, as if none took the place of another.
    local_bytes : int
        Of the buffers that a thread keeps in registers.
    accesses : tuple of WarpAccess or IntrinsicAccess
        Of global and shared memory.
    tile : Tile or None
        Of its tensor intrinsic, where that names one.
    """

    blocks: int
    threads: int
    shared_bytes: int = 0
    local_bytes: int = 0
    accesses: tuple[WarpAccess | IntrinsicAccess, ...] = ()
    tile: Tile | None = None

    @property
    def warps(self) -> int:
        """Warps of a block."""
        return ceil(self.threads / WARP)

    def global_bytes(self, *, written: bool) -> int:
        """Bytes of the segments that all blocks read or write."""
        return SEGMENT_BYTES * sum(
            access.requests * access.segments
            for access in self.accesses
            if not access.is_shared and access.is_write is written
        )


def resident_blocks(launch: Launch, multiprocessor: Multiprocessor) -> int:
    """Return how many blocks one multiprocessor holds at a time; 0 where one is too large.

    Registers are known only after compiling. They are estimated by the buffers that threads keep;
    what is beyond those that one block can have spills.
    """
    registers = min(_MOST_REGISTERS, _OTHER_REGISTERS + ceil(launch.local_bytes / 4))
    return min(
        multiprocessor.blocks,
        multiprocessor.warps // launch.warps,
        multiprocessor.shared_bytes // (launch.shared_bytes + _RESERVED_SHARED_BYTES),
        max(1, multiprocessor.registers // (registers * WARP * launch.warps)),
    )


def describe_launches(
    launches: Sequence[Launch], machine: Machine, *, flops: float, element_bytes: float
) -> list[float]:
    """Describe a program by its launch with the most traffic through global memory.

    Parameters
    ----------
    launches : sequence of Launch
        None for a program of a CPU.
    machine : Machine
        The target's hardware.
    flops, element_bytes : float
        Of the workload; see `Machine.roofline_secs`.

    Returns
    -------
    list of float
        One value for each of `LAUNCH_COLUMNS`; zeros where there are no launches:

        ``launches``, ``blocks``, ``threads_per_block``, ``warps_per_block``
            log2 of one more than there are.
        ``resident_blocks``, ``occupancy``
            log2 of one more than the blocks that a multiprocessor holds at a time, and their warps
            over the most that it could hold.
        ``waves``, ``wave_utilisation``
            log2(1 + blocks over those that all multiprocessors hold at a time), and which share of
            the places is used when the last, partial wave counts as a whole one.
        ``multiprocessor_utilisation``
            The share of the multiprocessors' time that is used if each takes a block after the
            other: below a wave, blocks are spread over all of them.
        ``shared_bytes``, ``local_bytes``
            log2(1 + bytes of a block, of a thread).
        ``block_read_bytes``, ``block_written_bytes``
            log2(1 + bytes of the segments of global memory that a block asks for).
        ``<read or write>_segments_over_least``
            log2 of the segments over those that would do; 0 is coalesced.
        ``shared_<read or write>_conflicts``
            log2 of the words of one bank that are asked for at a time, on average; 0 is none.
        ``flops_per_byte``, ``intensity_over_balance``
            log2(1 + FLOPs over what all launches ask of global memory), and log2 of that over the
            machine's peak over its bandwidth: below 0 memory bounds it, unless caches help.
        ``tile_rows``, ``tile_columns``, ``tile_stages``
            log2(1 + those of the tensor intrinsic).
    """
    multiprocessor = machine.multiprocessor
    if multiprocessor is None or not launches:
        return [0.0] * len(LAUNCH_COLUMNS)
    launch = max(launches, key=_global_bytes)
    resident = resident_blocks(launch, multiprocessor)
    places = machine.cores * max(1, resident)
    asked_bytes = max(1, sum(map(_global_bytes, launches)))
    balance = machine.peak_flops_per_sec(element_bytes) / machine.bytes_per_sec
    tile = launch.tile or Tile(rows=0, columns=0, stages=0)
    counts = (len(launches), launch.blocks, launch.threads, launch.warps, resident)
    amounts = (
        launch.shared_bytes,
        launch.local_bytes,
        launch.global_bytes(written=False) / launch.blocks,
        launch.global_bytes(written=True) / launch.blocks,
    )
    return [
        *(log2(1 + count) for count in counts),
        resident * launch.warps / multiprocessor.warps,
        log2(1 + launch.blocks / places),
        core_utilisation(launch.blocks, places),
        core_utilisation(launch.blocks, machine.cores),
        *(log2(1 + amount) for amount in amounts),
        *(log2(_segments_over_least(launch, written=written)) for written in (False, True)),
        *(log2(_conflict_degree(launch, written=written)) for written in (False, True)),
        log2(1 + flops / asked_bytes),
        log2(max(1.0, flops) / asked_bytes / balance),
        *(log2(1 + part) for part in (tile.rows, tile.columns, tile.stages)),
    ]


def _global_bytes(launch: Launch) -> int:
    return launch.global_bytes(written=False) + launch.global_bytes(written=True)


def _segments_over_least(launch: Launch, *, written: bool) -> float:
    asked = [
        access for access in launch.accesses if not access.is_shared and access.is_write is written
    ]
    least = sum(access.requests * access.least_segments for access in asked)
    return sum(access.requests * access.segments for access in asked) / least if least else 1.0


def _conflict_degree(launch: Launch, *, written: bool) -> float:
    asked = [
        access for access in launch.accesses if access.is_shared and access.is_write is written
    ]
    requests = sum(access.requests for access in asked)
    turns = sum(access.requests * access.conflict_degree for access in asked)
    return turns / requests if requests else 1.0
