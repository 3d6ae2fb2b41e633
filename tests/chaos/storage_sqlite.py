"""The disk under an SQLite database fills up, or fails; the server says 503 and then goes on."""

import random
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from enum import IntEnum
from pathlib import Path

from tests.chaos.fault import Fault, Outcome
from tests.chaos.preload import Preload, missing
from tests.chaos.storage_load import Load, fill, load

RECOVERY_SECS = 15.0
_RESULTS_PER_FAULT = 60
_RESULTS_BEFORE = 300
_DISK_BYTES = 96 * 2**20


class Disk(IntEnum):
    """How it works or fails; as in ``failing_disk.c``."""

    WORKS = 0
    FULL = 1
    WRITES_FAIL = 2
    SYNCS_FAIL = 3
    READS_FAIL = 4


class FailingDisk:
    """The disk of another process, of which calls on the files of a database can be made to fail.

    Parameters
    ----------
    folder : Path
        For what that takes.
    database : Path
        Its files, and those whose names begin like its, fail.
    """

    def __init__(self, folder: Path, database: Path) -> None:
        self._control = Preload("failing_disk", folder, control="FAILING_DISK_CONTROL", count=3)
        self.environment = self._control.environment | {"FAILING_DISK_FILES": str(database)}

    @contextmanager
    def failing(self, how: Disk, permille: int) -> Iterator[None]:
        """Let so many of a thousand calls fail while the context lasts."""
        self._control[1] = permille
        self._control[0] = how
        try:
            yield
        finally:
            self._control[0] = Disk.WORKS

    @property
    def failures(self) -> int:
        """How many calls have failed."""
        return self._control[2]


def fail_disk(count: int, folder: Path) -> Outcome:
    """Let the disk fail so many times for a moment, in a random way, under a server with load."""
    if reason := missing():
        return Outcome(faults=0, notes=reason)
    with _small_disk(folder) as place:
        path = (place or folder) / "chaos.db"
        url = f"sqlite:///{path}"
        fill(url, _RESULTS_BEFORE + _RESULTS_PER_FAULT * count)
        disk = FailingDisk(folder, path)
        worst_secs, faults, filled = 0.0, 0, 0
        with load(folder, url, disk.environment) as made:
            made.all_go_on()
            while faults < count and not made.wrong:
                time.sleep(random.uniform(0, 0.1))
                if place is not None and random.random() < 0.2:
                    noticed = _fill_up(place, made)
                    filled += noticed
                else:
                    noticed = _fail(disk)
                faults += noticed
                worst_secs = max(worst_secs, made.all_go_on())
            made.orchestrates()
            made.stop()
            _check_integrity(made, path)
            notes = f"{disk.failures} system calls failed, {filled} times really full"
            return made.outcome(faults, notes, worst_secs=worst_secs, limit_secs=RECOVERY_SECS)


def _fail(disk: FailingDisk) -> bool:
    """Let the disk fail for a moment; False if nobody noticed."""
    how = random.choice([kind for kind in Disk if kind is not Disk.WORKS])
    before = disk.failures
    with disk.failing(how, random.choice((20, 200, 1000))):
        deadline = time.monotonic() + 0.5
        while disk.failures == before and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.2))
    return disk.failures > before


def _fill_up(place: Path, made: Load) -> bool:
    """Fill the disk for a moment; False if nobody noticed."""
    before = made.answers[503]
    ballast = place / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        deadline = time.monotonic() + 1
        while made.answers[503] == before and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.2))
    finally:
        ballast.unlink()
    return made.answers[503] > before


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a disk that is easily filled; None where that is not allowed."""
    place = folder / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "chaos", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def _check_integrity(made: Load, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for pragma in ("integrity_check", "foreign_key_check"):
            found = connection.execute(f"PRAGMA {pragma}").fetchall()
            made.wrong += [f"{pragma}: {row}" for row in found if row != ("ok",)]


FAULTS = (
    Fault(
        name="SQLite: disk full, or its writes, syncs or reads fail",
        run=fail_disk,
        full=200,
        shrunk=2,
        databases=("sqlite",),
        full_secs=180,
    ),
)
