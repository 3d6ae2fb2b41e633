"""What users write for workloads and targets, as wire values."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from schedules.errors import InputError, InvalidTargetError, InvalidWorkloadError
from schedules.target import Target
from tuner.client import wire

View = TypeVar("View", bound=BaseModel)

_IMPORT_BYTES = 2 * 2**20
_IMPORT_RECORDS = 1000

# Attributes of TVM's targets that do not change the code of one scheduled kernel.
_NOT_CODE = frozenset({"keys", "tag", "host", "device", "model", "libs", "max_num_threads"})


def checked(model: type[View], **fields: Any) -> View:
    """Make a request body.

    Raises
    ------
    InputError
        A field is out of range; the message names the first one.
    """
    try:
        return model(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or model.__name__
        raise InputError(f"{where}: {first['msg']}") from None


def workload_request(workload: object) -> wire.WorkloadRequest:
    """Write a workload in its wire form.

    Parameters
    ----------
    workload : tuple, Mapping, OperatorWorkload, IrWorkload, tvm.IRModule or tvm.tirx.PrimFunc
        ``("op", {"arg": 1})`` with an optional dtype as the third, a dict of the wire form, a wire
        value, or a TVM program, which is sent as its JSON.

    Raises
    ------
    InvalidWorkloadError
        It is nothing of that.
    """
    if isinstance(workload, wire.OperatorWorkload | wire.IrWorkload):
        return workload
    if isinstance(workload, str):
        raise InvalidWorkloadError(
            f"a workload is not a string; for an operator write ({workload!r}, {{...}}), for IR "
            '{"ir": text}'
        )
    if isinstance(workload, Mapping):
        if "ir" in workload:
            return checked(wire.IrWorkload, **workload)
        return checked(wire.OperatorWorkload, **workload)
    if isinstance(workload, Sequence):
        if not 1 <= len(workload) <= 3:
            raise InvalidWorkloadError('write an operator as ("op", {"arg": 1}, "dtype")')
        names = ("op", "args", "dtype")[: len(workload)]
        return checked(wire.OperatorWorkload, **dict(zip(names, workload, strict=True)))
    return wire.IrWorkload(ir=_ir_text(workload))


def target_request(target: object) -> wire.TargetRequest:
    """Write a target in its wire form.

    Parameters
    ----------
    target : str, Mapping, schedules.target.Target or tvm.target.Target
        ``"native"``, a target id, a dict of TVM's form, or a target.
    """
    if isinstance(target, str):
        return target
    if isinstance(target, Target):
        return target.as_dict()
    if isinstance(target, Mapping):
        return dict(target)
    if hasattr(target, "export"):
        written: dict[str, Any] = _plain(target.export())
        return written
    raise InvalidTargetError(
        f"a target is 'native', a target id, a dict or a TVM target, not {type(target).__name__}"
    )


def code_target(target: Any) -> Target:
    """Return what identifies a TVM target: the attributes that change the code of a kernel.

    Raises
    ------
    InvalidTargetError
        It lacks one, such as an ``llvm`` target's ``mcpu`` or ``num-cores``.
    """
    written = _plain(target.export())
    return Target.parse({name: value for name, value in written.items() if name not in _NOT_CODE})


def import_parts(records: Iterable[wire.ImportedRecord]) -> Iterator[list[wire.ImportedRecord]]:
    """Divide records so that no request is too large for the server."""
    part: list[wire.ImportedRecord] = []
    part_bytes = 0
    for record in records:
        record_bytes = len(record.model_dump_json())
        if part and (part_bytes + record_bytes > _IMPORT_BYTES or len(part) == _IMPORT_RECORDS):
            yield part
            part, part_bytes = [], 0
        part.append(record)
        part_bytes += record_bytes
    if part:
        yield part


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str(value)
    if hasattr(value, "items"):
        return {str(name): _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value]


def _ir_text(program: Any) -> str:
    # Who holds a TVM program has loaded TVM; nobody else pays for its import.
    tvm = sys.modules.get("tvm")
    if tvm is None or not isinstance(program, tvm.IRModule | tvm.tirx.PrimFunc):
        raise InvalidWorkloadError(
            f"a workload cannot be a {type(program).__name__}; use (op, args), a dict of the wire "
            "form, an IRModule or a PrimFunc"
        )
    return str(tvm.ir.save_json(program))
