"""A register tile of a product by dot-product instructions of AVX-512, in LLVM's language.

``vpdpbusd`` adds four products of bytes to each int32 of a vector, but takes one operand unsigned.
So 128 is added to the columns' operand, by flipping its sign bits: here, or once where its panels
are packed (`schedules.rewrites.unsigned_bytes`). What that adds to a sum is 128 times the sum of
the row, which one more instruction in each step adds up for all rows of the tile, and which is
taken away at the end. All of it is exact for all bytes. ``vdpbf16ps`` adds two products of bfloat16
to each float32; it takes numbers below the smallest normal one for zero, and rounds after each of
the two.

Source: Jacob et al., Quantization and Training of Neural Networks, 2018, section 2.3 (offsets).
"""

from collections.abc import Iterator

from schedules.space.dots import LANES, SIGNS, VectorDot

BITS = "<16 x i32>"
"""A register, whatever is in it."""


def source(function: str, dot: VectorDot, rows: int, vectors: int, depth: int) -> str:
    """Write the function ``function(a, b, c, c_row)``: a loop with all sums in variables.

    Where the instruction takes unsigned numbers, the columns' bits to flip are a fifth parameter.

    Parameters
    ----------
    function : str
        Its name.
    dot : VectorDot
        The instruction.
    rows, vectors : int
        Of the tile of sums.
    depth : int
        Length of the sum, a multiple of ``dot.group``.
    """
    held = [f"sum{row}.{vector}" for row in range(rows) for vector in range(vectors)]
    if dot.is_unsigned:
        held.append("offsets")
    flips = ", i32 %flips" if dot.is_unsigned else ""
    lines = [
        f"declare {dot.sum_vector} @{dot.instruction}"
        f"({dot.sum_vector}, {dot.operand_vector}, {dot.operand_vector})",
        f"declare {BITS} @llvm.masked.load.v16i32.p0(ptr, i32, <16 x i1>, {BITS})",
        f"define i32 @{function}(ptr %a, ptr %b, ptr %c, i32 %c_row{flips}) {{",
        "entry:",
        *(repeat("flip", "%flips") if dot.is_unsigned else ()),
        "  br label %step",
        "step:",
        "  %at = phi i64 [ 0, %entry ], [ %next, %step ]",
        *(
            f"  %{name} = phi {dot.sum_vector} [ zeroinitializer, %entry ], [ %{name}.next, %step ]"
            for name in held
        ),
        f"  %a.offset = mul i64 %at, {4 * rows}",
        "  %a.step = getelementptr i8, ptr %a, i64 %a.offset",
        f"  %b.offset = mul i64 %at, {4 * LANES * vectors}",
        "  %b.step = getelementptr i8, ptr %b, i64 %b.offset",
        *_step(dot, rows, vectors),
        "  %next = add i64 %at, 1",
        f"  %more = icmp ult i64 %next, {depth // dot.group}",
        "  br i1 %more, label %step, label %end",
        "end:",
        *_end(dot, rows, vectors),
        "  ret i32 0",
        "}",
    ]
    return "\n".join(lines)


def _step(dot: VectorDot, rows: int, vectors: int) -> Iterator[str]:
    """Add one group of products to every sum."""
    operands = dot.operand_vector
    multiply = f"call {dot.sum_vector} @{dot.instruction}({dot.sum_vector}"
    if dot.is_unsigned:
        mask = ", ".join(f"i1 {int(row < rows)}" for row in range(LANES))
        yield (
            f"  %rows = call {BITS} @llvm.masked.load.v16i32.p0(ptr %a.step, i32 4, "
            f"<16 x i1> <{mask}>, {BITS} zeroinitializer)"
        )
        factors = f"{operands} {_splat(SIGNS)}, {operands} %rows"
        yield f"  %offsets.next = {multiply} %offsets, {factors})"
    for vector in range(vectors):
        yield from _load(f"bits{vector}", BITS, "%b.step", 4 * LANES * vector)
        if dot.is_unsigned:
            yield f"  %column{vector} = xor {BITS} %bits{vector}, %flip"
        else:
            yield f"  %column{vector} = bitcast {BITS} %bits{vector} to {operands}"
    for row in range(rows):
        # Repeated in all lanes, which the instruction can do itself.
        yield from _load(f"group{row}", "i32", "%a.step", 4 * row)
        yield from repeat(f"repeated{row}", f"%group{row}")
        yield f"  %row{row} = bitcast {BITS} %repeated{row} to {operands}"
        for vector in range(vectors):
            name = f"%sum{row}.{vector}"
            factors = f"{operands} %column{vector}, {operands} %row{row}"
            yield f"  {name}.next = {multiply} {name}, {factors})"


def _end(dot: VectorDot, rows: int, vectors: int) -> Iterator[str]:
    """Add the sums to C; of bytes, without what the offset has added to each row."""
    vector_type = dot.sum_vector
    add = "fadd" if dot.sums == "float32" else "add"
    for row in range(rows):
        yield f"  %c.row{row} = mul i32 %c_row, {row}"
        if dot.is_unsigned:
            yield (
                f"  %offset{row} = shufflevector {BITS} %offsets.next, {BITS} poison, "
                f"{BITS} {_splat(row)}"
            )
        for vector in range(vectors):
            at = f"{row}.{vector}"
            result = f"%sum{at}.next"
            if dot.is_unsigned:
                yield f"  %exact{at} = sub {BITS} {result}, %offset{row}"
                result = f"%exact{at}"
            yield f"  %c.at{at} = add i32 %c.row{row}, {LANES * vector}"
            yield f"  %c.to{at} = getelementptr i32, ptr %c, i32 %c.at{at}"
            yield f"  %c.old{at} = load {vector_type}, ptr %c.to{at}, align 4"
            yield f"  %c.new{at} = {add} {vector_type} %c.old{at}, {result}"
            yield f"  store {vector_type} %c.new{at}, ptr %c.to{at}, align 4"


def _load(name: str, kind: str, base: str, offset_bytes: int) -> Iterator[str]:
    yield f"  %{name}.at = getelementptr i8, ptr {base}, i64 {offset_bytes}"
    yield f"  %{name} = load {kind}, ptr %{name}.at, align 4"


def repeat(name: str, value: str) -> Iterator[str]:
    """Write a register that holds an int32 in each lane."""
    yield f"  %{name}.first = insertelement {BITS} poison, i32 {value}, i64 0"
    yield (f"  %{name} = shufflevector {BITS} %{name}.first, {BITS} poison, {BITS} zeroinitializer")


def _splat(value: int) -> str:
    return f"<{', '.join([f'i32 {value}'] * LANES)}>"
