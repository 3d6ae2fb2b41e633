"""Which blocks are contractions: sums of products of two operands over affine indices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from math import prod
from typing import Any

import tvm
from tvm import tirx


class Role(Enum):
    """How an axis of a contraction takes part, by the names of a matrix product's extents.

    A phase is a row axis on which a condition on an operand depends modulo its extent: with zeros
    between the inputs, as in transposed convolutions, each phase meets other elements of the sum.
    """

    BATCH = "b"
    PHASE = "p"
    ROW = "m"
    COLUMN = "n"
    SUM = "k"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One iteration variable of the block, in the block's order."""

    role: Role
    extent: int


@dataclass(frozen=True, kw_only=True)
class Operand:
    """One factor of the product.

    Attributes
    ----------
    read : int
        Its index among the buffers that the block reads.
    axes : tuple of int
        The axes that its indices use.
    innermost : tuple of int
        The axes that the last index uses with coefficient one: along them memory is contiguous.
    is_load : bool
        Whether it is a load, perhaps cast, without a condition around it.
    dtype : str
        Of its buffer.
    """

    read: int
    axes: frozenset[int]
    innermost: frozenset[int]
    is_load: bool
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Contraction:
    """A block ``C[b, m, n] += A[b, m, k] * B[b, n, k]``, each letter any number of axes.

    Attributes
    ----------
    rows, columns : Operand
        A and B. The output is contiguous along the last column axis.
    output : frozenset of int
        The axes that the output's indices use.
    dtype : str
        Of the output, in which is accumulated.
    """

    axes: tuple[Axis, ...]
    rows: Operand
    columns: Operand
    output: frozenset[int]
    conditions: frozenset[int]
    dtype: str

    def places(self, role: Role) -> tuple[int, ...]:
        """Positions of the axes with a role, in the block's order."""
        return tuple(place for place, axis in enumerate(self.axes) if axis.role is role)

    def extent(self, role: Role) -> int:
        """Product of the extents of the axes with a role."""
        return prod(self.axes[place].extent for place in self.places(role))

    @property
    def is_picture(self) -> bool:
        """Whether columns are points of several axes, as in a picture whose channels come first."""
        return sum(self.axes[place].extent > 1 for place in self.places(Role.COLUMN)) > 1

    def turned(self) -> "Contraction":
        """Return the same sums, with rows and columns in each other's place."""
        other = {Role.ROW: Role.COLUMN, Role.COLUMN: Role.ROW}
        axes = tuple(replace(axis, role=other.get(axis.role, axis.role)) for axis in self.axes)
        return replace(self, axes=axes, rows=self.columns, columns=self.rows)

    @property
    def flops(self) -> int:
        """Two for each product."""
        return 2 * prod(axis.extent for axis in self.axes)


def find_contraction(block: Any) -> Contraction | None:
    """Recognise a contraction.

    Parameters
    ----------
    block : tvm.s_tir.SBlock
        Any block.

    Returns
    -------
    Contraction or None
        None where the block is none, or where rows and columns cannot be told apart: depthwise
        convolutions and matrix-vector products have no axis of one of the two kinds.
    """
    product = _product(block)
    if product is None:
        return None
    store, factors = product
    variables = [axis.var for axis in block.iter_vars]
    output = _axes_in(store.indices, variables)
    left, right = (_operand(factor, block, variables) for factor in factors)
    if left is None or right is None or left.read == right.read:
        return None
    last = _last_axis(store.indices, variables)
    if last is None:
        return None
    rows, columns = (left, right) if last in right.axes else (right, left)
    phases, conditions = _conditions(block, variables)
    axes = []
    for place, axis in enumerate(block.iter_vars):
        role = Role.PHASE if place in phases else _role(axis, place, output, rows, columns)
        if role is None or not isinstance(axis.dom.extent, tirx.IntImm):
            return None
        axes.append(Axis(role=role, extent=int(axis.dom.extent)))
    found = Contraction(
        axes=tuple(axes),
        rows=rows,
        columns=columns,
        output=frozenset(output),
        conditions=frozenset(conditions),
        dtype=str(store.value.expr_ty()),
    )
    if found.axes[last].role is not Role.COLUMN:
        return None
    needed = all(found.places(role) for role in (Role.ROW, Role.COLUMN, Role.SUM))
    return found if needed else None


def is_product(block: Any) -> bool:
    """Whether a block adds a product to what it holds."""
    return _product(block) is not None


def grouped_axis(block: Any) -> tuple[int, int] | None:
    """Find an axis that one operand uses only divided by a constant, as grouped channels do.

    Returns
    -------
    tuple of int or None
        The axis, and the divisor, which divides its extent.
    """
    product = _product(block)
    if product is None:
        return None
    for factor in product[1]:
        for place, axis in enumerate(block.iter_vars):
            divisor = _only_divided_by(factor, axis.var)
            if (
                divisor is not None
                and int(axis.iter_type) == tirx.IterVar.DataPar
                and int(axis.dom.extent) % divisor == 0
                and divisor > 1
            ):
                return place, divisor
    return None


def phased_axis(block: Any) -> tuple[int, int] | None:
    """Find an axis on which a condition depends modulo a smaller number.

    Returns
    -------
    tuple of int or None
        The axis, and the number, which divides its extent.
    """
    variables = [axis.var for axis in block.iter_vars]
    for dividend, divisor in _remainders(block):
        for place in _unit_axes(dividend, variables):
            axis = block.iter_vars[place]
            extent = int(axis.dom.extent)
            if (
                int(axis.iter_type) == tirx.IterVar.DataPar
                and extent > divisor
                and extent % divisor == 0
            ):
                return place, divisor
    return None


