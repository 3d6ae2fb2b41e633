import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service import local_worker
from service.local_worker import LocalWorker


def _alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def _until(condition: object, secs: float = 15) -> None:
    deadline = time.monotonic() + secs
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def fake_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a script in the place of the worker; it notes its process ids and sleeps."""
    (tmp_path / "fake_worker.py").write_text(
        "import pathlib, os, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"with open({str(tmp_path / 'ids')!r}, 'a') as ids:\n"
        "    ids.write(f'{os.getpid()} {child.pid} {sys.argv[2:]}\\n')\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setattr(local_worker, "__name__", "fake_worker")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "ids"


def test_the_worker_is_restarted_when_it_dies_and_ends_with_all_its_children(
    fake_module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_worker, "_FIRST_PAUSE_SECS", 0.1)
    worker = LocalWorker("http://127.0.0.1:1", None)
    worker.start()
    try:
        _until(lambda: fake_module.exists() and fake_module.read_text().endswith("\n"))
        first = int(fake_module.read_text().split()[0])
        os.kill(first, signal.SIGKILL)
        _until(lambda: len(fake_module.read_text().splitlines()) == 2)
    finally:
        worker.stop()
    line = fake_module.read_text().splitlines()[-1]
    assert line.endswith("['worker', '--server', 'http://127.0.0.1:1']")
    for process_id in line.split()[:2]:
        _until(lambda process_id=process_id: not _alive(int(process_id)))


def test_the_child_ends_when_its_parent_is_killed() -> None:
    parent_code = (
        "import subprocess, sys, os, time\n"
        "code = 'import os, signal, sys, time; import service.local_worker as w;"
        ' sys.modules["tuner.cli"] = type(sys)("tuner.cli");'
        ' sys.modules["tuner.cli"].main = lambda: (print(os.getpid(), flush=True),'
        ' time.sleep(600)); w.main([str(os.getppid()), "worker"])\'\n'
        "subprocess.Popen([sys.executable, '-c', code])\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout:
        child_id = int(parent.stdout.readline())
        assert _alive(child_id)
        parent.kill()
        parent.wait()
        _until(lambda: not _alive(child_id))


def test_a_child_without_its_parent_does_not_begin() -> None:
    with pytest.raises(SystemExit):
        local_worker.main(["1" if os.getppid() != 1 else "2", "worker"])
