"""One tile of a contraction by Hopper's warp-group matrix instructions: its parameters, its CUDA.

``wgmma`` multiplies operands in shared memory and leaves the sums in the registers of 128 threads.
256 threads copy slices of both operands by ``cp.async`` through a ring of stages and multiply them.
At the end the sums go to shared memory, where epilogues find them; until then the ring is there.

Rows may be those of a matrix, or the points of an image: then each of them is summed over the taps
of a window, whose inputs are gathered as the slices of one long sum (implicit GEMM).

Source: NVIDIA, PTX ISA 8.x, "Asynchronous warpgroup level matrix instructions" (fragments, matrix
descriptors, the 128-byte swizzle).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from types import MappingProxyType

from schedules.workload import DTYPE_BYTES

PREFIX = "tunesmith.wgmma_"
_FUNCTION_PREFIX = PREFIX.replace(".", "_")
THREADS = 256
SLICE_BYTES = 128
"""How much of the sum one stage holds: the span of the swizzle."""
SHARED_BYTES = 227 * 1024
"""What a block of threads may have on Hopper."""
SUMS: Mapping[str, str] = MappingProxyType(
    {"float16": "float32", "bfloat16": "float32", "int8": "int32"}
)
"""What operands of each type are summed in."""
_ALIGNMENT_BYTES = 1024
_PITCH_STEP = 32
# Rows of four-byte numbers that are apart by this modulo 32 banks meet no conflict.
_PITCH_OFFSET = 8
_ROWS_OF_A_GROUP = 64
_ROWS_AT_ONCE = 32
_CUDA_TYPES = {"float16": "half", "bfloat16": "nv_bfloat16", "int8": "int8_t"}
_CUDA_SUMS = {"float32": "float", "int32": "int"}
_INSTRUCTIONS = {
    "float16": "k16.f32.f16.f16",
    "bfloat16": "k16.f32.bf16.bf16",
    "int8": "k32.s32.s8.s8",
}
_CONSTRAINTS = {"float32": "+f", "int32": "+r"}


@dataclass(frozen=True, kw_only=True)
class Window:
    """What each point along an axis sums over: taps, so many elements apart.

    Attributes
    ----------
    taps, stride, dilation : int
        Number of taps; elements from one point to the next, and from one tap to the next.
    """

    taps: int = 1
    stride: int = 1
    dilation: int = 1

    def reach(self, points: int) -> int:
        """Return how many elements so many points see."""
        return (points - 1) * self.stride + (self.taps - 1) * self.dilation + 1


@dataclass(frozen=True, kw_only=True)
class Tile:
    """The parameters of the intrinsic.

    Attributes
    ----------
    points : tuple of int
        Extents along the row axes: that of a matrix, or those of a batch of images. Their product
        is a multiple of 128: 64, or several times that, for each of two warp groups.
    columns : int
        A multiple of 64, at most 256.
    depth : int
        Length of the sum for each tap, a multiple of what one slice holds.
    stages : int
        Slices in the ring; those of two steps are in use, the others on their way.
    dtype : str
        Of A and B: a key of `SUMS`.
    transposed : bool
        Whether B is ``[columns, depth]``, with the sum along contiguous memory, as A is; otherwise
        ``[*taps, depth, columns]``, which halves alone may have.
    windows : tuple of Window
        One for each row axis.
    """

    points: tuple[int, ...]
    columns: int
    depth: int
    stages: int
    dtype: str
    transposed: bool
    windows: tuple[Window, ...] = (Window(),)

    @property
    def name(self) -> str:
        """Of the intrinsic; says all parameters."""
        layout = "nt" if self.transposed else "nn"
        sizes = f"{'.'.join(map(str, self.points))}x{self.columns}x{self.depth}"
        windows = [f"_{w.taps}.{w.stride}.{w.dilation}" for w in self.windows]
        seen = "" if self.is_matrix else "".join(windows)
        return f"{PREFIX}{layout}_{self.dtype}_{sizes}_{self.stages}{seen}"

    @property
    def is_matrix(self) -> bool:
        """Whether rows are evenly apart, and each is summed once."""
        return self.windows == (Window(),)

    @property
    def rows(self) -> int:
        """Of the tile as a matrix."""
        return prod(self.points)

    @property
    def taps(self) -> tuple[int, ...]:
        """Of each window that has several."""
        return tuple(window.taps for window in self.windows if window.taps > 1)

    @property
    def ring_bytes(self) -> int:
        """What the ring takes, with what aligning it may cost."""
        return self.stages * (self.rows + self.columns) * SLICE_BYTES + _ALIGNMENT_BYTES

    @property
    def pitch(self) -> int:
        """Elements from one row of C to the next, so that C is as large as the ring."""
        needed = max(self.columns, ceil(self.ring_bytes / (4 * self.rows)))
        return ceil((needed - _PITCH_OFFSET) / _PITCH_STEP) * _PITCH_STEP + _PITCH_OFFSET

    @property
    def shared_bytes(self) -> int:
        """Shared memory that a block of threads needs."""
        return 4 * self.rows * self.pitch


# In names of functions every point is an underscore.
_NAME = re.compile(
    re.escape(PREFIX)
    + r"(?P<layout>nn|nt)_(?P<dtype>\w+?)_(?P<points>\d[\d._]*)x(\d+)x(\d+)_(\d+)"
    + r"(?P<windows>(?:_\d+[._]\d+[._]\d+)*)\b"
)


def named_in(trace: str) -> Iterator[Tile]:
    """Yield the tiles that a trace names."""
    for found in _NAME.finditer(trace):
        columns, depth, stages = map(int, found.group(4, 5, 6))
        windows = _numbers(found["windows"])
        yield Tile(
            points=tuple(_numbers(found["points"])),
            columns=columns,
            depth=depth,
            stages=stages,
            dtype=found["dtype"],
            transposed=found["layout"] == "nt",
            windows=tuple(
                Window(taps=taps, stride=stride, dilation=dilation)
                for taps, stride, dilation in zip(*[iter(windows)] * 3, strict=True)
            )
            or (Window(),),
        )


def called_by(function: str) -> Tile | None:
    """Return the tile whose CUDA function has a name; None if it is no tile's."""
    return next(named_in(function.replace(_FUNCTION_PREFIX, PREFIX, 1)), None)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def slice_length(dtype: str) -> int:
    """Return how many terms of the sum one stage holds."""
    return SLICE_BYTES // DTYPE_BYTES[dtype]


