"""The base model: what all tasks have taught, shared by all jobs."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from cost_model import boosters
from cost_model.arrays import FloatMatrix, ScoreVector
from cost_model.boosters import Goal, Grower, Lesson, Vector
from cost_model.columns import FEATURE_NAMES, FEATURE_VERSION, ROOFLINE_COLUMN, TASK_SLICE
from cost_model.dataset import Dataset
from cost_model.files import read_model, write_whole
from cost_model.versions import version_of
from schedules.errors import ContractError, InputError

PARAMETERS: Mapping[str, object] = MappingProxyType(
    {
        "tree_method": "hist",
        "max_bin": 64,
        "max_depth": 4,
        "eta": 0.15,
        "lambda": 2.0,
        "min_child_weight": 4.0,
        "subsample": 0.5,
        "colsample_bytree": 0.5,
        "verbosity": 0,
    }
)
"""How trees are grown."""

ROUNDS: Mapping[str, int] = MappingProxyType(
    {"speed": 60, "latency": 40, "interval": 20, "validity": 30}
)
"""Number of trees of each part."""

COVERAGE = 0.9
"""How often the interval of a latency is meant to hold it, on workloads that were not learnt."""

# An interval of a factor of two to both sides, where there is nothing to calibrate it with.
_WIDE = 1.0
_CALIBRATION_ROWS = 20
_TASKS_TO_PART = 4
_KNOWN_TASKS = 1024
_LEAST_VALIDITY = 2.0**-10
_LARGEST_FILE_BYTES = 256 * 2**20
_MANIFEST = "manifest.json"
_LOG2_E = float(np.log2(np.e))


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """What is expected of candidates; arrays of shape (n,).

    Attributes
    ----------
    latency_secs : numpy.ndarray
        Seconds of one call.
    low_secs, high_secs : numpy.ndarray
        An interval that holds the latency as often as `COVERAGE` says.
    validity : numpy.ndarray
        The probability that the candidate builds and runs.
    novelty : numpy.ndarray
        How far the task is from all that were learnt: the logarithm to base 2 of the factor by
        which it differs in the quantity in which it differs most from the nearest of them.
    """

    latency_secs: Vector
    low_secs: Vector
    high_secs: Vector
    validity: Vector
    novelty: Vector


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    """A fitted state; replaced as a whole, so that readers need no lock."""

    parts: Mapping[str, Any]
    widening: float
    known_tasks: FloatMatrix
    content: bytes = field(repr=False)
    version: str


class BaseModel:
    """Four boosters over the same features; implements `CostModel`.

    ``speed``
        The logarithm of the speed over that of the task's fastest, where fast rows weigh more: what
        a search needs. With equal weights 0.777 of the pairs of held-out shapes are ordered
        rightly, so 0.791. Learning pairs instead is hardly better and takes ten times as long.
    ``latency``
        The logarithm of the latency over the roofline bound: comparable between workloads, so that
        a latency can be told of one that was never measured.
    ``interval``
        Two quantiles of the same, widened by what candidates of other tasks than those that it was
        fitted on need: conformalised quantile regression.
        Source: Romano, Patterson and Candes, "Conformalized Quantile Regression", NeurIPS 2019.
    ``validity``
        Whether a candidate builds and runs. Only here do failures teach anything.

    A censored latency counts as its bound for the first, and is a lower bound to the second, by the
    accelerated failure time objective with a normal error, which is squared error of the logarithm
    where nothing is censored; the quantiles take no notice of such rows.
    Source: Barnwal, Cho and Hocking, "Survival Regression with Accelerated Failure Time Model in
    XGBoost", Journal of Computational and Graphical Statistics 31(4), 2022.

    The score is that of ``speed``, less what the candidate risks by failing. The
    file is a ZIP archive of UBJSON boosters and a manifest in JSON.

    Parameters
    ----------
    threads : int
        How many threads `fit` and `predict` use.
    seed : int
        Of row and column sampling.
    grow : Grower
        Where trees are grown; in this process by default.
    """

    def __init__(self, *, threads: int = 1, seed: int = 0, grow: Grower = boosters.grow) -> None:
        if threads < 1:
            raise ContractError(f"threads must be at least 1, not {threads}")
        self._threads = threads
        self._seed = seed
        self._grow = grow
        self._fitted: _Fitted | None = None

    @classmethod
    def from_bytes(cls, content: bytes, *, threads: int = 1) -> "BaseModel":
        """Read a model that `to_bytes` wrote.

        Raises
        ------
        InputError
            It is none, or of other features.
        """
        model = cls(threads=threads)
        model._fitted = _read(content, "the model", threads)
        return model

    @property
    def version(self) -> str | None:
        """Digest of the file's content; None before the first `fit` or `load`."""
        return None if self._fitted is None else self._fitted.version

    @property
    def knows_latency(self) -> bool:
        """Whether `estimate` can be asked: it was fitted on something that did not fail."""
        return self._fitted is not None and "latency" in self._fitted.parts

    def fit(self, dataset: Dataset) -> None:
        """Learn from `dataset` alone; see `CostModel.fit`."""
        if not len(dataset):
            raise ContractError("a model cannot be fitted on no rows")
        boosters.check_features(dataset.features)
        parts, widening = self._grow_parts(dataset)
        # One row of each group, as all of them are of the same task: there are many rows to sort.
        _, first = np.unique(dataset.groups, return_index=True)
        tasks = np.unique(dataset.features[first, TASK_SLICE], axis=0)[:_KNOWN_TASKS]
        content = _write(parts, widening, tasks)
        self._fitted = _read(content, "the model", self._threads)

    def predict(self, features: FloatMatrix) -> ScoreVector:
        """Score candidates; see `CostModel.predict`."""
        fitted = self._require()
        boosters.check_features(features)
        scores = np.zeros(len(features))
        if "speed" in fitted.parts and len(features):
            scores += boosters.margins(fitted.parts["speed"], features)
        scores += np.log2(np.maximum(_validity(fitted, features), _LEAST_VALIDITY))
        return scores.astype(np.float32)

    def estimate(self, features: FloatMatrix) -> Estimates:
        """Tell latencies with their intervals.

        Parameters
        ----------
        features : numpy.ndarray
            float32, shape (n, ``len(FEATURE_NAMES)``), finite.

        Raises
        ------
        ContractError
            Nothing was fitted or loaded yet, nothing was ever measured without a failure, or
            `features` has another shape or is not finite.
        """
        fitted = self._require()
        boosters.check_features(features)
        if "latency" not in fitted.parts:
            raise ContractError("the cost model knows no latency: all that it learnt has failed")
        roofline = features[:, ROOFLINE_COLUMN].astype(np.float64)
        middle = roofline + _LOG2_E * boosters.margins(fitted.parts["latency"], features)
        low, high = middle - _WIDE, middle + _WIDE
        if "interval" in fitted.parts:
            quantiles = roofline[:, None] + boosters.margins(fitted.parts["interval"], features)
            low = np.minimum(quantiles[:, 0] - fitted.widening, middle)
            high = np.maximum(quantiles[:, 1] + fitted.widening, middle)
        return Estimates(
            latency_secs=np.exp2(middle),
            low_secs=np.exp2(low),
            high_secs=np.exp2(high),
            validity=_validity(fitted, features),
            novelty=_novelty(fitted, features),
        )

    def save(self, path: Path) -> None:
        """Write the file; see `CostModel.save`."""
        write_whole(path, self.to_bytes())

    def load(self, path: Path) -> None:
        """Read a file that `save` wrote; see `CostModel.load`."""
        self._fitted = _read(read_model(path), str(path), self._threads)

    def to_bytes(self) -> bytes:
        """Return the file's content.

        Raises
        ------
        ContractError
            Nothing was fitted or loaded yet.
        """
        return self._require().content

    def _require(self) -> _Fitted:
        if self._fitted is None:
            raise ContractError("the cost model is not fitted; call fit or load first")
        return self._fitted

    def _grow_parts(self, dataset: Dataset) -> tuple[Mapping[str, bytes], float]:
        """Grow all boosters; return them, and by how much the interval is widened."""
        goals = _goals(dataset)
        lesson = Lesson(features=dataset.features, goals=goals)
        parts = self._grow(lesson, {**PARAMETERS, "nthread": self._threads, "seed": self._seed})
        if "interval" not in goals:
            return parts, _WIDE
        booster = boosters.load(parts["interval"], "the model", threads=self._threads)
        others = dataset.rows(_timed(dataset) & (goals["interval"].labels["weight"] == 0))
        quantiles = boosters.margins(booster, others.features)
        labels = _log_over_roofline(others)
        misses = np.maximum(quantiles[:, 0] - labels, labels - quantiles[:, 1])
        return parts, float(np.quantile(misses, COVERAGE))


