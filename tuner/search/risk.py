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
        self._tried: dict[int, list[tuple[list[float], bool]]] = {}
        self._has_failed = False

    def note(self, trials: Iterable[tuple[Point | None, MeasureResult]]) -> None:
        """Learn from trials; those that were lost without a fault of theirs do not count."""
        for point, result in trials:
            if point is None or (result.failure and result.failure.kind in UNTAUGHT):
                continue
            works = result.failure is None
            self._tried.setdefault(point.design, []).append((point.numbers(), works))
            self._has_failed |= not works

    def chances(self, points: Sequence[Point | None]) -> npt.NDArray[np.float32]:
        """Return the probability that each point works.

        Returns
        -------
        numpy.ndarray
            float32, shape (len(points),); 1 for what is of another space (None), which the cost
            model judges alone.
        """
        chances = np.ones(len(points), dtype=np.float32)
        if not self._has_failed:
            return chances
        asked: dict[int, dict[int, list[float]]] = {}
        for place, point in enumerate(points):
            if point is not None:
                asked.setdefault(point.design, {})[place] = point.numbers()
        for design, numbers in asked.items():
            choices = np.array(list(numbers.values()))
            tried = self._tried.get(design, [])
            chances[list(numbers)] = chances_of_working(
                np.array([row for row, _ in tried]).reshape(-1, choices.shape[1]),
                np.array([works for _, works in tried], dtype=np.bool_),
                choices,
            )
        return chances
