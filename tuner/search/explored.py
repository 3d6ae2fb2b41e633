"""What has been seen of a space, and where to look for what has not."""

from collections.abc import Iterator, Sequence
from itertools import chain, cycle, takewhile

import numpy as np

from tuner.search.points import Applied, Space
from tuner.search.sites import Point

REPEATS = 32
"""After so many programs in a row that were known before, sampling is not worth its time."""
VAIN = 512
"""After so many points without a new program it is given up."""


class Explored:
    """Points that were tried, and the programs that they made.

    Parameters
    ----------
    space : Space
        Whose points they are.
    random : numpy.random.Generator
        Advanced by `unseen`.
    """

    def __init__(self, space: Space, random: np.random.Generator) -> None:
        self._space = space
        self._random = random
        self._tried: set[Point] = set()
        self._codes: set[int] = set()
        self._reached: set[Point] = set()
        self._unexpanded: list[Point] = []
        self._open_designs: set[int] = set()
        self._repeats = 0
        self._vain = 0

    def is_tried(self, point: Point) -> bool:
        """Whether a point was tried; never for one with an open decision, as it may be any."""
        return point in self._tried

    def try_point(self, point: Point) -> bool:
        """Note that a point is about to be applied; return whether it has never been."""
        if point in self._tried:
            return False
        if None not in point.decisions:
            self._tried.add(point)
        self._vain += 1
        return True

    def take(self, applied: Applied) -> bool:
        """Note what came of it; return whether that is another program than all before."""
        new = applied.code not in self._codes
        if new:
            self._repeats = self._vain = 0
        else:
            self._repeats += 1
        self.know(applied.point, applied.code)
        return new

    def know(self, point: Point | None, code: int) -> None:
        """Note a program that was made before; without a point, if it is of another space."""
        self._codes.add(code)
        if point is not None and point not in self._reached:
            self._tried.add(point)
            self._reached.add(point)
            self._unexpanded.append(point)

    def unseen(self) -> Iterator[Point]:
        """Yield points that may be new, while there are any.

        Samples, as many of each design. In a small space they repeat each other, and each has to be
        applied to be seen to; then what is one step from known points, and not tried; then samples
        of the designs that such steps do not cover.
        """
        return chain(
            takewhile(lambda _: self._repeats < REPEATS, self._samples(range(len(self._space)))),
            self._beside(),
            self._elsewhere(),
        )

    def _samples(self, designs: Sequence[int]) -> Iterator[Point]:
        order = self._random.permutation(designs).tolist()
        return (self._space.open_point(design) for design in cycle(order))

    def _beside(self) -> Iterator[Point]:
        while self._unexpanded:
            place = int(self._random.integers(len(self._unexpanded)))
            for point in self._space.neighbours(self._unexpanded[place]):
                if None in point.decisions:
                    self._open_designs.add(point.design)
                elif point not in self._tried:
                    yield point
            # Not before, as who takes only some of them will need the rest.
            self._unexpanded[place] = self._unexpanded[-1]
            self._unexpanded.pop()

    def _elsewhere(self) -> Iterator[Point]:
        """Sample designs of which nothing is known, or that have decisions that only TVM knows."""
        covered = {point.design for point in self._reached} - self._open_designs
        left = [design for design in range(len(self._space)) if design not in covered]
        yield from takewhile(lambda _: self._vain < VAIN, self._samples(left))
