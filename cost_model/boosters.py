"""Gradient-boosted trees as this package uses XGBoost's: growing, writing, reading, predicting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import xgboost

from cost_model.arrays import FloatMatrix
from cost_model.columns import FEATURE_NAMES, FEATURE_VERSION
from schedules.errors import ContractError, InputError

_VERSION_ATTRIBUTE = "tunesmith_feature_version"

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What one booster learns.

    Attributes
    ----------
    objective : Mapping[str, object]
        XGBoost's parameters that say what is learnt.
    rounds : int
        Number of trees, times the outputs.
    features : numpy.ndarray
        float32, shape (n, columns).
    labels : Mapping[str, numpy.ndarray]
        The arguments of XGBoost's matrix that hold labels, each of shape (n,): ``label``, or
        ``label_lower_bound`` and ``label_upper_bound``; and ``qid``, where rows are sorted by task.
    """

    objective: Mapping[str, object]
    rounds: int
    features: FloatMatrix
    labels: Mapping[str, npt.NDArray[Any]] = field(repr=False)


class Grower(Protocol):
    """Grows trees: in this process, or on a cluster (`cost_model.distributed`)."""

    def __call__(self, lesson: Lesson, parameters: Mapping[str, object]) -> bytes:
        """Learn, and return the booster as UBJSON with the names of its features."""
        ...


def grow(lesson: Lesson, parameters: Mapping[str, object]) -> bytes:
    """Learn in this process; implements `Grower`."""
    matrix = xgboost.QuantileDMatrix(
        lesson.features,
        **lesson.labels,
        feature_names=list(FEATURE_NAMES),
        nthread=parameters["nthread"],
        max_bin=parameters["max_bin"],
    )
    booster = xgboost.train(
        {**parameters, **lesson.objective}, matrix, num_boost_round=lesson.rounds
    )
    return dump(booster)


def dump(booster: Any) -> bytes:
    """Write a booster as UBJSON, marked with the version of its features."""
    booster.set_attr(**{_VERSION_ATTRIBUTE: str(FEATURE_VERSION)})
    return bytes(booster.save_raw("ubj"))


def load(content: bytes, origin: str, *, threads: int) -> Any:
    """Read a booster that `dump` wrote.

    Raises
    ------
    InputError
        It is none, or was fitted on other features than this program extracts.
    """
    # XGBoost ends the process on an empty text instead of raising an error.
    if not (content.startswith(b"{") and content.endswith(b"}")):
        raise InputError(f"{origin} is not a whole UBJSON file; save the model again")
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(content))
    except (xgboost.core.XGBoostError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise InputError(f"{origin} is not an XGBoost model: {reason}") from None
    feature_version = booster.attr(_VERSION_ATTRIBUTE)
    if feature_version != str(FEATURE_VERSION) or booster.feature_names != list(FEATURE_NAMES):
        raise InputError(
            f"{origin} was fitted on features of version {feature_version} and this program "
            f"extracts version {FEATURE_VERSION}; fit a new model from the tuning records"
        )
    booster.set_param({"nthread": threads})
    return booster


def margins(booster: Any, features: FloatMatrix) -> Vector:
    """Return what a booster predicts before its objective's link.

    Returns
    -------
    numpy.ndarray
        float64, shape (n,), or (n, outputs) where it has several.
    """
    found: Vector = booster.inplace_predict(features, predict_type="margin").astype(np.float64)
    return found


def check_features(features: FloatMatrix, names: Sequence[str] = FEATURE_NAMES) -> None:
    """Refuse what is no matrix of finite features.

    Raises
    ------
    ContractError
        It has another shape, or a value that is not finite.
    """
    if features.ndim != 2 or features.shape[1] != len(names):
        raise ContractError(f"features must have the shape (n, {len(names)}), not {features.shape}")
    if not np.isfinite(features).all():
        raise ContractError("features must be finite")
