"""A measuring host for each file of tests."""

import pytest

from schedules.ir import workload_from_call
from tests.integration.measure.measuring import MATMUL
from tuner.measure.local import LocalMeasurer


@pytest.fixture(scope="module")
def measurer():
    with LocalMeasurer() as measurer:
        yield measurer


@pytest.fixture(scope="module")
def target(measurer):
    return measurer.describe()[0]


@pytest.fixture(scope="module")
def matmul():
    return workload_from_call(MATMUL)
