"""A tiny lease server with faults on demand, and a measurer without a device, for worker tests.

Run as ``python -m tests.integration.worker_server URL STATE_DIR SECS [DEVICE...]`` it is a worker,
or one for each device, whose every candidate takes so many seconds.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

from schedules.errors import UnavailableError
from schedules.records import Environment, MeasureResult
from schedules.target import Target
from tuner.client.http import Connection
from tuner.measure.protocol import MeasureBatch
from tuner.worker.daemon import WorkerConfig, WorkerDaemon
from tuner.worker.devices import WHOLE_CPU, Device, parse_devices
from tuner.worker.parent import run_devices

CPU = Target.parse({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 2})


class FakeMeasurer:
    """Takes a fixed time for each candidate."""

    def __init__(self, secs: float = 0.0) -> None:
        self.secs = secs
        self.fail_batches = 0
        self.measured = 0
        self.closed_early = 0
        self.reference_result: MeasureResult | None = MeasureResult(
            run_secs=(2e-3, 2e-3), build_secs=0.1
        )
        self.fail_references = False
        self._interrupted = threading.Event()

    def describe(self) -> tuple[Target, Environment]:
        return CPU, Environment(facts=MappingProxyType({"device": "fake"}))

    def reference(self) -> MeasureResult | None:
        if self.fail_references:
            raise UnavailableError("the measuring host died")
        return self.reference_result

    def interrupt(self) -> None:
        self._interrupted.set()

    def measure(self, batch: MeasureBatch) -> Iterator[tuple[int, MeasureResult]]:
        if self.fail_batches > 0:
            self.fail_batches -= 1
            raise UnavailableError("the measuring host died")
        self._interrupted.clear()
        try:
            # Results need not come in the order of the candidates.
            for place in reversed(range(len(batch.candidates))):
                if self._interrupted.wait(self.secs):
                    return
                self.measured += 1
                yield place, MeasureResult(run_secs=(1e-3, 2e-3), build_secs=0.1)
        except GeneratorExit:
            self.closed_early += 1
            raise


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes = b""
    retry_after_secs: int | None = None


class LeaseServer:
    """Hands out batches and keeps what is reported.

    Attributes
    ----------
    batches : list of list of str
        Item ids of the batches that wait.
    fail_next : dict of str to list of int or Answer
        Statuses, or whole answers, to give next, by the last part of the path; 0 drops the
        connection.
    """

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.fail_next: dict[str, list[int | Answer]] = {}
        self.calls: list[str] = []
        self.results: dict[str, dict[str, Any]] = {}
        self.posts: list[tuple[str, dict[str, Any]]] = []
        self.released: list[str] = []
        self.checks: list[dict[str, Any]] = []
        self.quarantined: str | None = None
        self.check_secs = 3600.0
        self.hold_secs = 0.02
        self.heartbeats = 0
        self.heartbeat_secs = 0.0
        self.command = "continue"
        self.lease_lost = False
        self.ttl_secs = 30.0
        self.workers = 0
        self.names: list[str] = []
        self._leases = 0
        self._lock = threading.Lock()
        self._http: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "LeaseServer":
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the same port as before where there was one."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server.answer(self)

            def log_message(self, *message: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def wait_for(self, condition: Any, secs: float = 20.0) -> None:
        """Wait until a condition of this server's state holds."""
        deadline = time.monotonic() + secs
        while not condition():
            assert time.monotonic() < deadline, f"calls so far: {self.calls}"
            time.sleep(0.01)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length) or b"{}")
        if self._http is None:
            handler.close_connection = True
            return
        name = handler.path.rsplit("/", 1)[1]
        with self._lock:
            self.calls.append(name)
            planned = self.fail_next.get(name)
            if planned:
                answer = planned.pop(0)
                if isinstance(answer, int):
                    told = {"error": "planned", "detail": f"status {answer}"}
                    answer = Answer(answer, json.dumps(told).encode())
            else:
                status, view = self._dispatch(name, handler.path, body)
                answer = Answer(status, b"" if status == 204 else json.dumps(view).encode())
        if answer.status == 204 and name == "lease":
            time.sleep(self.hold_secs)
        if answer.status == 0:
            handler.close_connection = True
            return
        handler.send_response(answer.status)
        handler.send_header("Content-Length", str(len(answer.body)))
        if answer.retry_after_secs is not None:
            handler.send_header("Retry-After", str(answer.retry_after_secs))
        handler.end_headers()
        handler.wfile.write(answer.body)

    def _dispatch(self, name: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if name == "workers":
            self.workers += 1
            self.names.append(body["name"])
            return 201, {
                "worker_id": f"w{self.workers}",
                "target_id": "t",
                "heartbeat_secs": self.heartbeat_secs or self.ttl_secs / 3,
            }
        if name == "checks":
            self.checks.append(body)
            return 200, {"quarantined": self.quarantined, "check_secs": self.check_secs}
        lease_id = path.split("/")[-2]
        if name == "lease":
            return self._lease()
        if name == "heartbeat":
            self.heartbeats += 1
            if self.lease_lost:
                return 409, {"error": "lease_lost", "detail": "it ran out"}
            return 200, {"command": self.command, "ttl_secs": self.ttl_secs}
        if name == "release":
            self.released.append(lease_id)
            return 204, {}
        self.posts.append((lease_id, body))
        ids = [item["item_id"] for item in body["results"]]
        known = [item_id for item_id in ids if item_id in self.results]
        self.results.update({item["item_id"]: item["result"] for item in body["results"]})
        return 200, {
            "accepted": [item_id for item_id in ids if item_id not in known],
            "duplicate": known,
            "lease_open": not self.lease_lost,
        }

    def _lease(self) -> tuple[int, dict[str, Any]]:
        if not self.batches:
            return 204, {}
        self._leases += 1
        candidate = {"trace": "[[],[]]", "trace_id": "x"}
        return 200, {
            "lease_id": f"l{self._leases}",
            "epoch": 1,
            "ttl_secs": self.ttl_secs,
            "job_id": "j",
            "workload": {
                "workload_id": "w",
                "name": "made up",
                "op": None,
                "args": None,
                "dtype": None,
                "tensors": [],
                "flops": 1.0,
                "ir": "{}",
            },
            "target": CPU.as_dict(),
            "purpose": "trial",
            "incumbent_secs": None,
            "items": [
                {"item_id": item_id, "candidate": candidate} for item_id in self.batches.pop(0)
            ],
        }


def main() -> None:
    url, state_dir, secs, *devices = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)

    def run(device: Device) -> None:
        config = WorkerConfig(
            name=f"process/{device}", state_dir=Path(state_dir), device=device, poll_secs=20.0
        )
        with Connection(url) as connection:
            WorkerDaemon(connection, FakeMeasurer(float(secs)), config).run()

    if devices:
        # Fake measurers have no need for the cores to exist.
        sys.exit(run_devices(parse_devices(devices, frozenset(range(64))), run))
    run(WHOLE_CPU)


if __name__ == "__main__":
    main()
