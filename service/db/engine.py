"""Connections and transactions: the one place that knows which database engine is used."""

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import (
    ARRAY,
    URL,
    ColumnElement,
    Engine,
    Select,
    String,
    any_,
    func,
    literal,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.orm import InstrumentedAttribute, QueryableAttribute, Session

from schedules.errors import ConflictError, InputError, UnavailableError
from service.db.connections import postgresql_engine, sqlite_engine
from service.db.known import Known
from service.db.models import Base

ClockOffset = Callable[[], timedelta]
P = ParamSpec("P")
T = TypeVar("T")
Key = TypeVar("Key")

WRITER_WAIT_SECS = 30.0
ATTEMPTS = 4
# Deadlock, serialisation failure: PostgreSQL asks for the transaction to be run again.
_RETRY_SQLSTATES = frozenset({"40P01", "40001"})
# Undefined table, undefined column.
_SCHEMA_SQLSTATES = frozenset({"42P01", "42703"})
_CLOCK_OFFSET = "clock_offset"
_KNOWN = "known"


def no_offset() -> timedelta:
    """Return zero: the database's clock as it is."""
    return timedelta(0)


def database_now(session: Session) -> datetime:
    """Return the time of the database's clock; no other clock counts for leases."""
    if session.get_bind().dialect.name == "sqlite":
        text = session.scalar(select(func.strftime("%Y-%m-%d %H:%M:%f", "now")))
        now = datetime.fromisoformat(str(text)).replace(tzinfo=UTC)
    else:
        # Not `now()`, which stands still within a transaction, even while it waits for a lock.
        now = session.scalars(select(func.clock_timestamp())).one().astimezone(UTC)
    offset: ClockOffset = session.info[_CLOCK_OFFSET]
    return now + offset()


def known(session: Session) -> Known:
    """Return what is remembered of the session's database."""
    remembered: Known = session.info[_KNOWN]
    return remembered


def new_id() -> str:
    """Make an id of 32 hexadecimal digits that sorts by the time at which it was made."""
    return f"{time.time_ns():016x}{secrets.token_hex(8)}"


def locked(session: Session, statement: Select[T]) -> Sequence[T]:
    """Read rows as they are now and hold them until the transaction ends."""
    return session.scalars(
        # key_share: rows that refer to these may still be inserted by others.
        statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    ).all()


def among(
    session: Session, column: QueryableAttribute[Any], values: Collection[str]
) -> ColumnElement[bool]:
    """Whether a column has one of many values.

    Where the engine knows arrays they are one parameter, so that the statement stays the same for
    any number of them and is compiled and planned once.
    """
    if session.get_bind().dialect.name == "sqlite":
        return column.in_(values)
    return column == any_(literal(list(values), ARRAY(String)))


def insert_new(
    session: Session,
    model: type[Base],
    rows: Sequence[Mapping[str, Any]],
    key: InstrumentedAttribute[Key],
) -> Sequence[Key]:
    """Insert the rows that are not there yet and return their keys."""
    if not rows:
        return []
    make = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = make(model).on_conflict_do_nothing().returning(key)
    return session.scalars(statement, list(rows)).all()


class Database:
    """Engines of one database; safe to share between threads.

    SQLite has one connection that writes, guarded by a lock, and others that only read: several
    writing connections can corrupt a WAL file before SQLite 3.51.3. PostgreSQL has a pool for
    transactions and one for reads.

    Parameters
    ----------
    database_url : str
        ``sqlite:///FILE`` or ``postgresql://...``.
    clock_offset : callable
        Added to the database's clock, so that tests need not wait.

    Raises
    ------
    InputError
        The URL is malformed, or names another kind of database.
    """

    def __init__(self, database_url: str, *, clock_offset: ClockOffset = no_offset) -> None:
        self.url = parse_url(database_url)
        self.known = Known()
        self._clock_offset = clock_offset
        self._writer_lock: threading.Lock | None = None
        if self.url.get_backend_name() == "sqlite":
            self._writer_lock = threading.Lock()
            self.writer = sqlite_engine(self.url, "BEGIN IMMEDIATE", pool_size=1, max_overflow=0)
            self._reader = sqlite_engine(self.url, "BEGIN", pool_size=8, max_overflow=56)
        else:
            # Three processes of ours fit into PostgreSQL's usual 100 connections.
            self.writer = postgresql_engine(self.url, pool_size=16)
            # At PostgreSQL's isolation each statement has its own snapshot anyway; without a
            # transaction around them, reads need no messages that begin and end it.
            self._reader = postgresql_engine(
                self.url, pool_size=12, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True
            )

    def close(self) -> None:
        """Close all connections."""
        # The writer goes last, so that SQLite's closing checkpoint is its own.
        self._reader.dispose()
        self.writer.dispose()

    def read(self, work: Callable[[Session], T]) -> T:
        """Run `work`, which changes nothing. Each of its statements may see a later state.

        Raises
        ------
        InputError
            The database cannot hold a value that was passed.
        UnavailableError
            The database does not answer.
        """
        return self._attempt(self._reader, work, commit=False)

    def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in a transaction, again if another transaction got in its way.

        It is also run again where the connection was lost before the commit: one of the pool may
        be from before a restart of the database, and asking each whether it is would cost more.

        Raises
        ------
        ConflictError
            A constraint does not allow it.
        InputError
            The database cannot hold a value that was passed.
        UnavailableError
            The database does not answer.
        """
        with self._writing_alone():
            return self._attempt(self.writer, work, commit=True)

    def _attempt(self, engine: Engine, work: Callable[[Session], T], *, commit: bool) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            committing = False
            try:
                session = Session(
                    engine,
                    expire_on_commit=False,
                    info={_CLOCK_OFFSET: self._clock_offset, _KNOWN: self.known},
                )
                with session:
                    result = work(session)
                    if commit:
                        committing = True
                        session.commit()
                    return result
            except (SQLAlchemyError, UnicodeEncodeError, OverflowError) as error:
                # Whether a commit whose answer was lost took place, nobody knows.
                lost = _lost_its_connection(error) and not committing
                if attempt == ATTEMPTS or not (lost or _worth_another_try(error)):
                    raise self._translate(error) from error
        raise AssertionError("unreachable")

    @contextmanager
    def _writing_alone(self) -> Iterator[None]:
        if self._writer_lock is None:
            yield
            return
        if not self._writer_lock.acquire(timeout=WRITER_WAIT_SECS):
            raise UnavailableError(f"the database was busy for {WRITER_WAIT_SECS:.0f} s; try again")
        try:
            yield
        finally:
            self._writer_lock.release()

    def _translate(self, error: Exception) -> Exception:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        if isinstance(error, IntegrityError):
            return ConflictError(f"the database refuses this: {reason}")
        if isinstance(error, DataError | UnicodeEncodeError | OverflowError):
            return InputError(f"the database cannot store this: {reason}")
        if isinstance(error, StatementError) and not isinstance(error, DBAPIError):
            return InputError(f"the database cannot store this: {reason}")
        shown = self.url.render_as_string(hide_password=True)
        if _lacks_schema(error, reason):
            return UnavailableError(
                f"the schema of {shown} is not as expected ({reason}); run `tunesmith db upgrade`"
            )
        return UnavailableError(f"the database {shown} does not answer: {reason}")


class Repository:
    """Base of the parts of the store: methods on a shared database."""

    def __init__(self, database: Database) -> None:
        self._database = database


class _HasDatabase(Protocol):
    _database: Database


R = TypeVar("R", bound=_HasDatabase)


def reading(
    method: Callable[Concatenate[R, Session, P], T],
) -> Callable[Concatenate[R, P], T]:
    """Make a method one read; callers do not pass the session."""

    @wraps(method)
    def transaction(self: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._database.read(lambda session: method(self, session, *args, **kwargs))

    return transaction


def writing(
    method: Callable[Concatenate[R, Session, P], T],
) -> Callable[Concatenate[R, P], T]:
    """Make a method one write transaction, which may run more than once until it commits."""

    @wraps(method)
    def transaction(self: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._database.write(lambda session: method(self, session, *args, **kwargs))

    return transaction


def parse_url(database_url: str) -> URL:
    """Check a database URL and choose the driver.

    Raises
    ------
    InputError
        It is malformed, or names another kind of database.
    """
    wanted = "use sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
    try:
        url = make_url(database_url)
        backend = url.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise InputError(f"the database URL cannot be read; {wanted}") from error
    if backend in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and url.database not in (None, "", ":memory:"):
        return url.set(drivername="sqlite+pysqlite")
    raise InputError(f"database {url.render_as_string(hide_password=True)!r}: {wanted}")


def _lacks_schema(error: Exception, reason: str) -> bool:
    sqlstate = getattr(getattr(error, "orig", None), "sqlstate", None)
    return sqlstate in _SCHEMA_SQLSTATES or reason.startswith(("no such table", "no such column"))


def _lost_its_connection(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _worth_another_try(error: Exception) -> bool:
    if isinstance(error, IntegrityError):
        return True
    return (
        isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _RETRY_SQLSTATES
    )