# --- CUDA ----------------------------------------------------------------------------------------


def function_name(tile: Tile) -> str:
    """Return the name of the device function."""
    return tile.name.replace(".", "_")


def source(tile: Tile) -> str:
    """Return the device function: operands and the sums' place, each with its strides."""
    sums = SUMS[tile.dtype]
    length = slice_length(tile.dtype)
    registers = tile.columns // 2
    halves = tile.dtype != "int8"
    values = {
        "NAME": function_name(tile),
        "TYPE": _CUDA_TYPES[tile.dtype],
        "SUM": _CUDA_SUMS[sums],
        "INSTRUCTION": _INSTRUCTIONS[tile.dtype],
        # Neither operand negated; B along its columns or not.
        "FLAGS": f", 1, 1, 0, {int(not tile.transposed)}" if halves else "",
        "CHUNK": length // 8,
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "STEPS": prod(tile.taps) * tile.depth // length,
        "STAGES": tile.stages,
        "TILES": tile.rows // (2 * _ROWS_OF_A_GROUP),
        "REGISTERS": registers,
        "OPERANDS": ", ".join(f"%{place}" for place in range(registers)),
        "OUTPUTS": ", ".join(f'"{_CONSTRAINTS[sums]}"(d[{place}])' for place in range(registers)),
        "DESCRIPTOR_A": f"%{registers}",
        "DESCRIPTOR_B": f"%{registers + 1}",
        "ADD": f"%{registers + 2}",
        # Along the columns, then along the sum: where the next group of rows of 128 bytes is.
        "B_LEADING": 16 if tile.transposed else length * SLICE_BYTES,
        "B_ADVANCE": 32 if tile.transposed else 16 * SLICE_BYTES,
        # Where the 32 rows of 128 bytes are that the threads copy at once, and the next slice.
        "B_PART": "(int64_t)p * 32 * ldb"
        if tile.transposed
        else "(int64_t)(p % 2) * 32 * ldb + p / 2 * 64",
        "B_SLICE": str(length) if tile.transposed else f"{length} * (int64_t)ldb",
        "A_STRIDES": ", ".join(f"int a{axis}" for axis in range(len(tile.points))),
        **(_straight(length) if tile.is_matrix else _gathered(tile, length)),
    }
    return re.sub(r"@(\w+)@", lambda found: str(values[found[1]]), _TEMPLATE)


def _straight(length: int) -> dict[str, str]:
    """How rows of a matrix are copied: they are evenly apart."""
    return {
        "FIRST_ROW": " + (int64_t)(t / 8) * a0",
        "GATHER": "",
        "A_PART": "(int64_t)p * 32 * a0",
        "A_SLICE": f"from_a += {length};",
    }


def _gathered(tile: Tile, length: int) -> dict[str, str]:
    """How points of an image are copied: each thread knows where its rows are, tap by tap."""
    slices = tile.depth // length
    windows = list(enumerate(tile.windows))
    at_point = _offset("row", tile.points, [(axis, window.stride) for axis, window in windows])
    several = [(axis, window.dilation) for axis, window in windows if window.taps > 1]
    at_tap = _offset("tap", tile.taps, several)
    return {
        "FIRST_ROW": "",
        "GATHER": f"""int points[@ROWS@ / 32];
  #pragma unroll
  for (int p = 0; p < {tile.rows} / 32; ++p) {{
    const int row = t / 8 + p * 32;
    points[p] = {at_point};
  }}
  const {_CUDA_TYPES[tile.dtype]}* const first = from_a;""".replace("@ROWS@", str(tile.rows)),
        "A_PART": "points[p]",
        "A_SLICE": f"const int tap = (step + 1) / {slices};\n"
        f"      from_a = first + ({at_tap}) + (step + 1) % {slices} * {length};",
    }


