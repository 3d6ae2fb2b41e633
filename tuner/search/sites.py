"""Sites: the places of a design at which a schedule space leaves something open.

A decision is what was chosen at a site, as the trace holds it: an integer, or the factors of a
tile. `None` stands for one that is sampled when the design is applied.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import isqrt, nan
from typing import Protocol

Decision = int | tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a space.

    Attributes
    ----------
    design : int
        Number of the design.
    decisions : tuple of Decision
        One for each of the design's sites.
    """

    design: int
    decisions: tuple[Decision, ...]

    def numbers(self) -> list[float]:
        """Return all decisions one after the other, factor by factor; NaN for an open one."""
        numbers: list[float] = []
        for decision in self.decisions:
            if isinstance(decision, tuple):
                numbers += map(float, decision)
            else:
                numbers.append(nan if decision is None else float(decision))
        return numbers


class Site(Protocol):
    """A place at which something is open."""

    def neighbours(self, decision: Decision) -> tuple[Decision, ...]:
        """Return the decisions that are one step away; empty where there is no choice.

        Raises nothing; a decision of another kind of site has no neighbours.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A loop's extent as a product of factors, outermost first.

    Attributes
    ----------
    innermost_limit : int or None
        The last factor is at most this.
    """

    innermost_limit: int | None = None

    def neighbours(self, decision: Decision) -> tuple[tuple[int, ...], ...]:
        """Move a divisor of one factor to another one; see `Site`."""
        return _moved(decision, self.innermost_limit) if isinstance(decision, tuple) else ()


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of a few values.

    Attributes
    ----------
    values : tuple of int
        What the decision may be: an index, or the value itself.
    """

    values: tuple[int, ...]

    def neighbours(self, decision: Decision) -> tuple[int, ...]:
        """Take any other value; see `Site`."""
        return tuple(value for value in self.values if value != decision)


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Something whose range only TVM knows, once it has applied what comes before."""

    def neighbours(self, decision: Decision) -> tuple[Decision, ...]:
        """Sample anew; see `Site`."""
        return (None,)


def _divisors(number: int) -> list[int]:
    """Return the divisors above 1."""
    small = [divisor for divisor in range(1, isqrt(number) + 1) if number % divisor == 0]
    return sorted({*small, *(number // divisor for divisor in small)} - {1})


@lru_cache(maxsize=4096)
def _moved(factors: tuple[int, ...], limit: int | None) -> tuple[tuple[int, ...], ...]:
    last = len(factors) - 1
    moved = []
    for source, size in enumerate(factors):
        for divisor in _divisors(size):
            for goal in range(len(factors)):
                if goal == source:
                    continue
                changed = list(factors)
                changed[source] //= divisor
                changed[goal] *= divisor
                if goal != last or limit is None or changed[last] <= limit:
                    moved.append(tuple(changed))
    return tuple(moved)
