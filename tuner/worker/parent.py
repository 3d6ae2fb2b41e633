"""Several devices of one machine: a process for each, and a parent that keeps them together.

The parent restarts nothing. A daemon that fails, whatever the reason, would most likely fail again,
as all daemons of a machine share its installation, token and server; and a restart that nobody sees
hides the reason. So when one fails, the parent says so, lets the others finish their batches, and
ends with the worst status: its service manager starts all of them again, at its own pace and in its
own log. A daemon that leaves in order, because the server drained it or it has done its batches,
leaves the others alone.
"""

import ctypes
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence

from schedules.errors import TunesmithError
from tuner.worker.devices import Device

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_devices(devices: Sequence[Device], run: Callable[[Device], None]) -> int:
    """Run a daemon for each device in a process of its own, until all have ended.

    SIGTERM and SIGINT are passed on: the first lets every daemon finish its batch, the second makes
    it give the batch back.

    Parameters
    ----------
    devices : sequence of Device
        Which do not overlap.
    run : callable (device)
        Runs one daemon in its process; what it raises ends that process with status 1. The caller
        must have one thread.

    Returns
    -------
    int
        The largest of their exit statuses; a process that a signal killed counts as 128 and the
        signal's number.
    """
    # Nothing is lost between a fork and the moment when the parent knows the child.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_SIGNALS, signal.SIGCHLD})
    running = {_start(device, run): device for device in devices}
    statuses: list[int] = []
    told = False
    while running:
        number = signal.sigwait({*_SIGNALS, signal.SIGCHLD})
        if number != signal.SIGCHLD:
            told = True
            _send(number, running)
            continue
        for device, status in _ended(running):
            statuses.append(status)
            if status == 0:
                logger.info("the worker of %s has left", device)
                continue
            logger.error(
                "the worker of %s failed with status %d; those of %s finish their batches",
                device,
                status,
                ", ".join(map(str, running.values())) or "no other device",
            )
            if not told:
                # A second signal would make them give their batches back.
                told = True
                _send(signal.SIGTERM, running)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*_SIGNALS, signal.SIGCHLD})
    return max(statuses)


def _start(device: Device, run: Callable[[Device], None]) -> int:
    parent_id = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        # A terminal's Ctrl-C reaches the parent alone, which passes it on once.
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        for number in _SIGNALS:
            # Until the daemon has its own handlers there is nothing to finish.
            signal.signal(number, lambda *received: os._exit(0))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*_SIGNALS, signal.SIGCHLD})
        if os.getppid() == parent_id:
            run(device)
            status = 0
    except TunesmithError as error:
        logger.error("the worker of %s ends: %s", device, error)
    except BaseException:
        logger.exception("the worker of %s ends", device)
    finally:
        logging.shutdown()
        os._exit(status)


def _send(number: int, running: Mapping[int, Device]) -> None:
    for pid in running:
        # It cannot be another process's id: an ended child keeps its own until it is waited for.
        os.kill(pid, number)


def _ended(running: dict[int, Device]) -> list[tuple[Device, int]]:
    """Take the daemons that have ended out of `running`, with their statuses."""
    ended = []
    for pid in list(running):
        waited, status = os.waitpid(pid, os.WNOHANG)
        if waited:
            code = os.waitstatus_to_exitcode(status)
            ended.append((running.pop(pid), code if code >= 0 else 128 - code))
    return ended
