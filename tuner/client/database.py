"""A TVM MetaSchedule database that a server answers; imports TVM."""

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import tvm
from tvm.s_tir import meta_schedule as ms

from schedules.detect import native_target
from schedules.errors import NotFoundError, TunesmithError, UnavailableError
from schedules.identity import canonical_json
from schedules.ir import normalised_module, workload_id
from schedules.records import DEFAULT_TRACE, Tier
from schedules.trace import parse_trace, replay
from tuner.client import build_hook, wire
from tuner.client.requests import code_target

logger = logging.getLogger(__name__)


class _Lookup(ms.database.PyDatabase):
    """What TVM calls back; nothing here ever raises into TVM."""

    def __init__(
        self, find_best: Callable[[str, str], wire.BestView], unverified: bool = False
    ) -> None:
        super().__init__()
        self._find_best = find_best
        self._unverified = unverified
        self._native = native_target()
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], wire.BestView | None] = {}
        self._asking = True
        self.hits = 0
        self.misses = 0

    def forget(self) -> None:
        """Ask the server again for everything."""
        with self._lock:
            self._known.clear()
            self._asking = True

    def query_tuning_record(self, mod: Any, target: Any, workload_name: Any = None) -> Any:
        """Return the server's best as a record, None where there is nothing to apply."""
        try:
            record = self._record(mod, target)
        except Exception as error:
            # A build must never fail because of the service.
            logger.warning("%s is built without a tuned schedule: %s", workload_name, error)
            record = None
        with self._lock:
            self.hits += record is not None
            self.misses += record is None
        return record

    def has_workload(self, mod: Any) -> bool:
        """Return whether a query would find something."""
        target = tvm.target.Target.current()
        return target is not None and self.query_tuning_record(mod, target) is not None

    def commit_workload(self, mod: Any) -> Any:
        """Wrap the module; nothing is stored."""
        return ms.database.Workload(mod)

    def commit_tuning_record(self, record: Any) -> None:
        """Drop the record: this database is only read."""
        logger.warning("a record was not stored: the service's database is only read from TVM")

    def get_top_k(self, workload: Any, top_k: int) -> list[Any]:
        """Return the best where a target is in scope."""
        target = tvm.target.Target.current()
        record = self.query_tuning_record(workload.mod, target) if target and top_k > 0 else None
        return [] if record is None else [record]

    def get_all_tuning_records(self) -> list[Any]:
        """Return nothing: the server's records are read by `Client.records`."""
        return []

    def __len__(self) -> int:
        return 0

    def _record(self, mod: Any, target: Any) -> Any:
        described = code_target(target)
        chosen = self._native if described.stands_for(self._native) else described
        best = self._best(workload_id(normalised_module(mod)), chosen.target_id)
        if best is None:
            return None
        trace = parse_trace(canonical_json(best.trace))
        if trace == DEFAULT_TRACE:
            return None
        # TVM aborts a build whose trace does not apply, so it is tried first.
        schedule = replay(trace, mod)
        return ms.database.TuningRecord(
            schedule.trace,
            ms.database.Workload(mod),
            [best.latency_secs],
            target,
            ms.arg_info.ArgInfo.from_entry_func(mod, False),
        )

    def _best(self, workload: str, target: str) -> wire.BestView | None:
        with self._lock:
            if (workload, target) in self._known:
                return self._known[workload, target]
            if not self._asking:
                return None
        best: wire.BestView | None = None
        try:
            best = self._find_best(workload, target)
        except NotFoundError:
            logger.debug("no best is known for workload %s on target %s", workload, target)
        except UnavailableError as error:
            # One wait is enough: a network has hundreds of functions.
            with self._lock:
                self._asking = False
            logger.warning("building without tuned schedules: %s", error)
            return None
        except TunesmithError as error:
            logger.warning("no best for workload %s: %s", workload, error)
        if best is not None and not self._is_usable(best):
            best = None
        with self._lock:
            self._known[workload, target] = best
        return best

    def _is_usable(self, best: wire.BestView) -> bool:
        if best.tier not in (Tier.EXACT, Tier.DEFAULT) or not (best.verified or self._unverified):
            logger.info(
                "the %s best of workload %s is not used: %s",
                best.tier,
                best.workload_id,
                "nobody has checked its output" if best.tier is Tier.EXACT else "it is not its own",
            )
            return False
        return True


class TuningDatabase(tvm.ir.utils.derived_object(_Lookup)):  # type: ignore[misc]
    """A MetaSchedule database in whose scope every TVM build uses the server's bests.

    Entering it makes it `meta_schedule.Database.current()` of the calling thread and lets
    `tvm.compile`, `tvm.relax.build` and `tvm.tirx.build` of that thread look functions up in it,
    which TVM does not do by itself. TVM's own ways (`relax.transform.MetaScheduleApplyDatabase`,
    `meta_schedule.relax_integration`) work in its scope as with any other database.

    Functions are found by their identity and by the target's ``mcpu``, ``mattr`` and
    ``num-cores``; a target without a CPU model or core count finds nothing, and one that names this
    machine's means this machine, with the features that it lacks. A build never fails
    because of the server: what cannot be looked up or applied is logged and built as it is.

    Parameters
    ----------
    find_best : callable (workload_id, target_id) -> BestView
        Raises `NotFoundError` where there is none.
    unverified : bool
        Whether bests whose output nobody has checked are used too.

    Attributes
    ----------
    hits, misses : int
        How many queries were answered with a schedule, and how many were not.
    """

    __slots__ = ()

    def __enter__(self) -> Self:
        self._inst.forget()
        super().__enter__()
        build_hook.install(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        build_hook.remove(self)
        super().__exit__(kind, error, trace)
