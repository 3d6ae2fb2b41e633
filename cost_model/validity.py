"""Whether candidates of one task work, told from the choices that made them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost

from cost_model.arrays import FloatMatrix
from schedules.errors import ContractError

ROUNDS = 60
"""Number of trees."""
BINS = 32
THREADS = 1
"""There are some hundred rows at most."""

PARAMETERS: Mapping[str, object] = MappingProxyType(
    {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_bin": BINS,
        "max_depth": 4,
        "eta": 0.15,
        "lambda": 1.0,
        # A failure or two have to be enough to split off what they have in common.
        "min_child_weight": 0.5,
        "subsample": 0.9,
        "colsample_bytree": 0.5,
        "nthread": THREADS,
        "verbosity": 0,
    }
)
"""How trees are grown."""


class ValidityModel:
    """Trees over the choices that were made for a candidate, such as the factors of its tiles.

    The base model tells validity from features, for all tasks; this one serves a single search,
    whose failures may have a cause that no feature shows.

    The same rows and seed give the same model.

    Parameters
    ----------
    seed : int
        Of row and column sampling.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed
        self._booster: Any = None

    @property
    def is_fitted(self) -> bool:
        """Whether there is anything to predict with."""
        return self._booster is not None

    def fit(self, choices: FloatMatrix, works: npt.NDArray[np.bool_]) -> None:
        """Learn from these rows alone.

        Parameters
        ----------
        choices : numpy.ndarray
            float32, shape (n, columns); NaN for a choice that a candidate does not have.
        works : numpy.ndarray
            bool, shape (n,): which candidates were built and ran.

        Raises
        ------
        ContractError
            All of them work, or none does.
        """
        if works.all() or not works.any():
            raise ContractError("validity can be learnt only where some candidates work, not all")
        matrix = xgboost.QuantileDMatrix(choices, label=works, nthread=THREADS, max_bin=BINS)
        parameters = {**PARAMETERS, "seed": self._seed}
        self._booster = xgboost.train(parameters, matrix, num_boost_round=ROUNDS)

    def predict(self, choices: FloatMatrix) -> npt.NDArray[np.float32]:
        """Return the probability that each candidate works.

        Parameters
        ----------
        choices : numpy.ndarray
            float32, shape (n, columns), with the columns of `fit`.

        Raises
        ------
        ContractError
            Nothing was fitted yet, or the columns are others.
        """
        if self._booster is None:
            raise ContractError("the validity model is not fitted; call fit first")
        if choices.shape[1] != self._booster.num_features():
            raise ContractError(
                f"{choices.shape[1]} columns of choices, but {self._booster.num_features()} learnt"
            )
        if not len(choices):
            return np.zeros(0, dtype=np.float32)
        predicted: npt.NDArray[np.float32] = self._booster.inplace_predict(choices)
        return predicted
