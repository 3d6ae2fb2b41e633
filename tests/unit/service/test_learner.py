"""The learner's loop, step by step, on a real database; its heavy work runs in this process."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cost_model.columns import FEATURE_VERSION
from schedules.errors import UnavailableError
from service.compute import SearchPool
from service.db.migrate import upgrade
from service.db.model_values import OrderKind, OrderState
from service.db.store import Store
from service.db.values import JobSpec
from service.learner import Learner, _StoppedError
from tests.contracts.test_store_models import version
from tests.lessons import TARGET, matmul, teach

SHAPES = (matmul(32, 32, 32), matmul(64, 32, 32), matmul(32, 64, 48))


class Here(SearchPool):
    """Does at once what it is given; `before` happens first."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.closed = 0
        self.before: Callable[[], object] = lambda: None

    def run(self, work: Any, *args: Any, **kwargs: Any) -> Future[Any]:
        self.ran.append(work.__name__)
        future: Future[Any] = Future()
        try:
            self.before()
            future.set_result(work(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        self.closed += 1


class Never(Here):
    """Never gets done with anything."""

    def run(self, work: Any, *args: Any, **kwargs: Any) -> Future[Any]:
        self.before()
        return Future()


@pytest.fixture(autouse=True)
def _keep_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.learning.step._lowered", True)
    monkeypatch.setattr("service.learner.TICK_SECS", 0.01)
    # How good the model is does not matter here.
    few = {"speed": 20, "latency": 20, "interval": 10, "validity": 10}
    monkeypatch.setattr("cost_model.base_model.ROUNDS", few)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path / 'tunesmith.db'}"
    upgrade(url)
    opened = Store.open(url)
    yield opened
    opened.close()


def submit(store: Store) -> str:
    spec = JobSpec(
        workload_id=SHAPES[0].workload_id,
        target_id=TARGET.target_id,
        trials=8,
        seconds=None,
        priority=0,
        space="default",
        seed=None,
    )
    return store.submit_job(spec, idempotency_key=None)[0].job_id


def test_what_is_new_is_learnt_and_promoted_without_being_asked_for(store: Store) -> None:
    teach(store, *SHAPES)
    pool = Here()
    learner = Learner(store=store, pool=pool)

    while learner.tick():
        pass

    assert pool.ran == ["featurise"] * 3 + ["train"]
    (version,) = store.model_versions(limit=9, cursor=None).items
    assert store.promoted_model() == version.version
    assert version.trained_on.rows == 96
    # Too little is new for another one, also after a restart.
    for again in (learner, Learner(store=store, pool=pool)):
        again.tick()
    assert pool.ran[4:] == []


def test_all_is_learnt_anew_after_features_have_changed(store: Store) -> None:
    teach(store, *SHAPES)
    before = version("before")
    before = replace(
        before,
        feature_version=FEATURE_VERSION - 1,
        trained_on=replace(before.trained_on, rows=96),
    )
    store.add_model_version(before, content=b"of other features", judge=b"of other features")
    store.promote_model(before.version)
    pool = Here()
    learner = Learner(store=store, pool=pool)

    while learner.tick():
        pass

    assert pool.ran == ["featurise"] * 3 + ["train"]
    assert store.promoted_model() not in (None, before.version)


def test_jobs_come_first_on_a_machine_that_measures(store: Store) -> None:
    teach(store, *SHAPES)
    job_id = submit(store)
    order = store.give_order(OrderKind.TRAIN, {})
    pool = Here()

    assert not Learner(store=store, pool=pool).tick()
    assert pool.ran == []
    assert Learner(store=store, pool=pool, quiet=False).tick()
    assert store.order(order.order_id).state is OrderState.DONE
    store.cancel_job(job_id)
    store.give_order(OrderKind.EVALUATE, {})
    assert Learner(store=store, pool=pool).tick()


def test_what_nobody_asked_for_waits_until_the_machine_was_idle_for_a_while(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach(store, *SHAPES[:1], count=8)
    job_id = submit(store)
    learner = Learner(store=store, pool=Here())
    assert not learner.tick()
    store.cancel_job(job_id)

    assert not learner.tick()
    store.give_order(OrderKind.EVALUATE, {})
    assert learner.tick()
    monkeypatch.setattr("service.learner.IDLE_SECS", 0.0)
    assert learner.tick()


def test_a_job_interrupts_what_is_being_learnt(store: Store) -> None:
    teach(store, *SHAPES[:1])
    pool = Never()
    pool.before = partial(submit, store)
    learner = Learner(store=store, pool=pool)

    with pytest.raises(_StoppedError):
        learner.tick()

    assert pool.closed == 1
    assert not learner.tick()


def test_an_order_that_was_interrupted_stays_ordered(store: Store) -> None:
    teach(store, *SHAPES[:1])
    order = store.give_order(OrderKind.TRAIN, {})
    pool = Never()
    pool.before = partial(submit, store)
    learner = Learner(store=store, pool=pool, owner="the same")
    with pytest.raises(_StoppedError):
        learner.tick()
    for job in store.active_jobs():
        store.cancel_job(job.job_id)

    assert store.order(order.order_id).state is OrderState.OPEN
    again = Learner(store=store, pool=Here(), owner="the same")
    assert again.tick()
    assert store.order(order.order_id).state is OrderState.FAILED
    assert "at least 64 trials" in str(store.order(order.order_id).error)


def test_candidates_that_kill_the_process_are_given_up(store: Store) -> None:
    teach(store, *SHAPES[:1], count=8)
    pool = Here()

    def die() -> None:
        raise BrokenProcessPool("for a test")

    pool.before = die
    Learner(store=store, pool=pool).tick()

    assert pool.ran == ["featurise"] * 3
    assert store.featureless()[0] is None


def test_an_order_that_kills_the_process_is_given_up(store: Store) -> None:
    order = store.give_order(OrderKind.TRAIN, {})
    pool = Here()

    def die() -> None:
        raise BrokenProcessPool("for a test")

    pool.before = die
    learner = Learner(store=store, pool=pool)
    for _ in range(2):
        with pytest.raises(UnavailableError, match="process died"):
            learner.tick()
    assert learner.tick()

    assert store.order(order.order_id).state is OrderState.FAILED
    assert pool.ran == ["train"] * 3


def test_a_learner_ends_while_it_waits(store: Store) -> None:
    teach(store, *SHAPES[:1], count=8)
    learner = Learner(store=store, pool=Never())
    learner.start()
    time.sleep(0.1)
    learner.stop()
    learner.stop()
