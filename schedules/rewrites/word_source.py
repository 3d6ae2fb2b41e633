"""Turning a block of words in registers, in LLVM's language."""

from collections.abc import Sequence

from schedules.rewrites.transposes import turned
from schedules.space.dot_source import BITS, repeat
from schedules.space.dots import LANES

_MASK = f"<{LANES} x i1>"


def source(function: str, rows: int) -> str:
    """Write ``function(from, row_bytes, to, step_bytes, flips)``, which turns a block of words.

    Parameters
    ----------
    function : str
        Its name.
    rows : int
        How many vectors it reads, at most as many as a vector has words.
    """
    mask = f"{_MASK} <{', '.join(f'i1 {int(lane < rows)}' for lane in range(LANES))}>"
    store = f"llvm.masked.store.v{LANES}i32.p0"
    lines = [
        f"declare void @{store}({BITS}, ptr, i32, {_MASK})",
        f"define i32 @{function}"
        "(ptr %from, i32 %row_bytes, ptr %to, i32 %step_bytes, i32 %flips) {",
        *repeat("flip", "%flips"),
    ]
    for row in range(rows):
        lines += [
            f"  %row{row}.bytes = mul i32 %row_bytes, {row}",
            f"  %row{row}.at = getelementptr i8, ptr %from, i32 %row{row}.bytes",
            f"  %row{row}.bits = load {BITS}, ptr %row{row}.at, align 1",
            f"  %row{row} = xor {BITS} %row{row}.bits, %flip",
        ]

    def mixed(one: str, other: str, places: Sequence[int]) -> str:
        name = f"%mixed{len(lines)}"
        order = ", ".join(f"i32 {place}" for place in places)
        lines.append(f"  {name} = shufflevector {BITS} {one}, {BITS} {other}, {BITS} <{order}>")
        return name

    block = [f"%row{row}" if row < rows else "zeroinitializer" for row in range(LANES)]
    for step, column in enumerate(turned(block, mixed)):
        lines += [
            f"  %step{step}.bytes = mul i32 %step_bytes, {step}",
            f"  %step{step}.at = getelementptr i8, ptr %to, i32 %step{step}.bytes",
            f"  call void @{store}({BITS} {column}, ptr %step{step}.at, i32 1, {mask})",
        ]
    return "\n".join([*lines, "  ret i32 0", "}"])
