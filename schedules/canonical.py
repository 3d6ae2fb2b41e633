"""TIR functions written so that equal programs are equal, whatever their parts are called."""

import json
from collections.abc import Iterator
from typing import Any

import tvm
from tvm import tirx

# Attributes that say how a function is called, not what it computes.
_CALLING_ATTRIBUTES = frozenset(
    ("global_symbol", "op_pattern", "tirx.noalias", "tirx.is_scheduled", "target", "s_tir")
)


def canonical_ir(function: Any) -> list[Any]:
    """Write a TIR function as JSON that does not depend on names or on node sharing.

    Variables and buffers become numbers in the order of their first use, source spans and calling
    attributes are dropped, equal subtrees are written once. Block names stay: traces address
    blocks by them, so programs that differ in a block name cannot share traces.

    Parameters
    ----------
    function : tvm.tirx.PrimFunc
        Any function.

    Returns
    -------
    list
        Nodes in post-order, children before parents; equal for programs that are equal up to names.
    """
    return _Canonical().write(function)


def numberless_ir(function: Any) -> list[Any]:
    """Write a TIR function as `canonical_ir` does, without extents, bounds and factors."""
    return _Numberless().write(function)


class _Canonical:
    """One pass over the object graph by TVM's field reflection."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._by_content: dict[str, int] = {}
        self._by_object: dict[int, Any] = {}
        self._variables = 0

    def write(self, function: Any) -> list[Any]:
        self._visit(function)
        return self._nodes

    def _visit(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return f"s:{value}"
        handle = value.__chandle__()
        if handle not in self._by_object:
            self._by_object[handle] = self._node(value)
        return self._by_object[handle]

    def _node(self, value: Any) -> Any:
        if isinstance(value, tirx.Var):
            # The number stands for the binding; the type is what a use of it depends on.
            number = self._variables
            self._variables += 1
            self._by_object[value.__chandle__()] = f"v:{number}"
            self._intern(["Var", number, self._visit(value.ty)])
            return f"v:{number}"
        if isinstance(value, tvm.ir.Op):
            return f"op:{value.name}"
        if hasattr(value, "items"):
            entries = [[str(key), self._visit(item)] for key, item in value.items()]
            return self._intern(["Map", sorted(entries, key=lambda entry: str(entry[0]))])
        if hasattr(value, "__len__"):
            return self._intern(["Array", *[self._visit(item) for item in value]])
        return self._intern(self._fields(value))

    def _fields(self, value: Any) -> list[Any]:
        kind = type(value).__tvm_ffi_type_info__.type_key
        if kind == "tirx.PrimFunc":
            attributes = {
                str(key): item
                for key, item in (value.attrs or {}).items()
                if str(key) not in _CALLING_ATTRIBUTES
            }
            written = sorted([key, self._visit(item)] for key, item in attributes.items())
            return [kind, self._visit(value.params), self._visit(value.body), written]
        children = [
            [name, self._visit(getattr(value, name))]
            for name in _field_names(value)
            if name != "span"
        ]
        return [kind, children]

    def _intern(self, node: list[Any]) -> str:
        key = json.dumps(node)
        if key not in self._by_content:
            self._by_content[key] = len(self._nodes)
            self._nodes.append(node)
        return f"n:{self._by_content[key]}"


class _Numberless(_Canonical):
    """Leaves out extents, bounds and factors; of a constant, its dtype stays."""

    def _fields(self, value: Any) -> list[Any]:
        if isinstance(value, tirx.IntImm | tirx.FloatImm):
            return ["Number", self._visit(value.ty)]
        return super()._fields(value)


def objects(root: Any) -> Iterator[Any]:
    """Yield every object that is reachable from `root`, each once."""
    seen: set[int] = set()
    pending = [root]
    while pending:
        value = pending.pop()
        if value is None or isinstance(value, bool | int | float | str):
            continue
        if value.__chandle__() in seen:
            continue
        seen.add(value.__chandle__())
        if hasattr(value, "items"):
            pending.extend(value.values())
        elif hasattr(value, "__len__"):
            pending.extend(value)
        else:
            yield value
            pending.extend(getattr(value, name) for name in _field_names(value))


def _field_names(value: Any) -> Iterator[str]:
    info = type(value).__tvm_ffi_type_info__
    while info is not None:
        yield from (field.name for field in info.fields or ())
        info = info.parent_type_info