def _conditions(block: Any, variables: list[Any]) -> tuple[set[int], set[int]]:
    """The phases, and the sum axes that their conditions hold."""
    phases, sums = set(), set()
    for dividend, divisor in _remainders(block):
        for place in _unit_axes(dividend, variables):
            axis = block.iter_vars[place]
            if int(axis.iter_type) == tirx.IterVar.CommReduce:
                sums.add(place)
            elif int(axis.dom.extent) == divisor:
                phases.add(place)
    return phases, sums if phases else set()


def _remainders(block: Any) -> Iterator[tuple[Any, int]]:
    """Every ``dividend % divisor == 0`` in a condition on an operand."""
    product = _product(block)
    for factor in product[1] if product else ():
        for node in _nodes(factor):
            if (
                isinstance(node, tirx.EQ)
                and isinstance(node.a, tirx.FloorMod)
                and isinstance(node.a.b, tirx.IntImm)
            ):
                yield node.a.a, int(node.a.b)


def _product(block: Any) -> tuple[Any, tuple[Any, Any]] | None:
    """What `product_of` finds in a block that sets its output first."""
    return None if block.init is None else product_of(block.body)


def product_of(store: Any) -> tuple[Any, tuple[Any, Any]] | None:
    """The store of ``C += X * Y``, with X and Y; None of any other statement."""
    if not isinstance(store, tirx.BufferStore) or not isinstance(store.value, tirx.Add):
        return None
    terms = [store.value.a, store.value.b]
    for held, added in (terms, terms[::-1]):
        if (
            isinstance(held, tvm.ir.TensorLoad)
            and held.source.same_as(store.buffer)
            and isinstance(added, tirx.Mul)
        ):
            return store, (added.a, added.b)
    return None


def _operand(factor: Any, block: Any, variables: list[Any]) -> Operand | None:
    loads = [node for node in _nodes(factor) if isinstance(node, tvm.ir.TensorLoad)]
    if len(loads) != 1:
        return None
    [load] = loads
    reads = [
        place for place, region in enumerate(block.reads) if region.source.same_as(load.source)
    ]
    if len(reads) != 1:
        return None
    plain = factor.value if isinstance(factor, tirx.Cast) else factor
    return Operand(
        read=reads[0],
        axes=frozenset(_axes_in([factor], variables)),
        innermost=frozenset(_unit_axes(load.indices[-1], variables)),
        is_load=isinstance(plain, tvm.ir.TensorLoad),
        dtype=str(load.expr_ty()),
    )


def _role(axis: Any, place: int, output: set[int], rows: Operand, columns: Operand) -> Role | None:
    if int(axis.iter_type) == tirx.IterVar.CommReduce:
        return None if place in output else Role.SUM
    if int(axis.iter_type) != tirx.IterVar.DataPar:
        return None
    if place not in output:
        return Role.ROW if int(axis.dom.extent) == 1 else None
    if place in columns.axes:
        return Role.BATCH if place in rows.axes else Role.COLUMN
    # An axis of extent one is in nobody's indices.
    return Role.ROW


def _last_axis(indices: Any, variables: list[Any]) -> int | None:
    """The axis along which the output is contiguous, None if that is not clear."""
    for index in reversed(indices):
        if not isinstance(index, tirx.IntImm):
            places = list(_unit_axes(index, variables))
            return places[0] if len(places) == 1 else None
    return None


def _axes_in(expressions: Any, variables: list[Any]) -> set[int]:
    return {
        place
        for expression in expressions
        for node in _nodes(expression)
        if isinstance(node, tirx.Var) and (place := _place(node, variables)) is not None
    }


def _unit_axes(index: Any, variables: list[Any]) -> Iterator[int]:
    terms = [index]
    while terms:
        term = terms.pop()
        if isinstance(term, tirx.Add | tirx.Sub):
            terms.extend([term.a, term.b])
        elif (place := _place(term, variables)) is not None:
            yield place


def _only_divided_by(factor: Any, variable: Any) -> int | None:
    uses, divided, divisors = 0, 0, set()
    for node in _nodes(factor):
        if node.same_as(variable):
            uses += 1
        if (
            isinstance(node, tirx.FloorDiv)
            and node.a.same_as(variable)
            and isinstance(node.b, tirx.IntImm)
        ):
            divided += 1
            divisors.add(int(node.b))
    return divisors.pop() if uses and uses == divided and len(divisors) == 1 else None


def _place(node: Any, variables: list[Any]) -> int | None:
    return next((at for at, variable in enumerate(variables) if node.same_as(variable)), None)


def _nodes(expression: Any) -> Iterator[Any]:
    """Yield every node of an expression; shared ones as often as they occur."""
    pending = [expression]
    while pending:
        node = pending.pop()
        yield node
        for field in _CHILDREN:
            child = getattr(node, field, None)
            if isinstance(child, tvm.ir.Expr):
                pending.append(child)
            elif isinstance(child, Sequence):
                pending.extend(child)


# Fields of expressions that hold expressions: of binary operators, casts, loads and calls.
_CHILDREN = ("a", "b", "indices", "args", "value", "condition", "true_value", "false_value")
