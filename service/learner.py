"""The loop that trains the cost model as records arrive, and does what it is asked to with it.

All state is in the database: what lacks features, what was learnt, what is asked for. Several
servers may run a learner each; orders are held by one at a time, and what two do twice is stored
once. Heavy work happens in a pool process, one piece at a time, and is given up where a job wants
the machine: pieces are seconds long, and are begun again.
"""

import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from importlib.metadata import version as release
from typing import TypeVar

from cost_model.columns import FEATURE_VERSION
from cost_model.gates import LEAST_ROWS, Metrics, failed_gates
from cost_model.versions import Bundle, ModelVersion, TrainedOn, version_of
from schedules.errors import ConflictError, InputError, TunesmithError, UnavailableError
from service.compute import SearchPool
from service.db.model_values import (
    Cut,
    DatasetQuery,
    Featureless,
    ModelFile,
    ModelOrder,
    OrderKind,
)
from service.db.store import Store
from tuner.client import convert
from tuner.learning.step import (
    FeatureRequest,
    TrainRequest,
    check_files,
    featurise,
    judge,
    train,
)

logger = logging.getLogger(__name__)

TICK_SECS = 1.0
LOOK_SECS = 30.0
"""Time between looks for new records: counting them costs the database something."""
IDLE_SECS = 20.0
"""Whoever waited for a job may want the machine next; only then is anything learnt unasked."""
ORDER_TTL_SECS = 60.0
FRESH_SHARE = 0.25
"""A version is trained when there are so many new trials for each that the last one learnt from."""
ATTEMPTS = 3
"""So often is a piece of work begun whose process dies."""

T = TypeVar("T")


class _StoppedError(Exception):
    """The learner's process is needed elsewhere; what it was at is begun again later."""


