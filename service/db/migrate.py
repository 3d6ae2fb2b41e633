"""The schema: bringing a database up to date, and telling what it lacks."""

import threading
from importlib.resources import files

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from schedules.errors import ConflictError
from service.db.engine import Database
from service.db.models import Base

# Held on PostgreSQL during an upgrade, so that servers that start together take turns.
_LOCK_ID = 0x74756E65
# Alembic keeps what it is at in variables of its modules: one upgrade at a time in a process.
_upgrading = threading.Lock()


def upgrade(database_url: str) -> None:
    """Bring a database's schema up to date, all or nothing; an up-to-date one stays as it is.

    Raises
    ------
    ConflictError
        The database was made by a newer version.
    InputError
        The URL is malformed, or names another kind of database.
    UnavailableError
        The database does not answer.
    """
    database = Database(database_url)
    try:
        with _upgrading:
            database.write(_upgrade)
    except CommandError as error:
        raise ConflictError(f"the schema cannot be upgraded by this version: {error}") from error
    finally:
        database.close()


def check(database_url: str) -> tuple[str, ...]:
    """Say what a database's schema lacks, in words; nothing if it is as this version needs it.

    Raises
    ------
    InputError
        The URL is malformed, or names another kind of database.
    UnavailableError
        The database does not answer.
    """
    database = Database(database_url)
    try:
        return database.read(_check)
    finally:
        database.close()


def _upgrade(session: Session) -> None:
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(_LOCK_ID)))
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _check(session: Session) -> tuple[str, ...]:
    context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
    head = ScriptDirectory.from_config(_config()).get_current_head()
    current = context.get_current_revision()
    if current != head:
        return (f"the schema is at revision {current}, this version needs {head}",)
    return tuple(repr(difference) for difference in compare_metadata(context, Base.metadata))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    return config
