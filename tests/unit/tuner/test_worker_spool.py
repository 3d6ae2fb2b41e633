import json

import pytest

from schedules.errors import UnavailableError
from tests.processes import files_of_at_most
from tuner.client import wire
from tuner.worker.spool import Spool, SpooledResult


def result(item_id, lease_id="l1"):
    return SpooledResult(
        lease_id=lease_id,
        request=wire.ResultsRequest(
            epoch=1,
            worker_id="w",
            environment={"cpu": "x"},
            results=[
                wire.ReportedResult(item_id=item_id, result=wire.ResultWire(run_secs=[1e-3, 2e-3]))
            ],
        ),
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spool.jsonl"


def item_ids(spool):
    return [pending.item_id for pending in spool.pending()]


def test_results_survive_the_process(path):
    spool = Spool(path)
    spool.add(result("a"))
    spool.add(result("b"))
    # The process died here.
    assert Spool(path).pending() == (result("a"), result("b"))


def test_acknowledged_results_are_gone_for_good(path):
    spool = Spool(path)
    for item_id in "abc":
        spool.add(result(item_id))
    spool.acknowledge(["b"])
    assert item_ids(spool) == ["a", "c"]
    assert item_ids(Spool(path)) == ["a", "c"]
    spool.acknowledge(["a", "c", "unknown"])
    assert path.read_bytes() == b""
    spool.add(result("d"))
    assert item_ids(Spool(path)) == ["d"]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_torn_last_line_costs_that_line_only(path, cut):
    spool = Spool(path)
    spool.add(result("a"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-cut])
    spool = Spool(path)
    assert item_ids(spool) == ["a"]
    spool.add(result("b"))
    assert item_ids(Spool(path)) == ["a", "b"]


@pytest.mark.parametrize("line", [b"\x00\xff\n", b"{}\n", b"[]\n", b"null\n", b"\n"])
def test_unreadable_lines_are_put_aside_not_thrown_away(path, line):
    spool = Spool(path)
    spool.add(result("a"))
    path.write_bytes(line + path.read_bytes())
    assert item_ids(Spool(path)) == ["a"]
    assert line.rstrip(b"\n") in path.with_name("spool.jsonl.rejected").read_bytes()


def test_refused_results_are_put_aside(path):
    spool = Spool(path)
    spool.add(result("a"))
    spool.add(result("b"))
    spool.reject(["a"])
    assert item_ids(spool) == ["b"]
    aside = json.loads(path.with_name("spool.jsonl.rejected").read_text())
    assert aside["request"]["results"][0]["item_id"] == "a"


def test_on_a_full_disk_results_wait_in_memory_and_nothing_fails(path, caplog):
    spool = Spool(path)
    assert spool.add(result("a"))
    with files_of_at_most(path.stat().st_size + 50):
        assert not spool.add(result("b"))
        assert not spool.add(result("c"))
        assert not spool.is_durable
        assert item_ids(spool) == ["a", "b", "c"]
        [complaint] = [record for record in caplog.records if record.levelname == "ERROR"]
        assert "cannot be written" in complaint.message
        # The torn line at the end costs nothing that was safe before.
        assert item_ids(Spool(path)) == ["a"]


def test_a_disk_with_room_again_gets_what_waited_in_memory(path):
    spool = Spool(path)
    with files_of_at_most(10):
        assert not spool.add(result("a"))
    assert spool.add(result("b"))
    assert spool.is_durable
    assert item_ids(Spool(path)) == ["a", "b"]


def test_results_leave_the_memory_when_the_server_has_them_whatever_the_disk_does(path):
    spool = Spool(path)
    for item_id in "ab":
        spool.add(result(item_id))
    with files_of_at_most(10):
        spool.acknowledge(["a"])
        assert item_ids(spool) == ["b"]
        assert item_ids(Spool(path)) == ["a", "b"]
        spool.acknowledge(["b"])
    assert spool.is_durable
    assert item_ids(Spool(path)) == []


def test_refused_results_that_cannot_be_put_aside_are_in_the_log(path, caplog):
    spool = Spool(path)
    spool.add(result("a"))
    with files_of_at_most(10):
        spool.reject(["a"])
    assert len(spool) == 0
    assert '"item_id":"a"' in caplog.text


def test_a_spool_that_cannot_be_read_is_an_error_that_names_it(path):
    path.mkdir()
    with pytest.raises(UnavailableError, match=r"spool\.jsonl.*make it readable"):
        Spool(path)
