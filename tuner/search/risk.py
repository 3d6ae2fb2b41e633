"""Which points of a space are likely to fail, as a search's own trials tell."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from cost_model.dataset import UNTAUGHT
from cost_model.validity import chances_of_working
from schedules.records import MeasureResult
from tuner.search.sites import Point


class Risk:
    """Learns from the failures of a search where in the space they lie.

    A model of speed takes a failed trial for a slow one, and only sees what features show of it.
    Here the decisions themselves are learnt from, those of each design apart. As long as nothing
    has failed, nothing is done.
    """

    def __init__(self) -> None:
        self._tried: dict[int, list[list[float]]] = {}
        self._works: dict[int, list[bool]] = {}

    def note(self, trials: Iterable[tuple[Point | None, MeasureResult]]) -> None:
        """Learn from trials; those that were lost without a fault of theirs do not count."""
        for point, result in trials:
            if point is None or (result.failure and result.failure.kind in UNTAUGHT):
                continue
            self._tried.setdefault(point.design, []).append(point.numbers())
            self._works.setdefault(point.design, []).append(result.failure is None)

    def chances(self, points: Sequence[Point | None]) -> npt.NDArray[np.float32]:
        """Return the probability that each point works.

        Returns
        -------
        numpy.ndarray
            float32, shape (len(points),); 1 for what is of another space (None), which the cost
            model judges alone.
        """
        chances = np.ones(len(points), dtype=np.float32)
        if all(map(all, self._works.values())):
            return chances
        places: dict[int, list[int]] = {}
        for place, point in enumerate(points):
            if point is not None:
                places.setdefault(point.design, []).append(place)
        for design, own in places.items():
            asked = np.array([point.numbers() for point in map(points.__getitem__, own) if point])
            tried = np.array(self._tried.get(design, []), dtype=np.float64)
            works = np.array(self._works.get(design, []), dtype=np.bool_)
            chances[own] = chances_of_working(tried.reshape(-1, asked.shape[1]), works, asked)
        return chances
