from dataclasses import replace

import numpy as np
import pytest

from cost_model.base_model import BaseModel
from cost_model.boosters import grow
from cost_model.columns import FEATURE_NAMES, ROOFLINE_COLUMN, TASK_SLICE
from cost_model.dataset import Dataset
from cost_model.metrics import pairwise_accuracy
from cost_model.protocol import CostModel
from cost_model.xgboost_model import XgbCostModel
from schedules.errors import ContractError, InputError

TILE, FRAGILE = 100, 101


def tasks(
    count: int = 8, rows: int = 48, *, seed: int = 0, first: int = 0, fails: bool = True
) -> Dataset:
    """Tasks of sizes from 1 to 128 ms of roofline; a wide tile is fast, a fragile one may fail."""
    random = np.random.default_rng(seed)
    features = np.zeros((count * rows, len(FEATURE_NAMES)), dtype=np.float32)
    groups = np.repeat(np.arange(first, first + count), rows)
    features[:, TASK_SLICE] = (groups % 8)[:, None]
    features[:, ROOFLINE_COLUMN] = np.log2(1e-3) + groups % 8
    features[:, TILE : FRAGILE + 1] = random.random((len(features), 2), dtype=np.float32)
    noise = random.normal(0.0, 0.05, len(features))
    latency = np.exp2(features[:, ROOFLINE_COLUMN] + 1 + 3 * (1 - features[:, TILE]) + noise)
    if fails:
        latency[features[:, FRAGILE] > 0.8] = np.nan
    return Dataset(
        features=features,
        latency_secs=latency.astype(np.float64),
        groups=groups,
        flops=np.zeros(len(groups)),
    )


@pytest.fixture(scope="module")
def model() -> BaseModel:
    fitted = BaseModel(seed=1)
    fitted.fit(tasks())
    return fitted


def test_latencies_of_unmeasured_tasks_are_told(model: BaseModel) -> None:
    unseen = tasks(seed=9, first=100, fails=False)
    estimates = model.estimate(unseen.features)

    error = np.abs(np.log2(estimates.latency_secs / unseen.latency_secs))
    assert np.median(error) < 0.2
    inside = (estimates.low_secs <= unseen.latency_secs) & (
        unseen.latency_secs <= estimates.high_secs
    )
    assert inside.mean() > 0.85
    assert (estimates.low_secs <= estimates.latency_secs).all()
    assert (estimates.latency_secs <= estimates.high_secs).all()


def test_failures_teach_what_is_valid_and_nothing_else(model: BaseModel) -> None:
    unseen = tasks(seed=9, fails=False)
    fragile = unseen.features[:, FRAGILE] > 0.85
    estimates = model.estimate(unseen.features)

    assert estimates.validity[fragile].max() < 0.5
    assert estimates.validity[unseen.features[:, FRAGILE] < 0.75].min() > 0.5
    # Fragile candidates are as fast as others, if they work.
    error = np.abs(np.log2(estimates.latency_secs / unseen.latency_secs))
    assert np.median(error[fragile]) < 0.3


def test_a_far_task_is_told_from_near_ones(model: BaseModel) -> None:
    features = tasks(count=1, rows=3).features.copy()
    features[1, TASK_SLICE] += 0.5
    features[2, TASK_SLICE] += 20.0

    np.testing.assert_allclose(model.estimate(features).novelty, [0.0, 0.5, 13.0], atol=1e-5)


def test_a_bound_teaches_that_a_candidate_is_slow() -> None:
    """Half of the rows are known to be slower than twice the fastest, and no more than that."""
    data = tasks(fails=False)
    best = np.exp2(data.features[:, ROOFLINE_COLUMN] + 1).astype(np.float64)
    slow = data.latency_secs > 2 * best
    told = replace(data, latency_secs=np.where(slow, 2 * best, data.latency_secs), censored=slow)
    model, deceived = BaseModel(seed=1), BaseModel(seed=1)
    model.fit(told)
    deceived.fit(replace(told, censored=np.zeros(len(slow), dtype=np.bool_)))

    slowest = data.features[data.features[:, TILE] < 0.2]
    assert np.median(model.estimate(slowest).latency_secs) > 1.3 * np.median(
        deceived.estimate(slowest).latency_secs
    )


def test_nothing_is_told_where_all_failed() -> None:
    data = tasks(count=1)
    model = BaseModel()
    model.fit(replace(data, latency_secs=np.full(len(data), np.nan)))

    assert not model.knows_latency
    with pytest.raises(ContractError, match="knows no latency"):
        model.estimate(data.features)


def test_a_file_of_other_features_is_refused(
    model: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cost_model.base_model.FEATURE_VERSION", 99)

    with pytest.raises(InputError, match="fit a new model"):
        BaseModel.from_bytes(model.to_bytes())


def test_a_task_that_only_failed_calibrates_nothing() -> None:
    working = tasks(count=4, fails=False)
    broken = replace(
        working, latency_secs=np.where(working.groups == 3, np.nan, working.latency_secs)
    )
    model = BaseModel()
    model.fit(broken)

    found = model.estimate(working.features)
    assert np.isfinite(found.low_secs).all()
    assert (found.low_secs <= found.high_secs).all()


def test_trees_may_be_grown_elsewhere() -> None:
    grown: list[str] = []

    def elsewhere(lesson, parameters):
        grown.extend(str(goal.objective["objective"]) for goal in lesson.goals.values())
        return grow(lesson, parameters)

    model = BaseModel(grow=elsewhere)
    model.fit(tasks(count=2))

    assert sorted(grown) == [
        "binary:logistic",
        "reg:quantileerror",
        "reg:squarederror",
        "survival:aft",
    ]


def test_a_residual_starts_from_what_the_base_knows(model: BaseModel) -> None:
    residual = XgbCostModel(base=model)
    features = tasks(count=1, seed=3).features

    assert residual.version == model.version
    np.testing.assert_array_equal(residual.predict(features), model.predict(features))


def test_a_residual_learns_what_a_task_has_of_its_own() -> None:
    """On this task a wide tile is slow: the base is wrong, and a few trials must turn it."""
    base = BaseModel(seed=1)
    base.fit(tasks(fails=False))
    task = tasks(count=1, rows=160, seed=3, fails=False)
    reverse = replace(task, latency_secs=np.exp2(3.0 * task.features[:, TILE]).astype(np.float64))
    residual = XgbCostModel(base=base)
    residual.fit(reverse.rows(np.arange(112)))
    rest = reverse.rows(np.arange(112, 160))

    def accuracy(model: CostModel) -> float:
        found = pairwise_accuracy(model.predict(rest.features), rest.latency_secs, rest.groups)
        assert found is not None
        return found

    assert accuracy(base) < 0.1
    assert accuracy(residual) > 0.8
    base_version, own = str(residual.version).split("+")
    assert (base_version, len(own)) == (base.version, 16)


def test_a_residual_is_read_over_its_own_base_only(model: BaseModel, tmp_path) -> None:
    residual = XgbCostModel(base=model)
    residual.fit(tasks(count=1, seed=3))
    residual.save(tmp_path / "residual.ubj")
    again = XgbCostModel(base=model)
    again.load(tmp_path / "residual.ubj")
    other = BaseModel(seed=2)
    other.fit(tasks(count=2))

    assert again.version == residual.version
    for base in (None, other):
        with pytest.raises(InputError, match="another base model"):
            XgbCostModel(base=base).load(tmp_path / "residual.ubj")


def test_a_base_has_to_be_fitted() -> None:
    with pytest.raises(ContractError, match="not fitted"):
        XgbCostModel(base=BaseModel())
