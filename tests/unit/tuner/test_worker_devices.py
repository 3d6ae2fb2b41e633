import os
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

from schedules.errors import ConflictError, InputError, UnavailableError
from tuner.measure.cores import format_cores, leave_bound_cores, parse_cores
from tuner.worker.devices import CpuDevice, CudaDevice, parse_devices
from tuner.worker.lock import DeviceLock

USABLE = frozenset(range(16))


def device(text):
    [parsed] = parse_devices([text], USABLE)
    return parsed


@pytest.mark.parametrize(
    ("text", "cores", "shortest"),
    [
        ("3", {3}, "3"),
        ("0-3,8", {0, 1, 2, 3, 8}, "0-3,8"),
        ("8, 2,1,0,2", {0, 1, 2, 8}, "0-2,8"),
        ("5-5", {5}, "5"),
    ],
)
def test_core_lists_are_read_and_written_in_their_shortest_form(text, cores, shortest):
    assert parse_cores(text) == cores
    assert format_cores(cores) == shortest


@pytest.mark.parametrize(
    "text", ["", ",", "1,", "-1", "1-", "a", "0x1", "1-2-3", "3-1", "0-99999999"]
)
def test_what_is_not_a_core_list_is_refused(text):
    with pytest.raises(InputError):
        parse_cores(text)


def test_the_calling_thread_leaves_the_cores_that_others_are_bound_to():
    cores = os.sched_getaffinity(0)
    ended, bound = threading.Event(), threading.Event()

    def stay() -> None:
        os.sched_setaffinity(0, {max(cores)})
        bound.set()
        ended.wait()

    other = threading.Thread(target=stay)
    other.start()
    try:
        bound.wait()
        leave_bound_cores(cores)
        # Alone on one core, there is nowhere to go.
        assert os.sched_getaffinity(0) == (cores - {max(cores)} or cores)
    finally:
        os.sched_setaffinity(0, cores)
        ended.set()
        other.join()


def test_devices_have_one_name_however_they_are_written():
    assert str(device("cpu")) == "cpu"
    assert str(device("cpu:3,2,0-1")) == "cpu:0-3"
    assert device("cpu:0-3") == device("cpu:0,1,2,3")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["cpu:0-7", "cpu:4-11"], "share the cores 4-7;"),
        (["cpu", "cpu:3"], "share the cores 3;"),
        (["cpu:0-3", "cpu:8", "cpu"], "share the cores 0-3;"),
        (["cpu", "cpu"], "share the cores 0-15;"),
        (["cpu:14-17"], "the cores 16-17, which this process cannot use; it may use 0-15"),
        (["cpu:"], "not a list of cores"),
        (["tpu:0"], "no device 'tpu:0'"),
        (["cuda:x"], "cuda:x"),
        (["cuda:0", "cuda:1", "cuda"], "cuda:0 is given twice"),
        (["cuda:0", "cpu"], "leave no core for cuda:0"),
        (["cpu:0-7", "cpu:8-15", "cuda:0"], "leave no core for cuda:0"),
        ([""], "no device ''"),
    ],
)
def test_devices_that_cannot_be_owned_together_or_at_all_are_refused(texts, message):
    with pytest.raises(InputError, match=message):
        parse_devices(texts, USABLE)


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("cpu", "cpu"),
        ("cpu", "cpu:3"),
        ("cpu:3", "cpu"),
        ("cpu:0-7", "cpu:7-8"),
        ("cpu:7-8", "cpu:0-7"),
        ("cuda:0", "cuda:0"),
        # It builds on all cores.
        ("cuda:0", "cpu"),
        ("cpu:3", "cuda:0"),
    ],
)
def test_devices_that_overlap_exclude_each_other(tmp_path, held, wanted):
    with DeviceLock(tmp_path, device(held)):
        with pytest.raises(ConflictError, match="another worker"):
            DeviceLock(tmp_path, device(wanted))
        # Failing leaves nothing locked behind.
        with pytest.raises(ConflictError):
            DeviceLock(tmp_path, device(wanted))
    DeviceLock(tmp_path, device(wanted)).release()


