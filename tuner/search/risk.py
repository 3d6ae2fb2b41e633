"""Which points of a space are likely to fail, as a search's own trials tell."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cost_model.arrays import FloatMatrix
from cost_model.dataset import UNTAUGHT
from cost_model.validity import ValidityModel
from schedules.records import MeasureResult
from tuner.search.sites import Point


class Placed(Protocol):
    """What has a point."""

    @property
    def point(self) -> Point | None:
        """Where it lies in the space; None for one of another space."""
        ...


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
        self._points: list[Point] = []
        self._works: list[bool] = []
        self._columns = 0

    def note(self, trials: Iterable[tuple[Point | None, MeasureResult]]) -> None:
        """Learn from trials; those that were lost without a fault of theirs do not count."""
        for point, result in trials:
            if point is None or (result.failure and result.failure.kind in UNTAUGHT):
                continue
            self._points.append(point)
            self._works.append(result.failure is None)
        works = np.array(self._works, dtype=np.bool_)
        if works.any() and not works.all():
            self._columns = max(len(_choices(point)) for point in self._points)
            self._model.fit(self._matrix(self._points), works)

    def chances(self, members: Sequence[Placed]) -> npt.NDArray[np.float32]:
        """Return the probability that each member works.

        Returns
        -------
        numpy.ndarray
            float32, shape (len(members),); 1 for what is of another space, which the cost model
            judges alone.
        """
        if not (self._model.is_fitted and members):
            return np.ones(len(members), dtype=np.float32)
        chances = self._model.predict(self._matrix([member.point for member in members]))
        chances[[member.point is None for member in members]] = 1.0
        return chances

    def _matrix(self, points: Sequence[Point | None]) -> FloatMatrix:
        matrix = np.full((len(points), self._columns), np.nan, dtype=np.float32)
        for row, point in zip(matrix, points, strict=True):
            choices = [] if point is None else _choices(point)[: self._columns]
            row[: len(choices)] = choices
        return matrix


def _choices(point: Point) -> list[float]:
    """Return the design and all decisions as numbers; factors as logarithms."""
    choices = [float(point.design)]
    for decision in point.decisions:
        if isinstance(decision, tuple):
            choices += np.log2(np.maximum(decision, 1)).tolist()
        else:
            choices.append(float("nan") if decision is None else float(decision))
    return choices
