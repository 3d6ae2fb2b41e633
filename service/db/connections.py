"""Engines, and what each of their connections is told when it is made."""

import json
import sqlite3
import time
from typing import Any

from sqlalchemy import URL, Engine, ExceptionContext, create_engine, event

from schedules.errors import InputError
from tuner.jitter import jitter

SQLITE_WAIT_SECS = 10.0
IDLE_TRANSACTION_SECS = 10.0
"""PostgreSQL ends a transaction that does nothing for so long, and frees the rows it holds."""

# Idle in transaction for too long.
_IDLE_SQLSTATE = "25P03"


def _to_json(value: object) -> str:
    try:
        # SQLite would take NaN and infinities, which are no JSON.
        return json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise InputError(f"the database cannot store this: {error}") from error


def sqlite_engine(url: URL, begin: str, *, pool_size: int, max_overflow: int) -> Engine:
    """Make an engine on SQLite that begins transactions so; only an immediate one may write."""
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=max_overflow,
        json_serializer=_to_json,
        connect_args={"check_same_thread": False},
    )
    read_only = begin != "BEGIN IMMEDIATE"

    def connect(connection: sqlite3.Connection, _record: object) -> None:
        # The driver would begin transactions late and never before DDL.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {SQLITE_WAIT_SECS * 1000:.0f}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        else:
            _use_wal(connection)

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def postgresql_engine(url: URL, *, pool_size: int, **options: Any) -> Engine:
    """Make an engine on PostgreSQL with so many connections, and options of `create_engine`."""
    engine = create_engine(
        url,
        # Whoever finds all connections in use waits: further ones would be made for one use each.
        pool_size=pool_size,
        max_overflow=0,
        json_serializer=_to_json,
        connect_args={"connect_timeout": 10},
        **options,
    )
    event.listen(engine, "connect", _limit_idle_transactions)
    event.listen(engine, "handle_error", _note_ended_connection)
    return engine


def _limit_idle_transactions(connection: Any, _record: object) -> None:
    """Let no process that was stopped in the midst of a transaction hold up all others."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_TRANSACTION_SECS:.0f}s'")
    connection.commit()


def _note_ended_connection(context: ExceptionContext) -> None:
    """Tell the pool that PostgreSQL has ended a connection; it takes that for another error."""
    if getattr(context.original_exception, "sqlstate", None) == _IDLE_SQLSTATE:
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = False


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log, waiting for others that open the same new file.

    SQLite's own waiting does not cover this statement: to change the mode of a file it wants a lock
    that it holds a weaker one for, and where two do so at once it refuses one to avoid a deadlock.
    """
    deadline = time.monotonic() + SQLITE_WAIT_SECS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(jitter(0.005, 0.02))
