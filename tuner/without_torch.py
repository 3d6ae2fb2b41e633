"""Keeps PyTorch out of processes of ours.

``tvm_ffi`` imports it wherever it is installed, which takes seconds, and asks it for GPUs, which
starts CUDA; and a process that has started CUDA cannot be forked.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Absent(MetaPathFinder):
    """Finds no PyTorch."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raise ModuleNotFoundError for PyTorch; leave everything else to others."""
        if fullname == "torch":
            raise ModuleNotFoundError(f"{fullname} is kept out of this process", name=fullname)
        return None


def keep_torch_out() -> None:
    """Let PyTorch be missing from now on; call it before TVM is imported."""
    sys.meta_path.insert(0, _Absent())
