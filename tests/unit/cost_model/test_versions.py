from datetime import UTC, datetime

import numpy as np
import pytest

from cost_model.columns import FEATURE_NAMES, FEATURE_VERSION
from cost_model.dataset import Dataset
from cost_model.versions import ModelVersion, TrainedOn, version_of
from cost_model.xgboost_model import XgbCostModel
from schedules.errors import ContractError

FITTED_AT = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def dataset() -> Dataset:
    return Dataset(
        features=np.zeros((3, len(FEATURE_NAMES)), dtype=np.float32),
        latency_secs=np.array([1.0, float("nan"), 2.0]),
        groups=np.array([1, 1, 2]),
        flops=np.zeros(3),
    )


def test_a_version_is_a_digest_of_the_content() -> None:
    assert version_of(b"model") == "9372c470eeadd5ec"
    assert version_of(b"model") != version_of(b"models")


def test_training_data_is_counted(dataset: Dataset) -> None:
    assert TrainedOn.of(dataset) == TrainedOn(rows=3, failed=1, groups=2)


def test_a_version_tells_where_a_model_comes_from(dataset: Dataset) -> None:
    model = XgbCostModel()
    model.fit(dataset)
    metrics = {"pairwise_accuracy": 0.75}

    version = ModelVersion.of(model, dataset, metrics=metrics, created_at=FITTED_AT)
    metrics["pairwise_accuracy"] = 0.0

    assert version == ModelVersion(
        version=str(model.version),
        created_at=FITTED_AT,
        feature_version=FEATURE_VERSION,
        trained_on=TrainedOn(rows=3, failed=1, groups=2),
        metrics={"pairwise_accuracy": 0.75},
    )


def test_a_model_that_is_not_fitted_has_no_version(dataset: Dataset) -> None:
    with pytest.raises(ContractError, match="not fitted"):
        ModelVersion.of(XgbCostModel(), dataset, metrics={}, created_at=FITTED_AT)


def test_times_without_a_timezone_are_refused(dataset: Dataset) -> None:
    with pytest.raises(ContractError, match="timezone"):
        ModelVersion(
            version="0",
            created_at=FITTED_AT.replace(tzinfo=None),
            feature_version=1,
            trained_on=TrainedOn.of(dataset),
            metrics={},
        )
