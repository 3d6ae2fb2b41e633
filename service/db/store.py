"""The store: everything that the service keeps."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.db.budgets import Budgets
from service.db.catalogue import Catalogue
from service.db.claims import Claims
from service.db.counts import Counts
from service.db.engine import ClockOffset, Database, no_offset, reading
from service.db.export import Exports
from service.db.health import Health
from service.db.idle import Idle
from service.db.jobs import Jobs
from service.db.learning import Features, Learning
from service.db.model_versions import ModelVersions
from service.db.queue import Queue
from service.db.readings import Readings
from service.db.records import Bests, Records
from service.db.summary import Summaries
from service.db.workers import Workers


class Store(
    Catalogue,
    Workers,
    Health,
    Jobs,
    Budgets,
    Claims,
    Queue,
    Idle,
    Records,
    Bests,
    Counts,
    Readings,
    Summaries,
    Exports,
    Features,
    Learning,
    ModelVersions,
):
    """Everything that the service keeps, in SQLite or PostgreSQL.

    Every method is one transaction: when it returns, its effect is durable; when it raises, it had
    none. Methods may be called from any thread. Only the database's clock counts. What they raise
    is from `schedules.errors`; each of them may raise UnavailableError when the database does not
    answer, and InputError for a value that it cannot hold.

    One process may open an SQLite file at a time; see `service.db.lock`.
    """

    @classmethod
    def open(cls, database_url: str, *, clock_offset: ClockOffset = no_offset) -> "Store":
        """Open a database whose schema `service.db.migrate.upgrade` has made.

        Parameters
        ----------
        database_url : str
            ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``.
        clock_offset : callable
            Added to the database's clock; for tests.

        Raises
        ------
        InputError
            The URL is malformed, or names another kind of database.
        """
        return cls(Database(database_url, clock_offset=clock_offset))

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    @reading
    def ping(self, session: Session) -> None:
        """Ask the database for an answer.

        Raises
        ------
        UnavailableError
            There is none.
        """
        session.execute(select(1))
