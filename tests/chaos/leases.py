"""Whether leases lasted as long as they should, by what workers asked for and were told."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

IS_DONE = "is lost (done,"
"""What the server says of a lease whose items are all recorded."""


@dataclass(frozen=True, kw_only=True)
class LeaseTimes:
    """What was wrong with leases, and how many there were.

    Attributes
    ----------
    leases : int
        Granted.
    stale : int
        Extensions that were granted although they were asked for after the lease had ended.
    early : int
        Extensions that were refused although the lease had not ended yet.
    """

    leases: int
    stale: int
    early: int


def lease_times(lines: Iterable[dict[str, Any]]) -> LeaseTimes:
    """Check the ledger's lines of kinds ``lease`` and ``heartbeat``.

    A lease ends its time to live after some moment between a request and its answer, so it surely
    lasts that long from the request on, and surely has ended that long after the answer. It may end
    before because its work is done: an earlier lease may report the last of its items late. That
    every item of such a batch has its record is the audit's to find.
    """
    surely_until: dict[tuple[str, int], tuple[float, float]] = {}
    leases = stale = early = 0
    for line in sorted(lines, key=lambda line: float(line["at"])):
        key = line["lease"], line["epoch"]
        leases += line["kind"] == "lease"
        lasts_until, ended_at = surely_until.get(key, (0.0, float("inf")))
        if line["status"] == "ok":
            stale += line["sent"] > ended_at
            ttl_secs = line["ttl_secs"]
            surely_until[key] = line["sent"] + ttl_secs, line["at"] + ttl_secs
        elif line["status"] == "ServerConflictError":
            early += line["at"] < lasts_until and IS_DONE not in line["told"]
    return LeaseTimes(leases=leases, stale=stale, early=early)
