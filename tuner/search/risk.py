"""Which points of a space are likely to fail, as a search's own trials tell."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from cost_model.arrays import FloatMatrix
from cost_model.dataset import UNTAUGHT
from cost_model.validity import ValidityModel
from schedules.records import MeasureResult
from tuner.search.sites import Point


class Risk:
    """Learns from the failures of a search where in the space they lie.

    A model of speed takes a failed trial for a slow one, and only sees what features show of it.
    Here the decisions themselves are learnt from. As long as nothing has failed, nothing is done.

    Parameters
    ----------
    seed : int
        Of the model; equal trials and seeds tell the same.
    """

    def __init__(self, seed: int) -> None:
        self._model = ValidityModel(seed=seed)
        self._choices: list[list[float]] = []
        self._works: list[bool] = []
        self._columns = 0

    def note(self, trials: Iterable[tuple[Point | None, MeasureResult]]) -> None:
        """Learn from trials; those that were lost without a fault of theirs do not count."""
        for point, result in trials:
            if point is None or (result.failure and result.failure.kind in UNTAUGHT):
                continue
            self._choices.append(_choices(point))
            self._works.append(result.failure is None)
        works = np.array(self._works, dtype=np.bool_)
        if works.any() and not works.all():
            self._columns = max(map(len, self._choices))
            self._model.fit(self._matrix(self._choices), works)

    def chances(self, points: Sequence[Point | None]) -> npt.NDArray[np.float32]:
        """Return the probability that each point works.

        Returns
        -------
        numpy.ndarray
            float32, shape (len(points),); 1 for what is of another space (None), which the cost
            model judges alone.
        """
        chances = np.ones(len(points), dtype=np.float32)
        own = [place for place, point in enumerate(points) if point is not None]
        if self._model.is_fitted:
            choices = [_choices(point) for point in points if point is not None]
            chances[own] = self._model.predict(self._matrix(choices))
        return chances

    def _matrix(self, choices: Sequence[Sequence[float]]) -> FloatMatrix:
        """Return rows of as many columns as were learnt from; NaN where one is shorter."""
        matrix = np.full((len(choices), self._columns), np.nan, dtype=np.float32)
        for row, known in zip(matrix, choices, strict=True):
            row[: len(known)] = known[: self._columns]
        return matrix


def _choices(point: Point) -> list[float]:
    return [float(point.design), *point.numbers()]
