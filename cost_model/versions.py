"""Versions of fitted models: what was learnt, from how much, and how good it is."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

import numpy as np

from cost_model.columns import FEATURE_VERSION
from cost_model.dataset import Dataset
from cost_model.protocol import CostModel
from schedules.errors import ContractError

_DIGITS = 16


def version_of(model_bytes: bytes) -> str:
    """Return the version of a model file's content: the first 16 digits of its SHA-256."""
    return hashlib.sha256(model_bytes).hexdigest()[:_DIGITS]


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """How much a model was fitted on.

    Attributes
    ----------
    rows : int
        Trials.
    failed : int
        How many of these failed.
    groups : int
        How many pairs of workload and target.
    """

    rows: int
    failed: int
    groups: int

    @classmethod
    def of(cls, dataset: Dataset) -> "TrainedOn":
        """Count a dataset."""
        return cls(
            rows=len(dataset),
            failed=int(dataset.failed.sum()),
            groups=len(np.unique(dataset.groups)),
        )


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """The provenance of one fitted model; never changed.

    Attributes
    ----------
    version : str
        From `version_of`; equal for equal models, whenever they were fitted.
    created_at : datetime
        When it was fitted; timezone-aware.
    feature_version : int
        What its features mean; see `cost_model.columns`.
    trained_on : TrainedOn
        How much it was fitted on.
    metrics : Mapping[str, float]
        How it did on candidates that it was not fitted on; see `cost_model.metrics`.
    """

    version: str
    created_at: datetime
    feature_version: int
    trained_on: TrainedOn
    metrics: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ContractError("created_at must be timezone-aware")
        object.__setattr__(self, "metrics", MappingProxyType(dict(self.metrics)))

    @classmethod
    def of(
        cls,
        model: CostModel,
        dataset: Dataset,
        *,
        metrics: Mapping[str, float],
        created_at: datetime,
    ) -> "ModelVersion":
        """Describe a model that was just fitted on `dataset`.

        Raises
        ------
        ContractError
            The model is not fitted, or `created_at` has no timezone.
        """
        if model.version is None:
            raise ContractError("a model that is not fitted has no version")
        return cls(
            version=model.version,
            created_at=created_at,
            feature_version=FEATURE_VERSION,
            trained_on=TrainedOn.of(dataset),
            metrics=metrics,
        )
