"""A register tile of a product by AMX, in LLVM's language.

AMX has eight tiles of 16 rows of 64 bytes, and multiplies two of them onto a third: rows of 16
groups of factors, by as many rows of 16 groups of the columns'. With r tiles of rows and c of
columns, all r * c tiles of sums stay in registers for the whole sum. The shapes of the tiles are
part of a thread's state: the function sets them at its start, and gives the state back at its end,
so that nobody's context switches have to save it.

Linux lets a process use AMX only once it has asked, for all of its threads. The first call asks; a
process that is refused ends at the first tile, as on a CPU that has none.

Source: Intel, Architecture Instruction Set Extensions Programming Reference, chapter 3 (AMX);
Linux, Documentation/arch/x86/xstate.rst (ARCH_REQ_XCOMP_PERM).
"""

from collections.abc import Iterator, Sequence

from schedules.space.dots import LANES, TILE_BYTES, MatrixDot

TILES = 8
"""Registers that hold a tile."""
TILE_ROWS = 16
"""Rows of a tile, at most."""
_SUM_BYTES = 4
_SYSCALL_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_XTILEDATA = 18


def source(function: str, dot: MatrixDot, rows: int, vectors: int, depth: int) -> str:
    """Write the function ``function(a, b, c, c_row)``.

    Parameters
    ----------
    function : str
        Its name.
    dot : MatrixDot
        The instruction.
    rows, vectors : int
        Of the tile of sums: `rows` is a multiple of `TILE_ROWS`, or less than that.
    depth : int
        Length of the sum, a multiple of ``dot.row_group``.
    """
    height = min(rows, TILE_ROWS)
    high = rows // height
    sums = [[row * vectors + vector for vector in range(vectors)] for row in range(high)]
    lefts = [high * vectors + row for row in range(high)]
    rights = [high * vectors + high + vector for vector in range(vectors)]
    lines = [
        f"@{function}_shapes = private unnamed_addr constant [64 x i8] "
        f'c"{_shapes([height] * (high * vectors + high) + [TILE_ROWS] * vectors)}", align 64',
        f"@{function}_asked = internal global i8 0",
        "declare void @llvm.x86.ldtilecfg(ptr)",
        "declare void @llvm.x86.tilerelease()",
        "declare void @llvm.x86.tileloadd64(i8 immarg, ptr, i64)",
        "declare void @llvm.x86.tilestored64(i8 immarg, ptr, i64)",
        f"declare void @{dot.instruction}(i8 immarg, i8 immarg, i8 immarg)",
        f"define i32 @{function}(ptr %a, ptr %b, ptr %c, i32 %c_row) {{",
        "entry:",
        *_ask(function),
        "start:",
        f"  call void @llvm.x86.ldtilecfg(ptr @{function}_shapes)",
        "  %c_elements = sext i32 %c_row to i64",
        f"  %c_bytes = mul i64 %c_elements, {_SUM_BYTES}",
        *_sums("load", sums, height),
        "  br label %step",
        "step:",
        "  %at = phi i64 [ 0, %start ], [ %next, %step ]",
        f"  %a.offset = mul i64 %at, {rows * TILE_BYTES}",
        "  %a.step = getelementptr i8, ptr %a, i64 %a.offset",
        f"  %b.offset = mul i64 %at, {vectors * LANES * TILE_BYTES}",
        "  %b.step = getelementptr i8, ptr %b, i64 %b.offset",
        *_operands("a", lefts, height * TILE_BYTES, TILE_BYTES),
        *_operands("b", rights, TILE_BYTES, vectors * TILE_BYTES),
        *(
            f"  call void @{dot.instruction}(i8 {sums[row][vector]}, i8 {left}, i8 {right})"
            for row, left in enumerate(lefts)
            for vector, right in enumerate(rights)
        ),
        "  %next = add i64 %at, 1",
        f"  %more = icmp ult i64 %next, {depth // dot.row_group}",
        "  br i1 %more, label %step, label %end",
        "end:",
        *_sums("store", sums, height),
        "  call void @llvm.x86.tilerelease()",
        "  ret i32 0",
        "}",
    ]
    return "\n".join(lines)


def _shapes(heights: Sequence[int]) -> str:
    """Write the palette: its number, then the bytes of a row and the rows of each tile."""
    shapes = bytearray(TILE_BYTES)
    shapes[0] = 1
    for tile, height in enumerate(heights):
        shapes[16 + 2 * tile] = TILE_BYTES
        shapes[48 + tile] = height
    return "".join(f"\\{byte:02X}" for byte in shapes)


def _ask(function: str) -> Iterator[str]:
    """Ask the system for leave, once."""
    yield f"  %asked = load i8, ptr @{function}_asked"
    yield "  %known = icmp ne i8 %asked, 0"
    yield "  br i1 %known, label %start, label %ask"
    yield "ask:"
    yield (
        '  %answer = call i64 asm sideeffect "syscall", '
        '"={rax},{rax},{rdi},{rsi},~{rcx},~{r11},~{memory}"'
        f"(i64 {_SYSCALL_ARCH_PRCTL}, i64 {_ARCH_REQ_XCOMP_PERM}, i64 {_XFEATURE_XTILEDATA})"
    )
    yield f"  store i8 1, ptr @{function}_asked"
    yield "  br label %start"


def _sums(action: str, sums: Sequence[Sequence[int]], height: int) -> Iterator[str]:
    """Load all tiles of sums from C, or store them."""
    for row, tiles in enumerate(sums):
        at = f"%{action}.row{row}"
        yield f"  {at}.offset = mul i64 %c_bytes, {row * height}"
        yield f"  {at} = getelementptr i8, ptr %c, i64 {at}.offset"
        for vector, tile in enumerate(tiles):
            yield f"  {at}.{vector} = getelementptr i8, ptr {at}, i64 {vector * TILE_BYTES}"
            name = {"load": "tileloadd64", "store": "tilestored64"}[action]
            yield f"  call void @llvm.x86.{name}(i8 {tile}, ptr {at}.{vector}, i64 %c_bytes)"


def _operands(name: str, tiles: Sequence[int], apart_bytes: int, row_bytes: int) -> Iterator[str]:
    """Load the tiles of an operand's step, which begin so far apart."""
    for place, tile in enumerate(tiles):
        at = f"%{name}.tile{place}"
        yield f"  {at} = getelementptr i8, ptr %{name}.step, i64 {place * apart_bytes}"
        yield f"  call void @llvm.x86.tileloadd64(i8 {tile}, ptr {at}, i64 {row_bytes})"
