"""Features of stored candidates: their traces are replayed, and the programs looked at."""

from collections.abc import Mapping

import numpy as np

from cost_model.features import extract
from schedules.errors import InvalidTraceError
from schedules.ir import module_of
from schedules.target import Target
from schedules.trace import replay
from tuner.client import convert, wire


def rows_of_traces(
    workload: wire.WorkloadWire, target: Mapping[str, object], traces: Mapping[str, str]
) -> dict[str, bytes]:
    """Extract the features of traces; see `tuner.learning.step.featurise`."""
    task = convert.workload_from_wire(workload)
    module = module_of(task)
    schedules = {}
    for identity, trace in traces.items():
        try:
            schedules[identity] = replay(trace, module)
        except InvalidTraceError:
            continue
    rows = extract(list(schedules.values()), workload=task, target=Target.parse(target))
    found = {
        identity: row.astype("<f4").tobytes()
        for identity, row in zip(schedules, np.asarray(rows), strict=True)
    }
    return {identity: found.get(identity, b"") for identity in traces}
