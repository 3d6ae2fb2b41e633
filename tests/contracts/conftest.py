"""Databases for the contract tests: every test runs on an empty one of each engine."""

import itertools
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.orm import Session

from service.db.engine import Database
from service.db.known import Known
from service.db.migrate import upgrade
from service.db.models import Base
from service.db.store import Store


class Clock:
    """Moves the database's clock forward without waiting."""

    def __init__(self) -> None:
        self._offset = timedelta(0)
        self._lock = threading.Lock()

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._offset += timedelta(seconds=seconds)

    def reset(self) -> None:
        with self._lock:
            self._offset = timedelta(0)

    def __call__(self) -> timedelta:
        with self._lock:
            return self._offset


@pytest.fixture(params=["sqlite", "postgresql"])
def bare_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without a schema."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'bare.db'}"
    return _make_database(request.getfixturevalue("postgres_server"), f"bare_{next(_numbers)}")


_numbers = itertools.count()


def _make_database(server_url: str, name: str) -> str:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server_url.replace("/postgres?", f"/{name}?")


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def shared_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Database, Clock]]:
    """One migrated database of each engine, used in turn: new ones for each test take too long."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'store.db'}"
    else:
        url = _make_database(request.getfixturevalue("postgres_server"), "tests")
    upgrade(url)
    clock = Clock()
    database = Database(url, clock_offset=clock)
    yield database, clock
    database.close()


@pytest.fixture
def store(shared_database: tuple[Database, Clock]) -> Iterator[Store]:
    """A store of an empty database."""
    database, clock = shared_database
    clock.reset()
    yield Store(database)
    delete_everything(database)


@pytest.fixture
def clock(shared_database: tuple[Database, Clock]) -> Clock:
    """The clock of the `store`'s database."""
    return shared_database[1]


def delete_everything(database: Database) -> None:
    def delete(session: Session) -> None:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())

    database.write(delete)
    # The service deletes no workload and no target, so what it remembers of them stays true.
    database.known = Known()
