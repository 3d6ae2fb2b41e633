import json

import pytest
import tvm
from tvm.s_tir import meta_schedule as ms

from schedules.errors import ConflictError, InputError
from schedules.ir import module_of, workload_from_ir
from schedules.trace import canonical_trace
from tests.programs import ir_json, matmul, scale
from tuner.meta_schedule_files import (
    RECORDS_FILE,
    WORKLOADS_FILE,
    FileEntry,
    read_files,
    write_files,
)

CPU = {"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 2}


def entry(function, block, factor, *run_secs):
    workload = workload_from_ir(ir_json(function))
    schedule = tvm.s_tir.Schedule(module_of(workload))
    loop = schedule.get_loops(schedule.get_sblock(block))[0]
    schedule.parallel(schedule.split(loop, [None, factor])[0])
    return FileEntry(
        ir=workload.ir,
        target=CPU,
        trace=canonical_trace(schedule.trace),
        run_secs=run_secs,
    )


@pytest.fixture
def entries():
    return [
        entry(matmul(16, 8, 4), "C", 2, 3e-3, 3e-3),
        entry(scale(64), "B", 4, 5e-6),
        entry(matmul(16, 8, 4), "C", 4, 1e-3, 2e-3, 1e-3),
    ]


def test_what_is_written_is_read_again(tmp_path, entries):
    assert write_files(tmp_path / "db", entries) == 3
    found = list(read_files(tmp_path / "db"))
    assert sorted(map(repr, found)) == sorted(map(repr, entries))


def test_the_stock_database_finds_the_fastest_and_it_is_the_first_line(tmp_path, entries):
    write_files(tmp_path, entries)
    database = ms.database.JSONDatabase(work_dir=str(tmp_path))
    module = tvm.ir.load_json(entries[0].ir)
    found = database.query_tuning_record(module, tvm.target.Target(CPU), "main")
    assert canonical_trace(found.trace) == entries[2].trace
    lines = [json.loads(line) for line in (tmp_path / RECORDS_FILE).read_text().splitlines()]
    assert [line[1][1] for line in lines] == [[1e-3, 2e-3, 1e-3], [3e-3, 3e-3], [5e-6]]


def test_files_of_the_stock_database_are_read_without_its_failures(tmp_path):
    wanted = entry(matmul(16, 8, 4), "C", 2, 1e-3)
    schedule = tvm.s_tir.Schedule(tvm.ir.load_json(wanted.ir))
    schedule.parallel(schedule.split(schedule.get_loops(schedule.get_sblock("C"))[0], [None, 2])[0])
    module = tvm.ir.load_json(wanted.ir)
    database = ms.database.JSONDatabase(work_dir=str(tmp_path))
    workload = database.commit_workload(module)
    arguments = ms.arg_info.ArgInfo.from_entry_func(module, False)
    for run_secs in ([1e-3], [1e10], []):
        database.commit_tuning_record(
            ms.database.TuningRecord(
                schedule.trace, workload, run_secs, tvm.target.Target(CPU), arguments
            )
        )
    assert list(read_files(tmp_path)) == [wanted]


def test_files_that_hold_something_are_not_overwritten(tmp_path, entries):
    write_files(tmp_path, entries[:1])
    before = (tmp_path / RECORDS_FILE).read_bytes()
    with pytest.raises(ConflictError, match="not empty"):
        write_files(tmp_path, entries)
    assert (tmp_path / RECORDS_FILE).read_bytes() == before


def test_a_record_whose_trace_does_not_apply_is_left_out(tmp_path, entries, caplog):
    broken = FileEntry(ir=entries[1].ir, target=CPU, trace=entries[0].trace, run_secs=(1e-9,))
    assert write_files(tmp_path, [broken, *entries]) == 3
    assert "does not apply" in caplog.text


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=WORKLOADS_FILE):
        list(read_files(tmp_path))


@pytest.mark.parametrize("content", ["{", '["a", "b"]\n', "[1, 2]\n", "[0, []]\n"])
def test_files_that_tvm_cannot_read_are_an_input_error(tmp_path, content):
    (tmp_path / WORKLOADS_FILE).write_text(content)
    (tmp_path / RECORDS_FILE).write_text(content)
    with pytest.raises(InputError, match="cannot read the database"):
        list(read_files(tmp_path))