def _goals(dataset: Dataset) -> dict[str, Goal]:
    """Return what there is to learn; rows that teach a part nothing have no weight in it."""
    goals: dict[str, Goal] = {}
    timed = _timed(dataset)
    if not dataset.failed.all():
        speed = dataset.relative_speed()
        goals["speed"] = _goal(
            "speed",
            {"objective": "reg:squarederror"},
            # What is twice as fast weighs twice as much.
            speed / speed[~dataset.failed].mean(),
            label=dataset.log_speed(),
        )
        goals["latency"] = _survival(dataset)
    if timed.sum() >= 2 * _CALIBRATION_ROWS:
        alphas = [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]
        goals["interval"] = _goal(
            "interval",
            {"objective": "reg:quantileerror", "quantile_alpha": alphas},
            _part_of_tasks(dataset, timed),
            label=np.where(timed, _log_over_roofline(dataset), 0.0),
        )
    if 0 < dataset.failed.sum() < len(dataset):
        every = np.ones(len(dataset), dtype=np.bool_)
        goals["validity"] = _goal(
            "validity", {"objective": "binary:logistic"}, every, label=~dataset.failed
        )
    return goals


def _goal(
    part: str,
    objective: Mapping[str, object],
    weight: npt.NDArray[np.bool_] | Vector,
    **labels: npt.NDArray[Any],
) -> Goal:
    held = {**labels, "weight": weight.astype(np.float64)}
    return Goal(objective=objective, rounds=ROUNDS[part], labels=held)


