"""A real server on a free port with a real SQLite store, and a worker and orchestrator by hand."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from schedules.errors import InvalidTargetError, InvalidWorkloadError
from schedules.identity import canonical_json, sha256_id
from schedules.operators import find_operator
from schedules.records import PROTOCOL_VERSION, Candidate, Purpose
from schedules.target import Target
from schedules.workload import OperatorCall, TensorSpec, Workload
from service.api.context import Services
from service.app import create_app
from service.auth import Auth
from service.db import migrate
from service.db.engine import ClockOffset, no_offset
from service.db.store import Store
from service.server import listen
from service.settings import Settings
from tests.contracts.store_values import claim
from tuner.sandbox import Program, Sandbox

CPU = {"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 2}
OTHER_CPU = {"kind": "llvm", "mcpu": "znver4", "num-cores": 8}
MATMUL = {"op": "matmul", "args": {"n": 64, "m": 64, "k": 64}}
OWNER = "test-owner"


TAGS = {"nvidia/nvidia-h100": {"kind": "cuda", "arch": "sm_90a"}}


class FakeParser:
    """Stands for the sandbox, without TVM."""

    def __init__(self) -> None:
        self.resolved = 0

    def resolve_call(self, call: OperatorCall) -> Workload:
        self.resolved += 1
        operator = find_operator(call.op)
        return Workload(
            workload_id=sha256_id(["program of", call.key]),
            name=str(call),
            ir=canonical_json({"program": str(call)}),
            tensors=tuple(operator.tensors(call.args, call.dtype)),
            flops=float(operator.flops(call.args)),
            call=call,
            family_id=sha256_id(["family of", call.op, call.dtype]),
        )

    def resolve_ir(self, text: str, name: str | None) -> Workload:
        self.resolved += 1
        if "program" not in text:
            raise InvalidWorkloadError("this is no program")
        return Workload(
            workload_id=sha256_id(["program", text]),
            name=name or "main",
            ir=text,
            tensors=(TensorSpec(name="A", shape=(4,), dtype="float32", is_output=True),),
            flops=4.0,
        )

    def tagged_target(self, tag: str) -> Target:
        if tag not in TAGS:
            raise InvalidTargetError(f"target {tag!r}: there is no such tag")
        return Target.parse(TAGS[tag])

    def print_program(self, workload: Workload, target: Target, trace: str) -> Program:
        return Program(
            script=f"# {workload.name}\n{trace}", code=None, language="assembly", problem="no TVM"
        )

    def check_target(self, target: Target) -> None:
        if target.attributes.get("mcpu") == "unheard-of":
            raise InvalidTargetError("the compiler does not know unheard-of")


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server and its insides."""

    url: str
    http: httpx.Client
    services: Services
    store: Store
    parser: FakeParser

    def submit(self, **changes: Any) -> dict[str, Any]:
        """Submit a job for the CPU target and return it."""
        request = {"workload": MATMUL, "target": CPU, "budget": {"trials": 8}, **changes}
        answer = self.http.post("/v1/jobs", json=request)
        assert answer.status_code in (200, 201), answer.text
        view: dict[str, Any] = answer.json()
        return view

    def register(self, name: str = "worker", target: dict[str, Any] = CPU) -> str:
        """Register a worker and return its id."""
        body = {"name": name, "target": target, "environment": {"cpu": "test", "cores": 2}}
        answer = self.http.post("/v1/workers", json=body)
        assert answer.status_code == 201, answer.text
        worker_id: str = answer.json()["worker_id"]
        return worker_id

    def enqueue(self, count: int = 2, purpose: Purpose = Purpose.TRIAL) -> str:
        """Do an orchestrator's step: claim a job and queue a batch for it."""
        job = claim(self.store, OWNER, 3600)
        assert job is not None
        batch_id = self.store.enqueue_batch(
            job.job_id,
            OWNER,
            purpose=purpose,
            candidates=[candidate(number) for number in range(count)],
            incumbent_secs=None,
        )
        self.services.events.batch_ready(job.spec.target_id)
        return batch_id

    def lease(self, worker_id: str, wait_secs: float = 0) -> httpx.Response:
        """Ask for a lease."""
        return self.http.post(
            f"/v1/workers/{worker_id}/lease", json={"wait_secs": wait_secs}, timeout=90
        )

    def report(
        self, lease: dict[str, Any], worker_id: str, run_secs: float = 1e-3, **changes: Any
    ) -> httpx.Response:
        """Report the same time for every item of a lease."""
        body = {
            "epoch": lease["epoch"],
            "worker_id": worker_id,
            "environment": {"cpu": "test"},
            "protocol_version": PROTOCOL_VERSION,
            "results": [
                {"item_id": item["item_id"], "result": {"run_secs": [run_secs, run_secs]}}
                for item in lease["items"]
            ],
            **changes,
        }
        return self.http.post(f"/v1/leases/{lease['lease_id']}/results", json=body)


def candidate(number: int) -> Candidate:
    """Make a candidate that differs from those of other numbers."""
    trace = [[["SamplePerfectTile", [], [number], []]], [[0, [number, 1]]]]
    return Candidate(trace=canonical_json(trace), trace_id=sha256_id(trace))


@cache
def _migrated() -> Path:
    path = Path(tempfile.mkdtemp(prefix="tunesmith-test-")) / "template.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@contextmanager
def live_server(
    directory: Path,
    *,
    auth: Auth | None = None,
    sandbox: Sandbox | None = None,
    clock_offset: ClockOffset = no_offset,
    **settings: Any,
) -> Iterator[Server]:
    """Run a server in a thread while the context lasts, without TVM where there is no sandbox."""
    path = directory / "tunesmith.db"
    shutil.copyfile(_migrated(), path)
    store = Store.open(f"sqlite:///{path}", clock_offset=clock_offset)
    parser = FakeParser()
    services = Services.assemble(
        store=store,
        parser=sandbox or parser,
        printer=sandbox or parser,
        auth=auth or Auth(loopback_only=True),
        settings=Settings(data_dir=directory, **settings),
    )
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(create_app(services), log_config=None, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        # The socket listens already: the first request waits for the application.
        with httpx.Client(base_url=url, timeout=30) as http:
            http.get("/healthz").raise_for_status()
            yield Server(url=url, http=http, services=services, store=store, parser=parser)
    finally:
        services.events.close()
        server.should_exit = True
        thread.join()
        store.close()
