from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xgboost

from cost_model import boosters
from cost_model.columns import FEATURE_NAMES, FEATURE_VERSION
from cost_model.dataset import Dataset
from cost_model.versions import version_of
from cost_model.xgboost_model import XgbCostModel
from schedules.errors import ContractError, InputError


@pytest.fixture
def dataset() -> Dataset:
    features = np.random.default_rng(0).random((64, len(FEATURE_NAMES)), dtype=np.float32)
    return Dataset(
        features=features,
        latency_secs=(1.0 + features[:, 7]).astype(np.float64),
        groups=np.ones(64, dtype=np.int64),
        flops=np.zeros(64),
    )


@pytest.fixture
def path(tmp_path: Path, dataset: Dataset) -> Path:
    model = XgbCostModel()
    model.fit(dataset)
    path = tmp_path / "model.ubj"
    model.save(path)
    return path


def test_the_version_is_that_of_the_file(path: Path) -> None:
    model = XgbCostModel()
    model.load(path)

    assert model.is_fitted
    assert model.version == version_of(path.read_bytes())


def test_a_new_model_is_not_fitted() -> None:
    assert not XgbCostModel().is_fitted


def test_xgboost_itself_can_read_the_file_with_its_column_names(path: Path) -> None:
    booster = xgboost.Booster(model_file=path)

    assert booster.feature_names == list(FEATURE_NAMES)
    assert booster.attr("tunesmith_feature_version") == str(FEATURE_VERSION)


def test_a_model_of_another_feature_version_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boosters, "FEATURE_VERSION", FEATURE_VERSION + 1)

    with pytest.raises(InputError, match="fit a new model from the tuning records"):
        XgbCostModel().load(path)


def test_a_model_of_other_columns_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosters, "_PLACES", dict.fromkeys(FEATURE_NAMES[1:], 0))

    with pytest.raises(InputError, match="fit a new model from the tuning records"):
        XgbCostModel().load(path)


def test_any_other_xgboost_model_is_refused(tmp_path: Path) -> None:
    foreign = xgboost.train({}, xgboost.DMatrix(np.ones((2, 2)), label=[0.0, 1.0]), 1)
    foreign.save_model(tmp_path / "foreign.ubj")

    with pytest.raises(InputError, match="features of version None"):
        XgbCostModel().load(tmp_path / "foreign.ubj")


def test_the_seed_changes_the_model(dataset: Dataset) -> None:
    models = [XgbCostModel(seed=seed) for seed in (0, 1)]
    for model in models:
        model.fit(dataset)

    assert models[0].version != models[1].version


def test_threads_must_be_positive() -> None:
    with pytest.raises(ContractError, match="at least 1"):
        XgbCostModel(threads=0)


def test_censored_rows_may_be_predicted_slower_than_their_bound(dataset: Dataset) -> None:
    """Half of the rows were given up at a fifth of their latency: that must not make them fast."""
    column = dataset.features[:, 7]
    latency_secs = 1.0 + 15.0 * column.astype(np.float64)
    censored = np.arange(len(latency_secs)) % 2 == 0
    bounds = np.where(censored, np.minimum(latency_secs, 2.1), latency_secs)
    known_slow = censored & (latency_secs > 2.1)
    told, untold, again = (XgbCostModel() for _ in range(3))
    told.fit(replace(dataset, latency_secs=bounds, censored=known_slow))
    untold.fit(replace(dataset, latency_secs=bounds))
    again.fit(replace(dataset, latency_secs=bounds, censored=known_slow))

    slow = dataset.features[censored & (latency_secs > 8)]

    assert told.predict(slow).mean() < untold.predict(slow).mean() - 0.5
    assert again.version == told.version
