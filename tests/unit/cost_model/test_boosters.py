from typing import Any

import numpy as np
import pytest

from cost_model import boosters
from cost_model.boosters import Goal, Lesson
from cost_model.columns import FEATURE_NAMES

PARAMETERS = {"nthread": 1, "max_bin": 32, "max_depth": 3, "seed": 0}
VARYING = (3, 40, 111)


@pytest.fixture
def features() -> np.ndarray:
    rows = np.ones((64, len(FEATURE_NAMES)), dtype=np.float32)
    rows[:, VARYING] = np.random.default_rng(0).random((64, len(VARYING)), dtype=np.float32)
    return rows


def grown(features: np.ndarray, labels: np.ndarray) -> Any:
    goal = Goal(objective={}, rounds=20, labels={"label": labels})
    content = boosters.grow(Lesson(features=features, goals={"one": goal}), PARAMETERS)["one"]
    return boosters.load(content, "the model", threads=1)


def test_trees_are_grown_on_the_columns_that_differ(features: np.ndarray) -> None:
    booster = grown(features, features[:, 40])
    assert booster.feature_names == [FEATURE_NAMES[column] for column in VARYING]


def test_columns_are_found_by_their_names_again(features: np.ndarray) -> None:
    booster = grown(features, features[:, 40])
    others = np.random.default_rng(1).random(features.shape, dtype=np.float32)
    found = boosters.margins(booster, others)
    assert np.corrcoef(found, others[:, 40])[0, 1] > 0.95


def test_margins_can_start_from_what_is_given(features: np.ndarray) -> None:
    booster = grown(features, features[:, 40])
    own = boosters.margins(booster, features, start=np.zeros(len(features)))
    more = boosters.margins(booster, features, start=np.full(len(features), 2.0))
    assert np.allclose(more, own + 2.0, atol=1e-5)


def test_equal_rows_teach_a_constant() -> None:
    rows = np.ones((8, len(FEATURE_NAMES)), dtype=np.float32)
    booster = grown(rows, np.full(8, 3.0))
    assert len(booster.feature_names) == 1
    assert np.allclose(boosters.margins(booster, rows), 3.0)


def test_goals_of_one_lesson_do_not_mix(features: np.ndarray) -> None:
    goals = {
        "first": Goal(
            objective={},
            rounds=20,
            labels={
                "label": features[:, 3],
                "weight": np.arange(64) % 2,
                "base_margin": np.ones(64),
            },
        ),
        "second": Goal(objective={}, rounds=20, labels={"label": features[:, 40]}),
    }
    together = boosters.grow(Lesson(features=features, goals=goals), PARAMETERS)
    alone = boosters.grow(Lesson(features=features, goals={"second": goals["second"]}), PARAMETERS)
    assert together["second"] == alone["second"]
