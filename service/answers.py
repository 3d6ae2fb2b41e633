"""Answers for workloads that nobody has tuned: from neighbours and by prediction."""

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.concurrency import run_in_threadpool

from schedules.errors import NotFoundError
from schedules.records import Best
from schedules.space import DEFAULT_SPACE
from schedules.target import Target
from schedules.workload import OperatorCall, Workload
from service.compute import SearchPool
from service.db.model_values import ModelFile
from service.db.store import Store
from service.recent import Recent
from tuner.client import convert, wire
from tuner.learning.ask import Answer, AnswerRequest, Neighbour, ask
from tuner.learning.neighbours import find_neighbours, has_neighbours

logger = logging.getLogger(__name__)

_REMEMBERED = 1024
_WAITING = 4
_SURE_SECS = 1.0
_FIRST_CHOICE = "shape.top_1_recall"


@dataclass(frozen=True, kw_only=True)
class _Remembered:
    """An answer, and what it was made of: it holds as long as that is the same."""

    sources: tuple[str | None, ...]
    view: wire.BestView | None
    checked_at: float


class Answers:
    """Tells what is best where nothing was measured. Lives in one event loop.

    Heavy work is done by one pool process; the answer is remembered until another version of the
    cost model comes into use, or other neighbours have bests.

    Parameters
    ----------
    store : Store
        Has bests and the cost model.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = SearchPool(processes=1)
        self._room = asyncio.Semaphore(_WAITING)
        self._known: Recent[tuple[str, str], _Remembered] = Recent(_REMEMBERED)

    def forget(self) -> None:
        """Answer anew. Any thread may call it."""
        self._known = Recent(_REMEMBERED)

    def close(self) -> None:
        """End the pool process."""
        self._pool.close()

    async def by_ids(self, workload_id: str, target_id: str) -> wire.BestView | None:
        """Answer for a stored workload and target; None where nothing can be told."""
        known = self._known.get((workload_id, target_id))
        if known is not None and time.monotonic() < known.checked_at + _SURE_SECS:
            return known.view
        try:
            workload = await run_in_threadpool(self._store.workload, workload_id)
            target = await run_in_threadpool(self._store.target, target_id)
        except NotFoundError:
            return None
        return await self.of(workload, target)

    async def of(self, workload: Workload, target: Target) -> wire.BestView | None:
        """Answer for a workload and a target; None where nothing can be told."""
        key = (workload.workload_id, target.target_id)
        version = await run_in_threadpool(self._store.promoted_model)
        neighbours = await run_in_threadpool(
            find_neighbours, self._store, workload, target.target_id
        )
        sources = (version, *(best.record_id for _, best in neighbours))
        known = self._known.get(key)
        if known is not None and known.sources == sources:
            view = known.view
        else:
            view = await self._ask(workload, target, version, neighbours)
        self._known.put(key, _Remembered(sources=sources, view=view, checked_at=time.monotonic()))
        return view

    def can_tell(self, call: OperatorCall, target: Target) -> bool:
        """Whether there may be an answer at all, which is known without the program."""
        if self._store.promoted_model() is not None:
            return True
        return has_neighbours(self._store, call, target.target_id)

    async def _ask(
        self,
        workload: Workload,
        target: Target,
        version: str | None,
        neighbours: Sequence[tuple[Workload, Best]],
    ) -> wire.BestView | None:
        if version is None and not neighbours:
            return None
        content = None
        if version is not None:
            content = await run_in_threadpool(self._store.model_file, version, ModelFile.CONTENT)
        request = AnswerRequest(
            workload=convert.workload_to_wire(workload),
            target=target.as_dict(),
            space=DEFAULT_SPACE,
            neighbours=tuple(
                Neighbour(
                    workload=convert.workload_to_wire(other),
                    trace=best.trace,
                    latency_secs=best.latency_secs,
                    record_id=best.record_id,
                )
                for other, best in neighbours
            ),
            base_model=content,
        )
        async with self._room:
            try:
                answer = await asyncio.wrap_future(self._pool.run(ask, request))
            except BrokenProcessPool as error:
                logger.warning("no answer for workload %s: %s", workload.workload_id, error)
                return None
            except Exception:
                logger.exception("no answer for workload %s", workload.workload_id)
                return None
        if answer is None:
            return None
        gain = None
        if answer.model_version is not None:
            gain = await run_in_threadpool(self._lack, answer.model_version)
        return _view(answer, workload, target, gain)

    def _lack(self, version: str) -> float | None:
        """Return what a version's first choice lacked of the fastest on shapes that it knew not."""
        recall = self._store.model_version(version).metrics.get(_FIRST_CHOICE)
        return None if recall is None else 1.0 - recall


def _view(
    answer: Answer, workload: Workload, target: Target, expected_gain: float | None
) -> wire.BestView:
    return wire.BestView(
        tier=answer.tier,
        workload_id=workload.workload_id,
        target_id=target.target_id,
        latency_secs=answer.latency_secs,
        latency_interval_secs=answer.latency_interval_secs,
        default_latency_secs=None,
        speedup=None,
        trace=json.loads(answer.trace),
        verified=False,
        record_id=answer.neighbour_record_id,
        environment={},
        model_version=answer.model_version,
        created_at=datetime.now(UTC),
        expected_gain=expected_gain,
    )
