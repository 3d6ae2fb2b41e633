"""The oracle itself: it has to see what is wrong."""

from pathlib import Path
from typing import Any

import pytest

from schedules.records import Purpose
from service.db.migrate import upgrade
from service.db.store import Store
from tests.chaos.audit import Audit, audit
from tests.chaos.leases import lease_times
from tests.contracts.store_values import (
    ENVIRONMENT,
    OWNER,
    WORKLOAD,
    enqueue,
    lease,
    measured,
    running_job,
    worker,
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    upgrade(url)
    return url


def kinds(found: Audit) -> set[str]:
    return {kind for kind, _ in found.problems}


def line(store: Store, item: Any, measurement: int = 1) -> dict[str, Any]:
    return {
        "workload": WORKLOAD.workload_id,
        "purpose": Purpose.TRIAL,
        "trace": item.candidate.trace_id,
        "measurement": measurement,
    }


def test_a_measurement_without_a_record_is_lost_and_its_batch_orphaned(url, tmp_path):
    store = Store.open(url)
    enqueue(store, running_job(store), 1)
    held = lease(store, worker(store))
    store.close()
    found = audit(url, [line(store, held.items[0])], [tmp_path])
    assert kinds(found) == {"lost", "orphaned"}


def test_a_record_that_nobody_measured_and_one_stored_twice_are_duplicates(url, tmp_path):
    store = Store.open(url)
    job = running_job(store)
    me = worker(store)
    for _ in range(2):
        # The same candidate twice, as a stale orchestrator would queue it.
        enqueue(store, job, 1)
        held = lease(store, me)
        store.report(
            held.lease_id,
            held.epoch,
            me.worker_id,
            ENVIRONMENT,
            [(held.items[0].item_id, measured(2.0**-10))],
        )
    store.begin_finals(job, OWNER)
    store.finish_job(job.job_id, OWNER)
    store.close()
    found = audit(url, [line(store, held.items[0], measurement=7)], [tmp_path])
    assert kinds(found) == {"duplicated"}
    told = "; ".join(what for _, what in found.problems)
    assert "2 records" in told
    assert "never measured" in told
    assert "stored twice" in told


def test_a_result_that_was_never_posted_is_seen(url, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "spool-cpu.jsonl").write_text("{}\n")
    (tmp_path / "w" / "spool-cpu.jsonl.rejected").write_text("{}\n{}\n")
    found = audit(url, [], [tmp_path / "w"])
    assert sorted(kind for kind, _ in found.problems) == ["lost", "lost", "orphaned"]


def test_leases_that_end_early_or_never_are_seen():
    def call(kind: str, sent: float, status: str = "ok") -> dict[str, Any]:
        told = {"ttl_secs": 2.0} if status == "ok" else {}
        key = {"lease": "l", "epoch": 1, "kind": kind, "status": status}
        return {**key, **told, "sent": sent, "at": sent + 0.1}

    refused = "ServerConflictError"
    good = lease_times([call("lease", 0), call("heartbeat", 1), call("heartbeat", 4, refused)])
    assert (good.leases, good.stale, good.early) == (1, 0, 0)
    assert lease_times([call("lease", 0), call("heartbeat", 1, refused)]).early == 1
    assert lease_times([call("lease", 0), call("heartbeat", 3)]).stale == 1
