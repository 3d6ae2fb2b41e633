"""Making workloads and targets of what clients write."""

import hashlib
import re
import time
from typing import Any, Protocol

from schedules.errors import ConflictError, InvalidTargetError
from schedules.target import NATIVE, Target, is_tag
from schedules.workload import OperatorCall, Workload
from service.db.store import Store
from service.recent import Recent
from tuner.client import convert, wire

_TARGET_ID = re.compile(r"[0-9a-f]{64}")
_REMEMBERED = 256
_WORKER_POLL_SECS = 0.2
# Programs with constants can be large; those are rare and parsed each time.
_REMEMBERED_BYTES = 2**20


class Parser(Protocol):
    """Parses untrusted programs elsewhere; `tuner.sandbox.Sandbox` is one. Thread-safe."""

    def resolve_call(self, call: OperatorCall) -> Workload:
        """Write the program of a checked operator call; see `tuner.sandbox.Sandbox`."""
        ...

    def resolve_ir(self, text: str, name: str | None) -> Workload:
        """Parse and check IR JSON; see `tuner.sandbox.Sandbox`."""
        ...

    def check_target(self, target: Target) -> None:
        """Raise InvalidTargetError for what the compiler does not know."""
        ...

    def tagged_target(self, tag: str) -> Target:
        """Return what a compiler's tag stands for; see `tuner.sandbox.Sandbox`."""
        ...


class Resolver:
    """Resolves the workloads and targets of requests. Thread-safe.

    Parameters
    ----------
    store : Store
        Knows earlier workloads and targets, and which targets have workers.
    parser : Parser
        Knows the compiler.
    worker_due_secs : float
        How long a worker is waited for that starts with the server, before ``native`` is said to
        mean nothing.
    """

    def __init__(self, *, store: Store, parser: Parser, worker_due_secs: float = 0.0) -> None:
        self._store = store
        self._parser = parser
        self._worker_due_at = time.monotonic() + worker_due_secs
        self._programs: Recent[bytes, Workload] = Recent(_REMEMBERED)
        self._targets: Recent[str, Target] = Recent(_REMEMBERED)

    def workload(self, request: wire.WorkloadRequest) -> Workload:
        """Make the workload of a request; it is not stored.

        Raises
        ------
        InputError
            An unknown operator, bad arguments, or IR that is not a tunable program.
        UnavailableError
            Parsing is not possible now.
        """
        if isinstance(request, wire.IrWorkload):
            return self._program(request.ir, request.name)
        call = convert.operator_call(request)
        known = self._store.workload_for_call(call.key)
        # Without a family it was stored by an older version.
        if known is not None and known.family_id is not None:
            return known
        return self._parser.resolve_call(call)

    def known_workload_id(self, request: wire.WorkloadRequest) -> str | None:
        """Return the id of a workload, or None for an operator call that was never stored.

        A look-up needs no more, and no parsing for operators.

        Raises
        ------
        InputError
            As in `workload`.
        """
        if isinstance(request, wire.IrWorkload):
            return self._program(request.ir, request.name).workload_id
        known = self._store.workload_for_call(convert.operator_call(request).key)
        return known.workload_id if known else None

    def target(self, request: wire.TargetRequest) -> Target:
        """Make the target of a request; it is not stored.

        Raises
        ------
        InvalidTargetError
            It is malformed, or the compiler does not know it.
        NotFoundError
            There is no target of that id.
        ConflictError
            ``native`` does not mean one target now.
        """
        if not isinstance(request, str):
            return self._as_workers_have_it(self.described_target(request))
        if request == NATIVE:
            return self._native()
        if _TARGET_ID.fullmatch(request):
            return self._store.target(request)
        if is_tag(request):
            return self._tagged(request)
        raise InvalidTargetError(
            f"target {request!r} is unknown: give {NATIVE!r}, a target id (64 hexadecimal digits, "
            "see /v1/targets), a tag of TVM's such as nvidia/nvidia-h100, or a dict such as "
            '{"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 2}'
        )

    def described_target(self, description: dict[str, Any]) -> Target:
        """Check a target dict, by the compiler where it is new.

        Raises
        ------
        InvalidTargetError
            It is malformed, or the compiler does not know it.
        """
        target = Target.parse(description)
        target_id = target.target_id
        if self._targets.get(target_id) is None:
            self._parser.check_target(target)
            self._targets.put(target_id, target)
        return target

    def _tagged(self, tag: str) -> Target:
        known = self._targets.get(tag)
        if known is None:
            known = self._parser.tagged_target(tag)
            self._targets.put(tag, known)
        return known

    def _as_workers_have_it(self, target: Target) -> Target:
        """Return the target of the workers that a description of their CPU stands for."""
        if target.kind != "llvm" or "mattr" in target.attributes:
            return target
        meant = [live for live in self._live() if target.stands_for(live)]
        return target if target in meant or len(meant) != 1 else meant[0]

    def _live(self) -> tuple[Target, ...]:
        live = self._store.live_targets()
        while not live and time.monotonic() < self._worker_due_at:
            time.sleep(_WORKER_POLL_SECS)
            live = self._store.live_targets()
        return live

    def _native(self) -> Target:
        live = self._live()
        if len(live) == 1:
            return live[0]
        if not live:
            raise ConflictError(
                f"target {NATIVE!r} means that of the online workers and there is none: start one "
                "with `tunesmith worker --server URL`, or name a target as a dict or by its id"
            )
        listed = "; ".join(f"{target} ({target.target_id})" for target in live)
        raise ConflictError(
            f"target {NATIVE!r} is ambiguous, the online workers have {len(live)} targets; "
            f"name one of them by its id: {listed}"
        )

    def _program(self, text: str, name: str | None) -> Workload:
        data = text.encode()
        key = hashlib.sha256(data + b"\0" + (name or "").encode()).digest()
        known = self._programs.get(key)
        if known is not None:
            return known
        workload = self._parser.resolve_ir(text, name)
        if len(data) <= _REMEMBERED_BYTES:
            self._programs.put(key, workload)
        return workload
