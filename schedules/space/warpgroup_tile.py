"""One tile of a matrix product by Hopper's warp-group matrix instructions, as a tensor intrinsic.

TVM has no intrinsics for ``wgmma``, whose operands lie in shared memory and whose results are
spread over the registers of 128 threads. A whole tile of the output, with the whole sum, is one
block here: ``C[rows, columns] = A[rows, depth] * B`` with C in shared memory, where epilogues find
it. 256 threads copy slices of A and B by ``cp.async`` through a ring of stages and multiply them;
until the results are there, C's own memory holds the ring.

Source: NVIDIA, PTX ISA 8.x, "Asynchronous warpgroup level matrix instructions" (fragments, matrix
descriptors, the 128-byte swizzle).
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from tvm.backend.cuda.op import cuda_func_call
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

PREFIX = "tunesmith.wgmma_"
THREADS = 256
SLICE = 64
"""How much of the sum one stage holds: 128 bytes, the span of the swizzle."""
SHARED_BYTES = 227 * 1024
"""What a block of threads may have on Hopper."""
_ALIGNMENT = 1024
_PITCH_STEP = 32
# Rows of floats that are apart by this modulo 32 banks meet no conflict.
_PITCH_OFFSET = 8
_ROWS_OF_A_GROUP = 64
_CUDA_TYPES = {"float16": ("half", "f16"), "bfloat16": ("nv_bfloat16", "bf16")}


@dataclass(frozen=True, kw_only=True)
class Tile:
    """The parameters of the intrinsic.

    Attributes
    ----------
    rows : int
        A multiple of 128: 64, or several times that, for each of two warp groups.
    columns : int
        A multiple of 64, at most 256.
    depth : int
        Length of the sum, a multiple of `SLICE`.
    stages : int
        Slices in the ring; those of two steps are in use, the others on their way.
    dtype : str
        Of A and B: float16 or bfloat16. Sums are float32.
    transposed : bool
        Whether B is ``[columns, depth]``, with the sum along contiguous memory, as A is; otherwise
        ``[depth, columns]``.
    """

    rows: int
    columns: int
    depth: int
    stages: int
    dtype: str
    transposed: bool

    @property
    def name(self) -> str:
        """Of the intrinsic; says all parameters."""
        layout = "nt" if self.transposed else "nn"
        sizes = f"{self.rows}x{self.columns}x{self.depth}"
        return f"{PREFIX}{layout}_{self.dtype}_{sizes}_{self.stages}"

    @property
    def ring_bytes(self) -> int:
        """What the ring takes, with what aligning it may cost."""
        return self.stages * (self.rows + self.columns) * 2 * SLICE + _ALIGNMENT

    @property
    def pitch(self) -> int:
        """Elements from one row of C to the next, so that C is as large as the ring."""
        needed = max(self.columns, ceil(self.ring_bytes / (4 * self.rows)))
        return ceil((needed - _PITCH_OFFSET) / _PITCH_STEP) * _PITCH_STEP + _PITCH_OFFSET

    @property
    def shared_bytes(self) -> int:
        """Shared memory that a block of threads needs."""
        return 4 * self.rows * self.pitch


_NAME = re.compile(
    re.escape(PREFIX) + r"(?P<layout>nn|nt)_(?P<dtype>\w+?)_(\d+)x(\d+)x(\d+)_(\d+)\b"
)


def named_in(trace: str) -> Iterator[Tile]:
    """Yield the tiles that a trace names."""
    for found in _NAME.finditer(trace):
        rows, columns, depth, stages = map(int, found.groups()[2:])
        yield Tile(
            rows=rows,
            columns=columns,
            depth=depth,
            stages=stages,
            dtype=found["dtype"],
            transposed=found["layout"] == "nt",
        )


def start_name(tile: Tile) -> str:
    """Name of the intrinsic for the zeros before the sum, which the tile itself does without."""
    return f"{tile.name}_start"


@functools.cache
def register(tile: Tile) -> None:
    """Register the intrinsics of a tile, which traces name. Idempotent."""
    TensorIntrin.register(tile.name, *_product(tile))
    TensorIntrin.register(start_name(tile), *_start(tile))


def _product(tile: Tile) -> tuple[object, object]:
    m, n, k, dtype = tile.rows, tile.columns, tile.depth, tile.dtype
    b0, b1 = (n, k) if tile.transposed else (k, n)
    function, source = _function_name(tile), _source(tile)

    def place(depth: object, column: object) -> tuple[object, object]:
        return (column, depth) if tile.transposed else (depth, column)

    @T.prim_func(s_tir=True)
    def described(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (m, k), dtype, align=64, offset_factor=1)
        B = T.match_buffer(b, (b0, b1), dtype, align=64, offset_factor=1)
        C = T.match_buffer(c, (m, n), "float32", align=64, offset_factor=1, scope="shared.dyn")
        with T.sblock("root"):
            T.reads(C[0:m, 0:n], A[0:m, 0:k], B[0:b0, 0:b1])
            T.writes(C[0:m, 0:n])
            for i, j, s in T.grid(m, n, k):
                with T.sblock("update"):
                    vi, vj, vs = T.axis.remap("SSR", [i, j, s])
                    first, second = T.meta_var(place(vs, vj))
                    C[vi, vj] = C[vi, vj] + T.Cast("float32", A[vi, vs]) * T.Cast(
                        "float32", B[first, second]
                    )

    @T.prim_func(s_tir=True)
    def implemented(a: T.handle, b: T.handle, c: T.handle) -> None:
        a_row = T.int32()
        a_one = T.int32()
        b_row = T.int32()
        b_one = T.int32()
        c_row = T.int32()
        c_one = T.int32()
        A = T.match_buffer(a, (m, k), dtype, align=64, offset_factor=1, strides=[a_row, a_one])
        B = T.match_buffer(b, (b0, b1), dtype, align=64, offset_factor=1, strides=[b_row, b_one])
        C = T.match_buffer(
            c,
            (m, n),
            "float32",
            align=64,
            offset_factor=1,
            scope="shared.dyn",
            strides=[c_row, c_one],
        )
        with T.sblock("root"):
            T.reads(C[0:m, 0:n], A[0:m, 0:k], B[0:b0, 0:b1])
            T.writes(C[0:m, 0:n])
            T.evaluate(
                cuda_func_call(
                    function,
                    A.access_ptr("r"),
                    a_row,
                    B.access_ptr("r"),
                    b_row,
                    C.access_ptr("w"),
                    c_row,
                    source_code=source,
                )
            )

    return described, implemented


def _start(tile: Tile) -> tuple[object, object]:
    m, n = tile.rows, tile.columns

    @T.prim_func(s_tir=True)
    def described(c: T.handle) -> None:
        C = T.match_buffer(c, (m, n), "float32", align=64, offset_factor=1, scope="shared.dyn")
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:m, 0:n])
            for i, j in T.grid(m, n):
                with T.sblock("init"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    C[vi, vj] = T.float32(0)

    @T.prim_func(s_tir=True)
    def implemented(c: T.handle) -> None:
        C = T.match_buffer(c, (m, n), "float32", align=64, offset_factor=1, scope="shared.dyn")
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:m, 0:n])
            T.evaluate(0)

    return described, implemented


# --- CUDA ----------------------------------------------------------------------------------------


def _function_name(tile: Tile) -> str:
    return tile.name.replace(".", "_")


def _source(tile: Tile) -> str:
    cuda, short = _CUDA_TYPES[tile.dtype]
    registers = tile.columns // 2
    values = {
        "NAME": _function_name(tile),
        "TYPE": cuda,
        "SHORT": short,
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "STEPS": tile.depth // SLICE,
        "STAGES": tile.stages,
        "TILES": tile.rows // (2 * _ROWS_OF_A_GROUP),
        "REGISTERS": registers,
        "OPERANDS": ", ".join(f"%{place}" for place in range(registers)),
        "OUTPUTS": ", ".join(f'"+f"(d[{place}])' for place in range(registers)),
        "DESCRIPTOR_A": f"%{registers}",
        "DESCRIPTOR_B": f"%{registers + 1}",
        "ADD": f"%{registers + 2}",
        "B_MAJOR": int(not tile.transposed),
        # Along the columns, then along the sum: where the next group of rows of 128 bytes is.
        "B_LEADING": 16 if tile.transposed else SLICE * 128,
        "B_ADVANCE": 32 if tile.transposed else 16 * 128,
        # Where the 32 rows of 128 bytes are that the threads copy at once, and the next slice.
        "B_PART": "(int64_t)p * 32 * ldb"
        if tile.transposed
        else "(int64_t)(p % 2) * 32 * ldb + p / 2 * 64",
        "B_SLICE": str(SLICE) if tile.transposed else f"{SLICE} * (int64_t)ldb",
    }
    return re.sub(r"@(\w+)@", lambda found: str(values[found[1]]), _TEMPLATE)


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
    float (&d)[@REGISTERS@], uint64_t a, uint64_t b, int add) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, @ADD@, 0;\n"
    "wgmma.mma_async.sync.aligned.m64n@COLUMNS@k16.f32.@SHORT@.@SHORT@ "
    "{@OPERANDS@}, @DESCRIPTOR_A@, @DESCRIPTOR_B@, p, 1, 1, 0, @B_MAJOR@;\n}\n"
    : @OUTPUTS@ : "l"(a), "l"(b), "r"(add));
}
__device__ __forceinline__ void @NAME@(
    const @TYPE@* a, int lda, const @TYPE@* b, int ldb, float* c, int ldc) {
  constexpr int STAGE = (@ROWS@ + @COLUMNS@) * 128, AHEAD = @STAGES@ - 2;
  const int t = threadIdx.x, group = t / 128;
  const uint32_t ring = ((uint32_t)__cvta_generic_to_shared(c) + 1023) & ~1023u;
  // Eight threads copy 128 bytes, whose eight parts change places from row to row.
  const uint32_t spot = (t / 8) * 128 + (((t % 8) ^ ((t / 8) % 8)) * 16);
  const @TYPE@* from_a = a + (int64_t)(t / 8) * lda + (t % 8) * 8;
  const @TYPE@* from_b = b + (int64_t)(t / 8) * ldb + (t % 8) * 8;
  float d[@TILES@][@REGISTERS@];
  auto load = [&](int step) {
    if (step < @STEPS@) {
      const uint32_t to = ring + (step % @STAGES@) * STAGE + spot;
      #pragma unroll
      for (int p = 0; p < @ROWS@ / 32; ++p)
        tunesmith_copy16(to + p * 4096, from_a + (int64_t)p * 32 * lda);
      #pragma unroll
      for (int p = 0; p < @COLUMNS@ / 32; ++p)
        tunesmith_copy16(to + @ROWS@ * 128 + p * 4096, from_b + @B_PART@);
      from_a += 64;
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
        *(float2*)(c + row * ldc + j * 8 + t % 4 * 2) =
          make_float2(d[m][j * 4 + h * 2], d[m][j * 4 + h * 2 + 1]);
      }
  __syncthreads();
}
"""
