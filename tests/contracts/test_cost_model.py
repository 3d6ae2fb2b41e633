"""The contract of `cost_model.protocol.CostModel`, over every implementation."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cost_model.arrays import FloatMatrix
from cost_model.base_model import BaseModel
from cost_model.columns import FEATURE_NAMES
from cost_model.dataset import Dataset
from cost_model.metrics import pairwise_accuracy
from cost_model.protocol import CostModel
from cost_model.xgboost_model import XgbCostModel
from schedules.errors import ContractError, InputError, NotFoundError

Make = Callable[[], CostModel]

IMPLEMENTATIONS: dict[str, Make] = {
    "task": lambda: XgbCostModel(threads=1, seed=3),
    "base": lambda: BaseModel(threads=1, seed=3),
}


@pytest.fixture(params=IMPLEMENTATIONS)
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
    # The contract does not say how good a model is; so many trees as in earnest would take minutes.
    few = {"speed": 60, "latency": 30, "interval": 10, "validity": 30}
    monkeypatch.setattr("cost_model.base_model.ROUNDS", few)
    return IMPLEMENTATIONS[request.param]


@pytest.fixture
def model(make: Make) -> CostModel:
    return make()


def random_features(rows: int, seed: int = 0) -> FloatMatrix:
    features = np.zeros((rows, len(FEATURE_NAMES)), dtype=np.float32)
    # Most columns of real rows do not vary within a task either.
    features[:, 30:60] = np.random.default_rng(seed).random((rows, 30), dtype=np.float32)
    return features


def latencies_of(features: FloatMatrix) -> npt.NDArray[np.float64]:
    log_latency = 4.0 * features[:, 40] - 2.0 * features[:, 41]
    return np.exp2(log_latency).astype(np.float64)


def dataset(rows: int = 96, seed: int = 0, *, group: int = 1, scale: float = 1e-3) -> Dataset:
    features = random_features(rows, seed)
    latencies = scale * latencies_of(features)
    latencies[features[:, 42] > 0.9] = np.nan
    return Dataset(
        features=features,
        latency_secs=latencies,
        groups=np.full(rows, group),
        flops=np.full(rows, 1e9),
    )


def test_predicting_before_the_first_fit_is_refused(model: CostModel) -> None:
    assert model.version is None
    with pytest.raises(ContractError, match="not fitted"):
        model.predict(random_features(1))


def test_saving_before_the_first_fit_is_refused(model: CostModel, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="not fitted"):
        model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_scores_order_unseen_candidates(model: CostModel) -> None:
    model.fit(dataset(256))
    unseen = dataset(128, seed=1)

    scores = model.predict(unseen.features)

    assert scores.dtype == np.float32
    assert scores.shape == (128,)
    accuracy = pairwise_accuracy(
        scores[~unseen.failed], unseen.latency_secs[~unseen.failed], unseen.groups[~unseen.failed]
    )
    assert accuracy is not None
    assert accuracy > 0.8


def test_the_scale_of_a_group_does_not_matter(make: Make) -> None:
    in_seconds, in_hours = make(), make()
    in_seconds.fit(dataset())
    in_hours.fit(dataset(scale=2.0**-20))

    features = random_features(32, seed=1)

    np.testing.assert_array_equal(in_seconds.predict(features), in_hours.predict(features))


def test_groups_of_any_scale_are_learnt_from_together(model: CostModel) -> None:
    model.fit(dataset(128, group=1).extended(dataset(128, seed=1, group=2, scale=10.0)))
    unseen = dataset(64, seed=2, group=3, scale=1e-6)

    accuracy = pairwise_accuracy(model.predict(unseen.features), unseen.latency_secs, unseen.groups)

    assert accuracy is not None
    assert accuracy > 0.8


def test_failing_candidates_score_below_working_ones(model: CostModel) -> None:
    features = random_features(128)
    fails = features[:, 50] > 0.5
    model.fit(
        Dataset(
            features=features,
            latency_secs=np.where(fails, np.nan, latencies_of(features)),
            groups=np.ones(128, dtype=np.int64),
            flops=np.zeros(128),
        )
    )
    unseen = random_features(128, seed=1)
    scores = model.predict(unseen)

    assert scores[unseen[:, 50] > 0.6].max() < np.median(scores[unseen[:, 50] < 0.4])


@pytest.mark.parametrize("latency", [1.0, float("nan")], ids=["one-success", "one-failure"])
def test_a_single_row_is_enough_to_predict(model: CostModel, latency: float) -> None:
    model.fit(
        Dataset(
            features=random_features(1),
            latency_secs=np.array([latency]),
            groups=np.array([1]),
            flops=np.zeros(1),
        )
    )

    assert np.isfinite(model.predict(random_features(3))).all()


def test_predicting_nothing_gives_nothing(model: CostModel) -> None:
    model.fit(dataset())

    assert model.predict(random_features(0)).shape == (0,)


def test_equal_models_come_of_equal_data(make: Make) -> None:
    first, second = make(), make()
    first.fit(dataset())
    second.fit(dataset())

    features = random_features(64, seed=1)

    assert first.version == second.version
    np.testing.assert_array_equal(first.predict(features), second.predict(features))


def test_a_fit_forgets_what_was_learnt_before(make: Make) -> None:
    refitted, fresh = make(), make()
    refitted.fit(dataset(seed=5))
    before = refitted.version
    refitted.fit(dataset())
    fresh.fit(dataset())

    assert refitted.version == fresh.version != before


def test_a_loaded_model_is_the_saved_one(make: Make, tmp_path: Path) -> None:
    saved, loaded = make(), make()
    saved.fit(dataset())
    saved.save(tmp_path / "model")
    loaded.load(tmp_path / "model")

    features = random_features(64, seed=1)

    assert loaded.version == saved.version
    np.testing.assert_array_equal(loaded.predict(features), saved.predict(features))


def test_a_saved_file_replaces_an_older_one_and_leaves_nothing_else(
    make: Make, tmp_path: Path
) -> None:
    path = tmp_path / "model"
    model, loaded = make(), make()
    model.fit(dataset(seed=5))
    model.save(path)
    model.fit(dataset())
    model.save(path)
    loaded.load(path)

    assert loaded.version == model.version
    assert list(tmp_path.iterdir()) == [path]


def test_loading_what_is_not_there_is_an_error(model: CostModel, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no model file"):
        model.load(tmp_path / "missing")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"{}",
        lambda content: b"not a model",
        lambda content: content[: len(content) // 2],
        lambda content: content[: len(content) // 2] + b"}",
        lambda content: bytes(len(content)),
    ],
    ids=["empty", "empty-object", "text", "truncated", "truncated-object", "zeros"],
)
def test_a_damaged_file_is_refused_and_the_model_stays(
    model: CostModel, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "model"
    model.fit(dataset())
    before = model.version
    model.save(path)
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(InputError, match="model"):
        model.load(path)

    assert model.version == before
    assert len(model.predict(random_features(2))) == 2


def test_fitting_on_nothing_is_refused_and_the_model_stays(model: CostModel) -> None:
    model.fit(dataset())
    before = model.version

    with pytest.raises(ContractError, match="no rows"):
        model.fit(Dataset.empty(len(FEATURE_NAMES)))

    assert model.version == before


def test_features_of_another_width_are_refused(model: CostModel) -> None:
    with pytest.raises(ContractError, match="shape"):
        model.fit(
            Dataset(
                features=np.zeros((1, 2), dtype=np.float32),
                latency_secs=np.ones(1),
                groups=np.ones(1, dtype=np.int64),
                flops=np.zeros(1),
            )
        )
    model.fit(dataset())
    with pytest.raises(ContractError, match="shape"):
        model.predict(random_features(2)[:, 1:])


def test_features_that_are_not_finite_are_refused(model: CostModel) -> None:
    model.fit(dataset())
    features = random_features(2)
    features[1, 5] = np.inf

    with pytest.raises(ContractError, match="finite"):
        model.predict(features)


def test_arguments_are_left_as_they_were(model: CostModel) -> None:
    features = random_features(8)
    model.fit(dataset())
    scores = model.predict(features)
    scores[:] = 0.0

    np.testing.assert_array_equal(features, random_features(8))
    assert model.predict(features).any()


def test_predictions_during_a_fit_are_of_the_old_or_the_new_state(make: Make) -> None:
    datasets = dataset(seed=0), dataset(seed=5)
    features = random_features(16, seed=9)
    allowed = []
    for each in datasets:
        reference = make()
        reference.fit(each)
        allowed.append(reference.predict(features))
    model = make()
    model.fit(datasets[0])
    seen = []
    done = threading.Event()

    def keep_predicting() -> None:
        while not done.is_set():
            seen.append(model.predict(features))

    threads = [threading.Thread(target=keep_predicting) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for each in (datasets[1], datasets[0], datasets[1]):
            model.fit(each)
    finally:
        done.set()
        for thread in threads:
            thread.join()

    assert seen
    assert all(any(np.array_equal(scores, known) for known in allowed) for scores in seen)
