"""Notifications between processes that share a PostgreSQL database.

They are hints, which may be lost and which nothing depends on: see `service.events`.
"""

import logging
import threading
import time
from collections.abc import Callable

import psycopg

from service.db.engine import parse_url
from tuner.jitter import jitter

logger = logging.getLogger(__name__)

CHANNEL = "tunesmith"
GATHER_SECS = 0.02
"""How far apart notifications are sent: each sending takes a lock of the whole database server."""

_LOOK_SECS = 0.5
_FIRST_WAIT_SECS = 0.2
_LONGEST_WAIT_SECS = 10.0
_MOST_PENDING = 10_000
# A payload has to be shorter than 8000 bytes.
_PAYLOAD_BYTES = 7000


class Channel:
    """Sends texts to the other processes, and receives theirs; implements `service.app.Background`.

    Sending is not part of any transaction: PostgreSQL takes a lock of the whole server when a
    transaction that notifies commits, and the transactions that do the work must not queue for it.

    Parameters
    ----------
    database_url : str
        Of a PostgreSQL database.
    receive : callable
        Called with each text that another process sent, in the listening thread.
    missed : callable
        Called after every connection of the listener: what was sent before it is lost.
    """

    def __init__(
        self, database_url: str, *, receive: Callable[[str], None], missed: Callable[[], None]
    ) -> None:
        url = parse_url(database_url).set(drivername="postgresql")
        self._conninfo = url.render_as_string(hide_password=False)
        self._receive = receive
        self._missed = missed
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        # A dict, as a set that keeps the order.
        self._pending: dict[str, None] = {}
        self._sender_pid = 0
        self._threads = [
            threading.Thread(target=self._keep_trying, args=[work], name=name)
            for name, work in (("notify", self._send_pending), ("listen", self._listen))
        ]

    def send(self, text: str) -> None:
        """Send a text of one line soon; equal ones that wait already are sent once."""
        with self._changed:
            if len(self._pending) < _MOST_PENDING:
                self._pending[text] = None
                self._changed.notify()

    def start(self) -> None:
        """Connect, in threads of its own."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send what is waiting, and end. Idempotent."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _keep_trying(self, work: Callable[[psycopg.Connection], None]) -> None:
        """Give a connection to `work`, and another one whenever it is lost."""
        wait_secs = _FIRST_WAIT_SECS
        while not self._stopping.is_set():
            connected_at = time.monotonic()
            try:
                with psycopg.connect(
                    self._conninfo,
                    autocommit=True,
                    connect_timeout=10,
                    # A database that vanished without a word is noticed within a minute.
                    keepalives_idle=30,
                    keepalives_interval=10,
                    keepalives_count=3,
                ) as connection:
                    work(connection)
            except psycopg.Error as error:
                if time.monotonic() - connected_at > _LONGEST_WAIT_SECS:
                    wait_secs = _FIRST_WAIT_SECS
                reason = str(error).strip().partition("\n")[0]
                logger.warning("notifications are interrupted (%s); trying again", reason)
                # Jitter: after a restart of the database, not everyone comes at once.
                self._stopping.wait(wait_secs * jitter(0.5, 1.5))
                wait_secs = min(2 * wait_secs, _LONGEST_WAIT_SECS)

    def _send_pending(self, connection: psycopg.Connection) -> None:
        self._sender_pid = connection.info.backend_pid
        # The lock is not held for a sync to disk: there is nothing to keep.
        connection.execute("SET synchronous_commit = off")
        while True:
            with self._changed:
                while not self._pending and not self._stopping.is_set():
                    self._changed.wait()
                texts, self._pending = list(self._pending), {}
            if texts:
                connection.execute(
                    "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload",
                    [CHANNEL, _payloads(texts)],
                )
            if self._stopping.wait(GATHER_SECS) and not self._pending:
                return

    def _listen(self, connection: psycopg.Connection) -> None:
        connection.execute(f"LISTEN {CHANNEL}")
        self._missed()
        while not self._stopping.is_set():
            for notice in connection.notifies(timeout=_LOOK_SECS):
                # What this process sent, it knows.
                if notice.pid != self._sender_pid:
                    for text in notice.payload.split("\n"):
                        self._receive(text)
                if self._stopping.is_set():
                    break


def _payloads(texts: list[str]) -> list[str]:
    """Put as many texts into one payload as it may hold."""
    payloads: list[str] = []
    size = _PAYLOAD_BYTES
    for text in texts:
        size += len(text.encode()) + 1
        if size > _PAYLOAD_BYTES:
            payloads.append(text)
            size = len(text.encode())
        else:
            payloads[-1] += f"\n{text}"
    return payloads