def test_devices_that_do_not_overlap_go_together(tmp_path):
    with ExitStack() as stack:
        for text in ("cpu:0-3", "cpu:8-11", "cpu:4"):
            stack.enter_context(DeviceLock(tmp_path, device(text)))
        with pytest.raises(ConflictError):
            DeviceLock(tmp_path, device("cpu"))
    DeviceLock(tmp_path, device("cpu")).release()


def test_gpus_build_on_the_cores_that_no_part_of_the_processor_owns(tmp_path):
    devices = parse_devices(["cpu:0-3", "cuda:1", "cpu:8", "cuda"], USABLE)
    assert [str(device) for device in devices] == ["cpu:0-3", "cuda:1", "cpu:8", "cuda:0"]
    shared = [device.build_cores for device in devices if isinstance(device, CudaDevice)]
    assert shared == [{4, 5, 6, 7, *range(9, 16)}] * 2
    with ExitStack() as stack:
        for owned in devices:
            stack.enter_context(DeviceLock(tmp_path, owned))
        for text in ("cpu", "cpu:4", "cuda:0"):
            with pytest.raises(ConflictError):
                DeviceLock(tmp_path, device(text))


def test_devices_share_the_cores_to_build_on_with_each_other_only(tmp_path):
    build_cores = frozenset({8, 9})
    devices = parse_devices(["cpu:0-3", "cpu:4-7", "cuda:0"], USABLE, None, build_cores)
    assert [device.build_cores for device in devices] == [build_cores] * 3
    with ExitStack() as stack:
        for owned in devices:
            stack.enter_context(DeviceLock(tmp_path, owned))
        for text in ("cpu:8", "cpu:0"):
            with pytest.raises(ConflictError):
                DeviceLock(tmp_path, device(text))
        DeviceLock(tmp_path, device("cpu:10")).release()


@pytest.mark.parametrize(
    ("texts", "build_cores", "message"),
    [
        (["cpu:0-7"], {7, 8}, "cpu:0-7 is measured on the cores 7,"),
        (["cpu"], {3}, "cpu is measured on the cores 3,"),
        (["cuda:0"], {15, 16}, "the cores 16 to build on are none that"),
    ],
)
def test_cores_to_build_on_that_are_measured_or_missing_are_refused(texts, build_cores, message):
    with pytest.raises(InputError, match=message):
        parse_devices(texts, USABLE, None, frozenset(build_cores))


def test_gpus_are_told_apart_by_what_the_driver_shows_the_process(tmp_path):
    [first] = parse_devices(["cuda:0"], USABLE, "2,MIG-GPU-ab/1/0")
    [part] = parse_devices(["cuda:1"], USABLE, "2,MIG-GPU-ab/1/0")
    [same] = parse_devices(["cuda:2"], USABLE)
    assert str(part) == "cuda:1"
    with DeviceLock(tmp_path, first), DeviceLock(tmp_path, part):
        DeviceLock(tmp_path, device("cuda:0")).release()
        with pytest.raises(ConflictError):
            DeviceLock(tmp_path, same)
    with pytest.raises(InputError, match="CUDA_VISIBLE_DEVICES shows this process 1 GPUs"):
        parse_devices(["cuda:1"], USABLE, "3")


def test_a_device_is_owned_by_one_process_until_that_ends(tmp_path):
    take = (
        "import sys, pathlib; from tuner.worker.devices import CpuDevice\n"
        "from tuner.worker.lock import DeviceLock\n"
        "DeviceLock(pathlib.Path(sys.argv[1]), CpuDevice()); print('taken', flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", take, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"taken\n"
        for text in ("cpu", "cpu:1"):
            with pytest.raises(ConflictError, match=rf"process {other.pid}.*'{text}'"):
                DeviceLock(tmp_path, device(text))
    finally:
        other.kill()
        other.communicate()
    DeviceLock(tmp_path, CpuDevice()).release()


def test_a_state_directory_that_cannot_be_made_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="--state-dir"):
        DeviceLock(tmp_path / "file" / "state", CpuDevice())
