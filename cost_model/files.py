"""Writing model files so that a reader finds the old one or the new one, never half of one."""

import os
import tempfile
from pathlib import Path

from schedules.errors import NotFoundError


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file as a whole."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_model(path: Path) -> bytes:
    """Read a model file.

    Raises
    ------
    NotFoundError
        There is none.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"there is no model file {path}") from None
