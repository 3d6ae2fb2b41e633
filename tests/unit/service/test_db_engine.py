"""Connections, URLs, the file lock and cursors."""

import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from schedules.errors import ConflictError, InputError, UnavailableError
from service.db import connections, engine
from service.db.engine import Database, database_now, new_id, parse_url
from service.db.lock import exclusive
from service.db.paging import decode_cursor, encode_cursor
from service.db.store import Store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'a.db'}"


@pytest.mark.parametrize(
    "bad", ["", "nonsense", "mysql://host/name", "sqlite://", "sqlite:///:memory:", "x://y:z:w"]
)
def test_a_url_of_no_use_is_refused(bad: str) -> None:
    with pytest.raises(InputError, match="sqlite:///FILE or postgresql://"):
        parse_url(bad)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(InputError) as caught:
        parse_url("mysql://me:hunter2@host/name")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "given", ["postgresql://u:p@h/d", "postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"]
)
def test_postgresql_is_reached_by_psycopg(given: str) -> None:
    assert parse_url(given).drivername == "postgresql+psycopg"


def test_a_database_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    for bad in (f"sqlite:///{tmp_path / 'no' / 'such.db'}", "postgresql://u:hunter2@127.0.0.1:1/d"):
        store = Store.open(bad)
        with pytest.raises(UnavailableError, match="does not answer") as caught:
            store.ping()
        assert "hunter2" not in str(caught.value)
        store.close()


