"""One daemon for each device of a machine."""

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from schedules.errors import ConflictError, UnavailableError
from tuner.worker.devices import Device


class DeviceLock:
    """Held while a daemon owns a device; the kernel frees it when the process ends.

    A part of the processor takes a lock for each of its cores and shares one for the processor; the
    whole processor takes that one alone. So the whole excludes every part, and parts exclude each
    other where they overlap, among all workers that use the same state directory. A GPU has a lock
    of its own, and shares those of the cores that its candidates are built on: with other GPUs, but
    with nobody who times on them.

    Parameters
    ----------
    directory : Path
        The state directory; made if missing.
    device : Device
        What to own.

    Raises
    ------
    ConflictError
        Another process holds it, or a part of it.
    UnavailableError
        The directory cannot be used.
    """

    def __init__(self, directory: Path, device: Device) -> None:
        self._held = ExitStack()
        with ExitStack() as taken:
            for name, exclusive in device.locks:
                path = directory / f"device-{name}.lock"
                taken.callback(os.close, _take(path, device, exclusive=exclusive))
            self._held = taken.pop_all()

    def release(self) -> None:
        """Let another daemon have the device."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _take(path: Path, device: Device, *, exclusive: bool) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UnavailableError(
            f"the state directory {path.parent} cannot be used ({error}); mend that, or give "
            "another with --state-dir"
        ) from None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        raise ConflictError(
            f"another worker (process {owner or 'unknown'}) owns the device {str(device)!r} of "
            "this machine or a part of it; two would disturb each other's timing. Stop it first "
            f"({path})"
        ) from None
    _sign(descriptor)
    return descriptor


def _sign(descriptor: int) -> None:
    """Write who holds a lock, for people; on a full disk it is held all the same."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError:
        return
