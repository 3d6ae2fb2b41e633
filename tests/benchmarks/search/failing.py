"""A space of which a third fails, for a cause that no feature shows.

In each design one factor of one tile, or one choice, is drawn; where it is large, the candidate
names a block that its program has not, so that the measuring host cannot build it.
"""

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from schedules.identity import canonical_json
from schedules.records import Candidate, trace_id
from tuner.search.points import Space
from tuner.search.sites import Point

SAMPLES = 128
SHARE = 1 / 3
_ATTEMPTS = 4
_NOWHERE = ["GetSBlock", [], ["a block that is not there", "main"], ["nowhere"]]


class FailingThird:
    """Makes the candidates fail that lie in a part of a space.

    Parameters
    ----------
    space : Space
        What is searched.
    seed : int
        Of what is drawn.

    Attributes
    ----------
    share : float
        Of samples that fail.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        random = np.random.default_rng(seed)
        samples = [item.point for item in islice(space.samples(_ATTEMPTS * SAMPLES), SAMPLES)]
        self._place: dict[int, int] = {}
        self._limit: dict[int, float] = {}
        for design in sorted({point.design for point in samples}):
            numbers = np.array([point.numbers() for point in samples if point.design == design])
            varying = np.flatnonzero((numbers != numbers[:1]).any(axis=0))
            if len(varying):
                self._place[design] = int(random.choice(varying))
                self._limit[design] = _limit(numbers[:, self._place[design]])
        self.share = sum(map(self._is_bad, samples)) / len(samples)

    def spoilt(self, candidate: Candidate) -> Candidate:
        """Return the candidate as it is measured: one that fails cannot be built."""
        point = self._space.find(candidate.trace)
        if point is None or not self._is_bad(point):
            return candidate
        instructions, decisions = json.loads(candidate.trace)
        trace = canonical_json([[*instructions, _NOWHERE], decisions])
        return replace(candidate, trace=trace, trace_id=trace_id(trace))

    def _is_bad(self, point: Point) -> bool:
        place = self._place.get(point.design)
        return place is not None and point.numbers()[place] >= self._limit[point.design]


def _limit(numbers: npt.NDArray[np.float64]) -> float:
    """Return the number from which on the share is nearest to `SHARE`."""
    return float(min(np.unique(numbers), key=lambda limit: abs((numbers >= limit).mean() - SHARE)))
