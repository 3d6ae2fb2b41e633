"""What processes use and may listen on, and limits of this one as faults."""

import resource
import socket
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def files_of_at_most(size_bytes):
    """Make every write beyond a file's size fail half-way, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def cpu_secs(pid: int) -> float:
    """Return the CPU time of a process and of all its descendants that live."""
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    own_nanosecs = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return own_nanosecs * 1e-9 + sum(cpu_secs(child) for child in children)


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
