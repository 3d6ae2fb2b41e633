"""Posts what is in the spool."""

import logging

from tuner.client import wire
from tuner.worker import steps
from tuner.worker.api import WorkerApi
from tuner.worker.spool import Spool, SpooledResult

logger = logging.getLogger(__name__)

_POST_AT_MOST = 100


def post_spool(spool: Spool, api: WorkerApi, *, retry: bool) -> tuple[steps.Event | None, set[str]]:
    """Send all results, oldest first, until the spool is empty or the server does not answer.

    Parameters
    ----------
    spool : Spool
        What the server has taken leaves it.
    api : WorkerApi
        The server.
    retry : bool
        Whether to insist when the server does not answer at first.

    Returns
    -------
    tuple of (Event or None, set of str)
        What went wrong, and the ids of the leases that the server says are closed.
    """
    closed: set[str] = set()
    while group := _next_group(spool):
        first = group[0]
        item_ids = [result.item_id for result in group]
        results = [result.request.results[0] for result in group]
        body = first.request.model_copy(update={"results": results})
        told = api.results(first.lease_id, body, retry=retry)
        if told is None:
            spool.reject(item_ids)
        elif isinstance(told, wire.ResultsAnswer):
            spool.acknowledge(item_ids)
            if told.duplicate:
                logger.info("%d results were known already", len(told.duplicate))
            if not told.lease_open:
                closed.add(first.lease_id)
        else:
            return told, closed
    return None, closed


def _next_group(spool: Spool) -> list[SpooledResult]:
    """Return the oldest results that fit into one body."""
    pending = spool.pending()[:_POST_AT_MOST]
    return [result for result in pending if _header(result) == _header(pending[0])]


def _header(result: SpooledResult) -> tuple[object, ...]:
    request = result.request
    described = request.environment, request.protocol_version
    return result.lease_id, request.epoch, request.worker_id, *described
