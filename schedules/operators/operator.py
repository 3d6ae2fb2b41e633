"""The shape of a catalogue entry, and the checking of its arguments."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schedules.errors import InvalidArgumentError
from schedules.workload import OperatorCall, TensorSpec

Args = Mapping[str, int]

MAX_WORKLOAD_BYTES = 4 * 2**30
# Generated code indexes with 32 bits.
MAX_TENSOR_ELEMENTS = 2**31 - 1
MAX_WORKLOAD_FLOPS = 8e12


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One named integer argument of an operator.

    Attributes
    ----------
    name : str
        Lower-case name; requests may write it in any case.
    default : int or None
        None where the argument must be given.
    minimum, maximum : int
        Inclusive bounds.
    aliases : tuple of str
        Other accepted names.
    doc : str
        One line for people.
    """

    name: str
    default: int | None = None
    minimum: int = 1
    maximum: int = 2**24
    aliases: tuple[str, ...] = ()
    doc: str = ""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator of the catalogue.

    Attributes
    ----------
    name : str
        Canonical name.
    summary : str
        One line with the formula.
    arguments : tuple of Argument
        In the order in which they are shown.
    dtypes : tuple of str
        Accepted operand dtypes. Half precisions accumulate in float32 and int8 in int32.
    tensors : callable (args, dtype) -> sequence of TensorSpec
        Inputs in parameter order, then the one output.
    flops : callable (args) -> int
        Arithmetic operations of one call; a multiply-add counts two.
    reduction_length : callable (args) -> int
        How many terms are added up for one output element: scales the tolerance.
    define : callable (args, dtype) -> tvm.tirx.PrimFunc
        Writes the program; imports TVM when called.
    reference : callable (args, inputs) -> numpy.ndarray
        Computes the output, in float64 for floating dtypes and in int64 for integer ones, without
        TVM and by another way than `define` where there is one.
    check : callable (args) -> str or None
        Tests across arguments: None where they fit together, else a sentence on how to mend them.
    aliases : tuple of str
        Other accepted names.
    """

    name: str
    summary: str
    arguments: tuple[Argument, ...]
    dtypes: tuple[str, ...]
    tensors: Callable[[Args, str], Sequence[TensorSpec]]
    flops: Callable[[Args], int]
    reduction_length: Callable[[Args], int]
    define: Callable[[Args, str], Any]
    reference: Callable[[Args, Sequence[np.ndarray]], np.ndarray]
    check: Callable[[Args], str | None] = lambda args: None
    aliases: tuple[str, ...] = ()

    def call(
        self,
        args: Mapping[str, object],
        dtype: str = "float32",
        constants: Collection[str] = (),
    ) -> OperatorCall:
        """Check arguments and fill in defaults.

        Parameters
        ----------
        args : Mapping[str, object]
            Argument names, in any case, to positive integers.
        dtype : str
            Operand dtype.
        constants : collection of str
            Names of inputs that hold the same values in every call.

        Returns
        -------
        OperatorCall
            With every argument in catalogue order.

        Raises
        ------
        InvalidArgumentError
            A missing, unknown, doubled, non-integer or out-of-range argument, a dtype or a
            constant that the operator does not have, or a workload too large to be measured.
        """
        if dtype not in self.dtypes:
            raise InvalidArgumentError(
                f"{self.name} has no dtype {dtype!r}; use one of {', '.join(self.dtypes)}"
            )
        given = self._canonical_names(args)
        values = {argument.name: _value(self.name, argument, given) for argument in self.arguments}
        advice = self.check(values)
        if advice is not None:
            raise InvalidArgumentError(f"{self.name}: {advice}")
        self._check_size(values, dtype)
        return OperatorCall(
            op=self.name,
            args=values,
            dtype=dtype,
            constants=self._constants(values, dtype, constants),
        )

    def _canonical_names(self, args: Mapping[str, object]) -> dict[str, object]:
        canonical = {
            name: argument.name
            for argument in self.arguments
            for name in (argument.name, *argument.aliases)
        }
        given: dict[str, object] = {}
        for name, value in args.items():
            known = canonical.get(name.lower())
            if known is None:
                raise InvalidArgumentError(
                    f"{self.name} has no argument {name!r}; its arguments are "
                    + ", ".join(argument.name for argument in self.arguments)
                )
            if known in given:
                raise InvalidArgumentError(f"{self.name}: argument {known!r} is given twice")
            given[known] = value
        return given

    def _constants(self, args: Args, dtype: str, names: Collection[str]) -> tuple[str, ...]:
        inputs = [tensor.name for tensor in self.tensors(args, dtype) if not tensor.is_output]
        unknown = sorted(set(names) - set(inputs))
        if unknown:
            raise InvalidArgumentError(
                f"{self.name} has no input {unknown[0]!r} that could be constant; its inputs are "
                + ", ".join(inputs)
            )
        return tuple(name for name in inputs if name in names)

    def _check_size(self, args: Args, dtype: str) -> None:
        tensors = self.tensors(args, dtype)
        for tensor in tensors:
            if any(extent < 1 for extent in tensor.shape):
                raise InvalidArgumentError(
                    f"{self.name}: tensor {tensor.name!r} would have the empty shape "
                    f"{list(tensor.shape)}; enlarge the input or the padding"
                )
            if tensor.elements > MAX_TENSOR_ELEMENTS:
                raise InvalidArgumentError(
                    f"{self.name}: tensor {tensor.name!r} has {tensor.elements:.3g} elements "
                    f"and at most {MAX_TENSOR_ELEMENTS} are accepted; make the shape smaller"
                )
        size_bytes = sum(tensor.size_bytes for tensor in tensors)
        if size_bytes > MAX_WORKLOAD_BYTES:
            raise InvalidArgumentError(
                f"{self.name}: the tensors need {size_bytes:.3g} bytes and at most "
                f"{MAX_WORKLOAD_BYTES:.3g} are accepted; make the shape smaller"
            )
        if self.flops(args) > MAX_WORKLOAD_FLOPS:
            raise InvalidArgumentError(
                f"{self.name}: one call has {self.flops(args):.3g} FLOPs and at most "
                f"{MAX_WORKLOAD_FLOPS:.3g} are accepted; make the shape smaller"
            )


def _value(op: str, argument: Argument, given: Mapping[str, object]) -> int:
    value = given.get(argument.name, argument.default)
    if value is None:
        raise InvalidArgumentError(f"{op} needs the argument {argument.name!r}")
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgumentError(f"{op}: {argument.name} must be an integer, not {value!r}")
    if not argument.minimum <= value <= argument.maximum:
        raise InvalidArgumentError(
            f"{op}: {argument.name} must be from {argument.minimum} to {argument.maximum}, "
            f"not {value}"
        )
    return value
