"""Makes TVM's builds consult the database in whose scope they run; imports TVM.

TVM's own `tvm.compile`, `tvm.relax.build` and `tvm.tirx.build` never look at
`meta_schedule.Database.current()`. All three end in `tvm.tirx.build`, which callers look up by
attribute, so that is the one place to hook.
"""

import logging
import threading
from collections import Counter
from typing import Any

import tvm
from tvm.s_tir import meta_schedule as ms

from schedules.rewrites import rewritten
from schedules.trace import build_context, build_target

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_original: Any = None
# Open scopes by the address of their database: TVM hands out a new Python object for each look-up.
_scopes: Counter[int] = Counter()


def install(database: Any) -> None:
    """Let builds in the scope of `database` use it, until `remove` is called as often."""
    global _original
    with _lock:
        if not _scopes and tvm.tirx.build is not _build:
            _original = tvm.tirx.build
            tvm.tirx.build = _build
        _scopes[database.__chandle__()] += 1


def remove(database: Any) -> None:
    """Undo one `install`; the last one restores `tvm.tirx.build`."""
    with _lock:
        _scopes[database.__chandle__()] -= 1
        _scopes.__iadd__(Counter())
        # Where somebody has wrapped the hook meanwhile, it stays under that wrapper and is idle.
        if not _scopes and tvm.tirx.build is _build:
            tvm.tirx.build = _original


def _build(mod: Any, target: Any = None, pipeline: Any = "default") -> Any:
    database = ms.Database.current()
    if database is not None and database.__chandle__() in _scopes:
        mod = apply_database(mod, target)
        chosen = target or tvm.target.Target.current()
        if chosen is not None:
            target = build_target(tvm.target.Target(chosen))
        with build_context(target):
            return _original(mod, target, pipeline)
    return _original(mod, target, pipeline)


def apply_database(mod: Any, target: Any = None) -> Any:
    """Schedule the functions of a module that the current database knows.

    Parameters
    ----------
    mod : tvm.IRModule or tvm.tirx.PrimFunc
        What is about to be lowered; functions that are scheduled already are left alone.
    target : tvm.target.Target, str, dict or None
        The build's target; that of the scope where it is None.

    Returns
    -------
    tvm.IRModule
        A new module; a function for which something goes wrong stays as it was.
    """
    module = tvm.IRModule.from_expr(mod) if isinstance(mod, tvm.tirx.PrimFunc) else mod
    tuned = {}
    for name, function in module.functions_items():
        if not _is_schedulable(function):
            continue
        try:
            scheduled = _scheduled(name, function, target)
        except Exception as error:
            logger.warning("%s is built as it is: %s", name.name_hint, error)
            continue
        if scheduled is not None:
            tuned[name] = scheduled
    if not tuned:
        return module
    result = tvm.IRModule(dict(module.functions_items()), attrs=module.attrs)
    for name, function in tuned.items():
        result.update_func(name, function)
    return result


def _is_schedulable(function: Any) -> bool:
    attributes = function.attrs or {}
    return (
        isinstance(function, tvm.tirx.PrimFunc)
        and bool(attributes.get("s_tir", False))
        and not bool(attributes.get("tirx.is_scheduled", False))
    )


def _scheduled(name: Any, function: Any, target: Any) -> Any:
    own = (function.attrs or {}).get("target", None)
    chosen = own or target or tvm.target.Target.current()
    if chosen is None:
        return None
    with tvm.target.Target(chosen):
        applied = tvm.relax.transform.MetaScheduleApplyDatabase()(tvm.IRModule({name: function}))
    if "tirx.is_scheduled" not in (applied[name].attrs or {}):
        return None
    return rewritten(applied[name])
