"""Validity learnt from the choices of one search."""

import numpy as np
import pytest

from cost_model.validity import ValidityModel
from schedules.errors import ContractError


def rows(count, seed=1):
    """Choices of two designs, the second of which has a column less; the third column decides."""
    random = np.random.default_rng(seed)
    choices = random.integers(0, 6, size=(count, 4)).astype(np.float32)
    choices[:, 0] = random.integers(0, 2, size=count)
    choices[choices[:, 0] == 1, 3] = np.nan
    return choices, choices[:, 2] < 4


def test_what_fails_at_one_choice_is_told_of_others():
    model = ValidityModel()
    model.fit(*rows(64))
    choices, works = rows(200, seed=2)
    assert ((model.predict(choices) > 0.5) == works).mean() > 0.95


def test_equal_rows_and_seeds_tell_the_same():
    told = []
    for _ in range(2):
        model = ValidityModel(seed=3)
        model.fit(*rows(48))
        told.append(model.predict(rows(20, seed=2)[0]).tolist())
    assert told[0] == told[1]


def test_nothing_is_told_of_no_rows():
    model = ValidityModel()
    model.fit(*rows(32))
    assert model.predict(np.zeros((0, 4), dtype=np.float32)).shape == (0,)


def test_broken_contracts_are_said_so():
    model = ValidityModel()
    choices, works = rows(16)
    with pytest.raises(ContractError, match="not fitted"):
        model.predict(choices)
    with pytest.raises(ContractError, match="not all"):
        model.fit(choices, np.ones(16, dtype=np.bool_))
    assert not model.is_fitted
    model.fit(choices, works)
    with pytest.raises(ContractError, match="3 columns"):
        model.predict(choices[:, :3])