def _offset(number: str, extents: Sequence[int], steps: Sequence[tuple[int, int]]) -> str:
    """Say where something is in A from its number, which counts along axes of such extents.

    Each step is an axis of A and how many elements of it one step goes.
    """
    terms, inner = ["0"], 1
    for extent, (axis, step) in zip(reversed(extents), reversed(steps), strict=True):
        terms.append(f"{number} / {inner} % {extent} * {step} * a{axis}")
        inner *= extent
    return " + ".join(terms)


_TEMPLATE = r"""
#include <cstdint>
#ifndef TUNESMITH_WGMMA
#define TUNESMITH_WGMMA
__device__ __forceinline__ void tunesmith_copy16(uint32_t shared, const void* global) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;\n"
               :: "r"(shared), "l"(global));
}
// Describes a matrix in shared memory, swizzled over 128 bytes, to the matrix instructions.
__device__ __forceinline__ uint64_t tunesmith_descriptor(uint32_t shared, uint32_t leading) {
  return (uint64_t)((shared & 0x3FFFF) >> 4) | ((uint64_t)(leading >> 4) << 16)
       | ((uint64_t)(1024 >> 4) << 32) | (1ull << 62);
}
#endif
__device__ __forceinline__ void @NAME@_multiply(
    @SUM@ (&d)[@REGISTERS@], uint64_t a, uint64_t b, int add) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, @ADD@, 0;\n"
    "wgmma.mma_async.sync.aligned.m64n@COLUMNS@@INSTRUCTION@ "
    "{@OPERANDS@}, @DESCRIPTOR_A@, @DESCRIPTOR_B@, p@FLAGS@;\n}\n"
    : @OUTPUTS@ : "l"(a), "l"(b), "r"(add));
}
__device__ __forceinline__ void @NAME@(
    const @TYPE@* a, @A_STRIDES@, const @TYPE@* b, int ldb, @SUM@* c, int ldc) {
  constexpr int STAGE = (@ROWS@ + @COLUMNS@) * 128, AHEAD = @STAGES@ - 2;
  const int t = threadIdx.x, group = t / 128;
  const uint32_t ring = ((uint32_t)__cvta_generic_to_shared(c) + 1023) & ~1023u;
  // Eight threads copy 128 bytes, whose eight parts change places from row to row.
  const uint32_t spot = (t / 8) * 128 + (((t % 8) ^ ((t / 8) % 8)) * 16);
  const @TYPE@* from_a = a + (t % 8) * @CHUNK@@FIRST_ROW@;
  const @TYPE@* from_b = b + (int64_t)(t / 8) * ldb + (t % 8) * @CHUNK@;
  @GATHER@
  @SUM@ d[@TILES@][@REGISTERS@];
  auto load = [&](int step) {
    if (step < @STEPS@) {
      const uint32_t to = ring + (step % @STAGES@) * STAGE + spot;
      #pragma unroll
      for (int p = 0; p < @ROWS@ / 32; ++p)
        tunesmith_copy16(to + p * 4096, from_a + @A_PART@);
      #pragma unroll
      for (int p = 0; p < @COLUMNS@ / 32; ++p)
        tunesmith_copy16(to + @ROWS@ * 128 + p * 4096, from_b + @B_PART@);
      @A_SLICE@
      from_b += @B_SLICE@;
    }
    asm volatile("cp.async.commit_group;\n" ::: "memory");
  };
  #pragma unroll
  for (int step = 0; step < AHEAD; ++step) load(step);
  for (int step = 0; step < @STEPS@; ++step) {
    asm volatile("cp.async.wait_group %0;\n" :: "n"(AHEAD - 1) : "memory");
    asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
    __syncthreads();
    // Into the stage of two steps ago, with which all threads are done. Before the products: a
    // thread that has begun one waits for the one before.
    load(step + AHEAD);
    const uint32_t stage = ring + (step % @STAGES@) * STAGE;
    asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
    #pragma unroll
    for (int k = 0; k < 4; ++k) {
      const uint64_t of_b =
        tunesmith_descriptor(stage + @ROWS@ * 128 + k * @B_ADVANCE@, @B_LEADING@);
      #pragma unroll
      for (int m = 0; m < @TILES@; ++m)
        @NAME@_multiply(
          d[m], tunesmith_descriptor(stage + (group * @TILES@ + m) * 8192 + k * 32, 16), of_b,
          step > 0 || k > 0);
    }
    asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 1;\n" ::: "memory");
  }
  asm volatile("wgmma.wait_group.sync.aligned 0;\n" ::: "memory");
  __syncthreads();
  #pragma unroll
  for (int m = 0; m < @TILES@; ++m)
    #pragma unroll
    for (int j = 0; j < @COLUMNS@ / 8; ++j)
      #pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = (group * @TILES@ + m) * 64 + t % 128 / 32 * 16 + t % 32 / 4 + h * 8;
        *(@SUM@2*)(c + row * ldc + j * 8 + t % 4 * 2) =
          make_@SUM@2(d[m][j * 4 + h * 2], d[m][j * 4 + h * 2 + 1]);
      }
  __syncthreads();
}
"""
