"""What this process remembers of workers and leases, so that it knows whom to wake.

All of it is a cache: what is missing here is read from the database, or found by polling.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from service.db.store import Store
from service.db.values import Lease

Fact = TypeVar("Fact")

_REMEMBERED = 10_000


@dataclass(frozen=True, kw_only=True)
class Leased:
    """What a lease is for."""

    job_id: str
    target_id: str


class Fleet:
    """Remembers the targets of workers and the jobs of leases. Thread-safe.

    Parameters
    ----------
    store : Store
        Asked for what is not remembered.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._targets: OrderedDict[str, str] = OrderedDict()
        self._leases: OrderedDict[str, Leased] = OrderedDict()
        self._turns: OrderedDict[str, int] = OrderedDict()
        self._next_turn = 0

    def registered(self, worker_id: str, target_id: str) -> None:
        """Note the target of a worker."""
        with self._lock:
            _remember(self._targets, worker_id, target_id)

    def known_target_id(self, worker_id: str) -> str | None:
        """Return the id of a worker's target if it is remembered, without asking the database."""
        return self._targets.get(worker_id)

    def target_id(self, worker_id: str) -> str:
        """Return the id of a worker's target.

        Raises
        ------
        NotFoundError
            The worker is not registered.
        """
        known = self.known_target_id(worker_id)
        if known is not None:
            return known
        target_id = self._store.worker(worker_id).target.target_id
        self.registered(worker_id, target_id)
        return target_id

    def take_turn(self, worker_id: str) -> int:
        """Note that a worker asks for work; whichever of its requests came last has the turn."""
        with self._lock:
            self._next_turn += 1
            _remember(self._turns, worker_id, self._next_turn)
            return self._next_turn

    def has_turn(self, worker_id: str, turn: int) -> bool:
        """Whether a worker has not asked again since."""
        return self._turns.get(worker_id, turn) == turn

    def leased(self, lease: Lease) -> None:
        """Note what a lease is for."""
        leased = Leased(job_id=lease.job_id, target_id=lease.target.target_id)
        with self._lock:
            _remember(self._leases, lease.lease_id, leased)

    def lease(self, lease_id: str) -> Leased | None:
        """Return what a lease is for, None if there never was one."""
        known = self._leases.get(lease_id)
        if known is None:
            # Another process or an earlier run made it.
            subject = self._store.lease_subject(lease_id)
            if subject is None:
                return None
            known = Leased(job_id=subject[0], target_id=subject[1])
            with self._lock:
                _remember(self._leases, lease_id, known)
        return known


def _remember(memory: OrderedDict[str, Fact], key: str, fact: Fact) -> None:
    memory[key] = fact
    memory.move_to_end(key)
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)
