"""The matrices of Winograd's minimal filtering, for any number of outputs and taps."""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import prod

Matrix = tuple[tuple[Fraction, ...], ...]

_POINTS = (0, 1, -1, 2, -2)
"""At which polynomials are evaluated, besides infinity: small, as their powers cost accuracy."""
LARGEST = len(_POINTS) + 1
"""Inputs of a tile along one axis, at most."""


@dataclass(frozen=True, kw_only=True)
class Transforms:
    """What makes a filter of ``taps`` weights slid over inputs of single products.

    ``outputs @ ((filters @ g) * (data @ d))`` is ``y[i] = sum(d[i + k] * g[k] for k in taps)``.

    Attributes
    ----------
    data : Matrix
        Shape [inputs, inputs], where ``inputs = outputs + taps - 1``.
    filters : Matrix
        Shape [inputs, taps].
    outputs : Matrix
        Shape [outputs, inputs].
    """

    data: Matrix
    filters: Matrix
    outputs: Matrix

    @property
    def inputs(self) -> int:
        """Inputs of a tile, and products in place of ``outputs * taps``."""
        return len(self.data)


@lru_cache(maxsize=64)
def transforms(outputs: int, taps: int) -> Transforms:
    """Return the transforms of so many outputs at once.

    Both sides are polynomials that are multiplied by their values at points. Transposing that turns
    it to a filter.
    Source: Winograd, Arithmetic Complexity of Computations, 1980, chapter IV; Toom, 1963; Lavin and
    Gray, Fast Algorithms for Convolutional Neural Networks, 2016.

    Parameters
    ----------
    outputs, taps : int
        ``outputs + taps - 1`` is at most `LARGEST`.
    """
    points = _POINTS[: outputs + taps - 2]
    last = len(points)
    data, filters = [], []
    for place, point in enumerate(points):
        others = [*points[:place], *points[place + 1 :]]
        scale = Fraction(1, prod(point - other for other in others))
        data.append((*_with_roots(others), Fraction(0)))
        filters.append(tuple(scale * point**power for power in range(taps)))
    data.append(_with_roots(points))
    filters.append(_unit(taps, taps - 1))
    columns = [tuple(Fraction(point) ** power for power in range(outputs)) for point in points]
    columns.append(_unit(outputs, outputs - 1))
    rows = tuple(tuple(column[row] for column in columns) for row in range(outputs))
    assert len(data) == last + 1
    return Transforms(data=tuple(data), filters=tuple(filters), outputs=rows)


def _with_roots(roots: list[int] | tuple[int, ...]) -> tuple[Fraction, ...]:
    """Return the coefficients of a polynomial with these roots, lowest power first."""
    found = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *found]
        found = [
            high - root * low for high, low in zip(shifted, [*found, Fraction(0)], strict=True)
        ]
    return tuple(found)


def _unit(length: int, place: int) -> tuple[Fraction, ...]:
    return tuple(Fraction(int(at == place)) for at in range(length))
