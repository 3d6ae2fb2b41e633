"""The operator catalogue: one file per family.

Every operator brings its tensors, FLOPs, tensor-expression program and NumPy reference. Nothing
here imports TVM until a program is defined.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from schedules.errors import UnknownOperatorError
from schedules.operators import (
    convolution,
    convolution_variants,
    elementwise,
    matmul,
    normalization,
    reduction,
)
from schedules.operators.operator import Argument, Operator

__all__ = ["CATALOGUE", "Argument", "Operator", "find_operator", "operators"]

_FAMILIES = (matmul, convolution, convolution_variants, normalization, elementwise, reduction)

CATALOGUE: Mapping[str, Operator] = MappingProxyType(
    {operator.name: operator for family in _FAMILIES for operator in family.OPERATORS}
)

_BY_NAME = {
    name: operator for operator in CATALOGUE.values() for name in (operator.name, *operator.aliases)
}


def operators() -> tuple[Operator, ...]:
    """Every operator, family by family."""
    return tuple(CATALOGUE.values())


def find_operator(name: str) -> Operator:
    """Find an operator by its canonical name or an alias, in any case.

    Parameters
    ----------
    name : str
        For instance ``batch_matmul``, ``bmm`` or ``GMM``.

    Returns
    -------
    Operator
        The catalogue entry.

    Raises
    ------
    UnknownOperatorError
        With the closest names.
    """
    operator = _BY_NAME.get(name.lower())
    if operator is not None:
        return operator
    close = get_close_matches(name.lower(), _BY_NAME)
    suggestion = f"did you mean {' or '.join(close)}? " if close else ""
    raise UnknownOperatorError(
        f"there is no operator {name!r}; {suggestion}`tunesmith ops` lists all"
    )
