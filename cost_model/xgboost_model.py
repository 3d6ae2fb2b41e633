"""The cost model of one task: gradient-boosted trees, alone or on top of a base model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost

from cost_model import boosters
from cost_model.arrays import FloatMatrix, ScoreVector
from cost_model.dataset import Dataset
from cost_model.files import read_model, write_whole
from cost_model.protocol import CostModel
from cost_model.versions import version_of
from schedules.errors import ContractError, InputError

ROUNDS = 100
"""Number of trees."""

RESIDUAL_ROUNDS = 40
"""Number of trees on top of a base model."""

PARAMETERS: Mapping[str, object] = MappingProxyType(
    {
        "objective": "reg:squarederror",
        "tree_method": "hist",
        "max_bin": 32,
        "max_depth": 4,
        "eta": 0.1,
        "lambda": 3.0,
        "subsample": 0.8,
        "colsample_bytree": 0.2,
    }
)
"""How trees are grown: shallow ones on few columns, as a search has tens of rows to learn from."""

_Gradients = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

_BASE_ATTRIBUTE = "tunesmith_base"
_SCALE_ATTRIBUTE = "tunesmith_base_scale"
_SHIFT_ATTRIBUTE = "tunesmith_base_shift"
_ROWS_FOR_SCALE = 8
_SCALES = (0.05, 4.0)


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    """A fitted state; replaced as a whole, so that readers need no lock."""

    booster: Any
    content: bytes = field(repr=False)
    version: str
    base_scale: float
    base_shift: float


class XgbCostModel:
    """Trees of one task, fitted to the logarithm of the speed relative to the group's best.

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

    With a base model, the trees learn what is left of the labels after its scores, brought to the
    labels' scale: what a task has of its own. Such a model predicts before its first `fit` what the
    base says, and its version names both, as ``<base>+<own>``; a file holds its own trees only.

    Parameters
    ----------
    base : CostModel or None
        A fitted model of all tasks. It is not changed.
    threads : int
        How many threads `fit` and `predict` use. Below some ten thousand rows one is the fastest:
        a fit of 64 rows takes 0.1 s with it, and XGBoost's threads wait for each other actively,
        which on busy cores makes two of them ten times slower than one.
    seed : int
        Of row and column sampling.
    """

    def __init__(self, *, base: CostModel | None = None, threads: int = 1, seed: int = 0) -> None:
        if threads < 1:
            raise ContractError(f"threads must be at least 1, not {threads}")
        if base is not None and base.version is None:
            raise ContractError("the base model is not fitted")
        self._base = base
        self._threads = threads
        self._seed = seed
        self._fitted: _Fitted | None = None

    @property
    def version(self) -> str | None:
        """Digest of the file's content, after the base model's; None before there is either."""
        own = None if self._fitted is None else self._fitted.version
        base = None if self._base is None else self._base.version
        return "+".join(filter(None, (base, own))) or None

    @property
    def is_fitted(self) -> bool:
        """Whether there is anything to predict with."""
        return self.version is not None

    def fit(self, dataset: Dataset) -> None:
        """Learn from `dataset` alone; see `CostModel.fit`."""
        if not len(dataset):
            raise ContractError("a model cannot be fitted on no rows")
        boosters.check_features(dataset.features)
        labels = dataset.log_speed()
        scale, shift, margin = self._base_margin(dataset.features, labels)
        parameters = {**PARAMETERS, "nthread": self._threads, "seed": self._seed, "verbosity": 0}
        objective = None
        if dataset.censored.any():
            # XGBoost takes the mean label as the base where the objective is its own.
            parameters["base_score"] = float(labels.mean())
            objective = _one_sided(dataset.censored)
        held = {"label": labels} if margin is None else {"label": labels, "base_margin": margin}
        rounds = ROUNDS if self._base is None else RESIDUAL_ROUNDS
        matrix, columns = boosters.quantised(dataset.features, parameters)
        goal = boosters.Goal(objective={}, rounds=rounds, labels=held)
        booster = boosters.train(matrix, columns, parameters, goal, objective)
        if self._base_version:
            booster.set_attr(
                **{
                    _BASE_ATTRIBUTE: self._base_version,
                    _SCALE_ATTRIBUTE: repr(scale),
                    _SHIFT_ATTRIBUTE: repr(shift),
                }
            )
        self._fitted = self._state(boosters.dump(booster))

    def predict(self, features: FloatMatrix) -> ScoreVector:
        """Score candidates; see `CostModel.predict`."""
        fitted = self._fitted
        if fitted is None and self._base is None:
            fitted = self._require()
        boosters.check_features(features)
        if not len(features):
            return np.zeros(0, dtype=np.float32)
        if self._base is None:
            assert fitted is not None
            return boosters.margins(fitted.booster, features).astype(np.float32)
        scores: ScoreVector = self._base.predict(features)
        if fitted is not None:
            # From zero, as the base's scores stand for the margin that was learnt with.
            own = boosters.margins(fitted.booster, features, start=np.zeros(len(features)))
            scores = (fitted.base_scale * scores + fitted.base_shift + own).astype(np.float32)
        return scores

    def save(self, path: Path) -> None:
        """Write a UBJSON file, as XGBoost reads it; see `CostModel.save`."""
        write_whole(path, self._require().content)

    def load(self, path: Path) -> None:
        """Read a UBJSON file that `save` wrote; see `CostModel.load`."""
        self._fitted = self._state(read_model(path), str(path))

    @property
    def _base_version(self) -> str:
        return (self._base.version or "") if self._base is not None else ""

    def _base_margin(
        self, features: FloatMatrix, labels: npt.NDArray[np.float64]
    ) -> tuple[float, float, npt.NDArray[np.float64] | None]:
        """Return the factor and the summand that bring the base's scores to the labels, and those.

        After that a score is the logarithm of a speed over the best's, as it is without a base.
        """
        if self._base is None:
            return 1.0, 0.0, None
        scores = self._base.predict(features).astype(np.float64)
        scale = 1.0
        if len(scores) >= _ROWS_FOR_SCALE and scores.std() > 0:
            # Never reversed: a base that is wrong here is for the trees to correct.
            slope = float(np.cov(scores, labels)[0, 1] / scores.var(ddof=1))
            scale = min(max(slope, _SCALES[0]), _SCALES[1])
        shift = float((labels - scale * scores).mean())
        margin: npt.NDArray[np.float64] = scale * scores + shift
        return scale, shift, margin

    def _require(self) -> _Fitted:
        if self._fitted is None:
            raise ContractError("the cost model is not fitted; call fit or load first")
        return self._fitted

    def _state(self, content: bytes, origin: str = "the model") -> _Fitted:
        booster = boosters.load(content, origin, threads=self._threads)
        if (booster.attr(_BASE_ATTRIBUTE) or "") != self._base_version:
            raise InputError(
                f"{origin} was fitted on top of another base model, "
                f"{booster.attr(_BASE_ATTRIBUTE) or 'none'}; fit it anew"
            )
        return _Fitted(
            booster=booster,
            content=content,
            version=version_of(content),
            base_scale=float(booster.attr(_SCALE_ATTRIBUTE) or 1.0),
            base_shift=float(booster.attr(_SHIFT_ATTRIBUTE) or 0.0),
        )


def _one_sided(
    censored: npt.NDArray[np.bool_],
) -> Callable[[npt.NDArray[np.float32], xgboost.DMatrix], _Gradients]:
    """Return squared error that does not mind censored rows which are predicted to be slower."""

    def objective(scores: npt.NDArray[np.float32], matrix: xgboost.DMatrix) -> _Gradients:
        excess = scores - matrix.get_label()
        gradients = np.where(censored & (excess < 0), np.float32(0), excess)
        return gradients, np.ones_like(gradients)

    return objective