class Learner:
    """Trains base models; several may share one store.

    Parameters
    ----------
    store : Store
        Holds records, features, versions and orders.
    pool : SearchPool
        Of one process; closed by `stop`, and whenever a job is to have the machine.
    quiet : bool
        Whether nothing may be learnt while a job is active, because this machine also measures.
    automatic : bool
        Whether versions are trained, and promoted where they are better, without being asked for.
    scheduler : str or None
        Address of a Dask cluster that grows the trees.
    owner : str or None
        Name under which orders are held; one of its own by default.
    """

    def __init__(
        self,
        *,
        store: Store,
        pool: SearchPool,
        quiet: bool = True,
        automatic: bool = True,
        scheduler: str | None = None,
        owner: str | None = None,
    ) -> None:
        self._store = store
        self._pool = pool
        self._quiet = quiet
        self._automatic = automatic
        self._scheduler = scheduler
        self._owner = owner or uuid.uuid4().hex
        self._featured_until: datetime | None = None
        self._considered = 0
        self._failures: Counter[str] = Counter()
        self._look_at = self._busy_at = float("-inf")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="learner")

    def start(self) -> None:
        """Start the loop's thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the loop; what it was at is begun again by whoever comes after. Idempotent."""
        self._stopping.set()
        self._pool.close()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        while not self._stopping.wait(TICK_SECS):
            try:
                while self.tick():
                    pass
            except _StoppedError:
                continue
            except UnavailableError as error:
                logger.warning("the learner cannot go on: %s", error)
            except Exception:
                logger.exception("a learner's tick failed; trying again")

    def tick(self) -> bool:
        """Do the next piece of work, and say whether there was any."""
        if self._stopping.is_set() or self._jobs_come_first():
            return False
        order = self._store.take_order(self._owner, ORDER_TTL_SECS)
        if order is not None:
            self._carry_out(order)
            return True
        if not self._automatic or time.monotonic() < max(self._look_at, self._busy_at + IDLE_SECS):
            return False
        if self._featurise() or self._train_unasked():
            return True
        self._look_at = time.monotonic() + LOOK_SECS
        return False

    # --- orders ----------------------------------------------------------------------------------

    def _carry_out(self, order: ModelOrder) -> None:
        act = {
            OrderKind.TRAIN: self._train_asked,
            OrderKind.EVALUATE: self._evaluate,
            OrderKind.PROMOTE: self._promote,
            OrderKind.IMPORT: self._import,
        }[order.kind]
        try:
            result = act(order)
        except _StoppedError:
            raise
        except UnavailableError as error:
            # The database, a pool process, or a cluster: it may answer the next time.
            self._failures[order.order_id] += 1
            if self._failures[order.order_id] < ATTEMPTS:
                raise
            self._finish(order, error=str(error))
        except TunesmithError as error:
            self._finish(order, error=str(error))
        except Exception as error:
            logger.exception("order %s failed", order.order_id)
            self._finish(order, error=f"{type(error).__name__}: {error}")
        else:
            self._finish(order, result=result)

    def _finish(
        self,
        order: ModelOrder,
        *,
        result: Mapping[str, object] | None = None,
        error: str | None = None,
    ) -> None:
        try:
            self._store.finish_order(order.order_id, self._owner, result=result, error=error)
        except ConflictError as lost:
            logger.info("order %s is no longer ours: %s", order.order_id, lost)

    def _train_asked(self, order: ModelOrder) -> Mapping[str, object]:
        while self._featurise(order):
            pass
        cut = self._store.cut_dataset(_query(order.request))
        version, reasons = self._train(cut, order, seed=int(str(order.request.get("seed") or 0)))
        if order.request.get("promote") and not reasons:
            self._store.promote_model(version.version)
        return {
            "version": version.version,
            "metrics": dict(version.metrics),
            "promoted": self._store.promoted_model() == version.version,
            "failed_gates": reasons,
        }

    def _evaluate(self, order: ModelOrder) -> Mapping[str, object]:
        version = self._asked_version(order)
        metrics = self._judge(version, self._cut(order), order)
        if metrics is None:
            raise _of_other_features(version)
        return {"version": version, "metrics": metrics}

    def _promote(self, order: ModelOrder) -> Mapping[str, object]:
        version = self._asked_version(order)
        present = self._store.promoted_model()
        if present != version and not order.request.get("force"):
            cut = self._cut(order)
            metrics = self._judge(version, cut, order)
            if metrics is None:
                raise _of_other_features(version)
            before = None if present is None else self._judge(present, cut, order)
            reasons = failed_gates(metrics, before)
            if reasons:
                raise ConflictError(
                    f"version {version} is not promoted: {'; '.join(reasons)} (--force promotes it "
                    "all the same)"
                )
        self._store.promote_model(version)
        return {"version": version, "before": present}

    def _import(self, order: ModelOrder) -> Mapping[str, object]:
        bundle = Bundle.from_bytes(order.content or b"")
        self._in_pool(self._pool.run(check_files, bundle.content, bundle.judge), order)
        self._store.add_model_version(bundle.version, content=bundle.content, judge=bundle.judge)
        return {"version": bundle.version.version}

    def _asked_version(self, order: ModelOrder) -> str:
        asked = order.request.get("version") or self._store.promoted_model()
        if asked is None:
            raise InputError("no version is in use; name one (`tunesmith model list` shows them)")
        return self._store.model_version(str(asked)).version

    def _cut(self, order: ModelOrder) -> Cut:
        while self._featurise(order):
            pass
        return self._store.cut_dataset(DatasetQuery())

    def _judge(self, version: str, cut: Cut, order: ModelOrder) -> Metrics | None:
        content = self._store.model_file(version, ModelFile.JUDGE)
        return self._in_pool(self._pool.run(judge, content, cut.training_set), order)

    # --- learning --------------------------------------------------------------------------------

    def _featurise(self, order: ModelOrder | None = None) -> bool:
        """Extract the features of some candidates that have none; say whether there were any."""
        found, self._featured_until = self._store.featureless(self._featured_until)
        if found is None:
            return False
        self._store.save_features(
            found.workload_id, found.target_id, self._features_of(found, order)
        )
        return True

    def _features_of(self, found: Featureless, order: ModelOrder | None) -> Mapping[str, bytes]:
        request = FeatureRequest(
            workload=convert.workload_to_wire(self._store.workload(found.workload_id)),
            target=self._store.target(found.target_id).as_dict(),
            traces=found.traces,
        )
        for _ in range(ATTEMPTS):
            try:
                return self._in_pool(self._pool.run(featurise, request), order)
            except UnavailableError:
                continue
        # One of them takes its process down whenever it is looked at.
        logger.warning("features of workload %s cannot be extracted", found.workload_id)
        return dict.fromkeys(found.traces, b"")

    def _train_unasked(self) -> bool:
        """Train when enough is new, and promote what is better; say whether it was trained."""
        trials = self._store.count_trials()
        if trials < max(LEAST_ROWS, (1 + FRESH_SHARE) * self._considered):
            return False
        if not self._considered:
            # What an earlier process learnt from counts as considered too.
            self._considered = self._store.learnt_trials()
            if self._considered:
                return False
        self._considered = trials
        cut = self._store.cut_dataset(DatasetQuery())
        try:
            version, reasons = self._train(cut, None)
        except InputError as error:
            logger.info("No version is trained: %s", error, extra={"action": "train_model"})
            return True
        if not reasons:
            self._store.promote_model(version.version)
        return True

    def _train(
        self, cut: Cut, order: ModelOrder | None, *, seed: int = 0
    ) -> tuple[ModelVersion, list[str]]:
        """Train and store a version; say why it may not be promoted."""
        parent = self._store.promoted_model()
        request = TrainRequest(
            training_set=cut.training_set,
            present_judge=None
            if parent is None
            else self._store.model_file(parent, ModelFile.JUDGE),
            seed=seed,
            scheduler=self._scheduler,
        )
        trained, present = self._in_pool(self._pool.run(train, request), order)
        dataset = cut.training_set.dataset
        version = ModelVersion(
            version=version_of(trained.content),
            created_at=datetime.now(UTC),
            parent=parent,
            feature_version=FEATURE_VERSION,
            code_version=release("tunesmith"),
            trained_on=TrainedOn(
                query=cut.query.as_dict(),
                digest=cut.digest,
                rows=len(dataset),
                failed=int(dataset.failed.sum()),
                censored=int(dataset.censored.sum()),
                groups=len(cut.training_set.tasks),
            ),
            metrics=trained.metrics,
        )
        self._store.add_model_version(version, content=trained.content, judge=trained.judge)
        reasons = failed_gates(trained.metrics, present)
        logger.info(
            "Version %s of the cost model is trained: %s",
            version.version,
            "; ".join(reasons) or "it is better than the one in use",
            extra={"action": "train_model", "version": version.version},
        )
        return version, reasons

    # --- the pool --------------------------------------------------------------------------------

    def _jobs_come_first(self) -> bool:
        if not (self._quiet and any(self._store.count_active_jobs().values())):
            return False
        self._busy_at = time.monotonic()
        return True

    def _in_pool(self, future: Future[T], order: ModelOrder | None) -> T:
        """Wait for a piece of work, keeping its order, unless a job wants the machine."""
        while True:
            try:
                return future.result(timeout=TICK_SECS)
            except TimeoutError:
                if future.done():
                    raise
            except (BrokenProcessPool, CancelledError) as error:
                if self._stopping.is_set():
                    raise _StoppedError from None
                raise UnavailableError(f"the learner's process died: {error}") from None
            if self._stopping.is_set() or self._jobs_come_first():
                self._pool.close()
                raise _StoppedError
            if order is not None:
                self._store.renew_order(order.order_id, self._owner, ORDER_TTL_SECS)


def _query(request: Mapping[str, object]) -> DatasetQuery:
    def moment(name: str) -> datetime | None:
        value = request.get(name)
        return None if value is None else datetime.fromisoformat(str(value))

    def text(name: str) -> str | None:
        value = request.get(name)
        return None if value is None else str(value)

    return DatasetQuery(
        target_id=text("target_id"),
        operator=text("operator"),
        since=moment("since"),
        until=moment("until"),
    )


def _of_other_features(version: str) -> InputError:
    return InputError(
        f"version {version} was fitted on other features than this release extracts; train anew"
    )
