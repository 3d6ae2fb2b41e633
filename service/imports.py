"""Storing measurements that were made elsewhere."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from schedules.errors import InputError
from schedules.identity import canonical_json, sha256_id
from schedules.records import (
    Best,
    Candidate,
    Environment,
    MeasureResult,
    Origin,
    Purpose,
    Tier,
    TuningRecord,
)
from schedules.runtimes import latency_interval
from schedules.target import Target
from schedules.workload import Workload
from service.db.store import Store
from service.events import Events
from service.resolve import Resolver
from tuner.client import wire

IMPORT_PROTOCOL_VERSION = 0


def import_records(
    store: Store, resolver: Resolver, events: Events, request: wire.ImportRequest
) -> wire.ImportAnswer:
    """Store imported records and publish the fastest of each workload and target.

    Nothing is stored unless every record can be. A record's id follows from what it says, so that
    the same one is stored once however often it comes.

    Raises
    ------
    InputError
        A workload or target cannot be resolved; the message names the record's place.
    """
    resolved: dict[str, Workload] = {}
    workloads: dict[str, Workload] = {}
    targets: dict[str, Target] = {}
    records = []
    for place, imported in enumerate(request.records):
        asked = imported.workload.model_dump_json()
        try:
            if asked not in resolved:
                resolved[asked] = resolver.workload(imported.workload)
            target = resolver.described_target(imported.target)
        except InputError as error:
            raise type(error)(f"records[{place}]: {error}") from None
        workload = resolved[asked]
        workloads[workload.workload_id] = workload
        targets[target.target_id] = target
        records.append(_record(workload, target, imported))

    for target in targets.values():
        store.save_target(target)
    for workload in workloads.values():
        store.save_workload(workload)
    stored = store.add_records(records)
    return wire.ImportAnswer(
        stored=stored, known=len(records) - stored, published=_publish(store, events, records)
    )


def _record(workload: Workload, target: Target, imported: wire.ImportedRecord) -> TuningRecord:
    trace = _plain(imported.trace)
    identity = {
        "workload": workload.workload_id,
        "target": target.target_id,
        "trace": trace,
        "run_secs": imported.run_secs,
    }
    return TuningRecord(
        record_id=sha256_id(identity),
        workload_id=workload.workload_id,
        target_id=target.target_id,
        candidate=Candidate(
            trace=canonical_json(trace), trace_id=sha256_id(trace), origin=Origin.IMPORTED
        ),
        purpose=Purpose.TRIAL,
        result=MeasureResult(run_secs=tuple(imported.run_secs)),
        environment=Environment(),
        created_at=datetime.now(UTC),
        protocol_version=IMPORT_PROTOCOL_VERSION,
        operator=workload.call.op if workload.call else None,
    )


def _publish(store: Store, events: Events, records: Sequence[TuningRecord]) -> int:
    """Publish the fastest of each workload and target; return how many took the place."""
    fastest: dict[tuple[str, str], Best] = {}
    for record in records:
        best, pair = _best(record), (record.workload_id, record.target_id)
        if pair not in fastest or best.latency_secs < fastest[pair].latency_secs:
            fastest[pair] = best
    published = 0
    for pair, best in fastest.items():
        before = store.best(*pair)
        if before is not None and before.latency_secs <= best.latency_secs:
            continue
        now = store.publish(best, owner=None, job_id=None)
        if now.record_id == best.record_id:
            published += 1
            events.best_changed(*pair)
    return published


def _best(record: TuningRecord) -> Best:
    latency_secs = record.result.latency_secs
    assert latency_secs is not None  # the wire model wants at least one run
    return Best(
        tier=Tier.EXACT,
        workload_id=record.workload_id,
        target_id=record.target_id,
        latency_secs=latency_secs,
        latency_interval_secs=latency_interval(record.result.run_secs),
        default_latency_secs=None,
        trace=record.candidate.trace,
        trace_id=record.candidate.trace_id,
        verified=False,
        record_id=record.record_id,
        environment=record.environment,
        model_version=None,
        created_at=record.created_at,
    )


def _plain(value: Any) -> Any:
    """Write booleans as 0 and 1, as traces do; see `schedules.trace`, which needs TVM."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
