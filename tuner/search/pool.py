"""The pool whose processes run search steps."""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait

from tuner.without_torch import keep_torch_out


def search_pool(processes: int) -> ProcessPoolExecutor:
    """Make a pool of fresh processes that end with this one, however it ends."""
    return ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare,
    )


def _prepare() -> None:
    keep_torch_out()
    _end_with_parent()


def _end_with_parent() -> None:
    """Watch the parent: a process holds both ends of its queue, so it would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
