"""The loop nests that a scheduled function runs one after the other. Imports TVM."""

from typing import Any

from tvm import s_tir, tirx


def nests_of(function: Any) -> list[Any]:
    """Return the statements of a function's root block, in order."""
    body = function.body.block.body
    return list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]


def only_block(nest: Any) -> Any:
    """Return the block that a nest of loops holds, None if it holds anything else."""
    while isinstance(nest, tirx.For):
        nest = nest.body
    return nest.block if isinstance(nest, s_tir.SBlockRealize) else None
