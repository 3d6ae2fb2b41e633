"""The two files of TVM's ``meta_schedule.database.JSONDatabase``; imports TVM.

Written and read by the stock class itself, so that they are what any TVM program expects.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm.s_tir import meta_schedule as ms

from schedules.errors import ConflictError, InputError, InvalidTraceError
from schedules.ir import normalised_module
from schedules.runtimes import latency
from schedules.trace import canonical_trace, replay
from tuner.client.requests import code_target

logger = logging.getLogger(__name__)

WORKLOADS_FILE = "database_workload.json"
RECORDS_FILE = "database_tuning_record.json"

# TVM writes a run time of 1e10 s or nothing for a failed trial.
_FAILED_SECS = 1e9


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One measured schedule.

    Attributes
    ----------
    ir : str
        The module with its one function, as JSON of ``tvm.ir.save_json``.
    target : Mapping[str, object]
        Dict of TVM's form.
    trace : str
        Canonical trace.
    run_secs : tuple of float
        Seconds of one call, one value per repeat; not empty.
    """

    ir: str
    target: Mapping[str, object]
    trace: str
    run_secs: tuple[float, ...]

    @property
    def latency_secs(self) -> float:
        """What the fastest repeats agree on."""
        return latency(self.run_secs)


def write_files(directory: Path, entries: Iterable[FileEntry]) -> int:
    """Write entries for the stock database, each workload's fastest first.

    Parameters
    ----------
    directory : Path
        Is made if missing.
    entries : iterable of FileEntry
        In any order.

    Returns
    -------
    int
        How many were written.

    Raises
    ------
    ConflictError
        The directory has such files already, and they are not empty.
    """
    for name in (WORKLOADS_FILE, RECORDS_FILE):
        path = directory / name
        if path.exists() and path.stat().st_size > 0:
            raise ConflictError(
                f"{path} exists and is not empty; give a new directory, or move it away"
            )
    directory.mkdir(parents=True, exist_ok=True)
    database = ms.database.JSONDatabase(work_dir=str(directory))
    written = 0
    for entry in _best_first(entries):
        module = tvm.ir.load_json(entry.ir)
        try:
            trace = replay(entry.trace, module).trace
        except InvalidTraceError as error:
            logger.warning("a record is left out: %s", error)
            continue
        database.commit_tuning_record(
            ms.database.TuningRecord(
                trace,
                database.commit_workload(module),
                list(entry.run_secs),
                tvm.target.Target(dict(entry.target)),
                ms.arg_info.ArgInfo.from_entry_func(module, False),
            )
        )
        written += 1
    return written


def read_files(directory: Path) -> Iterator[FileEntry]:
    """Yield what the stock database holds, without its failed trials.

    Raises
    ------
    InputError
        The files are missing, or TVM cannot read them, or a target lacks what identifies it.
    """
    for name in (WORKLOADS_FILE, RECORDS_FILE):
        if not (directory / name).is_file():
            raise InputError(f"{directory / name} does not exist; give the directory of both files")
    try:
        database = ms.database.JSONDatabase(work_dir=str(directory))
        records = list(database.get_all_tuning_records())
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise InputError(
            f"TVM {tvm.__version__} cannot read the database in {directory}: "
            f"{(lines or [type(error).__name__])[-1].strip()}"
        ) from None
    for record in records:
        run_secs = tuple(_number(value) for value in record.run_secs or ())
        if not run_secs or max(run_secs) >= _FAILED_SECS:
            continue
        if record.target is None:
            raise InputError(f"a record in {directory / RECORDS_FILE} names no target")
        yield FileEntry(
            ir=str(tvm.ir.save_json(normalised_module(record.workload.mod))),
            target=code_target(record.target).as_dict(),
            trace=canonical_trace(record.trace),
            run_secs=run_secs,
        )


def _best_first(entries: Iterable[FileEntry]) -> list[FileEntry]:
    places: dict[str, int] = {}
    listed = list(entries)
    for entry in listed:
        places.setdefault(entry.ir, len(places))
    return sorted(listed, key=lambda entry: (places[entry.ir], entry.latency_secs))


def _number(value: Any) -> float:
    return float(getattr(value, "value", value))
