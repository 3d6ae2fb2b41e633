"""Training data: features of candidates and what came of measuring them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from cost_model.arrays import FloatMatrix, GroupVector, SecondsVector
from schedules.errors import ContractError
from schedules.records import FailureKind, MeasureResult

UNTAUGHT = frozenset({FailureKind.WORKER_LOST, FailureKind.OUT_OF_MEMORY})
"""Failures that say nothing about the candidate."""


def group_of(workload_id: str, target_id: str) -> int:
    """Return the group of a (workload, target): the same number in every process.

    Returns
    -------
    int
        The first 63 bits of a SHA-256; distinct in practice for up to millions of groups.
    """
    digest = hashlib.sha256(f"{workload_id} {target_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


SLOWEST = 2.0**-6
"""Relative speed below which differences are not learnt; failed trials count as this slow."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Candidates with their latencies.

    The arrays are copied when a dataset is made, and read-only.

    Attributes
    ----------
    features : numpy.ndarray
        float32, shape (n, columns), finite.
    latency_secs : numpy.ndarray
        float64, shape (n,), seconds of one call, positive; NaN where the trial failed. Where it is
        `censored`, the latency is at least this.
    groups : numpy.ndarray
        int64, shape (n,), from `group_of`.
    flops : numpy.ndarray
        float64, shape (n,), arithmetic operations of one call; 0 where they are not known.
    censored : numpy.ndarray
        bool, shape (n,), which latencies are only bounds, because timing was given up; none of
        them by default.

    Raises
    ------
    ContractError
        The shapes do not fit together or a value is out of range.
    """

    features: FloatMatrix
    latency_secs: SecondsVector
    groups: GroupVector
    flops: npt.NDArray[np.float64]
    censored: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    def __post_init__(self) -> None:
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "features": np.array(self.features, dtype=np.float32),
            "latency_secs": np.array(self.latency_secs, dtype=np.float64),
            "groups": np.array(self.groups, dtype=np.int64),
            "flops": np.array(self.flops, dtype=np.float64),
            "censored": np.array(self.censored, dtype=np.bool_),
        }
        if not len(arrays["censored"]):
            arrays["censored"] = np.zeros(len(self.latency_secs), dtype=np.bool_)
        for name, array in arrays.items():
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        self._check()

    @classmethod
    def empty(cls, columns: int) -> Self:
        """Return a dataset of no rows with so many feature columns."""
        return cls(
            features=np.zeros((0, columns), dtype=np.float32),
            latency_secs=np.zeros(0),
            groups=np.zeros(0, dtype=np.int64),
            flops=np.zeros(0),
        )

    @classmethod
    def from_results(
        cls,
        features: FloatMatrix,
        results: Sequence[MeasureResult],
        *,
        group: int,
        flops: float = 0.0,
    ) -> Self:
        """Make a dataset of one workload and target from measured candidates.

        Trials that were lost with their worker are left out: they say nothing about the candidate.
        All other failures are kept, for a model to learn what fails. Those that repeat another
        candidate's measurement are kept too: their features differ.

        Parameters
        ----------
        features : numpy.ndarray
            float32, shape (len(results), columns).
        results : sequence of MeasureResult
            What came of each row's candidate.
        group : int
            From `group_of`.
        flops : float
            Arithmetic operations of one call of the workload.
        """
        if len(features) != len(results):
            raise ContractError(f"{len(features)} feature rows but {len(results)} results")
        kept = [
            index
            for index, result in enumerate(results)
            if result.failure is None or result.failure.kind not in UNTAUGHT
        ]
        latencies = [results[index].latency_secs or results[index].censored_secs for index in kept]
        return cls(
            features=features[kept],
            latency_secs=np.array(
                [np.nan if latency is None else latency for latency in latencies],
                dtype=np.float64,
            ),
            groups=np.full(len(kept), group, dtype=np.int64),
            flops=np.full(len(kept), flops),
            censored=np.array(
                [results[index].censored_secs is not None for index in kept], dtype=np.bool_
            ),
        )

    def __len__(self) -> int:
        return len(self.latency_secs)

    def extended(self, *others: "Dataset") -> "Dataset":
        """Return this dataset's rows followed by the others'; a copy, O(rows)."""
        parts = (self, *others)
        return Dataset(
            features=np.concatenate([part.features for part in parts]),
            latency_secs=np.concatenate([part.latency_secs for part in parts]),
            groups=np.concatenate([part.groups for part in parts]),
            flops=np.concatenate([part.flops for part in parts]),
            censored=np.concatenate([part.censored for part in parts]),
        )

    def rows(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> "Dataset":
        """Return the rows of a boolean mask or of an index array."""
        return Dataset(
            features=self.features[which],
            latency_secs=self.latency_secs[which],
            groups=self.groups[which],
            flops=self.flops[which],
            censored=self.censored[which],
        )

    @property
    def failed(self) -> npt.NDArray[np.bool_]:
        """Which trials failed; bool, shape (n,)."""
        return np.isnan(self.latency_secs)

    def relative_speed(self) -> npt.NDArray[np.float64]:
        """Return the speed of each row relative to the fastest of its group.

        Returns
        -------
        numpy.ndarray
            float64, shape (n,): best latency of the group over the row's latency, in (0, 1]; 0 for
            failed trials. For a censored row it is the most that the speed can be. Without a unit,
            so that groups of any size can be learnt from together.
        """
        _, index = np.unique(self.groups, return_inverse=True)
        best = np.full(int(index.max(initial=-1)) + 1, np.inf)
        np.fmin.at(best, index, self.latency_secs)
        return np.where(
            self.failed, 0.0, best[index] / np.where(self.failed, 1.0, self.latency_secs)
        )

    def log_speed(self) -> npt.NDArray[np.float64]:
        """Return what models of speed learn: log2 of the relative speed, at least of `SLOWEST`."""
        logs: npt.NDArray[np.float64] = np.log2(np.maximum(self.relative_speed(), SLOWEST))
        return logs

    def _check(self) -> None:
        rows = len(self.latency_secs)
        if self.features.ndim != 2:
            raise ContractError(f"features must be a matrix, not {self.features.ndim}-D")
        for name in ("features", "groups", "flops", "censored"):
            if len(getattr(self, name)) != rows:
                raise ContractError(
                    f"{name} has {len(getattr(self, name))} rows and latency_secs has {rows}"
                )
        if not np.isfinite(self.features).all():
            raise ContractError("features must be finite")
        measured = self.latency_secs[~self.failed]
        if not ((measured > 0) & np.isfinite(measured)).all():
            raise ContractError("latencies must be positive seconds, or NaN for failed trials")
        if (self.censored & self.failed).any():
            raise ContractError("a failed trial has no bound")
        if not (self.flops >= 0).all():
            raise ContractError("flops must not be negative")
