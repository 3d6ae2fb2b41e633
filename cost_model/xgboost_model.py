"""The cost model of gradient-boosted trees."""

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost

from cost_model.arrays import FloatMatrix, ScoreVector
from cost_model.columns import FEATURE_NAMES, FEATURE_VERSION
from cost_model.dataset import Dataset
from cost_model.versions import version_of
from schedules.errors import ContractError, InputError, NotFoundError

ROUNDS = 100
"""Number of trees."""

PARAMETERS: Mapping[str, object] = MappingProxyType(
    {
        "objective": "reg:squarederror",
        "tree_method": "hist",
        "max_bin": 32,
        "max_depth": 4,
        "eta": 0.1,
        "lambda": 3.0,
        "subsample": 0.8,
        "colsample_bytree": 0.5,
    }
)
"""How trees are grown: shallow ones on few columns, as a search has tens of rows to learn from."""

_Gradients = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

SLOWEST = 2.0**-6
"""Relative speed below which differences are not learnt; failed trials count as this slow."""

_VERSION_ATTRIBUTE = "tunesmith_feature_version"


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    """A fitted state; replaced as a whole, so that readers need no lock."""

    booster: Any
    content: bytes
    version: str


class XgbCostModel:
    """Gradient-boosted trees, fitted to the logarithm of the speed relative to the group's best.

    What to fit was chosen on nine CPU workloads (matmuls, convolutions, softmax, a reduction) with
    60 to 192 random candidates of TVM's space each, timed on one core. Mean pairwise accuracy on
    held-out candidates, over five random splits, after so many trials of the same workload:

    ======================================  =====  =====  =====
    fitted to                                  16     32     64
    ======================================  =====  =====  =====
    logarithm of ``best / latency``         0.696  0.732  0.757
    the same, fast rows weighing more       0.687  0.725  0.752
    ``best / latency``                      0.682  0.720  0.744
    the same, fast rows weighing more       0.665  0.705  0.729
    pairs of rows (``rank:pairwise``)       0.680  0.719  0.743
    the first, TVM's features alone         0.661  0.701  0.719
    ======================================  =====  =====  =====

    The first is used. The differences between targets are small, `PARAMETERS` and the loop columns
    were chosen on the same workloads and with the first target, which favours it, and the recall of
    the best among the top 8 does not tell the targets apart.

    Of a censored row, only the most that its speed can be is known. It costs nothing to predict it
    slower than that, and as much as for other rows to predict it faster.
    Source: Tobin, Estimation of Relationships for Limited Dependent Variables, 1958, for the idea.

    The same rows, seed and thread count give the same model, byte for byte. Do not `fit` in a
    process that was forked after another `fit`: it would wait forever for OpenMP's threads, which
    do not survive a fork. Spawned processes are fine.

    Parameters
    ----------
    threads : int
        How many threads `fit` and `predict` use. Below some ten thousand rows one is the fastest:
        a fit of 64 rows takes 0.1 s with it, and XGBoost's threads wait for each other actively,
        which on busy cores makes two of them ten times slower than one.
    seed : int
        Of row and column sampling.
    """

    def __init__(self, *, threads: int = 1, seed: int = 0) -> None:
        if threads < 1:
            raise ContractError(f"threads must be at least 1, not {threads}")
        self._threads = threads
        self._seed = seed
        self._fitted: _Fitted | None = None

    @property
    def version(self) -> str | None:
        """Digest of the model file's content; None before the first `fit` or `load`."""
        return None if self._fitted is None else self._fitted.version

    @property
    def is_fitted(self) -> bool:
        """Whether there is anything to predict with."""
        return self._fitted is not None

    def fit(self, dataset: Dataset) -> None:
        """Learn from `dataset` alone; see `CostModel.fit`."""
        if not len(dataset):
            raise ContractError("a model cannot be fitted on no rows")
        _check_features(dataset.features)
        matrix = xgboost.QuantileDMatrix(
            dataset.features,
            label=_labels(dataset),
            feature_names=list(FEATURE_NAMES),
            nthread=self._threads,
            max_bin=PARAMETERS["max_bin"],
        )
        parameters = {**PARAMETERS, "nthread": self._threads, "seed": self._seed, "verbosity": 0}
        objective = None
        if dataset.censored.any():
            # XGBoost takes the mean label as the base where the objective is its own.
            parameters["base_score"] = float(_labels(dataset).mean())
            objective = _one_sided(dataset.censored)
        booster = xgboost.train(parameters, matrix, num_boost_round=ROUNDS, obj=objective)
        booster.set_attr(**{_VERSION_ATTRIBUTE: str(FEATURE_VERSION)})
        self._fitted = self._state(bytes(booster.save_raw("ubj")))

    def predict(self, features: FloatMatrix) -> ScoreVector:
        """Score candidates; see `CostModel.predict`."""
        fitted = self._require()
        _check_features(features)
        if not len(features):
            return np.zeros(0, dtype=np.float32)
        scores: ScoreVector = fitted.booster.inplace_predict(features).astype(np.float32)
        return scores

    def save(self, path: Path) -> None:
        """Write a UBJSON file, as XGBoost reads it; see `CostModel.save`."""
        content = self._require().content
        # A reader must find the old file or the new one, never half of one.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def load(self, path: Path) -> None:
        """Read a UBJSON file that `save` wrote; see `CostModel.load`."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f"there is no model file {path}") from None
        self._fitted = self._state(content, str(path))

    def _require(self) -> _Fitted:
        if self._fitted is None:
            raise ContractError("the cost model is not fitted; call fit or load first")
        return self._fitted

    def _state(self, content: bytes, origin: str = "the model") -> _Fitted:
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
        booster.set_param({"nthread": self._threads})
        return _Fitted(booster=booster, content=content, version=version_of(content))


def _labels(dataset: Dataset) -> npt.NDArray[np.float64]:
    labels: npt.NDArray[np.float64] = np.log2(np.maximum(dataset.relative_speed(), SLOWEST))
    return labels


def _one_sided(
    censored: npt.NDArray[np.bool_],
) -> Callable[[npt.NDArray[np.float32], xgboost.DMatrix], _Gradients]:
    """Return squared error that does not mind censored rows which are predicted to be slower."""

    def objective(scores: npt.NDArray[np.float32], matrix: xgboost.DMatrix) -> _Gradients:
        excess = scores - matrix.get_label()
        gradients = np.where(censored & (excess < 0), np.float32(0), excess)
        return gradients, np.ones_like(gradients)

    return objective


def _check_features(features: FloatMatrix) -> None:
    if features.ndim != 2 or features.shape[1] != len(FEATURE_NAMES):
        raise ContractError(
            f"features must have the shape (n, {len(FEATURE_NAMES)}), not {features.shape}"
        )
    if not np.isfinite(features).all():
        raise ContractError("features must be finite")
