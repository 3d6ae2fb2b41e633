"""Workloads as plain data; nothing here needs TVM."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from schedules.identity import sha256_id

DTYPE_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "float64": 8,
        "float32": 4,
        "float16": 2,
        "bfloat16": 2,
        "int64": 8,
        "int32": 4,
        "int16": 2,
        "int8": 1,
        "uint8": 1,
        "bool": 1,
    }
)


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One tensor parameter of a workload.

    Attributes
    ----------
    name : str
        For people only; not part of any identity.
    shape : tuple of int
        Extents, outermost first; empty for a scalar tensor.
    dtype : str
        One of `DTYPE_BYTES`.
    is_output : bool
        Whether the program writes it.
    is_constant : bool
        Whether it holds the same values in every call, as weights do, so that it may be packed
        ahead of time; see `schedules.prepack`.
    index_below : int or None
        For a tensor that holds indices of another one: the extent that they lie below.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    is_output: bool = False
    is_constant: bool = False
    index_below: int | None = None

    @property
    def elements(self) -> int:
        """Number of elements."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    @property
    def size_bytes(self) -> int:
        """Size of the dense tensor in bytes."""
        return self.elements * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True, kw_only=True)
class OperatorCall:
    """A named operator with its arguments: the short way to write a workload.

    Attributes
    ----------
    op : str
        Canonical operator name.
    args : Mapping[str, int]
        Every argument of the operator, defaults filled in.
    dtype : str
        The dtype of the operands.
    constants : tuple of str
        Names of the inputs that hold the same values in every call, in the operator's order.
    """

    op: str
    args: Mapping[str, int]
    dtype: str
    constants: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """SHA-256 of the call itself: equal calls have equal keys."""
        written = {"op": self.op, "args": dict(self.args), "dtype": self.dtype}
        if self.constants:
            written["constants"] = list(self.constants)
        return sha256_id(written)

    def __str__(self) -> str:
        shown = [f"{name}={value}" for name, value in self.args.items()]
        constants = [f"constant {name}" for name in self.constants]
        return f"{self.op}({', '.join([*shown, self.dtype, *constants])})"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A TIR program with concrete shapes and dtypes.

    Attributes
    ----------
    workload_id : str
        SHA-256 of the canonical IR; see `schedules.canonical`.
    name : str
        For people only.
    ir : str
        The module as written by ``tvm.ir.save_json``: one TIR function called ``main``.
    tensors : tuple of TensorSpec
        The parameters of ``main`` in order.
    flops : float
        Arithmetic operations of one call.
    call : OperatorCall or None
        The catalogue call that made it, if any; it brings a NumPy reference.
    family_id : str or None
        That of the programs that differ from it in numbers only; see `schedules.ir.family_id`. None
        where it was stored before there were families.
    """

    workload_id: str
    name: str
    ir: str = field(repr=False)
    tensors: tuple[TensorSpec, ...]
    flops: float
    call: OperatorCall | None = None
    family_id: str | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all parameters together: the least traffic that one call can have."""
        return sum(tensor.size_bytes for tensor in self.tensors)
