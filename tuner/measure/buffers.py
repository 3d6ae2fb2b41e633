"""The buffers that a kernel runs on, and what it did to them that it must not do."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm

from schedules.workload import TensorSpec

GUARD_BYTES = 4096
"""Zone on each side of a buffer in which nobody may write."""
ALIGNMENT_BYTES = 64
_PAGE_BYTES = 4096
_GUARD = 0xA5


class Buffers:
    """One buffer for each parameter of a kernel, filled with given values.

    On a CPU each lies between guard zones. All of them start at the same offset into a page, where
    TVM's own allocator puts large ones, so that no candidate is luckier than another.

    Parameters
    ----------
    tensors : sequence of TensorSpec
        The parameters.
    values : sequence of numpy.ndarray
        What to fill them with; the inputs among them are kept for `damage`.
    device : tvm.runtime.Device
        Where they are.
    """

    def __init__(
        self, tensors: Sequence[TensorSpec], values: Sequence[np.ndarray], device: Any
    ) -> None:
        self._tensors = tensors
        self._values = values
        self._device = device
        self._guarded: list[tuple[np.ndarray, int, int]] = []
        on_host = device.dlpack_device_type() == tvm.cpu().dlpack_device_type()
        make = self._guard if on_host else tvm.runtime.tensor
        self.arguments: list[Any] = [make(value, device) for value in values]

    def moved(self) -> "Buffers":
        """Return other buffers with the same values, which lie elsewhere."""
        return Buffers(self._tensors, self._values, self._device)

    @property
    def outputs(self) -> list[np.ndarray]:
        """What is in the output buffers now; copies."""
        return [
            argument.numpy()
            for argument, tensor in zip(self.arguments, self._tensors, strict=True)
            if tensor.is_output
        ]

    def damage(self) -> str | None:
        """Say what the kernel wrote where it must not: into an input, or outside of a buffer."""
        for argument, tensor, value in zip(
            self.arguments, self._tensors, self._values, strict=True
        ):
            if not tensor.is_output and argument.numpy().tobytes() != value.tobytes():
                return f"it changed its input {tensor.name}"
        for (block, start, end), tensor in zip(self._guarded, self._tensors, strict=False):
            if not (np.all(block[:start] == _GUARD) and np.all(block[end:] == _GUARD)):
                return f"it wrote outside of {tensor.name}"
        return None

    def _guard(self, value: np.ndarray, device: Any) -> Any:
        block = np.empty(value.nbytes + 2 * (GUARD_BYTES + _PAGE_BYTES), dtype=np.uint8)
        start = -block.ctypes.data % _PAGE_BYTES + GUARD_BYTES + ALIGNMENT_BYTES
        end = start + value.nbytes
        block[:start] = block[end:] = _GUARD
        self._guarded.append((block, start, end))
        # A view of bytes, then one of the type: NumPy hands on no bfloat16.
        raw = tvm.runtime.from_dlpack(block[start:end])
        argument = raw._create_view(value.shape, str(value.dtype))
        argument.copyfrom(value)
        return argument
