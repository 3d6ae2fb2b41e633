"""Tuning on this machine, without a server."""

import secrets
from collections.abc import Callable, Collection, Mapping

from schedules.errors import InputError
from schedules.operators import find_operator
from schedules.records import Best
from schedules.space import DEFAULT_SPACE, SPACES
from schedules.target import NATIVE, Target
from schedules.workload import OperatorCall, Workload
from tuner.learning.neighbours import find_neighbours
from tuner.measure.local import LocalMeasurer
from tuner.search.local import LocalSearch, warm_pool
from tuner.session import Budget, Progress, Session
from tuner.store import MemoryStore, RecordStore


def tune(
    op: str,
    args: Mapping[str, object],
    *,
    dtype: str = "float32",
    constants: Collection[str] = (),
    trials: int | None = 64,
    seconds: float | None = None,
    least_gain: float | None = None,
    target: str | Mapping[str, object] = NATIVE,
    space: str = DEFAULT_SPACE,
    seed: int | None = None,
    store: RecordStore | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Best | None:
    """Tune a catalogue operator on this machine.

    Parameters
    ----------
    op : str
        Operator name; see ``tunesmith ops``.
    args : Mapping[str, object]
        The operator's arguments.
    dtype : str
        Operand dtype.
    constants : collection of str
        Names of inputs that are the same in every call, as weights are; they are packed ahead.
    trials, seconds : int or None, float or None
        The budget; the bound reached first counts.
    least_gain : float or None
        Stop earlier, when the next batch is expected to make the best faster by a smaller share.
    target : str or Mapping
        ``native``, or a target that this machine can run.
    space : str
        A name of `schedules.space.SPACES`.
    seed : int or None
        For equal searches; random by default.
    store : RecordStore or None
        Where earlier trials are found and new ones kept; memory by default.
    on_progress : callable or None
        Called after every trial.

    Returns
    -------
    Best or None
        What is published; None if not even the compiler's default passed its check.

    Raises
    ------
    InputError
        The operator, its arguments, the target or the space cannot be used.
    UnavailableError
        The measuring process cannot be kept alive.
    """
    return _tune(
        find_operator(op).call(args, dtype, constants),
        budget=Budget(trials=trials, seconds=seconds),
        least_gain=least_gain,
        target=target,
        space=space,
        seed=seed,
        store=store,
        on_progress=on_progress,
    )


def tune_workload(
    workload: Workload,
    *,
    trials: int | None = 64,
    seconds: float | None = None,
    least_gain: float | None = None,
    target: str | Mapping[str, object] = NATIVE,
    space: str = DEFAULT_SPACE,
    seed: int | None = None,
    store: RecordStore | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Best | None:
    """Tune a resolved workload on this machine; see `tune`."""
    return _tune(
        workload,
        budget=Budget(trials=trials, seconds=seconds),
        least_gain=least_gain,
        target=target,
        space=space,
        seed=seed,
        store=store,
        on_progress=on_progress,
    )


def _tune(
    what: OperatorCall | Workload,
    *,
    budget: Budget,
    least_gain: float | None,
    target: str | Mapping[str, object],
    space: str,
    seed: int | None,
    store: RecordStore | None,
    on_progress: Callable[[Progress], None] | None,
) -> Best | None:
    if budget.trials is None and budget.seconds is None:
        raise InputError("a budget needs a bound: give trials, seconds, or both")
    if space not in SPACES:
        raise InputError(f"there is no schedule space {space!r}; use {', '.join(SPACES)}")
    kept = store or MemoryStore()
    # Both processes need seconds to load the compiler: they do it side by side.
    with LocalMeasurer() as measurer, warm_pool() as pool:
        native, environment = measurer.describe()
        resolved = _runnable(target, native)
        workload = what if isinstance(what, Workload) else measurer.resolve(what)
        with LocalSearch(
            workload=workload,
            target=resolved,
            space=space,
            seed=secrets.randbelow(2**31) if seed is None else seed,
            least_gain=least_gain,
            neighbours=[
                best.trace for _, best in find_neighbours(kept, workload, resolved.target_id)
            ],
            base_model=kept.base_model(),
            pool=pool,
        ) as strategy:
            return Session(
                workload=workload,
                target=resolved,
                strategy=strategy,
                measurer=measurer,
                environment=environment,
                store=kept,
                budget=budget,
                on_progress=on_progress,
            ).run()


def _runnable(target: str | Mapping[str, object], native: Target) -> Target:
    if isinstance(target, str):
        if target != NATIVE:
            raise InputError(f"target {target!r} is unknown; use {NATIVE!r} or a target dict")
        return native
    parsed = Target.parse(target)
    if parsed.kind != native.kind or parsed.cores > native.cores:
        raise InputError(f"this machine is {native}; it cannot run kernels for {parsed}")
    return native if parsed.stands_for(native) else parsed