def test_a_process_that_stops_within_a_transaction_holds_nobody_up_for_long(
    postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_TRANSACTION_SECS", 1.0)
    hold = text("SELECT pg_advisory_xact_lock(1)")
    database = Database(postgres_server)
    with database.writer.connect() as stopped:
        stopped.execute(hold)
        database.write(lambda session: session.execute(hold))
        with pytest.raises(DBAPIError):
            stopped.execute(hold)
    database.close()


def test_connections_that_the_server_has_closed_are_replaced(postgres_server: str) -> None:
    database = Database(postgres_server)
    database.read(_backend)
    for transact in (database.read, database.write):
        _end_backend(postgres_server, database.read(_backend))
        assert transact(lambda session: session.scalar(text("SELECT 7"))) == 7
    database.close()


def test_a_commit_whose_answer_is_lost_is_not_repeated(postgres_server: str) -> None:
    database = Database(postgres_server)
    runs = []

    def lose_the_connection(session: Session) -> None:
        runs.append(_backend(session))
        _end_backend(postgres_server, runs[-1])

    with pytest.raises(UnavailableError, match="does not answer"):
        database.write(lose_the_connection)
    assert len(runs) == 1
    database.close()


def _backend(session: Session) -> int:
    return int(session.scalars(text("SELECT pg_backend_pid()")).one())


def _end_backend(url: str, pid: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        # Waits up to so many milliseconds for its end.
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("this is no database, but long enough to look like one" * 100)
    store = Store.open(f"sqlite:///{path}")
    with pytest.raises(UnavailableError):
        store.active_jobs()
    store.close()


def test_sqlite_runs_with_the_durable_settings(url: str) -> None:
    database = Database(url)

    def settings(session: Session) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [session.scalar(text(f"PRAGMA {name}")) for name in names]

    assert database.write(settings) == ["wal", 2, 1]
    assert database.read(settings) == ["wal", 2, 1]
    with pytest.raises(UnavailableError):
        database.read(lambda session: session.execute(text("CREATE TABLE t (a)")))
    database.close()


def test_a_new_file_that_another_process_writes_is_waited_for(url: str) -> None:
    other = sqlite3.connect(
        url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE t (a)")
    leaves = threading.Timer(0.3, other.execute, ["COMMIT"])
    leaves.start()
    database = Database(url)
    database.write(lambda session: session.execute(text("INSERT INTO t VALUES (1)")))
    leaves.join()
    other.close()
    database.close()


def test_writers_take_turns_and_readers_do_not_wait_for_them(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "WRITER_WAIT_SECS", 0.05)
    database = Database(url)
    database.write(lambda session: session.execute(text("CREATE TABLE t (a)")))
    writing, done = threading.Event(), threading.Event()

    def hold(session: Session) -> None:
        session.execute(text("INSERT INTO t VALUES (1)"))
        writing.set()
        done.wait(10)

    thread = threading.Thread(target=database.write, args=(hold,))
    thread.start()
    try:
        assert writing.wait(10)
        assert database.read(lambda session: session.scalar(text("SELECT count(*) FROM t"))) == 0
        with pytest.raises(UnavailableError, match="busy"):
            database.write(lambda session: None)
    finally:
        done.set()
        thread.join()
    assert database.read(lambda session: session.scalar(text("SELECT count(*) FROM t"))) == 1
    database.close()


def test_what_raises_changes_nothing(url: str) -> None:
    database = Database(url)
    database.write(lambda session: session.execute(text("CREATE TABLE t (a)")))

    def work(session: Session) -> None:
        session.execute(text("INSERT INTO t VALUES (1)"))
        raise ConflictError("no")

    with pytest.raises(ConflictError):
        database.write(work)
    assert database.read(lambda session: session.scalar(text("SELECT count(*) FROM t"))) == 0
    database.close()


def test_a_transaction_that_lost_a_race_runs_again_and_at_last_is_a_conflict(url: str) -> None:
    database = Database(url)
    runs = []

    def lose(session: Session) -> str:
        runs.append(1)
        if len(runs) < 3:
            raise IntegrityError("statement", {}, sqlite3.IntegrityError("UNIQUE"))
        return "won"

    assert database.write(lose) == "won"
    with pytest.raises(ConflictError):
        database.write(_always_lose)
    database.close()


def _always_lose(session: Session) -> None:
    raise IntegrityError("statement", {}, sqlite3.IntegrityError("UNIQUE"))


def test_other_failures_are_not_tried_again(url: str) -> None:
    database = Database(url)
    runs = []

    def fail(session: Session) -> None:
        runs.append(1)
        raise OperationalError("statement", {}, sqlite3.OperationalError("disk I/O error"))

    with pytest.raises(UnavailableError, match="disk I/O error"):
        database.write(fail)
    assert len(runs) == 1
    database.close()


def test_the_clock_is_the_databases_plus_the_offset(url: str) -> None:
    database = Database(url, clock_offset=lambda: timedelta(days=1000))
    now = database.read(database_now)
    database.close()
    ahead = now - datetime.now(UTC)
    assert now.tzinfo is UTC
    assert timedelta(days=999) < ahead < timedelta(days=1001)


def test_ids_sort_by_the_time_they_were_made() -> None:
    ids = [new_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert {len(item) for item in ids} == {32}
    assert new_id() > max(ids)


def test_a_cursor_leads_back_to_its_position() -> None:
    moment = datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=UTC)
    cursor = encode_cursor((moment, "id", "é"))
    assert decode_cursor(cursor, 2) == (moment, "id", "é")
    with pytest.raises(InputError):
        decode_cursor(cursor, 1)


# --- the file lock -------------------------------------------------------------------------------


def test_a_second_server_of_a_file_is_refused(url: str) -> None:
    with exclusive(url), pytest.raises(ConflictError, match="another server"), exclusive(url):
        pass
    with exclusive(url):
        pass


def test_the_lock_leaves_other_files_and_postgresql_alone(url: str, tmp_path: Path) -> None:
    with exclusive(url), exclusive(f"sqlite:///{tmp_path / 'b.db'}"):
        pass
    with exclusive("postgresql://h/d"), exclusive("postgresql://h/d"):
        pass


def test_a_lock_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    with (
        pytest.raises(UnavailableError, match="lock file"),
        exclusive(f"sqlite:///{tmp_path / 'no' / 'a.db'}"),
    ):
        pass
