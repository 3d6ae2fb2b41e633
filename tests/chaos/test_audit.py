"""The oracle itself: it has to see what is wrong."""

import re
from pathlib import Path
from typing import Any

import pytest

from schedules.errors import ConflictError
from schedules.records import Purpose
from service.db.migrate import upgrade
from service.db.store import Store
from tests.chaos.audit import Audit, audit
from tests.chaos.leases import IS_DONE, lease_times
from tests.contracts.store_values import (
    ENVIRONMENT,
    OWNER,
    WORKLOAD,
    enqueue,
    lease,
    measured,
    report_all,
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
    def call(kind: str, sent: float, told: str = "") -> dict[str, Any]:
        status = {"status": "ServerConflictError", "told": told} if told else {"status": "ok"}
        key = {"lease": "l", "epoch": 1, "kind": kind, "ttl_secs": 2.0}
        return {**key, **status, "sent": sent, "at": sent + 0.1}

    refused = "lease l is lost (leased, epoch 2)"
    good = lease_times([call("lease", 0), call("heartbeat", 1), call("heartbeat", 4, refused)])
    assert (good.leases, good.stale, good.early) == (1, 0, 0)
    assert lease_times([call("lease", 0), call("heartbeat", 1, refused)]).early == 1
    assert lease_times([call("lease", 0), call("heartbeat", 3)]).stale == 1


def test_a_lease_whose_work_is_done_may_end_before_its_time(url: str):
    store = Store.open(url)
    job, me = running_job(store), worker(store)
    enqueue(store, job, 1)
    held = lease(store, me)
    report_all(store, held, me)
    with pytest.raises(ConflictError, match=re.escape(IS_DONE)) as refused:
        store.heartbeat(held.lease_id, held.epoch, 2.0)
    store.close()
    key = {"lease": held.lease_id, "epoch": held.epoch, "ttl_secs": 2.0}
    granted = {**key, "kind": "lease", "status": "ok", "sent": 0.0, "at": 0.1}
    told = {"status": "ServerConflictError", "told": str(refused.value)}
    assert lease_times([granted, {**key, **told, "kind": "heartbeat", "at": 1.0}]).early == 0
