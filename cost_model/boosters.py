"""Gradient-boosted trees as this package uses XGBoost's: growing, writing, reading, predicting."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import xgboost

from cost_model.arrays import FloatMatrix
from cost_model.columns import FEATURE_NAMES, FEATURE_VERSION
from schedules.errors import ContractError, InputError

_VERSION_ATTRIBUTE = "tunesmith_feature_version"

_PLACES: Mapping[str, int] = {name: place for place, name in enumerate(FEATURE_NAMES)}

Vector = npt.NDArray[np.float64]
Columns = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What one booster learns.

    Attributes
    ----------
    objective : Mapping[str, object]
        XGBoost's parameters that say what is learnt.
    rounds : int
        Number of trees, times the outputs.
    labels : Mapping[str, numpy.ndarray]
        What XGBoost's matrix holds beside the features, each of shape (n,): ``label``, or
        ``label_lower_bound`` and ``label_upper_bound``; ``weight``; and ``base_margin``, where
        trees add to something.
    """

    objective: Mapping[str, object]
    rounds: int
    labels: Mapping[str, npt.NDArray[Any]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What boosters learn from the same rows, by name.

    Attributes
    ----------
    features : numpy.ndarray
        float32, shape (n, ``len(FEATURE_NAMES)``).
    goals : Mapping[str, Goal]
        Of each booster; the labels have n rows.
    """

    features: FloatMatrix
    goals: Mapping[str, Goal]


class Grower(Protocol):
    """Grows trees: in this process, or on a cluster (`cost_model.distributed`)."""

    def __call__(self, lesson: Lesson, parameters: Mapping[str, object]) -> dict[str, bytes]:
        """Learn; return the boosters as UBJSON, each with the names of its features."""
        ...


def grow(lesson: Lesson, parameters: Mapping[str, object]) -> dict[str, bytes]:
    """Learn in this process; implements `Grower`."""
    matrix, columns = quantised(lesson.features, parameters)
    return {
        name: dump(train(matrix, columns, parameters, goal)) for name, goal in lesson.goals.items()
    }


def quantised(features: FloatMatrix, parameters: Mapping[str, object]) -> tuple[Any, Columns]:
    """Return XGBoost's matrix of the columns that teach something, and which those are."""
    columns = varying_columns(features)
    matrix = xgboost.QuantileDMatrix(
        features[:, columns], nthread=parameters["nthread"], max_bin=parameters["max_bin"]
    )
    return matrix, columns


def train(
    matrix: Any,
    columns: Columns,
    parameters: Mapping[str, object],
    goal: Goal,
    objective: Callable[..., Any] | None = None,
) -> Any:
    """Return a booster for one goal; `objective` takes the place of XGBoost's."""
    # All of them, as a matrix keeps what the goal before has set.
    unset = {"weight": np.ones(matrix.num_row()), "base_margin": np.zeros(0)}
    matrix.set_info(**{**unset, **goal.labels})
    every = {**parameters, **goal.objective}
    booster = xgboost.train(every, matrix, num_boost_round=goal.rounds, obj=objective)
    # Afterwards: with names in the matrix they are handed over anew for every tree.
    booster.feature_names = names_of(columns)
    return booster


def varying_columns(features: FloatMatrix) -> Columns:
    """Return which columns have several values; one at least, as XGBoost wants it.

    Trees are grown in time proportional to their number, and a third of them are the same in all
    rows of one kind of target.
    """
    varying: Columns = np.flatnonzero((features != features[:1]).any(axis=0))
    return varying if len(varying) else np.zeros(1, dtype=np.int64)


def names_of(columns: Columns) -> list[str]:
    """Return the names of columns, by which a booster knows them."""
    return [FEATURE_NAMES[column] for column in columns.tolist()]


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
    if feature_version != str(FEATURE_VERSION) or not _PLACES.keys() >= _names(booster):
        raise InputError(
            f"{origin} was fitted on features of version {feature_version} and this program "
            f"extracts version {FEATURE_VERSION}; fit a new model from the tuning records"
        )
    booster.set_param({"nthread": threads})
    return booster


def margins(booster: Any, features: FloatMatrix, start: Vector | None = None) -> Vector:
    """Return what a booster predicts before its objective's link.

    Parameters
    ----------
    booster : xgboost.Booster
        Grown on some of the columns.
    features : numpy.ndarray
        float32, shape (n, ``len(FEATURE_NAMES)``).
    start : numpy.ndarray or None
        Shape (n,): what its trees add to, instead of the booster's own mean.

    Returns
    -------
    numpy.ndarray
        float64, shape (n,), or (n, outputs) where it has several.
    """
    columns = [_PLACES[name] for name in booster.feature_names]
    found: Vector = booster.inplace_predict(
        features[:, columns], predict_type="margin", base_margin=start
    ).astype(np.float64)
    return found


def _names(booster: Any) -> set[str]:
    """Columns that a booster was grown on; a name that is no column's where it has none."""
    return set(booster.feature_names or ("",))


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