def _timed(dataset: Dataset) -> npt.NDArray[np.bool_]:
    """Which rows have a latency, not only a bound."""
    return ~dataset.failed & ~dataset.censored


def _survival(dataset: Dataset) -> Goal:
    """Return the goal of latencies over the roofline, of which some are only lower bounds."""
    values = np.where(dataset.failed, 1.0, np.exp2(_log_over_roofline(dataset)))
    return _goal(
        "latency",
        {
            "objective": "survival:aft",
            "aft_loss_distribution": "normal",
            "aft_loss_distribution_scale": 1.0,
            "base_score": float(np.exp(np.log(values[~dataset.failed]).mean())),
        },
        ~dataset.failed,
        label_lower_bound=values,
        label_upper_bound=np.where(dataset.censored, np.inf, values),
    )


def _log_over_roofline(dataset: Dataset) -> Vector:
    over: Vector = np.log2(dataset.latency_secs) - dataset.features[:, ROOFLINE_COLUMN]
    return over


def _part_of_tasks(dataset: Dataset, timed: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which timed rows are in three quarters of the tasks; of the rows, if tasks are few."""
    # Tasks are numbered by a hash, so that every fourth one is a random one; those of which nothing
    # is timed do not count, as nothing could be calibrated with them.
    tasks = np.unique(dataset.groups[timed])
    number = np.searchsorted(tasks, dataset.groups)
    if len(tasks) < _TASKS_TO_PART:
        number = np.cumsum(timed) - 1
    kept: npt.NDArray[np.bool_] = timed & (number % 4 != 3)
    return kept


def _validity(fitted: _Fitted, features: FloatMatrix) -> Vector:
    if "validity" not in fitted.parts or not len(features):
        return np.ones(len(features))
    validity: Vector = 1.0 / (1.0 + np.exp(-boosters.margins(fitted.parts["validity"], features)))
    return validity


def _novelty(fitted: _Fitted, features: FloatMatrix) -> Vector:
    tasks, index = np.unique(features[:, TASK_SLICE], axis=0, return_inverse=True)
    distances = np.abs(tasks[:, None, :] - fitted.known_tasks[None, :, :]).max(axis=2)
    nearest: Vector = distances.min(axis=1).astype(np.float64)
    return nearest[index]


def _write(parts: Mapping[str, bytes], widening: float, tasks: FloatMatrix) -> bytes:
    manifest = {
        "feature_version": FEATURE_VERSION,
        "features": list(FEATURE_NAMES),
        "interval_widening": widening,
        "known_tasks": [[float(value) for value in task] for task in tasks],
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (
            (_MANIFEST, json.dumps(manifest).encode()),
            *((f"{part}.ubj", parts[part]) for part in sorted(parts)),
        ):
            # Without the time, so that equal models are equal files.
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return buffer.getvalue()


def _read(content: bytes, origin: str, threads: int) -> _Fitted:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(item.file_size for item in archive.infolist()) > _LARGEST_FILE_BYTES:
                raise InputError(f"{origin} is larger than a model can be")
            files = {name: archive.read(name) for name in archive.namelist()}
        manifest = json.loads(files.pop(_MANIFEST))
        feature_version, names = manifest["feature_version"], manifest["features"]
        widening = float(manifest["interval_widening"])
        tasks = np.array(manifest["known_tasks"], dtype=np.float32)
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError, OSError) as error:
        raise InputError(f"{origin} is not a model file of Tunesmith: {error}") from None
    if feature_version != FEATURE_VERSION or names != list(FEATURE_NAMES):
        raise InputError(
            f"{origin} was fitted on features of version {feature_version} and this program "
            f"extracts version {FEATURE_VERSION}; fit a new model from the tuning records"
        )
    parts = {
        name.removesuffix(".ubj"): boosters.load(data, f"{name} of {origin}", threads=threads)
        for name, data in files.items()
    }
    return _Fitted(
        parts=MappingProxyType(parts),
        widening=widening,
        known_tasks=tasks.reshape(-1, TASK_SLICE.stop - TASK_SLICE.start),
        content=content,
        version=version_of(content),
    )
