"""One server for each SQLite file."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schedules.errors import ConflictError, UnavailableError
from service.db.engine import parse_url


@contextmanager
def exclusive(database_url: str) -> Iterator[None]:
    """Own an SQLite file while the context lasts; for other databases this does nothing.

    The lock is on a file beside it, ``<file>.lock``, and ends with the process, however it ends.

    Raises
    ------
    ConflictError
        Another server owns the file.
    InputError
        The URL is malformed, or names another kind of database.
    UnavailableError
        The lock file cannot be made.
    """
    url = parse_url(database_url)
    if url.get_backend_name() != "sqlite" or url.database is None:
        yield
        return
    path = Path(f"{url.database}.lock")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError(f"the lock file {path} cannot be made: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
            raise ConflictError(
                f"another server (process {holder}) owns {url.database}; "
                "stop it, or use another data directory"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
        # The file stays: removing it would let two servers lock two files of the same name.
        yield
    finally:
        os.close(handle)
