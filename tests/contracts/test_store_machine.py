"""The queue as a whole: random steps of a small fleet keep its invariants."""

from pathlib import Path

import pytest

from service.db.engine import Database
from service.db.migrate import upgrade
from tests.contracts.fleet_machine import run_fleets
from tests.contracts.fleet_model import StoppedClock


@pytest.mark.timeout(300)
def test_random_steps_of_a_fleet_keep_the_queue_whole(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    upgrade(url)
    database = Database(url)
    clock = StoppedClock(database)
    run_fleets(database, clock, runs=10, steps=30, start=20260101)
    database.close()
