"""Growing trees on a Dask cluster: for datasets that one machine is too small or too slow for."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cost_model.arrays import FloatMatrix
from cost_model.boosters import Columns, Goal, Grower, Lesson, dump, names_of, varying_columns
from schedules.errors import UnavailableError

_ROWS_PER_PART = 65_536


def dask_missing(what: str, error: ImportError) -> UnavailableError:
    """Return the error of something that needs Dask where it is not installed."""
    return UnavailableError(
        f"{what} on a cluster needs Dask ({error}); install it with: pip install 'tunesmith[dask]'"
    )


def on_cluster(scheduler: str) -> Grower:
    """Return a `Grower` that grows trees on the workers of a Dask cluster.

    Parameters
    ----------
    scheduler : str
        Address of its scheduler, as in ``tcp://host:8786``.

    Raises
    ------
    UnavailableError
        Dask is not installed.

    Source: ``xgboost.dask``, which adds up the workers' histograms of each tree level: the trees
    are those of one machine but for rounding.
    """
    try:
        from dask import array
        from distributed import Client
        from xgboost import dask as xgboost_dask
    except ImportError as error:
        raise dask_missing("training", error) from None

    def grow(lesson: Lesson, parameters: Mapping[str, object]) -> dict[str, bytes]:
        columns = varying_columns(lesson.features)
        features = lesson.features[:, columns]
        # The process's default client, as XGBoost looks for one.
        with Client(scheduler) as client:
            return {
                name: one(client, features, columns, parameters, goal)
                for name, goal in lesson.goals.items()
            }

    def one(
        client: Any,
        features: FloatMatrix,
        columns: Columns,
        parameters: Mapping[str, object],
        goal: Goal,
    ) -> bytes:
        def parts(values: "np.typing.NDArray[np.generic]") -> object:
            return array.from_array(values, chunks=(_ROWS_PER_PART, *values.shape[1:]))

        matrix = xgboost_dask.DaskQuantileDMatrix(
            client,
            parts(features),
            **{name: parts(values) for name, values in goal.labels.items()},
            max_bin=parameters["max_bin"],
        )
        found = xgboost_dask.train(
            client, {**parameters, **goal.objective}, matrix, num_boost_round=goal.rounds
        )
        booster = found["booster"]
        booster.feature_names = names_of(columns)
        return dump(booster)

    return grow
