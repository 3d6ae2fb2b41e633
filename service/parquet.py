"""The tuning log as a Parquet file; `docs/tuning-log.md` describes its columns."""

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
from pyarrow import json as arrow_json
from pyarrow import parquet

from schedules.records import TuningRecord
from tuner.client import convert

# A row group: what is in memory at once, and what readers skip or read together.
_GROUP_BYTES = 32 * 2**20

_TEXT = pa.string()
_MOMENT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("record_id", _TEXT, nullable=False),
        pa.field("created_at", _MOMENT, nullable=False),
        pa.field("workload_id", _TEXT, nullable=False),
        pa.field("target_id", _TEXT, nullable=False),
        pa.field("operator", _TEXT),
        pa.field("job_id", _TEXT),
        pa.field("worker_id", _TEXT),
        pa.field("purpose", _TEXT, nullable=False),
        pa.field("origin", _TEXT, nullable=False),
        pa.field("trace", _TEXT, nullable=False),
        pa.field("trace_id", _TEXT, nullable=False),
        pa.field("run_secs", pa.list_(pa.float64()), nullable=False),
        pa.field("latency_secs", pa.float64()),
        pa.field("censored_secs", pa.float64()),
        pa.field("duplicate_of", _TEXT),
        pa.field("build_secs", pa.float64()),
        pa.field("failure", _TEXT),
        pa.field("failure_detail", _TEXT),
        pa.field(
            "verification",
            pa.struct(
                [
                    pa.field("reference", _TEXT),
                    pa.field("tolerance", pa.float64()),
                    pa.field("error", pa.float64()),
                    pa.field("passed", pa.bool_()),
                ]
            ),
        ),
        pa.field("predicted_score", pa.float64()),
        pa.field("model_version", _TEXT),
        pa.field("protocol_version", pa.int32(), nullable=False),
        pa.field("environment", _TEXT, nullable=False),
        pa.field("set_aside", pa.bool_(), nullable=False),
    ]
)


def flat_line(record: TuningRecord) -> str:
    """Write a record as JSON in which the trace and the environment are text."""
    view = convert.record_to_wire(record).model_dump(mode="json")
    for name in ("trace", "environment"):
        view[name] = json.dumps(view[name], separators=(",", ":"))
    return json.dumps(view)


def file_of(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Write a Parquet file piece by piece.

    Parameters
    ----------
    blocks : iterable of bytes
        Lines as `flat_line` writes them.
    """
    sink = _Sink()
    with parquet.ParquetWriter(pa.PythonFile(sink, mode="w"), SCHEMA, compression="zstd") as writer:
        held: list[bytes] = []
        for block in blocks:
            held.append(block)
            if sum(map(len, held)) >= _GROUP_BYTES:
                writer.write_table(_table(held))
                held = []
                yield sink.take()
        if held:
            writer.write_table(_table(held))
    yield sink.take()


class _Sink(io.RawIOBase):
    """A file that can only be written on, and whose contents are taken away now and then."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._written += len(part)
        return len(part)

    def tell(self) -> int:
        return self._written

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken, self._parts = b"".join(self._parts), []
        return taken


def _table(blocks: list[bytes]) -> pa.Table:
    lines = io.BytesIO(b"".join(blocks))
    options = arrow_json.ParseOptions(explicit_schema=SCHEMA)
    # The reader takes every column for nullable.
    return arrow_json.read_json(lines, parse_options=options).select(SCHEMA.names).cast(SCHEMA)
