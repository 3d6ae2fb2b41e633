"""TIR programs for tests: plain ones, and ones that misbehave when they are run."""

from typing import Any

import tvm
from tvm import te, tirx


def ir_json(function: Any, name: str = "main") -> str:
    """Write a function as a client would send it."""
    return str(tvm.ir.save_json(tvm.IRModule({name: function})))


def matmul(n: int, m: int, k: int, *, names: tuple[str, str] = ("A", "B")) -> Any:
    a = te.placeholder((n, k), name=names[0])
    b = te.placeholder((k, m), name=names[1])
    r = te.reduce_axis((0, k), name="r")
    c = te.compute((n, m), lambda i, j: te.sum(a[i, r] * b[r, j], axis=r), name="C")
    return te.create_prim_func([a, b, c])


def scale(n: int, factor: float = 2.0) -> Any:
    a = te.placeholder((n,), name="A")
    return te.create_prim_func([a, te.compute((n,), lambda i: a[i] * factor, name="B")])


def gather(rows: int, columns: int, count: int, *, dtype: str = "int32") -> Any:
    table = te.placeholder((rows, columns), name="T")
    places = te.placeholder((count,), name="I", dtype=dtype)
    return te.create_prim_func(
        [table, places, te.compute((count, columns), lambda i, j: table[places[i], j], name="G")]
    )


def out_of_bounds(n: int = 4) -> Any:
    """Dies of SIGSEGV when it runs: it reads two gigabytes behind its input."""
    a = te.placeholder((n,), name="A")
    far = te.compute((n,), lambda i: a[i + 2**29], name="F")
    return te.create_prim_func([a, far])


def endless(n: int = 2, steps: int = 2**15) -> Any:
    """Takes days: a reduction over the cube of `steps`."""
    a = te.placeholder((n, steps), name="A")
    axes = [te.reduce_axis((0, steps), name=name) for name in ("r", "s", "t")]
    r, s, t = axes
    total = te.compute(
        (n,), lambda i: te.sum(te.sqrt(a[i, r] * a[i, s] * a[i, t]), axis=axes), name="S"
    )
    return te.create_prim_func([a, total])


def foreign(n: int = 4) -> Any:
    """Calls a C function of the process that runs it."""
    a = te.placeholder((n,), name="A", dtype="int32")
    called = te.compute((n,), lambda i: tirx.call_extern("int32", "getpid") + a[i], name="P")
    return te.create_prim_func([a, called])
